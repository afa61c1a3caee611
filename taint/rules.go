package taint

// The functions of this file are the meaning of the verbs. Each returns the taint of a size-byte result; all are pure.

// CopyTo is VerbCopy: bytes beyond the source are clean.
func CopyTo(m Mask, srcSize int) Mask { return m.Cut(srcSize) }

// SignExtend is VerbSignExtend.
func SignExtend(m Mask, srcSize, size int) Mask {
	m = m.Cut(srcSize)
	if m>>(srcSize-1)&1 != 0 {
		m |= All(size) &^ All(srcSize)
	}
	return m
}

// And is VerbBitwise for AND: a clean zero byte on one side makes the result's byte clean.
func And(a, b Mask, va, vb uint64) Mask {
	m := a | b
	for i := 0; i < 8; i++ {
		bit := Mask(1) << i
		if m&bit == 0 {
			continue
		}
		if a&bit == 0 && byte(va>>(8*i)) == 0 || b&bit == 0 && byte(vb>>(8*i)) == 0 {
			m &^= bit
		}
	}
	return m
}

// Or is VerbBitwise for OR: a clean 0xff byte on one side makes the result's byte clean.
func Or(a, b Mask, va, vb uint64) Mask { return And(a, b, ^va, ^vb) }

// Carry is VerbCarry over the union of the sources.
func Carry(m Mask, size int) Mask { return m.Cut(size).Up(size) }

// ShiftLeft is VerbShiftLeft by a clean count of bits: each byte of the result holds bits of two neighbouring bytes.
func ShiftLeft(m Mask, count, size int) Mask {
	if count >= 8*size {
		return Clean
	}
	r := m << (count / 8)
	if count%8 != 0 {
		r |= r << 1
	}
	return r.Cut(size)
}

// ShiftRight is VerbShiftRight by a clean count of bits. For an arithmetic shift, the bytes that the sign fills take the
// taint of the top byte.
func ShiftRight(m Mask, count, size int, arithmetic bool) Mask {
	m = m.Cut(size)
	top := m >> (size - 1) & 1
	if count >= 8*size {
		if arithmetic {
			return top.Spread(size)
		}
		return Clean
	}
	r := m >> (count / 8)
	if arithmetic && top != 0 {
		r |= All(size) &^ (All(size) >> (count / 8))
	}
	if count%8 != 0 {
		r |= r >> 1
		if arithmetic && top != 0 {
			r |= 1 << (size - 1)
		}
	}
	return r.Cut(size)
}

// RotateLeft is VerbRotate by a clean count of bits; a right rotation by n is a left rotation by 8*size-n.
func RotateLeft(m Mask, count, size int) Mask {
	m = m.Cut(size)
	count %= 8 * size
	n := count / 8
	r := (m<<n | m>>(size-n)).Cut(size)
	if count%8 != 0 {
		r |= (r<<1 | r>>(size-1)).Cut(size)
	}
	return r
}

// Lanes is VerbLane: each lane of the result is tainted as a whole if any byte of the sources in that lane is.
func Lanes(m Mask, lane, size int) Mask {
	var r Mask
	for i := 0; i < size; i += lane {
		l := All(lane) << i
		if m&l != 0 {
			r |= l
		}
	}
	return r.Cut(size)
}

// Select is VerbSelect for a choice between a (taken if cond) and b: with a tainted condition either may be taken, and
// which one is itself tainted.
func Select(a, b Mask, cond bool, condTaint Mask, size int) Mask {
	switch {
	case condTaint.Tainted():
		return All(size)
	case cond:
		return a.Cut(size)
	default:
		return b.Cut(size)
	}
}
