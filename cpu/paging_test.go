package cpu

import (
	"fmt"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// form is one form of paging and how to map a page under it.
type form struct {
	name string
	mode pagingMode
	la   uint64
	// build maps la to pa by entries with the given bits, one set for each level, the leaf last, and returns the
	// addresses of the entries.
	build func(b *sysRig, la, pa uint64, bits []uint64) []uint64
	depth int
	wide  bool
	shift uint
}

// walkTables makes a chain of 8-byte tables from the given level down to the level of the leaf.
func walkTables(level, leaf int) func(b *sysRig, la, pa uint64, bits []uint64) []uint64 {
	return func(b *sysRig, la, pa uint64, bits []uint64) (at []uint64) {
		table := uint64(atTables)
		for l := level; ; l-- {
			e := table + la>>(12+9*(l-1))&511*8
			i := level - l
			at = append(at, e)
			if l == leaf {
				ps := uint64(0)
				if l > 1 {
					ps = ptePS
				}
				b.put64(e, pa|bits[i]|ps)
				return at
			}
			b.put64(e, table+0x1000|bits[i])
			table += 0x1000
		}
	}
}

var forms = []form{
	{"32-bit", paging32, 0x12345000, func(b *sysRig, la, pa uint64, bits []uint64) []uint64 {
		pde, pt := atTables+la>>22*4, uint64(atTables+0x1000)
		b.put32(pde, pt|bits[0])
		b.put32(pt+la>>12&1023*4, pa|bits[1])
		return []uint64{pde, pt + la>>12&1023*4}
	}, 2, false, 12},
	{"32-bit 4M", paging32, 0x12400000, func(b *sysRig, la, pa uint64, bits []uint64) []uint64 {
		pde := atTables + la>>22*4
		b.put32(pde, pa|bits[0]|ptePS)
		return []uint64{pde}
	}, 1, false, 22},
	{"PAE", pagingPAE, 0x92345000, func(b *sysRig, la, pa uint64, bits []uint64) []uint64 {
		b.put64(atTables+la>>30*8, atTables+0x1000|1)
		pde, pt := atTables+0x1000+la>>21&511*8, uint64(atTables+0x2000)
		b.put64(pde, pt|bits[0])
		b.put64(pt+la>>12&511*8, pa|bits[1])
		return []uint64{pde, pt + la>>12&511*8}
	}, 2, true, 12},
	{"PAE 2M", pagingPAE, 0x92200000, func(b *sysRig, la, pa uint64, bits []uint64) []uint64 {
		b.put64(atTables+la>>30*8, atTables+0x1000|1)
		pde := atTables + 0x1000 + la>>21&511*8
		b.put64(pde, pa|bits[0]|ptePS)
		return []uint64{pde}
	}, 1, true, 21},
	{"4-level", paging4, 0xffff888012345000, walkTables(4, 1), 4, true, 12},
	{"4-level 2M", paging4, 0xffff888012200000, walkTables(4, 2), 3, true, 21},
	{"4-level 1G", paging4, 0xffff888040000000, walkTables(4, 3), 2, true, 30},
	{"5-level", paging5, 0xff11000012345000, walkTables(5, 1), 5, true, 12},
	{"5-level 2M", paging5, 0xff11000012200000, walkTables(5, 2), 4, true, 21},
	{"5-level 1G", paging5, 0xff11000040000000, walkTables(5, 3), 3, true, 30},
}

// enter switches the CPU to a form of paging, at CPL 0.
func (f *form) enter(b *sysRig) {
	b.t.Helper()
	b.setState(func(s *vcpu.State) {
		s.CR0 = cr0PG | cr0PE | cr0WP | cr0ET
		s.CR3 = atTables
		s.CR4 = cr4PSE
		s.MSR.EFER = 0
		if f.mode >= pagingPAE {
			s.CR4 |= cr4PAE
			s.MSR.EFER = eferNXE
		}
		if f.mode >= paging4 {
			s.MSR.EFER |= eferLME | eferLMA
		}
		if f.mode == paging5 {
			s.CR4 |= cr4LA57
		}
		for i := range s.Seg {
			s.Seg[i] = seg(selData)
		}
		s.Seg[isa.CS] = seg(selCode32)
		s.PDPTE = [4]uint64{}
	})
	if f.mode == pagingPAE && !b.c.loadPDPTEs(atTables) {
		b.t.Fatal("PDPTEs are refused")
	}
}

func repeat(v uint64, n int) []uint64 {
	s := make([]uint64, n)
	for i := range s {
		s[i] = v
	}
	return s
}

func (b *sysRig) entry(f *form, at uint64) uint64 {
	if f.wide {
		return b.get64(at)
	}
	return b.get32(at)
}

// attempt translates as a program at the given privilege would.
func (b *sysRig) attempt(la uint64, acc access, cpl uint8, ac bool) (pa uint64, code uint32, ok bool) {
	b.c.cpl = cpl
	b.c.flags &^= FlagAC
	if ac {
		b.c.flags |= FlagAC
	}
	b.c.updateContext()
	pa, ok = b.c.translate(la, acc)
	if !ok && (b.c.exc.vector != VectorPF || b.c.exc.cr2 != la) {
		b.t.Fatalf("%s of %#x: %s, cr2 %#x", []string{"read", "write", "fetch"}[acc], la, b.c.exc.describe(), b.c.exc.cr2)
	}
	b.c.stop = stopNone
	return pa, b.c.exc.code, ok
}

func TestPagingForms(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			const off = 0x123
			pa := uint64(0x40000000)
			at := f.build(b, f.la, pa, repeat(7, f.depth))
			f.enter(b)
			leaf := at[len(at)-1]

			// A read sets A everywhere and D nowhere; a write sets D in the leaf.
			for _, acc := range []access{accessRead, accessWrite} {
				got, _, ok := b.attempt(f.la+off, acc, 3, false)
				if !ok || got != pa+off {
					t.Fatalf("access %d gives %#x %v, want %#x", acc, got, ok, pa+off)
				}
				for i, e := range at {
					want := pteA
					if acc == accessWrite && i == len(at)-1 {
						want |= pteD
					}
					if v := b.entry(&f, e) & (pteA | pteD); v != want {
						t.Errorf("after access %d entry %d has A, D %#x, want %#x", acc, i, v, want)
					}
				}
			}
			// The last byte of the page belongs to it.
			last := f.la | (1<<f.shift - 1)
			if got, _, ok := b.attempt(last, accessRead, 0, false); !ok || got != pa|(1<<f.shift-1) {
				t.Errorf("last byte is at %#x %v", got, ok)
			}

			// A failing access leaves A alone, at whatever level it fails.
			for level := range f.depth {
				bits := repeat(7, f.depth)
				bits[level] = 6 // not present
				f.build(b, f.la, pa, bits)
				if _, code, ok := b.attempt(f.la, accessWrite, 3, false); ok || code != pfW|pfU {
					t.Errorf("level %d not present: %v code %#x", level, ok, code)
				}
				for i, e := range at {
					if b.entry(&f, e)&pteA != 0 {
						t.Errorf("level %d not present: A set in entry %d", level, i)
					}
				}
				// W and U count at every level.
				bits[level] = 5
				f.build(b, f.la, pa, bits)
				if _, code, ok := b.attempt(f.la, accessWrite, 3, false); ok || code != pfP|pfW|pfU {
					t.Errorf("level %d read-only: %v code %#x", level, ok, code)
				}
				if b.entry(&f, leaf)&pteA != 0 {
					t.Errorf("level %d read-only: A set", level)
				}
				bits[level] = 3
				f.build(b, f.la, pa, bits)
				if _, code, ok := b.attempt(f.la, accessRead, 3, false); ok || code != pfP|pfU {
					t.Errorf("level %d supervisor: %v code %#x", level, ok, code)
				}
				if !f.wide {
					continue
				}
				bits[level] = 7 | pteNX
				f.build(b, f.la, pa, bits)
				if _, code, ok := b.attempt(f.la, accessFetch, 3, false); ok || code != pfP|pfU|pfI {
					t.Errorf("level %d XD: %v code %#x", level, ok, code)
				}
				if _, _, ok := b.attempt(f.la, accessRead, 3, false); !ok {
					t.Errorf("level %d XD: cannot read", level)
				}
				// A bit above MAXPHYADDR is reserved, in PAE tables up to bit 62; so is XD without EFER.NXE.
				reserved := []uint64{1 << 40, 1 << 51}
				if f.mode == pagingPAE {
					reserved = append(reserved, 1<<52, 1<<62)
				}
				for _, r := range reserved {
					bits[level] = 7 | r
					f.build(b, f.la, pa, bits)
					if _, code, ok := b.attempt(f.la, accessRead, 0, false); ok || code != pfP|pfRSVD {
						t.Errorf("level %d bit %#x: %v code %#x", level, r, ok, code)
					}
				}
				bits[level] = 7 | pteNX
				f.build(b, f.la, pa, bits)
				b.setState(func(s *vcpu.State) { s.MSR.EFER &^= eferNXE })
				if _, code, ok := b.attempt(f.la, accessFetch, 0, false); ok || code != pfP|pfRSVD {
					t.Errorf("level %d XD without NXE: %v code %#x", level, ok, code)
				}
				b.setState(func(s *vcpu.State) { s.MSR.EFER |= eferNXE })
				if f.mode >= paging4 {
					bits[level] = 7 | 1<<52 | 1<<62
					f.build(b, f.la, pa, bits)
					if _, _, ok := b.attempt(f.la, accessRead, 0, false); !ok {
						t.Errorf("level %d: ignored bits are not ignored", level)
					}
				}
			}
			if f.shift == 21 || f.shift == 30 {
				f.build(b, f.la, pa|1<<13, repeat(7, f.depth))
				if _, code, ok := b.attempt(f.la, accessRead, 0, false); ok || code != pfP|pfRSVD {
					t.Errorf("misaligned large page: %v code %#x", ok, code)
				}
			}
		})
	}
}

