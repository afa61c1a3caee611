package taint

import "math/bits"

// Mask is the taint of a value of at most 64 bytes: bit i is set if byte i is tainted, byte 0 being the least
// significant.
type Mask uint64

// Clean is the taint of a value that owes nothing to a source.
const Clean Mask = 0

// All returns the mask of a wholly tainted value of size bytes, 0 to 64.
func All(size int) Mask {
	if size >= 64 {
		return ^Mask(0)
	}
	return 1<<size - 1
}

// Cut drops what lies above size bytes.
func (m Mask) Cut(size int) Mask { return m & All(size) }

// Tainted reports whether any byte is.
func (m Mask) Tainted() bool { return m != 0 }

// Count returns the number of tainted bytes.
func (m Mask) Count() int { return bits.OnesCount64(uint64(m)) }

// Up taints every byte above the lowest tainted one: the way of a carry.
func (m Mask) Up(size int) Mask { return (-(m & -m)).Cut(size) }

// Down taints every byte below the highest tainted one: the way of a shift to the right by an unknown count.
func (m Mask) Down() Mask {
	if m == 0 {
		return 0
	}
	return ^Mask(0) >> bits.LeadingZeros64(uint64(m))
}

// Spread taints all size bytes if any is tainted.
func (m Mask) Spread(size int) Mask {
	if m == 0 {
		return 0
	}
	return All(size)
}
