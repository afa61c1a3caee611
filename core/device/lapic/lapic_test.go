package lapic

import (
	"fmt"
	"testing"

	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/apic"
	"github.com/hybridbridge/emu/core/device/devicetest"
)

// bus records where the page is mapped.
type bus struct{ at map[uint64]bool }

func (b *bus) MapPorts(uint16, int, device.Ports) {}
func (b *bus) MapMMIO(base, _ uint64, d device.MMIO) {
	delete(b.at, base)
	if d != nil {
		b.at[base] = true
	}
}

type fixture struct {
	*APIC
	clk  *devicetest.Clock
	log  *devicetest.Log
	bus  *bus
	skew uint64
}

func newFixture() *fixture {
	f := &fixture{clk: devicetest.NewClock(), log: &devicetest.Log{}, bus: &bus{map[uint64]bool{}}, skew: 1000}
	f.APIC = New(Config{
		Clock: f.clk.Queue, Bus: f.bus, TSCDeadline: true,
		TSC:     func() uint64 { return uint64(f.clk.Now()) + f.skew },
		INTR:    func(l bool) { f.log.Add("intr=%v", l) },
		NMI:     func() { f.log.Add("nmi") },
		SMI:     func() { f.log.Add("smi") },
		INIT:    func() { f.log.Add("init") },
		StartUp: func(v uint8) { f.log.Add("sipi %#x", v) },
		ExtINT:  func() uint8 { return 0x30 },
		EOI:     func(v uint8) { f.log.Add("eoi %#x", v) },
	})
	return f
}

func (f *fixture) w(off uint64, v uint32)  { f.WriteMMIO(off, 4, uint64(v)) }
func (f *fixture) r(off uint64) uint32     { return uint32(f.ReadMMIO(off, 4)) }
func (f *fixture) enable()                 { f.w(0xf0, 0x1ff) }
func (f *fixture) fixed(v uint8, lvl bool) { f.Deliver(apic.Message{Vector: v, Level: lvl}) }

func (f *fixture) wantReg(t *testing.T, off uint64, want uint32) {
	t.Helper()
	if got := f.r(off); got != want {
		t.Errorf("register %#x = %#x, want %#x", off, got, want)
	}
}

func (f *fixture) wantAck(t *testing.T, want uint8) {
	t.Helper()
	if !f.Pending() {
		t.Fatalf("nothing pending, want %#x", want)
	}
	if got := f.Ack(); got != want {
		t.Fatalf("vector %#x, want %#x", got, want)
	}
}

