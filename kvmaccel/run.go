package kvmaccel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Run implements vcpu.VCPU.
func (v *VCPU) Run(deadline uint64) (exit vcpu.Exit) {
	v.on(func() { exit = v.loop(deadline) })
	return exit
}

func (v *VCPU) loop(deadline uint64) vcpu.Exit {
	v.deadline = deadline
	for {
		switch {
		case v.stop.Swap(false):
			return v.leave(vcpu.Exit{Reason: vcpu.ExitStopped})
		case v.halted && !v.wakes():
			return v.leave(vcpu.Exit{Reason: vcpu.ExitHalt})
		case v.Instructions() >= v.deadline:
			return v.leave(vcpu.Exit{Reason: vcpu.ExitDeadline})
		}
		if exit, done := v.enter(v.deadline); done {
			return v.leave(exit)
		}
	}
}

// wakes reports that something takes the processor out of HLT.
func (v *VCPU) wakes() bool { return v.nmi || v.intr && v.run.ifFlag != 0 }

// enter runs the guest once, at most until the count is deadline, and serves what it stopped for.
func (v *VCPU) enter(deadline uint64) (exit vcpu.Exit, done bool) {
	if err := v.prepare(deadline); err != nil {
		return broken(err), true
	}
	cr8 := v.run.cr8
	err := run(v.fd)
	if v.run.cr8 != cr8 {
		v.cfg.Platform.SetTaskPriority(uint8(v.run.cr8))
	}
	v.unfinished = false
	switch {
	case err == nil:
		v.exits[v.run.exitReason]++
		return v.serveExit()
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		v.exits[exitIntr]++
		v.kick.take()
		v.armed = 0
		return exit, false
	}
	return broken(fmt.Errorf("%w%s", err, v.where())), true
}

// prepare brings KVM up to date: time, priority, interrupts.
func (v *VCPU) prepare(deadline uint64) error {
	if err := v.tune(); err != nil {
		return err
	}
	if deadline != ^uint64(0) && (v.armed == 0 || v.armed > deadline) {
		if err := v.kick.after(v.clock.until(deadline)); err != nil {
			return err
		}
		v.armed = max(deadline, 1)
	}
	if base := v.cfg.Platform.APICBase(); base != v.run.apicBase {
		if err := setMSRs(v.fd, &kvmMSRs{N: 1, MSR: [maxMSRs]kvmMSR{{Index: msrAPICBase, Value: base}}}); err != nil {
			return err
		}
	}
	v.halted = false
	v.run.cr8 = uint64(v.cfg.Platform.TaskPriority())
	if v.nmi {
		v.nmi = false
		if err := nmi(v.fd); err != nil {
			return err
		}
	}
	if v.intr && v.run.readyForInterrupt != 0 && v.run.ifFlag != 0 {
		v.run.readyForInterrupt = 0
		if err := interrupt(v.fd, v.cfg.Platform.AckInterrupt()); err != nil {
			return err
		}
	}
	v.run.requestInterruptWindow = 0
	if v.intr {
		v.run.requestInterruptWindow = 1
	}
	return nil
}

// tuneEvery is how often the clock is compared with the guest's time-stamp counter.
const tuneEvery = 20 * time.Millisecond

// tune makes the guest's time-stamp counter and the clock agree: the counter is set when the guest or the state have set it,
// else the clock follows.
func (v *VCPU) tune() error {
	if v.retune {
		v.retune, v.tuned = false, time.Now()
		// KVM takes a value near the one that the counter has for an attempt at what it has already; so go far away first.
		tsc := v.cfg.Model.TSC()
		return setMSRs(v.fd, &kvmMSRs{N: 2, MSR: [maxMSRs]kvmMSR{{Index: msrTSC, Value: tsc + 1<<50}, {Index: msrTSC, Value: tsc}}})
	}
	if time.Since(v.tuned) < tuneEvery {
		return nil
	}
	v.tuned = time.Now()
	m := &kvmMSRs{N: 1, MSR: [maxMSRs]kvmMSR{{Index: msrTSC}}}
	if err := getMSRs(v.fd, m); err != nil {
		return err
	}
	v.clock.adjust(int64(m.MSR[0].Value - v.cfg.Model.TSC()))
	return nil
}

// settling is how long the guest may run at first to get an event delivered.
const settling = 20 * time.Microsecond

