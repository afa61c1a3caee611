package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// TestSegmentLoads loads every kind of descriptor into data and stack segment registers (SDM vol. 3A, 5.6, 5.7).
func TestSegmentLoads(t *testing.T) {
	const movDS, movSS = "8e d8", "8e d0" // mov ds, ax; mov ss, ax
	for _, c := range []struct {
		name   string
		user   bool
		code   string
		sel    uint16
		vector int
		err    uint64
	}{
		{"data", false, movDS, selData, -1, 0},
		{"null", false, movDS, 0, -1, 0},
		{"null with RPL", false, movDS, 3, -1, 0},
		{"beyond the table", false, movDS, selBeyond, VectorGP, selBeyond},
		{"no LDT", false, movDS, 0xc, VectorGP, 0xc},
		{"read-only", false, movDS, selReadOnly, -1, 0},
		{"readable code", false, movDS, selCode32, -1, 0},
		{"execute-only code", false, movDS, selExecuteOnly, VectorGP, selExecuteOnly},
		{"a TSS", false, movDS, selTSS, VectorGP, selTSS},
		{"not present", false, movDS, selNotPresent, VectorNP, selNotPresent},
		{"user data at CPL 0", false, movDS, selUserData, -1, 0},
		{"RPL 3 of kernel data", false, movDS, selData | 3, VectorGP, selData},
		{"RPL 1 of DPL 1", false, movDS, selData1 | 1, -1, 0},
		{"kernel data at CPL 3", true, movDS, selData, VectorGP, selData},
		{"user data at CPL 3", true, movDS, selUserData, VectorBP, 0},
		{"user data, RPL 0", true, movDS, selUserData &^ 3, VectorBP, 0},
		{"conforming code at CPL 3", true, movDS, selConforming, VectorBP, 0},
		{"kernel code at CPL 3", true, movDS, selCode32, VectorGP, selCode32},
		{"stack", false, movSS, selData, -1, 0},
		{"stack null", false, movSS, 0, VectorGP, 0},
		{"stack RPL", false, movSS, selData | 1, VectorGP, selData},
		{"stack DPL", false, movSS, selUserData, VectorGP, selUserData &^ 3},
		{"stack read-only", false, movSS, selReadOnly, VectorGP, selReadOnly},
		{"stack code", false, movSS, selCode32, VectorGP, selCode32},
		{"stack not present", false, movSS, selNotPresent, VectorSS, selNotPresent},
		{"stack beyond", false, movSS, selBeyond, VectorGP, selBeyond},
		{"CS", false, "8e c8", selCode32, VectorUD, 0},
		{"user stack", true, movSS, selUserData, VectorBP, 0},
		{"user stack, RPL 0", true, movSS, selUserData &^ 3, VectorGP, selUserData &^ 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.protected32()
			code := c.code
			if c.user {
				b.user(selUser32)
				code += "cc"
			}
			b.setReg(isa.RAX, uint64(c.sel))
			before := b.c.seg
			o := b.expect(code, c.vector, c.err)
			if c.vector < 0 || c.vector == VectorBP {
				if got := b.get64(atGDT+uint64(c.sel&^7)) >> 40 & 1; !null(c.sel) && got == 0 {
					t.Error("the descriptor is not accessed")
				}
				return
			}
			if want := uint64(atCode); !c.user && o.rip != want {
				t.Errorf("rip %#x", o.rip)
			}
			if b.c.seg[isa.DS] != before[isa.DS] {
				t.Error("DS has changed")
			}
		})
	}
}

// TestNullStackSegment: 64-bit mode allows a null SS below CPL 3, if RPL is CPL.
func TestNullStackSegment(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.setReg(isa.RAX, 0)
	b.expect("8e d0 50 58", -1, 0)
	b.long()
	b.setReg(isa.RAX, 1)
	b.expect("8e d0", VectorGP, 0)
	b.long()
	b.user(selUser64)
	b.setReg(isa.RAX, 3)
	b.expect("8e d0", VectorGP, 0)
}

