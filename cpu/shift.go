package cpu

import (
	"math/bits"

	"github.com/hybridbridge/emu/cpu/isa"
)

func shiftHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.SHL: shift((*lazyFlags).shl), isa.SHR: shift((*lazyFlags).shr), isa.SAR: shift((*lazyFlags).sar),
		isa.ROL: shift((*lazyFlags).rol), isa.ROR: shift((*lazyFlags).ror),
		isa.RCL: shift((*lazyFlags).rcl), isa.RCR: shift((*lazyFlags).rcr),
		isa.SHLD: doubleShift((*lazyFlags).shld), isa.SHRD: doubleShift((*lazyFlags).shrd),
	}
}

// What the manual leaves undefined follows the silicon that the tests compare with (AMD Zen 5), which is regular: OF
// after any count is what the last of so many single shifts would make it, AF is set by shifts and kept by rotates.

// countMask is what a shift or rotate keeps of its count (SDM vol. 2B, SAL).
func countMask(size uint8) uint64 {
	if size == 8 {
		return 63
	}
	return 31
}

// shift makes the handler of a shift or rotate of operand 0 by operand 1. A masked count of 0 changes no flag, but a
// 32-bit register is written all the same, which clears its upper half.
func shift(op binaryOp) handler {
	return func(c *CPU, u *uop) bool {
		n, ok := c.read(u, 1)
		if !ok {
			return false
		}
		a, ok := c.modify(u, 0)
		if !ok {
			return false
		}
		n &= countMask(u.Args[0].Size)
		if n == 0 {
			return c.write(u, 0, a)
		}
		return c.commit(u, op, a, n)
	}
}

// shifted sets the flags of a shift to the result r, CF and OF (each in bit 0).
func (f *lazyFlags) shifted(r, cf, of uint64, size uint8) {
	f.result = sext(r, size)
	f.carries = cf<<63 | (cf^of)<<63>>1 | 8
}

// rotated sets CF and OF (each in bit 0) and keeps the other flags.
func (f *lazyFlags) rotated(cf, of uint64) {
	f.carries = f.carries&^(1<<63|1<<62) | cf<<63 | (cf^of)<<63>>1
}

// The operations below take a count n from 1 to 31, or to 63 if size is 8.

func (f *lazyFlags) shl(a, n uint64, size uint8) uint64 {
	spare := (64 - uint64(size)*8) & 63
	x := a << spare
	cf := x >> (64 - n)
	f.result = int64(x<<n) >> spare
	// The carry into the sign bit, CF xor OF, is the sign of the result.
	f.carries = cf<<63 | uint64(f.result)>>1&(1<<62) | 8
	return a << n
}

func (f *lazyFlags) shr(a, n uint64, size uint8) uint64 {
	a &= sizeMask[size]
	r := a >> n
	cf, of := a>>(n-1), r>>(uint64(size)*8-2) // r has a clear sign bit
	f.result = int64(r)
	f.carries = cf<<63 | (cf^of)<<63>>1 | 8
	return r
}

func (f *lazyFlags) sar(a, n uint64, size uint8) uint64 {
	s := sext(a, size)
	r := s >> n
	cf := uint64(s >> (n - 1))
	f.result = r
	f.carries = cf<<63 | cf<<63>>1 | 8
	return uint64(r)
}

func (f *lazyFlags) rol(a, n uint64, size uint8) uint64 {
	width := uint64(size) * 8
	a &= sizeMask[size]
	n &= width - 1
	r := a<<n | a>>(width-n)
	f.rotated(r&1, (r^r>>(width-1))&1)
	return r
}

func (f *lazyFlags) ror(a, n uint64, size uint8) uint64 {
	width := uint64(size) * 8
	a &= sizeMask[size]
	n &= width - 1
	r := a>>n | a<<(width-n)
	f.rotated(r>>(width-1)&1, (r>>(width-1)^r>>(width-2))&1)
	return r
}

// rcl rotates through CF: width+1 bits.
func (f *lazyFlags) rcl(a, n uint64, size uint8) uint64 {
	width := uint64(size) * 8
	a &= sizeMask[size]
	r, cf := a, f.cfBit()
	if n %= width + 1; n != 0 {
		r = a<<n | cf<<(n-1) | a>>(width+1-n)
		cf = a >> (width - n) & 1
	}
	f.rotated(cf, (cf^r>>(width-1))&1)
	return r
}

func (f *lazyFlags) rcr(a, n uint64, size uint8) uint64 {
	width := uint64(size) * 8
	a &= sizeMask[size]
	r, cf := a, f.cfBit()
	if n %= width + 1; n != 0 {
		r = a>>n | cf<<(width-n) | a<<(width+1-n)
		cf = a >> (n - 1) & 1
	}
	f.rotated(cf, (r>>(width-1)^r>>(width-2))&1)
	return r
}

// A doubleOp is the meaning of SHLD or SHRD: n is 1 to 31, or to 63 if size is 8.
type doubleOp func(f *lazyFlags, a, b, n uint64, size uint8) uint64

func doubleShift(op doubleOp) handler {
	return func(c *CPU, u *uop) bool {
		n, ok := c.read(u, 2)
		if !ok {
			return false
		}
		b, ok := c.read(u, 1)
		if !ok {
			return false
		}
		a, ok := c.modify(u, 0)
		if !ok {
			return false
		}
		size := u.Args[0].Size
		n &= countMask(size)
		if n == 0 {
			return c.write(u, 0, a)
		}
		old := c.f
		if r := op(&c.f, a, b, n, size); !c.write(u, 0, r) {
			c.f = old
			return false
		}
		return true
	}
}

// shld shifts bits of b into a from below. With a 16-bit operand and a count over 16, which the manual leaves
// undefined, b follows itself and CF is cleared; from 16 on, OF equals CF.
func (f *lazyFlags) shld(a, b, n uint64, size uint8) uint64 {
	if size == 2 {
		x := a&0xffff<<32 | b&0xffff<<16 | b&0xffff
		r := x << n >> 32 & 0xffff
		cf := x << n >> 48 & 1
		of := cf ^ r>>15
		if n > 16 {
			cf = 0
		}
		if n >= 16 {
			of = cf
		}
		f.shifted(r, cf, of, 2)
		return r
	}
	width := uint64(size) * 8
	a &= sizeMask[size]
	b &= sizeMask[size]
	r := a<<n | b>>(width-n)
	cf := a >> (width - n) & 1
	f.shifted(r, cf, cf^r>>(width-1)&1, size)
	return r
}

// shrd shifts bits of b into a from above; with a count over 16 for a 16-bit operand, see shld, CF is cleared.
func (f *lazyFlags) shrd(a, b, n uint64, size uint8) uint64 {
	if size == 2 {
		x := b&0xffff<<32 | b&0xffff<<16 | a&0xffff
		r := x >> n & 0xffff
		cf := x >> (n - 1) & 1
		if n > 16 {
			cf = 0
		}
		f.shifted(r, cf, (r^r<<1)>>15&1, 2)
		return r
	}
	width := uint64(size) * 8
	a &= sizeMask[size]
	b &= sizeMask[size]
	r := a>>n | b<<(width-n)
	f.shifted(r, a>>(n-1)&1, (r>>(width-1)^r>>(width-2))&1, size)
	return r
}

// swapBytes is BSWAP; a 16-bit operand, which the manual leaves undefined, becomes 0.
func swapBytes(a uint64, size uint8) uint64 {
	switch size {
	case 8:
		return bits.ReverseBytes64(a)
	case 4:
		return uint64(bits.ReverseBytes32(uint32(a)))
	}
	return 0
}
