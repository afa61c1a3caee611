package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Bits of CR0, CR4, EFER and XCR0 (SDM vol. 3A, 2.5, 2.2.1, 2.6).
const (
	cr0PE uint64 = 1 << 0
	cr0MP uint64 = 1 << 1
	cr0EM uint64 = 1 << 2
	cr0TS uint64 = 1 << 3
	cr0ET uint64 = 1 << 4
	cr0NE uint64 = 1 << 5
	cr0WP uint64 = 1 << 16
	cr0AM uint64 = 1 << 18
	cr0NW uint64 = 1 << 29
	cr0CD uint64 = 1 << 30
	cr0PG uint64 = 1 << 31

	cr4TSD        uint64 = 1 << 2
	cr4DE         uint64 = 1 << 3
	cr4PSE        uint64 = 1 << 4
	cr4PAE        uint64 = 1 << 5
	cr4MCE        uint64 = 1 << 6
	cr4PGE        uint64 = 1 << 7
	cr4PCE        uint64 = 1 << 8
	cr4OSFXSR     uint64 = 1 << 9
	cr4OSXMMEXCPT uint64 = 1 << 10
	cr4UMIP       uint64 = 1 << 11
	cr4LA57       uint64 = 1 << 12
	cr4FSGSBASE   uint64 = 1 << 16
	cr4PCIDE      uint64 = 1 << 17
	cr4OSXSAVE    uint64 = 1 << 18
	cr4SMEP       uint64 = 1 << 20
	cr4SMAP       uint64 = 1 << 21

	eferSCE uint64 = 1 << 0
	eferLME uint64 = 1 << 8
	eferLMA uint64 = 1 << 10
	eferNXE uint64 = 1 << 11

	xcr0X87     uint64 = 1 << 0
	xcr0SSE     uint64 = 1 << 1
	xcr0Allowed        = xcr0X87 | xcr0SSE
)

// cr4Allowed are the bits of CR4 that this model has.
func (c *CPU) cr4Allowed() uint64 {
	bits := cr4TSD | cr4DE | cr4PSE | cr4PAE | cr4MCE | cr4PCE
	for _, f := range []struct {
		has bool
		bit uint64
	}{
		{c.feat.Has(isa.FeatFXSR), cr4OSFXSR},
		{c.feat.Has(isa.FeatSSE), cr4OSXMMEXCPT},
		{c.model.Has(ModelPGE), cr4PGE},
		{c.model.Has(ModelUMIP), cr4UMIP},
		{c.model.Has(ModelLA57), cr4LA57},
		{c.feat.Has(isa.FeatFSGSBASE), cr4FSGSBASE},
		{c.model.Has(ModelPCID), cr4PCIDE},
		{c.feat.Has(isa.FeatXSAVE), cr4OSXSAVE},
		{c.model.Has(ModelSMEP), cr4SMEP},
		{c.feat.Has(isa.FeatSMAP), cr4SMAP},
	} {
		if f.has {
			bits |= f.bit
		}
	}
	return bits
}

func systemHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.MOV_FROM_CR: privileged(movFromCR),
		isa.MOV_TO_CR:   privileged(movToCR),
		isa.MOV_FROM_DR: privileged(movFromDR),
		isa.MOV_TO_DR:   privileged(movToDR),
		isa.CLTS:        privileged(clts),
		isa.LMSW:        privileged(lmsw),
		isa.SMSW:        smsw,
		isa.LGDT:        privileged(loadTable),
		isa.LIDT:        privileged(loadTable),
		isa.SGDT:        storeTable,
		isa.SIDT:        storeTable,
		isa.INVLPG:      privileged(invlpg),
		isa.INVPCID:     privileged(invpcid),
		isa.INVD:        privileged(noOperation),
		isa.WBINVD:      privileged(noOperation),
		isa.CLFLUSH:     clflush,
		isa.CLFLUSHOPT:  clflush,
		isa.CLWB:        clflush,
		isa.HLT:         privileged(hlt),
		isa.MONITOR:     privileged(monitor),
		isa.MWAIT:       privileged(mwait),
		isa.CLAC:        clac,
		isa.STAC:        clac,
		isa.SWAPGS:      swapgs,
		isa.RDFSBASE:    fsgsBase,
		isa.RDGSBASE:    fsgsBase,
		isa.WRFSBASE:    fsgsBase,
		isa.WRGSBASE:    fsgsBase,
		isa.XGETBV:      xgetbv,
		isa.XSETBV:      privileged(xsetbv),
		isa.RDTSC:       rdtsc,
		isa.RDTSCP:      rdtsc,
		isa.RDPID:       rdpid,
		isa.RDPMC:       rdpmc,
		isa.RDRAND:      rdrand,
		isa.RDSEED:      rdrand,
		isa.RDMSR:       privileged(rdmsr),
		isa.WRMSR:       privileged(wrmsr),
		isa.CPUID:       cpuid,
		isa.VMCALL:      undefined,
		isa.VMMCALL:     undefined,
		isa.RSM:         undefined,
	}
}