// TestSegmentChecks reads and writes through segments of every type, at and over their limits.
func TestSegmentChecks(t *testing.T) {
	const (
		read, write = "8b 03", "89 03"       // mov eax, [ebx]; mov [ebx], eax
		push        = "89 dc 50"             // mov esp, ebx; push eax
		readSS      = "36 8b 03"             // through SS
		readCS      = "2e 8b 03"             // through CS
		writeCS     = "2e 89 03"             //
		far         = "c5 33"                // lds esi, [ebx]
		sgdt        = "0f 01 03"             // 6 bytes
		lea         = "8d 03"                // no access
		and         = "83 23 00"             // and dword [ebx], 0
		cmpxchg8b   = "0f c7 0b"             //
		bound       = "62 03"                // bound eax, [ebx]
		enter       = "89 dc c8 10 00 00"    // mov esp, ebx; enter 16, 0
		call        = "89 dc e8 00 00 00 00" // mov esp, ebx; call next
		movdqu      = "f3 0f 6f 03"
	)
	for _, c := range []struct {
		name   string
		ds     vcpu.Segment
		code   string
		ebx    uint64
		vector int
	}{
		{"read below the limit", limited(0xfff), read, 0xffc, -1},
		{"read over the limit", limited(0xfff), read, 0xffd, VectorGP},
		{"write over the limit", limited(0xfff), write, 0xffd, VectorGP},
		{"read-modify-write over the limit", limited(0xfff), and, 0xffd, VectorGP},
		{"far pointer over the limit", limited(0xfff), far, 0xffb, VectorGP},
		{"8 bytes over the limit", limited(0xfff), cmpxchg8b, 0xff9, VectorGP},
		{"bounds over the limit", limited(0xfff), bound, 0xff9, VectorGP},
		{"SGDT over the limit", limited(0xfff), sgdt, 0xffb, VectorGP},
		{"SGDT at the limit", limited(0xfff), sgdt, 0xffa, -1},
		{"16 bytes over the limit", limited(0xfff), movdqu, 0xff1, VectorGP},
		{"LEA over the limit", limited(0xfff), lea, 0xffffff, -1},
		{"top of 4 GiB", seg(selData), read, 0xfffffffd, VectorGP},
		{"read read-only", seg(selReadOnly), read, atData, -1},
		{"write read-only", seg(selReadOnly), write, atData, VectorGP},
		{"read code", seg(selCode32), read, atData, -1},
		{"write code", seg(selCode32), write, atData, VectorGP},
		{"null", vcpu.Segment{}, read, atData, VectorGP},
		{"expand-down below", seg(selExpandDown), read, 0x1fff, VectorGP},
		{"expand-down above", seg(selExpandDown), read, 0x2000, -1},
		{"expand-down write", seg(selExpandDown), write, 0x2000, -1},
		{"expand-down top", seg(selExpandDown), read, 0xfffffffd, VectorGP},
		{"CS read", seg(selData), readCS, atData, -1},
		{"CS write", seg(selData), writeCS, atData, VectorGP},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.protected32()
			b.setState(func(s *vcpu.State) {
				s.Seg[isa.DS] = c.ds
				s.CR4 |= cr4OSFXSR
			})
			b.setReg(isa.RBX, c.ebx)
			b.setReg(isa.RAX, 0)
			b.expect(c.code, c.vector, 0)
		})
	}
	for _, c := range []struct {
		name   string
		ss     vcpu.Segment
		code   string
		ebx    uint64
		vector int
	}{
		{"push below 0", limited(0xffff), push, 2, VectorSS},
		{"push over the limit", limited(0xffff), push, 0x10002, VectorSS},
		{"push at the limit", limited(0xffff), push, 0x10000, -1},
		{"read through SS", limited(0xffff), readSS, 0xfffd, VectorSS},
		{"call over the limit", limited(0xffff), call, 0x10002, VectorSS},
		{"expand-down stack", seg(selExpandDown), push, 0x2003, VectorSS},
		{"expand-down stack above", seg(selExpandDown), push, 0x2004, -1},
		{"enter to below 0", limited(0xffff), enter, 0x10, VectorSS},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.protected32()
			// The handler must not use the broken stack.
			b.gate32(VectorSS, selTaskGate, 0, 0x85)
			b.taskGateTo(atStubs + 8*VectorSS)
			b.setState(func(s *vcpu.State) { s.Seg[isa.SS] = c.ss })
			b.setReg(isa.RBX, c.ebx)
			o := b.exec(c.code)
			if o.vector != c.vector {
				t.Errorf("vector %d", o.vector)
			}
		})
	}
}

