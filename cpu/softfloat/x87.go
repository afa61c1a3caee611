package softfloat

// prec is the significand width that precision control selects (SDM vol. 1, 8.1.5.2).
// Only addition, subtraction, multiplication, division and square root heed it.
func (e *Env) prec() uint {
	switch e.Precision {
	case 24, 53:
		return uint(e.Precision)
	}
	return 64
}

// nan80 handles operands that are no numbers. The x87 prefers a quiet NaN to a
// signalling one, then the larger significand (SDM vol. 1, table 4-7).
func (e *Env) nan80(a, b num) (packed, bool) {
	e.RoundedUp = false
	switch {
	case a.cls < quietNaN && b.cls < quietNaN:
		return packed{}, false
	case a.cls == unsupported || b.cls == unsupported:
		e.raise(Invalid)
		return fmt80.indefinite(), true
	}
	if a.cls == signalNaN || b.cls == signalNaN {
		e.raise(Invalid)
	}
	pick := a
	switch {
	case !a.isNaN():
		pick = b
	case !b.isNaN():
	case a.cls != b.cls:
		if b.cls == quietNaN {
			pick = b
		}
	case b.mant > a.mant || b.mant == a.mant && a.neg:
		pick = b
	}
	return fmt80.nan(pick), true
}

func (e *Env) arith80(op operation, a, b F80) F80 {
	x, y := unpack80(a), unpack80(b)
	if r, done := e.nan80(x, y); done {
		return r.f80()
	}
	return e.arith(op, &fmt80, e.prec(), x, y).f80()
}

// Add80 is FADD.
func (e *Env) Add80(a, b F80) F80 { return e.arith80(opAdd, a, b) }

// Sub80 is FSUB: a - b.
func (e *Env) Sub80(a, b F80) F80 { return e.arith80(opSub, a, b) }

// Mul80 is FMUL.
func (e *Env) Mul80(a, b F80) F80 { return e.arith80(opMul, a, b) }

// Div80 is FDIV: a / b.
func (e *Env) Div80(a, b F80) F80 { return e.arith80(opDiv, a, b) }

// Sqrt80 is FSQRT.
func (e *Env) Sqrt80(a F80) F80 {
	x := unpack80(a)
	if r, done := e.nan80(x, num{}); done {
		return r.f80()
	}
	return e.sqrt(&fmt80, e.prec(), x).f80()
}

// Compare80 is FCOM and FCOMI (signalQNaN), FUCOM and FUCOMI.
func (e *Env) Compare80(a, b F80, signalQNaN bool) Order {
	x, y := unpack80(a), unpack80(b)
	e.RoundedUp = false
	if x.cls >= quietNaN || y.cls >= quietNaN {
		if signalQNaN || x.cls > quietNaN || y.cls > quietNaN {
			e.raise(Invalid)
		}
		return Unordered
	}
	if x.denormal || y.denormal {
		e.raise(Denormal)
	}
	return compareNums(x, y)
}

// Rem80 is FPREM: a step of a modulo b, with a truncated quotient. quotient holds its low three bits.
// complete is false when the exponents were too far apart for one step; then C2 is set and
// the instruction is to be repeated.
func (e *Env) Rem80(a, b F80) (r F80, quotient uint8, complete bool) { return e.rem(a, b, false) }

// Rem1_80 is FPREM1: as Rem80, but the quotient is rounded to nearest, as IEEE 754 wants it.
func (e *Env) Rem1_80(a, b F80) (r F80, quotient uint8, complete bool) { return e.rem(a, b, true) }

