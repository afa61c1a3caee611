package softfloat

import "math"

// The SSE operations on binary32 values. Each tries the host's arithmetic first: it is
// exact in nearest mode, and the residual of the operation says whether the result is.
// What might be denormal, overflow or NaN goes the integer way.

// plain32 says that a is normal or zero.
func plain32(a uint32) bool {
	return a<<1-1<<24 < 0xFF<<24-1<<24 || a<<1 == 0
}

// normal32 says that a is normal and not the smallest normal, which may be rounded up to.
func normal32(a uint32) bool {
	return a<<1-1<<24-1 < 0xFF<<24-1<<24-1
}

func (e *Env) fastAdd32(a, b uint32) (uint32, bool) {
	x, y := math.Float32frombits(a), math.Float32frombits(b)
	s := x + y
	r := math.Float32bits(s)
	if !normal32(r) && s != 0 {
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

func (e *Env) fastMul32(a, b uint32) (uint32, bool) {
	x, y := math.Float32frombits(a), math.Float32frombits(b)
	p := x * y
	r := math.Float32bits(p)
	if !normal32(r) {
		return r, x == 0 || y == 0
	}
	if float64(x)*float64(y) != float64(p) { // a product of two float32 is exact in float64
		e.Flags |= Inexact
	}
	return r, true
}

func (e *Env) fastDiv32(a, b uint32) (uint32, bool) {
	x, y := math.Float32frombits(a), math.Float32frombits(b)
	q := x / y
	r := math.Float32bits(q)
	if y == 0 || !normal32(r) {
		return r, x == 0 && y != 0
	}
	if float64(q)*float64(y) != float64(x) {
		e.Flags |= Inexact
	}
	return r, true
}

func (e *Env) fastSqrt32(a uint32) (uint32, bool) {
	x := math.Float32frombits(a)
	s := float32(math.Sqrt(float64(x)))
	if float64(s)*float64(s) != float64(x) {
		e.Flags |= Inexact
	}
	return math.Float32bits(s), true
}

// Add32 is ADDSS, one lane of ADDPS (SDM vol. 2).
func (e *Env) Add32(a, b uint32) uint32 {
	if e.Rounding == NearestEven && plain32(a) && plain32(b) {
		if r, ok := e.fastAdd32(a, b); ok {
			return r
		}
	}
	return e.slow32(opAdd, a, b)
}

// Sub32 is SUBSS.
func (e *Env) Sub32(a, b uint32) uint32 {
	if e.Rounding == NearestEven && plain32(a) && plain32(b) {
		if r, ok := e.fastAdd32(a, b^1<<31); ok {
			return r
		}
	}
	return e.slow32(opSub, a, b)
}

// Mul32 is MULSS.
func (e *Env) Mul32(a, b uint32) uint32 {
	if e.Rounding == NearestEven && plain32(a) && plain32(b) {
		if r, ok := e.fastMul32(a, b); ok {
			return r
		}
	}
	return e.slow32(opMul, a, b)
}

// Div32 is DIVSS.
func (e *Env) Div32(a, b uint32) uint32 {
	if e.Rounding == NearestEven && plain32(a) && plain32(b) {
		if r, ok := e.fastDiv32(a, b); ok {
			return r
		}
	}
	return e.slow32(opDiv, a, b)
}

// Sqrt32 is SQRTSS.
func (e *Env) Sqrt32(a uint32) uint32 {
	if e.Rounding == NearestEven && a>>31 == 0 && plain32(a) {
		if r, ok := e.fastSqrt32(a); ok {
			return r
		}
	}
	return e.slowSqrt32(a)
}

func (e *Env) slow32(op operation, a, b uint32) uint32 {
	x, y := unpack32(a, e.DAZ), unpack32(b, e.DAZ)
	if x.cls >= quietNaN || y.cls >= quietNaN {
		return e.nan32(x, y)
	}
	return e.arith(op, &fmt32, fmt32.prec, x, y).f32()
}

// nan32 is the result of an operation on a NaN: the first one, quieted (SDM vol. 1, table 4-7).
func (e *Env) nan32(x, y num) uint32 {
	if x.cls == signalNaN || y.cls == signalNaN {
		e.raise(Invalid)
	}
	if x.isNaN() {
		return fmt32.nan(x).f32()
	}
	return fmt32.nan(y).f32()
}

func (e *Env) slowSqrt32(a uint32) uint32 {
	x := unpack32(a, e.DAZ)
	if x.isNaN() {
		return e.nan32(x, x)
	}
	return e.sqrt(&fmt32, fmt32.prec, x).f32()
}

// Min32 is MINSS: the second operand unless the first is less, so also for two zeros and for a
// NaN, which is not quieted.
func (e *Env) Min32(a, b uint32) uint32 {
	if e.minMax32(a, b) == Less {
		return e.daz32(a)
	}
	return e.daz32(b)
}

// Max32 is MAXSS, which treats zeros and NaNs as Min32 does.
func (e *Env) Max32(a, b uint32) uint32 {
	if e.minMax32(a, b) == Greater {
		return e.daz32(a)
	}
	return e.daz32(b)
}

func (e *Env) minMax32(a, b uint32) Order { return e.Compare32(a, b, true) }

// daz32 replaces a denormal by zero where MXCSR.DAZ says so.
func (e *Env) daz32(a uint32) uint32 {
	if e.DAZ && a<<1 < 1<<24 {
		return a & (1 << 31)
	}
	return a
}

// Compare32 is the comparison of COMISS (signalQNaN), UCOMISS, and the predicates of CMPSS.
func (e *Env) Compare32(a, b uint32, signalQNaN bool) Order {
	if plain32(a) && plain32(b) {
		x, y := math.Float32frombits(a), math.Float32frombits(b)
		switch {
		case x < y:
			return Less
		case x > y:
			return Greater
		}
		return Equal
	}
	x, y := unpack32(a, e.DAZ), unpack32(b, e.DAZ)
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

// Round32 is ROUNDSS in the environment's rounding mode; suppressInexact is bit 3 of the
// immediate. Denormal operands raise nothing but Inexact.
func (e *Env) Round32(a uint32, suppressInexact bool) uint32 {
	x := unpack32(a, e.DAZ)
	switch x.cls {
	case quietNaN, signalNaN:
		return e.nan32(x, x)
	case infinity:
		return a
	case zero:
		return a & (1 << 31)
	}
	if x.exp >= 24-1 {
		return a
	}
	m, _, inexact, _ := toInteger(e.Rounding, x)
	if inexact && !suppressInexact {
		e.raise(Inexact)
	}
	n := fromUint(x.neg, m)
	if m == 0 {
		return a & (1 << 31)
	}
	return packed{n.mant, n.exp + fmt32.bias, n.neg}.f32()
}

// F32ToI32 is CVTSS2SI, with truncate CVTTSS2SI, to 32 bits.
func (e *Env) F32ToI32(a uint32, truncate bool) int32 {
	v, ok := e.toInt32(a, truncate, 31)
	if !ok {
		return IndefiniteI32
	}
	return int32(v)
}

// F32ToI64 is F32ToI32 to 64 bits.
func (e *Env) F32ToI64(a uint32, truncate bool) int64 {
	v, ok := e.toInt32(a, truncate, 63)
	if !ok {
		return IndefiniteI64
	}
	return v
}

func (e *Env) toInt32(a uint32, truncate bool, width uint) (int64, bool) {
	if truncate || e.Rounding == NearestEven {
		if x := math.Float32frombits(a); plain32(a) && x > -1<<31 && x < 1<<31-1 {
			i := int64(x)
			if float32(i) == x {
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
	return e.toInt(unpack32(a, e.DAZ), r, width)
}
