package taint

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// TestRulesNeverUnderTaint changes bytes that a rule says do not matter and looks for a change in a byte that it calls
// clean. The operations are computed natively on 64-bit values.
func TestRulesNeverUnderTaint(t *testing.T) {
	value := rapid.Uint64()
	mask := rapid.Map(rapid.Uint8(), func(m uint8) Mask { return Mask(m) })
	spread := func(m Mask) uint64 {
		var v uint64
		for i := range 8 {
			if m>>i&1 != 0 {
				v |= 0xff << (8 * i)
			}
		}
		return v
	}
	for _, op := range []struct {
		name string
		f    func(a, b uint64, n int) uint64
		rule func(ma, mb Mask, a, b uint64, n int) Mask
	}{
		{"and", func(a, b uint64, _ int) uint64 { return a & b }, func(ma, mb Mask, a, b uint64, _ int) Mask { return And(ma, mb, a, b) }},
		{"or", func(a, b uint64, _ int) uint64 { return a | b }, func(ma, mb Mask, a, b uint64, _ int) Mask { return Or(ma, mb, a, b) }},
		{"xor", func(a, b uint64, _ int) uint64 { return a ^ b }, func(ma, mb Mask, _, _ uint64, _ int) Mask { return ma | mb }},
		{"add", func(a, b uint64, _ int) uint64 { return a + b }, func(ma, mb Mask, _, _ uint64, _ int) Mask { return Carry(ma|mb, 8) }},
		{"sub", func(a, b uint64, _ int) uint64 { return a - b }, func(ma, mb Mask, _, _ uint64, _ int) Mask { return Carry(ma|mb, 8) }},
		{"mul", func(a, b uint64, _ int) uint64 { h, _ := bits.Mul64(a, b); return h }, func(ma, mb Mask, _, _ uint64, _ int) Mask { return (ma | mb).Spread(8) }},
		{"shl", func(a, _ uint64, n int) uint64 { return a << n }, func(ma, _ Mask, _, _ uint64, n int) Mask { return ShiftLeft(ma, n, 8) }},
		{"shr", func(a, _ uint64, n int) uint64 { return a >> n }, func(ma, _ Mask, _, _ uint64, n int) Mask { return ShiftRight(ma, n, 8, false) }},
		{"sar", func(a, _ uint64, n int) uint64 { return uint64(int64(a) >> n) }, func(ma, _ Mask, _, _ uint64, n int) Mask { return ShiftRight(ma, n, 8, true) }},
		{"rol", func(a, _ uint64, n int) uint64 { return bits.RotateLeft64(a, n) }, func(ma, _ Mask, _, _ uint64, n int) Mask { return RotateLeft(ma, n, 8) }},
		{"movsx32", func(a, _ uint64, _ int) uint64 { return uint64(int32(a)) }, func(ma, _ Mask, _, _ uint64, _ int) Mask { return SignExtend(ma, 4, 8) }},
		{"padd16", func(a, b uint64, _ int) uint64 {
			var r uint64
			for i := 0; i < 64; i += 16 {
				r |= uint64(uint16(a>>i)+uint16(b>>i)) << i
			}
			return r
		}, func(ma, mb Mask, _, _ uint64, _ int) Mask { return Lanes(ma|mb, 2, 8) }},
	} {
		t.Run(op.name, rapid.MakeCheck(func(t *rapid.T) {
			a, b, n := value.Draw(t, "a"), value.Draw(t, "b"), rapid.IntRange(0, 63).Draw(t, "n")
			ma, mb := mask.Draw(t, "ma"), mask.Draw(t, "mb")
			a2 := a ^ value.Draw(t, "da")&spread(ma)
			b2 := b ^ value.Draw(t, "db")&spread(mb)
			clean := ^spread(op.rule(ma, mb, a, b, n))
			if d := (op.f(a, b, n) ^ op.f(a2, b2, n)) & clean; d != 0 {
				t.Fatalf("bytes %#x changed though they are called clean", d)
			}
		}))
	}
}

func TestShiftBeyondTheOperand(t *testing.T) {
	if m := ShiftRight(0x8, 32, 4, true); m != 0xf {
		t.Errorf("sar by the width: %#x, want every byte from the sign", m)
	}
	if m := ShiftLeft(0xf, 32, 4); m != 0 {
		t.Errorf("shl by the width: %#x, want clean", m)
	}
}