func (e *Env) rem(a, b F80, nearest bool) (F80, uint8, bool) {
	x, y := unpack80(a), unpack80(b)
	if r, done := e.nan80(x, y); done {
		return r.f80(), 0, true
	}
	if x.cls == infinity || y.cls == zero {
		e.raise(Invalid)
		return Indefinite80(), 0, true
	}
	if (x.denormal || y.denormal) && e.raise(Denormal) {
		return a, 0, true
	}
	if x.cls == zero {
		return a, 0, true
	}
	if y.cls == infinity {
		// A denormal or pseudo-denormal a is delivered as a result.
		return e.round(&fmt80, 64, x.neg, x.exp, x.mant, 0).f80(), 0, true
	}
	d := x.exp - y.exp
	steps, complete := d, true
	if d >= 64 {
		// As few steps as leave the difference a multiple of 32 below 64 (SDM: "an
		// implementation-dependent number between 32 and 63").
		steps, complete = d&31|32, false
	}
	if d < -1 {
		return e.round(&fmt80, 64, x.neg, x.exp, x.mant, 0).f80(), 0, true
	}
	m, carry, q := x.mant, uint64(0), uint64(0)
	var exp int32
	if d < 0 {
		// |a| < |b|; only nearest can round the quotient up to one.
		exp = x.exp
	} else {
		for i := steps; ; i-- {
			q <<= 1
			if carry != 0 || m >= y.mant {
				m -= y.mant
				q |= 1
			}
			if i == 0 {
				break
			}
			carry = m >> 63
			m <<= 1
		}
		exp = x.exp - steps
	}
	neg := x.neg
	if nearest && complete {
		// Round the quotient up when the rest is above half of b, or at half and odd.
		if d < 0 {
			// a = m * 2^(exp-63) with exp one below b's: half of b is y.mant at this scale.
			if m > y.mant {
				// |b| - |a| = (2*y.mant - m) at this scale
				m = y.mant - (m - y.mant)
				neg = !neg
				q = 1
			}
		} else if over := m > y.mant-m || m == y.mant-m && q&1 != 0; over {
			m = y.mant - m
			neg = !neg
			q++
		}
	}
	if m == 0 {
		return fmt80.zero(x.neg).f80(), uint8(q & 7), complete
	}
	rexp, hi, lo := normalize(exp, m, 0)
	return e.round(&fmt80, 64, neg, rexp, hi, lo).f80(), uint8(q & 7), complete
}

// RoundInt80 is FRNDINT.
func (e *Env) RoundInt80(a F80) F80 {
	x := unpack80(a)
	if r, done := e.nan80(x, num{}); done {
		return r.f80()
	}
	if x.denormal && e.raise(Denormal) {
		return a
	}
	if x.cls != finite || x.exp >= 63 {
		return a
	}
	m, up, inexact, _ := toInteger(e.Rounding, x)
	if inexact {
		e.raise(Inexact)
		e.RoundedUp = up
	}
	if m == 0 {
		return fmt80.zero(x.neg).f80()
	}
	n := fromUint(x.neg, m)
	return packed{n.mant, n.exp + fmt80.bias, x.neg}.f80()
}

// Scale80 is FSCALE: a * 2^trunc(b).
func (e *Env) Scale80(a, b F80) F80 {
	x, y := unpack80(a), unpack80(b)
	if r, done := e.nan80(x, y); done {
		return r.f80()
	}
	if y.cls == infinity && (x.cls == zero && !y.neg || x.cls == infinity && y.neg) {
		e.raise(Invalid)
		return Indefinite80()
	}
	if (x.denormal || y.denormal) && e.raise(Denormal) {
		return a
	}
	switch {
	case x.cls != finite:
		return fmt80.same(x).f80()
	case y.cls == infinity && y.neg:
		return fmt80.zero(x.neg).f80()
	case y.cls == infinity:
		return fmt80.inf(x.neg).f80()
	}
	const far = 1 << 17 // beyond every exponent
	n := int32(0)
	switch {
	case y.cls == zero || y.exp < 0:
	case y.exp >= 17:
		n = far
	default:
		n = int32(y.mant >> (63 - y.exp))
	}
	if y.neg {
		n = -n
	}
	return e.round(&fmt80, 64, x.neg, x.exp+n, x.mant, 0).f80()
}

// same lays out a zero or an infinity.
func (f *format) same(n num) packed {
	if n.cls == zero {
		return f.zero(n.neg)
	}
	return f.inf(n.neg)
}

// Extract80 is FXTRACT: the significand, scaled to [1, 2), and the unbiased exponent.
func (e *Env) Extract80(a F80) (significand, exponent F80) {
	x := unpack80(a)
	if r, done := e.nan80(x, num{}); done {
		return r.f80(), r.f80()
	}
	switch {
	case x.cls == zero:
		e.raise(DivByZero)
		return a, fmt80.inf(true).f80()
	case x.cls == infinity:
		return a, fmt80.inf(false).f80()
	case x.denormal && e.raise(Denormal):
		return a, a
	}
	return packed{x.mant, fmt80.bias, x.neg}.f80(), e.I64ToF80(int64(x.exp))
}

