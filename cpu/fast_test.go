package cpu

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

// randomValue is biased towards the values at which something happens.
func randomValue(r *rand.Rand) uint64 {
	v := r.Uint64()
	switch r.IntN(6) {
	case 0:
		return v & 0xff
	case 1:
		return uint64(int64(int8(v)))
	case 2:
		return 1<<(v&63) - v>>8&1
	case 3:
		return 0
	case 4:
		return v & 0xffffffff
	}
	return v
}

// TestFastHandlers compares each fast handler with the general one of its operation, on random operands.
func TestFastHandlers(t *testing.T) {
	const rounds = 1_000_000
	r := rand.New(rand.NewPCG(1, 2))
	c, ram := newRig(t, 1<<16)
	for i := range ram {
		ram[i] = byte(r.Uint32())
	}
	image := bytes.Clone(ram)
	seen := map[fastKey]int{}
	for _, mode := range []isa.Mode{isa.Mode64, isa.Mode32} {
		c.setMode(mode)
		for range rounds / 2 {
			if !testing.Short() || r.IntN(10) == 0 {
				compareFast(t, c, ram, image, r, mode, seen)
			}
		}
	}
	for key := range fastHandlers {
		if seen[key] == 0 && !testing.Short() {
			t.Errorf("form %d of %v, size %d, condition %d was never generated", key.form, key.op, key.size, key.cc)
		}
	}
}

func compareFast(t *testing.T, c *CPU, ram, image []byte, r *rand.Rand, mode isa.Mode, seen map[fastKey]int) {
	var code [15]byte
	for i := range code {
		code[i] = byte(r.Uint32())
	}
	p := code[:0]
	if r.IntN(4) == 0 {
		p = append(p, [...]byte{0x66, 0x67, 0x64, 0x65}[r.IntN(4)])
	}
	if mode == isa.Mode64 && r.IntN(2) == 0 {
		p = append(p, 0x40|byte(r.IntN(16)))
	}
	if r.IntN(3) == 0 {
		_ = append(p, 0x0f)
	}
	in, err := isa.Decode(code[:], mode, c.feat)
	if err != nil {
		return
	}
	off := r.Uint64N(4096)
	u := uop{Inst: in, end: uint32(in.Len)}
	var key fastKey
	fast := fastHandlerKey(&u, off, mode == isa.Mode32, &key)
	general := c.table[in.Op]
	if fast == nil || general == nil {
		return
	}
	seen[key]++
	plain := uop{Inst: in, end: uint32(in.Len)}

	for i := range 16 {
		c.r[i] = randomValue(r)
	}
	c.r[isa.RegNone] = 0
	c.r[isa.RegRIP] = 0x7000 + off
	for _, i := range [2]uint8{isa.FS, isa.GS} {
		s := c.seg[i]
		s.Base = r.Uint64N(0x1000)
		c.setSegment(i, s)
	}
	if r.IntN(8) != 0 {
		c.r[isa.RSP] = 0x100 + r.Uint64N(0xff00-0x100)
		c.r[isa.RBP] = 0x100 + r.Uint64N(0xff00-0x100)
		if in.Base < 16 {
			c.r[in.Base] = 0x100 + r.Uint64N(0xe000)
			if in.Index < 16 && in.Index != in.Base {
				c.r[in.Index] = (r.Uint64N(0xe000) - c.r[in.Base] - uint64(in.Disp)) >> in.Scale
			} else {
				c.r[in.Base] -= uint64(in.Disp)
			}
		}
		if mode == isa.Mode32 {
			for i := range 16 {
				c.r[i] &= 0xffffffff
			}
		}
	}
	c.f.setWord(r.Uint64())
	c.rip = c.r[isa.RegRIP] + uint64(in.Len)
	c.stop, c.exc = stopNone, exception{}

	regs, flags, rip := c.r, c.f, c.rip
	type outcome struct {
		ok    bool
		regs  [32]uint64
		flags uint64
		rip   uint64
		stop  stopReason
		exc   exception
	}
	run := func(h handler, u *uop) (o outcome) {
		c.r, c.f, c.rip, c.stop, c.exc = regs, flags, rip, stopNone, exception{}
		o.ok = h(c, u)
		o.regs, o.flags, o.rip, o.stop, o.exc = c.r, c.f.word(), c.rip, c.stop, c.exc
		return o
	}
	want := run(general, &plain)
	var after [64]byte
	la := c.dirty(ram, image, &after)
	copy(ram, image)
	got := run(fast, &u)
	if want != got {
		t.Fatalf("%v form %d size %d: % x\nregs  %x\ngeneral %+v\nfast    %+v", key.op, key.form, key.size, code[:in.Len], regs, want, got)
	}
	var after2 [64]byte
	if la2 := c.dirty(ram, image, &after2); la != la2 || after != after2 {
		t.Fatalf("%v form %d size %d: % x: memory at %#x % x, by the fast handler at %#x % x",
			key.op, key.form, key.size, code[:in.Len], la, after, la2, after2)
	}
	copy(ram, image)
}

// dirty finds the first difference between memory and its image, and copies what follows it.
func (c *CPU) dirty(ram, image []byte, after *[64]byte) int {
	for page := 0; page < len(ram); page += 4096 {
		if bytes.Equal(ram[page:page+4096], image[page:page+4096]) {
			continue
		}
		for i := page; ; i++ {
			if ram[i] != image[i] {
				copy(after[:], ram[i:])
				return i
			}
		}
	}
	return -1
}