func TestPointerPart(t *testing.T) {
	space := Upper(48)
	const direct, image = 0xffff888000001000, 0xffffffff81000000
	for _, c := range []struct {
		name  string
		parts []Part
		want  Mask
	}{
		{"tainted base, clean offset", []Part{{direct, 0xff}, {0x20, 0}}, 0xff},
		{"clean table, tainted index", []Part{{image, 0}, {0x18, 0xff}}, 0},
		{"tainted base, tainted offset", []Part{{direct, 0xff}, {8, 1}}, 0xff},
		{"clean displacement as the address", []Part{{0, 0}, {5 * 8, 0xff}, {image, 0}}, 0},
		{"low byte of the pointer smears up", []Part{{direct, 0x01}}, 0xff},
		{"no address: any taint counts", []Part{{0x1000, 0}, {0x2000, 0x02}}, 0xfe},
		{"two addresses: any taint counts", []Part{{direct, 0}, {image, 0xff}}, 0xff},
		{"small negative offset is no address", []Part{{direct, 0}, {^uint64(0) - 7, 0xff}}, 0},
		{"nothing tainted", []Part{{direct, 0}, {8, 0}}, 0},
	} {
		if got := space.PointerPart(c.parts...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

// TestPointerPart32: what looks like an address of the kernel and is an offset or an origin does not decide.
func TestPointerPart32(t *testing.T) {
	space := Above(0xc0000000)
	const variable, memMap, object = 0xc1e72000, 0xdce54000, 0xc2000000
	space.Origins, space.OffsetsLo, space.OffsetsHi = []uint64{0xc0000000, memMap}, variable, variable+0x1000
	for _, c := range []struct {
		name  string
		parts []Part
		want  Mask
	}{
		{"per-CPU variable, tainted base", []Part{{variable + 8, 0}, {0x0efc1000, 0x0f}}, 0x0f},
		{"address behind the variables, tainted index", []Part{{variable + 0x1000, 0}, {0x18, 0x0f}}, 0},
		{"per-CPU variable, tainted pointer", []Part{{variable, 0}, {object, 0x0f}}, 0x0f},
		{"page of a tainted number", []Part{{memMap, 0}, {40 * 0x1234, 0x0f}}, 0x0f},
		{"tainted page less the array", []Part{{memMap + 40*0x1234, 0x0f}, {memMap, 0}}, 0x0f},
		{"direct map, tainted number", []Part{{0xc0000000, 0}, {0x1234000, 0x0f}}, 0x0f},
		{"clean table, tainted index", []Part{{object, 0}, {0x18, 0x0f}}, 0},
	} {
		if got := space.PointerPart(c.parts...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

// TestShadowAgainstModel runs random marks against a plain map.
func TestShadowAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		notified := map[uint64]bool{}
		s := NewShadow(func(pfn uint64, tainted bool) {
			if notified[pfn] == tainted {
				t.Fatalf("page %d reported twice as tainted=%v", pfn, tainted)
			}
			notified[pfn] = tainted
		})
		model := map[uint64]bool{}
		addr := rapid.Uint64Range(0, 3*PageSize)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			pa := addr.Draw(t, "pa")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 3:
				n := rapid.Uint64Range(0, 128).Draw(t, "n")
				src := addr.Draw(t, "src")
				if rapid.Bool().Draw(t, "aligned") {
					pa, src, n = pa&^7, src&^7, n&^7
				}
				n = min(n, PageSize-pa%PageSize, PageSize-src%PageSize)
				s.Copy(pa, src, n)
				old := map[uint64]bool{}
				for i := range n {
					old[i] = model[src+i]
				}
				for i := range n {
					model[pa+i] = old[i]
				}
			case 0:
				n := rapid.IntRange(1, 64).Draw(t, "size")
				m := Mask(rapid.Uint64().Draw(t, "mask"))
				s.Set(pa, n, m)
				for i := range n {
					model[pa+uint64(i)] = m>>i&1 != 0
				}
			case 1, 2:
				n := rapid.Uint64Range(0, 2*PageSize).Draw(t, "n")
				mark := rapid.Bool().Draw(t, "mark")
				if mark {
					s.Mark(pa, n)
				} else {
					s.Clear(pa, n)
				}
				for i := range n {
					model[pa+i] = mark
				}
			}
		}
		var total uint64
		for _, v := range model {
			if v {
				total++
			}
		}
		if s.Bytes() != total {
			t.Fatalf("%d bytes tainted, want %d", s.Bytes(), total)
		}
		for pa := uint64(0); pa < 5*PageSize; pa += 61 {
			got := s.Get(pa, 61)
			for i := range 61 {
				if got>>i&1 != 0 != model[pa+uint64(i)] {
					t.Fatalf("byte %d: %v", pa+uint64(i), !model[pa+uint64(i)])
				}
			}
		}
		first, found := s.Any(0, 5*PageSize)
		for pa := uint64(0); pa < 5*PageSize; pa++ {
			if model[pa] {
				if !found || first != pa {
					t.Fatalf("Any = %d, %v; want %d", first, found, pa)
				}
				return
			}
		}
		if found {
			t.Fatalf("Any found %d in clean memory", first)
		}
	})
}

func TestUntaintedMemoryCostsNothing(t *testing.T) {
	s := NewShadow(nil)
	s.Mark(0, 1<<20)
	s.Clear(0, 1<<20)
	if s.pages != 0 || s.Bytes() != 0 {
		t.Errorf("%d pages kept for %d bytes", s.pages, s.Bytes())
	}
	if n := testing.AllocsPerRun(100, func() { s.Clear(0, 1<<30); s.Get(123, 8) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
