package cpu

import "math/bits"

// RFLAGS bits (SDM vol. 1, 3.4.3).
const (
	FlagCF   uint64 = 1 << 0
	FlagPF   uint64 = 1 << 2
	FlagAF   uint64 = 1 << 4
	FlagZF   uint64 = 1 << 6
	FlagSF   uint64 = 1 << 7
	FlagTF   uint64 = 1 << 8
	FlagIF   uint64 = 1 << 9
	FlagDF   uint64 = 1 << 10
	FlagOF   uint64 = 1 << 11
	FlagIOPL uint64 = 3 << 12
	FlagNT   uint64 = 1 << 14
	FlagRF   uint64 = 1 << 16
	FlagVM   uint64 = 1 << 17
	FlagAC   uint64 = 1 << 18
	FlagVIF  uint64 = 1 << 19
	FlagVIP  uint64 = 1 << 20
	FlagID   uint64 = 1 << 21

	flagsArith = FlagCF | FlagPF | FlagAF | FlagZF | FlagSF | FlagOF
)

// The six arithmetic flags are kept as the result that set them, sign-extended to 64 bits, and a word of carries, and
// are computed when something reads them. In carries, bit 63 is CF, bit 62 is CF xor OF (the carry into the sign bit),
// bit 3 is AF; bit 0 inverts SF and bits 8-15 are xored into the result's low byte for PF, which lets any combination of
// flags be represented.
type lazyFlags struct {
	result  int64
	carries uint64
}

func (f *lazyFlags) zf() bool { return f.result == 0 }
func (f *lazyFlags) cf() bool { return int64(f.carries) < 0 }
func (f *lazyFlags) of() bool { return int64(f.carries^f.carries<<1) < 0 }
func (f *lazyFlags) sf() bool { return f.result^int64(f.carries<<63) < 0 }
func (f *lazyFlags) af() bool { return f.carries&8 != 0 }
func (f *lazyFlags) pf() bool {
	return bits.OnesCount8(uint8(f.result)^uint8(f.carries>>8))&1 == 0
}

// be, lt and le are the conditions of the same name: unsigned <=, signed <, signed <=.
func (f *lazyFlags) be() bool { return f.result == 0 || int64(f.carries) < 0 }

func (f *lazyFlags) lt() bool {
	return f.result^int64(f.carries<<63^f.carries^f.carries<<1) < 0
}
func (f *lazyFlags) le() bool { return f.result == 0 || f.lt() }

// cfBit is CF as 0 or 1.
func (f *lazyFlags) cfBit() uint64 { return f.carries >> 63 }

// word returns the six flags in their RFLAGS positions.
func (f *lazyFlags) word() uint64 {
	w := f.cfBit()
	if f.pf() {
		w |= FlagPF
	}
	if f.af() {
		w |= FlagAF
	}
	if f.zf() {
		w |= FlagZF
	}
	if f.sf() {
		w |= FlagSF
	}
	if f.of() {
		w |= FlagOF
	}
	return w
}

// setWord sets all six flags from their RFLAGS positions.
func (f *lazyFlags) setWord(w uint64) {
	c := (w & FlagCF) << 63
	c |= ((w&FlagCF)<<62 ^ (w&FlagOF)>>11<<62)
	c |= (w & FlagAF) >> 4 << 3
	// With ZF the result is 0: even parity, positive. Without, it is 1: odd parity, positive.
	if w&FlagZF != 0 {
		f.result = 0
		if w&FlagPF == 0 {
			c |= 1 << 8
		}
	} else {
		f.result = 1
		if w&FlagPF != 0 {
			c |= 1 << 8
		}
	}
	c |= (w & FlagSF) >> 7
	f.carries = c
}

// update replaces the flags in mask by those of w and keeps the others.
func (f *lazyFlags) update(mask, w uint64) { f.setWord(f.word()&^mask | w&mask) }

// setCF changes CF alone.
func (f *lazyFlags) setCF(cf bool) {
	want := uint64(0)
	if cf {
		want = 1
	}
	if f.cfBit() != want {
		f.carries ^= 1<<63 | 1<<62 // OF is their difference: flip both to keep it
	}
}

// sext sign-extends the low size bytes of v.
func sext(v uint64, size uint8) int64 {
	s := 64 - uint(size)*8
	return int64(v<<(s&63)) >> (s & 63)
}

// carryWord puts the vector of carries out of each bit of a size-byte operation into flag position.
func carryWord(v uint64, size uint8) uint64 {
	s := 64 - uint(size)*8
	return v<<(s&63)&(1<<63|1<<62) | v&8
}

// add returns a+b+carry (carry is 0 or 1) and sets all six flags for operands of size bytes. The result's bits above
// size are garbage.
func (f *lazyFlags) add(a, b, carry uint64, size uint8) uint64 {
	r := a + b + carry
	f.result = sext(r, size)
	f.carries = carryWord(a&b|(a|b)&^r, size)
	return r
}

// sub returns a-b-borrow and sets all six flags for operands of size bytes.
func (f *lazyFlags) sub(a, b, borrow uint64, size uint8) uint64 {
	r := a - b - borrow
	f.result = sext(r, size)
	f.carries = carryWord(^a&b|(^a|b)&r, size)
	return r
}

// logic sets the flags of AND, OR, XOR and TEST: CF and OF clear, AF (undefined) clear.
func (f *lazyFlags) logic(r uint64, size uint8) {
	f.result = sext(r, size)
	f.carries = 0
}

// condition evaluates a condition code, the low four bits of a Jcc opcode (SDM vol. 1, appendix B).
func (f *lazyFlags) condition(cc uint8) bool {
	var v bool
	switch cc >> 1 & 7 {
	case 0:
		v = f.of()
	case 1:
		v = f.cf()
	case 2:
		v = f.zf()
	case 3:
		v = f.be()
	case 4:
		v = f.sf()
	case 5:
		v = f.pf()
	case 6:
		v = f.lt()
	case 7:
		v = f.le()
	}
	return v != (cc&1 != 0)
}

// RFLAGS returns the flags register.
func (c *CPU) RFLAGS() uint64 { return c.flags | c.f.word() | 2 }
