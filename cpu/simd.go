package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// packedOp is what a packed-integer instruction or a byte-moving one computes from the values of its operands: the
// destination d (where it is read), the source s and the immediate. An instruction without MMX form has no mmx.
type packedOp struct {
	xmm func(d, s vector, imm uint8) vector
	mmx func(d, s uint64, imm uint8) uint64
}

// byQuadword is an operation that treats both quadwords alike.
func byQuadword(f func(d, s uint64) uint64) packedOp {
	return packedOp{
		func(d, s vector, _ uint8) vector { return vector{f(d[0], s[0]), f(d[1], s[1])} },
		func(d, s uint64, _ uint8) uint64 { return f(d, s) },
	}
}

// byLane is an operation on lanes of some width.
func byLane(l lanes, f func(l lanes, d, s uint64) uint64) packedOp {
	return packedOp{
		func(d, s vector, _ uint8) vector { return vector{f(l, d[0], s[0]), f(l, d[1], s[1])} },
		func(d, s uint64, _ uint8) uint64 { return f(l, d, s) },
	}
}

// shifting is a shift of all lanes by the low quadword of the source, or by the immediate, which counts as one.
func shifting(l lanes, f func(l lanes, d, n uint64) uint64) packedOp {
	return packedOp{
		func(d, s vector, _ uint8) vector { return vector{f(l, d[0], s[0]), f(l, d[1], s[0])} },
		func(d, s uint64, _ uint8) uint64 { return f(l, d, s) },
	}
}

// narrowing is an operation that makes half of the result from d and half from s.
func narrowing(f func(x uint64) uint32) packedOp {
	return packedOp{
		func(d, s vector, _ uint8) vector {
			return vector{twoDwords(f(d[0]), f(d[1])), twoDwords(f(s[0]), f(s[1]))}
		},
		func(d, s uint64, _ uint8) uint64 { return twoDwords(f(d), f(s)) },
	}
}

// interleavingLow and interleavingHigh are PUNPCKL and PUNPCKH.
func interleavingLow(f func(d, s uint64) (lo, hi uint64)) packedOp {
	return packedOp{
		func(d, s vector, _ uint8) (r vector) { r[0], r[1] = f(d[0], s[0]); return r },
		func(d, s uint64, _ uint8) uint64 { lo, _ := f(d, s); return lo },
	}
}

func interleavingHigh(f func(d, s uint64) (lo, hi uint64)) packedOp {
	return packedOp{
		func(d, s vector, _ uint8) (r vector) { r[0], r[1] = f(d[1], s[1]); return r },
		func(d, s uint64, _ uint8) uint64 { _, hi := f(d, s); return hi },
	}
}

func xmmOnly(f func(d, s vector, imm uint8) vector) packedOp { return packedOp{xmm: f} }

