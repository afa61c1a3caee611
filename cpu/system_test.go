package cpu

import (
	"slices"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// TestControlRegisterChecks writes control registers with values that are refused (SDM vol. 2, MOV; vol. 3A, 2.5).
func TestControlRegisterChecks(t *testing.T) {
	const toCR0, toCR3, toCR4, toCR8 = "0f 22 c0", "0f 22 d8", "0f 22 e0", "44 0f 22 c0"
	running := cr0PG | cr0PE | cr0WP | cr0NE | cr0ET
	for _, c := range []struct {
		name, code string
		rax        uint64
		cr4        uint64
		vector     int
	}{
		{"CR0 as it is", toCR0, running, 0, -1},
		{"CR0 upper half", toCR0, running | 1<<32, 0, VectorGP},
		{"CR0 reserved bits are ignored", toCR0, running | 1<<6 | 1<<28, 0, -1},
		{"CR0 NW without CD", toCR0, running | cr0NW, 0, VectorGP},
		{"CR0 NW with CD", toCR0, running | cr0NW | cr0CD, 0, -1},
		{"CR0 PG without PE", toCR0, running &^ cr0PE, 0, VectorGP},
		{"CR0 PG off in 64-bit mode", toCR0, running &^ cr0PG, 0, VectorGP},
		{"CR3 reserved bits", toCR3, atTables | 1<<40, 0, VectorGP},
		{"CR3 bit 63 without PCID", toCR3, atTables | 1<<63, 0, VectorGP},
		{"CR3 bit 63 with PCID", toCR3, atTables | 1<<63, cr4PCIDE, -1},
		{"CR3 low bits", toCR3, atTables | 0xfff, 0, -1},
		{"CR4 VME, which is not there", toCR4, cr4PAE | 1, 0, VectorGP},
		{"CR4 PKE, which is not there", toCR4, cr4PAE | 1<<22, 0, VectorGP},
		{"CR4 reserved", toCR4, cr4PAE | 1<<31, 0, VectorGP},
		{"CR4 without PAE in long mode", toCR4, 0, 0, VectorGP},
		{"CR4 LA57 in long mode", toCR4, cr4PAE | cr4LA57, 0, VectorGP},
		{"CR4 PCIDE", toCR4, cr4PAE | cr4PCIDE, 0, -1},
		{"CR4 SMEP and SMAP", "0f 22 e0", cr4PAE | cr4UMIP, 0, -1},
		{"CR8", toCR8, 15, 0, -1},
		{"CR8 too big", toCR8, 16, 0, VectorGP},
		{"CR1", "0f 22 c8", 0, 0, VectorUD},
		{"CR5", "0f 20 e8", 0, 0, VectorUD},
		{"DR7 upper half", "0f 23 f8", 1 << 32, 0, VectorGP},
		{"DR6 upper half", "0f 23 f0", 1 << 32, 0, VectorGP},
	} {
		b := newSysRig(t, Config{})
		b.long()
		b.setState(func(s *vcpu.State) { s.CR4 |= c.cr4 })
		b.setReg(isa.RAX, c.rax)
		before := b.c.State()
		o := b.exec(c.code)
		if o.vector != c.vector {
			t.Errorf("%s: vector %d", c.name, o.vector)
		}
		if after := b.c.State(); c.vector >= 0 && (after.CR0 != before.CR0 || after.CR3 != before.CR3 || after.CR4 != before.CR4) {
			t.Errorf("%s: a refused value was stored", c.name)
		}
	}
	// A processor without global pages has no bit for them.
	b := newSysRig(t, Config{Model: DefaultModel &^ ModelPGE})
	b.long()
	b.setReg(isa.RAX, cr4PAE|cr4PGE)
	b.expect(toCR4, VectorGP, 0)
	// CR3 low bits must be clear when PCIDE is set.
	b = newSysRig(t, Config{})
	b.long()
	b.setState(func(s *vcpu.State) { s.CR3 |= 8 })
	b.setReg(isa.RAX, cr4PAE|cr4PCIDE)
	b.expect(toCR4, VectorGP, 0)
	// And not outside long mode.
	b.protected32()
	b.setReg(isa.RAX, cr4PCIDE)
	b.expect(toCR4, VectorGP, 0)
	// LME without PAE; LME with CS.L; PAE with bad PDPTEs.
	b.protected32()
	b.setState(func(s *vcpu.State) { s.MSR.EFER = eferLME })
	b.setReg(isa.RAX, running)
	b.expect(toCR0, VectorGP, 0)
	b.protected32()
	b.put64(atTables, 2|1)
	b.setState(func(s *vcpu.State) { s.CR3, s.CR4 = atTables, cr4PAE })
	b.setReg(isa.RAX, running)
	b.expect(toCR0, VectorGP, 0)
	// Every one of them is privileged.
	for _, code := range []string{
		toCR0, toCR3, "0f 20 c0", "0f 21 f8", "0f 23 f8", "0f 06", "0f 01 f0", "0f 01 14 25 00 00 00 00", "0f 08", "0f 09",
		"0f 30", "0f 32", "f4", "0f 01 d1", "0f 01 f8", "66 0f 38 82 0c 25 00 e0 00 00", "0f 01 3c 25 00 e0 00 00", "0f 33",
		"0f 01 1c 25 00 00 00 00", "0f 00 d0", "0f 00 d8", "48 0f 07",
	} {
		b := newSysRig(t, Config{})
		b.long()
		b.user(selUser64)
		b.setState(func(s *vcpu.State) { s.CR4 |= cr4OSXSAVE })
		if o := b.expect(code, VectorGP, 0); o.rip != atUser {
			t.Errorf("%s: rip %#x", code, o.rip)
		}
	}
}

func TestLMSW(t *testing.T) {
	b := newSysRig(t, Config{})
	b.protected32()
	b.setReg(isa.RAX, 0xe) // PE clear: it stays
	b.expect("0f 01 f0 0f 01 e3", -1, 0)
	if b.c.cr0&0xf != 0xf || b.reg(isa.RBX)&0xffff != b.c.cr0&0xffff {
		t.Errorf("CR0 %#x SMSW %#x", b.c.cr0, b.reg(isa.RBX))
	}
	b.protected32()
	b.setState(func(s *vcpu.State) { s.CR0 |= cr0TS })
	b.expect("0f 06", -1, 0)
	if b.c.cr0&cr0TS != 0 {
		t.Error("CLTS")
	}
}

func TestDescriptorTables(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.put16(atData, 0x7f)
	b.put64(atData+2, 0xffffffff81000000)
	b.expect("0f 01 1c 25 00 e0 00 00 0f 01 0c 25 10 e0 00 00", -1, 0) // lidt [atData]; sidt [atData+16]
	if b.c.idtr != (vcpu.Table{Base: 0xffffffff81000000, Limit: 0x7f}) || b.get64(atData+18) != 0xffffffff81000000 || b.get16(atData+16) != 0x7f {
		t.Errorf("IDTR %+v", b.c.idtr)
	}
	b.long()
	b.put64(atData+2, 1<<60)
	b.expect("0f 01 14 25 00 e0 00 00", VectorGP, 0)
	b.protected32()
	b.put64(atData, 0xab123456<<16|0x7f)
	b.expect("66 0f 01 1d 00 e0 00 00", -1, 0) // 24-bit base
	if b.c.idtr.Base != 0x123456 {
		t.Errorf("IDTR %+v", b.c.idtr)
	}
	// UMIP
	for _, code := range []string{"0f 01 04 25 00 e0 00 00", "0f 01 0c 25 00 e0 00 00", "0f 01 e0", "0f 00 c0", "0f 00 c8"} {
		for _, umip := range []bool{false, true} {
			b.long()
			b.user(selUser64)
			vector := VectorBP
			if umip {
				b.setState(func(s *vcpu.State) { s.CR4 |= cr4UMIP })
				vector = VectorGP
			}
			b.expect(code+"cc", vector, 0)
		}
	}
}

// TestMSRs reads and writes what Linux touches, and what must be refused (SDM vol. 4).
func TestMSRs(t *testing.T) {
	b := newSysRig(t, Config{})
	const bad = 1 << 60
	for _, c := range []struct {
		n       uint32
		good    []uint64
		refused []uint64
	}{
		{msrEFER, []uint64{eferSCE | eferNXE | eferLME}, []uint64{1 << 1, 1 << 9, 1 << 14, 1 << 63}},
		{msrSTAR, []uint64{0x0023001000000000, ^uint64(0)}, nil},
		{msrLSTAR, []uint64{0xffffffff81000000}, []uint64{bad}},
		{msrCSTAR, []uint64{0x00007fffffffffff}, []uint64{1 << 47}},
		{msrFMASK, []uint64{0x47700}, []uint64{1 << 32}},
		{msrFSBase, []uint64{0x7fff12345678, ^uint64(0)}, []uint64{bad}},
		{msrGSBase, []uint64{0xffff888000000000}, []uint64{bad}},
		{msrKernelGSBase, []uint64{0xffff888000000000}, []uint64{bad}},
		{msrTSCAux, []uint64{7}, []uint64{1 << 32}},
		{msrPAT, []uint64{0x0407050600070106}, []uint64{0x0407050600070102, 0x0307050600070106, 8}},
		{msrMTRRDefType, []uint64{0xc06, 0x806, 0}, []uint64{0x802, 0x1000}},
		{msrMTRRPhys, []uint64{0xc0000000 | 6, 0}, []uint64{7, 1 << 8, 1 << 40}},
		{msrMTRRPhys + 15, []uint64{0xffc0000800}, []uint64{1 << 10, 1 << 40}},
		{msrMTRRFix64K, []uint64{0x0606060606060606}, []uint64{0x0606060606060602}},
		{msrMTRRFix16K + 1, []uint64{0}, []uint64{7}},
		{msrMTRRFix4K + 7, []uint64{0x0505050505050505}, []uint64{3 << 56}},
		{msrSysenterCS, []uint64{0x10}, nil},
		{msrSysenterESP, []uint64{0xffffffff81000000}, []uint64{bad}},
		{msrSysenterEIP, []uint64{0xffffffff81000000}, []uint64{bad}},
		{msrTSCAdjust, []uint64{^uint64(0), 0, 12345}, nil},
		{msrMCGStatus, []uint64{0}, []uint64{1}},
		{msrDebugCtl, []uint64{0, 1, 2}, []uint64{1 << 6}},
	} {
		for _, v := range c.good {
			if !b.c.WriteMSR(c.n, v) {
				t.Errorf("MSR %#x refuses %#x", c.n, v)
			}
			if got, ok := b.c.ReadMSR(c.n); !ok || got != v {
				t.Errorf("MSR %#x: %#x reads as %#x %v", c.n, v, got, ok)
			}
		}
		before, _ := b.c.ReadMSR(c.n)
		for _, v := range c.refused {
			if b.c.WriteMSR(c.n, v) {
				t.Errorf("MSR %#x takes %#x", c.n, v)
			}
			if got, _ := b.c.ReadMSR(c.n); got != before {
				t.Errorf("MSR %#x has changed to %#x", c.n, got)
			}
		}
	}
	for _, n := range []uint32{0, 1, 0x48, 0x49, 0x3a, 0xe7, 0x17b, 0x210, 0x400, 0x800, 0x480, 0x4b564d00, 0xc0000104, 0xc0010015} {
		if _, ok := b.c.ReadMSR(n); ok {
			t.Errorf("MSR %#x can be read", n)
		}
		if b.c.WriteMSR(n, 0) {
			t.Errorf("MSR %#x can be written", n)
		}
	}
	for _, n := range []uint32{msrMTRRCap, msrPlatformID, msrMCGCap, msrArchCapabilities} {
		if _, ok := b.c.ReadMSR(n); !ok {
			t.Errorf("MSR %#x cannot be read", n)
		}
		if b.c.WriteMSR(n, 0) {
			t.Errorf("MSR %#x can be written", n)
		}
	}
	// By instruction, with the upper halves of the registers ignored and cleared.
	b.long()
	b.setReg(isa.RCX, 0xdead<<32|msrKernelGSBase)
	b.setReg(isa.RAX, 0xdead<<32|0x11111111)
	b.setReg(isa.RDX, 0xdead<<32|0xffff8888)
	b.expect("0f 30 0f 32", -1, 0)
	b.wantReg(isa.RAX, 0x11111111)
	b.wantReg(isa.RDX, 0xffff8888)
	b.long()
	b.setReg(isa.RCX, 0x48)
	if o := b.expect("0f 32", VectorGP, 0); o.rip != atCode {
		t.Errorf("rip %#x", o.rip)
	}
	// LME cannot change while paging is on; LMA never.
	if b.c.WriteMSR(msrEFER, eferSCE|eferNXE) {
		t.Error("LME was cleared under paging")
	}
	if !b.c.WriteMSR(msrEFER, eferLME|eferSCE) || b.c.msr.EFER&eferLMA == 0 {
		t.Error("LMA has changed")
	}
}

// TestTSC: RDTSC is exact wherever it stands in a block; TSC and TSC_ADJUST move together.
func TestTSC(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	from := b.c.Instructions()
	b.expect("90 90 90 0f 31 89 c3 90 0f 31", -1, 0) // nop*3; rdtsc; mov ebx, eax; nop; rdtsc
	b.wantReg(isa.RBX, (from+3)*2)                   // the rig's clock is twice the count
	b.wantReg(isa.RAX, (from+6)*2)
	if !b.c.WriteMSR(msrTSC, 1000000) || b.c.TSC() != 1000000 {
		t.Error("TSC")
	}
	if !b.c.WriteMSR(msrTSCAdjust, 1000000-b.TSC()) || b.c.TSC() != 1000000 {
		t.Error("TSC_ADJUST")
	}
	if want := []string{"TSC changed", "TSC changed"}; !slices.Equal(b.log, want) {
		t.Errorf("the platform was told %q", b.log)
	}
	adjust, _ := b.c.ReadMSR(msrTSCAdjust)
	if adjust != 1000000-b.TSC() {
		t.Errorf("TSC_ADJUST %d", int64(adjust))
	}
	b.long()
	b.setState(func(s *vcpu.State) { s.MSR.TSCAux = 5 })
	b.expect("0f 01 f9", -1, 0)
	b.wantReg(isa.RCX, 5)
	// CR4.TSD
	b.long()
	b.user(selUser64)
	b.expect("0f 31 cc", VectorBP, 0)
	b.long()
	b.user(selUser64)
	b.setState(func(s *vcpu.State) { s.CR4 |= cr4TSD })
	b.expect("0f 31", VectorGP, 0)
}

func TestFSGSBase(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.put64(atData, 0x1234)
	b.put64(0x80000, 0x5678)
	b.setState(func(s *vcpu.State) {
		s.Seg[isa.GS].Base = atData
		s.MSR.KernelGSBase = 0x80000
	})
	const load = "65 48 8b 04 25 00 00 00 00" // mov rax, gs:[0]
	b.expect(load+"48 89 c3 0f 01 f8"+load, -1, 0)
	b.wantReg(isa.RBX, 0x1234)
	b.wantReg(isa.RAX, 0x5678)
	if b.c.msr.KernelGSBase != atData {
		t.Errorf("KernelGSBase %#x", b.c.msr.KernelGSBase)
	}
	b.c.rip = atCode
	b.setReg(isa.RBX, atData)
	b.expect("f3 48 0f ae db"+load+"f3 48 0f ae c9", -1, 0) // wrgsbase rbx; load; rdgsbase rcx
	b.wantReg(isa.RAX, 0x1234)
	b.wantReg(isa.RCX, atData)
	b.long()
	b.setReg(isa.RBX, 1<<60)
	b.expect("f3 48 0f ae d3", VectorGP, 0) // wrfsbase
	b.long()
	b.setReg(isa.RBX, ^uint64(0))
	b.expect("f3 0f ae d3 f3 48 0f ae c1", -1, 0) // wrfsbase ebx; rdfsbase rcx
	b.wantReg(isa.RCX, 0xffffffff)
	b.long()
	b.setState(func(s *vcpu.State) { s.CR4 &^= cr4FSGSBASE })
	b.expect("f3 48 0f ae d3", VectorUD, 0)
	// Loading a null selector clears the base, as on Intel's processors.
	b.long()
	b.setState(func(s *vcpu.State) { s.Seg[isa.GS].Base = atData })
	b.expect("31 c0 8e e8", -1, 0)
	if b.c.seg[isa.GS].Base != 0 {
		t.Error("the base stays")
	}
}

func TestXCR0(t *testing.T) {
	b := newSysRig(t, Config{})
	try := func(xcr, v uint64, on bool, vector int) {
		t.Helper()
		b.long()
		if on {
			b.setState(func(s *vcpu.State) { s.CR4 |= cr4OSXSAVE })
		}
		b.setReg(isa.RCX, xcr)
		b.setReg(isa.RAX, v)
		b.setReg(isa.RDX, v>>32)
		b.expect("0f 01 d1", vector, 0)
	}
	try(0, 3, true, -1)
	try(0, 1, true, -1)
	try(0, 2, true, VectorGP)
	try(0, 7, true, VectorGP)
	try(0, 1<<32|3, true, VectorGP)
	try(1, 3, true, VectorGP)
	try(0, 3, false, VectorUD)
}

func TestRDRAND(t *testing.T) {
	run := func(seed uint64) (v [3]uint64) {
		b := newSysRig(t, Config{Seed: seed})
		b.long()
		b.expect("48 0f c7 f0 0f c7 f3 66 0f c7 f1", -1, 0) // rdrand rax; rdrand ebx; rdrand cx
		if b.c.RFLAGS() != FlagCF|2 {
			t.Errorf("flags %#x", b.c.RFLAGS())
		}
		return [3]uint64{b.reg(isa.RAX), b.reg(isa.RBX), b.reg(isa.RCX)}
	}
	a, again, other := run(1), run(1), run(2)
	if a != again || a == other || a[1]>>32 != 0 || a[2]>>16 != 0 || a[0] == 0 {
		t.Errorf("%x %x %x", a, again, other)
	}
	// The generator is part of the state.
	b := newSysRig(t, Config{Seed: 9})
	b.long()
	s := b.c.State()
	b.expect("48 0f c7 f0", -1, 0)
	first := b.reg(isa.RAX)
	if err := b.c.SetState(s); err != nil {
		t.Fatal(err)
	}
	b.expect("48 0f c7 f0", -1, 0)
	b.wantReg(isa.RAX, first)
}

func TestCPUID(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.setReg(isa.RAX, 0xdead<<32)
	b.expect("0f a2", -1, 0)
	vendor := le32(b.reg(isa.RBX)) + le32(b.reg(isa.RDX)) + le32(b.reg(isa.RCX))
	if vendor != "GenuineIntel" || b.reg(isa.RAX) != maxLeaf {
		t.Errorf("vendor %q, max %#x", vendor, b.reg(isa.RAX))
	}
	name := ""
	for leaf := uint32(0x80000002); leaf <= 0x80000004; leaf++ {
		a, bx, cx, d := b.c.CPUID(leaf, 0)
		for _, v := range []uint32{a, bx, cx, d} {
			name += le32(uint64(v))
		}
	}
	if strings.TrimRight(name, "\x00") != "emu virtual CPU" {
		t.Errorf("name %q", name)
	}
	// OSXSAVE follows CR4.
	_, _, ecx, _ := b.c.CPUID(1, 0)
	b.c.cr4 |= cr4OSXSAVE
	if _, _, now, _ := b.c.CPUID(1, 0); now != ecx|1<<27 {
		t.Errorf("ECX %#x, then %#x", ecx, now)
	}
	if ecx>>31 != 0 {
		t.Error("the hypervisor bit is set")
	}
	// A leaf beyond the last shows the last.
	a, _, _, _ := b.c.CPUID(0x40000000, 0)
	if want, _, _, _ := b.c.CPUID(maxLeaf, 0); a != want {
		t.Errorf("leaf 0x40000000: %#x", a)
	}
}

func le32(v uint64) string {
	return string([]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)})
}

