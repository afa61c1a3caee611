package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// TestTaskSwitch goes to a task by JMP, CALL and a gate of the IDT, and comes back by IRET and JMP.
func TestTaskSwitch(t *testing.T) {
	const nt = FlagNT
	for _, c := range []struct {
		name, code string
		length     uint64
		link       bool
	}{
		{"JMP to the TSS", jmpFar32(selTSS2, 0), 7, false},
		{"CALL to the TSS", callFar32(selTSS2, 0), 7, true},
		{"JMP to a task gate", jmpFar32(selTaskGate, 0), 7, false},
		{"CALL to a task gate", callFar32(selTaskGate, 0), 7, true},
		{"INT", "cd 60", 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.protected32()
			b.gate32(0x60, selTaskGate, 0, 0x85)
			b.taskGateTo(atUser)
			b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagDF })
			b.ram[atUser] = 0xf4
			for i := range uint64(8) {
				if i != 4 {
					b.setReg(uint8(i), 0x2000+i)
				}
			}
			b.exec(c.code)
			if b.c.rip != atUser+1 || b.c.tr.Selector != selTSS2 || b.c.tr.Attr&tssBusy == 0 || b.c.cr0&cr0TS == 0 {
				t.Fatalf("rip %#x TR %+v CR0 %#x", b.c.rip, b.c.tr, b.c.cr0)
			}
			b.wantReg(isa.RSI, 0x1006)
			b.wantReg(isa.RSP, topIST)
			// The old task is saved.
			if b.get32(atTSS+tssEIP) != atCode+c.length || b.get32(atTSS+tssGPR+4*6) != 0x2006 || b.get32(atTSS+tssGPR+4*4) != topKernel ||
				b.get32(atTSS+tssEFLAGS) != FlagDF|2 || b.get16(atTSS+tssSeg+4) != selCode32 {
				t.Errorf("saved: eip %#x esi %#x flags %#x", b.get32(atTSS+tssEIP), b.get32(atTSS+tssGPR+4*6), b.get32(atTSS+tssEFLAGS))
			}
			busy := func(sel uint64) bool { return b.get64(atGDT+sel)>>41&1 != 0 }
			if !busy(selTSS2) || busy(selTSS) != c.link {
				t.Errorf("busy: new %v old %v", busy(selTSS2), busy(selTSS))
			}
			if got := b.c.flags&nt != 0; got != c.link {
				t.Errorf("NT is %v", got)
			}
			if c.link && b.get16(atTSS2) != selTSS {
				t.Errorf("link %#x", b.get16(atTSS2))
			}
			// Back.
			back := "cf"
			if !c.link {
				back = jmpFar32(selTSS, 0)
			}
			copy(b.ram[atUser+1:], unhex(back))
			b.c.MemoryWritten(0, rigRAM)
			b.resume()
			if b.c.rip != atCode+c.length+1 || b.c.tr.Selector != selTSS || b.reg(isa.RSI) != 0x2006 || b.c.flags&nt != 0 {
				t.Errorf("after the return: rip %#x TR %#x flags %#x", b.c.rip, b.c.tr.Selector, b.c.flags)
			}
			if busy(selTSS2) || !busy(selTSS) {
				t.Errorf("busy after the return: new %v old %v", busy(selTSS2), busy(selTSS))
			}
			if got := b.get32(atTSS2+tssEFLAGS) & nt; got != 0 {
				t.Error("NT was saved by IRET")
			}
		})
	}
}

// TestTaskSwitchState loads CR3, LDTR and user segments of the new task.
func TestTaskSwitchState(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.taskGateTo(atUser)
	b.put64(atGDT+selLDT, systemSegment(atLDT, 0xf, 0x82))
	b.put64(atLDT+8, rigGDT[selUserData-3])
	for i := range uint64(6) {
		b.put32(atTSS2+tssSeg+i*4, selUserData)
	}
	b.put32(atTSS2+tssSeg+4, selUser32)
	b.put32(atTSS2+tssSeg+3*4, 8|4|3) // DS in the LDT
	b.put32(atTSS2+tssLDT, selLDT)
	b.put32(atTSS2+tssCR3, 0x30000)
	b.put32(atTSS2+tssEFLAGS, 2|FlagIF)
	b.put32(atTSS2+4, topRSP0)
	b.put32(atTSS2+8, selData)
	b.ram[atUser] = 0xcc
	// 32-bit paging, one to one, in two trees.
	for _, tree := range []uint64{atTables, 0x30000} {
		b.put32(tree, tree+0x1000|7)
		for i := range uint64(1024) {
			b.put32(tree+0x1000+i*4, i<<12|7)
		}
	}
	b.setState(func(s *vcpu.State) {
		s.CR0 |= cr0PG
		s.CR3 = atTables
		s.DR[7] = 0x3 // L0, G0
	})
	o := b.expect(jmpFar32(selTSS2, 0), VectorBP, 0)
	if o.cs != selUser32 || o.ss != selUserData || o.flags != 2|FlagIF || b.c.cr3 != 0x30000 || b.c.ldtr.Selector != selLDT {
		t.Errorf("%+v cr3 %#x LDTR %#x", o, b.c.cr3, b.c.ldtr.Selector)
	}
	if b.c.seg[isa.DS].Selector != 8|4|3 {
		t.Errorf("DS %#x", b.c.seg[isa.DS].Selector)
	}
	if b.c.dr[7] != dr7Fixed|2 {
		t.Errorf("DR7 %#x: local breakpoints stay", b.c.dr[7])
	}
}

