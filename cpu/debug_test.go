package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// TestSingleStep: RFLAGS.TF traps after the instruction that begins with it set (SDM vol. 3B, 17.3.1.4).
func TestSingleStep(t *testing.T) {
	for _, c := range []struct {
		name, code string
		rip        uint64 // of the first trap, as an offset
	}{
		{"NOP", "90 90", 1},
		{"a taken branch", "eb 02 90 90 90", 4},
		{"POPF that clears TF", "6a 02 9d 90", 2}, // PUSH traps first
		{"a repeated string instruction traps after each iteration", "f3 a4 90", 0},
		{"MOV SS: the trap comes after the next instruction", "8e d0 90 90", 3},
		{"STI", "fb 90", 1},
		{"CPUID", "0f a2 90", 2},
		{"HLT, which the trap ends", "f4 90", 1},
	} {
		b := newSysRig(t, Config{})
		b.long()
		b.setReg(isa.RCX, 3)
		b.setReg(isa.RSI, atData)
		b.setReg(isa.RDI, atData+0x100)
		b.setReg(isa.RAX, selData)
		b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagTF })
		o := b.expect(c.code, VectorDB, 0)
		if o.rip != atCode+c.rip || b.c.dr[6] != dr6Fixed|dr6BS || o.flags&FlagTF == 0 || o.flags&FlagRF != 0 || b.c.flags&FlagTF != 0 {
			t.Errorf("%s: trap at +%d, DR6 %#x, flags %#x", c.name, o.rip-atCode, b.c.dr[6], o.flags)
		}
	}
	// POPF that sets TF: the trap comes after the instruction that follows it.
	b := newSysRig(t, Config{})
	b.long()
	if o := b.expect("68 02 01 00 00 9d 90 90", VectorDB, 0); o.rip != atCode+7 {
		t.Errorf("POPF: trap at +%d", o.rip-atCode)
	}
	// IRET that sets TF.
	b.long()
	copy(b.ram[atUser:], unhex("90 90"))
	b.iretFrame(8, atUser, selUser64, FlagTF|2, topUser, selUserData)
	if o := b.expect("48 cf", VectorDB, 0); o.rip != atUser+1 || o.cs != selUser64 {
		t.Errorf("IRET: %+v", o)
	}
	// INT n and faults: the handler is not stepped, and there is no trap for the instruction.
	b.long()
	b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagTF })
	if o := b.expect("cd 80", 0x80, 0); o.flags&FlagTF == 0 || b.c.dr[6] != dr6Fixed {
		t.Errorf("INT: %+v DR6 %#x", o, b.c.dr[6])
	}
	b.long()
	b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagTF })
	b.expect("0f 0b", VectorUD, 0)
	// SYSCALL with TF in FMASK is not followed by a trap, without it is.
	for _, mask := range []uint64{FlagTF, 0} {
		b.long()
		b.user(selUser64)
		b.setState(func(s *vcpu.State) {
			s.MSR.STAR, s.MSR.LSTAR, s.MSR.FMASK = selCode64<<32, atStubs+8*0x70, mask
			s.RFLAGS |= FlagTF
		})
		want := VectorDB
		if mask != 0 {
			want = 0x70
		}
		if o := b.exec("0f 05"); o.vector != want {
			t.Errorf("SYSCALL with mask %#x: %+v", mask, o)
		}
	}
}

// TestInstructionBreakpoint: DR0-DR3 fault before the instruction; RF lets it run (SDM vol. 3B, 17.3.1.1).
func TestInstructionBreakpoint(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.setState(func(s *vcpu.State) {
		s.DR[2] = atCode + 2
		s.DR[7] = 0x20 // G2
	})
	o := b.expect("90 90 90 90", VectorDB, 0)
	if o.rip != atCode+2 || b.c.dr[6] != dr6Fixed|4 || o.flags&FlagRF != 0 {
		t.Errorf("%+v DR6 %#x", o, b.c.dr[6])
	}
	// A handler sets RF in the image and returns: the instruction runs, and RF is gone.
	copy(b.ram[atStubs+8*VectorDB+1:], unhex("48 cf"))
	b.c.MemoryWritten(0, rigRAM)
	b.put64(b.reg(isa.RSP)+16, o.flags|FlagRF)
	if o = b.resume(); o.vector != -1 || o.rip != atCode+5 || b.c.flags&FlagRF != 0 {
		t.Errorf("after IRET: %+v flags %#x", o, b.c.flags)
	}
	// In a loop it is hit each time.
	b.long()
	b.setState(func(s *vcpu.State) {
		s.DR[0] = atCode + 5
		s.DR[7] = 1
	})
	copy(b.ram[atStubs+8*VectorDB:], unhex("ff c3 81 4c 24 10 00 00 01 00 48 cf")) // inc ebx; or dword [rsp+16], RF; iretq
	b.c.MemoryWritten(0, rigRAM)
	b.setReg(isa.RBX, 0)
	b.expect("b9 05 00 00 00 ff c9 75 fc", -1, 0) // mov ecx, 5; l: dec ecx; jnz l
	b.wantReg(isa.RBX, 5)
	// Restarting after a page fault on the same instruction does not hit again: faults push RF.
	b = newSysRig(t, Config{})
	b.long()
	b.setState(func(s *vcpu.State) {
		s.DR[0] = atCode
		s.DR[7] = 1
		s.RFLAGS |= FlagRF
	})
	b.put64(pte(4, atData), 0)
	o = b.expect("8a 04 25 00 e0 00 00", VectorPF, 0)
	if o.flags&FlagRF == 0 {
		t.Error("the fault pushes no RF")
	}
	b.put64(pte(4, atData), atData|7)
	copy(b.ram[atStubs+8*VectorPF+1:], unhex("48 83 c4 08 48 cf"))
	b.c.MemoryWritten(0, rigRAM)
	if o = b.resume(); o.vector != -1 {
		t.Errorf("after the page fault: %+v", o)
	}
}

