package softfloat

import (
	"encoding/binary"
	"testing"

	"github.com/hybridbridge/emu/cpu/softfloat/internal/hostfpu"
)

func put64(d *[16]byte, v uint64) { *d = [16]byte{}; binary.LittleEndian.PutUint64(d[:], v) }
func put80(d *[16]byte, v F80) {
	put64(d, v.Mant)
	binary.LittleEndian.PutUint16(d[8:], v.SE)
}
func get32(d *[16]byte) uint32 { return binary.LittleEndian.Uint32(d[:]) }
func get64(d *[16]byte) uint64 { return binary.LittleEndian.Uint64(d[:]) }
func get80(d *[16]byte) F80    { return F80{get64(d), binary.LittleEndian.Uint16(d[8:])} }

// order reads the flags that LAHF saved.
func order(c *hostfpu.Case) uint64 {
	switch ah := c.R[1]; {
	case ah&0x04 != 0:
		return uint64(Unordered)
	case ah&0x40 != 0:
		return uint64(Equal)
	case ah&0x01 != 0:
		return uint64(Less)
	}
	return uint64(Greater)
}

func boolean(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

type sseOp struct {
	name string
	host func(*hostfpu.Case)
	emu  func(e *Env, a, b uint64) uint64
	get  func(*hostfpu.Case) uint64
	arg  byte // operand format: 3 or 6 for floats, i for integers
}

func res32(c *hostfpu.Case) uint64 { return uint64(get32(&c.R)) }
func res64(c *hostfpu.Case) uint64 { return get64(&c.R) }

func two32(f func(*Env, uint32, uint32) uint32) func(*Env, uint64, uint64) uint64 {
	return func(e *Env, a, b uint64) uint64 { return uint64(f(e, uint32(a), uint32(b))) }
}

func one32(f func(*Env, uint32) uint32) func(*Env, uint64, uint64) uint64 {
	return func(e *Env, a, b uint64) uint64 { return uint64(f(e, uint32(a))) }
}

func one64(f func(*Env, uint64) uint64) func(*Env, uint64, uint64) uint64 {
	return func(e *Env, a, b uint64) uint64 { return f(e, a) }
}

var sseOps = []sseOp{
	{"Add32", hostfpu.Add32, two32((*Env).Add32), res32, '3'},
	{"Sub32", hostfpu.Sub32, two32((*Env).Sub32), res32, '3'},
	{"Mul32", hostfpu.Mul32, two32((*Env).Mul32), res32, '3'},
	{"Div32", hostfpu.Div32, two32((*Env).Div32), res32, '3'},
	{"Min32", hostfpu.Min32, two32((*Env).Min32), res32, '3'},
	{"Max32", hostfpu.Max32, two32((*Env).Max32), res32, '3'},
	{"Sqrt32", hostfpu.Sqrt32, one32((*Env).Sqrt32), res32, '3'},
	{"Add64", hostfpu.Add64, (*Env).Add64, res64, '6'},
	{"Sub64", hostfpu.Sub64, (*Env).Sub64, res64, '6'},
	{"Mul64", hostfpu.Mul64, (*Env).Mul64, res64, '6'},
	{"Div64", hostfpu.Div64, (*Env).Div64, res64, '6'},
	{"Min64", hostfpu.Min64, (*Env).Min64, res64, '6'},
	{"Max64", hostfpu.Max64, (*Env).Max64, res64, '6'},
	{"Sqrt64", hostfpu.Sqrt64, one64((*Env).Sqrt64), res64, '6'},
	{"Ucomi32", hostfpu.Ucomi32, func(e *Env, a, b uint64) uint64 { return uint64(e.Compare32(uint32(a), uint32(b), false)) }, order, '3'},
	{"Comi32", hostfpu.Comi32, func(e *Env, a, b uint64) uint64 { return uint64(e.Compare32(uint32(a), uint32(b), true)) }, order, '3'},
	{"Ucomi64", hostfpu.Ucomi64, func(e *Env, a, b uint64) uint64 { return uint64(e.Compare64(a, b, false)) }, order, '6'},
	{"Comi64", hostfpu.Comi64, func(e *Env, a, b uint64) uint64 { return uint64(e.Compare64(a, b, true)) }, order, '6'},
	{"Round32", hostfpu.Round32, func(e *Env, a, b uint64) uint64 { return uint64(e.Round32(uint32(a), false)) }, res32, '3'},
	{"RoundQuiet32", hostfpu.RoundQuiet32, func(e *Env, a, b uint64) uint64 { return uint64(e.Round32(uint32(a), true)) }, res32, '3'},
	{"Round64", hostfpu.Round64, func(e *Env, a, b uint64) uint64 { return e.Round64(a, false) }, res64, '6'},
	{"RoundQuiet64", hostfpu.RoundQuiet64, func(e *Env, a, b uint64) uint64 { return e.Round64(a, true) }, res64, '6'},
	{"F32ToI32", hostfpu.CvtToInt32From32, func(e *Env, a, b uint64) uint64 { return uint64(uint32(e.F32ToI32(uint32(a), false))) }, res32, '3'},
	{"F32ToI32t", hostfpu.CvttToInt32From32, func(e *Env, a, b uint64) uint64 { return uint64(uint32(e.F32ToI32(uint32(a), true))) }, res32, '3'},
	{"F32ToI64", hostfpu.CvtToInt64From32, func(e *Env, a, b uint64) uint64 { return uint64(e.F32ToI64(uint32(a), false)) }, res64, '3'},
	{"F32ToI64t", hostfpu.CvttToInt64From32, func(e *Env, a, b uint64) uint64 { return uint64(e.F32ToI64(uint32(a), true)) }, res64, '3'},
	{"F64ToI32", hostfpu.CvtToInt32From64, func(e *Env, a, b uint64) uint64 { return uint64(uint32(e.F64ToI32(a, false))) }, res32, '6'},
	{"F64ToI32t", hostfpu.CvttToInt32From64, func(e *Env, a, b uint64) uint64 { return uint64(uint32(e.F64ToI32(a, true))) }, res32, '6'},
	{"F64ToI64", hostfpu.CvtToInt64From64, func(e *Env, a, b uint64) uint64 { return uint64(e.F64ToI64(a, false)) }, res64, '6'},
	{"F64ToI64t", hostfpu.CvttToInt64From64, func(e *Env, a, b uint64) uint64 { return uint64(e.F64ToI64(a, true)) }, res64, '6'},
	{"I32ToF32", hostfpu.CvtInt32To32, func(e *Env, a, b uint64) uint64 { return uint64(e.I32ToF32(int32(a))) }, res32, 'i'},
	{"I64ToF32", hostfpu.CvtInt64To32, func(e *Env, a, b uint64) uint64 { return uint64(e.I64ToF32(int64(a))) }, res32, 'i'},
	{"I32ToF64", hostfpu.CvtInt32To64, func(e *Env, a, b uint64) uint64 { return e.I32ToF64(int32(a)) }, res64, 'i'},
	{"I64ToF64", hostfpu.CvtInt64To64, func(e *Env, a, b uint64) uint64 { return e.I64ToF64(int64(a)) }, res64, 'i'},
	{"F32ToF64", hostfpu.Cvt32To64, func(e *Env, a, b uint64) uint64 { return e.F32ToF64(uint32(a)) }, res64, '3'},
	{"F64ToF32", hostfpu.Cvt64To32, func(e *Env, a, b uint64) uint64 { return uint64(e.F64ToF32(a)) }, res32, '6'},
}

// TestSSEAgainstHost runs every SSE operation on the host, all exceptions masked.
func TestSSEAgainstHost(t *testing.T) {
	for _, op := range sseOps {
		t.Run(op.name, func(t *testing.T) {
			s := newSource()
			failures := 0
			for range cases(t, 60000) {
				var c hostfpu.Case
				var a, b uint64
				switch op.arg {
				case '3':
					x, y := s.pair32()
					a, b = uint64(x), uint64(y)
				case '6':
					a, b = s.pair64()
				case 'i':
					a = s.fraction(64)
				}
				put64(&c.A, a)
				put64(&c.B, b)
				e := Env{Rounding: Rounding(s.IntN(4)), Masks: AllFlags}
				if s.IntN(2) == 0 {
					e.Rounding = NearestEven
				}
				if s.IntN(2) == 0 {
					e.FTZ, e.DAZ = s.IntN(2) == 0, s.IntN(2) == 0
				}
				in := e
				c.Control = uint32(boolean(e.FTZ)<<15|boolean(e.DAZ)<<6) | uint32(e.Rounding)<<13 | 0x1F80
				op.host(&c)
				got := op.emu(&e, a, b)
				want, flags := op.get(&c), Flags(c.Status&0x3F)
				if got != want || e.Flags != flags {
					t.Errorf("a=%#x b=%#x rc=%d ftz=%v daz=%v: got %#x %#x, host %#x %#x", a, b, in.Rounding, in.FTZ, in.DAZ, got, e.Flags, want, flags)
					if failures++; failures > 5 {
						return
					}
				}
				// The fast path must not depend on what is already raised, nor the slow one on speed.
				in.Flags = Inexact
				if again := op.emu(&in, a, b); again != got || in.Flags != e.Flags|Inexact {
					t.Fatalf("a=%#x b=%#x: with PE set: got %#x %#x, want %#x %#x", a, b, again, in.Flags, got, e.Flags)
				}
			}
		})
	}
}

// TestFastAgainstSlow compares the two ways an operation may go.
func TestFastAgainstSlow(t *testing.T) {
	s := newSource()
	for range cases(t, 200000) {
		a, b := s.pair64()
		c, d := s.pair32()
		for op, f := range map[operation][2]func(*Env) uint64{
			opAdd: {func(e *Env) uint64 { return e.Add64(a, b) }, func(e *Env) uint64 { return uint64(e.Add32(c, d)) }},
			opSub: {func(e *Env) uint64 { return e.Sub64(a, b) }, func(e *Env) uint64 { return uint64(e.Sub32(c, d)) }},
			opMul: {func(e *Env) uint64 { return e.Mul64(a, b) }, func(e *Env) uint64 { return uint64(e.Mul32(c, d)) }},
			opDiv: {func(e *Env) uint64 { return e.Div64(a, b) }, func(e *Env) uint64 { return uint64(e.Div32(c, d)) }},
		} {
			fast, slow := Env{Masks: AllFlags}, Env{Masks: AllFlags}
			if x, y := f[0](&fast), slow.slow64(op, a, b); x != y || fast.Flags != slow.Flags {
				t.Fatalf("op %d 64 a=%#x b=%#x: fast %#x %#x slow %#x %#x", op, a, b, x, fast.Flags, y, slow.Flags)
			}
			fast, slow = Env{Masks: AllFlags}, Env{Masks: AllFlags}
			if x, y := f[1](&fast), uint64(slow.slow32(op, c, d)); x != y || fast.Flags != slow.Flags {
				t.Fatalf("op %d 32 a=%#x b=%#x: fast %#x %#x slow %#x %#x", op, c, d, x, fast.Flags, y, slow.Flags)
			}
		}
		fast, slow := Env{Masks: AllFlags}, Env{Masks: AllFlags}
		if x, y := fast.Sqrt64(a), slow.slowSqrt64(a); x != y || fast.Flags != slow.Flags {
			t.Fatalf("sqrt64 a=%#x: fast %#x %#x slow %#x %#x", a, x, fast.Flags, y, slow.Flags)
		}
		fast, slow = Env{Masks: AllFlags}, Env{Masks: AllFlags}
		if x, y := fast.Sqrt32(c), slow.slowSqrt32(c); x != y || fast.Flags != slow.Flags {
			t.Fatalf("sqrt32 a=%#x: fast %#x %#x slow %#x %#x", c, x, fast.Flags, y, slow.Flags)
		}
	}
}

// TestSSEUnmasked holds what a Zen 5 left in MXCSR on SIGFPE, recorded by a C program.
func TestSSEUnmasked(t *testing.T) {
	const (
		minNormal = 1 << 52
		half      = 0x3FE << 52
		big       = 0x7E37E43C8800759C // 1e300
	)
	mul := func(a, b uint64) func(*Env) {
		return func(e *Env) { e.Mul64(a, b) }
	}
	for _, c := range []struct {
		name     string
		op       func(*Env)
		unmasked Flags
		ftz      bool
		want     Flags
	}{
		{"inexact overflow", mul(0x7FEFFFFFFFFFFFF3, 0x4013333333333333), Overflow, false, Overflow | Inexact},
		{"exact overflow", mul(0x7FE<<52, 0x401<<52), Overflow, false, Overflow},
		{"exact overflow, masked", mul(0x7FE<<52, 0x401<<52), 0, false, Overflow | Inexact},
		{"inexact underflow", mul(0x0013333333333333, 0x3FB3333333333333), Underflow, false, Underflow | Inexact},
		{"exact underflow", mul(minNormal, half), Underflow, false, Underflow},
		{"exact but for the denormal", mul(minNormal+1, half), Underflow, false, Underflow},
		{"exact but for the denormal, masked", mul(minNormal+1, half), 0, false, Underflow | Inexact},
		{"FTZ, exact", mul(minNormal, half), 0, true, Underflow | Inexact},
		{"FTZ, unmasked", mul(minNormal, half), Underflow, true, Underflow},
		{"denormal sum", func(e *Env) { e.Add64(1, 1) }, Underflow, false, Denormal | Underflow},
		{"denormal stops", func(e *Env) { e.Add64(1, 1) }, Denormal | Underflow, false, Denormal},
		{"denormal by zero", func(e *Env) { e.Div64(1, 0) }, 0, false, DivByZero},
		{"denormal by zero, unmasked", func(e *Env) { e.Div64(1, 0) }, DivByZero, false, DivByZero},
		{"narrowing overflow", func(e *Env) { e.F64ToF32(big) }, Overflow, false, Overflow | Inexact},
		{"narrowing underflow", func(e *Env) { e.F64ToF32(0x01A56E1FC2F8F359) }, Underflow, false, Underflow | Inexact},
		{"exact narrowing underflow", func(e *Env) { e.F64ToF32((1023 - 130) << 52) }, Underflow, false, Underflow},
		{"root of a denormal", func(e *Env) { e.Sqrt64(1) }, Denormal, false, Denormal},
		{"root below zero", func(e *Env) { e.Sqrt64(1<<63 | 1) }, 0, false, Invalid},
	} {
		e := Env{Masks: AllFlags &^ c.unmasked, FTZ: c.ftz}
		if c.op(&e); e.Flags != c.want {
			t.Errorf("%s: got %#x, want %#x", c.name, e.Flags, c.want)
		}
	}
}