// TestTaskSwitchFaults: faults of the old task leave it as it was, faults of the new one arrive in it.
func TestTaskSwitchFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(b *sysRig)
		vector int
		code   uint64
		inNew  bool
	}{
		{"not present", func(b *sysRig) { b.put64(atGDT+selTSS2, systemSegment(atTSS2, 0x67, 0x09)) }, VectorNP, selTSS2, false},
		{"busy", func(b *sysRig) { b.put64(atGDT+selTSS2, systemSegment(atTSS2, 0x67, 0x8b)) }, VectorGP, selTSS2, false},
		{"too small", func(b *sysRig) { b.put64(atGDT+selTSS2, systemSegment(atTSS2, 0x66, 0x89)) }, VectorTS, selTSS2, false},
		{"LDT beyond", func(b *sysRig) { b.put32(atTSS2+tssLDT, selBeyond) }, VectorTS, selBeyond, true},
		{"CS is data", func(b *sysRig) { b.put32(atTSS2+tssSeg+4, selData) }, VectorTS, selData, true},
		{"SS null", func(b *sysRig) { b.put32(atTSS2+tssSeg+8, 0) }, VectorTS, 0, true},
		{"DS execute-only", func(b *sysRig) { b.put32(atTSS2+tssSeg+12, selExecuteOnly) }, VectorTS, selExecuteOnly, true},
		{"DS not present", func(b *sysRig) { b.put32(atTSS2+tssSeg+12, selNotPresent) }, VectorNP, selNotPresent, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.protected32()
			b.taskGateTo(atUser)
			c.spoil(b)
			if c.inNew {
				// The new task's stack may be missing: take the fault in a third task.
				const tss3, sel3 = 0x3c00, 0xc0
				copy(b.ram[tss3:], b.ram[atTSS2:atTSS2+0x68])
				for i := range uint64(6) {
					b.put32(tss3+tssSeg+i*4, selData)
				}
				b.put32(tss3+tssSeg+4, selCode32)
				b.put32(tss3+tssLDT, 0)
				b.put32(tss3+tssEIP, atStubs+8*uint64(c.vector))
				b.put64(atGDT+sel3, systemSegment(tss3, 0x67, 0x89))
				b.gate32(c.vector, sel3, 0, 0x85)
			}
			o := b.exec(jmpFar32(selTSS2, 0))
			if o.vector != c.vector {
				t.Fatalf("%+v", o)
			}
			if !c.inNew {
				if o.code != c.code || o.rip != atCode || b.c.tr.Selector != selTSS {
					t.Errorf("%+v TR %#x", o, b.c.tr.Selector)
				}
				return
			}
			if code := b.get32(b.reg(isa.RSP)); code != c.code || b.get32(atTSS2+tssEIP) != atUser {
				t.Errorf("code %#x, eip of the new task %#x", code, b.get32(atTSS2+tssEIP))
			}
		})
	}
}

// TestDoubleFaultTask is what the i386 kernel does with a broken stack: #DF goes through a task gate.
func TestDoubleFaultTask(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.gate32(VectorDF, selTaskGate, 0, 0x85)
	b.taskGateTo(atUser)
	b.ram[atUser] = 0xf4
	b.setState(func(s *vcpu.State) { s.Seg[isa.SS] = limited(0xfff) })
	b.exec("50") // push over the limit: #SS, whose frame is over the limit too
	if b.c.tr.Selector != selTSS2 || b.c.rip != atUser+1 || b.get32(atTSS+tssEIP) != atCode {
		t.Errorf("TR %#x rip %#x, old eip %#x", b.c.tr.Selector, b.c.rip, b.get32(atTSS+tssEIP))
	}
	if b.get32(topIST-4) != 0 || b.reg(isa.RSP) != topIST-4 {
		t.Errorf("error code %#x at %#x", b.get32(topIST-4), b.reg(isa.RSP))
	}
}

func TestTaskTrap(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.taskGateTo(atUser)
	b.ram[atUser] = 0xf4
	b.put16(atTSS2+tssTrap, 1)
	o := b.expect(jmpFar32(selTSS2, 0), VectorDB, 0)
	if o.rip != atUser || b.c.dr[6]&dr6BT == 0 {
		t.Errorf("%+v DR6 %#x", o, b.c.dr[6])
	}
}

