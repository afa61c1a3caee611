package cpu

import "math/bits"

// The meaning of packed-integer instructions, as functions of values. Lanes of a quadword are computed together: top
// marks the top bit of each lane, and no carry leaves a lane.

// vector is the value of an XMM register, low quadword first; an MMX register is its low quadword.
type vector = [2]uint64

// lanes is how a quadword is divided.
type lanes struct {
	top  uint64 // the top bit of each lane
	bits uint   // width of a lane
}

var (
	bytes8   = lanes{0x8080808080808080, 8}
	words4   = lanes{0x8000800080008000, 16}
	dwords2  = lanes{0x8000000080000000, 32}
	quadword = lanes{1 << 63, 64}
)

// fill spreads the top bit of each lane over it.
func (l lanes) fill(x uint64) uint64 {
	x &= l.top
	return x | (x - x>>(l.bits-1))
}

// choose takes the lanes of a where mask is set, else those of b.
func choose(mask, a, b uint64) uint64 { return a&mask | b&^mask }

func addLanes(l lanes, d, s uint64) uint64 {
	return (d&^l.top + s&^l.top) ^ (d^s)&l.top
}

func subLanes(l lanes, d, s uint64) uint64 {
	return ((d | l.top) - s&^l.top) ^ ^(d^s)&l.top
}

// belowLanes fills the lanes in which d < s, unsigned: those that borrow.
func belowLanes(l lanes, d, s uint64) uint64 {
	r := subLanes(l, d, s)
	return l.fill(^d&s | (^d|s)&r)
}

// lessLanes is belowLanes for signed numbers.
func lessLanes(l lanes, d, s uint64) uint64 { return belowLanes(l, d^l.top, s^l.top) }

func greaterLanes(l lanes, d, s uint64) uint64 { return lessLanes(l, s, d) }

func equalLanes(l lanes, d, s uint64) uint64 {
	x := d ^ s
	return l.fill(^(x&^l.top + ^l.top | x))
}

func addUnsignedSaturate(l lanes, d, s uint64) uint64 {
	r := addLanes(l, d, s)
	return r | l.fill(d&s|(d|s)&^r)
}

func subUnsignedSaturate(l lanes, d, s uint64) uint64 {
	return subLanes(l, d, s) &^ belowLanes(l, d, s)
}

// limit is the largest number of the sign that each lane of d has.
func (l lanes) limit(d uint64) uint64 { return ^l.top + d&l.top>>(l.bits-1) }

func addSignedSaturate(l lanes, d, s uint64) uint64 {
	r := addLanes(l, d, s)
	return choose(l.fill(^(d^s)&(d^r)), l.limit(d), r)
}

func subSignedSaturate(l lanes, d, s uint64) uint64 {
	r := subLanes(l, d, s)
	return choose(l.fill((d^s)&(d^r)), l.limit(d), r)
}

func minUnsigned(l lanes, d, s uint64) uint64 { return choose(belowLanes(l, d, s), d, s) }
func maxUnsigned(l lanes, d, s uint64) uint64 { return choose(belowLanes(l, d, s), s, d) }
func minSigned(l lanes, d, s uint64) uint64   { return choose(lessLanes(l, d, s), d, s) }
func maxSigned(l lanes, d, s uint64) uint64   { return choose(lessLanes(l, d, s), s, d) }

// average rounds up.
func average(l lanes, d, s uint64) uint64 {
	low := l.top >> (l.bits - 1)
	return (d | s) - (d^s)&^low>>1
}

func absolute(l lanes, _, s uint64) uint64 {
	m := l.fill(s)
	return subLanes(l, s^m, m)
}

// sign is PSIGN: d, 0 or -d as s is positive, zero or negative.
func sign(l lanes, d, s uint64) uint64 {
	m := l.fill(s)
	return subLanes(l, d^m, m) &^ equalLanes(l, s, 0)
}

func and(d, s uint64) uint64    { return d & s }
func andNot(d, s uint64) uint64 { return ^d & s }
func or(d, s uint64) uint64     { return d | s }
func xor(d, s uint64) uint64    { return d ^ s }