// TestCPUIDIsHonest: what a processor does not report it does not have, instruction by instruction and bit by bit.
func TestCPUIDIsHonest(t *testing.T) {
	for _, c := range []struct {
		feat isa.Feature
		code string
	}{
		{isa.FeatRDRAND, "0f c7 f0"},
		{isa.FeatRDSEED, "0f c7 f8"},
		{isa.FeatRDTSCP, "0f 01 f9"},
		{isa.FeatSMAP, "0f 01 cb"},
		{isa.FeatFSGSBASE, "f3 48 0f ae c1"},
		{isa.FeatINVPCID, "66 0f 38 82 0c 25 00 e0 00 00"},
		{isa.FeatXSAVE, "0f 01 d0"},
		{isa.FeatMOVBE, "0f 38 f0 04 25 00 e0 00 00"},
		{isa.FeatPOPCNT, "f3 0f b8 c1"},
		{isa.FeatMONITOR, "0f 01 c8"},
		{isa.FeatVMX, "0f 01 c1"},
		{isa.FeatSVM, "0f 01 d9"},
	} {
		if c.code == "0f 01 c1" || c.code == "0f 01 d9" || c.feat == isa.FeatMONITOR {
			if DefaultFeatures.Has(c.feat) {
				t.Errorf("%v is on by default", c.feat)
			}
		}
		b := newSysRig(t, Config{Features: DefaultFeatures &^ isa.Features(c.feat)})
		b.long()
		b.setState(func(s *vcpu.State) { s.CR4 = cr4PAE | b.c.cr4Allowed()&(cr4FSGSBASE|cr4OSXSAVE) })
		b.expect(c.code, VectorUD, 0)
	}
	b := newSysRig(t, Config{Model: ModelNX})
	for _, bit := range []uint64{cr4SMEP, cr4PCIDE, cr4LA57, cr4UMIP, cr4PGE} {
		if b.c.cr4Allowed()&bit != 0 {
			t.Errorf("CR4 bit %#x is there", bit)
		}
	}
	if b.c.WriteMSR(msrTSCDeadline, 0) {
		t.Error("TSC_DEADLINE is there")
	}
	// What is not implemented must not be reported: every feature that is on has a handler for each of its rows.
	for r := range isa.Rows {
		if r.Feature != isa.FeatNone && DefaultFeatures.Has(r.Feature) && b.c.table[r.Op] == nil {
			t.Errorf("%v is reported, and %v (%s) has no handler", r.Feature, r.Op, r.Enc)
		}
		if r.Feature == isa.FeatNone && b.c.table[r.Op] == nil {
			t.Errorf("%v (%s) has no handler", r.Op, r.Enc)
		}
	}
}

