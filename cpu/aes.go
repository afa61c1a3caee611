package cpu

import "math/bits"

// The AES instructions (SDM vol. 1, 12.13; FIPS 197). The state is a vector whose byte 4c+r is row r of column c.

// aesBox and aesUnbox are the substitution box of FIPS 197 and its inverse.
var aesBox, aesUnbox = aesBoxes()

func aesBoxes() (box, unbox [256]uint8) {
	// p runs through all elements but zero, q through their inverses.
	p, q := uint8(1), uint8(1)
	for {
		p ^= p<<1 ^ p>>7*0x1b
		q ^= q << 1
		q ^= q << 2
		q ^= q << 4
		q ^= q >> 7 * 0x09
		box[p] = q ^ bits.RotateLeft8(q, 1) ^ bits.RotateLeft8(q, 2) ^ bits.RotateLeft8(q, 3) ^ bits.RotateLeft8(q, 4) ^ 0x63
		if p == 1 {
			break
		}
	}
	box[0] = 0x63
	for i, b := range box {
		unbox[b] = uint8(i)
	}
	return box, unbox
}

// aesSubstitute moves row r by r columns (turn is 4, or 12 for the inverse) and substitutes each byte.
func aesSubstitute(v vector, box *[256]uint8, turn uint8) (r vector) {
	for i := range uint8(16) {
		from := (i + i&3*turn) & 15
		r[i>>3] |= uint64(box[vectorByte(v, from)]) << (i & 7 * 8)
	}
	return r
}

// aesMix multiplies each column by a circulant matrix with this first row.
func aesMix(v vector, row [4]uint8) (r vector) {
	for i := range uint8(16) {
		var b uint8
		for k := range uint8(4) {
			b ^= aesMultiply(uint8(vectorByte(v, i&^3+(i+k)&3)), row[k])
		}
		r[i>>3] |= uint64(b) << (i & 7 * 8)
	}
	return r
}

func aesMultiply(a, b uint8) (r uint8) {
	for ; b != 0; b >>= 1 {
		r ^= a * (b & 1)
		a = a<<1 ^ a>>7*0x1b
	}
	return r
}

var aesMixRow, aesUnmixRow = [4]uint8{2, 3, 1, 1}, [4]uint8{14, 11, 13, 9}

func xorVectors(a, b vector) vector { return vector{a[0] ^ b[0], a[1] ^ b[1]} }

func aesEncrypt(d, s vector, _ uint8) vector {
	return xorVectors(aesMix(aesSubstitute(d, &aesBox, 4), aesMixRow), s)
}

func aesEncryptLast(d, s vector, _ uint8) vector {
	return xorVectors(aesSubstitute(d, &aesBox, 4), s)
}

func aesDecrypt(d, s vector, _ uint8) vector {
	return xorVectors(aesMix(aesSubstitute(d, &aesUnbox, 12), aesUnmixRow), s)
}

func aesDecryptLast(d, s vector, _ uint8) vector {
	return xorVectors(aesSubstitute(d, &aesUnbox, 12), s)
}

func aesInverseMix(_, s vector, _ uint8) vector { return aesMix(s, aesUnmixRow) }

func aesKeyAssist(_, s vector, imm uint8) (r vector) {
	for q := range s {
		x := uint32(s[q] >> 32)
		w := uint32(aesBox[uint8(x)]) | uint32(aesBox[uint8(x>>8)])<<8 | uint32(aesBox[uint8(x>>16)])<<16 | uint32(aesBox[x>>24])<<24
		r[q] = twoDwords(w, bits.RotateLeft32(w, -8)^uint32(imm))
	}
	return r
}