func signedWord(x uint64, i int) int32 { return int32(int16(x >> (16 * i))) }
func unsignedWord(x uint64, i int) int { return int(x >> (16 * i) & 0xffff) }
func byteOf(x uint64, i int) int       { return int(x >> (8 * i) & 0xff) }
func signedByte(x uint64, i int) int32 { return int32(int8(x >> (8 * i))) }

// words makes a quadword of four words.
func words(f func(i int) int32) (r uint64) {
	for i := range 4 {
		r |= uint64(uint16(f(i))) << (16 * i)
	}
	return r
}

func multiplyLow(d, s uint64) uint64 {
	return words(func(i int) int32 { return signedWord(d, i) * signedWord(s, i) })
}

func multiplyHigh(d, s uint64) uint64 {
	return words(func(i int) int32 { return signedWord(d, i) * signedWord(s, i) >> 16 })
}

func multiplyHighUnsigned(d, s uint64) uint64 {
	return words(func(i int) int32 { return int32(unsignedWord(d, i) * unsignedWord(s, i) >> 16) })
}

// multiplyHighRound is PMULHRSW.
func multiplyHighRound(d, s uint64) uint64 {
	return words(func(i int) int32 { return (signedWord(d, i)*signedWord(s, i)>>14 + 1) >> 1 })
}

func multiplyLowDwords(d, s uint64) uint64 {
	return uint64(uint32(d)*uint32(s)) | uint64(uint32(d>>32)*uint32(s>>32))<<32
}

func multiplyUnsignedDword(d, s uint64) uint64 { return uint64(uint32(d)) * uint64(uint32(s)) }
func multiplySignedDword(d, s uint64) uint64   { return uint64(int64(int32(d)) * int64(int32(s))) }

// multiplyAdd is PMADDWD.
func multiplyAdd(d, s uint64) (r uint64) {
	for i := 0; i < 4; i += 2 {
		sum := uint32(signedWord(d, i)*signedWord(s, i)) + uint32(signedWord(d, i+1)*signedWord(s, i+1))
		r |= uint64(sum) << (16 * i)
	}
	return r
}

// multiplyAddBytes is PMADDUBSW: unsigned bytes of d by signed bytes of s.
func multiplyAddBytes(d, s uint64) uint64 {
	return words(func(i int) int32 {
		return saturate16(int32(byteOf(d, 2*i))*signedByte(s, 2*i) + int32(byteOf(d, 2*i+1))*signedByte(s, 2*i+1))
	})
}

// sumDifferences is PSADBW.
func sumDifferences(d, s uint64) (r uint64) {
	x := subUnsignedSaturate(bytes8, d, s) | subUnsignedSaturate(bytes8, s, d)
	x = x&0x00ff00ff00ff00ff + x>>8&0x00ff00ff00ff00ff
	return (x * 0x0001000100010001) >> 48
}

func saturate16(x int32) int32       { return min(max(x, -1<<15), 1<<15-1) }
func saturateUnsigned(x, m int) int  { return min(max(x, 0), m) }
func saturateSigned8(x int32) int32  { return min(max(x, -1<<7), 1<<7-1) }
func dwordOf(x uint64, i int) int32  { return int32(x >> (32 * i)) }
func twoWords(lo, hi int32) uint32   { return uint32(uint16(lo)) | uint32(hi)<<16 }
func twoDwords(lo, hi uint32) uint64 { return uint64(lo) | uint64(hi)<<32 }
func packWordsSigned(x uint64) uint32 {
	return packBytes(x, func(w int32) int32 { return saturateSigned8(w) })
}

func packWordsUnsigned(x uint64) uint32 {
	return packBytes(x, func(w int32) int32 { return int32(saturateUnsigned(int(w), 0xff)) })
}

func packBytes(x uint64, f func(int32) int32) (r uint32) {
	for i := range 4 {
		r |= uint32(uint8(f(signedWord(x, i)))) << (8 * i)
	}
	return r
}

func packDwordsSigned(x uint64) uint32 {
	return twoWords(saturate16(dwordOf(x, 0)), saturate16(dwordOf(x, 1)))
}

func packDwordsUnsigned(x uint64) uint32 {
	return twoWords(int32(saturateUnsigned(int(dwordOf(x, 0)), 0xffff)), int32(saturateUnsigned(int(dwordOf(x, 1)), 0xffff)))
}