func limited(limit uint32) vcpu.Segment {
	s := seg(selData)
	s.Limit = limit
	return s
}

// taskGateTo fills the second TSS with a task at CPL 0 that starts at eip, and the descriptors that lead to it.
func (b *sysRig) taskGateTo(eip uint64) {
	b.put64(atGDT+selTSS2, systemSegment(atTSS2, 0x67, 0x89))
	b.put64(atGDT+selTaskGate, gateBits(selTSS2, 0, 0x85))
	for v := range 256 {
		if b.get64(atIDT+uint64(v)*8)>>40&0x1f == typeTaskGate {
			b.put64(atIDT+uint64(v)*8, gateBits(selTSS2, 0, 0x85))
		}
	}
	b.put32(atTSS2+tssEIP, eip)
	b.put32(atTSS2+tssEFLAGS, 2)
	for i := range uint64(8) {
		b.put32(atTSS2+tssGPR+i*4, 0x1000+i)
	}
	b.put32(atTSS2+tssGPR+4*4, topIST)
	for i := range uint64(6) {
		b.put32(atTSS2+tssSeg+i*4, selData)
	}
	b.put32(atTSS2+tssSeg+4, selCode32)
	b.put32(atTSS2+tssLDT, 0)
	b.put32(atTSS2+tssTrap, 0)
}

func TestLDT(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.put64(atGDT+selLDT, systemSegment(atLDT, 0xf, 0x82))
	b.put64(atLDT+8, rigGDT[selData])
	b.setReg(isa.RAX, selLDT)
	b.setReg(isa.RCX, 8|4)
	b.expect("0f 00 d0 8e d9 0f 00 c2", -1, 0) // lldt ax; mov ds, cx; sldt edx
	b.wantReg(isa.RDX, selLDT)
	if b.c.seg[isa.DS].Selector != 0xc || b.c.seg[isa.DS].Attr&vcpu.AttrP == 0 {
		t.Errorf("DS %+v", b.c.seg[isa.DS])
	}
	b.protected32()
	b.setReg(isa.RAX, selLDT)
	b.setReg(isa.RCX, 0x14)
	b.expect("0f 00 d0 8e d9", VectorGP, 0x14) // beyond the LDT
	for _, c := range []struct {
		sel    uint16
		desc   uint64
		vector int
	}{
		{0, 0, -1},
		{selLDT | 4, 0, VectorGP},
		{selData, 0, VectorGP},
		{selBeyond, 0, VectorGP},
		{selLDT, systemSegment(atLDT, 0xf, 0x02), VectorNP},
		{selLDT, systemSegment(atLDT, 0xf, 0x89), VectorGP},
	} {
		b.protected32()
		b.put64(atGDT+selLDT, c.desc)
		b.setReg(isa.RAX, uint64(c.sel))
		code := uint64(0)
		if c.vector >= 0 {
			code = uint64(c.sel &^ 3)
		}
		b.expect("0f 00 d0", c.vector, code)
	}
	// At CPL 3 it is #GP, in real-address mode #UD.
	b.protected32()
	b.user(selUser32)
	b.expect("0f 00 d0", VectorGP, 0)
	b.real()
	b.expect("0f 00 d0", VectorUD, 0)
	// In long mode the descriptor has 16 bytes and a 64-bit base.
	b.long()
	b.put64(atGDT+selLDT, systemSegment(atLDT, 0xf, 0x82))
	b.put64(atGDT+selLDT+8, 0xffff8880)
	b.setReg(isa.RAX, selLDT)
	b.expect("0f 00 d0", -1, 0)
	if b.c.ldtr.Base != 0xffff888000000000|atLDT {
		t.Errorf("base %#x", b.c.ldtr.Base)
	}
	b.long()
	b.put64(atGDT+selLDT+8, 0x00008880)
	b.setReg(isa.RAX, selLDT)
	b.expect("0f 00 d0", VectorGP, selLDT)
}

