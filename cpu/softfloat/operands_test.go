package softfloat

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// cases is the number of cases of each operation: SOFTFLOAT_CASES, or a quick default.
func cases(t *testing.T, quick int) int {
	if s := os.Getenv("SOFTFLOAT_CASES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("SOFTFLOAT_CASES: %v", err)
		}
		return n
	}
	return quick
}

// source draws operands that meet the corners: exponents at the ends of their
// range and near each other, significands with few bits, long runs, or none.
type source struct{ *rand.Rand }

func newSource() source {
	seed := uint64(1)
	if s, err := strconv.ParseUint(os.Getenv("SOFTFLOAT_SEED"), 0, 64); err == nil {
		seed = s
	}
	return source{rand.New(rand.NewPCG(seed, 0x8087))}
}

// fraction returns w bits.
func (s source) fraction(w int) uint64 {
	m := uint64(1)<<w - 1
	if w == 64 {
		m = ^uint64(0)
	}
	switch s.IntN(9) {
	case 0:
		return 0
	case 1:
		return m
	case 2:
		return (1 << s.IntN(w)) & m
	case 3:
		return m &^ (1<<s.IntN(w) - 1)
	case 4:
		return m & (1<<s.IntN(w) - 1)
	case 5:
		return s.Uint64() & m &^ (1<<s.IntN(w) - 1)
	case 6:
		return (1<<(w-1) + uint64(s.IntN(5)) - 2) & m
	}
	return s.Uint64() & m
}

// exponent returns a biased exponent of w bits.
func (s source) exponent(w int) uint64 {
	maxExp := uint64(1)<<w - 1
	bias := maxExp >> 1
	switch s.IntN(10) {
	case 0:
		return 0
	case 1:
		return maxExp
	case 2:
		return 1 + uint64(s.IntN(3))
	case 3:
		return maxExp - 1 - uint64(s.IntN(3))
	case 4, 5:
		return bias + uint64(s.IntN(5)) - 2
	case 6:
		return bias + uint64(s.IntN(72)) - 4
	case 7: // products and quotients of these meet the ends
		return (bias/2 + uint64(s.IntN(66)) - 33) & maxExp
	case 8:
		return (bias + bias/2 + uint64(s.IntN(66)) - 33) & maxExp
	}
	return s.Uint64() & maxExp
}

func (s source) exponentNear(e uint64, w int) uint64 {
	if s.IntN(3) != 0 {
		return s.exponent(w)
	}
	maxExp := uint64(1)<<w - 1
	r := int64(e) + int64(s.IntN(140)) - 70
	if s.IntN(2) == 0 {
		r = int64(e) + int64(s.IntN(5)) - 2
	}
	return uint64(min(max(r, 0), int64(maxExp)))
}

func (s source) pair(eBits, fBits int) (a, b uint64) {
	ea := s.exponent(eBits)
	a = ea<<fBits | s.fraction(fBits) | s.Uint64N(2)<<(eBits+fBits)
	b = s.exponentNear(ea, eBits)<<fBits | s.fraction(fBits) | s.Uint64N(2)<<(eBits+fBits)
	if s.IntN(16) == 0 {
		b = a ^ s.Uint64N(2)<<(eBits+fBits)
	}
	return a, b
}

func (s source) pair32() (a, b uint32) {
	x, y := s.pair(8, 23)
	return uint32(x), uint32(y)
}

func (s source) pair64() (a, b uint64) { return s.pair(11, 52) }

func (s source) pair80() (a, b F80) {
	ea := s.exponent(15)
	a, b = s.f80(ea), s.f80(s.exponentNear(ea, 15))
	if s.IntN(16) == 0 {
		b = F80{a.Mant, a.SE ^ uint16(s.IntN(2)<<15)}
	}
	return a, b
}

func (s source) f80(be uint64) F80 {
	a := F80{intBit, uint16(be) | uint16(s.IntN(2)<<15)}
	if be == 0 {
		a.Mant = 0
	}
	if s.IntN(40) == 0 {
		a.Mant ^= intBit
	}
	a.Mant |= s.fraction(63)
	if s.IntN(3) == 0 { // values that came from shorter formats
		a.Mant &^= 1<<[]int{40, 11, 32}[s.IntN(3)] - 1
	}
	return a
}

// between draws values with unbiased exponents lo to hi.
func between(lo, hi int, negative bool) func(s source) F80 {
	return func(s source) F80 {
		a := F80{intBit | s.Uint64(), uint16(16383 + lo + s.IntN(hi-lo+1))}
		if s.IntN(3) == 0 {
			a.Mant = intBit | s.fraction(63)
		}
		if negative {
			a.SE |= uint16(s.IntN(2)) << 15
		}
		return a
	}
}
