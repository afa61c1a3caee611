package pit

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/devicetest"
)

func newRig() *devicetest.Rig {
	log := &devicetest.Log{}
	clk := devicetest.NewClock()
	p := New(Config{Clock: clk.Queue, IRQ0: log.Line("irq0")})
	return &devicetest.Rig{
		Clock: clk, Log: log, Device: p, Ports: p,
		PortList: []uint16{0x40, 0x41, 0x42, 0x43, 0x61},
		Actions: []func(uint32) string{
			func(v uint32) string { p.WritePort(0x43, 1, v%12|0x30); p.WritePort(0x40, 1, v>>8); return "program" },
			func(v uint32) string { clk.Advance(timeOf(ticks(clk.Now()) + int64(v%5))); return "ticks" },
		},
	}
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzPIT(f *testing.F)       { devicetest.Fuzz(f, newRig) }

func TestTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Uint64().Draw(t, "t")
		want := new(big.Int).Mul(new(big.Int).SetUint64(at), big.NewInt(Hz))
		want.Div(want, big.NewInt(1e9))
		if got := ticks(clock.Time(at)); got != want.Int64() {
			t.Fatalf("ticks %d, want %d", got, want)
		}
		n := rapid.Int64Range(1, 1<<54).Draw(t, "n")
		at1 := timeOf(n)
		if ticks(at1) != n && ticks(at1) < n || ticks(at1-1) >= n {
			t.Fatalf("timeOf(%d) = %d: ticks %d, before it %d", n, at1, ticks(at1), ticks(at1-1))
		}
	})
}

// bench drives a PIT tick by tick.
type bench struct {
	*PIT
	clk   *devicetest.Clock
	level *bool
	tick  int64
}

func newBench() *bench {
	b := &bench{clk: devicetest.NewClock(), level: new(bool)}
	b.PIT = New(Config{Clock: b.clk.Queue, IRQ0: device.LineFunc(func(l bool) { *b.level = l })})
	return b
}

func (b *bench) step(n int64) {
	b.tick += n
	b.clk.Advance(timeOf(b.tick) - b.clk.Now())
}

func (b *bench) program(ch uint16, mode, count uint32) {
	b.WritePort(0x43, 1, uint32(ch)<<6|0x30|mode<<1)
	b.WritePort(0x40+ch, 1, count&0xff)
	b.WritePort(0x40+ch, 1, count>>8)
}

func (b *bench) count(ch uint16) uint32 {
	b.WritePort(0x43, 1, uint32(ch)<<6)
	return b.ReadPort(0x40+ch, 1) | b.ReadPort(0x40+ch, 1)<<8
}

// wave is OUT of a channel for n ticks, from the tick at which the count is loaded.
func (b *bench) wave(ch int, n int) string {
	s := ""
	for range n {
		b.step(1)
		c := byte('_')
		if b.counter[ch].out(b.now()) {
			c = '#'
		}
		if ch == 0 && *b.level != (c == '#') {
			c = '?'
		}
		s += string(c)
	}
	return s
}

// The waveforms of the data sheet, figures 15 to 20. The first tick is the one that loads the count.
func TestWaves(t *testing.T) {
	for _, tt := range []struct {
		mode, count uint32
		want        string
	}{
		{0, 4, "____####"},
		{2, 3, "##_##_##_"},
		{3, 4, "##__##__##"},
		{3, 5, "###__###__"},
		{4, 3, "###_####"},
		{2, 1, "####"}, // illegal
	} {
		b := newBench()
		b.program(0, tt.mode, tt.count)
		if got := b.wave(0, len(tt.want)); got != tt.want {
			t.Errorf("mode %d, count %d: %s, want %s", tt.mode, tt.count, got, tt.want)
		}
	}
}

func TestTriggered(t *testing.T) {
	for _, tt := range []struct {
		mode uint32
		want string
	}{{1, "___####"}, {5, "###_###"}} {
		b := newBench()
		b.program(2, tt.mode, 3)
		if got := b.wave(2, 5); got != "#####" {
			t.Errorf("mode %d before the trigger: %s", tt.mode, got)
		}
		b.WritePort(0x61, 1, 1)
		if got := b.wave(2, len(tt.want)); got != tt.want {
			t.Errorf("mode %d: %s, want %s", tt.mode, got, tt.want)
		}
		b.WritePort(0x61, 1, 0)
		b.WritePort(0x61, 1, 1)
		if got := b.wave(2, len(tt.want)); got != tt.want {
			t.Errorf("mode %d triggered again: %s, want %s", tt.mode, got, tt.want)
		}
	}
}