// TestPagingRights goes through the rights of a page and the controls that change them (SDM vol. 3A, 4.6).
func TestPagingRights(t *testing.T) {
	const smap, smep = cr4SMAP, cr4SMEP
	for _, c := range []struct {
		bits     uint64
		acc      access
		cpl      uint8
		ac       bool
		wp       bool
		cr4      uint64
		ok       bool
		code     uint32
		implicit bool
	}{
		// Supervisor pages.
		{bits: 3, acc: accessRead, cpl: 0, ok: true},
		{bits: 3, acc: accessRead, cpl: 1, ok: true},
		{bits: 3, acc: accessRead, cpl: 2, ok: true},
		{bits: 3, acc: accessWrite, cpl: 0, ok: true},
		{bits: 3, acc: accessFetch, cpl: 0, ok: true},
		{bits: 3, acc: accessFetch, cpl: 3, code: pfP | pfU | pfI},
		{bits: 1, acc: accessWrite, cpl: 0, ok: true},
		{bits: 1, acc: accessWrite, cpl: 0, wp: true, code: pfP | pfW},
		{bits: 3, acc: accessRead, cpl: 0, ok: true, cr4: smap | smep},
		{bits: 3, acc: accessFetch, cpl: 0, ok: true, cr4: smap | smep},
		// User pages from below.
		{bits: 7, acc: accessWrite, cpl: 3, ok: true},
		{bits: 5, acc: accessWrite, cpl: 3, code: pfP | pfW | pfU},
		{bits: 5, acc: accessWrite, cpl: 3, wp: true, code: pfP | pfW | pfU},
		{bits: 7, acc: accessRead, cpl: 3, ok: true, cr4: smap | smep},
		{bits: 7, acc: accessFetch, cpl: 3, ok: true, cr4: smap | smep},
		// User pages from the supervisor.
		{bits: 7, acc: accessRead, cpl: 0, ok: true},
		{bits: 7, acc: accessFetch, cpl: 0, ok: true},
		{bits: 7, acc: accessFetch, cpl: 0, cr4: smep, code: pfP | pfI},
		{bits: 7, acc: accessFetch, cpl: 0, cr4: smap, ok: true},
		{bits: 7, acc: accessRead, cpl: 0, cr4: smap, code: pfP},
		{bits: 7, acc: accessWrite, cpl: 0, cr4: smap, code: pfP | pfW},
		{bits: 7, acc: accessRead, cpl: 0, cr4: smap, ac: true, ok: true},
		{bits: 7, acc: accessWrite, cpl: 0, cr4: smap, ac: true, ok: true},
		{bits: 5, acc: accessWrite, cpl: 0, cr4: smap, ac: true, ok: true},
		{bits: 5, acc: accessWrite, cpl: 0, cr4: smap, ac: true, wp: true, code: pfP | pfW},
		{bits: 5, acc: accessWrite, cpl: 0, ok: true},
		{bits: 5, acc: accessWrite, cpl: 0, wp: true, code: pfP | pfW},
		{bits: 7 | pteNX, acc: accessFetch, cpl: 0, code: pfP | pfI},
		// Descriptor tables and TSS: supervisor accesses at any CPL, and AC does not help them.
		{bits: 3, acc: accessRead, cpl: 3, implicit: true, ok: true},
		{bits: 7, acc: accessRead, cpl: 3, implicit: true, ok: true},
		{bits: 7, acc: accessRead, cpl: 3, implicit: true, cr4: smap, code: pfP},
		{bits: 7, acc: accessRead, cpl: 3, implicit: true, ac: true, cr4: smap, code: pfP},
	} {
		b := newSysRig(t, Config{})
		f := forms[4]
		f.build(b, f.la, 0x40000000, append(repeat(7, f.depth-1), c.bits))
		f.enter(b)
		b.setState(func(s *vcpu.State) {
			s.CR4 |= c.cr4
			if !c.wp {
				s.CR0 &^= cr0WP
			}
		})
		if c.implicit {
			b.c.cpl = c.cpl
			if c.ac {
				b.c.flags |= FlagAC
			}
			b.c.systemContext()
			_, ok := b.c.translate(f.la, c.acc)
			if ok != c.ok || !ok && b.c.exc.code != c.code {
				t.Errorf("%+v: %v code %#x", c, ok, b.c.exc.code)
			}
			continue
		}
		_, code, ok := b.attempt(f.la, c.acc, c.cpl, c.ac)
		if ok != c.ok || !ok && code != c.code {
			t.Errorf("%+v: %v code %#x", c, ok, code)
		}
	}
	// Without SMEP and NXE a fetch does not set I/D.
	b := newSysRig(t, Config{})
	f := forms[0]
	f.build(b, f.la, 0, repeat(3, 2))
	f.enter(b)
	if _, code, ok := b.attempt(f.la, accessFetch, 3, false); ok || code != pfP|pfU {
		t.Errorf("32-bit fetch: %v %#x", ok, code)
	}
	b.c.cr4 |= cr4SMEP
	if _, code, ok := b.attempt(f.la, accessFetch, 3, false); ok || code != pfP|pfU|pfI {
		t.Errorf("32-bit fetch with SMEP: %v %#x", ok, code)
	}
}