func noOperation(*CPU, *uop) bool { return true }

func movFromCR(c *CPU, u *uop) bool {
	var v uint64
	switch u.Args[1].Reg {
	case 0:
		v = c.cr0
	case 2:
		v = c.cr2
	case 3:
		v = c.cr3
	case 4:
		v = c.cr4
	case 8:
		v = uint64(c.plat.TaskPriority() & 15)
	default:
		return c.raise(VectorUD)
	}
	c.setReg(u.Args[0].Reg, u.OpSize, v)
	return true
}

func movToCR(c *CPU, u *uop) bool {
	v := c.reg(u.Args[1].Reg, u.OpSize)
	switch u.Args[0].Reg {
	case 0:
		return c.writeCR0(v)
	case 2:
		c.cr2 = v
		return true
	case 3:
		return c.writeCR3(v)
	case 4:
		return c.writeCR4(v)
	case 8:
		if v > 15 {
			return c.gp(0)
		}
		c.plat.SetTaskPriority(uint8(v))
		return true
	}
	return c.raise(VectorUD)
}

// writeCR0 is MOV to CR0 (SDM vol. 3A, 2.5; vol. 2, MOV control registers).
func (c *CPU) writeCR0(v uint64) bool {
	if v>>32 != 0 || v&cr0PG != 0 && v&cr0PE == 0 || v&cr0NW != 0 && v&cr0CD == 0 {
		return c.gp(0)
	}
	v = v&(cr0PE|cr0MP|cr0EM|cr0TS|cr0NE|cr0WP|cr0AM|cr0NW|cr0CD|cr0PG) | cr0ET
	changed := v ^ c.cr0
	efer := c.msr.EFER
	if changed&cr0PG != 0 {
		if v&cr0PG != 0 {
			if efer&eferLME != 0 {
				// Activating IA-32e mode (SDM vol. 3A, 9.8.5).
				if c.cr4&cr4PAE == 0 || c.seg[isa.CS].Attr&vcpu.AttrL != 0 || c.tr.Attr&8 == 0 {
					return c.gp(0)
				}
				efer |= eferLMA
			}
		} else {
			if c.mode == isa.Mode64 || c.cr4&cr4PCIDE != 0 {
				return c.gp(0)
			}
			efer &^= eferLMA
		}
	}
	if v&cr0PG != 0 && c.cr4&cr4PAE != 0 && efer&eferLMA == 0 && changed&(cr0PG|cr0CD|cr0NW) != 0 && !c.loadPDPTEs(c.cr3) {
		return c.gp(0)
	}
	c.cr0, c.msr.EFER = v, efer
	if changed&(cr0PG|cr0WP|cr0PE) != 0 {
		c.pagingChanged()
		c.flushAll()
	}
	if changed&(cr0PG|cr0PE|cr0AM) != 0 {
		c.refresh()
	}
	return true
}

// writeCR3 is MOV to CR3 (SDM vol. 3A, 4.3 to 4.5 and 4.10.4.1).
func (c *CPU) writeCR3(v uint64) bool {
	if !c.longMode() {
		if c.mmu.mode == pagingPAE && !c.loadPDPTEs(v) {
			return c.gp(0)
		}
		c.setCR3(v, false)
		return true
	}
	keep := false
	if c.cr4&cr4PCIDE != 0 {
		keep = v>>63 != 0
		v &^= 1 << 63
	}
	if v&^c.mmu.physMask != 0 {
		return c.gp(0)
	}
	c.setCR3(v, keep)
	return true
}

// writeCR4 is MOV to CR4 (SDM vol. 3A, 2.5; vol. 2, MOV control registers).
func (c *CPU) writeCR4(v uint64) bool {
	changed := v ^ c.cr4
	switch {
	case v&^c.cr4Allowed() != 0,
		c.longMode() && (v&cr4PAE == 0 || changed&cr4LA57 != 0),
		changed&v&cr4PCIDE != 0 && (!c.longMode() || c.cr3&0xfff != 0):
		return c.gp(0)
	}
	const paging = cr4PSE | cr4PAE | cr4PGE | cr4SMEP
	if c.cr0&cr0PG != 0 && v&cr4PAE != 0 && !c.longMode() && changed&paging != 0 && !c.loadPDPTEs(c.cr3) {
		return c.gp(0)
	}
	c.cr4 = v
	if changed&(paging|cr4PCIDE|cr4SMAP|cr4LA57) != 0 {
		c.pagingChanged()
		c.flushAll()
	}
	return true
}

