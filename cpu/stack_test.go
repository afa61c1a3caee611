package cpu

import (
	"encoding/binary"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

func TestPushPop(t *testing.T) {
	c, ram := newRig(t, 0x8000)
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(ram[at:]) }

	c.r[isa.RSP] = 0x3000
	c.step(t, "54") // push rsp
	if word(0x2ff8) != 0x3000 || c.r[isa.RSP] != 0x2ff8 {
		t.Errorf("push rsp: %#x at rsp %#x", word(0x2ff8), c.r[isa.RSP])
	}
	c.step(t, "5c") // pop rsp
	if c.r[isa.RSP] != 0x3000 {
		t.Errorf("pop rsp: %#x", c.r[isa.RSP])
	}
	c.step(t, "6aff") // push -1
	if word(0x2ff8) != ^uint64(0) {
		t.Errorf("push -1: %#x", word(0x2ff8))
	}
	c.step(t, "66 6aff") // push word -1
	if c.r[isa.RSP] != 0x2ff6 {
		t.Errorf("push word -1: rsp %#x", c.r[isa.RSP])
	}

	// The address of POP's operand is computed with rSP after the pop.
	c.r[isa.RSP] = 0x2000
	binary.LittleEndian.PutUint64(ram[0x2000:], 0x1122)
	c.step(t, "8f 04 24") // pop [rsp]
	if word(0x2008) != 0x1122 || c.r[isa.RSP] != 0x2008 {
		t.Errorf("pop [rsp]: %#x, rsp %#x", word(0x2008), c.r[isa.RSP])
	}
	c.r[isa.RSP] = 0x7ff8
	c.faults(t, "8f 04 24", VectorPF) // the destination is not mapped
	c.r[isa.RSP] = 0x8004
	c.faults(t, "50", VectorPF) // across the end
	c.r[isa.RSP] = 0x7ffc
	c.faults(t, "58", VectorPF)
	c.r[isa.RSP], c.r[isa.RBP] = 0x2000, 0x8000
	c.faults(t, "c9", VectorPF)
}

func TestPushAll(t *testing.T) {
	c, ram := newRig(t, 0x8000)
	c.setMode(isa.Mode32)
	for r := range 8 {
		c.r[r] = uint64(0x100 * (r + 1))
	}
	c.r[isa.RSP] = 0x3000
	c.step(t, "60")
	if c.r[isa.RSP] != 0x2fe0 || binary.LittleEndian.Uint32(ram[0x2fec:]) != 0x3000 || binary.LittleEndian.Uint32(ram[0x2ffc:]) != 0x100 ||
		binary.LittleEndian.Uint32(ram[0x2fe0:]) != 0x800 {
		t.Errorf("pusha: esp %#x, % x", c.r[isa.RSP], ram[0x2fe0:0x3000])
	}
	want := c.r
	want[isa.RSP] = 0x3000
	for r := range 8 {
		if r != int(isa.RSP) {
			c.r[r] = 0
		}
	}
	c.step(t, "61")
	if want != c.r {
		t.Errorf("popa: %x, want %x", c.r, want)
	}
	c.r[isa.RSP] = 0x8008
	c.faults(t, "60", VectorPF)
	c.setMode(isa.Mode16)
	c.r[isa.RSP] = 0x12340004
	c.step(t, "50")
	c.step(t, "50")
	c.step(t, "50") // the stack pointer wraps within 16 bits, to a page that is not mapped
	if c.r[isa.RSP] != 0x12340000 || c.exc.cr2 != 0xfffe {
		t.Errorf("push ax, three times: esp %#x, cr2 %#x", c.r[isa.RSP], c.exc.cr2)
	}
}

func TestEnter(t *testing.T) {
	c, ram := newRig(t, 0x8000)
	c.r[isa.RSP], c.r[isa.RBP] = 0x3000, 0x2800
	binary.LittleEndian.PutUint64(ram[0x27f8:], 0xaaaa)
	binary.LittleEndian.PutUint64(ram[0x27f0:], 0xbbbb)
	c.step(t, "c8 2000 03")
	if c.r[isa.RBP] != 0x2ff8 || c.r[isa.RSP] != 0x2ff8-3*8-0x20 {
		t.Errorf("enter 32, 3: rbp %#x rsp %#x", c.r[isa.RBP], c.r[isa.RSP])
	}
	for i, want := range []uint64{0x2800, 0xaaaa, 0xbbbb, 0x2ff8} {
		if got := binary.LittleEndian.Uint64(ram[0x2ff8-8*i:]); got != want {
			t.Errorf("enter 32, 3: display %d is %#x, want %#x", i, got, want)
		}
	}
	c.step(t, "c9")
	if c.r[isa.RBP] != 0x2800 || c.r[isa.RSP] != 0x3000 {
		t.Errorf("leave: rbp %#x rsp %#x", c.r[isa.RBP], c.r[isa.RSP])
	}
	c.r[isa.RSP] = 0x1010
	c.faults(t, "c8 ff1f 00", VectorPF) // the new top of the stack is not writable
}

func TestPopFlags(t *testing.T) {
	c, ram := newRig(t, 0x8000)
	const user = flagsArith | FlagTF | FlagDF | FlagNT | FlagAC | FlagID
	for _, test := range []struct {
		cpl       uint8
		flags     uint64 // before
		value     uint64 // popped
		want      uint64
		code      string
		describes string
	}{
		{0, 2, ^uint64(0), user | FlagIF | FlagIOPL | 2, "9d", "all at CPL 0"},
		{3, 2, ^uint64(0), user | 2, "9d", "CPL 3"},
		{3, FlagIOPL | 2, ^uint64(0), user | FlagIF | FlagIOPL | 2, "9d", "CPL 3, IOPL 3"},
		{3, FlagIOPL | FlagIF | 2, 0, FlagIOPL | 2, "9d", "clear at IOPL 3"},
		{3, FlagIF | FlagAC | FlagID | 2, 0, FlagIF | FlagAC | FlagID | 2, "66 9d", "16 bits keep the upper half"},
	} {
		c.cpl = test.cpl
		c.setRFLAGS(test.flags)
		c.updateContext()
		c.r[isa.RSP] = 0x2000
		binary.LittleEndian.PutUint64(ram[0x2000:], test.value)
		c.alone = true // with AC the access is not cached
		ok := c.step(t, test.code)
		c.alone = false
		if !ok || c.RFLAGS() != test.want {
			t.Errorf("%s: %#x, want %#x", test.describes, c.RFLAGS(), test.want)
		}
	}
	c.cpl = 0
	c.setRFLAGS(user | FlagIF | FlagRF | 2)
	c.r[isa.RSP] = 0x2000
	c.step(t, "9c")
	if got := binary.LittleEndian.Uint64(ram[0x1ff8:]); got != user|FlagIF|2 {
		t.Errorf("pushf pushes %#x", got)
	}
}
