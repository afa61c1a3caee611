package cpu

import (
	"sync/atomic"

	"github.com/hybridbridge/emu/cpu/isa"
)

// Bits of paging-structure entries (SDM vol. 3A, tables 4-4 to 4-20).
const (
	pteP  uint64 = 1 << 0
	pteW  uint64 = 1 << 1
	pteU  uint64 = 1 << 2
	pteA  uint64 = 1 << 5
	pteD  uint64 = 1 << 6
	ptePS uint64 = 1 << 7
	pteNX uint64 = 1 << 63
)

// Page-fault error code (SDM vol. 3A, 4.7).
const (
	pfP    uint32 = 1 << 0
	pfW    uint32 = 1 << 1
	pfU    uint32 = 1 << 2
	pfRSVD uint32 = 1 << 3
	pfI    uint32 = 1 << 4
)

// Privilege indexes of a translation context, in bits 52 and 53 of c.ctx.
const (
	privUser       = 0
	privSupervisor = 1 // SMAP applies if it is on
	privSMAPOff    = 2 // supervisor with RFLAGS.AC set under SMAP
	privUserAlign  = 3 // user with alignment checking: never entered into the TLB
)

const maxGeneration = 1<<10 - 1

// pagingMode is the number of levels of the paging structures, with 3 for PAE; 0 is no paging (SDM vol. 3A, 4.1.1).
type pagingMode uint8

const (
	pagingOff pagingMode = 0
	paging32  pagingMode = 2
	pagingPAE pagingMode = 3
	paging4   pagingMode = 4
	paging5   pagingMode = 5
)

// mmuState is what translation keeps beside the control registers.
type mmuState struct {
	mode     pagingMode
	physBits uint8
	physMask uint64 // the low physBits bits
	// reserved are the bits that are reserved in every present 8-byte entry.
	reserved uint64
	pdpte    [4]uint64

	// gen is the generation of the current address space, 1 to maxGeneration; last is the newest one in use.
	gen, last uint64
	// pcid gives the generation that holds the translations of a process-context identifier, 0 if there are none.
	pcid [4096]uint16
	// Which translations may stem from large pages, by hashes of their 2 MiB and 1 GiB regions (4 MiB pages count as
	// 1 GiB ones): INVLPG on such a region has more than one TLB entry to drop.
	large [32]uint64
	huge  uint64
}

// updateContext derives c.ctx from generation, CPL and RFLAGS.AC.
func (c *CPU) updateContext() { c.ctx = c.contextFor(c.cpl) }

// contextFor is the translation context at a privilege level.
func (c *CPU) contextFor(cpl uint8) uint64 {
	idx := uint64(privSupervisor)
	switch ac := c.flags&FlagAC != 0; {
	case cpl == 3 && ac && c.cr0&cr0AM != 0:
		idx = privUserAlign
	case cpl == 3:
		idx = privUser
	case ac && c.cr4&cr4SMAP != 0:
		idx = privSMAPOff
	}
	return c.mmu.gen<<54 | idx<<52
}

// systemContext makes accesses implicit supervisor accesses, as those to descriptor tables and task-state segments are
// (SDM vol. 3A, 4.6), until c.ctx is set back to what it returns.
func (c *CPU) systemContext() (old uint64) {
	old = c.ctx
	c.ctx = c.mmu.gen<<54 | privSupervisor<<52
	return old
}

// newGeneration gives the current address space a generation without translations.
func (c *CPU) newGeneration() {
	m := &c.mmu
	if m.last == maxGeneration {
		c.tlbR = [tlbSize]tlbEntry{}
		c.tlbW = [tlbSize]tlbEntry{}
		c.itlb = [itlbSize]itlbEntry{}
		m.pcid = [4096]uint16{}
		m.large = [32]uint64{}
		m.huge = 0
		m.last = 0
	}
	m.last++
	m.gen = m.last
	m.pcid[c.currentPCID()] = uint16(m.gen)
	c.updateContext()
	c.unchain = true
}

// flushAll drops the translations of all address spaces, global ones too.
func (c *CPU) flushAll() {
	c.mmu.pcid = [4096]uint16{}
	c.newGeneration()
}

// currentPCID is the current process-context identifier (SDM vol. 3A, 4.10.1).
func (c *CPU) currentPCID() uint64 {
	if c.cr4&cr4PCIDE == 0 {
		return 0
	}
	return c.cr3 & 0xfff
}

