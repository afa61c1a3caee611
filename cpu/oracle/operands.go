package oracle

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/isa"
)

// operands chooses registers and memory so that the instruction finds its operands. It is false if it cannot.
func (g *generator) operands(d *dish, in *isa.Inst) bool {
	g.known = false
	if d.fault && g.oneIn(2) {
		return true
	}
	ok := true
	for i := range in.Args {
		o := &in.Args[i]
		switch o.Kind {
		case isa.KindMem:
			if o.Access == 0 && g.oneIn(2) {
				continue
			}
			ok = g.memory(d, in, o, d.kind[i]) && ok
		case isa.KindStrSrc, isa.KindStrDst:
			return g.stringOperands(d, in)
		}
	}
	if d.stack {
		g.stackOperands(d, in)
	}
	switch {
	case d.selector:
		return g.selectorOperand(in)
	case d.xsave:
		// x87 and SSE, which every host has. Others are in XCR0 or not.
		return g.setLow(isa.RAX, uint64(g.n(4)), 4) && g.setLow(isa.RDX, 0, 4) && ok
	}
	g.special(d, in)
	return ok
}

// memory aims a memory operand at an interesting address and puts data there.
func (g *generator) memory(d *dish, in *isa.Inst, o *isa.Operand, f flavour) bool {
	size := operandBytes(in, o)
	align := 1
	if o.Size >= 16 && d.Attr&isa.Unaligned == 0 && d.Op != isa.FNSAVE && d.Op != isa.FRSTOR && d.Op != isa.FLDENV && d.Op != isa.FNSTENV {
		align = 16
	}
	wide := in.AddrSize == 8 && (in.Base < 16 || in.Index < 16)
	high := in.Seg == isa.GS || in.Base != isa.RegRIP && wide && in.Seg != isa.FS && g.oneIn(4)
	if isMoffs(in) && in.AddrSize == 8 {
		high = g.oneIn(2)
	}
	la := g.address(size, align, wide, high, o.Access)
	bit := g.bitOffset(d, in)
	if !g.solve(in, la-bit) && g.percent(80) {
		return false
	}
	if la, g.known = g.effective(in); g.known {
		la += bit
		g.la = la
		if o.Access&isa.Read != 0 || g.oneIn(4) {
			g.data(la, size, d, f)
		}
	}
	return true
}

// operandBytes is the size of a memory operand, state images included.
func operandBytes(in *isa.Inst, o *isa.Operand) int {
	switch in.Op {
	case isa.FXSAVE, isa.FXRSTOR:
		return 512
	case isa.XSAVE, isa.XRSTOR, isa.XSAVEOPT, isa.XSAVEC:
		return 576
	}
	return max(1, int(o.Size))
}

func isMoffs(in *isa.Inst) bool {
	return in.Row.Opcode().Map == 0 && in.Row.Opcode().Opcode >= 0xa0 && in.Row.Opcode().Opcode <= 0xa3
}

// bitOffset chooses the bit number of BT and kin with a register, and returns how far from the address that moves the
// operand.
func (g *generator) bitOffset(d *dish, in *isa.Inst) uint64 {
	switch d.Op {
	case isa.BT, isa.BTS, isa.BTR, isa.BTC:
	default:
		return 0
	}
	reg := in.Args[1]
	if reg.Kind != isa.KindReg || reg.Reg == in.Base || reg.Reg == in.Index {
		return 0
	}
	if g.percent(80) {
		g.setLow(reg.Reg, uint64(g.in(-3000, 3000)), reg.Size)
	}
	v := int64(signExtend(g.c.In.GPR[reg.Reg], reg.Size))
	return uint64(v >> 3 &^ int64(reg.Size-1))
}

func signExtend(v uint64, size uint8) uint64 {
	shift := 64 - 8*uint(size)
	return uint64(int64(v<<shift) >> shift)
}

