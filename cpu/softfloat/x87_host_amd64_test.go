package softfloat

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/softfloat/internal/hostfpu"
)

const c1 = 0x200 // x87 status word

// outcome is what an x87 operation leaves: st0, st1, and bits of the status word.
type outcome struct {
	r, r2 F80
	sw    uint32
}

type x87Op struct {
	name string
	host func(*hostfpu.Case)
	emu  func(e *Env, a, b F80) outcome
	mask uint32 // the bits of the status word to compare
	r2   bool
	mem  int // bytes stored, when the result is in memory
	in   byte
}

const swFlags = 0x3F

func x87One(f func(*Env, F80) F80) func(*Env, F80, F80) outcome {
	return func(e *Env, a, b F80) outcome { return outcome{r: f(e, a)} }
}

func x87Two(f func(*Env, F80, F80) F80) func(*Env, F80, F80) outcome {
	return func(e *Env, a, b F80) outcome { return outcome{r: f(e, a, b)} }
}

func x87Rem(f func(*Env, F80, F80) (F80, uint8, bool)) func(*Env, F80, F80) outcome {
	return func(e *Env, a, b F80) outcome {
		r, q, done := f(e, a, b)
		o := outcome{r: r}
		if !done {
			o.sw = 0x400
		} else {
			o.sw = uint32(q>>2&1)<<8 | uint32(q>>1&1)<<14 | uint32(q&1)<<9
		}
		e.RoundedUp = false
		return o
	}
}

func x87Compare(quiet bool) func(*Env, F80, F80) outcome {
	return func(e *Env, a, b F80) outcome {
		return outcome{r: a, sw: [...]uint32{Less: 0x100, Equal: 0x4000, Greater: 0, Unordered: 0x4500}[e.Compare80(a, b, !quiet)]}
	}
}

func x87Store(f func(*Env, F80) uint64) func(*Env, F80, F80) outcome {
	return func(e *Env, a, b F80) outcome { return outcome{r: F80{Mant: f(e, a)}} }
}

var x87Ops = []x87Op{
	{name: "Fadd", host: hostfpu.Fadd, emu: x87Two((*Env).Add80), mask: swFlags | c1},
	{name: "Fsub", host: hostfpu.Fsub, emu: x87Two((*Env).Sub80), mask: swFlags | c1},
	{name: "Fmul", host: hostfpu.Fmul, emu: x87Two((*Env).Mul80), mask: swFlags | c1},
	{name: "Fdiv", host: hostfpu.Fdiv, emu: x87Two((*Env).Div80), mask: swFlags | c1},
	{name: "Fsqrt", host: hostfpu.Fsqrt, emu: x87One((*Env).Sqrt80), mask: swFlags | c1},
	{name: "Fprem", host: hostfpu.Fprem, emu: x87Rem((*Env).Rem80), mask: swFlags | 0x4700},
	{name: "Fprem1", host: hostfpu.Fprem1, emu: x87Rem((*Env).Rem1_80), mask: swFlags | 0x4700},
	{name: "Frndint", host: hostfpu.Frndint, emu: x87One((*Env).RoundInt80), mask: swFlags | c1},
	{name: "Fscale", host: hostfpu.Fscale, emu: x87Two((*Env).Scale80), mask: swFlags | c1},
	{name: "Fxtract", host: hostfpu.Fxtract, emu: func(e *Env, a, b F80) outcome {
		s, x := e.Extract80(a)
		return outcome{r: s, r2: x}
	}, mask: swFlags | c1, r2: true},
	{name: "Fcom", host: hostfpu.Fcom, emu: x87Compare(false), mask: swFlags | 0x4700},
	{name: "Fucom", host: hostfpu.Fucom, emu: x87Compare(true), mask: swFlags | 0x4700},
	{name: "Fstp32", host: hostfpu.Fstp32, emu: x87Store(func(e *Env, a F80) uint64 { return uint64(e.F80ToF32(a)) }), mask: swFlags | c1, mem: 4},
	{name: "Fstp64", host: hostfpu.Fstp64, emu: x87Store((*Env).F80ToF64), mask: swFlags | c1, mem: 8},
	{name: "Fistp16", host: hostfpu.Fistp16, emu: x87Store(func(e *Env, a F80) uint64 { return uint64(uint16(e.F80ToI16(a, false))) }), mask: swFlags | c1, mem: 2},
	{name: "Fistp32", host: hostfpu.Fistp32, emu: x87Store(func(e *Env, a F80) uint64 { return uint64(uint32(e.F80ToI32(a, false))) }), mask: swFlags | c1, mem: 4},
	{name: "Fistp64", host: hostfpu.Fistp64, emu: x87Store(func(e *Env, a F80) uint64 { return uint64(e.F80ToI64(a, false)) }), mask: swFlags | c1, mem: 8},
	{name: "Fisttp16", host: hostfpu.Fisttp16, emu: x87Store(func(e *Env, a F80) uint64 { return uint64(uint16(e.F80ToI16(a, true))) }), mask: swFlags | c1, mem: 2},
	{name: "Fisttp32", host: hostfpu.Fisttp32, emu: x87Store(func(e *Env, a F80) uint64 { return uint64(uint32(e.F80ToI32(a, true))) }), mask: swFlags | c1, mem: 4},
	{name: "Fisttp64", host: hostfpu.Fisttp64, emu: x87Store(func(e *Env, a F80) uint64 { return uint64(e.F80ToI64(a, true)) }), mask: swFlags | c1, mem: 8},
	{name: "Fbstp", host: hostfpu.Fbstp, emu: func(e *Env, a, b F80) outcome {
		var m [16]byte
		d := e.F80ToBCD(a)
		copy(m[:], d[:])
		return outcome{r: get80(&m)}
	}, mask: swFlags | c1, mem: 10},
	{name: "Fld32", host: hostfpu.Fld32, emu: func(e *Env, a, b F80) outcome { return outcome{r: e.F32ToF80(uint32(a.Mant))} }, mask: swFlags | c1, in: '3'},
	{name: "Fld64", host: hostfpu.Fld64, emu: func(e *Env, a, b F80) outcome { return outcome{r: e.F64ToF80(a.Mant)} }, mask: swFlags | c1, in: '6'},
	{name: "Fild64", host: hostfpu.Fild64, emu: func(e *Env, a, b F80) outcome { return outcome{r: e.I64ToF80(int64(a.Mant))} }, mask: swFlags | c1, in: 'i'},
	{name: "Fbld", host: hostfpu.Fbld, emu: func(e *Env, a, b F80) outcome {
		var m [16]byte
		put80(&m, a)
		return outcome{r: e.BCDToF80([10]byte(m[:10]))}
	}, mask: swFlags | c1, in: 'd'},
}