// TestStateRoundTrip takes a state over after any instruction of a program and gets the same end.
func TestStateRoundTrip(t *testing.T) {
	code := unhex("fb b8 34 12 00 00 50 9d 0f a2 d9 e8 d9 eb 66 0f ef c0 8e d0 90 0f c7 f0 f4")
	run := func(cut int) vcpu.State {
		b := newSysRig(t, Config{})
		b.long()
		copy(b.ram[atCode:], code)
		b.setReg(isa.RAX, selData)
		for i := 0; i < 40; i++ {
			if i == cut {
				b.setState(func(*vcpu.State) {})
			}
			if e := b.c.Run(b.c.Instructions() + 1); e.Reason == vcpu.ExitHalt {
				break
			}
		}
		return b.c.State()
	}
	want := run(-1)
	for cut := range 16 {
		if got := run(cut); got != want {
			t.Fatalf("cut after %d:\n%+v\nwant\n%+v", cut, got, want)
		}
	}
}

func TestSetStateRefuses(t *testing.T) {
	b := newSysRig(t, Config{})
	for i, spoil := range []func(s *vcpu.State){
		func(s *vcpu.State) { s.CR0 = cr0PG },
		func(s *vcpu.State) { s.CR4 = 1 << 31 },
		func(s *vcpu.State) { s.MSR.EFER = eferLMA },
		func(s *vcpu.State) { s.CR0, s.MSR.EFER = cr0PG|cr0PE, eferLMA|eferLME },
		func(s *vcpu.State) { s.FPU.XCR0 = 7 },
	} {
		s := b.c.State()
		spoil(&s)
		if b.c.SetState(s) == nil {
			t.Errorf("state %d is accepted", i)
		}
	}
}

