package taint

import (
	"math/bits"
	"slices"
)

// PageSize is the unit in which shadow is allocated, in bytes of guest memory.
const PageSize = 4096

// page is the shadow of one page, a bit a byte.
type page struct {
	bits  [PageSize / 64]uint64
	count int // tainted bytes
}

// Shadow is the taint of physical memory. Pages without a tainted byte cost nothing. It is not safe for concurrent use.
type Shadow struct {
	pages map[uint64]*page // by physical page number
	// changed is called when the first byte of a page becomes tainted or its last one clean.
	changed func(pfn uint64, tainted bool)
	tainted uint64
}

// NewShadow returns a clean shadow. changed, which may be nil, is told when a page becomes tainted or clean, so that a
// CPU can keep such pages off its fast path.
func NewShadow(changed func(pfn uint64, tainted bool)) *Shadow {
	return &Shadow{pages: make(map[uint64]*page), changed: changed}
}

// PageTainted reports whether any byte of the physical page with number pfn is tainted.
func (s *Shadow) PageTainted(pfn uint64) bool { return s.pages[pfn] != nil }

// Bytes returns the number of tainted bytes of memory.
func (s *Shadow) Bytes() uint64 { return s.tainted }

// Pages returns the numbers of the pages with a tainted byte, in order.
func (s *Shadow) Pages() []uint64 {
	p := make([]uint64, 0, len(s.pages))
	for pfn := range s.pages {
		p = append(p, pfn)
	}
	slices.Sort(p)
	return p
}

// Get returns the taint of size bytes, at most 64, at the physical address pa; they may cross a page.
func (s *Shadow) Get(pa uint64, size int) Mask {
	if len(s.pages) == 0 {
		return Clean
	}
	off := pa % PageSize
	if off+uint64(size) > PageSize {
		n := int(PageSize - off)
		return s.Get(pa, n) | s.Get(pa+uint64(n), size-n)<<n
	}
	p := s.pages[pa/PageSize]
	if p == nil {
		return Clean
	}
	return p.get(off, size)
}

func (p *page) get(off uint64, size int) Mask {
	i, b := off/64, off%64
	m := p.bits[i] >> b
	if b+uint64(size) > 64 {
		m |= p.bits[i+1] << (64 - b)
	}
	return Mask(m).Cut(size)
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
	p := s.pages[pfn]
	if p == nil {
		if m == 0 {
			return
		}
		p = new(page)
		s.pages[pfn] = p
		if s.changed != nil {
			s.changed(pfn, true)
		}
	}
	delta := m.Count() - p.get(off, size).Count()
	i, b := off/64, off%64
	p.bits[i] = p.bits[i]&^(uint64(All(size))<<b) | uint64(m)<<b
	if b+uint64(size) > 64 {
		p.bits[i+1] = p.bits[i+1]&^(uint64(All(size))>>(64-b)) | uint64(m)>>(64-b)
	}
	p.count += delta
	s.tainted += uint64(delta)
	if p.count == 0 {
		s.drop(pfn)
	}
}

func (s *Shadow) drop(pfn uint64) {
	delete(s.pages, pfn)
	if s.changed != nil {
		s.changed(pfn, false)
	}
}

// Mark taints n bytes of memory at pa: a source.
func (s *Shadow) Mark(pa, n uint64) { s.fill(pa, n, ^uint64(0)) }

// Clear makes n bytes of memory at pa clean.
func (s *Shadow) Clear(pa, n uint64) { s.fill(pa, n, 0) }

func (s *Shadow) fill(pa, n, word uint64) {
	for n > 0 {
		off := pa % PageSize
		if word == 0 {
			if step := min(n, PageSize-off); s.pages[pa/PageSize] == nil {
				pa, n = pa+step, n-step
				continue
			}
		}
		step := min(n, 64-off%64)
		s.Set(pa, int(step), Mask(word).Cut(int(step)))
		pa, n = pa+step, n-step
	}
}

// Any returns the lowest tainted physical address in [pa, pa+n), if there is one.
func (s *Shadow) Any(pa, n uint64) (first uint64, found bool) {
	for n > 0 {
		off := pa % PageSize
		step := min(n, PageSize-off)
		if s.pages[pa/PageSize] != nil {
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
