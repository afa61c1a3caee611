package cpu

import (
	"encoding/binary"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

func TestBranchTargets(t *testing.T) {
	c, ram := newRig(t, 0x8000)
	c.r[isa.RAX], c.r[isa.RSP] = 1<<47, 0x3000
	c.faults(t, "ffe0", VectorGP) // jmp rax
	c.faults(t, "ffd0", VectorGP) // call rax pushes nothing
	binary.LittleEndian.PutUint64(ram[0x3000:], 1<<63)
	c.faults(t, "c3", VectorGP)
	binary.LittleEndian.PutUint64(ram[0x3000:], 0xffff800000000000)
	c.step(t, "c2 1000")
	if c.rip != 0xffff800000000000 || c.r[isa.RSP] != 0x3018 {
		t.Errorf("ret 16: rip %#x rsp %#x", c.rip, c.r[isa.RSP])
	}
	c.r[isa.RSP] = 0x8008
	c.faults(t, "e8 00000000", VectorPF)

	// LOOP counts in the address size and leaves the flags alone.
	c.r[isa.RCX] = 0x100000001
	c.step(t, "67 e2 10")
	if c.r[isa.RCX] != 0 || c.rip != 0x1003 {
		t.Errorf("loop with ecx 1: rcx %#x rip %#x", c.r[isa.RCX], c.rip)
	}
	c.step(t, "67 e2 10")
	if c.r[isa.RCX] != 0xffffffff || c.rip != 0x1013 {
		t.Errorf("loop with ecx 0: rcx %#x rip %#x", c.r[isa.RCX], c.rip)
	}
	c.f.setWord(FlagZF)
	c.step(t, "e0 10") // loopne
	if c.r[isa.RCX] != 0xfffffffe || c.rip != 0x1002 {
		t.Errorf("loopne with ZF: rcx %#x rip %#x", c.r[isa.RCX], c.rip)
	}
	c.r[isa.RCX] = 1 << 32
	if c.step(t, "67 e3 10"); c.rip != 0x1013 {
		t.Errorf("jecxz: rip %#x", c.rip)
	}
	if c.step(t, "e3 10"); c.rip != 0x1002 {
		t.Errorf("jrcxz: rip %#x", c.rip)
	}
}

func TestBranchLimit(t *testing.T) {
	c, _ := newRig(t, 0x8000)
	c.setMode(isa.Mode32)
	s := c.seg[isa.CS]
	s.Limit = 0x1fff
	c.setSegment(isa.CS, s)
	c.r[isa.RSP], c.r[isa.RAX], c.r[isa.RCX] = 0x3000, 0x2000, 5
	c.faults(t, "ffe0", VectorGP)
	c.faults(t, "e9 fb0f0000", VectorGP)
	c.faults(t, "e8 fb0f0000", VectorGP)
	if !c.step(t, "75 80") || c.rip != 0xf82 {
		t.Errorf("jne within the limit: rip %#x", c.rip)
	}
}
