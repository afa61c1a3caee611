package oracle

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Values are biased to where arithmetic changes its mind: zeros, ones, the ends of each size, powers of two and their
// neighbours, NaNs, denormals, numbers near overflow, near integers and near each other.

// integer returns a biased 64-bit integer.
func (r *rng) integer() uint64 {
	switch r.n(12) {
	case 0:
		return uint64(r.n(4))
	case 1:
		return -uint64(r.n(4))
	case 2:
		return uint64(r.n(256))
	case 3:
		return uint64(int64(int8(r.next())))
	case 4:
		// An end of a size, in or out by a little, with or without garbage above.
		size := 8 << r.n(4)
		v := uint64(1)<<(size-1) + uint64(r.in(-2, 2))
		if r.oneIn(2) {
			v = uint64(1)<<(size&63) + uint64(r.in(-2, 2))
		}
		if r.oneIn(2) {
			v |= r.next() << (size & 63)
		}
		return v
	case 5:
		return 1<<r.n(64) + uint64(r.in(-1, 1))
	case 6:
		return r.next() >> r.n(64)
	case 7:
		return uint64(int64(r.next()) >> r.n(64))
	case 8:
		return uint64(int64(int32(r.next())))
	case 9:
		return r.next() & 0x0f0f0f0f0f0f0f0f
	}
	return r.next()
}

// byteVector fills p with integers of one lane size.
func (r *rng) byteVector(p []byte) {
	lane := 1 << r.n(4)
	lane = max(1, min(lane, len(p)))
	for i := 0; i+lane <= len(p); i += lane {
		v := r.integer()
		if lane < 8 {
			switch r.n(3) {
			case 0:
				v = 1<<(8*lane-1) + uint64(r.in(-2, 2))
			case 1:
				v = r.next()
			}
		}
		for k := range lane {
			p[i+k] = byte(v >> (8 * k))
		}
	}
}

// float32s returns the bits of a biased single.
func (r *rng) float32s() uint32 {
	sign := uint32(r.next()) & (1 << 31)
	switch r.n(16) {
	case 0:
		return sign
	case 1:
		return sign | 0x7f800000 // infinity
	case 2:
		return sign | 0x7fc00000 | uint32(r.next())&0x3fffff>>r.n(22)
	case 3:
		return sign | 0x7f800000 | max(1, uint32(r.next())&0x3fffff>>r.n(22)) // signalling
	case 4:
		return sign | max(1, uint32(r.next())&0x7fffff>>r.n(23)) // denormal
	case 5:
		return sign | 0x007ffffe + uint32(r.n(5)) // between denormal and normal
	case 6:
		return sign | 0x7f7fffff - uint32(r.next())&0xffffff>>r.n(24) // near overflow
	case 7:
		return math.Float32bits(float32(int32(r.integer())))
	case 8:
		return math.Float32bits(float32(r.in(-4, 4)) / 2)
	case 9:
		// Near the limits of integers.
		f := [...]uint32{0x4f000000, 0x4effffff, 0xcf000000, 0xcf000001, 0x5f000000, 0x5effffff, 0xdf000000, 0xdf000001, 0x4b000000, 0x4b7fffff, 0x4a800001}
		return f[r.n(len(f))]
	case 10:
		return sign | 0x3f800000 + uint32(r.in(-3, 3)) // about one
	case 11:
		// Few bits in the significand: exact results and halfway cases.
		return sign | uint32(r.in(97, 157))<<23 | uint32(r.next())&0x7fffff&^(1<<r.n(23)-1)
	case 12:
		return sign | uint32(r.in(110, 145))<<23 | uint32(r.next())&0x7fffff
	case 13:
		return sign | uint32(r.in(1, 30))<<23 | uint32(r.next())&0x7fffff
	}
	return uint32(r.next())
}

