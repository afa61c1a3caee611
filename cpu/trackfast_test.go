package cpu

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/taint"
)

// TestFastTracking compares each handler of trackfast.go with the general rule, on random operands and taint.
func TestFastTracking(t *testing.T) {
	rounds := 120_000
	if testing.Short() {
		rounds = 40_000
	}
	for _, pointers := range []bool{false, true} {
		r := rand.New(rand.NewPCG(3, 4))
		c, ram := newRig(t, 1<<16)
		for i := range ram {
			ram[i] = byte(r.Uint32())
			if r.IntN(3) == 0 {
				ram[i] = byte(r.IntN(2)) * 0xff
			}
		}
		c.EnableTaint(&TaintOptions{PointerPart: pointers})
		c.tracking = true
		compared := map[isa.Op]int{}
		for _, mode := range []isa.Mode{isa.Mode64, isa.Mode32} {
			c.setMode(mode)
			for range rounds / 4 {
				compareTracking(t, c, ram, r, mode, compared)
			}
		}
		for _, op := range []isa.Op{
			isa.MOV, isa.MOVZX, isa.MOVSX, isa.LEA, isa.ADD, isa.SUB, isa.AND, isa.OR, isa.XOR, isa.CMP, isa.TEST, isa.PUSH, isa.POP,
			isa.CALL, isa.INC, isa.DEC, isa.NEG, isa.NOT, isa.SHL, isa.SHR, isa.SAR, isa.ROL, isa.ROR, isa.IMUL2, isa.CMOVCC, isa.SETCC,
			isa.LEAVE, isa.MOVDQA, isa.MOVUPS, isa.MULPS, isa.ADDPD,
		} {
			if compared[op] == 0 && !testing.Short() {
				t.Errorf("%v was never compared", op)
			}
		}
	}
}

func compareTracking(t *testing.T, c *CPU, ram []byte, r *rand.Rand, mode isa.Mode, compared map[isa.Op]int) {
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
	if r.IntN(2) == 0 {
		_ = append(p, 0x0f)
	}
	in, err := isa.Decode(code[:], mode, c.feat)
	if err != nil || c.table[in.Op] == nil || in.Row.Attr&isa.System != 0 || in.Op == isa.HLT {
		return
	}
	u := uop{Inst: in, end: uint32(in.Len)}
	u.exec = c.handlerFor(&u, 0x10)
	h := c.trackedHandler(&u)
	if reflect.ValueOf(h).Pointer() == reflect.ValueOf(trackGeneral).Pointer() {
		return
	}

	for i := range 16 {
		c.r[i] = randomValue(r)
		if r.IntN(4) == 0 {
			c.r[i] |= 0xffff888000000000
		}
	}
	c.r[isa.RegNone], c.r[isa.RegRIP] = 0, 0x7010
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
	c.f.setWord(r.Uint64())
	c.rip = c.r[isa.RegRIP] + uint64(in.Len)

	track := c.track
	randomMask := func(size int) taint.Mask {
		switch r.IntN(3) {
		case 0:
			return taint.Clean
		case 1:
			return taint.All(size)
		}
		return taint.Mask(r.Uint64()).Cut(size)
	}
	for i := range 16 {
		track.regs.GPR[i], track.regs.XMM[i] = randomMask(8), randomMask(16)
	}
	track.regs.Flags = randomMask(1)
	for range 8 {
		track.shadow.Set(r.Uint64N(0x10000-64), 64, randomMask(64))
	}
	if r.IntN(16) == 0 {
		track.shadow.Clear(0, 0x10000)
	}

	type outcome struct {
		ok    bool
		gpr   [32]uint64
		taint taint.Registers
		stop  stopReason
		exc   exception
	}
	regs, flags, rip, fpu, masks := c.r, c.f, c.rip, c.fpu, track.regs
	image := string(ram)
	before := shadowOf(track.shadow)
	run := func(h handler) (o outcome, shadow []taint.Mask) {
		c.r, c.f, c.rip, c.fpu, c.stop, c.exc, track.regs = regs, flags, rip, fpu, stopNone, exception{}, masks
		copy(ram, image)
		restoreShadow(track.shadow, before)
		o.ok = h(c, &u)
		o.gpr, o.taint, o.stop, o.exc = c.r, track.regs, c.stop, c.exc
		return o, shadowOf(track.shadow)
	}
	want, wantShadow := run(trackGeneral)
	got, gotShadow := run(h)
	copy(ram, image)
	compared[in.Op]++
	if want != got {
		t.Fatalf("%v (%s) % x\nbefore  %x\ntaint   %x\ngeneral %+v\nfast    %+v", in.Op, in.Row.Enc, code[:in.Len], regs, masks, want, got)
	}
	for i := range wantShadow {
		if wantShadow[i] != gotShadow[i] {
			t.Fatalf("%v (%s) % x: taint at %#x: %#x, by the fast handler %#x", in.Op, in.Row.Enc, code[:in.Len], 64*i, wantShadow[i], gotShadow[i])
		}
	}
}

func shadowOf(s *taint.Shadow) []taint.Mask {
	m := make([]taint.Mask, 0x10000/64)
	for i := range m {
		m[i] = s.Get(uint64(i)*64, 64)
	}
	return m
}

func restoreShadow(s *taint.Shadow, m []taint.Mask) {
	for i := range m {
		s.Set(uint64(i)*64, 64, m[i])
	}
}