// TestX87AgainstHost runs every exact x87 operation on the host. Half of the
// cases leave exceptions unmasked: what the instruction did is then visible
// before they are delivered.
func TestX87AgainstHost(t *testing.T) {
	for _, op := range x87Ops {
		t.Run(op.name, func(t *testing.T) {
			s := newSource()
			failures := 0
			for range cases(t, 60000) {
				var c hostfpu.Case
				a, b := s.pair80()
				switch op.in {
				case '3':
					x, _ := s.pair32()
					a = F80{Mant: uint64(x)}
				case '6':
					x, _ := s.pair64()
					a = F80{Mant: x}
				case 'i':
					a = F80{Mant: s.fraction(64)}
				case 'd':
					a = F80{SE: uint16(s.IntN(2)) << 15}
					for i := range 16 {
						a.Mant |= s.Uint64N(10) << (4 * i)
					}
					a.SE |= uint16(s.Uint64N(10)<<4 | s.Uint64N(10))
					if s.IntN(8) == 0 {
						a.Mant, a.SE = 0, a.SE&0x8000
					}
				}
				put80(&c.A, a)
				put80(&c.B, b)
				pc := s.IntN(3)
				e := Env{Rounding: Rounding(s.IntN(4)), Masks: AllFlags, Precision: [...]uint8{24, 53, 64}[pc]}
				if s.IntN(2) == 0 {
					e.Masks = Flags(s.IntN(64))
				}
				in := e
				c.Control = uint32(e.Masks) | uint32([...]int{0, 2, 3}[pc])<<8 | uint32(e.Rounding)<<10
				op.host(&c)
				got := op.emu(&e, a, b)
				got.sw |= uint32(e.Flags)
				if e.RoundedUp {
					got.sw |= c1
				}
				got.sw &= op.mask
				want := outcome{r: get80(&c.R), sw: c.Status & op.mask}
				if op.r2 {
					want.r2 = get80(&c.R2)
				}
				unmasked := Flags(c.Status) &^ e.Masks & AllFlags
				stored := true
				if op.mem != 0 {
					stored = unmasked&^Inexact == 0
				} else if op.in != 0 {
					stored = unmasked&^Denormal == 0
				} else {
					stored = unmasked&preFlags == 0
				}
				if !stored {
					got.r, got.r2, want.r, want.r2 = F80{}, F80{}, F80{}, F80{}
				}
				if got != want {
					t.Errorf("a=%04x:%016x b=%04x:%016x rc=%d pc=%d masks=%02x:\n got %04x:%016x %04x:%016x %04x\nhost %04x:%016x %04x:%016x %04x", a.SE, a.Mant, b.SE, b.Mant, in.Rounding, in.Precision, in.Masks,
						got.r.SE, got.r.Mant, got.r2.SE, got.r2.Mant, got.sw, want.r.SE, want.r.Mant, want.r2.SE, want.r2.Mant, want.sw)
					if failures++; failures > 5 {
						return
					}
				}
			}
		})
	}
}
