package softfloat

import (
	"math/big"
	"testing"
)

// The reference computes with math/big in 320 bits, by series that share nothing with the code under test.

const refPrec = 320

func ref() *big.Float { return new(big.Float).SetPrec(refPrec) }

func refFrom(a F80) *big.Float {
	n := unpack80(a)
	r := ref().SetUint64(n.mant)
	r.SetMantExp(r, int(n.exp)-63)
	if n.neg {
		r.Neg(r)
	}
	return r
}

// refRound rounds as the x87 does, for results in the normal range.
func refRound(v *big.Float, mode Rounding) F80 {
	modes := [...]big.RoundingMode{big.ToNearestEven, big.ToNegativeInf, big.ToPositiveInf, big.ToZero}
	r := new(big.Float).SetPrec(64).SetMode(modes[mode]).Set(v)
	m := new(big.Float).SetPrec(64)
	exp := r.MantExp(m)
	m.SetMantExp(m, 64)
	neg := m.Sign() < 0
	u, _ := m.Abs(m).Uint64()
	return packed{u, int32(exp-1) + 16383, neg}.f80()
}

func refSum(first *big.Float, next func(term *big.Float, k int64)) *big.Float {
	sum, term := ref().Set(first), ref().Set(first)
	for k := int64(1); ; k++ {
		next(term, k)
		if term.Sign() == 0 || term.MantExp(nil) < sum.MantExp(nil)-refPrec {
			return sum
		}
		sum.Add(sum, term)
	}
}

func refInt(i int64) *big.Float { return ref().SetInt64(i) }

// refAtanh is atanh x for small |x|, with negate atan.
func refAtanh(x *big.Float, negate bool) *big.Float {
	x2 := ref().Mul(x, x)
	if negate {
		x2.Neg(x2)
	}
	power := ref().Set(x)
	return refSum(x, func(term *big.Float, k int64) {
		power.Mul(power, x2)
		term.Quo(power, refInt(2*k+1))
	})
}

func refLn2() *big.Float {
	r := refAtanh(ref().Quo(refInt(1), refInt(3)), false)
	return r.Mul(r, refInt(2))
}

func refPi() *big.Float { // Machin
	a := refAtanh(ref().Quo(refInt(1), refInt(5)), true)
	b := refAtanh(ref().Quo(refInt(1), refInt(239)), true)
	a.Mul(a, refInt(16))
	return a.Sub(a, b.Mul(b, refInt(4)))
}

func refExpm1(x *big.Float) *big.Float {
	return refSum(x, func(term *big.Float, k int64) { term.Quo(term.Mul(term, x), refInt(k+1)) })
}

// refLog2p1 is log2(1+x).
func refLog2p1(x *big.Float) *big.Float {
	k := int64(0)
	x = ref().Set(x)
	for ; x.Cmp(refInt(1)) > 0; k++ { // 1+x > 2
		x.Sub(x, refInt(1)).Quo(x, refInt(2))
	}
	for half := ref().SetFloat64(-0.5); x.Cmp(half) < 0; k-- {
		x.Mul(x, refInt(2)).Add(x, refInt(1))
	}
	r := refAtanh(ref().Quo(x, ref().Add(x, refInt(2))), false)
	r.Mul(r, refInt(2)).Quo(r, refLn2())
	return r.Add(r, refInt(k))
}

func refAtan(x *big.Float) *big.Float {
	// Halve the angle thrice: tan(t/2) = x / (1 + sqrt(1 + x^2)).
	x = ref().Set(x)
	for range 3 {
		s := ref().Mul(x, x)
		s.Add(s, refInt(1)).Sqrt(s)
		x.Quo(x, s.Add(s, refInt(1)))
	}
	r := refAtanh(x, true)
	return r.Mul(r, refInt(8))
}

func refAtan2(y, x *big.Float) *big.Float {
	r := refAtan(ref().Abs(ref().Quo(y, x)))
	if x.Sign() < 0 {
		r.Sub(refPi(), r)
	}
	if y.Sign() < 0 {
		r.Neg(r)
	}
	return r
}

