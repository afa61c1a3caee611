package softfloat

import "math/bits"

// The transcendental instructions (SDM vol. 1, 8.3.6). They compute with 128 bits
// and round once, so their results are correctly rounded but for about one in
// 2^50. They always raise Inexact, save for the special values below. Precision control does not apply.

func (e *Env) roundWide(w wide) F80 {
	return e.round(&fmt80, 64, w.neg, w.exp, w.hi, w.lo|1).f80()
}

// exact delivers a result that happens to be exact. The hardware does not notice: it raises Inexact, and
// Underflow for a denormal.
func (e *Env) exact(p packed) F80 {
	e.raise(Inexact)
	if p.be == 0 {
		e.raise(Underflow)
	}
	return p.f80()
}

// F2XM1 is 2^a - 1. Outside [-1, 1], where the manuals leave the result open, a comes back.
func (e *Env) F2XM1(a F80) F80 {
	x := unpack80(a)
	if r, done := e.nan80(x, num{}); done {
		return r.f80()
	}
	switch {
	case x.cls == infinity && x.neg:
		return packed{intBit, fmt80.bias, true}.f80()
	case x.cls != finite:
		return a
	case x.denormal && e.raise(Denormal):
		return a
	case x.exp == 0 && x.mant == intBit && x.neg:
		return e.exact(packed{intBit, fmt80.bias - 1, true})
	case x.exp >= 0:
		e.raise(Inexact)
		return a
	}
	return e.roundWide(expm1(x.wide().mul(wideLn2)))
}

// FYL2X is y * log2 x; x is st0, y is st1.
func (e *Env) FYL2X(x, y F80) F80 {
	a, b := unpack80(x), unpack80(y)
	if r, done := e.nan80(a, b); done {
		return r.f80()
	}
	isOne := a.cls == finite && a.exp == 0 && a.mant == intBit
	if a.cls != zero && a.neg || a.cls == zero && b.cls == zero ||
		isOne && b.cls == infinity || a.cls == infinity && b.cls == zero {
		e.raise(Invalid)
		return Indefinite80()
	}
	if a.cls == zero && b.cls == finite {
		e.raise(DivByZero)
		return fmt80.inf(!b.neg).f80()
	}
	if (a.denormal || b.denormal) && e.raise(Denormal) {
		return y
	}
	logNeg := a.cls == zero || a.cls == finite && a.exp < 0
	neg := logNeg != b.neg
	switch {
	case isOne:
		return fmt80.zero(b.neg).f80()
	case a.cls == zero || a.cls == infinity || b.cls == infinity:
		return fmt80.inf(neg).f80()
	case b.cls == zero:
		return fmt80.zero(neg).f80()
	case a.mant == intBit: // a power of two
		return e.exact(e.mulFinite(&fmt80, 64, b, fromInt(int64(a.exp))))
	}
	return e.roundWide(log2(a.wide()).mul(b.wide()))
}

// FYL2XP1 is y * log2(x + 1); x is st0, y is st1. For x <= -1, which the manuals
// leave open, x comes back, as on the Zen 5.
func (e *Env) FYL2XP1(x, y F80) F80 {
	a, b := unpack80(x), unpack80(y)
	if r, done := e.nan80(a, b); done {
		return r.f80()
	}
	if a.cls == infinity && (a.neg || b.cls == zero) || a.cls == zero && b.cls == infinity {
		e.raise(Invalid)
		return Indefinite80()
	}
	if (a.denormal || b.denormal) && e.raise(Denormal) {
		return y
	}
	neg := a.neg != b.neg
	switch {
	case a.cls == infinity || b.cls == infinity:
		return fmt80.inf(neg).f80()
	case a.cls == zero || b.cls == zero:
		return fmt80.zero(neg).f80()
	case a.neg && a.exp >= 0:
		e.raise(Inexact)
		return x
	}
	w := a.wide()
	if a.exp < -2 {
		return e.roundWide(log2OnePlus(w).mul(b.wide()))
	}
	w = w.add(one)
	if w.hi == intBit && w.lo == 0 {
		return e.exact(e.mulFinite(&fmt80, 64, b, fromInt(int64(w.exp))))
	}
	return e.roundWide(log2(w).mul(b.wide()))
}

// FPATAN is the angle of the point (x, y); x is st0, y is st1.
func (e *Env) FPATAN(x, y F80) F80 {
	a, b := unpack80(x), unpack80(y)
	if r, done := e.nan80(a, b); done {
		return r.f80()
	}
	if (a.denormal || b.denormal) && e.raise(Denormal) {
		return y
	}
	var w wide
	switch {
	case b.cls == infinity && a.cls == infinity && a.neg:
		w = wide3Pi4
	case b.cls == infinity && a.cls == infinity:
		w = widePi.scaled(-2)
	case b.cls == infinity || a.cls == zero && b.cls != zero:
		w = widePi.scaled(-1)
	case b.cls == zero || a.cls == infinity:
		if !a.neg {
			return fmt80.zero(b.neg).f80()
		}
		w = widePi
	default:
		w = angle(a, b)
	}
	w.neg = b.neg
	return e.roundWide(w)
}

// angle is the angle of (|x| or x, |y|), both finite and not zero.
func angle(x, y num) wide {
	left := x.neg
	x.neg, y.neg = false, false
	o := compareMagnitude(y, x)
	var w wide
	if o == Greater {
		x, y = y, x
	}
	exp, hi, lo := quotient(y, x)
	w = arctan(wide{hi: hi, lo: lo, exp: exp})
	if o == Greater {
		w = widePi.scaled(-1).sub(w)
	}
	if left {
		w = widePi.sub(w)
	}
	return w
}

