package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// jmpFar32 and callFar32 are far transfers with a 32-bit immediate pointer.
func jmpFar32(sel uint16, off uint64) string  { return "ea" + le(off, 4) + le(uint64(sel), 2) }
func callFar32(sel uint16, off uint64) string { return "9a" + le(off, 4) + le(uint64(sel), 2) }

func TestFarTransfers(t *testing.T) {
	for _, c := range []struct {
		name   string
		user   bool
		sel    uint16
		off    uint64
		vector int
		code   uint64
	}{
		{"kernel code", false, selCode32, atUser, VectorBP, 0},
		{"null", false, 0, atUser, VectorGP, 0},
		{"beyond", false, selBeyond, atUser, VectorGP, selBeyond},
		{"data", false, selData, atUser, VectorGP, selData},
		{"user code from CPL 0", false, selUser32, atUser, VectorGP, selUser32 &^ 3},
		{"RPL above CPL", false, selCode32 | 1, atUser, VectorGP, selCode32},
		{"not present", false, selCode1, atUser, VectorNP, selCode1},
		{"over the limit", false, selCode16, 0x10000, VectorGP, 0},
		{"a busy TSS", false, selTSS, 0, VectorGP, selTSS},
		{"LDT", false, selLDT, 0, VectorGP, selLDT},
		{"kernel code from CPL 3", true, selCode32, atUser, VectorGP, selCode32},
		{"conforming from CPL 3", true, selConforming, atUser + 0x100, VectorBP, 0},
		{"user code", true, selUser32, atUser + 0x100, VectorBP, 0},
		{"user code, RPL 0", true, selUser32 &^ 3, atUser + 0x100, VectorBP, 0},
	} {
		for _, call := range []bool{false, true} {
			b := newSysRig(t, Config{})
			b.protected32()
			b.put64(atGDT+selLDT, systemSegment(atLDT, 0xf, 0x82))
			if c.vector == VectorNP {
				b.put64(atGDT+selCode1, rigGDT[selCode32]&^(1<<47))
			}
			start := uint64(atCode)
			if c.user {
				b.user(selUser32)
				start = atUser
			}
			b.ram[c.off] = 0xcc
			code := jmpFar32(c.sel, c.off)
			if call {
				code = callFar32(c.sel, c.off)
			}
			sp := b.reg(isa.RSP)
			o := b.expect(code, c.vector, c.code)
			if c.vector != VectorBP {
				if o.rip != start || b.c.cpl != 0 {
					t.Errorf("%s: fault at %#x", c.name, o.rip)
				}
				continue
			}
			if o.rip != c.off+1 || uint8(o.cs&3) != uint8(start>>12&1)*3 {
				t.Errorf("%s: arrives at %#x:%#x", c.name, o.cs, o.rip)
			}
			if call && (b.get32(sp-8) != start+7 || b.get32(sp-4)&^3 != uint64(map[bool]uint16{false: selCode32, true: selUser32 &^ 3}[c.user])) {
				t.Errorf("%s: return address %#x:%#x", c.name, b.get32(sp-4), b.get32(sp-8))
			}
		}
	}
}

