package cpu

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/isa"
)

func stringHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.MOVS: repeated(stepMOVS, bulkMOVS), isa.STOS: repeated(stepSTOS, bulkSTOS), isa.LODS: repeated(stepLODS, nil),
		isa.CMPS: repeated(stepCMPS, bulkCMPS), isa.SCAS: repeated(stepSCAS, bulkSCAS),
		isa.INS: repeated(stepINS, nil), isa.OUTS: repeated(stepOUTS, nil),
	}
}

// A bulk does up to limit iterations (at least 1) at once, or as many as lie in one page, and moves rSI and rDI. It
// returns how many it did; none if it can't be sure that they are exactly what single steps would do.
type bulk func(c *CPU, u *uop, limit uint64) (done uint64)

// repeated makes the handler of a string instruction. With a prefix it is a block of its own, and each iteration
// counts as one instruction. The loop is left, with RIP at the instruction itself, when the deadline is reached or an
// interrupt waits; iterations that are done stay done, whatever follows (SDM vol. 2B, REP).
func repeated(step handler, fast bulk) handler {
	return func(c *CPU, u *uop) bool {
		if u.Prefix&(isa.PrefixRep|isa.PrefixRepne) == 0 {
			return step(c, u)
		}
		n := c.reg(isa.RCX, u.AddrSize)
		if n == 0 {
			return c.portStringAllowed(u)
		}
		entry := c.icount
		for {
			done := uint64(0)
			attention := c.alone || c.attention.Load() != 0
			if fast != nil && !attention {
				done = fast(c, u, min(n, c.until-c.icount))
			}
			if done == 0 {
				if !step(c, u) {
					if c.stop == stopAlone && c.icount != entry {
						c.stop = stopNone // begin again with this iteration
						break
					}
					return false
				}
				done = 1
			}
			n -= done
			c.setReg(isa.RCX, u.AddrSize, n)
			c.icount += done
			if n == 0 || u.Row.Attr&isa.Repe != 0 && c.f.zf() != (u.Prefix&isa.PrefixRep != 0) {
				c.icount-- // runBlock counts the last one
				return true
			}
			if attention || c.icount >= c.until || c.attention.Load() != 0 {
				break
			}
		}
		c.icount--
		c.rip = c.start(u)
		return true
	}
}

// portStringAllowed makes the privilege check of REP INS and REP OUTS that are to move nothing: silicon makes it before it
// looks at rCX.
func (c *CPU) portStringAllowed(u *uop) bool {
	return u.Op != isa.INS && u.Op != isa.OUTS || c.portAllowed(uint16(c.r[isa.RDX]), u.elementSize())
}

// advance moves rSI or rDI by n elements in the direction of DF.
func (c *CPU) advance(u *uop, r uint8, n uint64) {
	d := n * uint64(u.elementSize())
	if c.flags&FlagDF != 0 {
		d = -d
	}
	c.setReg(r, u.AddrSize, c.r[r]+d)
}

// elementSize is the size of one string element. The port of INS and OUTS is the other operand.
func (u *uop) elementSize() uint8 {
	if u.Op == isa.OUTS {
		return u.Args[1].Size
	}
	return u.Args[0].Size
}

// source computes the linear address of the element at rSI.
func (c *CPU) source(u *uop, size uint8) (uint64, bool) {
	return c.segment(u.Seg, c.reg(isa.RSI, u.AddrSize), uint64(size), false)
}

// destination computes the linear address of the element at rDI, which is always in ES.
func (c *CPU) destination(u *uop, size uint8, write bool) (uint64, bool) {
	return c.segment(isa.ES, c.reg(isa.RDI, u.AddrSize), uint64(size), write)
}

func (c *CPU) loadSource(u *uop, size uint8) (uint64, bool) {
	la, ok := c.source(u, size)
	if !ok {
		return 0, false
	}
	return c.load(la, size)
}

func (c *CPU) loadDestination(u *uop, size uint8) (uint64, bool) {
	la, ok := c.destination(u, size, false)
	if !ok {
		return 0, false
	}
	return c.load(la, size)
}

