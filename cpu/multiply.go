package cpu

import (
	"math/bits"

	"github.com/hybridbridge/emu/cpu/isa"
)

func multiplyHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.MUL: execMUL, isa.IMUL1: execIMUL1, isa.IMUL2: execIMUL2, isa.IMUL3: execIMUL3,
		isa.DIV: execDIV, isa.IDIV: execIDIV,
	}
}

// multiplied sets CF and OF if the upper half of the product is significant. The other flags are undefined; silicon
// keeps them (AMD Zen 5).
func (f *lazyFlags) multiplied(significant bool) {
	cf := uint64(0)
	if significant {
		cf = 1
	}
	f.carries = f.carries&^(1<<63|1<<62) | cf<<63 // bit 62 is CF xor OF
}

// wide reads the double-width accumulator: AX for bytes, else rDX:rAX.
func (c *CPU) wide(size uint8) (hi, lo uint64) {
	if size == 1 {
		return c.r[isa.RAX] >> 8 & 0xff, c.r[isa.RAX] & 0xff
	}
	return c.reg(isa.RDX, size), c.reg(isa.RAX, size)
}

// setWide writes the double-width accumulator.
func (c *CPU) setWide(hi, lo uint64, size uint8) {
	if size == 1 {
		c.setReg(isa.RAX, 2, hi<<8|lo&0xff)
		return
	}
	c.setReg(isa.RAX, size, lo)
	c.setReg(isa.RDX, size, hi)
}

func execMUL(c *CPU, u *uop) bool {
	b, ok := c.read(u, 0)
	if !ok {
		return false
	}
	size := u.Args[0].Size
	a := c.reg(isa.RAX, size)
	hi, lo := bits.Mul64(a, b)
	if size != 8 {
		hi = lo >> (size * 8)
	}
	c.setWide(hi, lo, size)
	c.f.multiplied(hi != 0)
	return true
}

// signedProduct multiplies size-byte integers: the two halves, and whether the upper is more than the lower's sign.
func signedProduct(a, b uint64, size uint8) (hi, lo uint64, significant bool) {
	x, y := sext(a, size), sext(b, size)
	if size == 8 {
		hi, lo = bits.Mul64(a, b)
		hi -= uint64(x>>63)&b + uint64(y>>63)&a
		return hi, lo, hi != uint64(int64(lo)>>63)
	}
	p := x * y
	return uint64(p >> (size * 8)), uint64(p), sext(uint64(p), size) != p
}

func execIMUL1(c *CPU, u *uop) bool {
	b, ok := c.read(u, 0)
	if !ok {
		return false
	}
	size := u.Args[0].Size
	hi, lo, significant := signedProduct(c.reg(isa.RAX, size), b, size)
	c.setWide(hi, lo, size)
	c.f.multiplied(significant)
	return true
}

// imul is the two- and three-operand form.
func (f *lazyFlags) imul(a, b uint64, size uint8) uint64 {
	_, lo, significant := signedProduct(a, b, size)
	f.multiplied(significant)
	return lo
}

func execIMUL2(c *CPU, u *uop) bool {
	b, ok := c.read(u, 1)
	if !ok {
		return false
	}
	a, ok := c.read(u, 0)
	return ok && c.commit(u, (*lazyFlags).imul, a, b)
}

func execIMUL3(c *CPU, u *uop) bool {
	a, ok := c.read(u, 1)
	if !ok {
		return false
	}
	b, ok := c.read(u, 2)
	return ok && c.commit(u, (*lazyFlags).imul, a, b)
}

// divided sets what division leaves undefined as silicon does (AMD Zen 5): CF and OF stay, AF is set, SF, ZF and PF
// are cleared.
func (f *lazyFlags) divided() {
	f.result = 1
	f.carries = f.carries&(1<<63|1<<62) | 8
}

func execDIV(c *CPU, u *uop) bool {
	d, ok := c.read(u, 0)
	if !ok {
		return false
	}
	size := u.Args[0].Size
	hi, lo := c.wide(size)
	if hi >= d { // the quotient does not fit, or d is 0
		return c.raise(VectorDE)
	}
	var q, r uint64
	if size == 8 {
		q, r = bits.Div64(hi, lo, d)
	} else {
		n := hi<<(size*8) | lo
		q, r = n/d, n%d
	}
	c.setQuotient(q, r, size)
	return true
}

func (c *CPU) setQuotient(q, r uint64, size uint8) {
	c.setWide(r, q, size)
	c.f.divided()
}

func execIDIV(c *CPU, u *uop) bool {
	d, ok := c.read(u, 0)
	if !ok {
		return false
	}
	size := u.Args[0].Size
	hi, lo := c.wide(size)
	if d == 0 {
		return c.raise(VectorDE)
	}
	if size != 8 {
		n := sext(hi<<(size*8)|lo, size*2)
		s := sext(d, size)
		if s == -1 && n == -n { // 0, or the most negative number, which Go leaves as it is
			if n != 0 {
				return c.raise(VectorDE)
			}
		}
		q, r := n/s, n%s
		if sext(uint64(q), size) != q {
			return c.raise(VectorDE)
		}
		c.setQuotient(uint64(q), uint64(r), size)
		return true
	}
	// Divide magnitudes. The quotient is negative if the signs differ; the remainder has the dividend's sign.
	negative := int64(hi) < 0
	quotientNegative := negative != (int64(d) < 0)
	if negative {
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	if int64(d) < 0 {
		d = -d
	}
	if hi >= d {
		return c.raise(VectorDE)
	}
	q, r := bits.Div64(hi, lo, d)
	limit := uint64(1<<63 - 1)
	if quotientNegative {
		limit = 1 << 63
	}
	if q > limit {
		return c.raise(VectorDE)
	}
	if quotientNegative {
		q = -q
	}
	if negative {
		r = -r
	}
	c.setQuotient(q, r, 8)
	return true
}
