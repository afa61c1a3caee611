package softfloat

import "math/bits"

// wide is hi:lo * 2^(exp-127), normalized, or zero: the working precision of the
// transcendental instructions. Its operations err by a few units of the last
// of 128 bits; what they lose they keep as a sticky bit, so a sum whose second
// term has vanished still lies on the right side of the first.
type wide struct {
	hi, lo uint64
	exp    int32
	neg    bool
}

func (n num) wide() wide { return wide{n.mant, 0, n.exp, n.neg} }

func (a wide) isZero() bool { return a.hi == 0 }

func (a wide) negated() wide { a.neg = !a.neg; return a }

func (a wide) scaled(n int32) wide { a.exp += n; return a }

func wideInt(i int64) wide {
	n := fromInt(i)
	return n.wide()
}

func (a wide) mul(b wide) wide {
	if a.isZero() || b.isZero() {
		return wide{}
	}
	h, l := bits.Mul64(a.hi, b.hi)
	m1h, m1l := bits.Mul64(a.hi, b.lo)
	m2h, m2l := bits.Mul64(a.lo, b.hi)
	t1, t0 := bits.Mul64(a.lo, b.lo)
	var c uint64
	t1, c = bits.Add64(t1, m1l, 0)
	l, c = bits.Add64(l, m1h, c)
	h += c
	t1, c = bits.Add64(t1, m2l, 0)
	l, c = bits.Add64(l, m2h, c)
	h += c
	exp := a.exp + b.exp + 1
	if h&intBit == 0 {
		h, l, t1 = h<<1|l>>63, l<<1|t1>>63, t1<<1
		exp--
	}
	if t1|t0 != 0 {
		l |= 1
	}
	return wide{h, l, exp, a.neg != b.neg}
}

func (a wide) add(b wide) wide {
	switch {
	case a.isZero():
		return b
	case b.isZero():
		return a
	}
	if a.exp < b.exp || a.exp == b.exp && (a.hi < b.hi || a.hi == b.hi && a.lo < b.lo) {
		a, b = b, a
	}
	n := uint(a.exp - b.exp)
	if n >= 128 && a.lo&1 != 0 {
		return a // sticky already
	}
	bh, bl := shiftRight(b.hi, b.lo, n)
	if a.neg == b.neg {
		lo, c := bits.Add64(a.lo, bl, 0)
		hi, c := bits.Add64(a.hi, bh, c)
		if c != 0 {
			hi, lo = shiftRight(hi, lo, 1)
			return wide{hi | intBit, lo, a.exp + 1, a.neg}
		}
		return wide{hi, lo, a.exp, a.neg}
	}
	lo, c := bits.Sub64(a.lo, bl, 0)
	hi, _ := bits.Sub64(a.hi, bh, c)
	if hi|lo == 0 {
		return wide{}
	}
	exp, hi, lo := normalize(a.exp, hi, lo)
	return wide{hi, lo, exp, a.neg}
}

func (a wide) sub(b wide) wide { return a.add(b.negated()) }

// divSmall divides by an integer below 2^63.
func (a wide) divSmall(d uint64) wide {
	if a.isZero() {
		return a
	}
	hi := a.hi / d
	lo, rem := bits.Div64(a.hi%d, a.lo, d)
	ext, rem := bits.Div64(rem, 0, d)
	n := bits.LeadingZeros64(hi)
	if n > 0 {
		hi, lo, ext = hi<<n|lo>>(64-n), lo<<n|ext>>(64-n), ext<<n
	}
	if ext|rem != 0 {
		lo |= 1
	}
	return wide{hi, lo, a.exp - int32(n), a.neg}
}

func (a wide) div(b wide) wide {
	if a.isZero() {
		return a
	}
	// 1/b by Newton, from 63 good bits.
	r, _ := bits.Div64(intBit-1, ^uint64(0), b.hi)
	inv := wide{hi: r, exp: -1 - b.exp, neg: b.neg}
	for range 2 {
		inv = inv.add(inv.mul(one.sub(b.mul(inv))))
	}
	return a.mul(inv)
}

