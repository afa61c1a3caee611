package softfloat

import "math/bits"

type class uint8

const (
	zero class = iota
	finite
	infinity
	quietNaN
	signalNaN
	unsupported // an 80-bit encoding without meaning since the 387
)

const (
	intBit   = uint64(1) << 63 // the integer bit of a significand
	quietBit = uint64(1) << 62
	nanMant  = intBit | quietBit
)

// num is an unpacked operand of any format. A finite value is mant * 2^(exp-63)
// with intBit set. A NaN keeps its significand as the 80-bit format would.
type num struct {
	mant     uint64
	exp      int32
	cls      class
	neg      bool
	denormal bool // raises DE when used
}

func (n num) isNaN() bool { return n.cls == quietNaN || n.cls == signalNaN }

// format describes a destination. bias is also its largest exponent, 1-bias its smallest.
type format struct {
	prec   uint
	bias   int32
	wrap   int32 // x87 register results: exponent adjustment of unmasked overflow and underflow
	memory bool  // an x87 store, which stops at an unmasked overflow or underflow without looking for Inexact
}

var (
	fmt32 = format{prec: 24, bias: 127}
	fmt64 = format{prec: 53, bias: 1023}
	mem32 = format{prec: 24, bias: 127, memory: true}
	mem64 = format{prec: 53, bias: 1023, memory: true}
	fmt80 = format{prec: 64, bias: 16383, wrap: 24576}
)

// unpackIEEE splits a 32- or 64-bit value whose fraction is already moved to bits 62..0.
func unpackIEEE(neg bool, be, beMax int32, frac uint64, daz bool) num {
	n := num{neg: neg}
	switch {
	case be == beMax && frac == 0:
		n.cls, n.mant = infinity, intBit
	case be == beMax:
		n.cls, n.mant = signalNaN, intBit|frac
		if frac&quietBit != 0 {
			n.cls = quietNaN
		}
	case be != 0:
		n.cls, n.mant, n.exp = finite, intBit|frac, be-beMax>>1
	case frac != 0 && !daz:
		lz := bits.LeadingZeros64(frac)
		n.cls, n.mant, n.exp, n.denormal = finite, frac<<lz, 1-beMax>>1-int32(lz), true
	}
	return n
}

func unpack32(a uint32, daz bool) num {
	return unpackIEEE(a>>31 != 0, int32(a>>23&0xFF), 0xFF, uint64(a)<<40&^intBit, daz)
}

func unpack64(a uint64, daz bool) num {
	return unpackIEEE(a>>63 != 0, int32(a>>52&0x7FF), 0x7FF, a<<11&^intBit, daz)
}

func unpack80(a F80) num {
	be := int32(a.SE & 0x7FFF)
	if a.Mant&intBit != 0 && uint32(be-1) < 0x7FFE { // nearly always
		return num{a.Mant, be - 16383, finite, a.SE>>15 != 0, false}
	}
	n := num{neg: a.SE>>15 != 0, mant: a.Mant}
	switch {
	case be == 0 && a.Mant == 0:
	case be == 0: // denormal, or pseudo-denormal when the integer bit is set
		lz := bits.LeadingZeros64(a.Mant)
		n.cls, n.mant, n.exp, n.denormal = finite, a.Mant<<lz, -16382-int32(lz), true
	case a.Mant&intBit == 0:
		n.cls = unsupported
	case a.Mant == intBit:
		n.cls = infinity
	case a.Mant&quietBit != 0:
		n.cls = quietNaN
	default:
		n.cls = signalNaN
	}
	return n
}

// packed is a result before it is laid out: biased exponent and significand with
// explicit integer bit. All formats share it, since a denormal has be 0 and no integer bit.
type packed struct {
	mant uint64
	be   int32
	neg  bool
}

func (p packed) f32() uint32 {
	r := uint32(p.be)<<23 | uint32(p.mant>>40)&0x7FFFFF
	if p.neg {
		r |= 1 << 31
	}
	return r
}

func (p packed) f64() uint64 {
	r := uint64(p.be)<<52 | p.mant>>11&(1<<52-1)
	if p.neg {
		r |= 1 << 63
	}
	return r
}

func (p packed) f80() F80 {
	r := F80{p.mant, uint16(p.be)}
	if p.neg {
		r.SE |= 0x8000
	}
	return r
}

func (f *format) zero(neg bool) packed { return packed{neg: neg} }
func (f *format) inf(neg bool) packed  { return packed{intBit, 2*f.bias + 1, neg} }
func (f *format) indefinite() packed   { return packed{nanMant, 2*f.bias + 1, true} }