// The trigonometric instructions reduce by a pi of 66 bits (SDM vol. 1, 8.3.8):
// halfPi * 2^-65 is pi/2 in that precision.
const (
	halfPiHi = 0x3
	halfPiLo = 0x243F6A8885A308D3
)

// reduce takes x modulo pi/2 to [-pi/4, pi/4] and returns the quotient's low bits.
func reduce(x num) (wide, uint8) {
	if x.exp < -1 || x.exp == -1 && x.mant <= 0xC90FDAA22168C234 {
		return x.wide(), 0
	}
	// |x| = hi:lo * 2^(exp-63-steps); in units of 2^-65 mant is shifted left by exp+2.
	hi, lo := uint64(0), x.mant
	steps := x.exp + 2
	q := uint8(0)
	for i := int32(0); ; i++ {
		q <<= 1
		l, borrow := bits.Sub64(lo, halfPiLo, 0)
		h, borrow := bits.Sub64(hi, halfPiHi, borrow)
		if borrow == 0 {
			hi, lo = h, l
			q |= 1
		}
		if i == steps {
			break
		}
		hi, lo = hi<<1|lo>>63, lo<<1
	}
	neg := x.neg
	l, borrow := bits.Sub64(halfPiLo, lo, 0)
	h, _ := bits.Sub64(halfPiHi, hi, borrow)
	if hi > h || hi == h && lo > l {
		hi, lo = h, l
		neg = !neg
		q++
	}
	if x.neg {
		q = -q
	}
	if hi|lo == 0 {
		return wide{}, q & 3
	}
	exp, hi, lo := normalize(62, hi, lo)
	return wide{hi, lo, exp, neg}, q & 3
}

// trig does what the trigonometric instructions share. done means that r is the result already;
// ok is false when |a| is 2^63 or more: then C2 is set and nothing changes.
func (e *Env) trig(a F80) (x num, r F80, done, ok bool) {
	x = unpack80(a)
	if p, done := e.nan80(x, num{}); done {
		return x, p.f80(), true, true
	}
	switch {
	case x.cls == infinity:
		e.raise(Invalid)
		return x, Indefinite80(), true, true
	case x.cls == finite && x.exp >= 63:
		return x, a, true, false
	case x.denormal && e.raise(Denormal):
		return x, a, true, true
	}
	return x, r, false, true
}

// FSIN is the sine of a. ok is false when |a| is 2^63 or more: then C2 is set and nothing else happens.
func (e *Env) FSIN(a F80) (r F80, ok bool) {
	x, r, done, ok := e.trig(a)
	if done {
		return r, ok
	}
	return e.sin80(a, x, 0), true
}

// FCOS is the cosine of a, with ok as FSIN has it.
func (e *Env) FCOS(a F80) (r F80, ok bool) {
	x, r, done, ok := e.trig(a)
	if done {
		return r, ok
	}
	return e.sin80(a, x, 1), true
}

// FSINCOS is both, with ok as FSIN has it. The cosine, computed last, leaves RoundedUp.
func (e *Env) FSINCOS(a F80) (sin, cos F80, ok bool) {
	x, r, done, ok := e.trig(a)
	if done {
		return r, r, ok
	}
	return e.sin80(a, x, 0), e.sin80(a, x, 1), true
}

// sin80 is sin(x + quarter*pi/2).
func (e *Env) sin80(a F80, x num, quarter uint8) F80 {
	if x.cls == zero {
		if quarter == 0 {
			return a
		}
		return packed{intBit, fmt80.bias, false}.f80()
	}
	r, q := reduce(x)
	q += quarter
	var w wide
	if q&1 == 0 {
		w = sine(r)
	} else {
		w = cosine(r)
	}
	if q&2 != 0 {
		w.neg = !w.neg
	}
	return e.roundWide(w)
}

// FPTAN is the tangent of a, with ok as FSIN has it. The instruction also pushes 1.0.
func (e *Env) FPTAN(a F80) (r F80, ok bool) {
	x, r, done, ok := e.trig(a)
	if done {
		return r, ok
	}
	if x.cls == zero {
		return a, true
	}
	w, q := reduce(x)
	w = tangent(w)
	if q&1 != 0 {
		w = one.div(w).negated()
	}
	return e.roundWide(w), true
}

// The constants of FLDPI and its kin (SDM vol. 2, FLD1). They follow the rounding control and raise nothing.

// Pi80 is FLDPI.
func (e *Env) Pi80() F80 { return e.constant(widePi) }

// Log2Of10 is FLDL2T.
func (e *Env) Log2Of10() F80 { return e.constant(wideLog2_10) }

// Log2OfE is FLDL2E.
func (e *Env) Log2OfE() F80 { return e.constant(wideLog2E) }

// Log10Of2 is FLDLG2.
func (e *Env) Log10Of2() F80 { return e.constant(wideLog10_2) }

// LnOf2 is FLDLN2.
func (e *Env) LnOf2() F80 { return e.constant(wideLn2) }

func (e *Env) constant(w wide) F80 {
	m, _, _ := roundBits(e.Rounding, false, w.hi, w.lo, 64)
	e.RoundedUp = false
	return packed{m, w.exp + fmt80.bias, false}.f80()
}
