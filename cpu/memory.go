package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// access is what a memory access wants to do; the translation checks it.
type access uint8

const (
	accessRead access = iota
	accessWrite
	accessFetch
)

// loadSlow serves what misses the TLB: page crossings, first accesses, devices.
func (c *CPU) loadSlow(la uint64, size uint64) (uint64, bool) {
	if !c.endCanonical(la, size) {
		return 0, false
	}
	if !c.aligned(la, size, accessRead) {
		return 0, false
	}
	if off := la & pageMask; off+size > 0x1000 {
		n := 0x1000 - off
		lo, ok := c.loadSpan(la, n)
		if !ok {
			return 0, false
		}
		hi, ok := c.loadSpan(c.wrapLinear(la+n), size-n)
		return lo | hi<<(n*8), ok
	}
	return c.loadSpan(la, size)
}

// loadSpan reads up to 8 bytes that lie in one page.
func (c *CPU) loadSpan(la, size uint64) (uint64, bool) {
	pa, ok := c.translate(la, accessRead)
	if !ok {
		return 0, false
	}
	page, _ := c.mem.Page(pa &^ pageMask)
	if page == nil {
		if !c.alone {
			c.stop = stopAlone
			return 0, false
		}
		return c.readMMIO(pa, size), true
	}
	if !c.watch(la, size, accessRead) {
		return 0, false
	}
	if !c.checkLoad(pa, size) {
		return 0, false
	}
	if c.mayCache(la) && c.mayCachePage(pa) {
		c.fillRead(la, pa, page)
	}
	var v uint64
	for i, b := range page[pa&pageMask:][:size] {
		v |= uint64(b) << (8 * i)
	}
	return v, true
}

// loadBytes reads any number of bytes; a fault leaves p partly filled.
func (c *CPU) loadBytes(la uint64, p []byte) bool {
	if !c.endCanonical(la, uint64(len(p))) {
		return false
	}
	for len(p) > 0 {
		n := min(8, len(p), int(0x1000-la&pageMask))
		v, ok := c.loadSpan(la, uint64(n))
		if !ok {
			return false
		}
		for i := range n {
			p[i] = byte(v >> (8 * i))
		}
		p, la = p[n:], c.wrapLinear(la+uint64(n))
	}
	return true
}

// storeSlow serves what misses the TLB. It writes nothing unless all bytes can be written.
func (c *CPU) storeSlow(la, size, v uint64) bool {
	if !c.probeWriteSlow(la, size) {
		return false
	}
	if off := la & pageMask; off+size > 0x1000 {
		n := 0x1000 - off
		return c.storeSpan(la, n, v) && c.storeSpan(c.wrapLinear(la+n), size-n, v>>(n*8))
	}
	return c.storeSpan(la, size, v)
}

// storeBytes writes any number of bytes that lie in at most two pages, all or none.
func (c *CPU) storeBytes(la uint64, p []byte) bool {
	if !c.probeWriteSlow(la, uint64(len(p))) {
		return false
	}
	for len(p) > 0 {
		n := min(8, len(p), int(0x1000-la&pageMask))
		var v uint64
		for i := range n {
			v |= uint64(p[i]) << (8 * i)
		}
		if !c.storeSpan(la, uint64(n), v) {
			return false
		}
		p, la = p[n:], c.wrapLinear(la+uint64(n))
	}
	return true
}

// storeSpan writes up to 8 bytes that lie in one page.
func (c *CPU) storeSpan(la, size, v uint64) bool {
	pa, ok := c.translate(la, accessWrite)
	if !ok {
		return false
	}
	page, writable := c.mem.Page(pa &^ pageMask)
	if page == nil {
		if !c.alone {
			c.stop = stopAlone
			return false
		}
		c.writeMMIO(pa, size, v)
		return true
	}
	if !writable {
		return true // ROM ignores writes
	}
	if !c.watch(la, size, accessWrite) {
		return false
	}
	if cp := c.code.pages[pa>>12]; cp != nil {
		if cp.covers(pa&pageMask, size) {
			if !c.alone {
				c.stop = stopAlone
				return false
			}
			c.dropPage(cp)
		}
	} else if c.mayCache(la) && c.mayCachePage(pa) {
		c.fillWrite(la, pa, page)
	}
	c.checkStore(pa, size)
	for i := range page[pa&pageMask:][:size] {
		page[pa&pageMask+uint64(i)] = byte(v >> (8 * i))
	}
	return true
}