// Constants to 128 bits.
var (
	one         = wide{hi: intBit}
	widePi      = wide{exp: 1, hi: 0xC90FDAA22168C234, lo: 0xC4C6628B80DC1CD1}
	wide3Pi4    = wide{exp: 1, hi: 0x96CBE3F9990E91A7, lo: 0x9394C9E8A0A5159C}
	wideLn2     = wide{exp: -1, hi: 0xB17217F7D1CF79AB, lo: 0xC9E3B39803F2F6AF}
	wideLog2E   = wide{exp: 0, hi: 0xB8AA3B295C17F0BB, lo: 0xBE87FED0691D3E88}
	wideLog2_10 = wide{exp: 1, hi: 0xD49A784BCD1B8AFE, lo: 0x492BF6FF4DAFDB4C}
	wideLog10_2 = wide{exp: -2, hi: 0x9A209A84FBCFF798, lo: 0x8F8959AC0B7C9178}
	sqrt2Mant   = uint64(0xB504F333F9DE6484)
)

// atanEighths holds atan(k/8).
var atanEighths = [9]wide{
	{},
	{exp: -4, hi: 0xFEADD4D5617B6E32, lo: 0xC897989F3E888EF7},
	{exp: -3, hi: 0xFADBAFC96406EB15, lo: 0x6DC79EF5F7A217E5},
	{exp: -2, hi: 0xB7B0CA0F26F78473, lo: 0x8AA32122DCFE4483},
	{exp: -2, hi: 0xED63382B0DDA7B45, lo: 0x6FE445ECBC3A8D03},
	{exp: -1, hi: 0x8F005D5EF7F59F9B, lo: 0x5C835E1665C43747},
	{exp: -1, hi: 0xA4BC7D1934F70924, lo: 0x19A87F2A457DAC9E},
	{exp: -1, hi: 0xB8053E2BC2319E73, lo: 0xCB2DA55210A4443D},
	{exp: -1, hi: 0xC90FDAA22168C234, lo: 0xC4C6628B80DC1CD1},
}

// enough says that a term no longer matters to a sum.
func enough(term, sum wide) bool { return term.isZero() || term.exp < sum.exp-130 }

// expm1 is e^t - 1 for |t| < 1.
func expm1(t wide) wide {
	sum, term := t, t
	for k := uint64(2); ; k++ {
		term = term.mul(t).divSmall(k)
		sum = sum.add(term)
		if enough(term, sum) {
			return sum
		}
	}
}

// oddSeries is s + c*s^3/3 + s^5/5 + c*s^7/7 ..., for c = 1 atanh(s), for c = -1 atan(s).
func oddSeries(s wide, alternate bool) wide {
	s2 := s.mul(s)
	s2.neg = alternate
	sum, power := s, s
	for k := uint64(3); ; k += 2 {
		power = power.mul(s2)
		term := power.divSmall(k)
		sum = sum.add(term)
		if enough(term, sum) {
			return sum
		}
	}
}

// sine is sin r for |r| below pi/4 or so.
func sine(r wide) wide {
	r2 := r.mul(r).negated()
	sum, term := r, r
	for k := uint64(2); ; k += 2 {
		term = term.mul(r2).divSmall(k * (k + 1))
		sum = sum.add(term)
		if enough(term, sum) {
			return sum
		}
	}
}

// cosine is cos r for |r| below pi/4 or so.
func cosine(r wide) wide {
	r2 := r.mul(r).negated()
	sum, term := one, one
	for k := uint64(1); ; k += 2 {
		term = term.mul(r2).divSmall(k * (k + 1))
		sum = sum.add(term)
		if enough(term, sum) {
			return sum
		}
	}
}

// tangent is tan r for |r| below pi/4 or so.
func tangent(r wide) wide {
	if r.exp < -40 {
		return r.add(r.mul(r).mul(r).divSmall(3))
	}
	return sine(r).div(cosine(r))
}

// arctan is atan r for 0 <= r <= 1.
func arctan(r wide) wide {
	k := int64(0)
	if r.exp >= -4 {
		k = int64((r.hi>>uint(-r.exp)>>59 + 1) >> 1) // nearest eighth
	}
	if k == 0 {
		return oddSeries(r, true)
	}
	c := wideInt(k).scaled(-3)
	t := r.sub(c).div(one.add(r.mul(c)))
	if t.isZero() {
		return atanEighths[k]
	}
	return atanEighths[k].add(oddSeries(t, true))
}

// log2OnePlus is log2(1 + x) for x small enough that no power of two need be split off.
func log2OnePlus(x wide) wide {
	s := x.div(x.add(one.scaled(1)))
	return oddSeries(s, false).mul(wideLog2E).scaled(1)
}

// log2 is the binary logarithm of a positive number.
func log2(x wide) wide {
	k := x.exp
	x.exp = 0
	if x.hi > sqrt2Mant {
		k++
		x.exp = -1
	}
	f := x.sub(one)
	if f.isZero() {
		return wideInt(int64(k))
	}
	return wideInt(int64(k)).add(log2OnePlus(f))
}