// leave ends a Run so that the state is architectural: no instruction is half done, and no event half delivered.
func (v *VCPU) leave(exit vcpu.Exit) vcpu.Exit {
	if exit.Reason == vcpu.ExitShutdown || exit.Reason == vcpu.ExitUnsupported {
		return exit
	}
	const tries = 16
	for try := range tries {
		if other, done := v.finish(); done {
			return other
		}
		var e kvmEvents
		if err := getEvents(v.fd, &e); err != nil {
			return broken(err)
		}
		if !e.inFlight() {
			return exit
		}
		v.armed = 0
		if other, done := v.enter(v.clock.now() + uint64(settling<<try)); done {
			exit = other
		}
	}
	return broken(errors.New("KVM does not deliver the event that it holds" + v.where()))
}

// finish ends the instruction that made the last exit, with no other after it.
func (v *VCPU) finish() (exit vcpu.Exit, done bool) {
	for v.unfinished {
		v.unfinished = false
		v.run.immediateExit = 1
		v.run.cr8 = uint64(v.cfg.Platform.TaskPriority())
		err := run(v.fd)
		v.run.immediateExit = 0
		switch {
		case err == nil: // the instruction goes on
			v.exits[v.run.exitReason]++
			if exit, done := v.serveExit(); done {
				return exit, true
			}
		case !errors.Is(err, unix.EINTR):
			return broken(err), true
		}
	}
	return exit, false
}

// serveExit does what the guest has left KVM for.
func (v *VCPU) serveExit() (exit vcpu.Exit, done bool) {
	r, le := v.run, binary.LittleEndian
	b := r.exit[:]
	switch r.exitReason {
	case exitIO:
		v.unfinished = b[0] != 0
		v.ports(b[0] != 0, int(b[1]), le.Uint16(b[2:]), int(le.Uint32(b[4:])), le.Uint64(b[8:]))
		v.unfinished = true
	case exitMMIO:
		v.unfinished = b[20] != 0
		v.registers(le.Uint64(b), b[8:16], int(le.Uint32(b[16:])), b[20] != 0)
		v.unfinished = true
	case exitHLT:
		v.halted = true
	case exitIRQWindow, exitSetTPR, exitIntr:
	case exitRDMSR:
		v.unfinished = true
		value, ok := v.cfg.Model.ReadMSR(le.Uint32(b[12:]))
		le.PutUint64(b[16:], value)
		b[0] = refused(ok)
	case exitWRMSR:
		v.unfinished = true
		n := le.Uint32(b[12:])
		ok := v.cfg.Model.WriteMSR(n, le.Uint64(b[16:]))
		b[0] = refused(ok)
		v.retune = v.retune || ok && (n == msrTSC || n == msrTSCAdjust)
	case exitShutdown:
		return vcpu.Exit{Reason: vcpu.ExitShutdown, Detail: "triple fault"}, true
	case exitFailEntry:
		return broken(fmt.Errorf("the processor refuses to enter the guest, reason %#x%s", le.Uint64(b), v.where())), true
	case exitInternalError:
		what := "suberror " + fmt.Sprint(le.Uint32(b))
		if le.Uint32(b) == 1 {
			what = "it cannot emulate the instruction"
		}
		return broken(fmt.Errorf("KVM gives up: %s%s", what, v.where())), true
	default:
		return broken(fmt.Errorf("KVM_RUN ends for reason %d (%s), hardware reason %#x%s", r.exitReason, exitName(r.exitReason), le.Uint64(b), v.where())), true
	}
	return exit, false
}

func refused(ok bool) byte {
	if ok {
		return 0
	}
	return 1
}

// ports serves IN and OUT: count items of size bytes, which lie at offset off of the page.
func (v *VCPU) ports(out bool, size int, port uint16, count int, off uint64) {
	for i := range count {
		item := v.page[int(off)+i*size:][:size]
		var word [4]byte
		if out {
			copy(word[:], item)
			v.cfg.Platform.WritePort(port, size, binary.LittleEndian.Uint32(word[:]))
		} else {
			binary.LittleEndian.PutUint32(word[:], v.cfg.Platform.ReadPort(port, size))
			copy(item, word[:])
		}
	}
}

// registers serves an access to what is in no slot, of n bytes: in pieces that are aligned, since accesses may cross words.
func (v *VCPU) registers(pa uint64, data []byte, n int, write bool) {
	for n > 0 {
		size := 8
		for size > n || pa&uint64(size-1) != 0 {
			size /= 2
		}
		var word [8]byte
		if write {
			copy(word[:], data[:size])
			v.cfg.Platform.WriteMMIO(pa, size, binary.LittleEndian.Uint64(word[:]))
		} else {
			binary.LittleEndian.PutUint64(word[:], v.cfg.Platform.ReadMMIO(pa, size))
			copy(data[:size], word[:])
		}
		pa, data, n = pa+uint64(size), data[size:], n-size
	}
}

