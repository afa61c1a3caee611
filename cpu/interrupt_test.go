package cpu

import (
	"strings"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// TestSoftwareInterrupts checks INT n, INT3, INTO and INT1 against the privilege and presence of gates.
func TestSoftwareInterrupts(t *testing.T) {
	const int80, int81, int3, into, int1, int3cd = "cd 80", "cd 81", "cc", "b0 7f fe c0 ce", "f1", "cd 03"
	for _, c := range []struct {
		code   string
		user   bool
		vector int
		err    uint64
		rip    uint64 // offset of the return address
	}{
		{int80, false, 0x80, 0, 2},
		{int80, true, 0x80, 0, 2},
		{int81, false, 0x81, 0, 2},
		{int81, true, VectorGP, 0x81<<3 | 2, 0}, // the gate's DPL is 0
		{int3, true, VectorBP, 0, 1},
		{int3cd, true, VectorBP, 0, 2},
		{into, false, VectorOF, 0, 5},
		{into, true, VectorGP, VectorOF<<3 | 2, 4},
		{int1, true, VectorDB, 0, 1}, // INT1 does not check DPL
		{"0f 0b", true, VectorUD, 0, 0},
	} {
		b := newSysRig(t, Config{})
		b.protected32()
		start := uint64(atCode)
		if c.user {
			b.user(selUser32)
			start = atUser
		}
		o := b.expect(c.code, c.vector, c.err)
		if o.rip != start+c.rip {
			t.Errorf("%s user %v: return address +%d, want +%d", c.code, c.user, o.rip-start, c.rip)
		}
		fault := c.vector == VectorGP || c.vector == VectorUD
		if got := o.flags&FlagRF != 0; got != fault {
			t.Errorf("%s: RF is %v", c.code, got)
		}
		if c.user && (o.rsp != topUser || o.ss != selUserData || b.c.seg[isa.SS].Selector != selData) {
			t.Errorf("%s: frame %+v", c.code, o)
		}
		if c.code == int1 && b.c.dr[6] != dr6Fixed {
			t.Errorf("INT1 leaves DR6 %#x", b.c.dr[6])
		}
	}
	// INTO without OF goes on.
	b := newSysRig(t, Config{})
	b.protected32()
	b.expect("31 c0 ce", -1, 0)
}

// TestGateFaults breaks the gate, the handler's segment and the new stack of an interrupt from CPL 3 in turn.
func TestGateFaults(t *testing.T) {
	const at = 0x80
	gate := func(sel uint16, attr uint8) func(b *sysRig) {
		return func(b *sysRig) { b.gate32(at, sel, atStubs+8*at, attr) }
	}
	for _, c := range []struct {
		name   string
		spoil  func(b *sysRig)
		vector int
		code   uint64
	}{
		{"gate not present", gate(selCode32, 0x6e), VectorNP, at<<3 | 2},
		{"no gate", gate(selCode32, 0xe9), VectorGP, at<<3 | 2},
		{"a call gate", gate(selCode32, 0xec), VectorGP, at<<3 | 2},
		{"null handler", gate(0, 0xee), VectorGP, 0},
		{"handler beyond the GDT", gate(selBeyond, 0xee), VectorGP, selBeyond},
		{"handler is data", gate(selData, 0xee), VectorGP, selData},
		{"handler not present", func(b *sysRig) {
			b.put64(atGDT+selCode1, rigGDT[selCode32]&^(1<<47))
			gate(selCode1, 0xee)(b)
		}, VectorNP, selCode1},
		{"IDT limit", func(b *sysRig) { b.c.idtr.Limit = at*8 + 6 }, VectorGP, at<<3 | 2},
		{"handler's offset", func(b *sysRig) {
			b.put64(atGDT+selCode1, 0x00409a0000000fff)
			gate(selCode1, 0xee)(b)
		}, VectorGP, 0},
		{"null stack", func(b *sysRig) { b.put16(atTSS+8, 0) }, VectorDF, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.protected32()
			b.user(selUser32)
			c.spoil(b)
			if c.vector == VectorDF {
				// The new stack is broken for every handler: only a task can take it.
				b.gate32(VectorDF, selTaskGate, 0, 0x85)
				b.taskGateTo(atStubs + 8*VectorDF)
				if o := b.exec("cd 80"); o.vector != VectorDF {
					t.Errorf("vector %d", o.vector)
				}
				return
			}
			o := b.expect("cd 80", c.vector, c.code)
			if o.rip != atUser {
				t.Errorf("rip %#x", o.rip)
			}
		})
	}
	// A TSS that is too small, seen from inside.
	for limit, want := range map[uint32]bool{8: false, 9: true, 0x10: false} {
		b := newSysRig(t, Config{})
		b.protected32()
		b.put64(atTSS+8+8, selData1|1)
		b.c.tr.Limit = limit
		cpl := uint8(0)
		if limit == 0x10 {
			cpl = 1
		}
		if _, ok := b.c.innerStack(cpl, 0); ok != want || !ok && (b.c.exc.vector != VectorTS || b.c.exc.code != selTSS) {
			t.Errorf("TSS limit %#x: %v %s", limit, ok, b.c.exc.describe())
		}
	}
	// From CPL 0, a conforming handler stays at CPL 3; an exception sets EXT.
	b := newSysRig(t, Config{})
	b.protected32()
	b.gate32(VectorUD, selBeyond, 0, 0x8e)
	b.expect("0f 0b", VectorGP, selBeyond|1)
	b.protected32()
	b.gate32(VectorUD, selCode32, 0, 0x0e)
	b.expect("0f 0b", VectorNP, VectorUD<<3|2|1)
	b.protected32()
	b.user(selUser32)
	b.gate32(at, selConforming, atUser+0x10, 0xee)
	b.ram[atUser+0x10] = 0xf4
	o := b.expect("cd 80", VectorGP, 0) // HLT at CPL 3
	if o.rip != atUser+0x10 || o.cs != selConforming|3 {
		t.Errorf("conforming handler: %+v", o)
	}
}