func clts(c *CPU, _ *uop) bool {
	c.cr0 &^= cr0TS
	return true
}

// hidden reports that UMIP forbids the instruction (SDM vol. 3A, 2.5, CR4.UMIP).
func (c *CPU) hidden() bool { return c.cpl != 0 && c.cr4&cr4UMIP != 0 && c.cr0&cr0PE != 0 }

func smsw(c *CPU, u *uop) bool {
	if c.hidden() {
		return c.gp(0)
	}
	return c.write(u, 0, c.cr0)
}

// lmsw writes MP, EM and TS, and sets PE.
func lmsw(c *CPU, u *uop) bool {
	v, ok := c.read(u, 0)
	return ok && c.writeCR0(c.cr0&^(cr0MP|cr0EM|cr0TS)|v&(cr0PE|cr0MP|cr0EM|cr0TS))
}

// loadTable is LGDT and LIDT.
func loadTable(c *CPU, u *uop) bool {
	size := uint8(4)
	if c.mode == isa.Mode64 {
		size = 8
	}
	la, ok := c.address(u, 2+size, false)
	if !ok {
		return false
	}
	limit, ok := c.load16(la)
	if !ok {
		return false
	}
	base, ok := c.load(c.wrapLinear(la+2), size)
	if !ok {
		return false
	}
	if size == 8 && !c.canonical(base) {
		return c.gp(0)
	}
	if u.OpSize == 2 && c.mode != isa.Mode64 {
		base &= 0xffffff
	}
	t := vcpu.Table{Base: base, Limit: limit}
	if u.Op == isa.LGDT {
		c.gdtr = t
	} else {
		c.idtr = t
	}
	return true
}

// storeTable is SGDT and SIDT. With 16-bit operands the whole base is stored too, as processors since the 386 do.
func storeTable(c *CPU, u *uop) bool {
	if c.hidden() {
		return c.gp(0)
	}
	t := c.gdtr
	if u.Op == isa.SIDT {
		t = c.idtr
	}
	size := uint8(4)
	if c.mode == isa.Mode64 {
		size = 8
	}
	la, ok := c.address(u, 2+size, true)
	if !ok {
		return false
	}
	var b [10]byte
	b[0], b[1] = byte(t.Limit), byte(t.Limit>>8)
	for i := range size {
		b[2+i] = byte(t.Base >> (8 * i))
	}
	return c.storeBytes(la, b[:2+size])
}

// invlpg invalidates a page; a non-canonical address is a no-operation (SDM vol. 2, INVLPG).
func invlpg(c *CPU, u *uop) bool {
	la := c.offset(u)
	if c.mode != isa.Mode64 {
		la = (la + c.seg[u.Seg].Base) & 0xffffffff
	} else if u.Seg >= isa.FS {
		la += c.seg[u.Seg].Base
	}
	c.invalidatePage(la)
	return true
}

// invpcid invalidates translations by process-context identifier (SDM vol. 2, INVPCID).
func invpcid(c *CPU, u *uop) bool {
	kind := c.reg(u.Args[0].Reg, u.Args[0].Size)
	la, ok := c.address(u, 16, false)
	if !ok {
		return false
	}
	pcid, ok := c.load64(la)
	if !ok {
		return false
	}
	addr, ok := c.load64(c.wrapLinear(la + 8))
	if !ok {
		return false
	}
	if kind > 3 || kind < 2 && (pcid>>12 != 0 || c.cr4&cr4PCIDE == 0 && pcid != 0) || kind == 0 && !c.canonical(addr) {
		return c.gp(0)
	}
	switch {
	case kind == 0:
		c.invalidatePage(addr)
	case kind == 1 && pcid == c.currentPCID():
		c.newGeneration()
	case kind == 1:
		c.mmu.pcid[pcid] = 0
	default:
		c.flushAll()
	}
	return true
}

// clflush checks the address as a load does and has no cache to flush.
func clflush(c *CPU, u *uop) bool {
	la, ok := c.address(u, 1, false)
	if !ok {
		return false
	}
	_, ok = c.translate(la, accessRead)
	return ok
}

// hlt stops until an interrupt.
func hlt(c *CPU, _ *uop) bool {
	c.halted = true
	c.stop = stopDone
	return false
}