// nan lays out a NaN operand, quieted.
func (f *format) nan(n num) packed { return packed{n.mant | quietBit, 2*f.bias + 1, n.neg} }

// roundBits rounds hi:lo to its top p bits. A carry out leaves m zero.
func roundBits(r Rounding, neg bool, hi, lo uint64, p uint) (m uint64, up, inexact bool) {
	rest := lo
	m = hi
	ulp := uint64(1) << (64 - p)
	if p < 64 {
		rest = hi << p
		if lo != 0 {
			rest |= 1
		}
		m = hi &^ (ulp - 1)
	}
	if rest == 0 {
		return m, false, false
	}
	switch r {
	case NearestEven:
		up = rest > intBit || rest == intBit && m&ulp != 0
	case Down:
		up = neg
	case Up:
		up = !neg
	}
	if up {
		m += ulp
	}
	return m, up, true
}

// shiftRight moves hi:lo right by n, keeping in bit 0 whether anything was lost.
func shiftRight(hi, lo uint64, n uint) (uint64, uint64) {
	switch {
	case n == 0:
		return hi, lo
	case n < 64:
		lost := lo << (64 - n)
		lo = lo>>n | hi<<(64-n)
		hi >>= n
		if lost != 0 {
			lo |= 1
		}
		return hi, lo
	case n < 128:
		lost := lo
		if n > 64 {
			lost |= hi << (128 - n)
		}
		lo = hi >> (n - 64)
		if lost != 0 {
			lo |= 1
		}
		return 0, lo
	case hi|lo != 0:
		return 0, 1
	}
	return 0, 0
}

// round delivers hi:lo * 2^(exp-127), normalized and with a sticky last bit, in format f
// and raises overflow, underflow and inexact (SDM vol. 1, 4.9.1.4 to 4.9.1.6).
// Tininess is judged after rounding, as if the exponent had no bounds.
func (e *Env) round(f *format, prec uint, neg bool, exp int32, hi, lo uint64) packed {
	m, up, inexact := roundBits(e.Rounding, neg, hi, lo, prec)
	rexp := exp
	if up && m == 0 {
		m, rexp = intBit, exp+1
	}
	switch {
	case rexp > f.bias:
		if e.Masks&Overflow == 0 {
			e.Flags |= Overflow
			if f.wrap == 0 {
				if inexact && !f.memory {
					e.Flags |= Inexact
				}
				return f.inf(neg)
			}
			rexp -= f.wrap
			if rexp > f.bias { // FSCALE only
				e.Flags |= Inexact
				e.RoundedUp = true
				return f.inf(neg)
			}
			break
		}
		e.Flags |= Overflow | Inexact
		if e.Rounding == NearestEven || e.Rounding == Up && !neg || e.Rounding == Down && neg {
			e.RoundedUp = true
			return f.inf(neg)
		}
		e.RoundedUp = false
		return packed{^uint64(0) << (64 - prec), 2 * f.bias, neg}
	case rexp < 1-f.bias:
		if e.Masks&Underflow == 0 {
			e.Flags |= Underflow
			if f.wrap == 0 {
				if inexact && !f.memory {
					e.Flags |= Inexact
				}
				return f.zero(neg)
			}
			rexp += f.wrap
			if rexp < 1-f.bias { // FSCALE only
				e.Flags |= Inexact
				e.RoundedUp = false
				return f.zero(neg)
			}
			break
		}
		if e.FTZ && f.wrap == 0 {
			e.Flags |= Underflow | Inexact
			return f.zero(neg)
		}
		hi, lo = shiftRight(hi, lo, uint(1-f.bias-exp))
		m, up, inexact = roundBits(e.Rounding, neg, hi, lo, prec)
		if inexact {
			e.Flags |= Underflow | Inexact
		}
		e.RoundedUp = up
		return packed{m, int32(m >> 63), neg}
	}
	if inexact {
		e.Flags |= Inexact
	}
	e.RoundedUp = up
	return packed{m, rexp + f.bias, neg}
}

// normalize shifts a nonzero hi:lo left until its top bit is set.
func normalize(exp int32, hi, lo uint64) (int32, uint64, uint64) {
	if hi == 0 {
		hi, lo = lo, 0
		exp -= 64
	}
	if lz := bits.LeadingZeros64(hi); lz != 0 {
		hi = hi<<lz | lo>>(64-lz)
		lo <<= lz
		exp -= int32(lz)
	}
	return exp, hi, lo
}