// Horizontal sums and differences of neighbours (SSSE3).

func addPairWords(x uint64) uint32 {
	return twoWords(signedWord(x, 0)+signedWord(x, 1), signedWord(x, 2)+signedWord(x, 3))
}

func subPairWords(x uint64) uint32 {
	return twoWords(signedWord(x, 0)-signedWord(x, 1), signedWord(x, 2)-signedWord(x, 3))
}

func addPairWordsSaturate(x uint64) uint32 {
	return twoWords(saturate16(signedWord(x, 0)+signedWord(x, 1)), saturate16(signedWord(x, 2)+signedWord(x, 3)))
}

func subPairWordsSaturate(x uint64) uint32 {
	return twoWords(saturate16(signedWord(x, 0)-signedWord(x, 1)), saturate16(signedWord(x, 2)-signedWord(x, 3)))
}
func addPairDwords(x uint64) uint32 { return uint32(x) + uint32(x>>32) }
func subPairDwords(x uint64) uint32 { return uint32(x) - uint32(x>>32) }

// Shifts by a count that may be any quadword.

func shiftLeftLanes(l lanes, d, n uint64) uint64 {
	if n >= uint64(l.bits) {
		return 0
	}
	low := l.top >> (l.bits - 1) // bit 0 of each lane
	return d << n &^ (low<<n - low)
}

func shiftRightLanes(l lanes, d, n uint64) uint64 {
	if n >= uint64(l.bits) {
		return 0
	}
	low := l.top >> (l.bits - 1)
	keep := ^uint64(0) >> (64 - l.bits) >> n * low // the bits that stay, in each lane
	return d >> n & keep
}

func shiftArithmeticLanes(l lanes, d, n uint64) uint64 {
	n = min(n, uint64(l.bits)-1)
	sign := l.fill(d)
	return shiftRightLanes(l, d, n) | sign&^shiftRightLanes(l, ^uint64(0), n)
}

// Interleaving: the lanes of d and s alternate, the low halves of the quadwords in lo and the high ones in hi.

func interleaveBytes(d, s uint64) (lo, hi uint64) {
	return spreadBytes(d) | spreadBytes(s)<<8, spreadBytes(d>>32) | spreadBytes(s>>32)<<8
}

// spreadBytes puts the low four bytes into the low bytes of the four words.
func spreadBytes(x uint64) uint64 {
	x &= 0xffffffff
	x = (x | x<<16) & 0x0000ffff0000ffff
	return (x | x<<8) & 0x00ff00ff00ff00ff
}

func interleaveWords(d, s uint64) (lo, hi uint64) {
	return spreadWords(d) | spreadWords(s)<<16, spreadWords(d>>32) | spreadWords(s>>32)<<16
}

func spreadWords(x uint64) uint64 {
	x &= 0xffffffff
	return (x | x<<16) & 0x0000ffff0000ffff
}

func interleaveDwords(d, s uint64) (lo, hi uint64) {
	return d&0xffffffff | s<<32, d>>32 | s&^0xffffffff
}

func interleaveQuadwords(d, s uint64) (lo, hi uint64) { return d, s }

// Whole vectors.

func bytesRight(v vector, n uint8) vector {
	s := uint(n) * 8
	switch {
	case n >= 16:
		return vector{}
	case n >= 8:
		return vector{v[1] >> (s - 64), 0}
	}
	return vector{v[0]>>s | v[1]<<(64-s), v[1] >> s}
}

func bytesLeft(v vector, n uint8) vector {
	s := uint(n) * 8
	switch {
	case n >= 16:
		return vector{}
	case n >= 8:
		return vector{0, v[0] << (s - 64)}
	}
	return vector{v[0] << s, v[1]<<s | v[0]>>(64-s)}
}

// alignRight is PALIGNR.
func alignRight(d, s vector, imm uint8) vector {
	if imm >= 16 {
		return bytesRight(d, imm-16)
	}
	lo, hi := bytesRight(s, imm), bytesLeft(d, 16-imm)
	return vector{lo[0] | hi[0], lo[1] | hi[1]}
}

func alignRightMMX(d, s uint64, imm uint8) uint64 { return bytesRight(vector{s, d}, imm)[0] }