// TestInterruptFlag: interrupt gates clear IF, trap gates do not; TF and NT are cleared by both.
func TestInterruptFlag(t *testing.T) {
	for _, long := range []bool{false, true} {
		for _, attr := range []uint8{0xee, 0xef} {
			b := newSysRig(t, Config{})
			if long {
				b.long()
				b.gate64(0x80, selCode64, atStubs+8*0x80, attr, 0)
			} else {
				b.protected32()
				b.gate32(0x80, selCode32, atStubs+8*0x80, attr)
			}
			b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagIF | FlagNT | FlagAC | FlagDF | FlagCF })
			o := b.expect("cd 80", 0x80, 0)
			if o.flags != FlagIF|FlagNT|FlagAC|FlagDF|FlagCF|2 {
				t.Errorf("saved flags %#x", o.flags)
			}
			want := FlagAC | FlagDF | FlagCF | 2
			if attr == 0xef {
				want |= FlagIF
			}
			if got := b.c.RFLAGS(); got != want {
				t.Errorf("long %v gate %#x: flags %#x, want %#x", long, attr, got, want)
			}
		}
	}
}

// Test16BitGates pushes 16-bit frames.
func Test16BitGates(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.gate32(0x80, selCode32, atStubs+8*0x80, 0xe6)
	b.put16(topKernel-2, 0xffff)
	b.exec("f9 cd 80") // stc
	sp := uint64(topKernel - 6)
	if b.reg(isa.RSP) != sp || b.get16(sp) != atCode+3 || b.get16(sp+2) != selCode32 || b.get16(sp+4) != 3 {
		t.Errorf("frame at %#x: %#x %#x %#x", b.reg(isa.RSP), b.get16(sp), b.get16(sp+2), b.get16(sp+4))
	}
}

