package softfloat

import "math"

// toInt rounds to a signed integer of width+1 bits. ok is false, and Invalid raised, where there is none.
// Denormal operands do not raise Denormal here.
func (e *Env) toInt(n num, r Rounding, width uint) (int64, bool) {
	e.RoundedUp = false
	if n.cls <= finite {
		m, up, inexact, ok := toInteger(r, n)
		if ok && (m < 1<<width || m == 1<<width && n.neg) {
			if inexact {
				e.raise(Inexact)
				e.RoundedUp = up
			}
			if n.neg {
				m = -m
			}
			return int64(m), true
		}
	}
	e.raise(Invalid)
	return 0, false
}

// F32ToF64 is CVTSS2SD.
func (e *Env) F32ToF64(a uint32) uint64 {
	if plain32(a) {
		return math.Float64bits(float64(math.Float32frombits(a)))
	}
	return e.convert(&fmt64, unpack32(a, e.DAZ)).f64()
}

// F64ToF32 is CVTSD2SS.
func (e *Env) F64ToF32(a uint64) uint32 {
	if e.Rounding == NearestEven && plain64(a) {
		x := math.Float64frombits(a)
		y := float32(x)
		if r := math.Float32bits(y); x == 0 || normal32(r) {
			if float64(y) != x {
				e.Flags |= Inexact
			}
			return r
		}
	}
	return e.convert(&fmt32, unpack64(a, e.DAZ)).f32()
}

// convert moves a number to another format by the SSE rules, which raise Denormal.
func (e *Env) convert(f *format, n num) packed {
	if n.denormal && e.raise(Denormal) {
		return f.zero(n.neg)
	}
	return e.deliver(f, n)
}

// deliver rounds any number to a format.
func (e *Env) deliver(f *format, n num) packed {
	switch n.cls {
	case zero:
		return f.zero(n.neg)
	case infinity:
		return f.inf(n.neg)
	case quietNaN:
		return f.nan(n)
	case signalNaN:
		e.raise(Invalid)
		return f.nan(n)
	case unsupported:
		e.raise(Invalid)
		return f.indefinite()
	}
	return e.round(f, f.prec, n.neg, n.exp, n.mant, 0)
}

// I32ToF32 is CVTSI2SS and one lane of CVTDQ2PS.
func (e *Env) I32ToF32(i int32) uint32 { return e.I64ToF32(int64(i)) }

// I64ToF32 is CVTSI2SS with REX.W.
func (e *Env) I64ToF32(i int64) uint32 {
	if e.Rounding == NearestEven && i > -1<<53 && i < 1<<53 {
		f := float32(i)
		if int64(f) != i {
			e.Flags |= Inexact
		}
		return math.Float32bits(f)
	}
	return e.deliver(&fmt32, fromInt(i)).f32()
}

// I32ToF64 is CVTSI2SD, always exact.
func (e *Env) I32ToF64(i int32) uint64 { return math.Float64bits(float64(i)) }

// I64ToF64 is CVTSI2SD with REX.W.
func (e *Env) I64ToF64(i int64) uint64 {
	if i >= -1<<53 && i <= 1<<53 {
		return math.Float64bits(float64(i))
	}
	return e.deliver(&fmt64, fromInt(i)).f64()
}