func TestPSE36(t *testing.T) {
	b := newSysRig(t, Config{})
	f := forms[1]
	f.build(b, f.la, 0x12<<13|0x00c00000, []uint64{7})
	f.enter(b)
	if pa, _, ok := b.attempt(f.la+5, accessRead, 0, false); !ok || pa != 0x1200c00005 {
		t.Errorf("%#x %v", pa, ok)
	}
	f.build(b, f.la, 1<<21, []uint64{7})
	if _, code, ok := b.attempt(f.la, accessRead, 0, false); ok || code != pfP|pfRSVD {
		t.Errorf("bit 21: %v %#x", ok, code)
	}
	// Without CR4.PSE bit 7 is ignored: the entry names a page table.
	b.setState(func(s *vcpu.State) { s.CR4 &^= cr4PSE })
	b.put32(0x12000+f.la>>12&1023*4, 0x77000|7)
	b.put32(atTables+f.la>>22*4, 0x12000|7|ptePS)
	if pa, _, ok := b.attempt(f.la+5, accessRead, 0, false); !ok || pa != 0x77005 {
		t.Errorf("without PSE: %#x %v", pa, ok)
	}
}

func TestPagingLargeReserved(t *testing.T) {
	// PS is reserved in the two upper levels, and in a PDPTE without 1-GByte pages.
	b := newSysRig(t, Config{Model: DefaultModel&^ModelPDPE1GB | ModelLA57})
	for _, f := range forms[4:] {
		at := f.build(b, f.la, 0x40000000, repeat(7, f.depth))
		f.enter(b)
		if f.shift == 30 {
			if _, code, ok := b.attempt(f.la, accessRead, 0, false); ok || code != pfP|pfRSVD {
				t.Errorf("%s: %v %#x", f.name, ok, code)
			}
			continue
		}
		for level := range int(f.mode) - 3 {
			b.put64(at[level], b.get64(at[level])|ptePS)
			if _, code, ok := b.attempt(f.la, accessRead, 0, false); ok || code != pfP|pfRSVD {
				t.Errorf("%s level %d: %v %#x", f.name, level, ok, code)
			}
			b.put64(at[level], b.get64(at[level])&^ptePS)
		}
	}
}