func vectorByte(v vector, i uint8) uint64 { return v[i>>3&1] >> (i & 7 * 8) & 0xff }
func vectorWord(v vector, i uint8) uint64 { return v[i>>2&1] >> (i & 3 * 16) & 0xffff }

func vectorDword(v vector, i uint8) uint32 { return uint32(v[i>>1&1] >> (i & 1 * 32)) }

func setVectorDword(v *vector, i uint8, x uint32) {
	s := i & 1 * 32
	p := &v[i>>1&1]
	*p = *p&^(0xffffffff<<s) | uint64(x)<<s
}

// shuffleBytes is PSHUFB.
func shuffleBytes(d, s vector, _ uint8) (r vector) {
	for q := range 2 {
		for i := range 8 {
			if n := uint8(s[q] >> (8 * i)); n < 0x80 {
				r[q] |= vectorByte(d, n) << (8 * i)
			}
		}
	}
	return r
}

func shuffleBytesMMX(d, s uint64, _ uint8) (r uint64) {
	for i := range 8 {
		if n := uint8(s >> (8 * i)); n < 0x80 {
			r |= d >> (n & 7 * 8) & 0xff << (8 * i)
		}
	}
	return r
}

func shuffleDwords(_, s vector, imm uint8) vector {
	return vector{
		twoDwords(vectorDword(s, imm&3), vectorDword(s, imm>>2&3)),
		twoDwords(vectorDword(s, imm>>4&3), vectorDword(s, imm>>6)),
	}
}

// shuffleWords is PSHUFW and its kin on one quadword.
func shuffleWords(_, s uint64, imm uint8) (r uint64) {
	for i := range 4 {
		r |= s >> (imm >> (2 * i) & 3 * 16) & 0xffff << (16 * i)
	}
	return r
}

func shuffleHighWords(_, s vector, imm uint8) vector { return vector{s[0], shuffleWords(0, s[1], imm)} }

func shuffleLowWords(_, s vector, imm uint8) vector { return vector{shuffleWords(0, s[0], imm), s[1]} }

func shuffleSingles(d, s vector, imm uint8) vector {
	return vector{
		twoDwords(vectorDword(d, imm&3), vectorDword(d, imm>>2&3)),
		twoDwords(vectorDword(s, imm>>4&3), vectorDword(s, imm>>6)),
	}
}

func shuffleDoubles(d, s vector, imm uint8) vector { return vector{d[imm&1], s[imm>>1&1]} }

func duplicateEvenSingles(_, s vector, _ uint8) vector {
	return vector{uint64(uint32(s[0])) * 0x100000001, uint64(uint32(s[1])) * 0x100000001}
}

func duplicateOddSingles(_, s vector, _ uint8) vector {
	return vector{s[0] >> 32 * 0x100000001, s[1] >> 32 * 0x100000001}
}

func duplicateLow(_, s vector, _ uint8) vector { return vector{s[0], s[0]} }
func highToLow(_, s vector, _ uint8) vector    { return vector{s[1], 0} }
func lowToHigh(d, s vector, _ uint8) vector    { return vector{d[0], s[0]} }

// blendMask has the lanes of size bytes filled whose bits in imm are set.
func blendMask(imm, size uint8) (m vector) {
	for i := range uint8(16) {
		if imm>>(i/size)&1 != 0 {
			m[i>>3] |= 0xff << (i & 7 * 8)
		}
	}
	return m
}

func blendBy(m, s, d vector) vector {
	return vector{choose(m[0], s[0], d[0]), choose(m[1], s[1], d[1])}
}

func blendSingles(d, s vector, imm uint8) vector { return blendBy(blendMask(imm, 4), s, d) }
func blendDoubles(d, s vector, imm uint8) vector { return blendBy(blendMask(imm, 8), s, d) }
func blendWords(d, s vector, imm uint8) vector   { return blendBy(blendMask(imm, 2), s, d) }

// Inserting from and extracting to the low bytes of a vector.

func insertByte(d, s vector, imm uint8) vector {
	n := imm & 7 * 8
	p := &d[imm>>3&1]
	*p = *p&^(0xff<<n) | s[0]&0xff<<n
	return d
}

