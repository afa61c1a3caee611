package softfloat

import (
	"math"
	"testing"
)

func benchmark64(b *testing.B, f func(*Env, uint64, uint64) uint64, e Env) {
	x, y := math.Float64bits(1.1), math.Float64bits(3.7)
	var sink uint64
	for range b.N {
		e.Flags = 0
		sink += f(&e, x, y)
	}
	_ = sink
}

func BenchmarkAdd64(b *testing.B)   { benchmark64(b, (*Env).Add64, Env{Masks: AllFlags}) }
func BenchmarkMul64(b *testing.B)   { benchmark64(b, (*Env).Mul64, Env{Masks: AllFlags}) }
func BenchmarkDiv64(b *testing.B)   { benchmark64(b, (*Env).Div64, Env{Masks: AllFlags}) }
func BenchmarkSqrt64(b *testing.B)  { benchmark64(b, one64((*Env).Sqrt64), Env{Masks: AllFlags}) }
func BenchmarkAdd64Up(b *testing.B) { benchmark64(b, (*Env).Add64, Env{Masks: AllFlags, Rounding: Up}) }

func BenchmarkDiv64Up(b *testing.B) { benchmark64(b, (*Env).Div64, Env{Masks: AllFlags, Rounding: Up}) }

func BenchmarkSqrt64Up(b *testing.B) {
	benchmark64(b, one64((*Env).Sqrt64), Env{Masks: AllFlags, Rounding: Up})
}
func BenchmarkMin64(b *testing.B) { benchmark64(b, (*Env).Min64, Env{Masks: AllFlags}) }
func BenchmarkCompare64(b *testing.B) {
	benchmark64(b, func(e *Env, x, y uint64) uint64 { return uint64(e.Compare64(x, y, false)) }, Env{Masks: AllFlags})
}

func BenchmarkF64ToI32(b *testing.B) {
	benchmark64(b, func(e *Env, x, y uint64) uint64 { return uint64(e.F64ToI32(x, true)) }, Env{Masks: AllFlags})
}

func BenchmarkF64ToF32(b *testing.B) {
	benchmark64(b, func(e *Env, x, y uint64) uint64 { return uint64(e.F64ToF32(x)) }, Env{Masks: AllFlags})
}

func BenchmarkMul32(b *testing.B) {
	x, y := math.Float32bits(1.1), math.Float32bits(3.7)
	e := Env{Masks: AllFlags}
	var sink uint32
	for range b.N {
		e.Flags = 0
		sink += e.Mul32(x, y)
	}
	_ = sink
}

func benchmark80(b *testing.B, f func(*Env, F80, F80) outcome) {
	e := Env{Masks: AllFlags}
	x, y := e.F64ToF80(math.Float64bits(0.37)), e.F64ToF80(math.Float64bits(1.1))
	for range b.N {
		f(&e, x, y)
	}
}

func BenchmarkTranscendental(b *testing.B) {
	for _, op := range transOps {
		b.Run(op.name, func(b *testing.B) { benchmark80(b, op.emu) })
	}
}

func BenchmarkX87(b *testing.B) {
	for _, op := range x87Ops[:10] {
		b.Run(op.name, func(b *testing.B) { benchmark80(b, op.emu) })
	}
}