// F80ToF32 is FST m32fp. An unmasked overflow or underflow means that nothing is stored.
func (e *Env) F80ToF32(a F80) uint32 { return e.store80(&mem32, a).f32() }

// F80ToF64 is FST m64fp.
func (e *Env) F80ToF64(a F80) uint64 { return e.store80(&mem64, a).f64() }

func (e *Env) store80(f *format, a F80) packed {
	e.RoundedUp = false
	return e.deliver(f, unpack80(a))
}

// F32ToF80 is FLD m32fp.
func (e *Env) F32ToF80(a uint32) F80 { return e.load80(unpack32(a, false)) }

// F64ToF80 is FLD m64fp.
func (e *Env) F64ToF80(a uint64) F80 { return e.load80(unpack64(a, false)) }

func (e *Env) load80(n num) F80 {
	e.RoundedUp = false
	if n.denormal {
		e.raise(Denormal)
	}
	return e.deliver(&fmt80, n).f80()
}

// I64ToF80 is FILD, always exact.
func (e *Env) I64ToF80(i int64) F80 {
	e.RoundedUp = false
	n := fromInt(i)
	if n.cls == zero {
		return F80{}
	}
	return packed{n.mant, n.exp + fmt80.bias, n.neg}.f80()
}

// F80ToI16 is FIST m16int, with truncate FISTTP.
func (e *Env) F80ToI16(a F80, truncate bool) int16 {
	if v, ok := e.int80(a, truncate, 15); ok {
		return int16(v)
	}
	return IndefiniteI16
}

// F80ToI32 is FIST m32int, with truncate FISTTP.
func (e *Env) F80ToI32(a F80, truncate bool) int32 {
	if v, ok := e.int80(a, truncate, 31); ok {
		return int32(v)
	}
	return IndefiniteI32
}

// F80ToI64 is FISTP m64int, with truncate FISTTP.
func (e *Env) F80ToI64(a F80, truncate bool) int64 {
	if v, ok := e.int80(a, truncate, 63); ok {
		return v
	}
	return IndefiniteI64
}

func (e *Env) int80(a F80, truncate bool, width uint) (int64, bool) {
	r := e.Rounding
	if truncate {
		r = TowardZero
	}
	return e.toInt(unpack80(a), r, width)
}

// F80ToBCD is FBSTP: eighteen decimal digits, low byte first, and the sign in the last byte (SDM vol. 1, 4.7).
func (e *Env) F80ToBCD(a F80) (d [10]byte) {
	e.RoundedUp = false
	n := unpack80(a)
	if n.cls <= finite {
		m, up, inexact, ok := toInteger(e.Rounding, n)
		if ok && m < 1e18 {
			if inexact {
				e.raise(Inexact)
				e.RoundedUp = up
			}
			for i := range 9 {
				d[i] = byte(m%10 | m/10%10<<4)
				m /= 100
			}
			if n.neg {
				d[9] = 0x80
			}
			return d
		}
	}
	e.raise(Invalid)
	d[7], d[8], d[9] = 0xC0, 0xFF, 0xFF
	return d
}

// BCDToF80 is FBLD. Nibbles above nine are undefined; they count as their value.
func (e *Env) BCDToF80(d [10]byte) F80 {
	e.RoundedUp = false
	var m uint64
	for i := 8; i >= 0; i-- {
		m = m*100 + uint64(d[i]>>4)*10 + uint64(d[i]&15)
	}
	neg := d[9]&0x80 != 0
	if m == 0 {
		return fmt80.zero(neg).f80()
	}
	n := fromUint(neg, m)
	return packed{n.mant, n.exp + fmt80.bias, n.neg}.f80()
}

// Class is what FXAM tells, encoded C3 C2 C0 (SDM vol. 2, FXAM).
type Class uint8

// The classes of a register that is not empty.
const (
	ClassUnsupported Class = iota
	ClassNaN
	ClassNormal
	ClassInfinity
	ClassZero
	ClassEmpty
	ClassDenormal
)

// Class80 is FXAM of a register that is not empty.
func Class80(a F80) Class {
	switch n := unpack80(a); {
	case n.denormal:
		return ClassDenormal
	case n.cls == unsupported:
		return ClassUnsupported
	case n.cls == zero:
		return ClassZero
	case n.cls == infinity:
		return ClassInfinity
	case n.cls == finite:
		return ClassNormal
	}
	return ClassNaN
}
