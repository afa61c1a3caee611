package rtc

import (
	"testing"
	"time"

	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/devicetest"
)

func newRig() *devicetest.Rig {
	log := &devicetest.Log{}
	clk := devicetest.NewClock()
	r := New(Config{Clock: clk.Queue, IRQ8: log.Line("irq8"), CMOS: map[uint8]byte{0x34: 0x12}})
	return &devicetest.Rig{
		Clock: clk, Log: log, Device: r, Ports: r, PortList: []uint16{0x70, 0x71},
		Actions: []func(uint32) string{
			func(v uint32) string { r.write(uint8(v>>8)%14, uint8(v)); return "register" },
			func(v uint32) string { return string(rune('0' + r.read(uint8(v>>8)%14))) },
			func(v uint32) string { clk.Advance(clock.Time(v)); return "wait" },
		},
	}
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzRTC(f *testing.F)       { devicetest.Fuzz(f, newRig) }

type fixture struct {
	*RTC
	clk  *devicetest.Clock
	irqs []clock.Time
}

func newFixture(start time.Time) *fixture {
	f := &fixture{clk: devicetest.NewClock()}
	f.RTC = New(Config{Clock: f.clk.Queue, Start: start, IRQ8: device.LineFunc(func(l bool) {
		if l {
			f.irqs = append(f.irqs, f.clk.Now())
		}
	})})
	return f
}

func (f *fixture) set(i, v uint8) {
	f.WritePort(0x70, 1, uint32(i)|0x80)
	f.WritePort(0x71, 1, uint32(v))
}

func (f *fixture) get(i uint8) uint8 {
	f.WritePort(0x70, 1, uint32(i))
	return uint8(f.ReadPort(0x71, 1))
}

func (f *fixture) want(t *testing.T, regs map[uint8]uint8) {
	t.Helper()
	for i, want := range regs {
		if got := f.get(i); got != want {
			t.Errorf("register %#x = %#x, want %#x", i, got, want)
		}
	}
}

func TestDefaultDate(t *testing.T) {
	f := newFixture(time.Time{})
	f.clk.Advance(3723 * second)
	f.want(t, map[uint8]uint8{0: 0x03, 2: 0x02, 4: 0x01, 6: 5, 7: 1, 8: 1, 9: 0x26, 0x32: 0x20, 0xd: 0x80, 0xb: 0x02})
}

func TestFormats(t *testing.T) {
	start := time.Date(1999, 12, 31, 23, 59, 58, 0, time.UTC)
	f := newFixture(start)
	f.set(regB, bDM|b24)
	f.want(t, map[uint8]uint8{0: 58, 2: 59, 4: 23, 6: 6, 7: 31, 8: 12, 9: 99, 0x32: 0x19})
	f.set(regB, 0)
	f.want(t, map[uint8]uint8{4: 0x91}) // 11 PM
	f.clk.Advance(2 * second)
	f.want(t, map[uint8]uint8{0: 0, 4: 0x12, 6: 7, 7: 1, 8: 1, 9: 0, 0x32: 0x20})
}

// Linux's mc146818_set_time: SET, divider reset, registers, SET off, divider on.
func TestSetTime(t *testing.T) {
	f := newFixture(time.Time{})
	f.clk.Advance(300_000_000)
	f.set(regB, bSET|b24)
	f.set(regA, 0x76)
	f.clk.Advance(5 * second)
	for i, v := range map[uint8]uint8{0: 0x59, 2: 0x59, 4: 0x12, 7: 0x29, 8: 0x02, 9: 0x28, 0x32: 0x20} {
		f.set(i, v)
	}
	f.want(t, map[uint8]uint8{0: 0x59, 4: 0x12})
	f.set(regB, b24)
	f.clk.Advance(5 * second)
	f.set(regA, 0x26)
	f.clk.Advance(second/2 - 1)
	f.want(t, map[uint8]uint8{0: 0x59})
	f.clk.Advance(1)
	f.want(t, map[uint8]uint8{0: 0, 2: 0, 4: 0x13, 7: 0x29, 6: 3})
}

func TestUIP(t *testing.T) {
	f := newFixture(time.Time{})
	f.clk.Advance(second - updateTime - 1)
	f.want(t, map[uint8]uint8{regA: 0x26})
	f.clk.Advance(1)
	f.want(t, map[uint8]uint8{regA: 0xa6, 0: 0})
	f.clk.Advance(updateTime)
	f.want(t, map[uint8]uint8{regA: 0x26, 0: 1})
}

func TestUpdateInterrupt(t *testing.T) {
	f := newFixture(time.Time{})
	f.set(regB, b24|bUIE)
	f.clk.Advance(3 * second)
	if len(f.irqs) != 1 || f.irqs[0] != second { // stays high until register C is read
		t.Fatalf("interrupts at %v", f.irqs)
	}
	f.want(t, map[uint8]uint8{regC: cIRQF | cUF | cPF})
	f.clk.Advance(second)
	if len(f.irqs) != 2 || f.irqs[1] != 4*second {
		t.Fatalf("interrupts at %v", f.irqs)
	}
}

func TestPeriodic(t *testing.T) {
	for _, tt := range []struct {
		rate uint8
		hz   int
	}{{6, 1024}, {1, 256}, {2, 128}, {3, 8192}, {15, 2}} {
		f := newFixture(time.Time{})
		f.set(regA, 0x20|tt.rate)
		f.set(regB, b24|bPIE)
		n := 0
		for f.clk.Now() < 2*second {
			f.clk.Advance(f.clk.Next() - f.clk.Now())
			f.get(regC)
			n++
		}
		if n != 2*tt.hz {
			t.Errorf("rate %d: %d interrupts in 2 s, want %d", tt.rate, n, 2*tt.hz)
		}
	}
}

func TestAlarm(t *testing.T) {
	start := time.Date(2026, 1, 1, 10, 20, 30, 0, time.UTC)
	for _, tt := range []struct {
		h, m, s uint8
		want    clock.Time // seconds; 0: never
	}{
		{0x10, 0x20, 0x31, 1},
		{0x10, 0x20, 0x30, 86400},
		{0x10, 0x21, 0x00, 30},
		{0x11, 0x00, 0x00, 2370},
		{0x09, 0x00, 0x00, 81570},
		{0xff, 0xff, 0xff, 1},
		{0xc0, 0x21, 0xff, 30},
		{0xff, 0x19, 0x05, 3515},
		{0xff, 0xff, 0x29, 59},
		{0x25, 0xff, 0xff, 0},
		{0xff, 0x61, 0xff, 0},
	} {
		f := newFixture(start)
		f.set(regHoursAlarm, tt.h)
		f.set(regMinutesAlarm, tt.m)
		f.set(regSecondsAlarm, tt.s)
		f.set(regB, b24|bAIE)
		f.clk.Advance(2 * 86400 * second)
		got := clock.Time(0)
		if len(f.irqs) > 0 {
			got = f.irqs[0]
		}
		if got != tt.want*second {
			t.Errorf("alarm %02x:%02x:%02x after %d ns, want %d s", tt.h, tt.m, tt.s, got, tt.want)
		}
		if flag := f.get(regC)&cAF != 0; flag != (tt.want != 0) {
			t.Errorf("alarm %02x:%02x:%02x: AF %v", tt.h, tt.m, tt.s, flag)
		}
	}
}

func TestFlagsWithoutInterrupts(t *testing.T) {
	f := newFixture(time.Time{})
	f.get(regC)
	f.clk.Advance(second)
	if c := f.get(regC); c&(cUF|cIRQF) != cUF || len(f.irqs) != 0 {
		t.Errorf("register C %#x, %d interrupts", c, len(f.irqs))
	}
	if f.get(regC) != 0 {
		t.Error("flags survive reading")
	}
	if f.clk.Next() != clock.Never {
		t.Error("a timer runs though no interrupt is enabled")
	}
}

func TestMemoryAndReset(t *testing.T) {
	f := newFixture(time.Time{})
	f.set(0x5a, 0xa5)
	f.set(regB, b24|bUIE)
	f.clk.Advance(second)
	f.Reset()
	f.want(t, map[uint8]uint8{0x5a: 0xa5, regB: b24, regC: 0, 0: 1})
}
