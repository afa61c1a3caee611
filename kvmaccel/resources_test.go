//go:build kvm

package kvmaccel

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// resources counts what a VM that was not closed well would leave: descriptors, threads and mappings of vCPUs.
func resources(t *testing.T) int {
	t.Helper()
	time.Sleep(50 * time.Millisecond) // threads end on their own
	n := 0
	for _, dir := range []string{"/proc/self/fd", "/proc/self/task"} {
		e, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		n += len(e)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return n + bytes.Count(maps, []byte("kvm"))
}