func TestLTR(t *testing.T) {
	for _, c := range []struct {
		sel    uint16
		kind   uint8
		long   bool
		vector int
		code   uint64
	}{
		{selTSS2, 0x89, false, -1, 0},
		{selTSS2, 0x81, false, -1, 0},
		{selTSS2, 0x8b, false, VectorGP, selTSS2}, // busy
		{selTSS2, 0x09, false, VectorNP, selTSS2},
		{0, 0x89, false, VectorGP, 0},
		{selTSS2 | 4, 0x89, false, VectorGP, selTSS2 | 4},
		{selData, 0x89, false, VectorGP, selData},
		{selTSS2, 0x89, true, -1, 0},
		{selTSS2, 0x81, true, VectorGP, selTSS2}, // no 16-bit TSS in long mode
	} {
		b := newSysRig(t, Config{})
		b.protected32()
		if c.long {
			b.long()
		}
		b.put64(atGDT+selTSS2, systemSegment(atTSS2, 0x67, c.kind))
		b.put64(atGDT+selTSS2+8, 0)
		b.setReg(isa.RAX, uint64(c.sel))
		b.expect("0f 00 d8 0f 00 ca", c.vector, c.code) // ltr ax; str edx
		if c.vector < 0 {
			b.wantReg(isa.RDX, selTSS2)
			if b.get64(atGDT+selTSS2)>>41&1 == 0 || b.c.tr.Attr&tssBusy == 0 {
				t.Errorf("%+v: not busy", c)
			}
		}
	}
}

// TestDescriptorQueries is LAR, LSL, VERR, VERW and ARPL.
func TestDescriptorQueries(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.put64(atGDT+selLDT, systemSegment(atLDT, 0xf, 0x82))
	b.put64(atGDT+selTaskGate, gateBits(selTSS2, 0, 0x85))
	b.put64(atGDT+selGate, gateBits(selCode32, 0x1234, 0x8c))
	b.put64(atGDT+selTSS2, gateBits(selCode32, 0x1234, 0x8e)) // an interrupt gate
	type answer struct{ lar, lsl, verr, verw bool }
	for _, c := range []struct {
		sel  uint16
		user bool
		want answer
	}{
		{selData, false, answer{true, true, true, true}},
		{selData, true, answer{}},
		{selData | 3, false, answer{}},
		{selUserData, true, answer{true, true, true, true}},
		{selReadOnly, false, answer{true, true, true, false}},
		{selCode32, false, answer{true, true, true, false}},
		{selExecuteOnly, false, answer{true, true, false, false}},
		{selConforming, true, answer{true, true, true, false}},
		{selNotPresent, false, answer{true, true, true, true}}, // presence does not matter
		{selTSS, false, answer{true, true, false, false}},
		{selLDT, false, answer{true, true, false, false}},
		{selGate, false, answer{true, false, false, false}},
		{selTaskGate, false, answer{true, false, false, false}},
		{selTSS2, false, answer{}}, // an interrupt gate
		{0, false, answer{}},
		{selBeyond, false, answer{}},
	} {
		b.setState(func(s *vcpu.State) {
			s.Seg[isa.CS], s.Seg[isa.SS], s.RIP = seg(selCode32), seg(selData), atCode
			s.GPR[isa.RSP] = topKernel
		})
		if c.user {
			b.user(selUser32)
		}
		b.setReg(isa.RAX, uint64(c.sel))
		for i := isa.RCX; i <= isa.RDI; i++ {
			if i != isa.RSP {
				b.setReg(i, 0xeeeeeeee)
			}
		}
		// lar ecx, eax; setz bl; lsl edx, eax; setz bh; verr ax; setz [atData]; verw ax; setz [atData+1]; int3
		b.exec("0f 02 c8 0f 94 c3 0f 03 d0 0f 94 c7 0f 00 e0 0f 94 05 00 e0 00 00 0f 00 e8 0f 94 05 01 e0 00 00 cc")
		got := answer{b.reg(isa.RBX)&1 != 0, b.reg(isa.RBX)>>8&1 != 0, b.ram[atData] != 0, b.ram[atData+1] != 0}
		if got != c.want {
			t.Errorf("selector %#x user %v: %+v, want %+v", c.sel, c.user, got, c.want)
			continue
		}
		d := descriptor{low: b.get64(atGDT + uint64(c.sel&^7))}
		lar, lsl := uint64(0xeeeeeeee), uint64(0xeeeeeeee)
		if c.want.lar {
			lar = d.low >> 32 & 0xf0ff00
		}
		if c.want.lsl {
			lsl = uint64(d.segment(0).Limit)
		}
		b.wantReg(isa.RCX, lar)
		b.wantReg(isa.RDX, lsl)
	}
	// ARPL raises RPL and says so.
	b.protected32()
	b.setReg(isa.RAX, 0x10)
	b.setReg(isa.RCX, 3)
	b.expect("63 c8 0f 94 c3", -1, 0)
	b.wantReg(isa.RAX, 0x13)
	b.real()
	b.expect("63 c8", VectorUD, 0)
}