func TestLongModeDelivery(t *testing.T) {
	b := newSysRig(t, Config{})
	// The frame is aligned, has SS:RSP even without a change of privilege.
	b.long()
	b.setReg(isa.RSP, topKernel-3)
	o := b.expect("cd 80", 0x80, 0)
	if o.rsp != topKernel-3 || o.ss != selData || b.reg(isa.RSP) != topKernel-16-40 {
		t.Errorf("frame %+v at %#x", o, b.reg(isa.RSP))
	}
	if b.c.seg[isa.SS].Selector != selData {
		t.Error("SS has changed")
	}
	// From CPL 3: RSP0, null SS.
	b.long()
	b.user(selUser64)
	o = b.expect("cd 80", 0x80, 0)
	if o.rsp != topUser || o.ss != selUserData || b.reg(isa.RSP) != topRSP0-40 || b.c.seg[isa.SS].Selector != 0 || b.c.cpl != 0 {
		t.Errorf("frame %+v at %#x", o, b.reg(isa.RSP))
	}
	// From compatibility mode.
	b.long()
	b.user(selUser32)
	if o = b.expect("cd 80", 0x80, 0); o.cs != selUser32 || b.c.mode != isa.Mode64 {
		t.Errorf("frame %+v", o)
	}
	// IST, at the same privilege too.
	b.long()
	b.gate64(0x80, selCode64, atStubs+8*0x80, 0xee, 1)
	if o = b.expect("cd 80", 0x80, 0); b.reg(isa.RSP) != topIST-40 || o.rsp != topKernel {
		t.Errorf("IST: %+v at %#x", o, b.reg(isa.RSP))
	}
	// Error codes sit below the frame.
	b.long()
	o = b.expect("66 b8 60 00 8e d8", VectorNP, selNotPresent)
	if o.rip != atCode+4 || b.reg(isa.RSP) != topKernel-48 {
		t.Errorf("frame %+v at %#x", o, b.reg(isa.RSP))
	}
	// Handlers must be 64-bit code; types other than E and F are refused; a stack must be canonical; so must the target.
	for _, c := range []struct {
		spoil  func()
		vector int
		code   uint64
	}{
		{func() { b.gate64(0x80, selCode32, 0, 0xee, 0) }, VectorGP, selCode32},
		{func() { b.gate64(0x80, selCode64, 0, 0xe6, 0) }, VectorGP, 0x80<<3 | 2},
		{func() { b.gate64(0x80, selCode64, 0, 0xe5, 0) }, VectorGP, 0x80<<3 | 2},
		{func() { b.gate64(0x80, selCode64, 0, 0x6e, 0) }, VectorNP, 0x80<<3 | 2},
		{func() { b.gate64(0x80, selCode64, 1<<60, 0xee, 0) }, VectorGP, 0},
		{func() { b.gate64(0x80, 0, 0, 0xee, 0) }, VectorGP, 0},
		{func() {
			b.gate64(0x80, selCode64, 0, 0xee, 2)
			b.put64(atTSS+0x2c, 1<<60)
		}, VectorSS, 0},
		{func() {
			b.gate64(0x80, selCode64, 0, 0xee, 2)
			b.c.tr.Limit = 0x2f
		}, VectorTS, selTSS},
		{func() { b.c.idtr.Limit = 0x80*16 + 14 }, VectorGP, 0x80<<3 | 2},
	} {
		b.long()
		c.spoil()
		o := b.expect("cd 80", c.vector, c.code)
		if o.rip != atCode {
			t.Errorf("rip %#x", o.rip)
		}
	}
}