func TestGatePauses(t *testing.T) {
	b := newBench()
	b.WritePort(0x61, 1, 1)
	b.program(2, 0, 5)
	b.step(3) // loaded, then two counted
	if got := b.count(2); got != 3 {
		t.Fatalf("count %d, want 3", got)
	}
	b.WritePort(0x61, 1, 0)
	b.step(100)
	if got := b.count(2); got != 3 || b.ReadPort(0x61, 1)&portBOut2 != 0 {
		t.Fatalf("count %d while the gate is low", got)
	}
	b.WritePort(0x61, 1, 1)
	b.step(3)
	if b.ReadPort(0x61, 1)&portBOut2 == 0 {
		t.Error("OUT is low at terminal count")
	}
	b.step(1)
	if got := b.count(2); got != 0xffff {
		t.Errorf("count %#x after terminal count, want it to wrap", got)
	}
}

func TestNewCountWaitsForPeriod(t *testing.T) {
	b := newBench()
	b.program(0, 2, 4)
	b.step(2)
	b.WritePort(0x40, 1, 3)
	b.WritePort(0x40, 1, 0)
	if got := b.wave(0, 8); got != "#_##_##_" {
		t.Errorf("mode 2: %s", got)
	}
	b = newBench()
	b.program(0, 3, 4)
	b.step(1)
	b.WritePort(0x40, 1, 6)
	b.WritePort(0x40, 1, 0)
	if got := b.wave(0, 10); got != "#___###___" { // in use from the next half period
		t.Errorf("mode 3: %s", got)
	}
}

func TestCounts(t *testing.T) {
	for _, tt := range []struct {
		ctl, lo, hi uint32
		after       int64
		want        uint32
	}{
		{0x34, 10, 0, 1, 10},
		{0x34, 10, 0, 10, 1},
		{0x34, 10, 0, 11, 10},
		{0x34, 0, 0, 2, 0xffff},
		{0x36, 10, 0, 2, 8},
		{0x36, 11, 0, 2, 8}, // odd: from count minus one
		{0x30, 2, 0, 4, 0xffff},
		{0x31, 0x00, 0x10, 2, 0x0999}, // BCD
		{0x31, 0, 0, 2, 0x9999},
	} {
		b := newBench()
		b.WritePort(0x43, 1, tt.ctl)
		b.WritePort(0x40, 1, tt.lo)
		b.WritePort(0x40, 1, tt.hi)
		b.step(tt.after)
		if got := b.count(0); got != tt.want {
			t.Errorf("control %#x count %#x%02x after %d: %#x, want %#x", tt.ctl, tt.hi, tt.lo, tt.after, got, tt.want)
		}
	}
}

func TestReadBack(t *testing.T) {
	b := newBench()
	b.program(0, 2, 100)
	b.WritePort(0x43, 1, 0xe2) // status only
	if got := b.ReadPort(0x40, 1); got != 0x80|0x40|0x34 {
		t.Errorf("status %#x, want null count", got)
	}
	b.step(1)
	b.WritePort(0x43, 1, 0xc2) // both
	b.step(5)
	if s, lo, hi := b.ReadPort(0x40, 1), b.ReadPort(0x40, 1), b.ReadPort(0x40, 1); s != 0xb4 || lo != 100 || hi != 0 {
		t.Errorf("status %#x, count %#x %#x", s, lo, hi)
	}
	b.WritePort(0x43, 1, 0x00)
	b.step(3)
	b.WritePort(0x43, 1, 0x00) // the first latch holds
	if got := b.ReadPort(0x40, 1); got != 95 {
		t.Errorf("latched %d, want 95", got)
	}
}

func TestMissedEdges(t *testing.T) {
	b := newBench()
	edges := 0
	last := true
	b.c.IRQ0 = device.LineFunc(func(l bool) {
		if l && !last {
			edges++
		}
		last = l
	})
	b.program(0, 2, 1193)
	b.clk.Jump(50_500_000)
	b.clk.RunDue()
	if edges == 0 || b.clk.Next() > 52_000_000 {
		t.Errorf("%d edges, next %d", edges, b.clk.Next())
	}
}

// Linux programs 1193182/HZ; each second must see exactly that many interrupts.
func TestRate(t *testing.T) {
	b := newBench()
	edges, last := 0, false
	b.c.IRQ0 = device.LineFunc(func(l bool) {
		if l && !last {
			edges++
		}
		last = l
	})
	b.program(0, 2, 4772) // 250 Hz
	edges = 0
	b.clk.Advance(10e9)
	if want := Hz * 10 / 4772; edges != want {
		t.Errorf("%d interrupts in 10 s, want %d", edges, want)
	}
}

func TestRefreshToggles(t *testing.T) {
	b := newBench()
	a := b.ReadPort(0x61, 1) & portBRefresh
	b.step(refreshTicks)
	if b.ReadPort(0x61, 1)&portBRefresh == a {
		t.Error("refresh bit does not toggle")
	}
}