// packedOps gives the operations of packed integers and those that only move bytes.
var packedOps = map[isa.Op]packedOp{
	isa.PADDB:   byLane(bytes8, addLanes),
	isa.PADDW:   byLane(words4, addLanes),
	isa.PADDD:   byLane(dwords2, addLanes),
	isa.PADDQ:   byLane(quadword, addLanes),
	isa.PSUBB:   byLane(bytes8, subLanes),
	isa.PSUBW:   byLane(words4, subLanes),
	isa.PSUBD:   byLane(dwords2, subLanes),
	isa.PSUBQ:   byLane(quadword, subLanes),
	isa.PADDSB:  byLane(bytes8, addSignedSaturate),
	isa.PADDSW:  byLane(words4, addSignedSaturate),
	isa.PADDUSB: byLane(bytes8, addUnsignedSaturate),
	isa.PADDUSW: byLane(words4, addUnsignedSaturate),
	isa.PSUBSB:  byLane(bytes8, subSignedSaturate),
	isa.PSUBSW:  byLane(words4, subSignedSaturate),
	isa.PSUBUSB: byLane(bytes8, subUnsignedSaturate),
	isa.PSUBUSW: byLane(words4, subUnsignedSaturate),
	isa.PCMPEQB: byLane(bytes8, equalLanes),
	isa.PCMPEQW: byLane(words4, equalLanes),
	isa.PCMPEQD: byLane(dwords2, equalLanes),
	isa.PCMPEQQ: byLane(quadword, equalLanes),
	isa.PCMPGTB: byLane(bytes8, greaterLanes),
	isa.PCMPGTW: byLane(words4, greaterLanes),
	isa.PCMPGTD: byLane(dwords2, greaterLanes),
	isa.PCMPGTQ: byLane(quadword, greaterLanes),
	isa.PMINUB:  byLane(bytes8, minUnsigned),
	isa.PMINUW:  byLane(words4, minUnsigned),
	isa.PMINUD:  byLane(dwords2, minUnsigned),
	isa.PMINSB:  byLane(bytes8, minSigned),
	isa.PMINSW:  byLane(words4, minSigned),
	isa.PMINSD:  byLane(dwords2, minSigned),
	isa.PMAXUB:  byLane(bytes8, maxUnsigned),
	isa.PMAXUW:  byLane(words4, maxUnsigned),
	isa.PMAXUD:  byLane(dwords2, maxUnsigned),
	isa.PMAXSB:  byLane(bytes8, maxSigned),
	isa.PMAXSW:  byLane(words4, maxSigned),
	isa.PMAXSD:  byLane(dwords2, maxSigned),
	isa.PAVGB:   byLane(bytes8, average),
	isa.PAVGW:   byLane(words4, average),
	isa.PABSB:   byLane(bytes8, absolute),
	isa.PABSW:   byLane(words4, absolute),
	isa.PABSD:   byLane(dwords2, absolute),
	isa.PSIGNB:  byLane(bytes8, sign),
	isa.PSIGNW:  byLane(words4, sign),
	isa.PSIGND:  byLane(dwords2, sign),

	isa.PAND:   byQuadword(and),
	isa.PANDN:  byQuadword(andNot),
	isa.POR:    byQuadword(or),
	isa.PXOR:   byQuadword(xor),
	isa.ANDPS:  byQuadword(and),
	isa.ANDPD:  byQuadword(and),
	isa.ANDNPS: byQuadword(andNot),
	isa.ANDNPD: byQuadword(andNot),
	isa.ORPS:   byQuadword(or),
	isa.ORPD:   byQuadword(or),
	isa.XORPS:  byQuadword(xor),
	isa.XORPD:  byQuadword(xor),

	isa.PMULLW:     byQuadword(multiplyLow),
	isa.PMULHW:     byQuadword(multiplyHigh),
	isa.PMULHUW:    byQuadword(multiplyHighUnsigned),
	isa.PMULHRSW:   byQuadword(multiplyHighRound),
	isa.PMULLD:     byQuadword(multiplyLowDwords),
	isa.PMULUDQ:    byQuadword(multiplyUnsignedDword),
	isa.PMULDQ:     byQuadword(multiplySignedDword),
	isa.PMADDWD:    byQuadword(multiplyAdd),
	isa.PMADDUBSW:  byQuadword(multiplyAddBytes),
	isa.PSADBW:     byQuadword(sumDifferences),
	isa.MPSADBW:    xmmOnly(multipleSumDifferences),
	isa.PHMINPOSUW: xmmOnly(minPosition),

	isa.PSLLW:  shifting(words4, shiftLeftLanes),
	isa.PSLLD:  shifting(dwords2, shiftLeftLanes),
	isa.PSLLQ:  shifting(quadword, shiftLeftLanes),
	isa.PSRLW:  shifting(words4, shiftRightLanes),
	isa.PSRLD:  shifting(dwords2, shiftRightLanes),
	isa.PSRLQ:  shifting(quadword, shiftRightLanes),
	isa.PSRAW:  shifting(words4, shiftArithmeticLanes),
	isa.PSRAD:  shifting(dwords2, shiftArithmeticLanes),
	isa.PSLLDQ: xmmOnly(func(d, _ vector, imm uint8) vector { return bytesLeft(d, imm) }),
	isa.PSRLDQ: xmmOnly(func(d, _ vector, imm uint8) vector { return bytesRight(d, imm) }),

	isa.PACKSSWB: narrowing(packWordsSigned),
	isa.PACKUSWB: narrowing(packWordsUnsigned),
	isa.PACKSSDW: narrowing(packDwordsSigned),
	isa.PACKUSDW: narrowing(packDwordsUnsigned),
	isa.PHADDW:   narrowing(addPairWords),
	isa.PHADDD:   narrowing(addPairDwords),
	isa.PHADDSW:  narrowing(addPairWordsSaturate),
	isa.PHSUBW:   narrowing(subPairWords),
	isa.PHSUBD:   narrowing(subPairDwords),
	isa.PHSUBSW:  narrowing(subPairWordsSaturate),

	isa.PUNPCKLBW:  interleavingLow(interleaveBytes),
	isa.PUNPCKLWD:  interleavingLow(interleaveWords),
	isa.PUNPCKLDQ:  interleavingLow(interleaveDwords),
	isa.PUNPCKLQDQ: interleavingLow(interleaveQuadwords),
	isa.PUNPCKHBW:  interleavingHigh(interleaveBytes),
	isa.PUNPCKHWD:  interleavingHigh(interleaveWords),
	isa.PUNPCKHDQ:  interleavingHigh(interleaveDwords),
	isa.PUNPCKHQDQ: interleavingHigh(interleaveQuadwords),
	isa.UNPCKLPS:   interleavingLow(interleaveDwords),
	isa.UNPCKLPD:   interleavingLow(interleaveQuadwords),
	isa.UNPCKHPS:   interleavingHigh(interleaveDwords),
	isa.UNPCKHPD:   interleavingHigh(interleaveQuadwords),

	isa.PSHUFB:    {shuffleBytes, shuffleBytesMMX},
	isa.PSHUFW:    {mmx: shuffleWords},
	isa.PSHUFD:    xmmOnly(shuffleDwords),
	isa.PSHUFHW:   xmmOnly(shuffleHighWords),
	isa.PSHUFLW:   xmmOnly(shuffleLowWords),
	isa.SHUFPS:    xmmOnly(shuffleSingles),
	isa.SHUFPD:    xmmOnly(shuffleDoubles),
	isa.MOVSLDUP:  xmmOnly(duplicateEvenSingles),
	isa.MOVSHDUP:  xmmOnly(duplicateOddSingles),
	isa.MOVDDUP:   xmmOnly(duplicateLow),
	isa.MOVHLPS:   xmmOnly(highToLow),
	isa.MOVLHPS:   xmmOnly(lowToHigh),
	isa.MOVHPS:    xmmOnly(lowToHigh), // the store: moveHigh
	isa.MOVHPD:    xmmOnly(lowToHigh),
	isa.PALIGNR:   {alignRight, alignRightMMX},
	isa.BLENDPS:   xmmOnly(blendSingles),
	isa.BLENDPD:   xmmOnly(blendDoubles),
	isa.PBLENDW:   xmmOnly(blendWords),
	isa.INSERTPS:  xmmOnly(insertSingle), // from memory: insertFromMemory
	isa.EXTRACTPS: xmmOnly(extractDword),
	isa.PINSRB:    xmmOnly(insertByte),
	isa.PINSRW:    {insertWord, insertWordMMX},
	isa.PINSRD:    xmmOnly(insertDword), // of 8 bytes: insertQuadword
	isa.PEXTRB:    xmmOnly(extractByte),
	isa.PEXTRW:    {extractWord, extractWordMMX},
	isa.PEXTRD:    xmmOnly(extractDword), // of 8 bytes: extractQuadword

	isa.PMOVSXBW: xmmOnly(widen(8, 16, true)),
	isa.PMOVSXBD: xmmOnly(widen(8, 32, true)),
	isa.PMOVSXBQ: xmmOnly(widen(8, 64, true)),
	isa.PMOVSXWD: xmmOnly(widen(16, 32, true)),
	isa.PMOVSXWQ: xmmOnly(widen(16, 64, true)),
	isa.PMOVSXDQ: xmmOnly(widen(32, 64, true)),
	isa.PMOVZXBW: xmmOnly(widen(8, 16, false)),
	isa.PMOVZXBD: xmmOnly(widen(8, 32, false)),
	isa.PMOVZXBQ: xmmOnly(widen(8, 64, false)),
	isa.PMOVZXWD: xmmOnly(widen(16, 32, false)),
	isa.PMOVZXWQ: xmmOnly(widen(16, 64, false)),
	isa.PMOVZXDQ: xmmOnly(widen(32, 64, false)),

	isa.PMOVMSKB: {moveMaskBytes, moveMaskBytesMMX},
	isa.MOVMSKPS: xmmOnly(moveMaskSingles),
	isa.MOVMSKPD: xmmOnly(moveMaskDoubles),

	isa.PCLMULQDQ:       xmmOnly(multiplyCarryless),
	isa.AESENC:          xmmOnly(aesEncrypt),
	isa.AESENCLAST:      xmmOnly(aesEncryptLast),
	isa.AESDEC:          xmmOnly(aesDecrypt),
	isa.AESDECLAST:      xmmOnly(aesDecryptLast),
	isa.AESIMC:          xmmOnly(aesInverseMix),
	isa.AESKEYGENASSIST: xmmOnly(aesKeyAssist),
}