// pagingChanged derives the paging mode and the reserved bits after a change of CR0, CR4 or EFER.
func (c *CPU) pagingChanged() {
	m := &c.mmu
	switch {
	case c.cr0&cr0PG == 0:
		m.mode = pagingOff
	case c.cr4&cr4PAE == 0:
		m.mode = paging32
	case !c.longMode():
		m.mode = pagingPAE
	case c.cr4&cr4LA57 == 0:
		m.mode = paging4
	default:
		m.mode = paging5
	}
	m.reserved = (1<<52 - 1) &^ m.physMask
	if m.mode == pagingPAE {
		m.reserved = (1<<63 - 1) &^ m.physMask
	}
	if c.msr.EFER&eferNXE == 0 {
		m.reserved |= pteNX
	}
}

// canonical reports whether la is canonical for the current width of linear addresses (SDM vol. 1, 3.3.7.1).
func (c *CPU) canonical(la uint64) bool {
	if c.cr4&cr4LA57 != 0 {
		return int64(la<<7)>>7 == int64(la)
	}
	return int64(la<<16)>>16 == int64(la)
}

// walk is the result of following the paging structures.
type walk struct {
	pa uint64
	// entries are the entries that were used, the leaf last.
	entries [5]entryRef
	n       int
	// rights is the conjunction of the entries' W and U bits; nx says that one of them had XD set.
	rights uint64
	nx     bool
	// shift is the width of the offset in the page: 12, 21, 22 or 30.
	shift uint
	// fault holds pfP|pfRSVD for a reserved bit, 0 for an entry that is not present; valid if ok is false.
	fault uint32
}

// entryRef is a paging-structure entry in guest memory: 8 bytes wide or 4 narrow, nil where it cannot be written.
type entryRef struct {
	wide   *uint64
	narrow *uint32
	pa     uint64
	value  uint64
}

// readEntry reads an entry of size bytes. Where there is no RAM all bits read as one, which is a reserved-bit fault.
func (c *CPU) readEntry(pa uint64, size uint64) entryRef {
	page, writable := c.mem.Page(pa &^ pageMask)
	if page == nil {
		return entryRef{value: ^uint64(0) >> (64 - 8*size)}
	}
	r := entryRef{pa: pa}
	if size == 8 {
		p := word64(page, pa&pageMask)
		r.value = atomic.LoadUint64(p)
		if writable {
			r.wide = p
		}
		return r
	}
	p := word32(page, pa&pageMask)
	r.value = uint64(atomic.LoadUint32(p))
	if writable {
		r.narrow = p
	}
	return r
}

// setEntry sets bits of the entry in guest memory, atomically, if they are not set.
func (c *CPU) setEntry(r *entryRef, bits uint64) {
	if r.value&bits == bits {
		return
	}
	switch {
	case r.wide != nil:
		atomic.OrUint64(r.wide, bits)
	case r.narrow != nil:
		atomic.OrUint32(r.narrow, uint32(bits))
	default:
		return
	}
	c.MemoryWritten(r.pa, 1)
}

// walk follows the paging structures for a linear address (SDM vol. 3A, 4.3 to 4.5) and changes nothing.
func (c *CPU) walk(la uint64, w *walk) (ok bool) {
	switch m := &c.mmu; m.mode {
	case pagingOff:
		w.pa, w.rights, w.shift = la&0xffffffff, pteW|pteU, 12
		return true
	case paging32:
		return c.walk32(la&0xffffffff, w)
	case pagingPAE:
		la &= 0xffffffff
		// The registers hold the top level; their W and U are reserved and count as set.
		e := m.pdpte[la>>30]
		if e&pteP == 0 {
			return false
		}
		return c.walk64(la, e&m.physMask&^pageMask, 2, w)
	default:
		return c.walk64(la, c.cr3&m.physMask&^pageMask, int(m.mode), w)
	}
}

// walk64 follows 8-byte entries from a table of the given level.
func (c *CPU) walk64(la, table uint64, level int, w *walk) bool {
	m := &c.mmu
	w.rights = pteW | pteU
	for shift := uint(12 + 9*(level-1)); ; shift -= 9 {
		e := &w.entries[w.n]
		*e = c.readEntry(table+la>>shift&511*8, 8)
		v := e.value
		if v&pteP == 0 {
			return false
		}
		reserved := m.reserved
		leaf := shift == 12
		if v&ptePS != 0 && !leaf {
			if shift > 30 || shift == 30 && (!c.model.Has(ModelPDPE1GB) || m.mode == pagingPAE) {
				reserved |= ptePS
			} else {
				leaf = true
				reserved |= (1<<shift - 1) &^ (1<<13 - 1)
			}
		}
		if v&reserved != 0 {
			w.fault = pfP | pfRSVD
			return false
		}
		w.n++
		w.rights &= v
		w.nx = w.nx || v&pteNX != 0
		if leaf {
			offset := uint64(1)<<shift - 1
			w.shift = shift
			w.pa = v&m.physMask&^pageMask&^offset | la&offset
			return true
		}
		table = v & m.physMask &^ pageMask
	}
}

