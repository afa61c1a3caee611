package main

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// processStart returns when this process began, to the kernel's clock tick of 10 ms (proc_pid_stat(5), starttime); the zero value if the
// kernel does not say.
func processStart() time.Time {
	const ticks, starttime = 100, 22 // USER_HZ; fields count from 1, and the second, in parentheses, may hold anything
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return time.Time{}
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	var now unix.Timespec
	if len(fields) <= starttime-3 || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Time{}
	}
	n, err := strconv.ParseInt(string(fields[starttime-3]), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(n)*(time.Second/ticks) - time.Duration(now.Nano()))
}
