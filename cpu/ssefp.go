package cpu

import (
	"math"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/softfloat"
)

// Bits of MXCSR (SDM vol. 1, 10.2.3). Six flags, DAZ, six masks, rounding, FZ.
const (
	mxcsrFlags      = 0x3f
	mxcsrDAZ        = 1 << 6
	mxcsrMaskShift  = 7
	mxcsrRoundShift = 13
	mxcsrFZ         = 1 << 15
	mxcsrMask       = 0xffff // bits that may be set
	mxcsrDefault    = 0x1f80
)

// preFlags are the exceptions that are found before an operation computes (SDM vol. 1, 4.9.2).
const preFlags = uint32(softfloat.Invalid | softfloat.Denormal | softfloat.DivByZero)

// simdEnv returns the environment that MXCSR asks for, with no flags but a sticky PE that saves looking for another.
func (c *CPU) simdEnv() *softfloat.Env {
	f := &c.fpu
	if f.envFor != f.mxcsr|envValid {
		masks := softfloat.Flags(f.mxcsr>>mxcsrMaskShift) & softfloat.AllFlags
		c.sfEnv = softfloat.Env{
			Rounding: softfloat.Rounding(f.mxcsr >> mxcsrRoundShift & 3),
			Masks:    masks,
			FTZ:      f.mxcsr&mxcsrFZ != 0,
			DAZ:      f.mxcsr&mxcsrDAZ != 0,
		}
		f.envFlags = softfloat.Flags(f.mxcsr) & masks & softfloat.Inexact
		f.envFor = f.mxcsr | envValid
	}
	c.sfEnv.Flags = f.envFlags
	return &c.sfEnv
}

// envValid marks fpuState.envFor; no bit of MXCSR is there.
const envValid = 1 << 31

// simdFlags enters what an operation raised into MXCSR. If an exception is unmasked it becomes pending and the
// instruction must store nothing; if it is one that is found before computing, no later ones count, not even those of
// other lanes (SDM vol. 1, 11.5.2 and 11.5.3).
func (c *CPU) simdFlags() bool {
	if c.sfEnv.Flags == c.fpu.envFlags {
		return true
	}
	return c.simdRaised()
}

func (c *CPU) simdRaised() bool {
	flags := uint32(c.sfEnv.Flags)
	unmasked := flags &^ uint32(c.sfEnv.Masks)
	if unmasked&preFlags != 0 {
		flags &= preFlags
	}
	c.fpu.mxcsr |= flags
	if unmasked == 0 {
		return true
	}
	if c.cr4&cr4OSXMMEXCPT == 0 {
		return c.raise(VectorUD)
	}
	return c.raise(VectorXM)
}

// floatFunc computes the result of a floating-point instruction from the values of its operands.
type floatFunc func(e *softfloat.Env, d, s vector, imm uint8) vector

type (
	binary32 = func(e *softfloat.Env, a, b uint32) uint32
	binary64 = func(e *softfloat.Env, a, b uint64) uint64
)

func single(f binary32) floatFunc {
	return func(e *softfloat.Env, d, s vector, _ uint8) vector {
		return vector{uint64(f(e, uint32(d[0]), uint32(s[0])))}
	}
}

func singles(f binary32) floatFunc {
	return func(e *softfloat.Env, d, s vector, _ uint8) (r vector) {
		for i := range r {
			lo := f(e, uint32(d[i]), uint32(s[i]))
			r[i] = twoDwords(lo, f(e, uint32(d[i]>>32), uint32(s[i]>>32)))
		}
		return r
	}
}

func double(f binary64) floatFunc {
	return func(e *softfloat.Env, d, s vector, _ uint8) vector { return vector{f(e, d[0], s[0])} }
}

func doubles(f binary64) floatFunc {
	return func(e *softfloat.Env, d, s vector, _ uint8) vector {
		lo := f(e, d[0], s[0])
		return vector{lo, f(e, d[1], s[1])}
	}
}

func sqrt32(e *softfloat.Env, _, b uint32) uint32 { return e.Sqrt32(b) }
func sqrt64(e *softfloat.Env, _, b uint64) uint64 { return e.Sqrt64(b) }