func (c *CPU) storeDestination(u *uop, size uint8, v uint64) bool {
	la, ok := c.destination(u, size, true)
	return ok && c.store(la, size, v)
}

func stepMOVS(c *CPU, u *uop) bool {
	size := u.elementSize()
	v, ok := c.loadSource(u, size)
	if !ok || !c.storeDestination(u, size, v) {
		return false
	}
	c.advance(u, isa.RSI, 1)
	c.advance(u, isa.RDI, 1)
	return true
}

func stepSTOS(c *CPU, u *uop) bool {
	if !c.storeDestination(u, u.elementSize(), c.r[isa.RAX]) {
		return false
	}
	c.advance(u, isa.RDI, 1)
	return true
}

func stepLODS(c *CPU, u *uop) bool {
	size := u.elementSize()
	v, ok := c.loadSource(u, size)
	if !ok {
		return false
	}
	c.setReg(isa.RAX, size, v)
	c.advance(u, isa.RSI, 1)
	return true
}

func stepCMPS(c *CPU, u *uop) bool {
	size := u.elementSize()
	a, ok := c.loadSource(u, size)
	if !ok {
		return false
	}
	b, ok := c.loadDestination(u, size)
	if !ok {
		return false
	}
	c.f.sub(a, b, 0, size)
	c.advance(u, isa.RSI, 1)
	c.advance(u, isa.RDI, 1)
	return true
}

func stepSCAS(c *CPU, u *uop) bool {
	size := u.elementSize()
	b, ok := c.loadDestination(u, size)
	if !ok {
		return false
	}
	c.f.sub(c.r[isa.RAX], b, 0, size)
	c.advance(u, isa.RDI, 1)
	return true
}

// stepINS reads the port only when the store that follows can't fail.
func stepINS(c *CPU, u *uop) bool {
	size := u.elementSize()
	port := uint16(c.r[isa.RDX])
	if !c.portAllowed(port, size) {
		return false
	}
	la, ok := c.destination(u, size, true)
	if !ok || !c.probeWrite(la, size) {
		return false
	}
	if !c.store(la, size, c.readPort(port, size)) {
		return false
	}
	c.advance(u, isa.RDI, 1)
	return true
}

func stepOUTS(c *CPU, u *uop) bool {
	size := u.elementSize()
	port := uint16(c.r[isa.RDX])
	if !c.portAllowed(port, size) {
		return false
	}
	v, ok := c.loadSource(u, size)
	if !ok {
		return false
	}
	c.writePort(port, size, v)
	c.advance(u, isa.RSI, 1)
	return true
}

// elements finds the host memory of the next string elements at segment:off in the direction of DF: those up to limit
// that lie in the page of the first and within the segment. low is the offset in the page of the lowest byte of the n
// elements. n is 0 if the page is not in the TLB or the first element is not wholly in it.
func (c *CPU) elements(u *uop, seg, reg uint8, limit uint64, write bool) (page *[4096]byte, low, n uint64) {
	size := uint64(u.elementSize())
	mask := sizeMask[u.AddrSize]
	off := c.r[reg] & mask
	la, ok := c.segment(seg, off, size, write)
	if !ok {
		c.stop = stopNone
		return nil, 0, 0
	}
	low = la & pageMask
	if mask-off < size-1 || low+size > 0x1000 {
		return nil, 0, 0
	}
	if page = c.hostPage(la, write); page == nil {
		return nil, 0, 0
	}
	if c.flags&FlagDF == 0 {
		n = min(limit, (0x1000-low)/size, (min(mask-off, 0x1000)+1)/size)
	} else {
		n = min(limit, low/size+1, off/size+1)
		low -= (n - 1) * size
		off -= (n - 1) * size
	}
	if _, ok = c.segment(seg, off, n*size, write); !ok {
		c.stop = stopNone
		return nil, 0, 0
	}
	return page, low, n
}