// walk32 follows 4-byte entries (SDM vol. 3A, 4.3), with 4-MByte pages and PSE-36.
func (c *CPU) walk32(la uint64, w *walk) bool {
	w.rights = pteW | pteU
	e := &w.entries[0]
	*e = c.readEntry(c.cr3&0xfffff000+la>>22*4, 4)
	v := e.value
	if v&pteP == 0 {
		return false
	}
	w.n = 1
	w.rights &= v
	if v&ptePS != 0 && c.cr4&cr4PSE != 0 {
		// Bits 20:13 are bits 39:32 of the address, as far as MAXPHYADDR goes; bit 21 and what lies between are reserved.
		high := v >> 13 & 0xff << 32
		if v&(1<<21) != 0 || high&^c.mmu.physMask != 0 {
			w.fault = pfP | pfRSVD
			return false
		}
		w.shift = 22
		w.pa = high | v&0xffc00000 | la&0x3fffff
		return true
	}
	e = &w.entries[1]
	*e = c.readEntry(v&0xfffff000+la>>12&0x3ff*4, 4)
	v = e.value
	if v&pteP == 0 {
		return false
	}
	w.n = 2
	w.rights &= v
	w.shift = 12
	w.pa = v&0xfffff000 | la&pageMask
	return true
}

// translate finds the physical address of la, checks that the access is allowed under the privilege in c.ctx, and sets
// accessed and dirty bits if it is. Else the fault is raised.
func (c *CPU) translate(la uint64, acc access) (pa uint64, ok bool) {
	m := &c.mmu
	if r := c.redir; r != nil && r.nroutes != 0 {
		if pa, hit, ok := c.elsewhere(la, acc); hit {
			if !ok {
				if r.Unmapped != nil {
					if err := r.Unmapped(c.r[isa.RegRIP], la); err != nil {
						return 0, c.finding(err)
					}
				}
				return 0, c.pageFault(la, c.faultBits(acc, false))
			}
			return pa, true
		}
	}
	if m.mode == pagingOff {
		return la & 0xffffffff, true
	}
	if m.mode >= paging4 && !c.canonical(la) {
		return 0, c.notCanonical(la)
	}
	c.stats.TLBMisses++
	var w walk
	priv := c.ctx >> 52 & 3
	user := priv == privUser || priv == privUserAlign
	if !c.walk(la, &w) {
		return 0, c.pageFault(la, w.fault|c.faultBits(acc, user))
	}
	allowed := true
	switch userPage := w.rights&pteU != 0; {
	case acc == accessFetch && w.nx,
		user && !userPage,
		!user && userPage && (acc == accessFetch && c.cr4&cr4SMEP != 0 ||
			acc != accessFetch && priv == privSupervisor && c.cr4&cr4SMAP != 0):
		allowed = false
	case acc == accessWrite && w.rights&pteW == 0:
		allowed = !user && c.cr0&cr0WP == 0
	}
	if !allowed {
		return 0, c.pageFault(la, pfP|c.faultBits(acc, user))
	}
	for i := range w.entries[:w.n] {
		bits := pteA
		if i == w.n-1 && acc == accessWrite {
			bits |= pteD
		}
		c.setEntry(&w.entries[i], bits)
	}
	if w.shift != 12 {
		m.noteLarge(la, w.shift)
	}
	return w.pa, true
}

// faultBits are the bits of the error code that describe the access.
func (c *CPU) faultBits(acc access, user bool) (code uint32) {
	if acc == accessWrite {
		code |= pfW
	}
	if user {
		code |= pfU
	}
	if acc == accessFetch && (c.cr4&cr4SMEP != 0 || c.msr.EFER&eferNXE != 0 && c.cr4&cr4PAE != 0) {
		code |= pfI
	}
	return code
}

// notCanonical raises #GP(0) for a linear address that is not canonical. It becomes #SS(0) if the instruction turns out
// to have reached it through the stack segment; see stackFault.
func (c *CPU) notCanonical(la uint64) bool {
	c.gp(0)
	c.exc.notCanonical = true
	c.exc.cr2 = la
	return false
}

