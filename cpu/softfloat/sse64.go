package softfloat

import "math"

// The SSE operations on binary64 values. Each tries the host's arithmetic first: it is
// exact in nearest mode, and the residual of the operation says whether the result is.
// What might be denormal, overflow or NaN goes the integer way.

// plain64 says that a is normal or zero.
func plain64(a uint64) bool {
	return a<<1-1<<53 < 0x7FF<<53-1<<53 || a<<1 == 0
}

// normal64 says that a is normal and not the smallest normal, which may be rounded up to.
func normal64(a uint64) bool {
	return a<<1-1<<53-1 < 0x7FF<<53-1<<53-1
}

func (e *Env) fastAdd64(a, b uint64) (uint64, bool) {
	x, y := math.Float64frombits(a), math.Float64frombits(b)
	s := x + y
	r := math.Float64bits(s)
	if !normal64(r) && s != 0 {
		return 0, false
	}
	if e.Flags&Inexact == 0 { // TwoSum
		t := s - x
		if (x-(s-t))+(y-t) != 0 {
			e.Flags |= Inexact
		}
	}
	return r, true
}

// tiny64 bounds from below the values whose residuals are exact: 2^-900.
const tiny64 = 1.0 / (1 << 300) / (1 << 300) / (1 << 300)

func (e *Env) fastMul64(a, b uint64) (uint64, bool) {
	x, y := math.Float64frombits(a), math.Float64frombits(b)
	p := x * y
	r := math.Float64bits(p)
	if math.Abs(p) < tiny64 {
		return r, x == 0 || y == 0
	}
	if !normal64(r) {
		return 0, false
	}
	if e.Flags&Inexact == 0 && math.FMA(x, y, -p) != 0 {
		e.Flags |= Inexact
	}
	return r, true
}

func (e *Env) fastDiv64(a, b uint64) (uint64, bool) {
	x, y := math.Float64frombits(a), math.Float64frombits(b)
	q := x / y
	r := math.Float64bits(q)
	if y == 0 || !normal64(r) || math.Abs(x) < tiny64 {
		return r, x == 0 && y != 0
	}
	if e.Flags&Inexact == 0 && math.FMA(-q, y, x) != 0 {
		e.Flags |= Inexact
	}
	return r, true
}

func (e *Env) fastSqrt64(a uint64) (uint64, bool) {
	x := math.Float64frombits(a)
	s := math.Sqrt(x)
	if x < tiny64 {
		return a, x == 0
	}
	if e.Flags&Inexact == 0 && math.FMA(s, s, -x) != 0 {
		e.Flags |= Inexact
	}
	return math.Float64bits(s), true
}

// Add64 is ADDSD, one lane of ADDPD (SDM vol. 2).
func (e *Env) Add64(a, b uint64) uint64 {
	if e.Rounding == NearestEven && plain64(a) && plain64(b) {
		if r, ok := e.fastAdd64(a, b); ok {
			return r
		}
	}
	return e.slow64(opAdd, a, b)
}

// Sub64 is SUBSD.
func (e *Env) Sub64(a, b uint64) uint64 {
	if e.Rounding == NearestEven && plain64(a) && plain64(b) {
		if r, ok := e.fastAdd64(a, b^1<<63); ok {
			return r
		}
	}
	return e.slow64(opSub, a, b)
}

// Mul64 is MULSD.
func (e *Env) Mul64(a, b uint64) uint64 {
	if e.Rounding == NearestEven && plain64(a) && plain64(b) {
		if r, ok := e.fastMul64(a, b); ok {
			return r
		}
	}
	return e.slow64(opMul, a, b)
}

// Div64 is DIVSD.
func (e *Env) Div64(a, b uint64) uint64 {
	if e.Rounding == NearestEven && plain64(a) && plain64(b) {
		if r, ok := e.fastDiv64(a, b); ok {
			return r
		}
	}
	return e.slow64(opDiv, a, b)
}

// Sqrt64 is SQRTSD.
func (e *Env) Sqrt64(a uint64) uint64 {
	if e.Rounding == NearestEven && a>>63 == 0 && plain64(a) {
		if r, ok := e.fastSqrt64(a); ok {
			return r
		}
	}
	return e.slowSqrt64(a)
}

func (e *Env) slow64(op operation, a, b uint64) uint64 {
	x, y := unpack64(a, e.DAZ), unpack64(b, e.DAZ)
	if x.cls >= quietNaN || y.cls >= quietNaN {
		return e.nan64(x, y)
	}
	return e.arith(op, &fmt64, fmt64.prec, x, y).f64()
}