// refReduce takes x modulo pi/2 by the 66-bit pi.
func refReduce(x *big.Float) (*big.Float, int64) {
	halfPi := ref().SetInt(new(big.Int).Add(new(big.Int).Lsh(big.NewInt(halfPiHi), 64), new(big.Int).SetUint64(halfPiLo)))
	halfPi.SetMantExp(halfPi, -65)
	q := ref().Quo(x, halfPi)
	half := ref().SetFloat64(0.5)
	if q.Sign() < 0 {
		half.Neg(half)
	}
	n, _ := q.Add(q, half).Int(nil)
	r := ref().Sub(x, ref().Mul(halfPi, ref().SetInt(n)))
	return r, new(big.Int).And(n, big.NewInt(3)).Int64()
}

func refSinCos(x *big.Float) (sin, cos *big.Float) {
	r, q := refReduce(x)
	r2 := ref().Mul(r, r)
	r2.Neg(r2)
	s := refSum(r, func(t *big.Float, k int64) { t.Quo(t.Mul(t, r2), refInt(2*k*(2*k+1))) })
	c := refSum(refInt(1), func(t *big.Float, k int64) { t.Quo(t.Mul(t, r2), refInt(2*k*(2*k-1))) })
	switch q {
	case 1:
		s, c = c, s.Neg(s)
	case 2:
		s, c = s.Neg(s), c.Neg(c)
	case 3:
		s, c = c.Neg(c), s
	}
	return s, c
}

// TestCorrectRounding holds the transcendentals to the last bit in all rounding modes.
func TestCorrectRounding(t *testing.T) {
	s := newSource()
	wideRange := between(-70, 62, true)
	trig := between(-70, 62, true)
	for _, op := range []struct {
		name string
		emu  func(e *Env, a, b F80) F80
		ref  func(a, b *big.Float) *big.Float
		a, b func(source) F80
	}{
		{"F2XM1", func(e *Env, a, b F80) F80 { return e.F2XM1(a) }, func(a, b *big.Float) *big.Float { return refExpm1(ref().Mul(a, refLn2())) }, between(-70, -1, true), wideRange},
		{"FYL2X", (*Env).FYL2X, func(a, b *big.Float) *big.Float { return ref().Mul(b, refLog2p1(ref().Sub(a, refInt(1)))) }, between(-5, 5, false), wideRange},
		{"FYL2XP1", (*Env).FYL2XP1, func(a, b *big.Float) *big.Float { return ref().Mul(b, refLog2p1(a)) }, between(-70, -2, true), wideRange},
		{"FPATAN", (*Env).FPATAN, func(a, b *big.Float) *big.Float { return refAtan2(b, a) }, between(-30, 30, true), between(-30, 30, true)},
		{"FSIN", func(e *Env, a, b F80) F80 { r, _ := e.FSIN(a); return r }, func(a, b *big.Float) *big.Float { s, _ := refSinCos(a); return s }, trig, wideRange},
		{"FCOS", func(e *Env, a, b F80) F80 { r, _ := e.FCOS(a); return r }, func(a, b *big.Float) *big.Float { _, c := refSinCos(a); return c }, trig, wideRange},
		{"FPTAN", func(e *Env, a, b F80) F80 { r, _ := e.FPTAN(a); return r }, func(a, b *big.Float) *big.Float { s, c := refSinCos(a); return s.Quo(s, c) }, trig, wideRange},
	} {
		t.Run(op.name, func(t *testing.T) {
			for range cases(t, 150) {
				a, b := op.a(s), op.b(s)
				if a.Mant == intBit { // powers of two give exact logarithms
					a.Mant |= 1
				}
				v := op.ref(refFrom(a), refFrom(b))
				for mode := range Rounding(4) {
					e := Env{Rounding: mode, Masks: AllFlags}
					want := refRound(v, mode)
					if got := op.emu(&e, a, b); got != want || e.Flags != Inexact {
						t.Fatalf("a=%04x:%016x b=%04x:%016x rc=%d: got %04x:%016x flags %#x, want %04x:%016x", a.SE, a.Mant, b.SE, b.Mant, mode, got.SE, got.Mant, e.Flags, want.SE, want.Mant)
					}
				}
			}
		})
	}
}