// floatOps are the arithmetic instructions on XMM registers.
var floatOps = map[isa.Op]floatFunc{
	isa.ADDPS: singles((*softfloat.Env).Add32),
	isa.ADDSS: single((*softfloat.Env).Add32),
	isa.ADDPD: doubles((*softfloat.Env).Add64),
	isa.ADDSD: double((*softfloat.Env).Add64),
	isa.SUBPS: singles((*softfloat.Env).Sub32),
	isa.SUBSS: single((*softfloat.Env).Sub32),
	isa.SUBPD: doubles((*softfloat.Env).Sub64),
	isa.SUBSD: double((*softfloat.Env).Sub64),
	isa.MULPS: singles((*softfloat.Env).Mul32),
	isa.MULSS: single((*softfloat.Env).Mul32),
	isa.MULPD: doubles((*softfloat.Env).Mul64),
	isa.MULSD: double((*softfloat.Env).Mul64),
	isa.DIVPS: singles((*softfloat.Env).Div32),
	isa.DIVSS: single((*softfloat.Env).Div32),
	isa.DIVPD: doubles((*softfloat.Env).Div64),
	isa.DIVSD: double((*softfloat.Env).Div64),
	isa.MINPS: singles((*softfloat.Env).Min32),
	isa.MINSS: single((*softfloat.Env).Min32),
	isa.MINPD: doubles((*softfloat.Env).Min64),
	isa.MINSD: double((*softfloat.Env).Min64),
	isa.MAXPS: singles((*softfloat.Env).Max32),
	isa.MAXSS: single((*softfloat.Env).Max32),
	isa.MAXPD: doubles((*softfloat.Env).Max64),
	isa.MAXSD: double((*softfloat.Env).Max64),

	isa.SQRTPS:  singles(sqrt32),
	isa.SQRTSS:  single(sqrt32),
	isa.SQRTPD:  doubles(sqrt64),
	isa.SQRTSD:  double(sqrt64),
	isa.RCPPS:   singles(reciprocal),
	isa.RCPSS:   single(reciprocal),
	isa.RSQRTPS: singles(reciprocalRoot),
	isa.RSQRTSS: single(reciprocalRoot),

	isa.CMPPS: func(e *softfloat.Env, d, s vector, imm uint8) vector {
		return singles(func(e *softfloat.Env, a, b uint32) uint32 { return compare32(e, a, b, imm) })(e, d, s, imm)
	},
	isa.CMPSS: func(e *softfloat.Env, d, s vector, imm uint8) vector {
		return vector{uint64(compare32(e, uint32(d[0]), uint32(s[0]), imm))}
	},
	isa.CMPPD: func(e *softfloat.Env, d, s vector, imm uint8) vector {
		lo := compare64(e, d[0], s[0], imm)
		return vector{lo, compare64(e, d[1], s[1], imm)}
	},
	isa.CMPSD: func(e *softfloat.Env, d, s vector, imm uint8) vector {
		return vector{compare64(e, d[0], s[0], imm)}
	},

	isa.ROUNDPS: func(e *softfloat.Env, _, s vector, imm uint8) (r vector) {
		for i := range r {
			lo := round32(e, uint32(s[i]), imm)
			r[i] = twoDwords(lo, round32(e, uint32(s[i]>>32), imm))
		}
		return r
	},
	isa.ROUNDSS: func(e *softfloat.Env, _, s vector, imm uint8) vector {
		return vector{uint64(round32(e, uint32(s[0]), imm))}
	},
	isa.ROUNDPD: func(e *softfloat.Env, _, s vector, imm uint8) vector {
		lo := round64(e, s[0], imm)
		return vector{lo, round64(e, s[1], imm)}
	},
	isa.ROUNDSD: func(e *softfloat.Env, _, s vector, imm uint8) vector { return vector{round64(e, s[0], imm)} },

	isa.ADDSUBPS: func(e *softfloat.Env, d, s vector, _ uint8) (r vector) {
		for i := range r {
			lo := e.Sub32(uint32(d[i]), uint32(s[i]))
			r[i] = twoDwords(lo, e.Add32(uint32(d[i]>>32), uint32(s[i]>>32)))
		}
		return r
	},
	isa.ADDSUBPD: func(e *softfloat.Env, d, s vector, _ uint8) vector {
		lo := e.Sub64(d[0], s[0])
		return vector{lo, e.Add64(d[1], s[1])}
	},
	isa.HADDPS: horizontal32((*softfloat.Env).Add32),
	isa.HSUBPS: horizontal32((*softfloat.Env).Sub32),
	isa.HADDPD: horizontal64((*softfloat.Env).Add64),
	isa.HSUBPD: horizontal64((*softfloat.Env).Sub64),

	isa.CVTPS2PD: func(e *softfloat.Env, _, s vector, _ uint8) vector {
		lo := e.F32ToF64(uint32(s[0]))
		return vector{lo, e.F32ToF64(uint32(s[0] >> 32))}
	},
	isa.CVTPD2PS: func(e *softfloat.Env, _, s vector, _ uint8) vector {
		lo := e.F64ToF32(s[0])
		return vector{twoDwords(lo, e.F64ToF32(s[1]))}
	},
	isa.CVTSS2SD:  func(e *softfloat.Env, _, s vector, _ uint8) vector { return vector{e.F32ToF64(uint32(s[0]))} },
	isa.CVTSD2SS:  func(e *softfloat.Env, _, s vector, _ uint8) vector { return vector{uint64(e.F64ToF32(s[0]))} },
	isa.CVTDQ2PS:  func(e *softfloat.Env, _, s vector, _ uint8) vector { return vector{int2ps(e, s[0]), int2ps(e, s[1])} },
	isa.CVTPI2PS:  func(e *softfloat.Env, _, s vector, _ uint8) vector { return vector{int2ps(e, s[0])} },
	isa.CVTDQ2PD:  int2pd,
	isa.CVTPI2PD:  int2pd,
	isa.CVTPS2DQ:  func(e *softfloat.Env, _, s vector, _ uint8) vector { return ps2int(e, s, false) },
	isa.CVTTPS2DQ: func(e *softfloat.Env, _, s vector, _ uint8) vector { return ps2int(e, s, true) },
	isa.CVTPS2PI:  func(e *softfloat.Env, _, s vector, _ uint8) vector { return ps2int(e, s, false) },
	isa.CVTTPS2PI: func(e *softfloat.Env, _, s vector, _ uint8) vector { return ps2int(e, s, true) },
	isa.CVTPD2DQ:  func(e *softfloat.Env, _, s vector, _ uint8) vector { return pd2int(e, s, false) },
	isa.CVTTPD2DQ: func(e *softfloat.Env, _, s vector, _ uint8) vector { return pd2int(e, s, true) },
	isa.CVTPD2PI:  func(e *softfloat.Env, _, s vector, _ uint8) vector { return pd2int(e, s, false) },
	isa.CVTTPD2PI: func(e *softfloat.Env, _, s vector, _ uint8) vector { return pd2int(e, s, true) },
}