// broken is the exit for what cannot go on.
func broken(err error) vcpu.Exit {
	return vcpu.Exit{Reason: vcpu.ExitUnsupported, Detail: err.Error()}
}

// where says in which state the guest is, for errors.
func (v *VCPU) where() string {
	var r kvmRegs
	var s kvmSregs2
	if err := errors.Join(getRegs(v.fd, &r), getSregs(v.fd, &s)); err != nil {
		return "; its registers cannot be read: " + err.Error()
	}
	return fmt.Sprintf("; RIP %#x RSP %#x RFLAGS %#x CS %#x base %#x CR0 %#x CR2 %#x CR3 %#x CR4 %#x EFER %#x",
		r.RIP, r.GPR[6], r.RFLAGS, s.CS.Selector, s.CS.Base, s.CR0, s.CR2, s.CR3, s.CR4, s.EFER)
}

func exitName(reason uint32) string {
	if n, ok := exitNames[reason]; ok {
		return n
	}
	return fmt.Sprintf("reason %d", reason)
}

// State implements vcpu.VCPU. During a write of a port or register, the instruction that makes it has been executed; during a
// read it has not.
func (v *VCPU) State() (s vcpu.State) {
	v.on(func() {
		if exit, done := v.finish(); done {
			v.cfg.Log.Error("the state is that before an instruction that cannot end", "why", exit.Detail)
		}
		var err error
		if s, err = v.state(); err != nil {
			// None of these calls can fail for a vCPU that is there, but in a kernel that is broken.
			panic("kvmaccel: read the state: " + err.Error())
		}
	})
	return s
}

func (v *VCPU) state() (vcpu.State, error) {
	var (
		regs  kvmRegs
		sregs kvmSregs2
		debug kvmDebugRegs
		xsave kvmXSave
		event kvmEvents
	)
	get := getSregs
	if v.sregs2 {
		get = getSregs2
	}
	k := toMSRs(nil)
	err := errors.Join(getRegs(v.fd, &regs), get(v.fd, &sregs), getDebugRegs(v.fd, &debug), getXSave(v.fd, &xsave), getEvents(v.fd, &event), getMSRs(v.fd, k))
	// What KVM does not have is the model's.
	s := v.cfg.Model.State()
	regs.into(&s)
	sregs.into(&s)
	xsave.into(&s.FPU)
	event.into(&s)
	k.into(&s.MSR)
	s.DR = [8]uint64{0: debug.DB[0], 1: debug.DB[1], 2: debug.DB[2], 3: debug.DB[3], 6: debug.DR6, 7: debug.DR7}
	if v.xcrs {
		var x kvmXCRs
		err = errors.Join(err, getXCRs(v.fd, &x))
		s.FPU.XCR0 = x.XCR[0].Value
	}
	s.Halted, s.NMIPending = v.halted, s.NMIPending || v.nmi
	s.PendingDB, s.Instructions = 0, v.clock.now()
	return s, err
}

// SetState implements vcpu.VCPU. A debug trap that waits for the end of a MOV SS is lost.
func (v *VCPU) SetState(s vcpu.State) (err error) {
	v.on(func() {
		if exit, done := v.finish(); done {
			err = errors.New(exit.Detail)
			return
		}
		if err = v.cfg.Model.SetState(s); err == nil {
			err = v.setState(&s)
		}
	})
	return err
}

func (v *VCPU) setState(s *vcpu.State) error {
	p := v.cfg.Platform
	set := setSregs
	if v.sregs2 {
		set = setSregs2
	}
	debug := kvmDebugRegs{DB: [4]uint64(s.DR[:4]), DR6: s.DR[6], DR7: s.DR[7]}
	// What others depend on comes first, events last.
	err := errors.Join(set(v.fd, toSregs(s, p.APICBase(), p.TaskPriority())), setRegs(v.fd, toRegs(s)))
	if v.xcrs {
		x := &kvmXCRs{N: 1}
		x.XCR[0].Value = max(s.FPU.XCR0, 1)
		err = errors.Join(err, setXCRs(v.fd, x))
	}
	err = errors.Join(err, setXSave(v.fd, toXSave(&s.FPU)), setDebugRegs(v.fd, &debug), setMSRs(v.fd, toMSRs(&s.MSR)), setEvents(v.fd, toEvents(s)))
	if err != nil {
		return err
	}
	v.halted, v.nmi = s.Halted, false
	v.run.readyForInterrupt, v.run.ifFlag = 0, uint8(s.RFLAGS>>9&1)
	v.clock.set(s.Instructions)
	v.retune, v.armed = true, 0
	return nil
}