// TestFarReturn goes to and fro between privilege levels.
func TestFarReturn(t *testing.T) {
	b := newSysRig(t, Config{})
	for _, c := range []struct {
		name   string
		frame  []uint64
		code   string
		vector int
		err    uint64
		rsp    uint64
	}{
		{"same privilege", []uint64{atUser, selCode32}, "cb", VectorBP, 0, topKernel - 0x100 + 8 - 12},
		{"with release", []uint64{atUser, selCode32}, "ca 10 00", VectorBP, 0, topKernel - 0x100 + 8 + 0x10 - 12},
		{"to user", []uint64{atUser, selUser32, topUser, selUserData}, "cb", VectorBP, 0, topRSP0 - 20},
		{"to user with release", []uint64{atUser, selUser32, 0, 0, topUser, selUserData}, "ca 08 00", VectorBP, 0, topRSP0 - 20},
		{"null", []uint64{atUser, 0}, "cb", VectorGP, 0, 0},
		{"user, null stack", []uint64{atUser, selUser32, topUser, 0}, "cb", VectorGP, 0, 0},
		{"user, kernel stack", []uint64{atUser, selUser32, topUser, selData}, "cb", VectorGP, selData, 0},
		{"data", []uint64{atUser, selUserData, topUser, selUserData}, "cb", VectorGP, selUserData &^ 3, 0},
		{"inner", []uint64{atUser, selCode32 | 3, topUser, selUserData}, "cb", VectorGP, selCode32, 0},
	} {
		b.protected32()
		b.ram[atUser] = 0xcc
		b.iretFrame(4, c.frame...)
		o := b.expect(c.code, c.vector, c.err)
		if c.vector != VectorBP {
			continue
		}
		if o.rip != atUser+1 || b.reg(isa.RSP) != c.rsp {
			t.Errorf("%s: %+v rsp %#x", c.name, o, b.reg(isa.RSP))
		}
		if o.cs == selUser32 && (o.rsp != topUser+uint64(len(c.frame)-4)*4 || b.c.seg[isa.DS].Selector != 0) {
			t.Errorf("%s: user rsp %#x ds %#x", c.name, o.rsp, b.c.seg[isa.DS].Selector)
		}
	}
	// To a more privileged level is #GP.
	b.protected32()
	b.user(selUser32)
	b.setReg(isa.RSP, topUser-8)
	b.put32(topUser-8, atCode)
	b.put32(topUser-4, selCode32)
	b.expect("cb", VectorGP, selCode32)
	// 64-bit: RETFQ, and RETF with 32-bit slots.
	b.long()
	b.ram[atUser] = 0xcc
	b.iretFrame(8, atUser, selUser64, topUser, selUserData)
	if o := b.expect("48 cb", VectorBP, 0); o.cs != selUser64 || o.rsp != topUser {
		t.Errorf("%+v", o)
	}
	b.long()
	b.iretFrame(4, atUser, selUser32, topUser, selUserData)
	if o := b.expect("cb", VectorBP, 0); o.cs != selUser32 || o.rsp != topUser {
		t.Errorf("%+v", o)
	}
}