func int2ps(e *softfloat.Env, q uint64) uint64 {
	lo := e.I32ToF32(int32(q))
	return twoDwords(lo, e.I32ToF32(int32(q>>32)))
}

func int2pd(e *softfloat.Env, _, s vector, _ uint8) vector {
	return vector{e.I32ToF64(int32(s[0])), e.I32ToF64(int32(s[0] >> 32))}
}

// ps2int converts four singles, or the two that the source has: zeros convert without exceptions.
func ps2int(e *softfloat.Env, s vector, truncate bool) (r vector) {
	for i := range r {
		lo := uint32(e.F32ToI32(uint32(s[i]), truncate))
		r[i] = twoDwords(lo, uint32(e.F32ToI32(uint32(s[i]>>32), truncate)))
	}
	return r
}

func pd2int(e *softfloat.Env, s vector, truncate bool) vector {
	lo := uint32(e.F64ToI32(s[0], truncate))
	return vector{twoDwords(lo, uint32(e.F64ToI32(s[1], truncate)))}
}

func horizontal32(f binary32) floatFunc {
	return func(e *softfloat.Env, d, s vector, _ uint8) (r vector) {
		for i, v := range [2]vector{d, s} {
			lo := f(e, uint32(v[0]), uint32(v[0]>>32))
			r[i] = twoDwords(lo, f(e, uint32(v[1]), uint32(v[1]>>32)))
		}
		return r
	}
}

func horizontal64(f binary64) floatFunc {
	return func(e *softfloat.Env, d, s vector, _ uint8) vector {
		lo := f(e, d[0], d[1])
		return vector{lo, f(e, s[0], s[1])}
	}
}

// dotProduct is DPPS and DPPD: products, sums of pairs, and for DPPS the sum of those. Each step raises its exceptions
// before the next one begins (SDM vol. 2A, DPPS).
func dotProduct(c *CPU, u *uop) bool {
	if !c.sseReady() {
		return false
	}
	s, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	d := c.fpu.xmm[u.Args[0].Reg&15]
	imm := uint8(u.Imm)
	var r vector
	if u.Op == isa.DPPD {
		r, ok = c.dotProduct64(d, s, imm)
	} else {
		r, ok = c.dotProduct32(d, s, imm)
	}
	return ok && c.setVectorArg(u, 0, r)
}

