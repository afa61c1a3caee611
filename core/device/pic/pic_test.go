package pic

import (
	"fmt"
	"testing"

	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/devicetest"
)

func newRig() *devicetest.Rig {
	log := &devicetest.Log{}
	p := New(Config{INTR: log.Line("intr")})
	r := &devicetest.Rig{
		Clock: devicetest.NewClock(), Log: log, Device: p, Ports: p,
		PortList: []uint16{0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1},
		Actions:  []func(uint32) string{func(uint32) string { return fmt.Sprintf("ack %#x", p.Ack()) }},
	}
	for i := range 16 {
		r.Lines = append(r.Lines, p.Line(i))
	}
	return r
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzPIC(f *testing.F)       { devicetest.Fuzz(f, newRig) }

// linux initialises the PIC as init_8259A does, with everything unmasked.
func linux() (*PIC, *bool) {
	intr := new(bool)
	p := New(Config{INTR: device.LineFunc(func(l bool) { *intr = l })})
	for _, w := range [][2]uint16{
		{0x20, 0x11},
		{0x21, 0x30},
		{0x21, 0x04},
		{0x21, 0x01},
		{0xa0, 0x11},
		{0xa1, 0x38},
		{0xa1, 0x02},
		{0xa1, 0x01},
		{0x21, 0},
		{0xa1, 0},
	} {
		p.WritePort(w[0], 1, uint32(w[1]))
	}
	return p, intr
}

func wantAck(t *testing.T, p *PIC, want uint8) {
	t.Helper()
	if got := p.Ack(); got != want {
		t.Fatalf("vector %#x, want %#x", got, want)
	}
}

func wantINTR(t *testing.T, intr *bool, want bool) {
	t.Helper()
	if *intr != want {
		t.Fatalf("INTR %v, want %v", *intr, want)
	}
}

func TestNesting(t *testing.T) {
	p, intr := linux()
	p.Line(4).Set(true)
	wantINTR(t, intr, true)
	wantAck(t, p, 0x34)
	wantINTR(t, intr, false)
	p.Line(5).Set(true) // lower priority waits
	wantINTR(t, intr, false)
	p.Line(8).Set(true) // through IR2: higher than IR4
	wantINTR(t, intr, true)
	wantAck(t, p, 0x38)
	p.WritePort(0xa0, 1, 0x60) // specific EOI of IRQ 8
	p.WritePort(0x20, 1, 0x62)
	wantINTR(t, intr, false) // 4 still in service
	p.WritePort(0x20, 1, 0x20)
	wantAck(t, p, 0x35)
}

func TestEdgeIsTakenOnce(t *testing.T) {
	p, intr := linux()
	p.Line(1).Set(true)
	wantAck(t, p, 0x31)
	p.WritePort(0x20, 1, 0x20)
	p.Line(1).Set(true) // still high: no edge
	wantINTR(t, intr, false)
	p.Line(1).Set(false)
	p.Line(1).Set(true)
	wantINTR(t, intr, true)
}

func TestLevelRepeats(t *testing.T) {
	p, intr := linux()
	p.SetLevelTriggered(1 << 10)
	if got := p.ReadPort(0x4d0, 2); got != 1<<10 {
		t.Fatalf("ELCR %#x", got)
	}
	p.Line(10).Set(true)
	for range 3 {
		wantAck(t, p, 0x3a)
		p.WritePort(0xa0, 1, 0x20)
		p.WritePort(0x20, 1, 0x20)
		wantINTR(t, intr, true)
	}
	p.Line(10).Set(false)
	wantINTR(t, intr, false)
}

func TestSpurious(t *testing.T) {
	p, _ := linux()
	p.Line(3).Set(true)
	p.Line(3).Set(false)
	wantAck(t, p, 0x37)
	p.WritePort(0x20, 1, 0x0b)
	if isr := p.ReadPort(0x20, 1); isr != 0 {
		t.Fatalf("ISR %#x after a spurious interrupt", isr)
	}
}

func TestMaskIRRAndELCRFixedBits(t *testing.T) {
	p, intr := linux()
	p.WritePort(0x21, 1, 0xff)
	p.Line(4).Set(true)
	wantINTR(t, intr, false)
	p.WritePort(0x20, 1, 0x0a)
	if irr := p.ReadPort(0x20, 1); irr != 0x10 {
		t.Fatalf("IRR %#x, want the request latched behind the mask", irr)
	}
	p.WritePort(0x21, 1, 0)
	wantINTR(t, intr, true)
	p.WritePort(0x4d0, 2, 0xffff)
	if got := p.ReadPort(0x4d0, 2); got != 0xdef8 {
		t.Fatalf("ELCR %#x, want 0xdef8", got)
	}
}

func TestAutoEOIRotation(t *testing.T) {
	p, _ := linux()
	for _, v := range []uint32{0x11} {
		p.WritePort(0x20, 1, v)
	}
	for _, v := range []uint32{0x30, 0x04, 0x03} { // ICW4: AEOI
		p.WritePort(0x21, 1, v)
	}
	p.WritePort(0x20, 1, 0x80) // rotate in AEOI mode
	p.Line(0).Set(true)
	wantAck(t, p, 0x30)
	p.Line(0).Set(false)
	p.Line(0).Set(true)
	p.Line(1).Set(true)
	wantAck(t, p, 0x31) // IR0 has become lowest
	wantAck(t, p, 0x30)
}

func TestSpecialMask(t *testing.T) {
	p, intr := linux()
	p.Line(1).Set(true)
	wantAck(t, p, 0x31)
	p.Line(6).Set(true)
	wantINTR(t, intr, false)
	p.WritePort(0x21, 1, 1<<1)
	p.WritePort(0x20, 1, 0x68)
	wantINTR(t, intr, true)
	wantAck(t, p, 0x36)
}

func TestPoll(t *testing.T) {
	p, intr := linux()
	p.WritePort(0x20, 1, 0x0c)
	if got := p.ReadPort(0x20, 1); got != 0 {
		t.Fatalf("poll without a request %#x", got)
	}
	p.Line(5).Set(true)
	p.WritePort(0x20, 1, 0x0c)
	if got := p.ReadPort(0x20, 1); got != 0x85 {
		t.Fatalf("poll %#x, want 0x85", got)
	}
	wantINTR(t, intr, false)
}

func TestSetPriority(t *testing.T) {
	p, _ := linux()
	p.WritePort(0x20, 1, 0xc0|4) // IR4 lowest, so IR5 highest
	for _, n := range []int{0, 4, 5} {
		p.Line(n).Set(true)
	}
	wantAck(t, p, 0x35)
	p.WritePort(0x20, 1, 0xe0|5) // specific EOI, IR5 lowest
	wantAck(t, p, 0x30)
}

func TestSpecialFullyNested(t *testing.T) {
	p, intr := linux()
	p.WritePort(0x20, 1, 0x11)
	for _, v := range []uint32{0x30, 0x04, 0x11} { // ICW4: SFNM
		p.WritePort(0x21, 1, v)
	}
	p.Line(12).Set(true)
	wantAck(t, p, 0x3c)
	p.Line(8).Set(true)
	wantINTR(t, intr, true)
	wantAck(t, p, 0x38)
}