// addFinite adds two finite numbers, of which either may be zero.
func (e *Env) addFinite(f *format, prec uint, a, b num) packed {
	if a.cls == zero || b.cls != zero && (a.exp < b.exp || a.exp == b.exp && a.mant < b.mant) {
		a, b = b, a
	}
	// Now |a| >= |b|.
	if b.cls == zero {
		if a.cls == zero {
			if a.neg != b.neg {
				return f.zero(e.Rounding == Down)
			}
			return f.zero(a.neg)
		}
		return e.round(f, prec, a.neg, a.exp, a.mant, 0)
	}
	bhi, blo := shiftRight(b.mant, 0, uint(a.exp-b.exp))
	if a.neg == b.neg {
		hi, carry := bits.Add64(a.mant, bhi, 0)
		exp := a.exp
		if carry != 0 {
			hi, blo = shiftRight(hi, blo, 1)
			hi |= intBit
			exp++
		}
		return e.round(f, prec, a.neg, exp, hi, blo)
	}
	lo, borrow := bits.Sub64(0, blo, 0)
	hi, _ := bits.Sub64(a.mant, bhi, borrow)
	if hi|lo == 0 {
		return f.zero(e.Rounding == Down)
	}
	exp, hi, lo := normalize(a.exp, hi, lo)
	return e.round(f, prec, a.neg, exp, hi, lo)
}

// mulFinite multiplies two nonzero numbers.
func (e *Env) mulFinite(f *format, prec uint, a, b num) packed {
	hi, lo := bits.Mul64(a.mant, b.mant)
	exp := a.exp + b.exp + 1
	if hi&intBit == 0 {
		hi, lo = hi<<1|lo>>63, lo<<1
		exp--
	}
	return e.round(f, prec, a.neg != b.neg, exp, hi, lo)
}

// quotient divides two nonzero numbers to 128 bits, the last one sticky.
func quotient(a, b num) (exp int32, hi, lo uint64) {
	exp = a.exp - b.exp
	nhi, nlo := a.mant>>1, a.mant<<63
	if a.mant < b.mant {
		nhi, nlo = a.mant, 0
		exp--
	}
	hi, rem := bits.Div64(nhi, nlo, b.mant)
	lo, rem = bits.Div64(rem, 0, b.mant)
	if rem != 0 {
		lo |= 1
	}
	return exp, hi, lo
}

// divFinite divides two nonzero numbers.
func (e *Env) divFinite(f *format, prec uint, a, b num) packed {
	exp, hi, lo := quotient(a, b)
	return e.round(f, prec, a.neg != b.neg, exp, hi, lo)
}

// sqrtFinite takes the root of a positive number.
func (e *Env) sqrtFinite(f *format, prec uint, a num) packed {
	exp := a.exp >> 1
	hi, lo := a.mant, uint64(0)
	if a.exp&1 == 0 {
		hi, lo = hi>>1, hi<<63
	}
	r := isqrt(hi, lo)
	shi, slo := bits.Mul64(r, r)
	rlo, borrow := bits.Sub64(lo, slo, 0)
	rhi, _ := bits.Sub64(hi, shi, borrow)
	var tail uint64
	if rhi != 0 || rlo > r { // the root is above r + 1/2
		tail = intBit
	}
	if rhi|rlo != 0 {
		tail |= 1
	}
	return e.round(f, prec, false, exp, r, tail)
}

// isqrt is the integer square root of hi:lo, hi at least 2^62.
func isqrt(hi, lo uint64) uint64 {
	// The top 32 bits of the root by schoolbook, then one division for the rest.
	s := uint64(0)
	for b := uint64(1) << 31; b != 0; b >>= 1 {
		if t := s | b; t*t <= hi {
			s = t
		}
	}
	r := s<<32 | 0xFFFFFFFF  // not below the root, so the division fits
	for i := 0; i < 2; i++ { // Newton; each step doubles the good bits
		var q uint64
		if hi >= r {
			q = ^uint64(0)
		} else {
			q, _ = bits.Div64(hi, lo, r)
		}
		sum, carry := bits.Add64(r, q, 0)
		r = sum>>1 | carry<<63
	}
	for {
		shi, slo := bits.Mul64(r, r)
		if shi > hi || shi == hi && slo > lo {
			r--
			continue
		}
		// (r+1)^2 = r^2 + 2r + 1
		dlo, borrow := bits.Sub64(lo, slo, 0)
		dhi, _ := bits.Sub64(hi, shi, borrow)
		if r != ^uint64(0) && (dhi > r>>63 || dhi == r>>63 && dlo > r<<1) {
			r++
			continue
		}
		return r
	}
}