// float64s returns the bits of a biased double.
func (r *rng) float64s() uint64 {
	sign := r.next() & (1 << 63)
	const frac = 1<<52 - 1
	switch r.n(18) {
	case 0:
		return sign
	case 1:
		return sign | 0x7ff<<52
	case 2:
		return sign | 0x7ff<<52 | 1<<51 | r.next()&(frac>>1)>>r.n(51)
	case 3:
		return sign | 0x7ff<<52 | max(1, r.next()&(frac>>1)>>r.n(51))
	case 4:
		return sign | max(1, r.next()&frac>>r.n(52))
	case 5:
		return sign | 1<<52 - 2 + uint64(r.n(5))
	case 6:
		return sign | 0x7fefffffffffffff - r.next()&frac>>r.n(53)
	case 7:
		return math.Float64bits(float64(int64(r.integer())))
	case 8:
		return math.Float64bits(float64(r.in(-4, 4)) / 2)
	case 9:
		f := [...]float64{1 << 31, 1<<31 - 1, 1<<31 - 0.5, -1 << 31, -1<<31 - 1, -1<<31 - 0.5, 1 << 63, -1 << 63, 1 << 52, 1<<53 - 1, 1 << 32, 1<<15 - 0.5, -1<<15 - 0.5}
		return math.Float64bits(f[r.n(len(f))]) + uint64(r.in(-1, 1))
	case 10:
		return sign | 0x3ff<<52 + uint64(r.in(-3, 3))
	case 11:
		return sign | uint64(r.in(993, 1053))<<52 | r.next()&frac&^(1<<r.n(52)-1)
	case 12:
		return sign | uint64(r.in(1000, 1046))<<52 | r.next()&frac
	case 13:
		return sign | uint64(r.in(1, 60))<<52 | r.next()&frac
	case 14:
		// A single, or nearly one: what conversion to single rounds.
		return math.Float64bits(float64(math.Float32frombits(r.float32s()&^(1<<30)))) + uint64(r.in(-1, 1))<<r.n(29)
	case 15:
		// In the range where singles are denormal or overflow.
		return sign | uint64([...]int{r.in(1023-152, 1023-124), r.in(1023+126, 1023+129)}[r.n(2)])<<52 | r.next()&frac&^(1<<r.n(52)-1)
	}
	return r.next()
}

// float80 writes a biased extended real into 10 bytes.
func (r *rng) float80(p []byte) {
	se, m := r.extended()
	binary.LittleEndian.PutUint64(p, m)
	binary.LittleEndian.PutUint16(p[8:], se)
}

func (r *rng) extended() (se uint16, m uint64) {
	sign := uint16(r.next()) & 0x8000
	const one = 1 << 63
	switch r.n(24) {
	case 0:
		return sign, 0
	case 1:
		return sign | 0x7fff, one
	case 2:
		return sign | 0x7fff, one | 1<<62 | r.next()>>2>>r.n(62)
	case 3:
		return sign | 0x7fff, one | max(1, r.next()>>2>>r.n(62))
	case 4:
		return sign, r.next() >> 1 >> r.n(63) // denormal
	case 5:
		return sign, one | r.next()>>1>>r.n(63) // pseudo-denormal
	case 6:
		return sign | uint16(r.n(0x8000)), r.next() >> 1 // unnormal, pseudo-infinity, pseudo-NaN: invalid operands
	case 7:
		return sign | 0x7ffe, one | r.next()>>1 | ^uint64(0)<<r.n(64)
	case 8:
		return sign | uint16(r.in(1, 3)), one | r.next()>>1>>r.n(63)
	case 9, 10:
		return toExtended(float64(int64(r.integer())))
	case 11:
		return toExtended(float64(r.in(-4, 4)) / 2)
	case 12:
		// 2^15, 2^31, 2^63 and their neighbours, as integers are rounded to.
		e := [...]uint16{14, 15, 30, 31, 62, 63}[r.n(6)]
		return sign | 16383 + e, one + uint64(r.in(-2, 2))<<r.n(50) | one
	case 13:
		return sign | 0x3fff, one + uint64(r.in(0, 3))
	case 14:
		return sign | 0x3ffe, ^uint64(0) - uint64(r.in(0, 3))
	case 15, 16:
		return sign | uint16(r.in(16383-40, 16383+40)), one | r.next()&^(1<<r.n(64)-1)
	case 17, 18:
		return sign | uint16(r.in(16383-70, 16383+70)), one | r.next()
	case 19:
		// What singles and doubles overflow or underflow on.
		e := [...]int{r.in(-152, -124), r.in(125, 129), r.in(-1078, -1020), r.in(1021, 1025)}[r.n(4)]
		return sign | uint16(16383+e), one | r.next()&^(1<<r.n(64)-1)
	case 20:
		return sign | uint16(r.in(16383-4, 16383+6)), one | r.next()
	case 21:
		// A significand that ends in halfway patterns of 24 and 53 bits.
		cut := [...]int{40, 11}[r.n(2)]
		return sign | uint16(r.in(16383-20, 16383+20)), one | r.next()<<cut + 1<<(cut-1) + uint64(r.in(-1, 1))
	}
	return sign | uint16(r.n(0x7fff)), one | r.next()
}

// toExtended converts a finite double that is not denormal.
func toExtended(f float64) (se uint16, m uint64) {
	b := math.Float64bits(f)
	se = uint16(b >> 63 << 15)
	if f == 0 {
		return se, 0
	}
	return se | uint16(b>>52&0x7ff) + 16383 - 1023, 1<<63 | b<<11&(1<<63-1)
}