func insertWordMMX(d, s uint64, imm uint8) uint64 {
	n := imm & 3 * 16
	return d&^(0xffff<<n) | s&0xffff<<n
}

func insertWord(d, s vector, imm uint8) vector {
	p := &d[imm>>2&1]
	*p = insertWordMMX(*p, s[0], imm)
	return d
}

func insertDword(d, s vector, imm uint8) vector {
	setVectorDword(&d, imm&3, uint32(s[0]))
	return d
}

func insertQuadword(d, s vector, imm uint8) vector {
	d[imm&1] = s[0]
	return d
}

func extractByte(_, s vector, imm uint8) vector     { return vector{vectorByte(s, imm&15)} }
func extractWord(_, s vector, imm uint8) vector     { return vector{vectorWord(s, imm&7)} }
func extractDword(_, s vector, imm uint8) vector    { return vector{uint64(vectorDword(s, imm&3))} }
func extractQuadword(_, s vector, imm uint8) vector { return vector{s[imm&1]} }
func extractWordMMX(_, s uint64, imm uint8) uint64  { return s >> (imm & 3 * 16) & 0xffff }

// insertSingle is INSERTPS from a register; from memory bits 6 and 7 of the immediate count as 0.
func insertSingle(d, s vector, imm uint8) vector {
	setVectorDword(&d, imm>>4&3, vectorDword(s, imm>>6))
	return blendBy(blendMask(imm, 4), vector{}, d)
}

// widen takes the low lanes of from bits of s to to bits each.
func widen(from, to uint, signed bool) func(d, s vector, imm uint8) vector {
	return func(_, s vector, _ uint8) (r vector) {
		for i := range 128 / to {
			x := s[0] >> (i * from) << (64 - from)
			if signed {
				x = uint64(int64(x) >> (to - from) >> (64 - to))
			} else {
				x >>= 64 - from
			}
			x &= ^uint64(0) >> (64 - to)
			r[i*to>>6] |= x << (i * to & 63)
		}
		return r
	}
}

// signBits collects the top bits of the lanes of v.
func signBits(l lanes, v vector) (r uint64) {
	n := 64 / l.bits
	for q := range uint(2) {
		for i := range n {
			r |= v[q] >> (i*l.bits + l.bits - 1) & 1 << (q*n + i)
		}
	}
	return r
}

// byteSigns is PMOVMSKB on one quadword: the multiplication gathers the top bits of the bytes in the top byte.
func byteSigns(x uint64) uint64 { return x & 0x8080808080808080 >> 7 * 0x0102040810204080 >> 56 }

func moveMaskBytes(_, s vector, _ uint8) vector { return vector{byteSigns(s[0]) | byteSigns(s[1])<<8} }

func moveMaskBytesMMX(_, s uint64, _ uint8) uint64 {
	return byteSigns(s)
}
func moveMaskSingles(_, s vector, _ uint8) vector { return vector{signBits(dwords2, s)} }
func moveMaskDoubles(_, s vector, _ uint8) vector { return vector{signBits(quadword, s)} }

// minPosition is PHMINPOSUW.
func minPosition(_, s vector, _ uint8) vector {
	least, at := vectorWord(s, 0), uint64(0)
	for i := uint8(1); i < 8; i++ {
		if w := vectorWord(s, i); w < least {
			least, at = w, uint64(i)
		}
	}
	return vector{least | at<<16}
}

// multipleSumDifferences is MPSADBW.
func multipleSumDifferences(d, s vector, imm uint8) (r vector) {
	base, block := imm>>2&1*4, imm&3*4
	for i := range uint8(8) {
		sum := 0
		for j := range uint8(4) {
			x := int(vectorByte(d, base+i+j)) - int(vectorByte(s, block+j))
			sum += max(x, -x)
		}
		r[i>>2] |= uint64(sum) << (i & 3 * 16)
	}
	return r
}

// multiplyCarryless is PCLMULQDQ.
func multiplyCarryless(d, s vector, imm uint8) (r vector) {
	a, b := d[imm&1], s[imm>>4&1]
	for ; b != 0; b &= b - 1 {
		n := uint(bits.TrailingZeros64(b))
		r[0] ^= a << n
		r[1] ^= a >> (64 - n)
	}
	return r
}
