package kvmaccel

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kickSignal takes a vCPU out of the guest. The vCPU's thread blocks it except while the guest runs, so a kick is never lost:
// if it comes before KVM_RUN, KVM_RUN returns at once. No handler ever runs, and Go's own signals are not touched.
const kickSignal = unix.SIGUSR2

// kicker kicks one thread: on request, and when time is up.
type kicker struct {
	pid, tid int
	timer    int32
	kicks    unix.Sigset_t
}

// newKicker prepares the calling thread, to which the vCPU is bound.
func newKicker(vcpu int) (*kicker, error) {
	k := &kicker{pid: unix.Getpid(), tid: unix.Gettid()}
	k.kicks.Val[0] = 1 << (kickSignal - 1)
	var mask unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &k.kicks, &mask); err != nil {
		return nil, fmt.Errorf("block the signal of kicks: %w", err)
	}
	m := kvmSignalMask{Len: 8}
	*(*uint64)(unsafe.Pointer(&m.Mask)) = mask.Val[0] &^ k.kicks.Val[0]
	if err := setSignalMask(vcpu, &m); err != nil {
		return nil, err
	}
	// struct sigevent: value, signal, how, thread.
	const signalThread = 4
	event := struct {
		value       uint64
		signal, how int32
		tid         int32
		_           [44]byte
	}{signal: int32(kickSignal), how: signalThread, tid: int32(k.tid)}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&k.timer)))
	if errno != 0 {
		return nil, fmt.Errorf("timer_create: %w", errno)
	}
	return k, nil
}

// kick kicks the thread now.
func (k *kicker) kick() { _ = unix.Tgkill(k.pid, k.tid, kickSignal) }

// after kicks the thread after d, which is more than 0, in place of what was asked for before.
func (k *kicker) after(d time.Duration) error {
	when := [2]unix.Timespec{1: unix.NsecToTimespec(int64(max(d, 1)))} // interval, value
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(k.timer), 0, uintptr(unsafe.Pointer(&when)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}

// take takes back the kick that waits, if any.
func (k *kicker) take() {
	var now unix.Timespec
	for {
		_, _, errno := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&k.kicks)), 0, uintptr(unsafe.Pointer(&now)), 8, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return
		}
	}
}

// close ends the timer.
func (k *kicker) close() {
	_, _, _ = unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(k.timer), 0, 0)
}