// data puts an operand's data at an address.
func (g *generator) data(la uint64, size int, d *dish, f flavour) {
	p := g.poke(la, size)
	if p == nil {
		return
	}
	switch f {
	case environment, saved, fxImage, xsaveImage:
		g.image(p, f, d)
	default:
		g.fill(p, f)
	}
	if f <= doubles && g.oneIn(4) {
		// Something like a register's value.
		switch {
		case size >= 4 && (f == singles || f == doubles || g.oneIn(2)):
			copy(p, g.c.In.xmm(g.n(16)))
			g.near(p, f)
		default:
			for i := range p {
				p[i] = byte(g.c.In.GPR[g.n(16)] >> (8 * (i & 7)))
			}
		}
	}
}

// image fills a state image: environments of 14 or 28 bytes, those plus 80 bytes of registers, FXSAVE images.
func (g *generator) image(p []byte, f flavour, d *dish) {
	var s State
	cw := g.control()
	sw := g.status(cw)
	le := binary.LittleEndian
	if f == fxImage || f == xsaveImage {
		le.PutUint16(s.FX[fxControl:], cw)
		le.PutUint16(s.FX[fxStatus:], sw)
		s.FX[fxTag] = g.tags()
		le.PutUint16(s.FX[fxOpcode:], uint16(g.n(0x800)))
		le.PutUint64(s.FX[fxIP:], g.next()>>17)
		le.PutUint64(s.FX[fxDP:], g.next()>>17)
		le.PutUint32(s.FX[fxMXCSR:], g.mxcsr())
		if g.oneIn(12) {
			le.PutUint32(s.FX[fxMXCSR:], g.mxcsr()|1<<g.in(18, 31))
		}
		for i := range 8 {
			g.float80(s.st(i))
		}
		for i := range 16 {
			g.fill(s.xmm(i), anyFlavour)
		}
		copy(p, s.FX[:])
		if f == xsaveImage && len(p) > 512 {
			header := p[512:]
			clear(header)
			header[0] = byte(g.n(4)) // XSTATE_BV
			switch {
			case g.oneIn(5) && len(header) > 15:
				header[8], header[15] = byte(g.n(4)), 0x80 // XCOMP_BV
			case g.oneIn(10):
				header[min(g.in(8, 63), len(header)-1)] |= 1 << g.n(8) // reserved
			}
		}
		return
	}
	g.byteVector(p)
	env := 28
	if len(p) == 14 || len(p) == 94 {
		env = 14
	}
	if len(p) < env {
		return
	}
	step := env / 7
	le.PutUint16(p, cw)
	le.PutUint16(p[step:], sw)
	for i := env; i+10 <= len(p); i += 10 {
		g.float80(p[i:])
	}
}

// address chooses a linear address for an access of size bytes: inside the data pages mostly, else at their edges and
// outside. wide says that all 64 bits can be reached, high prefers the upper mapping.
func (g *generator) address(size, align int, wide, high bool, access isa.Access) uint64 {
	base := uint64(dataBase)
	if high {
		base = highBase
	}
	at := func(off int) uint64 { return base + uint64(int64(off)) }
	fix := func(off int) int {
		if align > 1 && g.percent(85) {
			return off &^ (align - 1)
		}
		return off
	}
	natural := 1
	if size&(size-1) == 0 && size <= 16 {
		natural = size
	}
	switch k := g.n(100); {
	case k < 64:
		off := g.in(0, dataSize-size)
		if g.percent(70) {
			off &^= natural - 1
		}
		return at(fix(off))
	case k < 74:
		// Over the boundary of the two pages, or touching it.
		return at(fix(pageSize - g.n(size+1)))
	case k < 80:
		// At the end of what can be written; with a read, over it.
		if access&isa.Write != 0 && g.oneIn(2) {
			return at(fix(dataSize - size))
		}
		return at(fix(dataSize - g.n(size+1)))
	case k < 84:
		return at(fix(-g.n(size + 1)))
	case k < 89:
		return at(fix(dataSize + g.in(0, roSize-min(size, roSize))))
	case k < 92:
		return at(fix(dataSize + roSize - g.n(size+1)))
	case k < 94:
		return at(fix(dataSize + roSize + g.n(pageSize)))
	}
	if !wide || high && g.oneIn(2) {
		return at(fix(g.in(0, dataSize-size)))
	}
	switch g.n(4) {
	case 0:
		return 1<<47 - uint64(g.n(size+2)) // into the hole between the canonical halves
	case 1:
		return 0xffff_8000_0000_0000 - uint64(g.n(size+2))
	case 2:
		return g.next() // mostly not canonical
	}
	return uint64(g.in(-16, 64)) // around zero
}