// pair finds the elements at rSI and rDI; n is what both have.
func (c *CPU) pair(u *uop, limit uint64, write bool) (src, dst []byte, n uint64, overlap uint64) {
	sp, s, ns := c.elements(u, u.Seg, isa.RSI, limit, false)
	if ns == 0 {
		return nil, nil, 0, 0
	}
	dp, d, nd := c.elements(u, isa.ES, isa.RDI, ns, write)
	if nd == 0 {
		return nil, nil, 0, 0
	}
	n = nd
	size := uint64(u.elementSize())
	down := c.flags&FlagDF != 0
	if down {
		s += (ns - n) * size
	}
	if sp == dp {
		// A copy must be cut in pieces if it reads what it has written before.
		if !down && d > s && d < s+n*size {
			overlap = d - s
		}
		if down && s > d && s < d+n*size {
			overlap = s - d
		}
	}
	return sp[s : s+n*size], dp[d : d+n*size], n, overlap
}

func bulkMOVS(c *CPU, u *uop, limit uint64) uint64 {
	src, dst, n, overlap := c.pair(u, limit, true)
	if n == 0 || overlap != 0 && overlap < uint64(u.elementSize()) {
		return 0
	}
	switch {
	case overlap == 0:
		copy(dst, src)
	case c.flags&FlagDF == 0:
		for i := 0; i < len(dst); i += int(overlap) {
			end := min(i+int(overlap), len(dst))
			copy(dst[i:end], src[i:end])
		}
	default:
		for i := len(dst); i > 0; i -= int(overlap) {
			start := max(i-int(overlap), 0)
			copy(dst[start:i], src[start:i])
		}
	}
	c.advance(u, isa.RSI, n)
	c.advance(u, isa.RDI, n)
	return n
}

func bulkSTOS(c *CPU, u *uop, limit uint64) uint64 {
	page, low, n := c.elements(u, isa.ES, isa.RDI, limit, true)
	if n == 0 {
		return 0
	}
	size := uint64(u.elementSize())
	dst := page[low : low+n*size]
	var v [8]byte
	binary.LittleEndian.PutUint64(v[:], c.r[isa.RAX])
	for i := copy(dst, v[:size]); i < len(dst); i *= 2 {
		copy(dst[i:], dst[:i])
	}
	c.advance(u, isa.RDI, n)
	return n
}

// element returns element i, counted in the direction of DF, of the bytes of n elements.
func element(p []byte, i, n uint64, size uint8, down bool) uint64 {
	if down {
		i = n - 1 - i
	}
	switch size {
	case 1:
		return uint64(p[i])
	case 2:
		return uint64(binary.LittleEndian.Uint16(p[i*2:]))
	case 4:
		return uint64(binary.LittleEndian.Uint32(p[i*4:]))
	default:
		return binary.LittleEndian.Uint64(p[i*8:])
	}
}

func bulkCMPS(c *CPU, u *uop, limit uint64) uint64 {
	src, dst, n, _ := c.pair(u, limit, false)
	if n == 0 {
		return 0
	}
	size, down, want := u.elementSize(), c.flags&FlagDF != 0, u.Prefix&isa.PrefixRep != 0
	for i := range n {
		a, b := element(src, i, n, size, down), element(dst, i, n, size, down)
		if (a == b) != want || i == n-1 {
			c.f.sub(a, b, 0, size)
			n = i + 1
			break
		}
	}
	c.advance(u, isa.RSI, n)
	c.advance(u, isa.RDI, n)
	return n
}

func bulkSCAS(c *CPU, u *uop, limit uint64) uint64 {
	page, low, n := c.elements(u, isa.ES, isa.RDI, limit, false)
	if n == 0 {
		return 0
	}
	size, down, want := u.elementSize(), c.flags&FlagDF != 0, u.Prefix&isa.PrefixRep != 0
	p := page[low : low+n*uint64(size)]
	a := c.reg(isa.RAX, size)
	for i := range n {
		b := element(p, i, n, size, down)
		if (a == b) != want || i == n-1 {
			c.f.sub(a, b, 0, size)
			n = i + 1
			break
		}
	}
	c.advance(u, isa.RDI, n)
	return n
}
