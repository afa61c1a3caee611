package ioapic

import (
	"fmt"
	"testing"

	"github.com/hybridbridge/emu/core/device/apic"
	"github.com/hybridbridge/emu/core/device/devicetest"
)

// target records messages; it refuses them while deaf.
type target struct {
	got  []apic.Message
	log  *devicetest.Log
	deaf bool
}

func (t *target) Deliver(m apic.Message) bool {
	t.got = append(t.got, m)
	if t.log != nil {
		t.log.Add("%+v", m)
	}
	return !t.deaf
}

func newRig() *devicetest.Rig {
	log := &devicetest.Log{}
	a := New(Config{Target: &target{log: log}})
	r := &devicetest.Rig{
		Clock: devicetest.NewClock(), Log: log, Device: a, MMIO: a, MMIOSize: 0x50,
		Actions: []func(uint32) string{
			func(v uint32) string { a.EOI(uint8(v)); return "eoi" },
			func(v uint32) string { a.write(uint8(v>>8), v&^rteMask); return "entry" },
			func(v uint32) string { return fmt.Sprintf("%#x", a.read(uint8(v))) },
		},
	}
	for pin := range Pins {
		r.Lines = append(r.Lines, a.Line(pin))
	}
	return r
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzIOAPIC(f *testing.F)    { devicetest.Fuzz(f, newRig) }

func set(a *IOAPIC, index uint8, v uint32) {
	a.WriteMMIO(0, 4, uint64(index))
	a.WriteMMIO(0x10, 4, uint64(v))
}

func get(a *IOAPIC, index uint8) uint32 {
	a.WriteMMIO(0, 4, uint64(index))
	return uint32(a.ReadMMIO(0x10, 4))
}

func TestRegisters(t *testing.T) {
	a := New(Config{})
	set(a, 0, 0xffffffff)
	set(a, 0x12, 0xffffffff)
	set(a, 0x13, 0xffffffff)
	for index, want := range map[uint8]uint32{
		0: 0x0f000000, 1: 0x170020, 2: 0x0f000000, 0x10: 0x10000, 0x12: 0x1afff, 0x13: 0xff000000, 0x40: 0,
	} {
		if got := get(a, index); got != want {
			t.Errorf("register %#x = %#x, want %#x", index, got, want)
		}
	}
}

func TestEdge(t *testing.T) {
	tg := &target{}
	a := New(Config{Target: tg})
	l := a.Line(4)
	l.Set(true) // masked: lost
	set(a, 0x19, 0x01000000)
	set(a, 0x18, 0x0931) // lowest priority, logical
	if len(tg.got) != 0 {
		t.Fatalf("an edge on a masked pin was kept: %v", tg.got)
	}
	l.Set(true)
	l.Set(false)
	l.Set(true)
	want := apic.Message{Dest: 1, Logical: true, Mode: apic.LowestPriority, Vector: 0x31}
	if len(tg.got) != 1 || tg.got[0] != want {
		t.Errorf("messages %+v, want one %+v", tg.got, want)
	}
}

func TestLevel(t *testing.T) {
	tg := &target{}
	a := New(Config{Target: tg})
	l := a.Line(16)
	l.Set(true)
	set(a, 0x30, 0xa041) // level, low active
	if len(tg.got) != 1 || !tg.got[0].Level || get(a, 0x30) != 0xe041 {
		t.Fatalf("messages %+v, entry %#x", tg.got, get(a, 0x30))
	}
	l.Set(false)
	l.Set(true) // remote IRR holds it back
	if len(tg.got) != 1 {
		t.Fatal("sent again before EOI")
	}
	a.EOI(0x42)
	a.EOI(0x41)
	if len(tg.got) != 2 {
		t.Fatal("not sent again after EOI")
	}
	l.Set(false)
	a.WriteMMIO(0x40, 4, 0x41) // EOI register
	if got := get(a, 0x30); got != 0xa041 || len(tg.got) != 2 {
		t.Errorf("entry %#x, %d messages", got, len(tg.got))
	}
	l.Set(true)
	set(a, 0x30, 0x12041)
	set(a, 0x30, 0x1a041)
	if got := get(a, 0x30); got != 0x1a041 {
		t.Errorf("entry %#x: remote IRR survives edge mode", got)
	}
}

func TestRefused(t *testing.T) {
	a := New(Config{Target: &target{deaf: true}})
	set(a, 0x30, 0x8041)
	a.Line(16).Set(true)
	if got := get(a, 0x30); got != 0x8041 {
		t.Errorf("entry %#x: remote IRR for a message that nobody took", got)
	}
}