func newRig() *devicetest.Rig {
	f := newFixture()
	f.log.Events = nil
	f.enable()
	return &devicetest.Rig{
		Clock: f.clk, Log: f.log, Device: f, MMIO: f, MMIOSize: 0x400,
		Lines: []device.Line{f.LINT0(), f.LINT1()},
		Actions: []func(uint32) string{
			func(uint32) string { return fmt.Sprintf("ack %#x", f.Ack()) },
			func(v uint32) string {
				return fmt.Sprint(f.Deliver(apic.Message{Dest: uint8(v), Mode: apic.Mode(v >> 8 & 7), Vector: uint8(v >> 16), Level: v&(1<<30) != 0}))
			},
			func(v uint32) string { f.SetTSCDeadline(uint64(f.clk.Now()) + uint64(v)); return "deadline" },
			func(v uint32) string { f.SetTaskPriority(uint8(v)); return "cr8" },
			func(v uint32) string { return fmt.Sprint(f.SetAPICBase(uint64(v)&^0xff), f.APICBase()) },
			func(v uint32) string { f.w(0x320, v|0x40020); return "deadline mode" },
			func(v uint32) string { f.enable(); return "enable" },
		},
	}
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzLAPIC(f *testing.F)     { devicetest.Fuzz(f, newRig) }

// SDM vol. 3A, 11.4.7.1.
func TestReset(t *testing.T) {
	f := newFixture()
	for off, want := range map[uint64]uint32{
		0x20: 0, 0x30: 0x50014, 0x80: 0, 0xe0: 0xffffffff, 0xf0: 0xff, 0x320: 0x10000, 0x350: 0x10000, 0x370: 0x10000, 0x380: 0, 0x3e0: 0,
	} {
		f.wantReg(t, off, want)
	}
	if f.APICBase() != 0xfee00900 || !f.bus.at[0xfee00000] {
		t.Errorf("base %#x, mapped %v", f.APICBase(), f.bus.at)
	}
	f.w(0x320, 0x40)
	f.wantReg(t, 0x320, 0x10040) // masked while disabled by software
	if f.Deliver(apic.Message{Vector: 0x40}) {
		t.Error("accepted an interrupt while disabled by software")
	}
}

func TestBase(t *testing.T) {
	f := newFixture()
	for _, v := range []uint64{0xfee00d00, 1<<41 | 0x900, 0xfee00901} {
		if f.SetAPICBase(v) {
			t.Errorf("IA32_APIC_BASE took %#x", v)
		}
	}
	if !f.SetAPICBase(0xfef00900) || !f.bus.at[0xfef00000] || f.bus.at[0xfee00000] {
		t.Errorf("moved: mapped %v", f.bus.at)
	}
	f.enable()
	f.fixed(0x40, false)
	if !f.SetAPICBase(0xfee00100) || len(f.bus.at) != 0 || f.Pending() {
		t.Errorf("disabled: mapped %v, pending %v", f.bus.at, f.Pending())
	}
	f.LINT0().Set(true) // is the INTR pin now
	f.wantAck(t, 0x30)
	f.SetAPICBase(0xfee00900)
	f.wantReg(t, 0xf0, 0xff)
	if f.Pending() {
		t.Error("LINT0 is masked after the APIC is enabled")
	}
}

func TestPriority(t *testing.T) {
	f := newFixture()
	f.enable()
	f.fixed(0x45, false)
	f.wantAck(t, 0x45)
	f.wantReg(t, 0xa0, 0x40)
	f.fixed(0x4f, false) // same class waits
	if f.Pending() {
		t.Fatal("0x4f interrupts 0x45")
	}
	f.fixed(0x51, false)
	f.wantAck(t, 0x51)
	f.wantReg(t, 0x100+0x20, 1<<0x11|1<<5)
	f.w(0xb0, 0)
	f.wantReg(t, 0xa0, 0x40)
	f.w(0xb0, 0)
	f.w(0x80, 0x4a)
	f.wantReg(t, 0xa0, 0x4a)
	if f.TaskPriority() != 4 || f.Pending() {
		t.Fatalf("CR8 %d, pending %v", f.TaskPriority(), f.Pending())
	}
	f.SetTaskPriority(3)
	f.wantReg(t, 0x80, 0x30)
	f.wantAck(t, 0x4f)
	if v := f.Ack(); v != 0xff {
		t.Errorf("spurious vector %#x", v)
	}
}

func TestEOIBroadcast(t *testing.T) {
	f := newFixture()
	f.enable()
	f.fixed(0x31, true)
	f.fixed(0x52, false)
	f.wantReg(t, 0x180+0x10, 1<<0x11)
	f.wantAck(t, 0x52)
	f.w(0xb0, 0)
	f.wantAck(t, 0x31)
	f.log.Events = nil
	f.w(0xb0, 0)
	if len(f.log.Events) != 1 || f.log.Events[0] != "eoi 0x31" {
		t.Errorf("events %v", f.log.Events)
	}
}

func TestVirtualWire(t *testing.T) {
	f := newFixture()
	f.VirtualWire()
	f.SetTaskPriority(15) // ExtINT knows no priority
	f.LINT0().Set(true)
	f.wantAck(t, 0x30)
	f.log.Events = nil
	f.LINT1().Set(true)
	if len(f.log.Events) != 1 || f.log.Events[0] != "nmi" {
		t.Errorf("events %v", f.log.Events)
	}
	f.w(0x350, 0x10700)
	if f.Pending() {
		t.Error("masked LINT0 is pending")
	}
}

func TestLINT0LevelFixed(t *testing.T) {
	f := newFixture()
	f.enable()
	f.w(0x350, 0x8041)
	l := f.LINT0()
	l.Set(true)
	f.wantReg(t, 0x350, 0xc041)
	f.wantAck(t, 0x41)
	f.w(0xb0, 0)
	f.wantAck(t, 0x41) // still high
	l.Set(false)
	f.w(0xb0, 0)
	f.wantReg(t, 0x350, 0x8041)
	if f.Pending() {
		t.Error("pending after the line fell")
	}
}

func TestTimer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lvt   uint32
		div   uint32
		count uint32
		after clock.Time
		want  uint32 // current count
		fires int
	}{
		{"one-shot, by 1", 0x40, 0xb, 100, 99, 1, 0},
		{"one-shot expires", 0x40, 0xb, 100, 100, 0, 1},
		{"one-shot stays at 0", 0x40, 0xb, 100, 1000, 0, 1},
		{"by 2", 0x40, 0x0, 100, 99, 51, 0},
		{"by 128", 0x40, 0xa, 10, 1279, 1, 0},
		{"by 16", 0x40, 0x3, 0xffffffff, 160, 0xffffffff - 10, 0},
		{"periodic", 0x20040, 0xb, 100, 350, 50, 3},
		{"masked counts too", 0x10040, 0xb, 100, 60, 40, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture()
			f.enable()
			f.w(0x320, tt.lvt)
			f.w(0x3e0, tt.div)
			f.w(0x380, tt.count)
			fires := 0
			for range tt.after {
				f.clk.Advance(1)
				if f.Pending() {
					f.wantAck(t, 0x40)
					f.w(0xb0, 0)
					fires++
				}
			}
			f.wantReg(t, 0x390, tt.want)
			if fires != tt.fires {
				t.Errorf("fired %d times, want %d", fires, tt.fires)
			}
		})
	}
}