// bcd writes a packed decimal of 18 digits, seldom with bad digits.
func (r *rng) bcd(p []byte) {
	for i := range 9 {
		p[i] = byte(r.n(10)<<4 | r.n(10))
	}
	clear(p[9-r.n(10) : 9])
	p[9] = byte(r.n(2) << 7)
	if r.oneIn(8) {
		p[r.n(10)] = byte(r.next())
	}
}

// flavour is what kind of data a vector register or a memory operand holds.
type flavour uint8

const (
	anyFlavour flavour = iota
	integers
	singles
	doubles
	extended
	decimal
	controlWord // x87 control word
	mxcsrWord
	environment // FSTENV image
	saved       // FSAVE image
	fxImage
	xsaveImage
)

// fill writes data of a flavour.
func (r *rng) fill(p []byte, f flavour) {
	if f == anyFlavour {
		f = integers + flavour(r.n(3))
	}
	if f > doubles && len(p) < 4 {
		f = integers // cut off at the end of memory
	}
	le := binary.LittleEndian
	switch f {
	case singles:
		for i := 0; i+4 <= len(p); i += 4 {
			v := r.float32s()
			if i > 0 && r.oneIn(4) {
				v = le.Uint32(p[i-4:])
			}
			le.PutUint32(p[i:], v)
		}
	case doubles:
		for i := 0; i+8 <= len(p); i += 8 {
			le.PutUint64(p[i:], r.float64s())
		}
	case extended:
		if len(p) >= 10 {
			r.float80(p)
		}
	case decimal:
		if len(p) >= 10 {
			r.bcd(p)
		}
	case controlWord:
		le.PutUint16(p, r.control())
	case mxcsrWord:
		le.PutUint32(p, r.mxcsr())
		if r.oneIn(8) {
			le.PutUint32(p, r.mxcsr()|1<<r.in(18, 31))
		}
	default:
		r.byteVector(p)
	}
}

// near changes the bytes of a number a little, so that two operands cancel, are equal or differ by rounding.
func (r *rng) near(p []byte, f flavour) {
	switch f {
	case singles:
		for i := 0; i+4 <= len(p); i += 4 {
			p[i+3] ^= byte(r.n(2) << 7)
			if r.oneIn(2) {
				p[i] += byte(r.in(-1, 1))
			}
			if r.oneIn(4) {
				p[i+2] ^= 1 << 7
			}
		}
	case doubles:
		for i := 0; i+8 <= len(p); i += 8 {
			p[i+7] ^= byte(r.n(2) << 7)
			if r.oneIn(2) {
				p[i] += byte(r.in(-1, 1))
			}
			if r.oneIn(4) {
				p[i+6] ^= 1 << r.n(6)
			}
		}
	default:
		if len(p) > 0 && r.oneIn(2) {
			p[r.n(len(p))] ^= 1 << r.n(8)
		}
	}
}

// control returns an x87 control word: mostly all masked, with any rounding and precision.
func (r *rng) control() uint16 {
	switch r.n(8) {
	case 0, 1, 2:
		return 0x37f
	case 3, 4, 5:
		return 0x7f | uint16(r.n(16))<<8
	case 6:
		return 0x40 | uint16(r.n(64)) | uint16(r.n(16))<<8
	}
	return uint16(r.n(0x2000)) | 0x40
}

// mxcsr returns a valid MXCSR.
func (r *rng) mxcsr() uint32 {
	switch r.n(8) {
	case 0, 1, 2:
		return 0x1f80
	case 3, 4:
		return 0x1f80 | uint32(r.n(4))<<13 // rounding
	case 5:
		return 0x1f80 | uint32(r.n(4))<<13 | uint32(r.n(2))<<15 | uint32(r.n(2))<<6 // FTZ, DAZ
	case 6:
		return 0x1f80 | uint32(r.n(1<<16))&0xe07f
	}
	return uint32(r.n(1 << 16))
}

// status returns an x87 status word that goes with a control word: ES and B say whether an unmasked exception is
// pending.
func (r *rng) status(control uint16) uint16 {
	sw := uint16(r.n(8)) << 11
	if r.oneIn(2) {
		sw |= uint16(r.next()) & 0x4700 // condition codes
	}
	switch r.n(8) {
	case 0:
		sw |= 1 << r.n(7)
	case 1:
		sw |= uint16(r.n(128)) & (control | 0x40) // only masked ones
	}
	if sw&^control&0x3f != 0 {
		sw |= 0x8080
	}
	return sw
}

// tags returns an abridged tag word.
func (r *rng) tags() uint8 {
	switch r.n(8) {
	case 0:
		return 0
	case 1:
		return uint8(r.next())
	case 2:
		return uint8(bits.RotateLeft8(0x0f, r.n(8)))
	}
	return 0xff
}