// TestPushPopSegments checks operand sizes and the faults of POP.
func TestPushPopSegments(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.put32(topKernel-4, 0xffffffff)
	b.expect("1e 5e", -1, 0) // push ds; pop esi
	b.wantReg(isa.RSI, selData)
	b.protected32()
	b.expect("68 78 00 00 00 07", VectorGP, selExecuteOnly) // push 0x78; pop es
	b.protected32()
	o := b.expect("6a 60 17", VectorSS, selNotPresent) // pop ss: the stack pointer stays
	if o.rip != atCode+2 {
		t.Errorf("rip %#x", o.rip)
	}
	b.long()
	b.expect("0f a0 58", -1, 0) // push fs; pop rax
	b.wantReg(isa.RAX, selData)
}

func TestFarPointerLoads(t *testing.T) {
	b := newSysRig(t, Config{})
	for op, reg := range map[string]uint8{"c4": isa.ES, "c5": isa.DS, "0f b2": isa.SS, "0f b4": isa.FS, "0f b5": isa.GS} {
		b.protected32()
		b.put32(atData, 0x12345678)
		b.put16(atData+4, selData16)
		b.expect(op+" 35 00 e0 00 00", -1, 0) // esi, [atData]
		b.wantReg(isa.RSI, 0x12345678)
		if b.c.seg[reg].Selector != selData16 {
			t.Errorf("%s: %#x", op, b.c.seg[reg].Selector)
		}
	}
	b.long()
	b.put64(atData, 0x123456789abcdef0)
	b.put16(atData+8, selData)
	b.expect("48 0f b4 34 25 00 e0 00 00", -1, 0) // lfs rsi, [atData]
	b.wantReg(isa.RSI, 0x123456789abcdef0)
}

// TestRealModeSegments: bases are selectors times 16, limits are 64 KiB, and cross-boundary words fault.
func TestRealModeSegments(t *testing.T) {
	b := newSysRig(t, Config{})
	b.real()
	b.put16(0x12340+0x10, 0xbeef)
	b.setReg(isa.RAX, 0x1234)
	b.expect("8e d8 a1 10 00", -1, 0) // mov ds, ax; mov ax, [0x10]
	b.wantReg(isa.RAX, 0xbeef)
	b.real()
	b.expect("a1 ff ff", VectorGP, 0)
	b.real()
	b.expect("36 a1 ff ff", VectorSS, 0)
	b.real()
	b.expect("2e c6 06 00 e0 77", -1, 0) // mov byte cs:[0xe000], 0x77: code can be written
	if b.ram[atData] != 0x77 {
		t.Error("the write is lost")
	}
	// Big offsets need a big limit, which stays after a visit to protected mode ("unreal mode").
	b.real()
	b.expect("67 66 a1 00 00 08 00", VectorGP, 0)
	b.real()
	b.setState(func(s *vcpu.State) { s.Seg[isa.DS].Limit = 0xffffffff })
	b.put32(0x80000, 0xcafebabe)
	b.expect("31 c0 8e d8 67 66 a1 00 00 08 00", -1, 0) // xor ax, ax; mov ds, ax; mov eax, [0x80000]
	b.wantReg(isa.RAX, 0xcafebabe)
}