// TestPageFaultDelivery runs guest code that faults: the error code and CR2 arrive, and the instruction has done nothing.
func TestPageFaultDelivery(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.put64(pte(4, atData), 0)
	b.setReg(isa.RAX, 0x55)
	o := b.expect("48 ff 05"+le(atData+0x10-atCode-7, 4), VectorPF, uint64(pfW)) // inc qword [rip+...]
	if b.c.cr2 != atData+0x10 || o.rip != atCode || o.flags&FlagRF == 0 {
		t.Errorf("cr2 %#x rip %#x flags %#x", b.c.cr2, o.rip, o.flags)
	}
	// A push that crosses into a missing page.
	b.long()
	b.put64(pte(4, atData), atData|3)
	b.put64(pte(4, atData-0x1000), 0)
	b.setReg(isa.RSP, atData+4)
	b.gate64(VectorPF, selCode64, atStubs+8*VectorPF, 0x8e, 1)
	b.put64(atData-4, 0)
	o = b.expect("50", VectorPF, uint64(pfW)) // push rax
	if b.c.cr2 != atData-4 || o.rsp != atData+4 || b.get32(atData) != 0 {
		t.Errorf("cr2 %#x rsp %#x", b.c.cr2, o.rsp)
	}
}

// TestFlushes checks what a change of a page-table entry needs to be seen.
func TestFlushes(t *testing.T) {
	const readRAX = "48 8b 04 25 00 e0 00 00" // mov rax, [0xe000]
	setup := func() *sysRig {
		b := newSysRig(t, Config{})
		b.long()
		b.put64(atData, 1)
		b.put64(0x80000, 2)
		return b
	}
	remap := func(b *sysRig) { b.put64(pte(4, atData), 0x80000|7) }
	read := func(b *sysRig, code string) uint64 {
		b.t.Helper()
		b.c.rip = atCode
		b.expect(code, -1, 0)
		return b.reg(isa.RAX)
	}
	for _, c := range []struct {
		name, code string
		seen       bool
		cr4        uint64
	}{
		{"nothing", "", false, 0},
		{"INVLPG", "0f 01 3c 25 00 e0 00 00", true, 0},
		{"INVLPG of the next page", "0f 01 3c 25 00 f0 00 00", false, 0},
		{"MOV CR3", "0f 20 d8 0f 22 d8", true, 0},
		{"MOV CR3 with PCID", "0f 20 d8 0f 22 d8", true, cr4PCIDE},
		{"MOV CR3 with PCID and bit 63", "0f 20 d8 48 0f ba e8 3f 0f 22 d8", false, cr4PCIDE},
		{"MOV CR4 toggling PGE", "0f 20 e0 34 80 0f 22 e0", true, 0},
		{"MOV CR0 toggling WP", "0f 20 c0 0f ba f8 10 0f 22 c0", true, 0},
		{"STAC, CLAC", "0f 01 cb 0f 01 ca", false, 0},
	} {
		b := setup()
		b.setState(func(s *vcpu.State) { s.CR4 |= c.cr4 })
		if v := read(b, readRAX); v != 1 {
			t.Fatalf("read %d", v)
		}
		remap(b)
		want := uint64(1)
		if c.seen {
			want = 2
		}
		if v := read(b, c.code+readRAX); v != want {
			t.Errorf("%s: read %d, want %d", c.name, v, want)
		}
	}

	// INVPCID: kinds 0 to 3, of this PCID and of another.
	for kind := range uint64(4) {
		for _, other := range []uint64{0, 5} {
			b := setup()
			b.setState(func(s *vcpu.State) { s.CR4 |= cr4PCIDE })
			read(b, readRAX)
			remap(b)
			b.put64(0x81000, other)
			b.put64(0x81008, atData)
			b.setReg(isa.RCX, kind)
			// INVPCID of kind 0 may drop more than it is asked to.
			want := uint64(2)
			if other == 5 && kind == 1 {
				want = 1
			}
			if v := read(b, "66 0f 38 82 0c 25 00 10 08 00"+readRAX); v != want {
				t.Errorf("INVPCID kind %d of PCID %d: read %d, want %d", kind, other, v, want)
			}
		}
	}
	b := setup()
	b.setReg(isa.RCX, 4)
	b.expect("66 0f 38 82 0c 25 00 10 08 00", VectorGP, 0)
	b = setup()
	b.put64(0x81000, 1<<12)
	b.setReg(isa.RCX, 1)
	b.expect("66 0f 38 82 0c 25 00 10 08 00", VectorGP, 0)
}