// packedFor returns what in computes, which for a few operations depends on the form of the operands.
func packedFor(in *isa.Inst) (op packedOp, ok bool) {
	switch in.Op {
	case isa.MOVHPS, isa.MOVHPD:
		if in.Args[0].Kind == isa.KindMem {
			return xmmOnly(highToLow), true
		}
	case isa.INSERTPS:
		if in.Args[1].Kind == isa.KindMem {
			return xmmOnly(insertFromMemory), true
		}
	case isa.PINSRD:
		if in.Args[1].Size == 8 {
			return xmmOnly(insertQuadword), true
		}
	case isa.PEXTRD:
		if in.Args[0].Size == 8 {
			return xmmOnly(extractQuadword), true
		}
	}
	op, ok = packedOps[in.Op]
	return op, ok
}

func insertFromMemory(d, s vector, imm uint8) vector { return insertSingle(d, s, imm&0x3f) }

// permuteFunc returns the function by which an instruction moves bytes (taint.VerbPermute), nil if it has none. An MMX
// register is the low quadword of its vectors. Running it on shadow bytes, of which each is 0 or 0xff, tells which bytes
// of the result come from marked ones; the control of PSHUFB, which is its source, must then be the real value.
func permuteFunc(in *isa.Inst) func(dst, src [2]uint64, imm uint8) [2]uint64 {
	op, ok := packedFor(in)
	if !ok {
		return nil
	}
	if usesMMX(in) && op.mmx != nil {
		f := op.mmx
		return func(d, s [2]uint64, imm uint8) [2]uint64 { return [2]uint64{f(d[0], s[0], imm)} }
	}
	return op.xmm
}