// TestDoubleFault goes through SDM vol. 3A, table 6-5.
func TestDoubleFault(t *testing.T) {
	pageFault := "8a 04 25 00 00 20 00" // mov al, [0x200000]: not mapped
	gp := "66 b8 00 02 8e d8"           // mov ax, 0x200; mov ds, ax
	missing := func(vector int) func(b *sysRig) {
		return func(b *sysRig) { b.gate64(vector, selCode64, 0, 0x0e, 0) }
	}
	for _, c := range []struct {
		name   string
		spoil  func(b *sysRig)
		code   string
		vector int
		err    uint64
	}{
		{"benign then contributory", missing(VectorUD), "0f 0b", VectorNP, VectorUD<<3 | 3},
		{"contributory then contributory", missing(VectorGP), gp, VectorDF, 0},
		{"divide error then contributory", missing(VectorDE), "31 c9 f7 f1", VectorDF, 0},
		{"page fault then contributory", missing(VectorPF), pageFault, VectorDF, 0},
		{"contributory then page fault", func(b *sysRig) {
			b.gate64(VectorGP, selCode64, atStubs+8*VectorGP, 0x8e, 1)
			b.put64(atTSS+0x24, 0x200800) // not mapped
		}, gp, VectorPF, uint64(pfW)},
		{"page fault then page fault", func(b *sysRig) {
			b.gate64(VectorPF, selCode64, atStubs+8*VectorPF, 0x8e, 1)
			b.put64(atTSS+0x24, 0x200800)
		}, pageFault, VectorDF, 0},
		{"software interrupt then contributory", missing(0x80), "cd 80", VectorNP, 0x80<<3 | 2},
		{"INT 13 is benign", missing(VectorGP), "cd 0d", VectorNP, VectorGP<<3 | 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.long()
			c.spoil(b)
			b.expect(c.code, c.vector, c.err)
		})
	}
	t.Run("triple", func(t *testing.T) {
		b := newSysRig(t, Config{})
		b.long()
		missing(VectorGP)(b)
		missing(VectorDF)(b)
		copy(b.ram[atCode:], unhex(gp))
		e := b.c.Run(100)
		if e.Reason != vcpu.ExitShutdown {
			t.Fatalf("exit %v", e.Reason)
		}
		for _, part := range []string{"triple fault at 0x6004", "#GP(0x200)", "#DF(0x0)", "#NP(0x43)"} {
			if !strings.Contains(e.Detail, part) {
				t.Errorf("detail %q lacks %q", e.Detail, part)
			}
		}
	})
	t.Run("real mode", func(t *testing.T) {
		b := newSysRig(t, Config{})
		b.real()
		b.c.idtr.Limit = 0x10
		copy(b.ram[atCode:], unhex("cd 80"))
		if e := b.c.Run(100); e.Reason != vcpu.ExitShutdown {
			t.Fatalf("exit %v", e.Reason)
		}
	})
}

func TestRealModeInterrupts(t *testing.T) {
	b := newSysRig(t, Config{})
	b.real()
	b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagIF | FlagAC })
	o := b.expect("cd 21", 0x21, 0)
	if o.rip != atCode+2 || o.cs != 0 || o.flags != FlagIF|2 || b.reg(isa.RSP) != topKernel-6 {
		t.Errorf("frame %+v", o)
	}
	if b.c.flags&(FlagIF|FlagAC) != 0 {
		t.Errorf("flags %#x", b.c.flags)
	}
	// IRET returns.
	b.ram[atStubs+8*0x21+1] = 0xcf
	if o = b.resume(); o.vector != -1 || o.rip != atCode+3 || b.reg(isa.RSP) != topKernel || b.c.flags&FlagIF == 0 {
		t.Errorf("after IRET: %+v flags %#x", o, b.c.flags)
	}
	// A divide error returns to the instruction itself.
	b.real()
	if o = b.expect("31 c9 f7 f1", VectorDE, 0); o.rip != atCode+2 {
		t.Errorf("#DE at %#x", o.rip)
	}
}

// iretFrame writes a frame for IRET with slots of size bytes and points RSP at it.
func (b *sysRig) iretFrame(size uint64, words ...uint64) {
	at := uint64(topKernel - 0x100)
	b.setReg(isa.RSP, at)
	for i, w := range words {
		if size == 8 {
			b.put64(at+uint64(i)*8, w)
		} else {
			b.put32(at+uint64(i)*4, w)
		}
	}
}

