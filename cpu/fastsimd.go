package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// Handlers of the most frequent vector instructions, by operand form. As those of fast.go they do what the general one
// does, and call it whenever there is more to it: a TLB miss, a misaligned operand, a unit that is switched off.

// vectorForm is the form of the operands: X is an XMM register, M memory, G a general register, I an immediate.
type vectorForm uint8

const (
	formXX vectorForm = iota + 1
	formXM
	formMX
	formXG
	formGX
	formXI
)

// vectorKey names a fast handler.
type vectorKey struct {
	op   isa.Op
	form vectorForm
	size uint8 // of the memory or general operand, else 16
}

// fastSIMD returns a handler made for the operand form of u, nil if there is none. fastHandler has prepared u.
func fastSIMD(u *uop) handler {
	key := vectorKey{op: u.Op, size: 16}
	switch a, b := &u.Args[0], &u.Args[1]; {
	case a.Kind == isa.KindXMM && b.Kind == isa.KindXMM:
		key.form = formXX
	case a.Kind == isa.KindXMM && b.Kind == isa.KindMem:
		key.form, key.size = formXM, b.Size
	case a.Kind == isa.KindMem && b.Kind == isa.KindXMM:
		key.form, key.size = formMX, a.Size
	case a.Kind == isa.KindXMM && b.Kind == isa.KindImm:
		key.form = formXI
	case a.Kind == isa.KindXMM && b.Kind == isa.KindReg:
		key.form, key.size = formXG, b.Size
	case a.Kind == isa.KindReg && b.Kind == isa.KindXMM:
		key.form, key.size = formGX, a.Size
	default:
		return nil
	}
	return fastVectors[key]
}

// sseOn is sseReady without consequences.
func (c *CPU) sseOn() bool { return c.cr0&(cr0EM|cr0TS) == 0 && c.cr4&cr4OSFXSR != 0 }

func (c *CPU) xmmArg(u *uop, i int) *vector { return &c.fpu.xmm[u.Args[i].Reg&15] }

// misaligned reports whether a 16-byte operand must be refused (#GP).
func misaligned(u *uop, la uint64) bool { return la&15 != 0 && u.Row.Attr&isa.Unaligned == 0 }

var fastVectors = func() map[vectorKey]handler {
	m := map[vectorKey]handler{}
	for _, op := range []isa.Op{isa.MOVAPS, isa.MOVAPD, isa.MOVUPS, isa.MOVUPD, isa.MOVDQA, isa.MOVDQU} {
		m[vectorKey{op, formXX, 16}] = fastMoveXX
		m[vectorKey{op, formXM, 16}] = fastMoveXM
		m[vectorKey{op, formMX, 16}] = fastMoveMX
	}
	m[vectorKey{isa.LDDQU, formXM, 16}] = fastMoveXM
	for _, op := range []isa.Op{isa.MOVNTDQ, isa.MOVNTPS, isa.MOVNTPD} {
		m[vectorKey{op, formMX, 16}] = fastMoveMX
	}
	m[vectorKey{isa.MOVQ, formXM, 8}] = fastLoad8
	m[vectorKey{isa.MOVSD, formXM, 8}] = fastLoad8
	m[vectorKey{isa.MOVD, formXM, 8}] = fastLoad8
	m[vectorKey{isa.MOVSS, formXM, 4}] = fastLoad4
	m[vectorKey{isa.MOVD, formXM, 4}] = fastLoad4
	for _, op := range []isa.Op{isa.MOVQ, isa.MOVSD, isa.MOVD, isa.MOVLPS, isa.MOVLPD} {
		m[vectorKey{op, formMX, 8}] = fastStore8
	}
	m[vectorKey{isa.MOVSS, formMX, 4}] = fastStore4
	m[vectorKey{isa.MOVD, formMX, 4}] = fastStore4
	m[vectorKey{isa.MOVD, formXG, 8}] = fastMoveXG
	m[vectorKey{isa.MOVD, formXG, 4}] = fastMoveXG
	m[vectorKey{isa.MOVD, formGX, 8}] = fastMoveGX
	m[vectorKey{isa.MOVD, formGX, 4}] = fastMoveGX
	m[vectorKey{isa.MOVHPS, formXM, 8}] = fastLoadHigh
	m[vectorKey{isa.MOVHPD, formXM, 8}] = fastLoadHigh
	m[vectorKey{isa.MOVHPS, formMX, 8}] = fastStoreHigh
	m[vectorKey{isa.MOVHPD, formMX, 8}] = fastStoreHigh
	m[vectorKey{isa.PMOVMSKB, formGX, 4}] = fastPMOVMSKB

	for op, p := range packedOps {
		f := p.xmm
		if f == nil {
			continue
		}
		switch op {
		case isa.MOVHPS, isa.MOVHPD, isa.INSERTPS, isa.PINSRD, isa.PEXTRD, isa.PINSRB, isa.PINSRW, isa.PEXTRB, isa.PEXTRW,
			isa.EXTRACTPS, isa.PMOVMSKB, isa.MOVMSKPS, isa.MOVMSKPD, isa.MOVHLPS, isa.MOVLHPS:
			continue
		case isa.PSLLW, isa.PSLLD, isa.PSLLQ, isa.PSRLW, isa.PSRLD, isa.PSRLQ, isa.PSRAW, isa.PSRAD:
			m[vectorKey{op, formXI, 16}] = fastPackedXI(f)
		case isa.PSLLDQ, isa.PSRLDQ:
			m[vectorKey{op, formXI, 16}] = fastPackedXI(f)
			continue
		}
		m[vectorKey{op, formXX, 16}] = fastPackedXX(f)
		m[vectorKey{op, formXM, 16}] = fastPackedXM(f)
	}
	m[vectorKey{isa.PXOR, formXX, 16}] = fastXorXX
	m[vectorKey{isa.XORPS, formXX, 16}] = fastXorXX
	m[vectorKey{isa.XORPD, formXX, 16}] = fastXorXX
	m[vectorKey{isa.PAND, formXX, 16}] = fastAndXX
	m[vectorKey{isa.POR, formXX, 16}] = fastOrXX
	m[vectorKey{isa.PCMPEQB, formXX, 16}] = fastPCMPEQBXX
	m[vectorKey{isa.PCMPEQB, formXM, 16}] = fastPCMPEQBXM
	m[vectorKey{isa.PMINUB, formXX, 16}] = fastPMINUBXX
	m[vectorKey{isa.PADDD, formXX, 16}] = fastPADDDXX
	m[vectorKey{isa.PADDQ, formXX, 16}] = fastPADDQXX

	m[vectorKey{isa.ADDSD, formXX, 16}] = fastADDSDXX
	m[vectorKey{isa.ADDSD, formXM, 8}] = fastADDSDXM
	m[vectorKey{isa.SUBSD, formXX, 16}] = fastSUBSDXX
	m[vectorKey{isa.SUBSD, formXM, 8}] = fastSUBSDXM
	m[vectorKey{isa.MULSD, formXX, 16}] = fastMULSDXX
	m[vectorKey{isa.MULSD, formXM, 8}] = fastMULSDXM
	m[vectorKey{isa.DIVSD, formXX, 16}] = fastDIVSDXX
	m[vectorKey{isa.ADDSS, formXX, 16}] = fastADDSSXX
	m[vectorKey{isa.MULSS, formXX, 16}] = fastMULSSXX
	m[vectorKey{isa.COMISD, formXX, 16}] = fastCOMISDXX
	m[vectorKey{isa.UCOMISD, formXX, 16}] = fastUCOMISDXX
	return m
}()

func fastMoveXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	*c.xmmArg(u, 0) = *c.xmmArg(u, 1)
	return true
}

func fastMoveXM(c *CPU, u *uop) bool {
	la := c.ea(u)
	p := c.readable128(la)
	if p == nil || misaligned(u, la) || !c.sseOn() {
		return c.slow(u)
	}
	*c.xmmArg(u, 0) = *p
	return true
}

func fastMoveMX(c *CPU, u *uop) bool {
	la := c.ea(u)
	p := c.writable128(la)
	if p == nil || misaligned(u, la) || !c.sseOn() {
		return c.slow(u)
	}
	*p = *c.xmmArg(u, 1)
	return true
}

func fastLoad8(c *CPU, u *uop) bool {
	p := c.readable64(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	*c.xmmArg(u, 0) = vector{*p}
	return true
}

func fastLoad4(c *CPU, u *uop) bool {
	p := c.readable32(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	*c.xmmArg(u, 0) = vector{uint64(*p)}
	return true
}

func fastLoadHigh(c *CPU, u *uop) bool {
	p := c.readable64(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	c.xmmArg(u, 0)[1] = *p
	return true
}

func fastStore8(c *CPU, u *uop) bool {
	p := c.writable64(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	*p = c.xmmArg(u, 1)[0]
	return true
}

func fastStore4(c *CPU, u *uop) bool {
	p := c.writable32(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	*p = uint32(c.xmmArg(u, 1)[0])
	return true
}

func fastStoreHigh(c *CPU, u *uop) bool {
	p := c.writable64(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	*p = c.xmmArg(u, 1)[1]
	return true
}

func fastMoveXG(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	*c.xmmArg(u, 0) = vector{c.reg(u.Args[1].Reg, u.Args[1].Size)}
	return true
}

func fastMoveGX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	c.r[u.Args[0].Reg&31] = c.xmmArg(u, 1)[0] & sizeMask[u.Args[0].Size]
	return true
}

func fastPMOVMSKB(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	v := c.xmmArg(u, 1)
	c.r[u.Args[0].Reg&31] = byteSigns(v[0]) | byteSigns(v[1])<<8
	return true
}

func fastPackedXX(f func(d, s vector, imm uint8) vector) handler {
	return func(c *CPU, u *uop) bool {
		if !c.sseOn() {
			return c.slow(u)
		}
		d := c.xmmArg(u, 0)
		*d = f(*d, *c.xmmArg(u, 1), uint8(u.Imm))
		return true
	}
}

func fastPackedXI(f func(d, s vector, imm uint8) vector) handler {
	return func(c *CPU, u *uop) bool {
		if !c.sseOn() {
			return c.slow(u)
		}
		d := c.xmmArg(u, 0)
		*d = f(*d, vector{u.Imm}, uint8(u.Imm))
		return true
	}
}

func fastPackedXM(f func(d, s vector, imm uint8) vector) handler {
	return func(c *CPU, u *uop) bool {
		la := c.ea(u)
		p := c.readable128(la)
		if p == nil || misaligned(u, la) || !c.sseOn() {
			return c.slow(u)
		}
		d := c.xmmArg(u, 0)
		*d = f(*d, *p, uint8(u.Imm))
		return true
	}
}

func fastXorXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d, s := c.xmmArg(u, 0), c.xmmArg(u, 1)
	d[0], d[1] = d[0]^s[0], d[1]^s[1]
	return true
}

func fastAndXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d, s := c.xmmArg(u, 0), c.xmmArg(u, 1)
	d[0], d[1] = d[0]&s[0], d[1]&s[1]
	return true
}

func fastOrXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d, s := c.xmmArg(u, 0), c.xmmArg(u, 1)
	d[0], d[1] = d[0]|s[0], d[1]|s[1]
	return true
}

func fastPCMPEQBXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d, s := c.xmmArg(u, 0), c.xmmArg(u, 1)
	d[0], d[1] = equalLanes(bytes8, d[0], s[0]), equalLanes(bytes8, d[1], s[1])
	return true
}

func fastPCMPEQBXM(c *CPU, u *uop) bool {
	la := c.ea(u)
	s := c.readable128(la)
	if s == nil || la&15 != 0 || !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	d[0], d[1] = equalLanes(bytes8, d[0], s[0]), equalLanes(bytes8, d[1], s[1])
	return true
}

func fastPMINUBXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d, s := c.xmmArg(u, 0), c.xmmArg(u, 1)
	d[0], d[1] = minUnsigned(bytes8, d[0], s[0]), minUnsigned(bytes8, d[1], s[1])
	return true
}

func fastPADDDXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d, s := c.xmmArg(u, 0), c.xmmArg(u, 1)
	d[0], d[1] = addLanes(dwords2, d[0], s[0]), addLanes(dwords2, d[1], s[1])
	return true
}

func fastPADDQXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d, s := c.xmmArg(u, 0), c.xmmArg(u, 1)
	d[0], d[1] = d[0]+s[0], d[1]+s[1]
	return true
}

// Scalar arithmetic. The operation's name is all that differs, but a call through a variable would cost as much as the
// operation itself.

func fastADDSDXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish64(d, c.simdEnv().Add64(d[0], c.xmmArg(u, 1)[0]))
}

func fastADDSDXM(c *CPU, u *uop) bool {
	p := c.readable64(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish64(d, c.simdEnv().Add64(d[0], *p))
}

func fastSUBSDXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish64(d, c.simdEnv().Sub64(d[0], c.xmmArg(u, 1)[0]))
}

func fastSUBSDXM(c *CPU, u *uop) bool {
	p := c.readable64(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish64(d, c.simdEnv().Sub64(d[0], *p))
}

func fastMULSDXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish64(d, c.simdEnv().Mul64(d[0], c.xmmArg(u, 1)[0]))
}

func fastMULSDXM(c *CPU, u *uop) bool {
	p := c.readable64(c.ea(u))
	if p == nil || !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish64(d, c.simdEnv().Mul64(d[0], *p))
}

func fastDIVSDXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish64(d, c.simdEnv().Div64(d[0], c.xmmArg(u, 1)[0]))
}

func fastADDSSXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish32(d, c.simdEnv().Add32(uint32(d[0]), uint32(c.xmmArg(u, 1)[0])))
}

func fastMULSSXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	d := c.xmmArg(u, 0)
	return c.finish32(d, c.simdEnv().Mul32(uint32(d[0]), uint32(c.xmmArg(u, 1)[0])))
}

func fastCOMISDXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	o := c.simdEnv().Compare64(c.xmmArg(u, 0)[0], c.xmmArg(u, 1)[0], true)
	if !c.simdFlags() {
		return false
	}
	c.f.setWord(orderFlags(o))
	return true
}

func fastUCOMISDXX(c *CPU, u *uop) bool {
	if !c.sseOn() {
		return c.slow(u)
	}
	o := c.simdEnv().Compare64(c.xmmArg(u, 0)[0], c.xmmArg(u, 1)[0], false)
	if !c.simdFlags() {
		return false
	}
	c.f.setWord(orderFlags(o))
	return true
}

// finish64 and finish32 store the result of a scalar operation unless it raised an unmasked exception.
func (c *CPU) finish64(d *vector, r uint64) bool {
	if !c.simdFlags() {
		return false
	}
	d[0] = r
	return true
}

func (c *CPU) finish32(d *vector, r uint32) bool {
	if !c.simdFlags() {
		return false
	}
	d[0] = d[0]&^0xffffffff | uint64(r)
	return true
}