// packedHandlers are the handlers of packedOps.
func packedHandlers() map[isa.Op]handler {
	m := map[isa.Op]handler{}
	for op, p := range packedOps {
		switch op {
		case isa.MOVHPS, isa.MOVHPD, isa.INSERTPS, isa.PINSRD, isa.PEXTRD:
			m[op] = packedByForm
		default:
			m[op] = packedHandler(p)
		}
	}
	return m
}

func packedByForm(c *CPU, u *uop) bool {
	switch u.Op {
	case isa.MOVHPS, isa.MOVHPD:
		if u.Args[0].Kind == isa.KindMem {
			return c.packedXMM(u, highToLow)
		}
		return c.packedXMM(u, lowToHigh)
	case isa.INSERTPS:
		if u.Args[1].Kind == isa.KindMem {
			return c.packedXMM(u, insertFromMemory)
		}
		return c.packedXMM(u, insertSingle)
	case isa.PINSRD:
		if u.Args[1].Size == 8 {
			return c.packedXMM(u, insertQuadword)
		}
		return c.packedXMM(u, insertDword)
	}
	if u.Args[0].Size == 8 {
		return c.packedXMM(u, extractQuadword)
	}
	return c.packedXMM(u, extractDword)
}

func packedHandler(p packedOp) handler {
	return func(c *CPU, u *uop) bool {
		if usesMMX(&u.Inst) {
			return c.packedMMX(u, p.mmx)
		}
		return c.packedXMM(u, p.xmm)
	}
}