// nan64 is the result of an operation on a NaN: the first one, quieted (SDM vol. 1, table 4-7).
func (e *Env) nan64(x, y num) uint64 {
	if x.cls == signalNaN || y.cls == signalNaN {
		e.raise(Invalid)
	}
	if x.isNaN() {
		return fmt64.nan(x).f64()
	}
	return fmt64.nan(y).f64()
}

func (e *Env) slowSqrt64(a uint64) uint64 {
	x := unpack64(a, e.DAZ)
	if x.isNaN() {
		return e.nan64(x, x)
	}
	return e.sqrt(&fmt64, fmt64.prec, x).f64()
}

// Min64 is MINSD: the second operand unless the first is less, so also for two zeros and for a
// NaN, which is not quieted.
func (e *Env) Min64(a, b uint64) uint64 {
	if e.minMax64(a, b) == Less {
		return e.daz64(a)
	}
	return e.daz64(b)
}

// Max64 is MAXSD, which treats zeros and NaNs as Min64 does.
func (e *Env) Max64(a, b uint64) uint64 {
	if e.minMax64(a, b) == Greater {
		return e.daz64(a)
	}
	return e.daz64(b)
}

func (e *Env) minMax64(a, b uint64) Order { return e.Compare64(a, b, true) }

// daz64 replaces a denormal by zero where MXCSR.DAZ says so.
func (e *Env) daz64(a uint64) uint64 {
	if e.DAZ && a<<1 < 1<<53 {
		return a & (1 << 63)
	}
	return a
}

// Compare64 is the comparison of COMISD (signalQNaN), UCOMISD, and the predicates of CMPSD.
func (e *Env) Compare64(a, b uint64, signalQNaN bool) Order {
	if plain64(a) && plain64(b) {
		x, y := math.Float64frombits(a), math.Float64frombits(b)
		switch {
		case x < y:
			return Less
		case x > y:
			return Greater
		}
		return Equal
	}
	x, y := unpack64(a, e.DAZ), unpack64(b, e.DAZ)
	if x.isNaN() || y.isNaN() {
		if signalQNaN || x.cls == signalNaN || y.cls == signalNaN {
			e.raise(Invalid)
		}
		return Unordered
	}
	if x.denormal || y.denormal {
		e.raise(Denormal)
	}
	return compareNums(x, y)
}

// Round64 is ROUNDSD in the environment's rounding mode; suppressInexact is bit 3 of the
// immediate. Denormal operands raise nothing but Inexact.
func (e *Env) Round64(a uint64, suppressInexact bool) uint64 {
	x := unpack64(a, e.DAZ)
	switch x.cls {
	case quietNaN, signalNaN:
		return e.nan64(x, x)
	case infinity:
		return a
	case zero:
		return a & (1 << 63)
	}
	if x.exp >= 53-1 {
		return a
	}
	m, _, inexact, _ := toInteger(e.Rounding, x)
	if inexact && !suppressInexact {
		e.raise(Inexact)
	}
	n := fromUint(x.neg, m)
	if m == 0 {
		return a & (1 << 63)
	}
	return packed{n.mant, n.exp + fmt64.bias, n.neg}.f64()
}

// F64ToI32 is CVTSD2SI, with truncate CVTTSD2SI, to 32 bits.
func (e *Env) F64ToI32(a uint64, truncate bool) int32 {
	v, ok := e.toInt64(a, truncate, 31)
	if !ok {
		return IndefiniteI32
	}
	return int32(v)
}

// F64ToI64 is F64ToI32 to 64 bits.
func (e *Env) F64ToI64(a uint64, truncate bool) int64 {
	v, ok := e.toInt64(a, truncate, 63)
	if !ok {
		return IndefiniteI64
	}
	return v
}

func (e *Env) toInt64(a uint64, truncate bool, width uint) (int64, bool) {
	if truncate || e.Rounding == NearestEven {
		if x := math.Float64frombits(a); plain64(a) && x > -1<<31 && x < 1<<31-1 {
			i := int64(x)
			if float64(i) == x {
				return i, true
			}
			if truncate {
				e.Flags |= Inexact
				return i, true
			}
		}
	}
	r := e.Rounding
	if truncate {
		r = TowardZero
	}
	return e.toInt(unpack64(a, e.DAZ), r, width)
}
