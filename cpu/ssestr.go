package cpu

import (
	"math/bits"

	"github.com/hybridbridge/emu/cpu/isa"
)

// The string comparisons of SSE4.2 (SDM vol. 2A, 4.1).

func stringCompareHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.PCMPESTRM: func(c *CPU, u *uop) bool { return c.compareStrings(u, true, false) },
		isa.PCMPESTRI: func(c *CPU, u *uop) bool { return c.compareStrings(u, true, true) },
		isa.PCMPISTRM: func(c *CPU, u *uop) bool { return c.compareStrings(u, false, false) },
		isa.PCMPISTRI: func(c *CPU, u *uop) bool { return c.compareStrings(u, false, true) },
	}
}

// stringOperand is a vector as a string of at most n elements.
type stringOperand struct {
	v     vector
	n     int // elements of the vector: 16 or 8
	len   int // valid ones
	words bool
	sign  bool
}

func (s *stringOperand) at(i int) int {
	switch {
	case s.words && s.sign:
		return int(int16(vectorWord(s.v, uint8(i))))
	case s.words:
		return int(vectorWord(s.v, uint8(i)))
	case s.sign:
		return int(int8(vectorByte(s.v, uint8(i))))
	}
	return int(vectorByte(s.v, uint8(i)))
}

func newStringOperand(v vector, imm uint8) stringOperand {
	s := stringOperand{v: v, n: 16, words: imm&1 != 0, sign: imm&2 != 0}
	if s.words {
		s.n = 8
	}
	return s
}

// endAtZero sets the length of an implicit-length string.
func (s *stringOperand) endAtZero() {
	for s.len = 0; s.len < s.n && s.at(s.len) != 0; s.len++ {
	}
}

// setLength sets the length from a register that holds it.
func (s *stringOperand) setLength(n int64) {
	if n < 0 {
		n = -n
	}
	if n < 0 || n > int64(s.n) {
		n = int64(s.n)
	}
	s.len = int(n)
}

// aggregate compares the strings and returns a bit for each element of b, after polarity: IntRes2.
func aggregate(a, b *stringOperand, imm uint8) (r uint32) {
	n := b.n
	for j := range n {
		hit := false
		switch imm >> 2 & 3 {
		case 0: // equal any
			for i := 0; i < a.len && j < b.len; i++ {
				hit = hit || a.at(i) == b.at(j)
			}
		case 1: // ranges
			for i := 0; i+1 < a.len && j < b.len; i += 2 {
				hit = hit || a.at(i) <= b.at(j) && b.at(j) <= a.at(i+1)
			}
		case 2: // equal each
			switch {
			case j < a.len && j < b.len:
				hit = a.at(j) == b.at(j)
			default:
				hit = j >= a.len && j >= b.len
			}
		case 3: // equal ordered
			hit = true
			for i := 0; i < a.len && i+j < n; i++ {
				hit = hit && i+j < b.len && a.at(i) == b.at(i+j)
			}
		}
		if hit {
			r |= 1 << j
		}
	}
	switch imm >> 4 & 3 {
	case 1:
		r ^= 1<<n - 1
	case 3:
		r ^= 1<<b.len - 1
	}
	return r
}

func (c *CPU) compareStrings(u *uop, explicit, index bool) bool {
	if !c.sseReady() {
		return false
	}
	v, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	imm := uint8(u.Imm)
	a := newStringOperand(c.fpu.xmm[u.Args[0].Reg&15], imm)
	b := newStringOperand(v, imm)
	switch {
	case !explicit:
		a.endAtZero()
		b.endAtZero()
	case u.Prefix&isa.PrefixREXW != 0:
		a.setLength(int64(c.r[isa.RAX]))
		b.setLength(int64(c.r[isa.RDX]))
	default:
		a.setLength(int64(int32(c.r[isa.RAX])))
		b.setLength(int64(int32(c.r[isa.RDX])))
	}
	r := aggregate(&a, &b, imm)
	if index {
		at := b.n
		switch {
		case r == 0:
		case imm&0x40 != 0:
			at = bits.Len32(r) - 1
		default:
			at = bits.TrailingZeros32(r)
		}
		c.setReg(isa.RCX, 4, uint64(at))
	} else {
		m := vector{uint64(r)}
		if imm&0x40 != 0 {
			m = vector{}
			size := uint(128 / b.n)
			for i := range uint(b.n) {
				if r>>i&1 != 0 {
					m[i*size>>6] |= ^uint64(0) >> (64 - size) << (i * size & 63)
				}
			}
		}
		c.fpu.xmm[0] = m
	}
	var w uint64
	if r != 0 {
		w |= FlagCF
	}
	if b.len < b.n {
		w |= FlagZF
	}
	if a.len < a.n {
		w |= FlagSF
	}
	if r&1 != 0 {
		w |= FlagOF
	}
	c.f.setWord(w)
	return true
}
