package softfloat

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/softfloat/internal/hostfpu"
)

type transOp struct {
	name string
	host func(*hostfpu.Case)
	emu  func(e *Env, a, b F80) outcome
	a, b func(s source) F80 // ordinary operands
	two  bool
	r2   bool
}

func trigOutcome(f func(*Env, F80) (F80, bool), pushes F80) func(*Env, F80, F80) outcome {
	return func(e *Env, a, b F80) outcome {
		r, ok := f(e, a)
		if !ok {
			return outcome{r: a, r2: b, sw: 0x400}
		}
		if pushes != (F80{}) {
			if unpack80(r).isNaN() {
				return outcome{r: r, r2: r}
			}
			return outcome{r: pushes, r2: r}
		}
		return outcome{r: r, r2: b}
	}
}

var oneF80 = F80{intBit, 16383}

var transOps = []transOp{
	{name: "F2xm1", host: hostfpu.F2xm1, emu: x87One((*Env).F2XM1), a: between(-70, -1, true), b: between(0, 0, true)},
	{name: "Fyl2x", host: hostfpu.Fyl2x, emu: x87Two((*Env).FYL2X), a: between(-3, 3, false), b: between(-20, 20, true), two: true},
	{name: "Fyl2xp1", host: hostfpu.Fyl2xp1, emu: x87Two((*Env).FYL2XP1), a: between(-70, -3, true), b: between(-20, 20, true), two: true},
	{name: "Fpatan", host: hostfpu.Fpatan, emu: x87Two((*Env).FPATAN), a: between(-8, 8, true), b: between(-8, 8, true), two: true},
	{name: "Fsin", host: hostfpu.Fsin, emu: trigOutcome((*Env).FSIN, F80{}), a: between(-40, 62, true), b: between(0, 0, true)},
	{name: "Fcos", host: hostfpu.Fcos, emu: trigOutcome((*Env).FCOS, F80{}), a: between(-40, 62, true), b: between(0, 0, true)},
	{name: "Fsincos", host: hostfpu.Fsincos, emu: func(e *Env, a, b F80) outcome {
		s, c, ok := e.FSINCOS(a)
		if !ok {
			return outcome{r: a, r2: b, sw: 0x400}
		}
		return outcome{r: c, r2: s}
	}, a: between(-40, 62, true), b: between(0, 0, true), r2: true},
	{name: "Fptan", host: hostfpu.Fptan, emu: trigOutcome((*Env).FPTAN, oneF80), a: between(-40, 62, true), b: between(0, 0, true), r2: true},
}

func (op *transOp) run(e *Env, a, b F80) (got, want outcome) {
	var c hostfpu.Case
	put80(&c.A, a)
	put80(&c.B, b)
	c.Control = uint32(e.Masks) | 3<<8 | uint32(e.Rounding)<<10
	op.host(&c)
	got = op.emu(e, a, b)
	got.sw |= uint32(e.Flags)
	want = outcome{r: get80(&c.R), sw: c.Status & 0x43F}
	if op.r2 {
		want.r2 = get80(&c.R2)
	} else {
		got.r2 = F80{}
	}
	return got, want
}

// ulps is the distance between two values of like sign, in steps of the format.
func ulps(a, b F80) uint64 {
	if a.SE>>15 != b.SE>>15 {
		return ^uint64(0)
	}
	if a.SE < b.SE {
		a, b = b, a
	}
	switch a.SE - b.SE {
	case 0:
		return max(a.Mant, b.Mant) - min(a.Mant, b.Mant)
	case 1:
		return a.Mant&^intBit + -b.Mant
	}
	return ^uint64(0)
}

// TestTranscendentalsAgainstHost measures how far the host's results are from ours, which are correctly rounded.
func TestTranscendentalsAgainstHost(t *testing.T) {
	for _, op := range transOps {
		t.Run(op.name, func(t *testing.T) {
			s := newSource()
			var differ, total, far, flags, worst uint64
			shown := 0
			for range cases(t, 20000) {
				a, b := op.a(s), op.b(s)
				e := Env{Masks: AllFlags}
				got, want := op.run(&e, a, b)
				total++
				d := max(ulps(got.r, want.r), ulps(got.r2, want.r2))
				if d != 0 {
					differ++
				}
				if d > 1 {
					far++
				}
				if got.sw != want.sw {
					flags++
				}
				worst = max(worst, d)
				if (d > 1 || got.sw != want.sw) && shown < 6 {
					shown++
					t.Logf("a=%04x:%016x b=%04x:%016x\n got %04x:%016x %04x:%016x %04x\nhost %04x:%016x %04x:%016x %04x", a.SE, a.Mant, b.SE, b.Mant,
						got.r.SE, got.r.Mant, got.r2.SE, got.r2.Mant, got.sw, want.r.SE, want.r.Mant, want.r2.SE, want.r2.Mant, want.sw)
				}
			}
			if far != 0 || flags != 0 || differ > total/20 {
				t.Errorf("too far from the host")
			}
			t.Logf("%d cases: %d differ, %d by more than one ulp, worst %d; flags differ in %d", total, differ, far, worst, flags)
		})
	}
}