func TestHLTWithPendingInterrupt(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	copy(b.ram[atCode:], unhex("fb f4 90 f4"))
	if e := b.c.Run(1 << 30); e.Reason != vcpu.ExitHalt || !b.c.State().Halted {
		t.Fatal("no halt")
	}
	if e := b.c.Run(1 << 30); e.Reason != vcpu.ExitHalt {
		t.Fatalf("a halted CPU returns %v", e.Reason)
	}
	b.vector = 0x40
	b.c.SetINTR(true)
	if o := b.resume(); o.vector != 0x40 || o.rip != atCode+2 {
		t.Errorf("%+v", o)
	}
}

// TestSystemFuzz executes random bytes in every mode with the tables of a sysRig: nothing may panic or hang.
func TestSystemFuzz(t *testing.T) {
	rounds := 600
	if testing.Short() {
		rounds = 60
	}
	r := newRandom(1)
	for i := range rounds {
		b := newSysRig(t, Config{Features: isa.AllFeatures})
		switch i % 4 {
		case 0:
			b.long()
		case 1:
			b.protected32()
		case 2:
			b.real()
		case 3:
			b.long()
			b.user([]uint16{selUser64, selUser32}[i/4%2])
		}
		ops := []string{"0f 01", "0f 00", "0f 20", "0f 22", "0f 23", "cf", "48 cf", "cb", "8e", "0f 30", "ea", "9a", "cd", "0f 34", "0f 07", "0f c7", "0f ae", "ff"}
		at := b.c.rip
		for j := range uint64(64) {
			b.ram[at+j] = byte(r.Uint32())
			if r.IntN(6) == 0 {
				copy(b.ram[at+j:], unhex(ops[r.IntN(len(ops))]))
			}
		}
		for reg := range uint8(16) {
			b.c.r[reg] = []uint64{r.Uint64(), uint64(r.IntN(0x10000)), selData, selUser64, 0}[r.IntN(5)]
		}
		for range 5 {
			e := b.c.Run(b.c.Instructions() + 200)
			if e.Reason == vcpu.ExitHalt || e.Reason == vcpu.ExitShutdown || e.Reason == vcpu.ExitUnsupported {
				break
			}
		}
		if b.c.cpl > 3 || b.c.ctx>>54 == 0 {
			t.Fatalf("round %d: CPL %d context %#x", i, b.c.cpl, b.c.ctx)
		}
		if b.c.r[isa.RegNone] != 0 {
			t.Fatalf("round %d: the empty register holds %#x", i, b.c.r[isa.RegNone])
		}
	}
}
