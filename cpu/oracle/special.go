package oracle

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/isa"
)

// stringOperands sets up RSI, RDI, RCX and data for a string instruction.
func (g *generator) stringOperands(d *dish, in *isa.Inst) bool {
	size := int(in.OpSize)
	narrow := in.AddrSize == 4
	repeated := in.Prefix&(isa.PrefixRep|isa.PrefixRepne) != 0
	count := 1
	if repeated {
		count = g.n(20)
		if g.oneIn(10) {
			count = g.n(600)
		}
		v := uint64(count)
		if g.oneIn(40) {
			v = g.integer() // until a fault, or a difference
		}
		if narrow {
			v = v&0xffffffff | g.next()<<32
		}
		if !g.set(isa.RCX, v) && g.written>>isa.RCX&1 != 0 && g.percent(80) {
			return false // the count is not known
		}
	}
	var src, dst uint64
	ok := true
	for i := range in.Args {
		reg, access := isa.RSI, isa.Read
		seg := in.Seg
		switch in.Args[i].Kind {
		case isa.KindStrSrc:
		case isa.KindStrDst:
			reg, seg = isa.RDI, isa.ES
			if d.Op != isa.SCAS && d.Op != isa.CMPS {
				access = isa.Write
			}
		default:
			continue
		}
		la := g.address(size, 1, !narrow && seg == isa.ES, seg == isa.GS || !narrow && seg != isa.FS && g.oneIn(5), access)
		if g.oneIn(3) {
			// Near the ends, so that the string runs over them.
			la = g.address(min(size*max(count, 1), dataSize), 1, false, seg == isa.GS, access)
		}
		ea := la
		switch seg {
		case isa.FS:
			ea -= g.c.In.FSBase
		case isa.GS:
			ea -= g.c.In.GSBase
		}
		if narrow {
			if ea>>32 != 0 {
				ea = uint64(dataBase + g.n(dataSize))
				la = ea
			}
			ea |= g.next() << 32
		}
		ok = g.set(reg, ea) && ok
		if reg == isa.RSI {
			src = la
		} else {
			dst = la
		}
	}
	// Sources that are equal for a while.
	n := min(size*max(count, 1), 200)
	down := g.c.In.RFLAGS&uint64(isa.FlagDF) != 0
	start := func(la uint64) uint64 {
		if down {
			return la - uint64(n) + uint64(size)
		}
		return la
	}
	switch {
	case d.Op == isa.CMPS && g.percent(80):
		p, q := g.poke(start(src), n), g.poke(start(dst), n)
		g.byteVector(p)
		copy(q, p)
		if len(q) > 0 && g.percent(70) {
			q[g.n(len(q))] ^= 1 << g.n(8)
		}
	case d.Op == isa.SCAS && g.percent(80):
		p := g.poke(start(dst), n)
		for i := range p {
			p[i] = byte(g.c.In.GPR[isa.RAX] >> (8 * (i & (size - 1))))
		}
		if len(p) > 0 && g.percent(70) {
			p[g.n(len(p))] ^= 1 << g.n(8)
		}
	}
	return ok
}

// stackOperands aims RSP, and puts data where it points.
func (g *generator) stackOperands(d *dish, in *isa.Inst) {
	if g.oneIn(12) && g.free(isa.RSP) {
		size := max(1, int(in.OpSize))
		high := g.oneIn(2)
		g.set(isa.RSP, g.address(size, 1, true, high, isa.Read|isa.Write)+uint64(g.n(2)*size))
	}
	if g.written>>isa.RSP&1 != 0 {
		return
	}
	g.pinned |= 1 << isa.RSP
	sp := g.c.In.GPR[isa.RSP]
	switch d.Op {
	case isa.POPF:
		g.pokeWord(sp, g.flags(), 8)
	case isa.POP:
		if g.oneIn(2) {
			g.pokeWord(sp, g.integer(), 8)
		}
	case isa.ENTER, isa.LEAVE:
		if g.percent(85) {
			g.set(isa.RBP, g.address(8, 1, true, g.oneIn(2), isa.Read|isa.Write))
		}
	}
}

// selectorOperand gives LAR and kin one of the selectors whose descriptors Linux has fixed. The operand may be read
// with 16 bits or more.
func (g *generator) selectorOperand(in *isa.Inst) bool {
	sel := [...]uint64{0, 3, selUserCS, selUserSS, selUserCS &^ 3, selUserSS &^ 3}[g.n(6)]
	switch o := in.Args[in.Row.NumArgs()-1]; {
	case o.Kind == isa.KindReg:
		return g.setLow(o.Reg, sel, 2)
	case !g.known || len(g.c.Insts) > 0:
		return false
	default:
		g.alone = true // others could overwrite it
		g.pokeWord(g.la, sel, 2)
		off := g.la - dataBase
		if g.la >= highBase-pageSize {
			off = g.la - highBase
		}
		return off+2 <= dataSize || off >= dataSize+roSize // no selector by chance in the read-only page
	}
}

// flags is an image of RFLAGS to be loaded.
func (g *generator) flags() uint64 {
	v := g.next()
	if g.percent(90) {
		v &^= uint64(isa.FlagTF)
	}
	if g.oneIn(2) {
		v &^= uint64(isa.FlagAC | isa.FlagNT)
	}
	return v
}