// TestPCIDSwitch keeps the translations of two address spaces apart and finds them again.
func TestPCIDSwitch(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.setState(func(s *vcpu.State) { s.CR4 |= cr4PCIDE })
	// A second tree that maps atData elsewhere.
	copy(b.ram[0x20000:0x24000], b.ram[atTables:atTables+0x4000])
	for i := range uint64(3) {
		b.put64(0x20000+i<<12, 0x20000+(i+1)<<12|7)
	}
	b.put64(0x23000+atData>>12*8, 0x80000|7)
	b.put64(atData, 1)
	b.put64(0x80000, 2)
	b.put64(0x81000, 3)
	read := func() uint64 { v, _ := b.c.load64(atData); return v }
	if read() != 1 {
		t.Fatal("first space")
	}
	b.c.writeCR3(0x20000 | 7)
	if read() != 2 {
		t.Fatal("second space")
	}
	b.put64(0x23000+atData>>12*8, 0x81000|7)
	b.put64(pte(4, atData), 0x81000|7)
	// The TLB has one entry a page, which the second space has taken: back in it, the old translation is still there,
	// and in the first one the new one is seen.
	b.c.writeCR3(atTables | 1<<63)
	b.c.writeCR3(0x20000 | 7 | 1<<63)
	if v := read(); v != 2 {
		t.Errorf("second space again: %d", v)
	}
	b.c.writeCR3(atTables | 1<<63)
	if v := read(); v != 3 {
		t.Errorf("first space again: %d", v)
	}
	b.c.writeCR3(0x20000 | 7)
	if v := read(); v != 3 {
		t.Errorf("second space after a flush: %d", v)
	}
}