func TestIRET64(t *testing.T) {
	for _, c := range []struct {
		name   string
		frame  [5]uint64 // RIP, CS, RFLAGS, RSP, SS
		vector int
		code   uint64
	}{
		{"to user", [5]uint64{atUser, selUser64, 0x202, topUser, selUserData}, VectorBP, 0},
		{"to compatibility mode", [5]uint64{atUser, selUser32, 0x202, topUser, selUserData}, VectorBP, 0},
		{"same privilege", [5]uint64{atUser, selCode64, 2, topUser, selData}, VectorBP, 0},
		{"same privilege, null SS", [5]uint64{atUser, selCode64, 2, topUser, 0}, VectorBP, 0},
		{"user with null SS", [5]uint64{atUser, selUser64, 2, topUser, 3}, VectorGP, 0},
		{"compatibility with null SS", [5]uint64{atUser, selCode32, 2, topUser, 0}, VectorGP, 0},
		{"null CS", [5]uint64{atUser, 0, 2, topUser, selData}, VectorGP, 0},
		{"CS is data", [5]uint64{atUser, selUserData, 2, topUser, selUserData}, VectorGP, selUserData &^ 3},
		{"CS beyond", [5]uint64{atUser, selBeyond, 2, topUser, selUserData}, VectorGP, selBeyond},
		{"DPL is not RPL", [5]uint64{atUser, selCode64 | 3, 2, topUser, selUserData}, VectorGP, selCode64},
		{"SS is of another privilege", [5]uint64{atUser, selUser64, 2, topUser, selData}, VectorGP, selData},
		{"SS RPL", [5]uint64{atUser, selUser64, 2, topUser, selUserData &^ 3}, VectorGP, selUserData &^ 3},
		{"SS not present", [5]uint64{atUser, selCode64, 2, topUser, selNotPresent}, VectorSS, selNotPresent},
		{"RIP not canonical", [5]uint64{1 << 60, selUser64, 2, topUser, selUserData}, VectorGP, 0},
		{"RIP over the limit", [5]uint64{1 << 31, selData1, 2, topUser, selUserData}, VectorGP, selData1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.long()
			b.ram[atUser] = 0xcc
			b.iretFrame(8, c.frame[:]...)
			o := b.expect("48 cf", c.vector, c.code)
			if c.vector == VectorBP {
				if o.rip != atUser+1 || o.cs != c.frame[1] || o.rsp != c.frame[3] || o.ss != c.frame[4] {
					t.Errorf("frame %+v", o)
				}
				if o.flags != c.frame[2] {
					t.Errorf("flags %#x", o.flags)
				}
			} else if o.rip != atCode || o.rsp != topKernel-0x100 {
				t.Errorf("fault at %#x, rsp %#x", o.rip, o.rsp)
			}
		})
	}
	// NT is #GP in long mode.
	b := newSysRig(t, Config{})
	b.long()
	b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagNT })
	b.iretFrame(8, atUser, selUser64, 2, topUser, selUserData)
	b.expect("48 cf", VectorGP, 0)
	// Segments that CPL 3 must not use become null.
	b.long()
	b.ram[atUser] = 0xcc
	b.setState(func(s *vcpu.State) {
		s.Seg[isa.ES] = seg(selUserData)
		s.Seg[isa.FS] = seg(selConforming)
	})
	b.iretFrame(8, atUser, selUser64, 2, topUser, selUserData)
	b.expect("48 cf", VectorBP, 0)
	if s := b.c.seg; s[isa.DS].Selector != 0 || s[isa.GS].Selector != 0 || s[isa.ES].Selector != selUserData || s[isa.FS].Selector != selConforming {
		t.Errorf("segments %+v", s)
	}
	// To a 16-bit stack only SP is loaded (what Linux calls espfix).
	b.long()
	b.put64(atGDT+selData16, 0x0000f2000000ffff)
	b.ram[atUser] = 0xcc
	b.iretFrame(8, atUser, selUser32, 2, 0x1234d000, selData16|3)
	o := b.expect("48 cf", VectorBP, 0)
	if o.rsp != 0xd000 {
		t.Errorf("RSP %#x: the upper half must be that of the old one", o.rsp)
	}
}

// TestIRETFlags: what CPL and IOPL let IRET change.
func TestIRETFlags(t *testing.T) {
	all := FlagCF | FlagIF | FlagDF | FlagIOPL | FlagNT | FlagAC | FlagID | FlagVIF | FlagVIP
	for _, c := range []struct {
		user bool
		iopl uint64
		want uint64
	}{
		{false, 0, all},
		{true, 0, all &^ (FlagIF | FlagIOPL | FlagVIF | FlagVIP)},
		{true, 3, all &^ (FlagVIF | FlagVIP)},
	} {
		b := newSysRig(t, Config{})
		b.long()
		frame := []uint64{atUser + 0x100, selCode64, all, topKernel, selData}
		if c.user {
			b.user(selUser64)
			frame = []uint64{atUser + 0x100, selUser64, all, topUser, selUserData}
		}
		b.setState(func(s *vcpu.State) { s.RFLAGS |= c.iopl << 12 })
		b.ram[atUser+0x100] = 0xcc
		b.iretFrame(8, frame...)
		o := b.expect("48 cf", VectorBP, 0)
		if o.flags&^2 != c.want {
			t.Errorf("user %v IOPL %d: flags %#x, want %#x", c.user, c.iopl, o.flags, c.want)
		}
	}
}