func monitor(c *CPU, u *uop) bool {
	if c.r[isa.RCX]&0xffffffff != 0 {
		return c.gp(0)
	}
	la, ok := c.address(u, 1, false)
	if !ok {
		return false
	}
	_, ok = c.translate(la, accessRead)
	return ok
}

// mwait returns at once, as it may (SDM vol. 2, MWAIT): there is no other processor to wait for.
func mwait(c *CPU, u *uop) bool { return hlt(c, u) }

// clac is CLAC and STAC.
func clac(c *CPU, u *uop) bool {
	if c.cpl != 0 || c.vm86() {
		return c.raise(VectorUD)
	}
	if u.Op == isa.STAC {
		c.setSystemFlags(c.flags | FlagAC)
	} else {
		c.setSystemFlags(c.flags &^ FlagAC)
	}
	return true
}

func swapgs(c *CPU, _ *uop) bool {
	if c.mode != isa.Mode64 {
		return c.raise(VectorUD)
	}
	if c.cpl != 0 {
		return c.gp(0)
	}
	base := c.seg[isa.GS].Base
	c.setBase(isa.GS, c.msr.KernelGSBase)
	c.msr.KernelGSBase = base
	return true
}

// fsgsBase is RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE.
func fsgsBase(c *CPU, u *uop) bool {
	if c.mode != isa.Mode64 || c.cr4&cr4FSGSBASE == 0 {
		return c.raise(VectorUD)
	}
	seg := isa.FS
	if u.Op == isa.RDGSBASE || u.Op == isa.WRGSBASE {
		seg = isa.GS
	}
	reg, size := u.Args[0].Reg, u.Args[0].Size // prefix 66 does not make it 2
	if u.Op == isa.RDFSBASE || u.Op == isa.RDGSBASE {
		c.setReg(reg, size, c.seg[seg].Base)
		return true
	}
	v := c.reg(reg, size)
	if !c.canonical(v) {
		return c.gp(0)
	}
	c.setBase(seg, v)
	return true
}

// setEDXEAX writes a 64-bit value to EDX:EAX.
func (c *CPU) setEDXEAX(v uint64) {
	c.r[isa.RAX] = v & 0xffffffff
	c.r[isa.RDX] = v >> 32
}

// edxEAX is the 64-bit value in EDX:EAX.
func (c *CPU) edxEAX() uint64 { return c.r[isa.RDX]<<32 | c.r[isa.RAX]&0xffffffff }

func xgetbv(c *CPU, _ *uop) bool {
	if c.cr4&cr4OSXSAVE == 0 {
		return c.raise(VectorUD)
	}
	if c.r[isa.RCX]&0xffffffff != 0 {
		return c.gp(0)
	}
	c.setEDXEAX(c.fpu.xcr0)
	return true
}

func xsetbv(c *CPU, _ *uop) bool {
	if c.cr4&cr4OSXSAVE == 0 {
		return c.raise(VectorUD)
	}
	v := c.edxEAX()
	if c.r[isa.RCX]&0xffffffff != 0 || v&xcr0X87 == 0 || v&^xcr0Allowed != 0 {
		return c.gp(0)
	}
	c.fpu.xcr0 = v
	return true
}

// TSC returns the time-stamp counter as the guest reads it, in ticks of 1 ns.
func (c *CPU) TSC() uint64 { return c.plat.TSC() + uint64(c.msr.TSCAdjust) }

// rdtsc is RDTSC and RDTSCP. It runs as a block of its own, so that the instruction count is exact.
func rdtsc(c *CPU, u *uop) bool {
	if c.cr4&cr4TSD != 0 && c.cpl != 0 {
		return c.gp(0)
	}
	c.setEDXEAX(c.TSC())
	if u.Op == isa.RDTSCP {
		c.r[isa.RCX] = c.msr.TSCAux
	}
	return true
}

func rdpid(c *CPU, u *uop) bool {
	c.setReg(u.Args[0].Reg, u.Args[0].Size, c.msr.TSCAux)
	return true
}

// rdpmc always faults: there are no counters.
func rdpmc(c *CPU, _ *uop) bool { return c.gp(0) }

// rdrand is RDRAND and RDSEED. The generator is SplitMix64, whose state is part of the machine's, so runs repeat.
func rdrand(c *CPU, u *uop) bool {
	c.random += 0x9e3779b97f4a7c15
	z := c.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	c.setReg(u.Args[0].Reg, u.OpSize, z^z>>31)
	c.f.setWord(FlagCF)
	return true
}