// TestTaskSwitch16 goes from a 32-bit task to a 16-bit one and back, and between two 16-bit ones (SDM vol. 3A, 7.6).
func TestTaskSwitch16(t *testing.T) {
	const available, busyTSS16 = 0x81, 0x83
	newTask := func(b *sysRig) {
		b.put64(atGDT+selTSS2, systemSegment(atTSS2, tss16Size-1, available))
		b.put16(atTSS2+tss16IP, atUser)
		b.put16(atTSS2+tss16FLAGS, 2|FlagDF)
		for i := range uint64(8) {
			b.put16(atTSS2+tss16GPR+i*2, 0x1000+i)
		}
		b.put16(atTSS2+tss16GPR+2*4, topIST)
		for i := range uint64(4) {
			b.put16(atTSS2+tss16Seg+i*2, selData)
		}
		b.put16(atTSS2+tss16Seg+2, selCode32)
		b.put16(atTSS2+tss16LDT, 0)
		b.put16(atTSS2+tss16Size, 0x5a5a) // not part of it
		copy(b.ram[atUser:], unhex("f4 cf"))
	}
	for _, c := range []struct {
		name  string
		old16 bool
	}{{"from a 32-bit task", false}, {"from a 16-bit task", true}} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.protected32()
			newTask(b)
			if c.old16 {
				b.put64(atGDT+selTSS, systemSegment(atTSS, tss16Size-1, busyTSS16))
			}
			b.setState(func(s *vcpu.State) {
				if c.old16 {
					s.TR.Attr &^= 8
					s.TR.Limit = tss16Size - 1
				}
				s.Seg[isa.FS] = s.Seg[isa.DS]
				s.CR3 = 0x12345000
			})
			b.setReg(isa.RSI, 0xabcd2006)
			b.exec(callFar32(selTSS2, 0))
			if b.c.rip != atUser+1 || b.c.tr.Selector != selTSS2 || b.c.tr.Attr&tssBusy == 0 || b.c.flags&(FlagDF|FlagNT) != FlagDF|FlagNT {
				t.Fatalf("rip %#x TR %+v flags %#x", b.c.rip, b.c.tr, b.c.flags)
			}
			if b.reg(isa.RSI) != 0xffff1006 || b.c.cr3 != 0x12345000 || b.get16(atTSS2) != selTSS {
				t.Errorf("esi %#x cr3 %#x link %#x", b.reg(isa.RSI), b.c.cr3, b.get16(atTSS2))
			}
			if fs := b.c.seg[isa.FS]; fs.Selector != 0 || fs.Attr&vcpu.AttrP != 0 {
				t.Errorf("FS %+v", fs)
			}
			want := uint64(0xabcd2006)
			if c.old16 {
				if b.get16(atTSS+tss16IP) != atCode+7 || b.get16(atTSS+tss16GPR+2*6) != 0x2006 || b.get16(atTSS+tss16Seg+2) != selCode32 {
					t.Errorf("saved: ip %#x si %#x", b.get16(atTSS+tss16IP), b.get16(atTSS+tss16GPR+2*6))
				}
				want &= 0xffff
			} else if b.get32(atTSS+tssEIP) != atCode+7 || b.get32(atTSS+tssGPR+4*6) != 0xabcd2006 {
				t.Errorf("saved: eip %#x esi %#x", b.get32(atTSS+tssEIP), b.get32(atTSS+tssGPR+4*6))
			}
			if !c.old16 {
				b.put32(atTSS+tssCR3, 0x12345000)
			}
			b.resume() // IRET
			got := b.reg(isa.RSI)
			if c.old16 {
				got &= 0xffff
			}
			if b.c.rip != atCode+8 || b.c.tr.Selector != selTSS || got != want || b.c.flags&FlagNT != 0 {
				t.Errorf("after the return: rip %#x TR %#x esi %#x flags %#x", b.c.rip, b.c.tr.Selector, got, b.c.flags)
			}
			if b.get16(atTSS2+tss16IP) != atUser+2 || b.get16(atTSS2+tss16FLAGS)&FlagNT != 0 || b.get16(atTSS2+tss16Size) != 0x5a5a {
				t.Errorf("saved by IRET: ip %#x flags %#x behind it %#x", b.get16(atTSS2+tss16IP), b.get16(atTSS2+tss16FLAGS), b.get16(atTSS2+tss16Size))
			}
		})
	}
	t.Run("too small", func(t *testing.T) {
		b := newSysRig(t, Config{})
		b.protected32()
		newTask(b)
		b.put64(atGDT+selTSS2, systemSegment(atTSS2, tss16Size-2, available))
		if o := b.expect(jmpFar32(selTSS2, 0), VectorTS, selTSS2); o.rip != atCode {
			t.Errorf("%+v", o)
		}
	})
}