// TestTranscendentalSpecials compares zeros, infinities, NaNs, denormals and exact values with the host.
func TestTranscendentalSpecials(t *testing.T) {
	var specials []F80
	for _, sign := range []uint16{0, 0x8000} {
		for _, v := range []F80{
			{0, 0},
			{1, 0},
			{1 << 62, 0},
			{intBit, 0},
			{intBit, 1},
			{intBit, 16383},
			{intBit, 16382},
			{intBit, 16384},
			{intBit, 16381},
			{intBit, 16383 + 62},
			{intBit, 16383 + 63},
			{intBit, 16383 + 64},
			{intBit | 1, 16383},
			{^uint64(0), 16382},
			{intBit | 12345, 16384},
			{0xD555555555555555, 16381},
			{^uint64(0), 0x7FFE},
			{intBit, 0x7FFF},
			{intBit | 1, 0x7FFF},
			{nanMant, 0x7FFF},
			{nanMant | 5, 0x7FFF},
			{1, 0x7FFF},
			{0, 0x7FFF},
			{1, 5},
		} {
			specials = append(specials, F80{v.Mant, v.SE | sign})
		}
	}
	for _, op := range transOps {
		t.Run(op.name, func(t *testing.T) {
			bad := 0
			random := newSource()
			for _, a := range specials {
				for _, b := range specials {
					if !op.two {
						b = oneF80
					}
					e := Env{Masks: AllFlags}
					if random.IntN(2) == 0 {
						e.Masks = Flags(random.IntN(64))
					}
					masks := e.Masks
					got, want := op.run(&e, a, b)
					if Flags(want.sw)&^masks&preFlags != 0 { // nothing is stored
						got.r, got.r2, want.r, want.r2 = F80{}, F80{}, F80{}, F80{}
					}
					if d := max(ulps(got.r, want.r), ulps(got.r2, want.r2)); d > 1 || got.sw != want.sw {
						bad++
						if bad < 40 {
							t.Errorf("a=%04x:%016x b=%04x:%016x masks=%02x: got %04x:%016x %04x:%016x %04x host %04x:%016x %04x:%016x %04x", a.SE, a.Mant, b.SE, b.Mant, masks,
								got.r.SE, got.r.Mant, got.r2.SE, got.r2.Mant, got.sw, want.r.SE, want.r.Mant, want.r2.SE, want.r2.Mant, want.sw)
						}
					}
					if !op.two {
						break
					}
				}
			}
		})
	}
}

// TestConstants compares FLDPI and its kin in every rounding mode.
func TestConstants(t *testing.T) {
	for _, op := range []struct {
		name string
		host func(*hostfpu.Case)
		emu  func(*Env) F80
	}{
		{"FLDPI", hostfpu.Fldpi, (*Env).Pi80},
		{"FLDL2T", hostfpu.Fldl2t, (*Env).Log2Of10},
		{"FLDL2E", hostfpu.Fldl2e, (*Env).Log2OfE},
		{"FLDLG2", hostfpu.Fldlg2, (*Env).Log10Of2},
		{"FLDLN2", hostfpu.Fldln2, (*Env).LnOf2},
	} {
		for mode := range Rounding(4) {
			c := hostfpu.Case{Control: 0x37F | uint32(mode)<<10}
			op.host(&c)
			e := Env{Rounding: mode, Masks: AllFlags}
			if got, want := op.emu(&e), get80(&c.R); got != want || Flags(c.Status&0x3F) != e.Flags {
				t.Errorf("%s rc=%d: got %v, host %v", op.name, mode, got, want)
			}
		}
	}
}

// TestClass80 compares FXAM.
func TestClass80(t *testing.T) {
	s := newSource()
	for range cases(t, 20000) {
		a, _ := s.pair80()
		c := hostfpu.Case{Control: 0x37F}
		put80(&c.A, a)
		hostfpu.Fxam(&c)
		want := Class(c.Status>>8&1 | c.Status>>9&2 | c.Status>>12&4)
		if got := Class80(a); got != want {
			t.Fatalf("%04x:%016x: got %d, host %d", a.SE, a.Mant, got, want)
		}
	}
}
