package taint

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// PageSize is the unit in which shadow is allocated, in bytes of guest memory.
const PageSize = 4096

// Page is the shadow of one page: a bit a byte, the lowest bit of the first byte for the first. The bytes behind the
// 512 stay zero; they let any access read whole words.
type Page struct {
	bits  [PageSize/8 + 16]byte
	count int // tainted bytes
}

// The pages are found by a table of two levels: pages of 2 MiB of memory lie together.
const (
	leafBits = 9
	// directLimit bounds the first level; what lies beyond (physical addresses from 2 TiB on) is in a map.
	directLimit = 1 << 20
)

type leaf [1 << leafBits]*Page

// Shadow is the taint of physical memory. Pages without a tainted byte cost nothing. It is not safe for concurrent use.
type Shadow struct {
	leaves []*leaf          // by physical page number / 512
	far    map[uint64]*leaf // beyond directLimit
	// changed is called when the first byte of a page becomes tainted or its last one clean.
	changed func(pfn uint64, tainted bool)
	pages   int
	tainted uint64
}

// NewShadow returns a clean shadow. changed, which may be nil, is told when a page becomes tainted or clean, so that a
// CPU can keep such pages off its fast path.
func NewShadow(changed func(pfn uint64, tainted bool)) *Shadow {
	return &Shadow{changed: changed}
}

// Page returns the shadow of the physical page with number pfn, nil if no byte of it is tainted. It is good until the
// next change of the shadow.
func (s *Shadow) Page(pfn uint64) *Page {
	if i := pfn >> leafBits; i < uint64(len(s.leaves)) {
		if l := s.leaves[i]; l != nil {
			return l[pfn&(1<<leafBits-1)]
		}
		return nil
	}
	return s.farPage(pfn)
}

func (s *Shadow) farPage(pfn uint64) *Page {
	if l := s.far[pfn>>leafBits]; l != nil {
		return l[pfn&(1<<leafBits-1)]
	}
	return nil
}

// put makes p, which may be nil, the shadow of page pfn.
func (s *Shadow) put(pfn uint64, p *Page) {
	i := pfn >> leafBits
	var l *leaf
	switch {
	case i >= directLimit:
		if l = s.far[i]; l == nil {
			if s.far == nil {
				s.far = make(map[uint64]*leaf)
			}
			l = new(leaf)
			s.far[i] = l
		}
	default:
		if n := i + 1; n > uint64(len(s.leaves)) {
			s.leaves = append(s.leaves, make([]*leaf, n-uint64(len(s.leaves)))...)
		}
		if l = s.leaves[i]; l == nil {
			l = new(leaf)
			s.leaves[i] = l
		}
	}
	l[pfn&(1<<leafBits-1)] = p
	if p == nil {
		s.pages--
	} else {
		s.pages++
	}
	if s.changed != nil {
		s.changed(pfn, p != nil)
	}
}

// PageTainted reports whether any byte of the physical page with number pfn is tainted.
func (s *Shadow) PageTainted(pfn uint64) bool { return s.Page(pfn) != nil }

// Bytes returns the number of tainted bytes of memory.
func (s *Shadow) Bytes() uint64 { return s.tainted }

// Pages returns the numbers of the pages with a tainted byte, in order.
func (s *Shadow) Pages() []uint64 {
	p := make([]uint64, 0, s.pages)
	add := func(i uint64, l *leaf) {
		if l == nil {
			return
		}
		for j, page := range l {
			if page != nil {
				p = append(p, i<<leafBits|uint64(j))
			}
		}
	}
	for i, l := range s.leaves {
		add(uint64(i), l)
	}
	for i, l := range s.far {
		add(i, l)
	}
	slices.Sort(p)
	return p
}

// Get returns the taint of size bytes, at most 64, at the physical address pa; they may cross a page.
func (s *Shadow) Get(pa uint64, size int) Mask {
	off := pa % PageSize
	if off+uint64(size) > PageSize {
		n := int(PageSize - off)
		return s.Get(pa, n) | s.Get(pa+uint64(n), size-n)<<n
	}
	p := s.Page(pa / PageSize)
	if p == nil {
		return Clean
	}
	return p.Get(off, size)
}

// Get returns the taint of size bytes, at most 64, at an offset; they lie in the page.
func (p *Page) Get(off uint64, size int) Mask {
	b := p.bits[off/8:]
	m := binary.LittleEndian.Uint64(b) >> (off % 8)
	if size > 56 {
		m |= uint64(b[8]) << (64 - off%8)
	}
	return Mask(m).Cut(size)
}

// Get8 is Get for at most 8 bytes, cut to those of keep.
func (p *Page) Get8(off uint64, keep Mask) Mask {
	b := p.bits[off/8%(PageSize/8):]
	return Mask(binary.LittleEndian.Uint16(b)>>(off%8)) & keep
}