// TestGenerationWrap runs out of generations many times over.
func TestGenerationWrap(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	for i := range uint64(5000) {
		b.put64(pte(4, atData), 0x80000+i&7<<12|7)
		b.put64(0x80000+i&7<<12, i)
		if !b.c.writeCR3(atTables) {
			t.Fatal("CR3 is refused")
		}
		if v, ok := b.c.load64(atData); !ok || v != i {
			t.Fatalf("round %d reads %d %v", i, v, ok)
		}
		if b.c.ctx>>54 == 0 {
			t.Fatal("generation 0")
		}
	}
}

// TestINVLPGLarge drops all of a large page, from any address in it.
func TestINVLPGLarge(t *testing.T) {
	for _, f := range forms {
		if f.shift == 12 {
			continue
		}
		b := newSysRig(t, Config{})
		f.build(b, f.la, 0, repeat(7, f.depth))
		f.enter(b)
		touched := []uint64{0x3000, 0x1ff000}
		if f.shift > 21 {
			touched = append(touched, 0x3ff000)
		}
		b.put64(0x3008, 1)
		for _, off := range touched {
			if _, ok := b.c.load64(f.la + off); !ok {
				t.Fatalf("%s: %s", f.name, b.c.exc.describe())
			}
		}
		f.build(b, f.la, 0, append(repeat(7, f.depth-1), 6))
		if _, ok := b.c.load64(f.la + 0x3008); !ok {
			t.Fatalf("%s: the TLB does not hold the page", f.name)
		}
		b.c.invalidatePage(f.la + 0x12345)
		for _, off := range touched {
			if _, ok := b.c.load64(f.la + off); ok {
				t.Errorf("%s: offset %#x is still there", f.name, off)
			}
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, la57 := range []bool{false, true} {
		b := newSysRig(t, Config{})
		b.long()
		if la57 {
			b.mapLow(5, 7)
			b.setState(func(s *vcpu.State) { s.CR4 |= cr4LA57 })
		}
		bad := uint64(0x0000800000000000)
		if la57 {
			bad = 0x0100000000000000
		}
		for _, c := range []struct {
			code   string
			vector int
		}{
			{"48 8b 03", VectorGP},          // mov rax, [rbx]
			{"48 89 03", VectorGP},          // mov [rbx], rax
			{"48 8b 04 1c", VectorSS},       // mov rax, [rsp+rbx]: base RSP
			{"48 8b 45 00", VectorSS},       // mov rax, [rbp]
			{"48 8b 44 25 00", VectorSS},    // the same with SIB
			{"36 48 8b 03", VectorGP},       // an SS override is ignored
			{"ff e3", VectorGP},             // jmp rbx
			{"ff d3", VectorGP},             // call rbx
			{"53 c3", VectorGP},             // push rbx; ret
			{"48 8d 63 10 50", VectorSS},    // mov rsp, rbx; push rax
			{"48 8d 63 10 58", VectorSS},    // pop rax
			{"48 8d 63 10 c3", VectorSS},    // ret
			{"48 8d 63 10 9c", VectorSS},    // pushfq
			{"48 8d 63 10 ff 33", VectorGP}, // push [rbx]
			{"48 8d 63 10 48 cf", VectorSS}, // iretq
			{"0f 01 3b", -1},                // invlpg [rbx] does nothing
			{"0f 18 0b", -1},                // prefetcht0 [rbx]
			{"48 8d 03", -1},                // lea
			{"48 0f ae 3b", VectorGP},       // clflush [rbx]
		} {
			b.gate64(VectorSS, selCode64, atStubs+8*VectorSS, 0x8e, 1)
			b.gate64(VectorGP, selCode64, atStubs+8*VectorGP, 0x8e, 1)
			b.setReg(isa.RSP, topKernel)
			b.setReg(isa.RBX, bad)
			b.setReg(isa.RBP, bad)
			if c.code == "48 8b 04 1c" {
				b.setReg(isa.RSP, 0)
			}
			b.c.rip = atCode
			b.expect(c.code, c.vector, 0)
		}
		// The address below is canonical, though not mapped.
		b.setReg(isa.RSP, topKernel)
		b.setReg(isa.RBX, bad-8)
		b.c.rip = atCode
		b.expect("48 8b 03", VectorPF, 0)
	}
}

func TestPDPTEReserved(t *testing.T) {
	b := newSysRig(t, Config{})
	f := forms[2]
	f.build(b, f.la, 0x40000000, repeat(7, 2))
	f.enter(b)
	for _, bit := range []uint64{1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 40, 1 << 63} {
		b.put64(atTables+8, 0x15000|1|bit)
		if b.c.writeCR3(atTables) {
			t.Errorf("bit %#x is accepted", bit)
		}
	}
	b.put64(atTables+8, 0x15000|0x1e6) // not present: anything goes
	if !b.c.writeCR3(atTables) {
		t.Error("a PDPTE that is not present is refused")
	}
	// PDPTEs are registers: memory may change behind them.
	b.put64(atTables+f.la>>30*8, 0)
	if _, _, ok := b.attempt(f.la, accessRead, 0, false); !ok {
		t.Error("the PDPTE was read again")
	}
}

// TestAccessedInCode sets A in a page table that lies in a page with decoded code.
func TestAccessedInCode(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.expect("90", -1, 0)
	if b.c.code.pages[atCode>>12] == nil {
		t.Fatal("no code")
	}
	r := b.c.readEntry(atCode, 8)
	b.c.setEntry(&r, pteD)
	if b.c.code.pages[atCode>>12] != nil {
		t.Error("code survived a change of its bytes")
	}
}

func TestAlignmentCheck(t *testing.T) {
	for _, c := range []struct {
		am, ac bool
		user   bool
		code   string
		vector int
	}{
		{true, true, true, "8b 04 25 01 e0 00 00", VectorAC},                      // mov eax, [0xe001]
		{true, true, true, "8b 04 25 04 e0 00 00 cc", VectorBP},                   // aligned
		{true, true, true, "48 89 04 25 04 e0 00 00", VectorAC},                   // mov [0xe004], rax
		{true, true, true, "8a 04 25 01 e0 00 00 cc", VectorBP},                   // a byte
		{false, true, true, "8b 04 25 01 e0 00 00 cc", VectorBP},                  // CR0.AM clear
		{true, false, true, "8b 04 25 01 e0 00 00 cc", VectorBP},                  // RFLAGS.AC clear
		{true, true, false, "8b 04 25 01 e0 00 00", -1},                           // CPL 0
		{true, true, true, "8b 04 25 04 e0 00 00 8b 04 25 06 e0 00 00", VectorAC}, // after an access that could enter the TLB
	} {
		b := newSysRig(t, Config{})
		b.long()
		if c.user {
			b.user(selUser64)
		}
		b.setState(func(s *vcpu.State) {
			if c.am {
				s.CR0 |= cr0AM
			}
			if c.ac {
				s.RFLAGS |= FlagAC
			}
		})
		b.expect(c.code, c.vector, 0)
	}
}

func ExampleCPU_TranslateLinear() {
	m := &rigMemory{ram: make([]byte, 0x1000)}
	c := New(Config{Memory: m, Platform: m})
	fmt.Println(c.TranslateLinear(0x123))
	// Output: 291 true
}

// TestCompatibilityWrap: in compatibility mode linear addresses of the program have 32 bits, those of system tables 64.
func TestCompatibilityWrap(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	// The last page below 4 GiB and the first one: a doubleword that runs over the top, through a segment with a base.
	b.put64(atTables+0x1000+3*8, 0x21000|7)
	b.put64(0x21000+511*8, 0x22000|7)
	b.put64(0x22000+511*8, 0x80000|7)
	b.put16(0x80ffe, 0x1234)
	b.put16(0, 0x5678)
	b.setState(func(s *vcpu.State) {
		s.Seg[isa.CS] = seg(selCode32)
		s.Seg[isa.DS].Base = 0xffff0000
	})
	b.expect("a1 fe ff 00 00", -1, 0) // mov eax, [0xfffe]
	b.wantReg(isa.RAX, 0x56781234)
	// The TSS may be above.
	b.long()
	b.user(selUser32)
	b.put64(atTables+256*8, atTables+0x1000|7) // the same tables at 0xffff800000000000
	b.setState(func(s *vcpu.State) { s.TR.Base += 0xffff800000000000 })
	b.expect("cd 80", 0x80, 0)
	b.wantReg(isa.RSP, topRSP0-40)
}

// TestDataBreakpointInDelivery: an event that pushes over a data breakpoint traps before its handler runs.
func TestDataBreakpointInDelivery(t *testing.T) {
	b := newSysRig(t, Config{})
	b.long()
	b.setState(func(s *vcpu.State) {
		s.DR[0] = topKernel - 8
		s.DR[7] = 1 | 1<<16
	})
	o := b.expect("cd 80", VectorDB, 0)
	if o.rip != atStubs+8*0x80 || b.c.dr[6]&1 == 0 {
		t.Errorf("%+v DR6 %#x", o, b.c.dr[6])
	}
}
