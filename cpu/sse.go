package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// sseHandlers are all instructions on XMM registers, and those that have a form for them.
func sseHandlers() map[isa.Op]handler {
	m := packedHandlers()
	for op, h := range floatHandlers() {
		m[op] = h
	}
	for op, h := range stringCompareHandlers() {
		m[op] = h
	}
	for _, op := range []isa.Op{
		isa.MOVD, isa.MOVQ, isa.MOVDQA, isa.MOVDQU, isa.MOVQ2DQ, isa.MOVDQ2Q, isa.MOVNTDQ, isa.MOVUPS, isa.MOVUPD,
		isa.MOVSS, isa.MOVSD, isa.MOVAPS, isa.MOVAPD, isa.MOVLPS, isa.MOVLPD, isa.LDDQU, isa.MOVNTPS, isa.MOVNTPD,
		isa.MOVNTDQA,
	} {
		m[op] = moveVector
	}
	m[isa.MASKMOVDQU] = maskMove
	m[isa.PBLENDVB] = blendVariable(bytes8)
	m[isa.BLENDVPS] = blendVariable(dwords2)
	m[isa.BLENDVPD] = blendVariable(quadword)
	m[isa.PTEST] = packedTest
	return m
}

// moveVector copies the source, zero-extended, to as many bytes as the destination has.
func moveVector(c *CPU, u *uop) bool {
	a, b := u.Args[0].Kind, u.Args[1].Kind
	if (a == isa.KindXMM || b == isa.KindXMM) && !c.sseReady() {
		return false
	}
	mmx := a == isa.KindMMX || b == isa.KindMMX
	if mmx && !c.mmxReady() {
		return false
	}
	v, ok := c.vectorArg(u, 1)
	if !ok || !c.setVectorArg(u, 0, v) {
		return false
	}
	if mmx {
		c.fpu.enterMMX()
	}
	return true
}

// maskMove is MASKMOVQ and MASKMOVDQU: it stores those bytes of the first register whose byte in the second has its top
// bit set. The whole operand must be writable, whatever the mask (SDM vol. 2, MASKMOVQ, leaves that open; so does
// silicon here).
func maskMove(c *CPU, u *uop) bool {
	mmx := usesMMX(&u.Inst)
	if mmx && !c.mmxReady() || !mmx && !c.sseReady() {
		return false
	}
	v, _ := c.vectorArg(u, 1)
	mask, _ := c.vectorArg(u, 2)
	size := u.Args[0].Size & 31
	la, ok := c.address(u, size, true)
	if !ok {
		return false
	}
	for i := uint64(0); i < uint64(size); i += 8 {
		if !c.probeWrite(c.wrapLinear(la+i), 8) {
			return false
		}
	}
	for i := range size {
		if vectorByte(mask, i)&0x80 != 0 && !c.store8(c.wrapLinear(la+uint64(i)), uint8(vectorByte(v, i))) {
			return false
		}
	}
	if mmx {
		c.fpu.enterMMX()
	}
	return true
}

// blendVariable takes the lanes of the source where XMM0 has their top bit set.
func blendVariable(l lanes) handler {
	return func(c *CPU, u *uop) bool {
		m := c.fpu.xmm[0]
		return c.packedXMM(u, func(d, s vector, _ uint8) vector {
			return vector{choose(l.fill(m[0]), s[0], d[0]), choose(l.fill(m[1]), s[1], d[1])}
		})
	}
}

// packedTest is PTEST.
func packedTest(c *CPU, u *uop) bool {
	if !c.sseReady() {
		return false
	}
	s, ok := c.vectorArg(u, 1)
	if !ok {
		return false
	}
	d := c.fpu.xmm[u.Args[0].Reg&15]
	var w uint64
	if s[0]&d[0]|s[1]&d[1] == 0 {
		w |= FlagZF
	}
	if s[0]&^d[0]|s[1]&^d[1] == 0 {
		w |= FlagCF
	}
	c.f.setWord(w)
	return true
}