// Set gives size bytes, at most 64, at pa the taint m.
func (s *Shadow) Set(pa uint64, size int, m Mask) {
	off := pa % PageSize
	if off+uint64(size) > PageSize {
		n := int(PageSize - off)
		s.Set(pa, n, m.Cut(n))
		s.Set(pa+uint64(n), size-n, m>>n)
		return
	}
	m = m.Cut(size)
	pfn := pa / PageSize
	p := s.Page(pfn)
	if p == nil {
		if m == 0 {
			return
		}
		p = new(Page)
		s.put(pfn, p)
	}
	old := p.Get(off, size)
	if old == m {
		return
	}
	b := p.bits[off/8:]
	shift := off % 8
	w := binary.LittleEndian.Uint64(b)
	w = w&^(uint64(All(size))<<shift) | uint64(m)<<shift
	binary.LittleEndian.PutUint64(b, w)
	if over := shift + uint64(size); over > 64 {
		b[8] = b[8]&^(1<<(over-64)-1) | byte(uint64(m)>>(64-shift))
	}
	s.counted(pfn, p, m.Count()-old.Count())
}

// counted notes that delta more bytes of page p are tainted.
func (s *Shadow) counted(pfn uint64, p *Page, delta int) {
	p.count += delta
	s.tainted += uint64(delta)
	if p.count == 0 {
		s.put(pfn, nil)
	}
}

// Copy copies the taint of n bytes at src to dst; each range lies in one page. If they overlap, the result is as if all
// had been read before any was written.
func (s *Shadow) Copy(dst, src, n uint64) {
	if s.Page(src/PageSize) == nil {
		s.Clear(dst, n)
		return
	}
	if (dst|src|n)%8 == 0 && n > 0 {
		s.copyBits(dst, src, n)
		return
	}
	if dst > src && dst < src+n {
		for n > 0 {
			step := min(n, 64)
			n -= step
			s.Set(dst+n, int(step), s.Get(src+n, int(step)))
		}
		return
	}
	for n > 0 {
		step := min(n, 64)
		s.Set(dst, int(step), s.Get(src, int(step)))
		dst, src, n = dst+step, src+step, n-step
	}
}

// copyBits is Copy for multiples of 8, whose bits are whole bytes. The page of src has taint.
func (s *Shadow) copyBits(dst, src, n uint64) {
	pfn := dst / PageSize
	to := s.Page(pfn)
	bits := s.Page(src / PageSize).bits[src%PageSize/8:][:n/8]
	if to == nil {
		if ones(bits) == 0 {
			return
		}
		to = new(Page)
		s.put(pfn, to)
	}
	place := to.bits[dst%PageSize/8:][:n/8]
	before := ones(place)
	copy(place, bits)
	s.counted(pfn, to, ones(place)-before)
}

// ones counts the bits of p.
func ones(p []byte) (n int) {
	for ; len(p) >= 8; p = p[8:] {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(p))
	}
	for _, b := range p {
		n += bits.OnesCount8(b)
	}
	return n
}

// Mark taints n bytes of memory at pa: a source.
func (s *Shadow) Mark(pa, n uint64) { s.fill(pa, n, ^uint64(0)) }

// Clear makes n bytes of memory at pa clean.
func (s *Shadow) Clear(pa, n uint64) { s.fill(pa, n, 0) }

func (s *Shadow) fill(pa, n, word uint64) {
	for n > 0 {
		off := pa % PageSize
		if word == 0 {
			if step := min(n, PageSize-off); s.Page(pa/PageSize) == nil {
				pa, n = pa+step, n-step
				continue
			}
		}
		if off == 0 && n >= PageSize {
			s.fillPage(pa/PageSize, word)
			pa, n = pa+PageSize, n-PageSize
			continue
		}
		step := min(n, 64-off%64)
		s.Set(pa, int(step), Mask(word).Cut(int(step)))
		pa, n = pa+step, n-step
	}
}

// fillPage is fill for a whole page.
func (s *Shadow) fillPage(pfn, word uint64) {
	p := s.Page(pfn)
	switch {
	case word == 0:
		s.counted(pfn, p, -p.count)
		return
	case p == nil:
		p = new(Page)
		s.put(pfn, p)
	case p.count == PageSize:
		return
	}
	for i := range p.bits[:PageSize/8] {
		p.bits[i] = 0xff
	}
	s.counted(pfn, p, PageSize-p.count)
}

// Any returns the lowest tainted physical address in [pa, pa+n), if there is one.
func (s *Shadow) Any(pa, n uint64) (first uint64, found bool) {
	for n > 0 {
		off := pa % PageSize
		step := min(n, PageSize-off)
		if s.Page(pa/PageSize) != nil {
			for left := step; left > 0; {
				k := min(left, 64)
				if m := s.Get(pa+step-left, int(k)); m != 0 {
					return pa + step - left + uint64(bits.TrailingZeros64(uint64(m))), true
				}
				left -= k
			}
		}
		pa, n = pa+step, n-step
	}
	return 0, false
}
