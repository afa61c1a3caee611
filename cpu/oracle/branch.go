package oracle

import (
	"github.com/hybridbridge/emu/cpu/isa"
)

// farFrame puts what RETF and IRET pop on the stack.
func (g *generator) farFrame(in *isa.Inst, target uint64) {
	size := int(in.OpSize)
	at := g.c.In.GPR[isa.RSP]
	push := func(v uint64) {
		g.pokeWord(at, v, size)
		at += uint64(size)
	}
	push(target)
	push(g.codeSelector())
	if in.Op == isa.RET_FAR {
		return
	}
	push(g.flags())
	sp := dataBase + uint64(g.n(dataSize))
	if size == 8 && g.oneIn(3) {
		sp = g.integer()
	}
	push(sp)
	ss := uint64(selUserSS)
	if g.oneIn(8) {
		ss = [...]uint64{0, 3, selUserCS, selUserSS &^ 3}[g.n(4)]
	}
	push(ss | g.next()<<16)
}

// codeSelector is CS for a far branch: mostly that of the case.
func (g *generator) codeSelector() uint64 {
	cs := uint64(selUserCS)
	if g.oneIn(8) {
		cs = [...]uint64{0, 3, selUserCS &^ 3, selUserSS, selKernelCS}[g.n(5)]
	}
	return cs | g.next()<<16
}

// marker changes R11 and no flag: LEA R11,[R11+n].
func (g *generator) marker(n byte) {
	g.c.Code = append(g.c.Code, 0x4d, 0x8d, 0x5b, n)
	g.written |= 1 << isa.R11
}

// branch appends a near branch, what it falls through to, and its target, which lies before the first instruction or
// behind the last.
func (g *generator) branch(d *dish) {
	c := g.c
	first := len(c.Insts)
	var in isa.Inst
	for try := 0; ; try++ {
		if try == 40 {
			g.end()
			return
		}
		g.encode(d, &g.enc)
		var err error
		in, err = isa.Decode(g.enc.b[:g.enc.n+16], isa.Mode64, Features)
		if err == nil && in.Row == d.Row && in.FlagsRead()&g.undef == 0 {
			g.immediate(d, &in)
			if g.operands(d, &in) || try > 30 {
				break
			}
		}
	}
	at := len(c.Code)
	la, known := g.la, g.known
	stackKnown := g.written>>isa.RSP&1 == 0
	g.append(d, &in)
	next := g.here()
	reg := in.Args[0].Reg
	settable := in.Args[0].Kind == isa.KindReg && g.free(reg)
	if settable {
		g.pinned |= 1 << reg
	}

	// What follows. The registers that one path changes are as good as changed on the other.
	pinned, written, undef := g.pinned, g.written, g.undef
	g.arm = true
	if g.oneIn(3) {
		g.instruction(g.follower())
	}
	g.end()
	target := g.here()
	g.marker(0x22)
	after := g.written
	g.written, g.undef = written|1<<isa.R11, undef
	g.pinned |= pinned
	if g.oneIn(3) {
		g.instruction(g.follower())
	}
	g.end()
	g.written |= after

	if g.oneIn(25) && in.Args[0].Kind != isa.KindRel {
		target = [...]uint64{dataBase + uint64(g.n(dataSize)), g.next(), 1<<47 + uint64(g.n(16)), uint64(g.n(4096)), codeBase + 2*pageSize}[g.n(5)]
	}
	in = c.Insts[first].Inst
	switch o := in.Args[0]; {
	case o.Kind == isa.KindRel:
		rel := target - next
		if g.oneIn(30) && o.Size == 4 {
			rel = signExtend(g.next(), 4) &^ (1 << 30)
			if to := next + rel; to >= codeBase-groupSize && to < codeBase+(codeGroups+1)*groupSize || to >= blobBase-pageSize && to < ctlBase+2*pageSize {
				rel = target - next // not into other code
			}
		}
		p := c.Code[at+int(in.Len)-int(o.Size):]
		for i := range o.Size {
			p[i] = byte(rel >> (8 * i))
		}
		c.Insts[first].Imm = rel
	case d.Op == isa.RET_FAR || d.Op == isa.IRET:
		if stackKnown {
			g.farFrame(&in, target)
		}
	case d.far:
		if known {
			size := int(in.OpSize)
			g.pokeWord(la, target, size)
			g.pokeWord(la+uint64(size), g.codeSelector(), 2)
		}
	case d.Op == isa.RET:
		if stackKnown {
			g.pokeWord(c.In.GPR[isa.RSP], target, 8)
		}
	case o.Kind == isa.KindReg:
		if settable {
			c.In.GPR[reg] = target
		}
	case o.Kind == isa.KindMem && known:
		g.pokeWord(la, target, 8)
	}
}

// follower is a row for an instruction on a path behind a branch.
func (g *generator) follower() *dish {
	return g.menu.flags[g.n(len(g.menu.flags))]
}
