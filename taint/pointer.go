package taint

import "slices"

// Part is one addend of an address or of a sum: a register's value (an index already scaled) or a constant.
type Part struct {
	Value uint64
	Taint Mask
}

// Space says which numbers are addresses of the kernel.
type Space struct {
	// Lo and Hi bound them: Lo is the first and Hi the first no more.
	Lo, Hi uint64
	// Width is the size of addresses in bytes, 4 or 8.
	Width int
	// Origins are the bases of regions in which an address is computed from a number: the direct map (page_offset_base), the
	// array of struct page (vmemmap_base). Added to a physical address or a page number they make a pointer, and where that
	// leads is up to the number.
	Origins []uint64
	// OffsetsLo and OffsetsHi bound numbers that are offsets though they look like addresses: those of per-CPU variables, to
	// which a 32-bit kernel adds a processor's base, are where the linker put them.
	OffsetsLo, OffsetsHi uint64
}

// Upper is the upper half of linear addresses of the given number of bits (48 or 57; SDM vol. 1, 3.3.7.1), which on x86-64
// Linux is the kernel's. Small negative numbers, which are canonical too, are not taken for addresses: the last 2 GiB
// below -64 KiB are the kernel image and modules, and nothing is mapped in the last 64 KiB.
func Upper(bits uint) Space {
	return Space{Lo: ^uint64(0) << (bits - 1), Hi: ^uint64(0) - 0xffff, Width: 8}
}

// Above is what a 32-bit kernel has from the address split on, 0xc0000000 on most.
func Above(split uint32) Space {
	return Space{Lo: uint64(split), Hi: 0xffff0000, Width: 4}
}

// KernelAddress reports whether v is an address of the kernel.
func (s *Space) KernelAddress(v uint64) bool { return v >= s.Lo && v < s.Hi }

// PointerPart decides whether a sum points where a source said. Taint of an index says which element, not which object:
// table[tainted index] is local data, and a tainted base plus a local offset is not. So the one part that by its value is
// an address of the kernel decides, and the taint of the others is ignored. Where no part, or more than one, is an
// address (a base below a negative offset, a sum of two halves, a physical address and the base of the direct map), any
// taint of any part counts.
//
// The result is the taint of the deciding part, smeared upwards, as that of a sum.
func (s *Space) PointerPart(parts ...Part) Mask {
	var all, decided Mask
	n := 0
	for _, p := range parts {
		all |= p.Taint
		if s.Width == 4 {
			p.Value &= 0xffffffff
		}
		if s.KernelAddress(p.Value) && !slices.Contains(s.Origins, p.Value) && (p.Value < s.OffsetsLo || p.Value >= s.OffsetsHi) {
			decided = p.Taint
			n++
		}
	}
	if n != 1 {
		decided = all
	}
	return decided.Cut(s.Width).Up(s.Width)
}