// TestDataBreakpoint: traps after the access, by length and kind, in and out of blocks.
func TestDataBreakpoint(t *testing.T) {
	const write, read = "c6 04 25 04 e0 00 00 01", "8a 04 25 04 e0 00 00" // byte [atData+4]
	for _, c := range []struct {
		name, code string
		at         uint64
		field      uint64 // LEN and R/W
		rip        uint64 // 0: no trap
	}{
		{"write", "90" + write + "90", atData + 4, 1, 9},
		{"read of a write breakpoint", "90" + read + "90", atData + 4, 1, 0},
		{"read", "90" + read + "90", atData + 4, 3, 8},
		{"write of a read-write breakpoint", "90" + write + "90", atData + 4, 3, 9},
		{"next byte", "90" + write + "90", atData + 5, 3, 0},
		{"in 4 bytes", "90" + write + "90", atData + 4, 3<<2 | 1, 9},
		{"in 8 bytes", "90" + write + "90", atData, 2<<2 | 1, 9},
		{"in 2 bytes, misaligned address", "90" + write + "90", atData + 5, 1<<2 | 1, 9},
		{"wide access over it", "90 48 8b 04 25 00 e0 00 00 90", atData + 7, 3, 9},
		{"read-modify-write", "90 fe 04 25 04 e0 00 00 90", atData + 4, 1, 8},
		{"string store", "b9 08 00 00 00 bf 00 e0 00 00 f3 aa 90", atData + 3, 1, 10},
		{"push", "bc 08 e0 00 00 50 90", atData + 4, 1, 6},
		{"128 bits", "90 0f 10 04 25 00 e0 00 00 90", atData + 12, 3, 9},
	} {
		b := newSysRig(t, Config{})
		b.long()
		b.setState(func(s *vcpu.State) {
			s.DR[1] = c.at
			s.DR[7] = 0x8 | c.field<<20
			s.CR4 |= cr4OSFXSR
		})
		b.gate64(VectorDB, selCode64, atStubs+8*VectorDB, 0x8e, 1)
		o := b.exec(c.code)
		if c.rip == 0 {
			if o.vector != -1 {
				t.Errorf("%s: %+v", c.name, o)
			}
			continue
		}
		if o.vector != VectorDB || o.rip != atCode+c.rip || b.c.dr[6] != dr6Fixed|2 {
			t.Errorf("%s: %+v at +%d DR6 %#x", c.name, o, o.rip-atCode, b.c.dr[6])
		}
	}
	// MOV SS holds it back for one instruction (SDM vol. 3A, 6.8.3).
	b := newSysRig(t, Config{})
	b.long()
	b.put16(atData, selData)
	b.setState(func(s *vcpu.State) {
		s.DR[0] = atData
		s.DR[7] = 1 | 3<<16
	})
	if o := b.expect("8e 14 25 00 e0 00 00 90 90", VectorDB, 0); o.rip != atCode+8 || b.c.dr[6]&0xf != 1 {
		t.Errorf("MOV SS: +%d DR6 %#x", o.rip-atCode, b.c.dr[6])
	}
	// Once switched off, the page goes back into the TLB.
	b.long()
	b.c.dr[7] = dr7Fixed
	b.c.debugChanged()
	b.expect(write, -1, 0)
	if !b.c.mayCache(atData) {
		t.Error("the page is still watched")
	}
}

func TestIOBreakpoint(t *testing.T) {
	for _, de := range []uint64{0, cr4DE} {
		b := newSysRig(t, Config{})
		b.long()
		b.setState(func(s *vcpu.State) {
			s.CR4 |= de
			s.DR[0] = 0x70
			s.DR[7] = 1 | 2<<16
		})
		o := b.exec("e6 71 e6 70 90")
		if de == 0 && o.vector != -1 || de != 0 && (o.vector != VectorDB || o.rip != atCode+4) {
			t.Errorf("DE %#x: %+v", de, o)
		}
	}
}

