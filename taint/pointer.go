package taint

// Part is one addend of an address or of a sum: a register's value (an index already scaled) or a constant.
type Part struct {
	Value uint64
	Taint Mask
}

// KernelAddress reports whether v is a canonical address of the upper half, which on x86-64 Linux is the kernel's, with
// the given number of virtual address bits (48 or 57; SDM vol. 1, 3.3.7.1). Small negative numbers, which are canonical
// too, are not taken for addresses: the last 2 GiB below -64 KiB are the kernel image and modules, and nothing is mapped
// in the last 64 KiB.
func KernelAddress(v uint64, bits uint) bool {
	return v >= ^uint64(0)<<(bits-1) && v < ^uint64(0)-0xffff
}

// PointerPart decides whether a sum points where a source said. Taint of an index says which element, not which object:
// table[tainted index] is local data, and a tainted base plus a local offset is not. So the one part that by its value is
// an address of the kernel decides, and the taint of the others is ignored. Where no part, or more than one, is an
// address (a base below a negative offset, a sum of two halves), any taint of any part counts.
//
// The result is the taint of the deciding part, smeared upwards, as that of an 8-byte sum.
func PointerPart(bits uint, parts ...Part) Mask {
	var all, decided Mask
	n := 0
	for _, p := range parts {
		all |= p.Taint
		if KernelAddress(p.Value, bits) {
			decided = p.Taint
			n++
		}
	}
	if n != 1 {
		decided = all
	}
	return decided.Cut(8).Up(8)
}