func TestCallGates(t *testing.T) {
	b := newSysRig(t, Config{})
	gate := func(sel uint16, attr uint8, params uint64) {
		b.put64(atGDT+selGate, gateBits(sel, atStubs+8*0x60, attr)|params<<32)
	}
	// From CPL 3 with two parameters to CPL 0.
	b.protected32()
	b.user(selUser32)
	gate(selCode32, 0xec, 2)
	b.exec("68 11 11 11 11 68 22 22 22 22" + callFar32(selGate|3, 0xdead))
	sp := b.reg(isa.RSP)
	want := []uint64{atUser + 17, selUser32, 0x22222222, 0x11111111, topUser - 8, selUserData}
	if sp != topRSP0-24 || b.c.cpl != 0 {
		t.Fatalf("rsp %#x cpl %d", sp, b.c.cpl)
	}
	for i, w := range want {
		if got := b.get32(sp + uint64(i)*4); got != w {
			t.Errorf("word %d: %#x, want %#x", i, got, w)
		}
	}
	// RET 8 goes back and releases the parameters on both stacks.
	copy(b.ram[atStubs+8*0x60+1:], unhex("ca 08 00"))
	copy(b.ram[atUser+17:], unhex("cc"))
	b.c.MemoryWritten(0, rigRAM)
	o := b.resume()
	if o.vector != VectorBP || o.rip != atUser+18 || o.rsp != topUser {
		t.Errorf("after RET: %+v", o)
	}
	for _, c := range []struct {
		name   string
		sel    uint16
		attr   uint8
		call   bool
		vector int
		code   uint64
	}{
		{"gate's DPL", selCode32, 0x8c, true, VectorGP, selGate},
		{"gate not present", selCode32, 0x6c, true, VectorNP, selGate},
		{"null", 0, 0xec, true, VectorGP, 0},
		{"data", selData, 0xec, true, VectorGP, selData},
		{"JMP to another privilege", selCode32, 0xec, false, VectorGP, selCode32},
	} {
		b.protected32()
		b.user(selUser32)
		gate(c.sel, c.attr, 0)
		code := jmpFar32(selGate|3, 0)
		if c.call {
			code = callFar32(selGate|3, 0)
		}
		b.expect(code, c.vector, c.code)
	}
	// 64-bit gates take no parameters and have 16 bytes; SS becomes null.
	b.long()
	b.user(selUser64)
	gate(selCode64, 0xec, 0)
	b.put64(atGDT+selGate+8, 0)
	b.put32(atData, 0)
	b.put16(atData+4, selGate|3)
	b.exec("ff 1c 25 00 e0 00 00") // call far [atData]
	sp = b.reg(isa.RSP)
	for i, w := range []uint64{atUser + 7, selUser64, topUser, selUserData} {
		if got := b.get64(sp + uint64(i)*8); got != w {
			t.Errorf("64-bit word %d: %#x, want %#x", i, got, w)
		}
	}
	if b.c.seg[isa.SS].Selector != 0 || b.c.cpl != 0 {
		t.Errorf("SS %#x cpl %d", b.c.seg[isa.SS].Selector, b.c.cpl)
	}
	b.long()
	b.user(selUser64)
	gate(selCode32, 0xec, 0)
	b.expect("ff 1c 25 00 e0 00 00", VectorGP, selCode32)
	b.long()
	b.user(selUser64)
	b.put64(atGDT+selGate+8, 1<<40)
	gate(selCode64, 0xec, 0)
	b.expect("ff 1c 25 00 e0 00 00", VectorGP, selGate)
	// Through a 16-bit gate at the same privilege.
	b.protected32()
	gate(selCode32, 0x84, 0)
	b.exec(callFar32(selGate, 0))
	if sp := b.reg(isa.RSP); sp != topKernel-4 || b.get16(sp) != atCode+7 || b.get16(sp+2) != selCode32 {
		t.Errorf("16-bit gate: rsp %#x", sp)
	}
}

func TestSyscall(t *testing.T) {
	b := newSysRig(t, Config{})
	enter := func() {
		b.long()
		b.user(selUser64)
		b.setState(func(s *vcpu.State) {
			s.MSR.STAR = 0x18<<48 | selCode64<<32
			s.MSR.LSTAR = atCode
			s.MSR.FMASK = FlagIF | FlagDF | FlagTF
			s.RFLAGS = FlagIF | FlagDF | FlagCF | FlagAC
		})
	}
	enter()
	b.ram[atCode] = 0xf4
	o := b.exec("0f 05")
	if o.vector != -1 || o.rip != atCode+1 || b.c.cpl != 0 || b.c.mode != isa.Mode64 {
		t.Fatalf("%+v cpl %d", o, b.c.cpl)
	}
	b.wantReg(isa.RCX, atUser+2)
	b.wantReg(isa.R11, FlagIF|FlagDF|FlagCF|FlagAC|2)
	b.wantReg(isa.RSP, topUser)
	if got := b.c.RFLAGS(); got != FlagCF|FlagAC|2 {
		t.Errorf("flags %#x", got)
	}
	if cs, ss := b.c.seg[isa.CS], b.c.seg[isa.SS]; cs != flatSegment(selCode64, attrCode64) || ss != flatSegment(selData, attrData32) {
		t.Errorf("CS %+v SS %+v", cs, ss)
	}
	// SYSRETQ goes back.
	b.ram[atUser+2] = 0xcc
	copy(b.ram[atCode+1:], unhex("48 0f 07"))
	b.c.MemoryWritten(0, rigRAM)
	o = b.resume()
	if o.vector != VectorBP || o.rip != atUser+3 || o.cs != selUser64 || o.ss != selUserData || o.flags != FlagIF|FlagDF|FlagCF|FlagAC|2 {
		t.Errorf("after SYSRET: %+v", o)
	}
	// SYSRETL goes to compatibility mode.
	b.long()
	b.setState(func(s *vcpu.State) { s.MSR.STAR = 0x18 << 48 })
	b.setReg(isa.RCX, 1<<32|atUser)
	b.setReg(isa.R11, FlagZF)
	b.ram[atUser] = 0xcc
	o = b.expect("0f 07", VectorBP, 0)
	if o.rip != atUser+1 || o.cs != 0x1b || o.ss != 0x23 {
		t.Errorf("after SYSRETL: %+v", o)
	}
	// Faults.
	b.long()
	b.setReg(isa.RCX, 1<<60)
	if o = b.expect("48 0f 07", VectorGP, 0); o.rip != atCode || o.cs != selCode64 {
		t.Errorf("SYSRET to a non-canonical address: %+v", o)
	}
	enter()
	b.expect("0f 07", VectorGP, 0)
	enter()
	b.setState(func(s *vcpu.State) { s.MSR.EFER &^= eferSCE })
	b.expect("0f 05", VectorUD, 0)
	b.protected32()
	b.expect("0f 05", VectorUD, 0)
}