func TestIRET32(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.ram[atUser] = 0xcc
	b.iretFrame(4, atUser, selUser32, 0x202, topUser, selUserData)
	o := b.expect("cf", VectorBP, 0)
	if o.rsp != topUser || o.ss != selUserData || o.cs != selUser32 || o.flags != 0x202 {
		t.Errorf("frame %+v", o)
	}
	// Same privilege pops three words.
	b.protected32()
	b.iretFrame(4, atUser, selCode32, 2)
	b.expect("cf", VectorBP, 0)
	b.wantReg(isa.RSP, topKernel-0x100)
	// 16-bit operands.
	b.protected32()
	b.setReg(isa.RSP, topKernel-0x100)
	b.put64(topKernel-0x100, atUser|selCode32<<16|2<<32)
	b.expect("66 cf", VectorBP, 0)
	b.wantReg(isa.RSP, topKernel-0x100+6-12)
	for _, c := range []struct {
		frame  [5]uint64
		vector int
		code   uint64
	}{
		{[5]uint64{atUser, selUser32, 2, topUser, 0}, VectorGP, 0},
		{[5]uint64{atUser, selUser32, 2, topUser, selBeyond | 3}, VectorGP, selBeyond},
		{[5]uint64{atUser, 0, 2, topUser, 0}, VectorGP, 0},
	} {
		b.protected32()
		b.iretFrame(4, c.frame[:]...)
		b.expect("cf", c.vector, c.code)
	}
}

func TestNMI(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.c.SetNMI()
	o := b.expect("90 90", VectorNMI, 0)
	if o.rip != atCode {
		t.Errorf("rip %#x", o.rip)
	}
	if s := b.c.State(); !s.NMIBlocked || s.NMIPending {
		t.Errorf("blocked %v pending %v", s.NMIBlocked, s.NMIPending)
	}
	// A second one waits for IRET.
	b.c.SetNMI()
	copy(b.ram[atStubs+8*VectorNMI:], unhex("90 90 48 cf")) // nop; nop; iretq
	b.c.MemoryWritten(atStubs, 0x100)
	b.c.rip = atStubs + 8*VectorNMI
	e := b.c.Run(b.c.Instructions() + 2)
	if e.Reason != vcpu.ExitDeadline || b.c.State().RIP != atStubs+8*VectorNMI+2 {
		t.Fatalf("exit %v at %#x", e.Reason, b.c.State().RIP)
	}
	b.c.Run(b.c.Instructions() + 2) // IRET, then the NMI
	if s := b.c.State(); s.RIP != atStubs+8*VectorNMI || !s.NMIBlocked {
		t.Errorf("at %#x", s.RIP)
	}
	// An NMI wakes HLT and needs no IF.
	b.long()
	b.setState(func(s *vcpu.State) { s.NMIBlocked = false })
	b.expect("90", -1, 0)
	b.c.halted = true
	b.c.SetNMI()
	if e := b.c.Run(b.c.Instructions() + 1); e.Reason != vcpu.ExitDeadline || b.c.State().RIP != atStubs+8*VectorNMI {
		t.Errorf("exit %v at %#x", e.Reason, b.c.State().RIP)
	}
}