// probeWriteSlow makes sure that size bytes at la, in at most two pages, can be written without a stop.
func (c *CPU) probeWriteSlow(la, size uint64) bool {
	if !c.endCanonical(la, size) || !c.aligned(la, size, accessWrite) {
		return false
	}
	for size > 0 {
		n := min(size, 0x1000-la&pageMask)
		pa, ok := c.translate(la, accessWrite)
		if !ok {
			return false
		}
		if !c.alone {
			page, _ := c.mem.Page(pa &^ pageMask)
			cp := c.code.pages[pa>>12]
			if page == nil || cp != nil && cp.covers(pa&pageMask, n) || !c.mayCache(la) && c.ctx>>54 != 0 {
				c.stop = stopAlone
				return false
			}
		}
		la, size = c.wrapLinear(la+n), size-n
	}
	return true
}

// endCanonical raises #GP for an operand that begins at a canonical address and ends at one that is not; that goes
// before a page fault at its beginning (silicon). 80-bit operands are accessed as 8 bytes and 2; state images are not
// looked at as a whole.
func (c *CPU) endCanonical(la, size uint64) bool {
	if size == 10 {
		size = 8
	}
	if c.mmu.mode < paging4 || size&(size-1) != 0 || size == 0 || size > 16 || c.canonical(la+size-1) || !c.canonical(la) {
		return true
	}
	return c.notCanonical(la + size - 1)
}

// aligned raises #AC for a word, doubleword or quadword that is not at a multiple of its size, where alignment is checked (SDM
// vol. 3A, 6.15, "Interrupt 17"). Page faults go first.
func (c *CPU) aligned(la, size uint64, acc access) bool {
	if c.ctx>>52&3 != privUserAlign || size > 8 || size&(size-1) != 0 || la&(size-1) == 0 {
		return true
	}
	for _, at := range [2]uint64{la, la + size - 1} {
		if _, ok := c.translate(c.wrapLinear(at), acc); !ok {
			return false
		}
	}
	return c.raiseCode(VectorAC, 0)
}

// alignedParts raises #AC for an operand of other sizes that is not at a multiple of part: 8 for 80-bit operands, the
// operand size for x87 state images (SDM vol. 3A, table 6-7). A fault at its beginning goes first.
func (c *CPU) alignedParts(la, part uint64, acc access) bool {
	if !c.endCanonical(la, part) {
		return false
	}
	if c.ctx>>52&3 != privUserAlign || la&(part-1) == 0 {
		return true
	}
	if _, ok := c.translate(la, acc); !ok {
		return false
	}
	return c.raiseCode(VectorAC, 0)
}

// wrapLinear keeps linear addresses within 32 bits outside 64-bit mode. In compatibility mode that goes for those of the
// program, which can have run over the top by less than a page, and not for those of descriptor tables and the TSS.
func (c *CPU) wrapLinear(la uint64) uint64 {
	switch {
	case c.mode == isa.Mode64:
		return la
	case !c.longMode():
		return la & 0xffffffff
	case la>>12 == 1<<20:
		return la & pageMask
	}
	return la
}

// readMMIO reads a device in naturally aligned pieces of at most 8 bytes.
func (c *CPU) readMMIO(pa, size uint64) uint64 {
	c.stats.MMIOExits++
	if size&(size-1) == 0 && pa&(size-1) == 0 {
		return c.plat.ReadMMIO(pa, int(size))
	}
	var v uint64
	for i := range size {
		v |= c.plat.ReadMMIO(pa+i, 1) & 0xff << (8 * i)
	}
	return v
}

func (c *CPU) writeMMIO(pa, size, v uint64) {
	c.stats.MMIOExits++
	if size&(size-1) == 0 && pa&(size-1) == 0 {
		c.plat.WriteMMIO(pa, int(size), v)
		return
	}
	for i := range size {
		c.plat.WriteMMIO(pa+i, 1, v>>(8*i)&0xff)
	}
}
