package cpu

import (
	"errors"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// maxBlock bounds the instructions of a block; maxOps bounds those of all blocks together (about 96 bytes each), after
// which everything is dropped and decoded anew.
const (
	maxBlock = 64
	maxOps   = 1 << 20
)

// block is a run of instructions that is entered at its first and left at its last: decoded once, kept by physical
// page. Within its page it is chained to the blocks that follow it; a chain never leaves the page, so that changes of
// translation, which end a block, cannot invalidate it.
type block struct {
	ops   []uop
	key   blockKey
	pa    uint64 // of the first byte
	size  uint32 // bytes
	valid bool
	// stops says that there may be an instruction breakpoint at its first byte; other blocks have none within them.
	stops bool
	// second is the physical page number of the second page for the one instruction that crosses a page.
	second uint64
	// tracked are the handlers that follow taint (track.go), one for each op; nil until they are needed.
	tracked []handler
	// steps is the number of handlers to call for all of ops: one less if the last two are fused.
	steps uint64
	// next are the blocks that were last seen to follow, with the low 12 bits of the RIP that they were entered by, or
	// noIP.
	next    *block
	nextIP  uint64
	other   *block
	otherIP uint64
	alt     *block // same address, different key
	page    *codePage

	// For redirection: how each op is executed, what the function that begins here means, and what was seen of the block
	// in the last context.
	kinds      []opKind
	hook       *Hook
	record     *record
	recordNode *callNode
}

// The jump cache remembers by RIP the blocks that were entered from other pages. It is a hint: what it finds counts only
// if the block is still valid and the instruction TLB still maps the page.
const (
	jumpSize = 4096
	jumpMask = jumpSize - 1
)

type jumpEntry struct {
	ip uint64
	b  *block
}

func jumpIndex(ip uint64) uint64 { return (ip ^ ip>>12) & jumpMask }

// noIP is no offset in a page.
const noIP = ^uint64(0)

// blockKey is what decoding and the choice of handlers depend on beside the bytes.
type blockKey uint8

// The bits of a blockKey beside the mode.
const (
	keyStack32 blockKey = 4 // the stack is 32 bits wide
	keyFlat    blockKey = 8 // all but FS and GS cover the 32-bit address space, and the stack is 32 bits wide
	// keyChecked, set in 64-bit mode and with keyFlat, says that no limit of the code segment needs checking.
	keyChecked blockKey = 16
)

// codePage holds the blocks that begin in one physical page.
type codePage struct {
	pfn    uint64
	host   *[4096]byte
	index  [4096]uint16 // block number + 1 by offset
	blocks []*block
	// crossing are blocks that begin in the page before and end in this one.
	crossing []*block
	// bytes is a bitmap of the bytes that blocks were decoded from.
	bytes [64]uint64
}

// codeCache is all decoded code.
type codeCache struct {
	pages map[uint64]*codePage // by physical page number
	ops   int
	spare []*codePage // empty ones
	arena []uop
}

func (p *codePage) covers(off, size uint64) bool {
	for i := off; i < off+size && i < 4096; i++ {
		if p.bytes[i>>6]>>(i&63)&1 != 0 {
			return true
		}
	}
	return false
}

func (p *codePage) cover(off, size uint64) {
	for i := off; i < off+size && i < 4096; i++ {
		p.bytes[i>>6] |= 1 << (i & 63)
	}
}

// currentKey is the key under which code is decoded now.
func (c *CPU) currentKey() blockKey {
	k := blockKey(0)
	switch c.mode {
	case isa.Mode64:
		return 3 | keyChecked
	case isa.Mode32:
		k = 1
	}
	if c.stackSize() == 4 {
		k |= keyStack32
		if c.flat() {
			k |= keyFlat | keyChecked
		}
	}
	return k
}

// flat reports that accesses through CS, SS, DS and ES need no check of limit and rights and no base.
func (c *CPU) flat() bool {
	const writable = vcpu.AttrP | vcpu.AttrS | vcpu.AttrWritable
	for _, i := range [4]uint8{isa.CS, isa.SS, isa.DS, isa.ES} {
		s := &c.seg[i]
		if s.Base != 0 || s.Limit != 0xffffffff {
			return false
		}
		if i != isa.CS && s.Attr&(writable|vcpu.AttrCode|vcpu.AttrExpand) != writable {
			return false
		}
	}
	return true
}

// lookup finds or builds the block at RIP. A nil block means that the fetch stopped: see c.stop.
func (c *CPU) lookup() *block {
	la := c.rip
	if c.key&keyChecked != 0 {
		j := &c.jumps[jumpIndex(la)]
		if b := j.b; j.ip == la && b != nil && b.key == c.key && b.valid {
			e := &c.itlb[la>>12&itlbMask]
			if e.tag == la>>12|c.ctx && e.page == b.page {
				return b
			}
		}
		b := c.lookupPage(la)
		if b != nil && b.second == 0 {
			*j = jumpEntry{ip: la, b: b}
		}
		return b
	}
	if c.mode != isa.Mode64 {
		if c.rip > uint64(c.seg[isa.CS].Limit) {
			c.gp(0)
			return nil
		}
		la = (c.seg[isa.CS].Base + c.rip) & 0xffffffff
	}
	return c.lookupPage(la)
}

// lookupPage finds or builds the block at linear address la.
func (c *CPU) lookupPage(la uint64) *block {
	e := &c.itlb[la>>12&itlbMask]
	if e.tag == la>>12|c.ctx {
		p := e.page
		if n := p.index[la&pageMask]; n != 0 {
			b := p.blocks[n-1]
			if b.key == c.key {
				if b.second == 0 {
					return b
				}
				la := c.wrapLinear(la&^pageMask + 0x1000)
				if e := &c.itlb[la>>12&itlbMask]; e.tag == la>>12|c.ctx && e.page.pfn == b.second-1 {
					return b
				}
			}
		}
	}
	return c.lookupSlow(la)
}

func (c *CPU) lookupSlow(la uint64) *block {
	pa, ok := c.translate(la, accessFetch)
	if !ok {
		return nil
	}
	p := c.code.pages[pa>>12]
	if p == nil {
		host, _ := c.mem.Page(pa &^ pageMask)
		if host == nil {
			c.notImplemented("instruction fetch from %#x, where there is no memory (linear address %#x)", pa, la)
			return nil
		}
		p = c.newCodePage(pa>>12, host)
		c.forbidWrites(host)
	}
	c.itlb[la>>12&itlbMask] = itlbEntry{tag: la>>12 | c.ctx, page: p}
	if n := p.index[la&pageMask]; n != 0 {
		for b := p.blocks[n-1]; b != nil; b = b.alt {
			if b.key != c.key {
				continue
			}
			if b.second == 0 {
				return b
			}
			la2 := c.wrapLinear(la&^pageMask + 0x1000)
			pa2, ok := c.translate(la2, accessFetch)
			if !ok {
				return nil
			}
			if pa2>>12 == b.second-1 {
				if p2 := c.code.pages[pa2>>12]; p2 != nil {
					c.itlb[la2>>12&itlbMask] = itlbEntry{tag: la2>>12 | c.ctx, page: p2}
				}
				return b
			}
		}
	}
	return c.build(p, la)
}

// build decodes a block from page p, in which the byte at linear address la lies.
func (c *CPU) build(p *codePage, la uint64) *block {
	if c.code.ops > maxOps {
		c.dropAllCode()
		return c.lookupSlow(la)
	}
	off := la & pageMask
	b := &block{key: c.key, pa: p.pfn<<12 | off, valid: true, nextIP: noIP, otherIP: noIP, page: p}
	start := c.allocOps()
	ops := start
	pos := off
	_, b.stops = c.debug.stops[uint16(off)]
	for len(ops) < maxBlock {
		if _, stop := c.debug.stops[uint16(pos)]; stop && len(ops) > 0 {
			break
		}
		in, err := isa.Decode(p.host[pos:], c.mode, c.feat)
		if errors.Is(err, isa.ErrTruncated) {
			if len(ops) > 0 {
				break
			}
			var second uint64
			in, second, err = c.decodeAcross(p, la)
			if second == 0 {
				return nil
			}
			b.second = second
		}
		u := uop{Inst: in}
		last := false
		if err != nil {
			// What the decoder has filled in before it failed must not be taken for an instruction.
			u.Inst = isa.Inst{Len: 1, Mode: c.mode, Base: isa.RegNone, Index: isa.RegNone}
			u.exec, last = invalidOpcode(err), true
		} else {
			if len(ops) > 0 && c.runsAlone(&u.Inst) {
				break
			}
			last = endsBlock(&u.Inst) || c.runsAlone(&u.Inst)
		}
		pos += uint64(u.Len)
		u.end = uint32(pos - off)
		u.index = uint16(len(ops))
		if u.exec == nil {
			if u.Base == isa.RegRIP {
				u.Disp += int64(u.end)
			}
			u.exec = c.handlerFor(&u, off)
		}
		ops = append(ops, u)
		if last || b.second != 0 || pos >= 4096 {
			break
		}
	}
	if r := c.redir; r != nil {
		if h, ok := r.Hooks[la]; ok {
			b.hook = &h
		}
	}
	b.ops = ops
	b.steps = uint64(len(ops))
	if c.fuse(ops, off) {
		b.steps--
	}
	b.size = uint32(pos - off)
	c.commitOps(len(ops))
	c.stats.BlocksBuilt++
	p.cover(off, uint64(b.size))
	if b.second != 0 {
		c.coverSecond(b, off+uint64(b.size)-0x1000)
	}
	if n := p.index[off]; n != 0 {
		b.alt = p.blocks[n-1]
		p.blocks[n-1] = b
	} else {
		p.blocks = append(p.blocks, b)
		p.index[off] = uint16(len(p.blocks))
	}
	return b
}

// decodeAcross decodes the instruction at la that runs over the end of page p. second is the number of the page that
// follows, plus 1; 0 means that the fetch stopped.
func (c *CPU) decodeAcross(p *codePage, la uint64) (in isa.Inst, second uint64, err error) {
	pa2, ok := c.translate(c.wrapLinear(la&^pageMask+0x1000), accessFetch)
	if !ok {
		return in, 0, nil
	}
	host, _ := c.mem.Page(pa2 &^ pageMask)
	if host == nil {
		c.notImplemented("instruction fetch from %#x, where there is no memory", pa2)
		return in, 0, nil
	}
	var buf [30]byte
	n := copy(buf[:], p.host[la&pageMask:])
	copy(buf[n:], host[:15])
	in, err = isa.Decode(buf[:n+15], c.mode, c.feat)
	return in, pa2>>12 + 1, err
}

// coverSecond makes stores into the first n bytes of the second page drop block b too.
func (c *CPU) coverSecond(b *block, n uint64) {
	pfn := b.second - 1
	p := c.code.pages[pfn]
	if p == nil {
		host, _ := c.mem.Page(pfn << 12)
		p = c.newCodePage(pfn, host)
		c.forbidWrites(host)
	}
	p.cover(0, n)
	p.crossing = append(p.crossing, b)
}

// allocOps returns an empty slice of the arena with room for a block.
func (c *CPU) allocOps() []uop {
	if cap(c.code.arena)-len(c.code.arena) < maxBlock {
		c.code.arena = make([]uop, 0, 64*maxBlock)
	}
	n := len(c.code.arena)
	return c.code.arena[n : n : n+maxBlock]
}

func (c *CPU) commitOps(n int) {
	c.code.arena = c.code.arena[:len(c.code.arena)+n]
	c.code.ops += n
}

// dropPage forgets all blocks that were decoded from page p.
func (c *CPU) dropPage(p *codePage) {
	for _, b := range p.blocks {
		for ; b != nil; b = b.alt {
			b.valid = false
		}
	}
	for _, b := range p.crossing {
		if !b.valid {
			continue
		}
		if first := c.code.pages[b.pa>>12]; first != nil && first != p {
			c.dropPage(first)
		}
	}
	c.unchain = true
	p.blocks, p.crossing = nil, nil
	p.index = [4096]uint16{}
	p.bytes = [64]uint64{}
	delete(c.code.pages, p.pfn)
	for i := range c.itlb {
		if c.itlb[i].page == p {
			c.itlb[i] = itlbEntry{}
		}
	}
	c.stats.CodeDrops++
}

// dropAllCode forgets all decoded code.
func (c *CPU) dropAllCode() {
	for _, p := range c.code.pages {
		for _, b := range p.blocks {
			for ; b != nil; b = b.alt {
				b.valid = false
			}
		}
	}
	c.unchain = true
	c.code = codeCache{pages: map[uint64]*codePage{}}
	c.itlb = [itlbSize]itlbEntry{}
	c.jumps = [jumpSize]jumpEntry{}
	c.stats.CodeDrops++
}

// recycleCode is dropAllCode for when no block is running: the memory of blocks is used again, which makes SetState cheap
// enough to be called for every few instructions.
func (c *CPU) recycleCode() {
	arena, spare := c.code.arena, c.code.spare
	for _, p := range c.code.pages {
		if len(spare) < 8 {
			p.index, p.bytes = [4096]uint16{}, [64]uint64{}
			spare = append(spare, p)
		}
	}
	c.dropAllCode()
	c.code.arena, c.code.spare = arena[:0], spare
}

// newCodePage makes a page known to the cache.
func (c *CPU) newCodePage(pfn uint64, host *[4096]byte) *codePage {
	var p *codePage
	if n := len(c.code.spare); n > 0 {
		p = c.code.spare[n-1]
		c.code.spare = c.code.spare[:n-1]
		p.blocks, p.crossing = p.blocks[:0], nil
	} else {
		p = new(codePage)
	}
	p.pfn, p.host = pfn, host
	c.code.pages[pfn] = p
	return p
}

// MemoryWritten tells the CPU that a device or a loader wrote n bytes of RAM at pa: code that was decoded from them is
// dropped, and taint too.
func (c *CPU) MemoryWritten(pa uint64, n int) {
	if c.track != nil {
		c.track.shadow.Clear(pa, uint64(n))
	}
	for end := pa + uint64(n); pa < end; {
		step := min(end-pa, 0x1000-pa&pageMask)
		if p := c.code.pages[pa>>12]; p != nil && p.covers(pa&pageMask, step) {
			c.dropPage(p)
		}
		pa += step
	}
}