func TestVM86(t *testing.T) {
	b := newSysRig(t, Config{})
	enter := func(iopl uint64) {
		b.protected32()
		b.setState(func(s *vcpu.State) {
			s.RFLAGS = 2 | FlagVM | iopl<<12
			for i := range s.Seg {
				s.Seg[i] = vcpu.Segment{Selector: 0x100, Base: 0x1000, Limit: 0xffff, Attr: 0xf3}
			}
			s.Seg[isa.CS] = vcpu.Segment{Selector: 0x700, Base: atUser, Limit: 0xffff, Attr: 0xf3}
			s.Seg[isa.SS] = vcpu.Segment{Selector: 0xc00, Base: 0xc000, Limit: 0xffff, Attr: 0xf3}
			s.RIP, s.GPR[isa.RSP] = 0, 0x800
		})
	}
	for _, c := range []struct {
		code   string
		iopl   uint64
		vector int
	}{
		{"fa", 0, VectorGP},
		{"fa cc", 3, VectorBP}, // cli
		{"9c", 0, VectorGP},
		{"9c cc", 3, VectorBP}, // pushf
		{"9d", 0, VectorGP},
		{"cf", 0, VectorGP},
		{"cd 80", 0, VectorGP},
		{"cd 80", 3, 0x80},
		{"cc", 0, VectorBP},
		{"f4", 3, VectorGP},
		{"0f 00 d0", 3, VectorUD}, // lldt
		{"0f 20 c0", 3, VectorGP}, // mov eax, cr0
		{"e4 10", 3, VectorGP},    // in al, 0x10: no bitmap
	} {
		enter(c.iopl)
		o := b.exec(c.code)
		if o.vector != c.vector {
			t.Errorf("%s with IOPL %d: vector %d, want %d", c.code, c.iopl, o.vector, c.vector)
		}
		if b.c.vm86() || b.c.cpl != 0 || b.c.seg[isa.DS].Selector != 0 {
			t.Errorf("%s: state of the handler: DS %+v", c.code, b.c.seg[isa.DS])
		}
		if o.flags&FlagVM == 0 || o.cs != 0x700 {
			t.Errorf("%s: frame %+v", c.code, o)
		}
	}
	// The frame has the data segments above SS; IRET goes back.
	enter(3)
	b.exec("89 e3 cc 8c d8") // mov bx, sp; int3; mov ax, ds
	sp := b.reg(isa.RSP)
	want := []uint64{3, 0x700, 2 | FlagVM | 3<<12, 0x800, 0xc00, 0x100, 0x100, 0x100, 0x100}
	for i, w := range want {
		if got := b.get32(sp + uint64(i)*4); got&^FlagRF != w {
			t.Errorf("frame %d: %#x, want %#x", i, got, w)
		}
	}
	b.ram[atStubs+8*VectorBP+1] = 0xcf
	o := b.resume()
	if o.vector != VectorGP || o.rip != 5 { // HLT in virtual-8086 mode
		t.Errorf("after IRET: %+v", o)
	}
	b.wantReg(isa.RAX, 0x100)
}

func TestSegmentErrorCodesAreSelectors(t *testing.T) {
	b := newSysRig(t, Config{})
	for _, sel := range []uint16{selBeyond, selBeyond | 4, selExecuteOnly | 3} {
		b.protected32()
		b.setReg(isa.RAX, uint64(sel))
		if o := b.exec("8e d8"); o.code != uint64(sel&^3) {
			t.Errorf("selector %#x gives code %#x", sel, o.code)
		}
	}
}