func (c *CPU) packedXMM(u *uop, f func(d, s vector, imm uint8) vector) bool {
	if !c.sseReady() {
		return false
	}
	s, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	var d vector
	if u.Args[0].Kind == isa.KindXMM {
		d = c.fpu.xmm[u.Args[0].Reg&15]
	}
	return c.setVectorArg(u, 0, f(d, s, uint8(u.Imm)))
}

func (c *CPU) packedMMX(u *uop, f func(d, s uint64, imm uint8) uint64) bool {
	if !c.mmxReady() {
		return false
	}
	s, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	var d uint64
	if u.Args[0].Kind == isa.KindMMX {
		d = c.fpu.st[u.Args[0].Reg&7].Mant
	}
	if !c.setVectorArg(u, 0, vector{f(d, s[0], uint8(u.Imm))}) {
		return false
	}
	c.fpu.enterMMX()
	return true
}

// usesMMX reports whether one of the first two operands is an MMX register; no instruction has one only further on.
func usesMMX(in *isa.Inst) bool {
	return in.Args[0].Kind == isa.KindMMX || in.Args[1].Kind == isa.KindMMX
}

// sseReady checks that instructions on XMM registers may be executed (SDM vol. 3A, 14.1; vol. 2A, table 2-19).
func (c *CPU) sseReady() bool {
	if c.cr0&(cr0EM|cr0TS) == 0 && c.cr4&cr4OSFXSR != 0 {
		return true
	}
	if c.cr0&cr0EM != 0 || c.cr4&cr4OSFXSR == 0 {
		return c.raise(VectorUD)
	}
	return c.raise(VectorNM)
}

// vectorArg reads operand i of u: bytes above its size are zero.
func (c *CPU) vectorArg(u *uop, i int) (v vector, ok bool) {
	a := &u.Args[i]
	switch a.Kind {
	case isa.KindXMM:
		v = c.fpu.xmm[a.Reg&15]
		if a.Size < 16 {
			v = vector{v[0] & sizeMask[a.Size&15]}
		}
		return v, true
	case isa.KindMem:
		la, ok := c.address(u, a.Size, false)
		if !ok {
			return v, false
		}
		if a.Size == 16 {
			if la&15 != 0 && u.Row.Attr&isa.Unaligned == 0 {
				return v, c.gp(0)
			}
			return c.load128(la)
		}
		v[0], ok = c.load(la, a.Size)
		return v, ok
	case isa.KindMMX:
		return vector{c.fpu.st[a.Reg&7].Mant & sizeMask[a.Size&15]}, true
	case isa.KindReg:
		return vector{c.reg(a.Reg, a.Size)}, true
	case isa.KindImm:
		return vector{u.Imm}, true
	}
	return v, c.notImplemented("operand kind %d of %v read as a vector", a.Kind, u.Op)
}

// setVectorArg writes the low bytes of v, as many as operand i of u has. An XMM register keeps the others.
func (c *CPU) setVectorArg(u *uop, i int, v vector) bool {
	a := &u.Args[i]
	switch a.Kind {
	case isa.KindXMM:
		x := &c.fpu.xmm[a.Reg&15]
		switch a.Size {
		case 16:
			*x = v
		case 8:
			x[0] = v[0]
		default:
			x[0] = x[0]&^0xffffffff | v[0]&0xffffffff
		}
		return true
	case isa.KindMem:
		la, ok := c.address(u, a.Size, true)
		if !ok {
			return false
		}
		if a.Size == 16 {
			if la&15 != 0 && u.Row.Attr&isa.Unaligned == 0 {
				return c.gp(0)
			}
			return c.store128(la, v)
		}
		return c.store(la, a.Size, v[0])
	case isa.KindMMX:
		c.fpu.setMMX(a.Reg, v[0])
		return true
	case isa.KindReg:
		c.setReg(a.Reg, a.Size, v[0])
		return true
	}
	return c.notImplemented("operand kind %d of %v written as a vector", a.Kind, u.Op)
}