func TestSysenter(t *testing.T) {
	b := newSysRig(t, Config{})
	msrs := func(s *vcpu.State) {
		s.MSR.SysenterCS, s.MSR.SysenterESP, s.MSR.SysenterEIP = selCode32, topIST, atCode
		s.RFLAGS |= FlagIF
	}
	b.protected32()
	b.user(selUser32)
	b.setState(msrs)
	b.ram[atCode] = 0xf4
	o := b.exec("0f 34")
	if o.vector != -1 || b.c.cpl != 0 || b.c.seg[isa.CS].Selector != selCode32 || b.c.seg[isa.SS].Selector != selCode32+8 || b.c.flags&FlagIF != 0 {
		t.Fatalf("%+v CS %+v", o, b.c.seg[isa.CS])
	}
	b.wantReg(isa.RSP, topIST)
	// SYSEXIT.
	b.protected32()
	b.setState(msrs)
	b.setReg(isa.RDX, atUser)
	b.setReg(isa.RCX, topUser)
	b.ram[atUser] = 0xcc
	o = b.expect("0f 35", VectorBP, 0)
	if o.cs != selCode32+16|3 || o.ss != selCode32+24|3 || o.rsp != topUser || o.rip != atUser+1 {
		t.Errorf("after SYSEXIT: %+v", o)
	}
	// From compatibility mode into 64-bit mode.
	b.long()
	b.user(selUser32)
	b.setState(msrs)
	b.ram[atCode] = 0xf4
	b.exec("0f 34")
	if b.c.mode != isa.Mode64 || b.c.cpl != 0 {
		t.Errorf("mode %d", b.c.mode)
	}
	// SYSEXIT with REX.W to 64-bit code.
	b.long()
	b.setState(msrs)
	b.setReg(isa.RDX, atUser)
	b.setReg(isa.RCX, topUser)
	b.ram[atUser] = 0xcc
	o = b.expect("48 0f 35", VectorBP, 0)
	if o.cs != selCode32+32|3 || o.ss != selCode32+40|3 {
		t.Errorf("after SYSEXITQ: %+v", o)
	}
	b.long()
	b.setState(msrs)
	b.setReg(isa.RDX, 1<<60)
	b.expect("48 0f 35", VectorGP, 0)
	// No SYSENTER_CS, real-address mode.
	b.protected32()
	b.setState(func(s *vcpu.State) { s.MSR.SysenterCS = 3 })
	b.expect("0f 34", VectorGP, 0)
	b.protected32()
	b.user(selUser32)
	b.setState(msrs)
	b.expect("0f 35", VectorGP, 0)
	b.real()
	b.setState(msrs)
	b.setState(func(s *vcpu.State) { s.RFLAGS = 2 })
	b.expect("0f 34", VectorGP, 0)
}