// solve chooses registers and displacement so that the effective address is la.
func (g *generator) solve(in *isa.Inst, la uint64) bool {
	e := &g.enc
	ea := la
	switch in.Seg {
	case isa.FS:
		ea -= g.c.In.FSBase
	case isa.GS:
		ea -= g.c.In.GSBase
	}
	narrow := in.AddrSize == 4
	if narrow && ea>>32 != 0 {
		return false
	}
	wrap := func(v uint64) uint64 {
		if narrow {
			return signExtend(v, 4)
		}
		return v
	}
	if isMoffs(in) {
		g.putImmediate(in, ea, in.AddrSize)
		in.Disp = int64(ea)
		return true
	}
	if in.Op == isa.XLAT {
		ea -= g.c.In.GPR[isa.RAX] & 0xff
	}
	put := func(disp uint64) bool {
		disp = wrap(disp)
		if disp != signExtend(disp, uint8(max(1, e.size))) || e.size == 0 && disp != 0 {
			return false
		}
		for i := range e.size {
			e.b[e.disp+i] = byte(disp >> (8 * i))
		}
		in.Disp = int64(disp)
		return true
	}
	reg := func(r uint8, v uint64) bool {
		if narrow {
			v = v&0xffffffff | g.next()<<32
		}
		return g.set(r, v)
	}
	disp := uint64(in.Disp)
	base, index := in.Base, in.Index
	if base == isa.RegRIP {
		return put(ea - g.here() - uint64(in.Len))
	}
	value := func(r uint8) uint64 {
		if r >= 16 {
			return 0
		}
		return wrap(g.c.In.GPR[r])
	}
	var ok bool
	switch {
	case base >= 16 && index >= 16:
		ok = put(ea)
	case base == index && g.free(base):
		n := uint64(1)<<in.Scale + 1
		v := wrap(ea-disp) / n
		ok = reg(base, v)
		if rest := ea - v*n; rest != disp {
			put(rest)
		}
	case base < 16 && g.free(base):
		ok = reg(base, ea-disp-value(index)<<in.Scale)
	case index < 16 && g.free(index):
		rest := ea - disp - value(base)
		v := uint64(int64(wrap(rest)) >> in.Scale)
		if narrow {
			v = rest & 0xffffffff >> in.Scale
		}
		ok = reg(index, v)
		if left := ea - value(base) - v<<in.Scale; wrap(left) != wrap(disp) {
			put(left)
		}
	default:
		ok = put(ea - value(base) - value(index)<<in.Scale)
	}
	for _, r := range [2]uint8{base, index} {
		if r < 16 {
			g.pinned |= 1 << r
		}
	}
	return ok
}

// effective computes the linear address of the ModRM operand from the values that the case begins with. known is false
// if an earlier instruction may have changed one.
func (g *generator) effective(in *isa.Inst) (la uint64, known bool) {
	ea := uint64(in.Disp)
	known = true
	switch {
	case in.Base < 16:
		ea += g.c.In.GPR[in.Base]
		known = g.written>>in.Base&1 == 0
	case in.Base == isa.RegRIP:
		ea += g.here() + uint64(in.Len)
	}
	if in.Index < 16 {
		ea += g.c.In.GPR[in.Index] << in.Scale
		known = known && g.written>>in.Index&1 == 0
	}
	if in.Op == isa.XLAT {
		ea += g.c.In.GPR[isa.RAX] & 0xff
		known = known && g.written>>isa.RAX&1 == 0
	}
	if in.AddrSize == 4 {
		ea &= 0xffffffff
	}
	switch in.Seg {
	case isa.FS:
		ea += g.c.In.FSBase
	case isa.GS:
		ea += g.c.In.GSBase
	}
	return ea, known
}