// special prepares what an operation needs beyond operands that can be accessed.
func (g *generator) special(d *dish, in *isa.Inst) {
	dst := in.Args[0]
	switch d.Op {
	case isa.DIV, isa.IDIV:
		g.division(in)
	case isa.CMPXCHG:
		if g.oneIn(2) {
			g.equalAccumulator(dst)
		}
	case isa.CMPXCHG8B, isa.CMPXCHG16B:
		if g.known && g.oneIn(2) {
			size := int(dst.Size) / 2
			g.pokeWord(g.la, g.c.In.GPR[isa.RAX], size)
			g.pokeWord(g.la+uint64(size), g.c.In.GPR[isa.RDX], size)
		}
	case isa.LOOP, isa.LOOPE, isa.LOOPNE, isa.JCXZ:
		v := uint64(g.n(3))
		if g.oneIn(4) {
			v |= g.next() << 32
		}
		g.set(isa.RCX, v)
	case isa.PCMPESTRI, isa.PCMPESTRM, isa.PCMPISTRI, isa.PCMPISTRM:
		for _, r := range [2]uint8{isa.RAX, isa.RDX} {
			if g.percent(80) && g.free(r) {
				g.c.In.GPR[r] = uint64(int64(g.in(-20, 20)))
			}
		}
		if g.percent(80) {
			for i := range in.Args {
				switch o := &in.Args[i]; {
				case o.Kind == isa.KindXMM:
					g.text(g.c.In.xmm(int(o.Reg)))
				case o.Kind == isa.KindMem && g.known:
					g.text(g.poke(g.la, 16))
				}
			}
		}
	case isa.FBSTP, isa.FPREM, isa.FPREM1, isa.FSCALE, isa.F2XM1, isa.FYL2X, isa.FYL2XP1, isa.FPATAN, isa.FPTAN, isa.FSIN, isa.FCOS, isa.FSINCOS:
		g.ordinary(d)
	}
	if d.UndefWhen != isa.UndefAlways && dst.Kind != isa.KindNone {
		for _, o := range in.Args[1:3] {
			if o.Kind == isa.KindReg && o.Reg == isa.RCX && o.Size == 1 && g.percent(75) {
				g.setLow(isa.RCX, uint64(g.n(int(dst.Size)*8+2)), 1)
			}
		}
	}
}

// text fills a vector with few different bytes or words, and an end.
func (g *generator) text(p []byte) {
	wide := g.oneIn(2)
	for i := range p {
		p[i] = "aAbz09"[g.n(6)] + byte(g.n(2)*g.n(100))
		if wide && i&1 != 0 {
			p[i] = byte(g.n(8) / 7)
		}
	}
	if len(p) > 0 && g.oneIn(2) {
		at := g.n(len(p)) &^ 1
		p[at] = 0
		if wide && at+1 < len(p) {
			p[at+1] = 0
		}
	}
}

// ordinary puts operands on the x87 stack that are in an operation's domain.
func (g *generator) ordinary(d *dish) {
	if g.oneIn(2) {
		return
	}
	for i := range 2 {
		st := g.c.In.st(i)
		e := g.in(-12, 12)
		switch {
		case d.Op == isa.F2XM1:
			e = g.in(-70, 0)
		case d.Op == isa.FYL2XP1 && i == 0:
			e = g.in(-70, -2)
		case d.Op == isa.FBSTP:
			e = g.in(-3, 60)
		case g.oneIn(4):
			e = g.in(-70, 66)
		}
		m := 1<<63 | g.next()
		if g.oneIn(3) {
			m &^= 1<<g.n(63) - 1
		}
		binary.LittleEndian.PutUint64(st, m)
		binary.LittleEndian.PutUint16(st[8:], uint16(16383+e-1)|uint16(g.n(2))<<15)
		if d.Op == isa.FYL2X && i == 0 {
			st[9] &= 0x7f
		}
	}
	g.c.In.FX[fxTag] |= 1<<uint(g.c.In.top()&7) | 1<<uint((g.c.In.top()+1)&7)
}

// equalAccumulator makes CMPXCHG find its comparand.
func (g *generator) equalAccumulator(dst isa.Operand) {
	switch {
	case dst.Kind == isa.KindMem && g.known:
		g.pokeWord(g.la, g.c.In.GPR[isa.RAX], int(dst.Size))
	case dst.Kind == isa.KindReg && g.free(dst.Reg):
		g.setLow(dst.Reg, g.c.In.GPR[isa.RAX], dst.Size)
	}
}

// division chooses dividends whose quotient fits, mostly.
func (g *generator) division(in *isa.Inst) {
	o := in.Args[0]
	size := o.Size
	bits := 8 * uint(size)
	mask := ^uint64(0) >> (64 - bits)
	// The divisor.
	v := g.integer() & mask
	if v == 0 && g.percent(80) {
		v = 1 + uint64(g.n(100))
	}
	switch {
	case o.Kind == isa.KindMem && g.known:
		g.pokeWord(g.la, v, int(size))
	case o.Kind == isa.KindReg && o.Reg != isa.RAX && o.Reg != isa.RDX:
		g.setLow(o.Reg, v, size)
	}
	if g.oneIn(5) {
		return
	}
	lo := g.integer() & mask
	hi := uint64(0)
	switch {
	case in.Op == isa.IDIV && g.oneIn(2):
		hi = uint64(int64(signExtend(lo, size))>>63) & mask
	case v != 0 && g.oneIn(2):
		hi = g.next() % v
		if in.Op == isa.IDIV {
			hi = hi >> 1
			if g.oneIn(2) {
				hi, lo = ^hi&mask, -lo&mask
			}
		}
	}
	if size == 1 {
		g.setLow(isa.RAX, lo|hi<<8, 2)
		return
	}
	g.setLow(isa.RAX, lo, size)
	g.setLow(isa.RDX, hi, size)
}