// TestModeSwitches walks from reset through real, protected, and long mode and back by code alone (SDM vol. 3A, 9.8.5, 9.9).
func TestModeSwitches(t *testing.T) {
	b := newSysRig(t, Config{})
	b.mapLow(4, 7)
	s := b.c.State()
	if s.RIP != 0xfff0 || s.Seg[isa.CS].Base != 0xffff0000 || s.CR0 != 0x60000010 || s.GPR[isa.RDX] != uint64(b.c.signature()) {
		t.Fatalf("reset state %+v", s)
	}
	b.setState(func(s *vcpu.State) {
		s.Seg[isa.CS] = vcpu.Segment{Attr: 0x93, Limit: 0xffff}
		s.RIP = atCode
	})
	// Tables for LGDT and LIDT.
	b.put16(0x5000, 0x1ff)
	b.put32(0x5002, atGDT)
	b.put16(0x5010, 0x7ff)
	b.put32(0x5012, atIDT)
	for v := range 256 {
		b.gate32(v, selCode32, atStubs+8*uint64(v), 0x8e)
	}
	at := uint64(atCode)
	add := func(code string) {
		c := unhex(code)
		copy(b.ram[at:], c)
		at += uint64(len(c))
	}
	add("fa 66 0f 01 16 00 50 0f 01 1e 10 50") // cli; lgdt [0x5000]; lidt [0x5010]
	add("0f 20 c0 0c 01 0f 22 c0")             // mov eax, cr0; or al, 1; mov cr0, eax
	add("66 ea" + le(at+8, 4) + le(selCode32, 2))
	add("66 b8 10 00 8e d8 8e c0 8e d0 bc 00 90 00 00") // mov ax, 0x10; mov ds/es/ss, ax; mov esp, 0x9000
	add("b8 20 00 00 00 0f 22 e0")                      // mov cr4, PAE
	add("b8" + le(atTables, 4) + "0f 22 d8")            // mov cr3
	add("b9 80 00 00 c0 0f 32 0d 01 09 00 00 0f 30")    // EFER: SCE, LME, NXE
	add("0f 20 c0 0d 00 00 00 80 0f 22 c0")             // CR0.PG
	add("ea" + le(at+7, 4) + le(selCode64, 2))
	add("48 b8 88 77 66 55 44 33 22 11 49 89 c0 f4") // mov rax, imm64; mov r8, rax; hlt
	b.resume()
	b.wantReg(isa.R8, 0x1122334455667788)
	if b.c.mode != isa.Mode64 || b.c.msr.EFER&eferLMA == 0 {
		t.Fatalf("mode %d EFER %#x", b.c.mode, b.c.msr.EFER)
	}
	// And back: compatibility mode, paging off, 16-bit code, real-address mode.
	start := at
	add("ff 2c 25" + le(atData, 4)) // jmp far [atData]
	b.put32(atData, at)
	b.put16(atData+4, selCode32)
	add("0f 20 c0 25 ff ff ff 7f 0f 22 c0")             // paging off
	add("b9 80 00 00 c0 0f 32 25 ff fe ff ff 0f 30")    // EFER.LME off
	add("ea" + le(at+7, 4) + le(selCode16, 2))          // 16-bit protected mode
	add("b8 50 00 8e d8 8e c0 8e d0 8e e0 8e e8")       // 64-KByte segments
	add("0f 20 c0 24 fe 0f 22 c0")                      // PE off
	add("ea" + le(at+5, 2) + le(0, 2))                  // jmp 0:next
	add("31 c0 8e d8 c7 06 00 e0 34 12 8c 0e 02 e0 f4") // ds = 0; [0xe000] = 0x1234; [0xe002] = cs; hlt
	b.c.MemoryWritten(0, rigRAM)
	b.c.rip = start
	b.resume()
	if b.get16(atData) != 0x1234 || b.get16(atData+2) != 0 || b.c.mode != isa.Mode16 || b.c.cr0&(cr0PE|cr0PG) != 0 {
		t.Errorf("%#x mode %d cr0 %#x", b.get32(atData), b.c.mode, b.c.cr0)
	}
}