// TestInterruptShadow: STI and MOV SS hold interrupts back for one instruction.
func TestInterruptShadow(t *testing.T) {
	for _, c := range []struct {
		code string
		rip  uint64 // where the interrupt arrives
	}{
		{"fb 90 90", 2},          // sti; nop
		{"fb fb 90", 2},          // the second STI finds IF set and casts no shadow
		{"fb fa 90", 999},        // sti; cli: it never arrives
		{"fb f4", 2},             // sti; hlt
		{"90 fb 0f 1f 00 90", 5}, // the instruction after STI may be long
	} {
		b := newSysRig(t, Config{})
		b.long()
		b.vector = 0x40
		b.c.SetINTR(true)
		o := b.exec(c.code)
		if c.rip == 999 {
			if o.vector != -1 {
				t.Errorf("%s: %+v", c.code, o)
			}
			continue
		}
		if o.vector == -1 { // it halted: the interrupt wakes it
			o = b.resume()
		}
		if o.vector != 0x40 || o.rip != atCode+c.rip {
			t.Errorf("%s: vector %d at +%d, want +%d", c.code, o.vector, o.rip-atCode, c.rip)
		}
	}
	// With IF set, MOV SS and POP SS shield the next instruction, and MOV DS does not.
	for code, rip := range map[string]uint64{"8e d0 90 90": 3, "50 17 90 90": 3, "8e d8 90": 2} {
		b := newSysRig(t, Config{})
		b.protected32()
		b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagIF })
		b.setReg(isa.RAX, selData)
		b.vector = 0x40
		copy(b.ram[atCode:], append(unhex(code), 0xf4))
		// Raise the interrupt once the first instruction is about to run.
		n := uint64(1)
		if code[:2] == "50" {
			n = 2
		}
		b.c.Run(b.c.Instructions() + n)
		b.c.SetINTR(true)
		if o := b.resume(); o.vector != 0x40 || o.rip != atCode+rip {
			t.Errorf("%s: vector %d at +%d, want +%d", code, o.vector, o.rip-atCode, rip)
		}
	}
	// The shadow is part of the state.
	b := newSysRig(t, Config{})
	b.long()
	copy(b.ram[atCode:], unhex("fb 90 90 f4"))
	b.c.Run(b.c.Instructions() + 1)
	s := b.c.State()
	if !s.InterruptShadow {
		t.Fatal("no shadow")
	}
	b.vector = 0x40
	if err := b.c.SetState(s); err != nil {
		t.Fatal(err)
	}
	b.c.SetINTR(true)
	if o := b.resume(); o.rip != atCode+2 {
		t.Errorf("after a restored shadow at +%d", o.rip-atCode)
	}
}

// TestExternalInterrupt arrives between instructions when IF is set, and wakes HLT.
func TestExternalInterrupt(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.user(selUser64)
	b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagIF })
	b.vector = 0x41
	b.c.SetINTR(true)
	o := b.expect("90", 0x41, 0)
	if o.rip != atUser || o.flags&FlagIF == 0 || o.flags&FlagRF != 0 || b.c.flags&FlagIF != 0 {
		t.Errorf("frame %+v", o)
	}
	// CLI needs IOPL.
	b.long()
	b.user(selUser64)
	b.expect("fa", VectorGP, 0)
	b.long()
	b.user(selUser64)
	b.setState(func(s *vcpu.State) { s.RFLAGS |= FlagIOPL })
	b.expect("fa fb cc", VectorBP, 0)
	// Delivery counts as an instruction, so that a guest that faults without end still meets its deadline.
	b.long()
	b.gate64(VectorUD, selCode64, atStubs+8*VectorUD, 0x8e, 1)
	copy(b.ram[atStubs+8*VectorUD:], unhex("0f 0b"))
	copy(b.ram[atCode:], unhex("0f 0b"))
	b.c.MemoryWritten(0, rigRAM)
	from := b.c.Instructions()
	if e := b.c.Run(from + 1000); e.Reason != vcpu.ExitDeadline || b.c.Instructions() != from+1000 {
		t.Errorf("exit %v after %d", e.Reason, b.c.Instructions()-from)
	}
}

func TestStop(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	copy(b.ram[atCode:], unhex("eb fe")) // jmp $
	b.c.Stop()
	if e := b.c.Run(1 << 40); e.Reason != vcpu.ExitStopped {
		t.Errorf("exit %v", e.Reason)
	}
	done := make(chan vcpu.Exit)
	go func() { done <- b.c.Run(1 << 40) }()
	b.c.Stop()
	if e := <-done; e.Reason != vcpu.ExitStopped {
		t.Errorf("exit %v", e.Reason)
	}
}