func (c *CPU) dotProduct32(d, s vector, imm uint8) (r vector, ok bool) {
	var p [4]uint32
	e := c.simdEnv()
	for i := range uint8(4) {
		if imm>>(4+i)&1 != 0 {
			p[i] = e.Mul32(vectorDword(d, i), vectorDword(s, i))
		}
	}
	if !c.simdFlags() {
		return r, false
	}
	e = c.simdEnv()
	lo := e.Add32(p[0], p[1])
	hi := e.Add32(p[2], p[3])
	if !c.simdFlags() {
		return r, false
	}
	sum := c.simdEnv().Add32(lo, hi)
	for i := range uint8(4) {
		if imm>>i&1 != 0 {
			setVectorDword(&r, i, sum)
		}
	}
	return r, c.simdFlags()
}

func (c *CPU) dotProduct64(d, s vector, imm uint8) (r vector, ok bool) {
	var p vector
	e := c.simdEnv()
	for i := range p {
		if imm>>(4+i)&1 != 0 {
			p[i] = e.Mul64(d[i], s[i])
		}
	}
	if !c.simdFlags() {
		return r, false
	}
	sum := c.simdEnv().Add64(p[0], p[1])
	for i := range r {
		if imm>>i&1 != 0 {
			r[i] = sum
		}
	}
	return r, c.simdFlags()
}

// holds evaluates the predicate of CMPPS: its low two bits are EQ, LT, LE, UNORD; bit 2 negates it. LT and LE also
// signal quiet NaNs.
func holds(o softfloat.Order, imm uint8) bool {
	var v bool
	switch imm & 3 {
	case 0:
		v = o == softfloat.Equal
	case 1:
		v = o == softfloat.Less
	case 2:
		v = o == softfloat.Less || o == softfloat.Equal
	case 3:
		v = o == softfloat.Unordered
	}
	return v != (imm&4 != 0)
}

func signalsQuiet(imm uint8) bool { return imm&3 == 1 || imm&3 == 2 }

func compare32(e *softfloat.Env, a, b uint32, imm uint8) uint32 {
	if holds(e.Compare32(a, b, signalsQuiet(imm)), imm) {
		return ^uint32(0)
	}
	return 0
}

func compare64(e *softfloat.Env, a, b uint64, imm uint8) uint64 {
	if holds(e.Compare64(a, b, signalsQuiet(imm)), imm) {
		return ^uint64(0)
	}
	return 0
}

// roundMode is the rounding mode that the immediate of ROUNDPS and kin asks for, if not MXCSR's. Its bit 3 suppresses
// the inexact exception.
func roundMode(e *softfloat.Env, imm uint8) softfloat.Rounding {
	if imm&4 != 0 {
		return e.Rounding
	}
	return softfloat.Rounding(imm & 3)
}

func round32(e *softfloat.Env, a uint32, imm uint8) uint32 {
	old := e.Rounding
	e.Rounding = roundMode(e, imm)
	r := e.Round32(a, imm&8 != 0)
	e.Rounding = old
	return r
}

func round64(e *softfloat.Env, a uint64, imm uint8) uint64 {
	old := e.Rounding
	e.Rounding = roundMode(e, imm)
	r := e.Round64(a, imm&8 != 0)
	e.Rounding = old
	return r
}

// reciprocal is RCPSS. Silicon differs here from maker to maker within an error of 1.5 * 2^-12; this is the exact value
// rounded to 12 bits. Denormals count as zero, results that would be denormal become it, and nothing is raised.
func reciprocal(_ *softfloat.Env, _, b uint32) uint32 {
	return approximate(b, func(x float64) float64 { return 1 / x })
}

// reciprocalRoot is RSQRTSS.
func reciprocalRoot(_ *softfloat.Env, _, b uint32) uint32 {
	if b>>31 != 0 && b<<1 >= 1<<24 && b<<1 <= 0xff<<24 {
		return softfloat.Indefinite32
	}
	return approximate(b, func(x float64) float64 { return 1 / math.Sqrt(x) })
}

func approximate(b uint32, f func(float64) float64) uint32 {
	if b<<1 > 0xff<<24 {
		return b | 1<<22 // a NaN, quieted
	}
	sign := b & (1 << 31)
	if b<<1 < 1<<24 {
		return sign | 0xff<<23
	}
	x := math.Abs(f(float64(math.Float32frombits(b &^ (1 << 31)))))
	if x < 0x1p-126 {
		return sign
	}
	r := math.Float64bits(x)
	r = (r + 1<<40) &^ (1<<41 - 1) // 52-41 = 11 bits after the point
	return sign | math.Float32bits(float32(math.Float64frombits(r)))
}