func TestTimerCatchesUp(t *testing.T) {
	f := newFixture()
	f.enable()
	f.w(0x320, 0x20040)
	f.w(0x3e0, 0xb)
	f.w(0x380, 100)
	f.clk.Jump(1050)
	f.clk.RunDue()
	f.wantAck(t, 0x40)
	if f.clk.Next() != 1100 {
		t.Errorf("next at %d, want 1100", f.clk.Next())
	}
	f.wantReg(t, 0x390, 50)
}

func TestTSCDeadline(t *testing.T) {
	f := newFixture()
	f.enable()
	f.SetTSCDeadline(5000)
	if f.TSCDeadline() != 0 {
		t.Error("the MSR takes a value outside TSC-deadline mode")
	}
	f.w(0x320, 0x40040)
	f.w(0x380, 100)
	f.wantReg(t, 0x390, 0)
	f.SetTSCDeadline(5000)
	if f.clk.Next() != 4000 {
		t.Errorf("deadline at %d, want 4000", f.clk.Next())
	}
	f.skew += 500
	f.TSCChanged()
	f.clk.Advance(3499)
	if f.Pending() {
		t.Error("early")
	}
	f.clk.Advance(1)
	f.wantAck(t, 0x40)
	f.w(0xb0, 0)
	if f.TSCDeadline() != 0 {
		t.Error("armed after it fired")
	}
	f.SetTSCDeadline(1) // in the past
	f.clk.Advance(0)
	f.wantAck(t, 0x40)
	f.SetTSCDeadline(^uint64(0))
	f.SetTSCDeadline(1 << 40)
	f.w(0x320, 0x40) // leaving the mode disarms
	if f.clk.Next() != clock.Never || f.TSCDeadline() != 0 {
		t.Error("armed after leaving the mode")
	}
}

func TestIPI(t *testing.T) {
	for _, tt := range []struct {
		name   string
		icr    uint64
		vector uint8 // 0: none
		event  string
	}{
		{"self shorthand", 0x40041, 0x41, ""},
		{"all", 0x80042, 0x42, ""},
		{"all but self", 0xc0043, 0, ""},
		{"physical", 0x44, 0x44, ""},
		{"physical, other", 1<<56 | 0x44, 0, ""},
		{"physical broadcast", 0xff<<56 | 0x44, 0x44, ""},
		{"logical flat", 0x03<<56 | 0x845, 0x45, ""},
		{"logical, other", 0x02<<56 | 0x845, 0, ""},
		{"NMI", 0x40400, 0, "nmi"},
		{"INIT", 0xff<<56 | 0x4500, 0, "init"},
		{"INIT de-assert", 0xff<<56 | 0x8500, 0, ""},
		{"SIPI", 0xff<<56 | 0x4612, 0, "sipi 0x12"},
		{"SMI", 0x40200, 0, "smi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture()
			f.enable()
			f.w(0xd0, 1<<24)
			f.w(0x310, uint32(tt.icr>>32))
			f.log.Events = nil
			f.w(0x300, uint32(tt.icr))
			if f.r(0x300)&(1<<12) != 0 {
				t.Error("delivery is pending")
			}
			if tt.vector != 0 {
				f.wantAck(t, tt.vector)
			} else if f.Pending() {
				t.Errorf("pending %#x", f.Ack())
			}
			if tt.event != "" && (len(f.log.Events) != 1 || f.log.Events[0] != tt.event) {
				t.Errorf("events %v, want %s", f.log.Events, tt.event)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	f := newFixture()
	f.enable()
	f.w(0x370, 0xfe)
	f.w(0x300, 0x40005) // illegal vector
	f.wantAck(t, 0xfe)
	f.wantReg(t, 0x280, 0)
	f.w(0x280, 0)
	f.wantReg(t, 0x280, errSendIllegal)
	f.w(0xb0, 0)
	f.fixed(3, false)
	f.r(0x40)
	f.w(0x280, 0)
	f.wantReg(t, 0x280, errReceiveIllegal|errRegister)
	f.w(0x280, 0)
	f.wantReg(t, 0x280, 0)
}

func TestCluster(t *testing.T) {
	f := newFixture()
	f.enable()
	f.w(0xe0, 0x0fffffff)
	f.w(0xd0, 0x32<<24)
	for dest, want := range map[uint8]bool{0x32: true, 0x33: true, 0x31: false, 0x22: false, 0xff: true} {
		if got := f.Deliver(apic.Message{Dest: dest, Logical: true, Vector: 0x50}); got != want {
			t.Errorf("destination %#x: %v", dest, got)
		}
	}
}

func TestSoftwareDisableKeepsIRR(t *testing.T) {
	f := newFixture()
	f.enable()
	f.fixed(0x60, false)
	f.w(0xf0, 0xff)
	f.wantAck(t, 0x60)
	f.wantReg(t, 0x350, 0x10000)
}

func TestMissingDependencies(t *testing.T) {
	a := New(Config{Clock: devicetest.NewClock().Queue})
	a.VirtualWire()
	a.LINT1().Set(true)
	for m := range apic.Mode(8) {
		a.Deliver(apic.Message{Mode: m, Vector: 0x40, Level: true})
	}
	a.Ack()
	a.Ack()
	a.WriteMMIO(0xb0, 4, 0)
}
