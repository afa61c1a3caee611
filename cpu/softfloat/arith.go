package softfloat

type operation uint8

const (
	opAdd operation = iota
	opSub
	opMul
	opDiv
)

// arith does what follows the NaN rules, which SSE and x87 do not share. The
// order of the checks is the priority of the exceptions (SDM vol. 1, 4.9.2).
func (e *Env) arith(op operation, f *format, prec uint, a, b num) packed {
	if op == opSub {
		b.neg = !b.neg
	}
	neg := a.neg != b.neg
	var invalid bool
	switch op {
	case opAdd, opSub:
		invalid = a.cls == infinity && b.cls == infinity && neg
	case opMul:
		invalid = a.cls == infinity && b.cls == zero || a.cls == zero && b.cls == infinity
	case opDiv:
		invalid = a.cls == b.cls && a.cls != finite
	}
	if invalid {
		e.raise(Invalid)
		return f.indefinite()
	}
	if op == opDiv && b.cls == zero && a.cls == finite {
		e.raise(DivByZero)
		return f.inf(neg)
	}
	if (a.denormal || b.denormal) && e.raise(Denormal) {
		return f.zero(neg)
	}
	switch op {
	case opAdd, opSub:
		switch {
		case a.cls == infinity:
			return f.inf(a.neg)
		case b.cls == infinity:
			return f.inf(b.neg)
		}
		return e.addFinite(f, prec, a, b)
	case opMul:
		switch {
		case a.cls == infinity || b.cls == infinity:
			return f.inf(neg)
		case a.cls == zero || b.cls == zero:
			return f.zero(neg)
		}
		return e.mulFinite(f, prec, a, b)
	}
	switch {
	case a.cls == infinity:
		return f.inf(neg)
	case b.cls == infinity || a.cls == zero:
		return f.zero(neg)
	}
	return e.divFinite(f, prec, a, b)
}

// sqrt is arith for the square root.
func (e *Env) sqrt(f *format, prec uint, a num) packed {
	switch {
	case a.cls == zero:
		return f.zero(a.neg)
	case a.neg:
		e.raise(Invalid)
		return f.indefinite()
	case a.cls == infinity:
		return f.inf(false)
	case a.denormal && e.raise(Denormal):
		return f.zero(false)
	}
	return e.sqrtFinite(f, prec, a)
}

// compareNums orders two numbers that are not NaN.
func compareNums(a, b num) Order {
	if a.cls == zero && b.cls == zero {
		return Equal
	}
	if a.cls == zero {
		a.neg = !b.neg
	} else if b.cls == zero {
		b.neg = !a.neg
	}
	if a.neg != b.neg {
		if a.neg {
			return Less
		}
		return Greater
	}
	o := compareMagnitude(a, b)
	if a.neg && o != Equal {
		return Less + Greater - o
	}
	return o
}

func compareMagnitude(a, b num) Order {
	switch {
	case a.cls != b.cls:
		if a.cls < b.cls { // zero, finite, infinity
			return Less
		}
		return Greater
	case a.cls != finite:
		return Equal
	case a.exp < b.exp || a.exp == b.exp && a.mant < b.mant:
		return Less
	case a.exp == b.exp && a.mant == b.mant:
		return Equal
	}
	return Greater
}

// toInteger rounds a finite n to an integer magnitude; ok is false from 2^64 on.
func toInteger(r Rounding, n num) (m uint64, up, inexact, ok bool) {
	if n.cls == zero {
		return 0, false, false, true
	}
	if n.exp > 63 {
		return 0, false, false, false
	}
	hi, lo := shiftRight(n.mant, 0, uint(63-n.exp))
	m, up, inexact = roundBits(r, n.neg, hi, lo, 64)
	return m, up, inexact, !(up && m == 0)
}

// fromUint unpacks an integer.
func fromUint(neg bool, m uint64) num {
	if m == 0 {
		return num{}
	}
	exp, hi, _ := normalize(63, m, 0)
	return num{mant: hi, exp: exp, cls: finite, neg: neg}
}

func fromInt(i int64) num {
	if i < 0 {
		return fromUint(true, -uint64(i))
	}
	return fromUint(false, uint64(i))
}