func TestGeneralDetect(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.setReg(isa.RAX, uint64(dr7GD))
	o := b.expect("0f 23 f8 90 0f 21 c3", VectorDB, 0) // mov dr7, rax; nop; mov rbx, dr0
	if o.rip != atCode+4 || b.c.dr[6] != dr6Fixed|dr6BD || b.c.dr[7] != dr7Fixed {
		t.Errorf("%+v DR6 %#x DR7 %#x", o, b.c.dr[6], b.c.dr[7])
	}
	// DR4 and DR5 are DR6 and DR7, unless CR4.DE says that they do not exist.
	b.long()
	b.expect("0f 21 eb", -1, 0)
	b.wantReg(isa.RBX, dr7Fixed)
	b.long()
	b.setState(func(s *vcpu.State) { s.CR4 |= cr4DE })
	b.expect("0f 21 eb", VectorUD, 0)
	// Fixed bits.
	b.long()
	b.setReg(isa.RAX, 0xffffffff)
	b.expect("0f 23 f0 0f 21 f3", -1, 0)
	b.wantReg(isa.RBX, 0xffffefff)
}

// TestDebuggerBreakpoints is what gdb does: stop before, step over, go on.
func TestDebuggerBreakpoints(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	// l: inc ebx; dec ecx; jnz l; hlt
	copy(b.ram[atCode:], unhex("ff c3 ff c9 75 fa f4"))
	b.setReg(isa.RCX, 3)
	b.setReg(isa.RBX, 0)
	b.c.AddBreakpoint(atCode + 2)
	for i := range uint64(3) {
		e := b.c.Run(1 << 30)
		if e.Reason != vcpu.ExitBreakpoint || e.Address != atCode+2 || b.c.State().RIP != atCode+2 {
			t.Fatalf("round %d: %+v at %#x", i, e, b.c.State().RIP)
		}
		b.wantReg(isa.RBX, i+1)
	}
	if e := b.c.Run(1 << 30); e.Reason != vcpu.ExitHalt {
		t.Fatalf("%+v", e)
	}
	// Steps, with an interrupt waiting that must not be taken.
	b.long()
	b.setReg(isa.RCX, 3)
	b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagIF })
	b.c.SetINTR(true)
	for _, want := range []uint64{2, 4, 0, 2} {
		if e := b.c.Step(); e.Reason != vcpu.ExitDeadline || b.c.State().RIP != atCode+want {
			t.Fatalf("step: %+v at %#x", e, b.c.State().RIP)
		}
	}
	b.vector = 0x40
	if o := b.resume(); o.vector != 0x40 {
		t.Errorf("%+v", o)
	}
	b.c.RemoveBreakpoint(atCode + 2)
	b.long()
	b.setReg(isa.RCX, 3)
	if e := b.c.Run(1 << 30); e.Reason != vcpu.ExitHalt {
		t.Fatalf("%+v", e)
	}
	// A deadline at a breakpoint's address does not lose it.
	b.long()
	b.setReg(isa.RCX, 3)
	b.c.AddBreakpoint(atCode + 2)
	b.c.Run(b.c.Instructions() + 1)
	if e := b.c.Run(1 << 30); e.Reason != vcpu.ExitBreakpoint {
		t.Fatalf("%+v", e)
	}
}

func TestWatchpoints(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	copy(b.ram[atCode:], unhex("88 04 25 00 e0 00 00 8a 04 25 00 e0 00 00 88 04 25 08 e0 00 00 f4"))
	for _, c := range []struct {
		kind WatchKind
		stop []uint64
	}{
		{WatchWrite, []uint64{7}},
		{WatchRead, []uint64{14}},
		{WatchBoth, []uint64{7, 14}},
	} {
		b.long()
		b.c.AddWatchpoint(atData, 4, c.kind)
		for _, rip := range c.stop {
			e := b.c.Run(1 << 30)
			if e.Reason != vcpu.ExitWatchpoint || e.Address != atData || b.c.State().RIP != atCode+rip {
				t.Fatalf("%+v at %#x", e, b.c.State().RIP)
			}
		}
		if e := b.c.Run(1 << 30); e.Reason != vcpu.ExitHalt {
			t.Fatalf("%+v", e)
		}
		b.c.RemoveWatchpoint(atData, 4, c.kind)
	}
	b.long()
	if e := b.c.Run(1 << 30); e.Reason != vcpu.ExitHalt {
		t.Fatalf("%+v", e)
	}
}

func TestReadWriteLinear(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.put64(pte(4, 0x80000), 0x90000|1) // read-only, supervisor
	b.put64(pte(4, 0x81000), 0)
	if n := b.c.WriteLinear(0x80ffe, []byte{1, 2, 3, 4}); n != 2 || b.ram[0x90ffe] != 1 || b.ram[0x90fff] != 2 {
		t.Errorf("wrote %d", n)
	}
	p := make([]byte, 4)
	if n := b.c.ReadLinear(0x80ffe, p); n != 2 || p[1] != 2 {
		t.Errorf("read %d", n)
	}
	if b.get64(pte(4, 0x80000))&(pteA|pteD) != 0 {
		t.Error("a debugger set A or D")
	}
	// Code that a debugger writes is decoded anew.
	b.expect("90 90", -1, 0)
	b.c.rip = atCode
	b.c.WriteLinear(atCode, []byte{0x0f, 0x0b})
	if o := b.resume(); o.vector != VectorUD {
		t.Errorf("%+v", o)
	}
}
