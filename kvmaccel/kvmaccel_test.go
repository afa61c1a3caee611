package kvmaccel

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

func TestCapable(t *testing.T) {
	version := func(v int, err error) func() (int, error) { return func() (int, error) { return v, err } }
	without := func(missing ...int) func(int) (int, error) {
		return func(n int) (int, error) {
			if slices.Contains(missing, n) {
				return 0, nil
			}
			return 1, nil
		}
	}
	if err := capable(version(12, nil), without()); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"is not KVM": capable(version(0, unix.ENOTTY), without()),
		"version 11": capable(version(11, nil), without()),
		"lacks KVM_CAP_IMMEDIATE_EXIT (Linux 4.11), KVM_CAP_X86_MSR_FILTER (Linux 5.10)": capable(version(12, nil), without(capImmediateExit, capMSRFilter)),
		"input/output": capable(version(12, nil), func(int) (int, error) { return 0, unix.EIO }),
	} {
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestStateForms takes a state to KVM's structures and back.
func TestStateForms(t *testing.T) {
	s := cpu.New(cpu.Config{}).State()
	for i := range s.GPR {
		s.GPR[i] = uint64(i) + 100
	}
	s.RIP, s.RFLAGS, s.CR0, s.CR4 = 0x1234, 0x202, 0x80000011, 0x20
	s.PDPTE = [4]uint64{0x1001, 0x2001, 0x3001, 0x4001}
	s.Seg[1] = vcpu.Segment{Selector: 0x10, Attr: 0xa09b, Limit: 0xffffffff, Base: 5}
	s.Seg[3] = vcpu.Segment{Selector: 3, Attr: 3 << vcpu.AttrDPLShift}
	s.FPU.Status = 6 << 11
	for i := range s.FPU.ST {
		s.FPU.ST[i] = vcpu.F80{Mant: uint64(i), SE: uint16(i) << 8}
	}
	for i := range s.FPU.XMM {
		s.FPU.XMM[i] = [2]uint64{uint64(i), ^uint64(i)}
	}
	s.MSR.LSTAR, s.MSR.TSCAux = 7, 8
	s.NMIBlocked, s.InterruptShadow, s.MovSSShadow = true, true, true

	got := vcpu.State{DR: s.DR, MSR: s.MSR, Instructions: s.Instructions}
	got.FPU.XCR0 = s.FPU.XCR0
	got.MSR.LSTAR, got.MSR.TSCAux = 0, 0
	toRegs(&s).into(&got)
	toSregs(&s, 0xfee00900, 5).into(&got)
	toXSave(&s.FPU).into(&got.FPU)
	toMSRs(&s.MSR).into(&got.MSR)
	toEvents(&s).into(&got)
	if got != s {
		t.Errorf("state\n%+v, want\n%+v", got, s)
	}
	k := toSregs(&s, 0xfee00900, 5)
	if k.CR8 != 5 || k.APICBase != 0xfee00900 || k.DS.Unusable != 1 || k.CS.L != 1 || k.CS.DB != 0 {
		t.Errorf("%+v", k)
	}
	if r := toRegs(&s); r.GPR[1] != 103 || r.GPR[6] != 104 { // rbx, rsp
		t.Errorf("%+v", r)
	}
	// ST(0) is the register that TOP names.
	if x := toXSave(&s.FPU); binary.LittleEndian.Uint64(x[xsaveST:]) != 6 {
		t.Error("the registers of the x87 are not in the order of its stack")
	}
}

func TestFilter(t *testing.T) {
	f := msrFilter()
	allowed := func(n, access uint32) bool {
		for _, r := range f.Range {
			if n >= r.Base && n-r.Base < r.N && r.Flags&access != 0 {
				return *r.Bitmap>>(n-r.Base)&1 != 0
			}
		}
		return f.Flags&filterDefaultDeny == 0
	}
	for _, r := range msrTable {
		if !allowed(r.index, filterRead) || !allowed(r.index, filterWrite) {
			t.Errorf("MSR %#x, which KVM keeps, leaves KVM", r.index)
		}
	}
	for n, want := range map[uint32][2]bool{
		msrTSC: {true, false}, msrTSCAdjust: {}, msrAPICBase: {}, 0x6e0: {}, 0x10a: {}, 0x1a0: {}, 0x200: {}, msrEFER: {true, true},
		0xc0000100: {true, true}, 0xc0000104: {}, 0x4b564d00: {}, 0x277: {true, true}, 0x278: {},
	} {
		if got := [2]bool{allowed(n, filterRead), allowed(n, filterWrite)}; got != want {
			t.Errorf("MSR %#x: read and write in KVM %v, want %v", n, got, want)
		}
	}
}

// scripted is a platform and a model for exits that never happened.
type scripted struct {
	*cpu.CPU
	vcpu.Platform
	log []uint64
}

func (s *scripted) ReadMMIO(pa uint64, size int) uint64 {
	s.log = append(s.log, pa, uint64(size))
	return 0x8877665544332211
}
func (s *scripted) WriteMMIO(pa uint64, size int, v uint64) {
	s.log = append(s.log, pa, uint64(size), v)
}
func (s *scripted) ReadPort(port uint16, size int) uint32 {
	s.log = append(s.log, uint64(port), uint64(size))
	return 0x44332211
}

func (s *scripted) WritePort(port uint16, size int, v uint32) {
	s.log = append(s.log, uint64(port), uint64(size), uint64(v))
}
func (s *scripted) TSCDeadline() uint64 { return 77 }

func (s *scripted) TSC() uint64 { return 0 }

// TestExits serves exits that KVM could make.
func TestExits(t *testing.T) {
	le := binary.LittleEndian
	port := func(out byte, size byte, count uint32) []byte {
		return le.AppendUint64(le.AppendUint32([]byte{out, size, 0xf8, 3}, count), 0x1000)
	}
	mmio := func(pa uint64, data uint64, n uint32, write byte) []byte {
		return append(le.AppendUint32(le.AppendUint64(le.AppendUint64(nil, pa), data), n), write)
	}
	msr := func(n uint32, v uint64) []byte {
		return le.AppendUint64(le.AppendUint32(make([]byte, 12), n), v)
	}
	for _, c := range []struct {
		name   string
		reason uint32
		exit   []byte
		log    []uint64
		want   string // in the detail of the exit, if Run ends
		check  func(v *VCPU) bool
	}{
		{"out", exitIO, port(1, 2, 2), []uint64{0x3f8, 2, 0x201, 0x3f8, 2, 0x403}, "", func(v *VCPU) bool { return v.unfinished }},
		{"in", exitIO, port(0, 1, 3), []uint64{0x3f8, 1, 0x3f8, 1, 0x3f8, 1}, "", func(v *VCPU) bool { return string(v.page[0x1000:0x1004]) == "\x11\x11\x11\x04" }},
		{"store", exitMMIO, mmio(0x1006, 0x665544332211, 6, 1), []uint64{0x1006, 2, 0x2211, 0x1008, 4, 0x66554433}, "", nil},
		{"load", exitMMIO, mmio(0x1000, 0, 8, 0), []uint64{0x1000, 8}, "", func(v *VCPU) bool { return le.Uint64(v.run.exit[8:]) == 0x8877665544332211 }},
		{"hlt", exitHLT, nil, nil, "", func(v *VCPU) bool { return v.halted }},
		{"rdmsr", exitRDMSR, msr(0x6e0, 0), nil, "", func(v *VCPU) bool { return le.Uint64(v.run.exit[16:]) == 77 && v.run.exit[0] == 0 }},
		{"rdmsr of none", exitRDMSR, msr(0x1234, 0), nil, "", func(v *VCPU) bool { return v.run.exit[0] == 1 }},
		{"wrmsr of the counter", exitWRMSR, msr(msrTSC, 5), nil, "", func(v *VCPU) bool { return v.retune && v.run.exit[0] == 0 }},
		{"wrmsr of none", exitWRMSR, msr(0x1234, 5), nil, "", func(v *VCPU) bool { return !v.retune && v.run.exit[0] == 1 }},
		{"interrupt window", exitIRQWindow, nil, nil, "", nil},
		{"task priority", exitSetTPR, nil, nil, "", nil},
		{"shutdown", exitShutdown, nil, nil, "triple fault", nil},
		{"failed entry", exitFailEntry, []byte{0x21}, nil, "reason 0x21", nil},
		{"emulation", exitInternalError, []byte{1}, nil, "cannot emulate the instruction", nil},
		{"internal error", exitInternalError, []byte{3}, nil, "suberror 3", nil},
		{"one of a later kernel", 99, []byte{7}, nil, "reason 99", nil},
	} {
		s := &scripted{CPU: nil}
		s.CPU = cpu.New(cpu.Config{Platform: s})
		v := &VCPU{cfg: Config{Model: s.CPU, Platform: s}, fd: -1, run: &runPage{exitReason: c.reason}, page: make([]byte, 0x2000)}
		copy(v.page[0x1000:], []byte{1, 2, 3, 4})
		copy(v.run.exit[:], c.exit)
		exit, done := v.serveExit()
		if done != (c.want != "") || !strings.Contains(exit.Detail, c.want) || !slices.Equal(s.log, c.log) || c.check != nil && !c.check(v) {
			t.Errorf("%s: %v %+v, log %#x", c.name, done, exit, s.log)
		}
	}
}

func (s *scripted) TSCChanged() {}

func TestClock(t *testing.T) {
	var c clock
	c.start(2_000_000) // 2 GHz
	c.set(1000)
	begin := time.Now()
	time.Sleep(5 * time.Millisecond)
	n := c.now()
	if d := uint64(time.Since(begin)); n < 1000+2*5_000_000 || n > 1000+2*d+100_000 {
		t.Errorf("%d after %d ns", n, d)
	}
	c.adjust(-1_000_000_000)
	if m := c.now(); m != n {
		t.Errorf("the clock went from %d to %d", n, m)
	}
	c.set(5)
	if d := c.until(5 + 2_000_000_000); d < 990*time.Millisecond || d > time.Second+1 {
		t.Errorf("%v until 2e9 ticks have passed", d)
	}
	if c.until(1) != 1 || c.until(^uint64(0)) <= 0 {
		t.Error("the time until now, or until never")
	}
}