func floatHandlers() map[isa.Op]handler {
	m := map[isa.Op]handler{
		isa.COMISS:    func(c *CPU, u *uop) bool { return c.compareScalar(u, true) },
		isa.COMISD:    func(c *CPU, u *uop) bool { return c.compareScalar(u, true) },
		isa.UCOMISS:   func(c *CPU, u *uop) bool { return c.compareScalar(u, false) },
		isa.UCOMISD:   func(c *CPU, u *uop) bool { return c.compareScalar(u, false) },
		isa.DPPS:      dotProduct,
		isa.DPPD:      dotProduct,
		isa.CVTSI2SS:  convertFromInteger,
		isa.CVTSI2SD:  convertFromInteger,
		isa.CVTSS2SI:  func(c *CPU, u *uop) bool { return c.convertToInteger(u, false) },
		isa.CVTSD2SI:  func(c *CPU, u *uop) bool { return c.convertToInteger(u, false) },
		isa.CVTTSS2SI: func(c *CPU, u *uop) bool { return c.convertToInteger(u, true) },
		isa.CVTTSD2SI: func(c *CPU, u *uop) bool { return c.convertToInteger(u, true) },
	}
	for op, f := range floatOps {
		m[op] = func(c *CPU, u *uop) bool { return c.float(u, f) }
	}
	return m
}

// float executes an instruction of floatOps.
func (c *CPU) float(u *uop, f floatFunc) bool {
	if !c.sseReady() {
		return false
	}
	mmx := usesMMX(&u.Inst)
	if mmx && !c.mmxReady() {
		return false
	}
	s, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	var d vector
	if u.Args[0].Kind == isa.KindXMM {
		d = c.fpu.xmm[u.Args[0].Reg&15]
	}
	v := f(c.simdEnv(), d, s, uint8(u.Imm))
	if mmx {
		c.fpu.enterMMX() // also if an exception follows
	}
	return c.simdFlags() && c.setVectorArg(u, 0, v)
}

// compareScalar is COMISS and UCOMISS (signal false) and their forms for doubles.
func (c *CPU) compareScalar(u *uop, signal bool) bool {
	if !c.sseReady() {
		return false
	}
	s, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	d := c.fpu.xmm[u.Args[0].Reg&15][0]
	e := c.simdEnv()
	var o softfloat.Order
	if u.Args[0].Size == 8 {
		o = e.Compare64(d, s[0], signal)
	} else {
		o = e.Compare32(uint32(d), uint32(s[0]), signal)
	}
	if !c.simdFlags() {
		return false
	}
	c.f.setWord(orderFlags(o))
	return true
}

// orderFlags are ZF, PF and CF as COMISS and FCOMI set them.
func orderFlags(o softfloat.Order) uint64 {
	switch o {
	case softfloat.Less:
		return FlagCF
	case softfloat.Equal:
		return FlagZF
	case softfloat.Greater:
		return 0
	}
	return FlagZF | FlagPF | FlagCF
}

// convertFromInteger is CVTSI2SS and CVTSI2SD.
func convertFromInteger(c *CPU, u *uop) bool {
	if !c.sseReady() {
		return false
	}
	s, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	i := sext(s[0], u.Args[1].Size)
	e := c.simdEnv()
	var v vector
	if u.Args[0].Size == 8 {
		v[0] = e.I64ToF64(i)
	} else {
		v[0] = uint64(e.I64ToF32(i))
	}
	return c.simdFlags() && c.setVectorArg(u, 0, v)
}

// convertToInteger is CVTSS2SI, CVTSD2SI and, with truncate, CVTTSS2SI and CVTTSD2SI.
func (c *CPU) convertToInteger(u *uop, truncate bool) bool {
	if !c.sseReady() {
		return false
	}
	s, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	e := c.simdEnv()
	var i int64
	switch {
	case u.Args[1].Size == 8 && u.Args[0].Size == 8:
		i = e.F64ToI64(s[0], truncate)
	case u.Args[1].Size == 8:
		i = int64(e.F64ToI32(s[0], truncate))
	case u.Args[0].Size == 8:
		i = e.F32ToI64(uint32(s[0]), truncate)
	default:
		i = int64(e.F32ToI32(uint32(s[0]), truncate))
	}
	return c.simdFlags() && c.setVectorArg(u, 0, vector{uint64(i)})
}