// loadPDPTEs loads the four page-directory-pointer-table registers of PAE paging for a value of CR3. It reports false,
// and changes nothing, if a present entry has a reserved bit set (SDM vol. 3A, 4.4.1).
func (c *CPU) loadPDPTEs(cr3 uint64) bool {
	var p [4]uint64
	for i := range p {
		p[i] = c.readEntry(cr3&0xffffffe0+uint64(i)*8, 8).value
		if p[i]&pteP != 0 && p[i]&(^c.mmu.physMask|0x1e6) != 0 {
			return false
		}
	}
	c.mmu.pdpte = p
	return true
}

func largeHash(la uint64) uint64 { return (la>>21 ^ la>>32) & 2047 }
func hugeHash(la uint64) uint64  { return (la>>30 ^ la>>37 ^ la>>43) & 63 }

func (m *mmuState) noteLarge(la uint64, shift uint) {
	if shift == 21 {
		h := largeHash(la)
		m.large[h>>6] |= 1 << (h & 63)
	} else {
		m.huge |= 1 << hugeHash(la)
	}
}

// invalidatePage drops the translations of the page that holds la, of whatever size, in all address spaces (SDM vol.
// 3A, 4.10.4.1 allows to drop more than is asked).
func (c *CPU) invalidatePage(la uint64) {
	shift := uint(12)
	if h := largeHash(la); c.mmu.large[h>>6]>>(h&63)&1 != 0 {
		shift = 21
	}
	if c.mmu.huge>>hugeHash(la)&1 != 0 {
		shift = 30
	}
	if shift == 12 {
		c.tlbR[la>>12&tlbMask].tag = 0
		c.tlbW[la>>12&tlbMask].tag = 0
		c.itlb[la>>12&itlbMask].tag = 0
		c.unchain = true
		return
	}
	const pageBits = 1<<52 - 1
	s := shift - 12
	want := la >> 12 >> s
	for i := range c.tlbR {
		if c.tlbR[i].tag&pageBits>>s == want {
			c.tlbR[i].tag = 0
		}
		if c.tlbW[i].tag&pageBits>>s == want {
			c.tlbW[i].tag = 0
		}
	}
	for i := range c.itlb {
		if c.itlb[i].tag&pageBits>>s == want {
			c.itlb[i].tag = 0
		}
	}
	c.unchain = true
}

// setCR3 loads CR3 (SDM vol. 3A, 4.10.4.1). keep says that translations tagged with the new PCID stay valid.
func (c *CPU) setCR3(v uint64, keep bool) {
	c.cr3 = v
	if gen := c.mmu.pcid[c.currentPCID()]; keep && gen != 0 {
		c.mmu.gen = uint64(gen)
		c.updateContext()
		c.unchain = true
		return
	}
	c.newGeneration()
}

// stackFault turns the #GP for a non-canonical address into #SS if u reached it through the stack segment (SDM vol. 1,
// 3.3.7.1): by a memory operand with base rSP or rBP, or by its implicit stack accesses.
func (c *CPU) stackFault(u *uop) {
	c.exc.notCanonical = false
	stack := false
	switch u.Op {
	case isa.PUSH, isa.POP, isa.PUSHF, isa.POPF, isa.CALL, isa.CALL_IND, isa.RET, isa.ENTER, isa.LEAVE, isa.PUSH_SEG,
		isa.POP_SEG, isa.CALL_FAR, isa.RET_FAR, isa.IRET:
		stack = true
	}
	if u.HasMem() && c.mode == isa.Mode64 {
		off := c.offset(u)
		if u.Seg >= isa.FS {
			off += c.seg[u.Seg].Base
		}
		reached := c.exc.cr2-off < 4096
		if stack {
			// The stack may lie as near: POP reads it first, the others the operand.
			last := uint64(u.OpSize) - 1
			if u.Op == isa.POP {
				reached = c.canonical(c.r[isa.RSP]) && c.canonical(c.r[isa.RSP]+last)
			} else {
				reached = !c.canonical(off) || !c.canonical(off+last)
			}
		}
		if reached {
			if u.Seg == isa.SS {
				c.exc.vector = VectorSS
			}
			return
		}
	}
	if stack {
		c.exc.vector = VectorSS
	}
	switch u.Op {
	case isa.BT, isa.BTS, isa.BTR, isa.BTC:
		// The bit number can lead away from the operand's address.
		if u.HasMem() && u.Seg == isa.SS {
			c.exc.vector = VectorSS
		}
	}
}
