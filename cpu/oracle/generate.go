package oracle

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/isa"
)

// generator makes cases. Each case depends on its seed and number only.
type generator struct {
	rng
	menu *menu
	seed uint64
	c    *Case
	slot slot
	enc  encoded

	// pinned are the general registers whose value at the beginning matters, written those that an instruction of the
	// case may have changed.
	pinned, written uint32
	undef           isa.Flags
	// la is the linear address of the current instruction's memory operand, if known.
	la    uint64
	known bool
	patch int // bytes of c.buffer in use
	arm   bool
	// alone is set if no other instruction may share the case.
	alone bool
}

func newGenerator(seed uint64, m *menu) *generator { return &generator{seed: seed, menu: m} }

// Make makes case n.
func (g *generator) Make(n uint64, c *Case) {
	g.rng = newRNG(g.seed, n)
	g.c, g.slot = c, slots[n%batchSize]
	g.pinned, g.written, g.undef, g.patch, g.arm, g.alone = 0, 0, 0, 0, false, false
	c.Code, c.Patches, c.Insts = c.Code[:0], c.Patches[:0], c.Insts[:0]
	c.Warm = g.oneIn(2)

	first := g.menu.all[g.n(len(g.menu.all))]
	g.registers(first)
	switch g.slot.kind {
	case slotPlain:
		c.Addr = g.slot.addr
	case slotCrossing:
		c.Addr = g.slot.edge - uint64(g.in(1, 24))
	case slotGuard:
		c.Addr = g.slot.edge - uint64(g.in(1, 36))
	}
	count := 1
	if g.percent(35) {
		count = g.in(2, 4)
	}
	// The row that the case is about may be anywhere in a sequence.
	at := g.n(count)
	if inexact[first.Op] {
		at = count - 1
	}
	g.c.In.RIP = c.Addr
	for i := range count {
		if g.alone {
			break
		}
		d := first
		if i != at {
			d = g.menu.flags[g.n(len(g.menu.flags))]
			if g.percent(30) {
				d = g.menu.all[g.n(len(g.menu.all))]
			}
			if inexact[d.Op] {
				continue
			}
		}
		if d.branch {
			if i == count-1 || i == at {
				g.branch(d)
				g.finish()
				return
			}
			continue
		}
		g.instruction(d)
	}
	g.end()
	g.finish()
}

// finish cuts code off that the slot has no room for.
func (g *generator) finish() {
	c := g.c
	if room := int(g.slot.end - c.Addr); len(c.Code) > room {
		c.Code = c.Code[:room]
	}
}

// here is the linear address of the next byte of code.
func (g *generator) here() uint64 { return g.c.Addr + uint64(len(g.c.Code)) }

// end writes a jump to endAddress that changes no register.
func (g *generator) end() {
	g.c.Code = appendEnd(g.c.Code, g.here())
}

// appendEnd appends a jump through memory to endAddress to code that goes on at the address at. The memory is aligned,
// so that alignment checks do not see it.
func appendEnd(code []byte, at uint64) []byte {
	pad := -(at + 6) & 7
	code = append(code, 0xff, 0x25, byte(pad), 0, 0, 0)
	for range pad {
		code = append(code, 0xcc)
	}
	return binary.LittleEndian.AppendUint64(code, endAddress)
}

// registers fills the state with biased values.
func (g *generator) registers(d *dish) {
	s := &g.c.In
	for i := range s.GPR {
		s.GPR[i] = g.integer()
	}
	s.GPR[isa.RSP] = dataBase + pageSize + uint64(g.in(-256, 256))*8
	if g.oneIn(6) {
		s.GPR[isa.RSP] += uint64(g.n(8))
	}
	s.FSBase, s.GSBase = defaultFS, defaultGS
	s.RFLAGS = 0x202 | g.next()&uint64(isa.FlagsStatus)
	if g.oneIn(12) || d.str && g.oneIn(3) {
		s.RFLAGS |= uint64(isa.FlagDF)
	}
	if g.oneIn(8) {
		s.RFLAGS |= g.next() & uint64(isa.FlagID|isa.FlagNT)
	}
	if g.oneIn(40) {
		s.RFLAGS |= uint64(isa.FlagAC)
	}

	le := binary.LittleEndian
	le.PutUint32(s.FX[fxMXCSR:], g.mxcsr())
	cw := g.control()
	sw := g.status(cw)
	tags := g.tags()
	if !d.x87 && g.oneIn(2) {
		cw, sw = 0x37f, uint16(g.n(8))<<11
	}
	le.PutUint16(s.FX[fxControl:], cw)
	le.PutUint16(s.FX[fxStatus:], sw)
	s.FX[fxTag] = tags
	le.PutUint16(s.FX[fxOpcode:], 0)
	le.PutUint64(s.FX[fxIP:], 0)
	le.PutUint64(s.FX[fxDP:], 0)
	if sw&0x80 != 0 {
		le.PutUint16(s.FX[fxOpcode:], uint16(g.n(0x800)))
		le.PutUint64(s.FX[fxIP:], g.next()>>17)
		le.PutUint64(s.FX[fxDP:], g.next()>>17)
	}
	for i := range 8 {
		st := s.st(i)
		switch {
		case d.x87:
			g.float80(st)
			if i > 0 && g.oneIn(5) {
				copy(st, s.st(g.n(i)))
				switch g.n(4) {
				case 0:
					st[9] ^= 0x80
				case 1:
					st[0] += byte(g.in(-1, 1))
				case 2:
					st[8] += byte(g.in(-3, 3))
				}
			}
		case g.oneIn(3):
			g.float80(st)
		default:
			g.byteVector(st[:8])
			st[8], st[9] = 0xff, 0xff
		}
	}
	for i := range 16 {
		x := s.xmm(i)
		if i > 0 && g.oneIn(4) {
			copy(x, s.xmm(g.n(i)))
			g.near(x, d.vectors)
			continue
		}
		f := d.vectors
		if g.oneIn(10) {
			f = anyFlavour
		}
		g.fill(x, f)
	}
}

// free reports whether the case may still choose what a register begins with, and have the instruction see it.
func (g *generator) free(reg uint8) bool { return reg < 16 && (g.pinned|g.written)>>reg&1 == 0 }

// set chooses a register's value, if it may.
func (g *generator) set(reg uint8, v uint64) bool {
	if !g.free(reg) {
		return false
	}
	g.c.In.GPR[reg] = v
	g.pinned |= 1 << reg
	return true
}

// setLow chooses the low bytes of a register.
func (g *generator) setLow(reg uint8, v uint64, size uint8) bool {
	if size < 8 {
		mask := uint64(1)<<(8*size) - 1
		v = g.c.In.GPR[reg&15]&^mask | v&mask
	}
	return g.set(reg, v)
}

// poke chooses what memory holds at the beginning, as far as it is one of the writable pages.
func (g *generator) poke(la uint64, size int) []byte {
	base := uint64(dataBase)
	if la >= highBase-pageSize {
		base = highBase
	}
	off := int64(la - base)
	if off < 0 || off >= dataSize || len(g.c.Patches) >= 24 {
		return nil
	}
	size = min(size, dataSize-int(off))
	room := (size + 7) &^ 7
	if g.patch+room > len(g.c.buffer) {
		return nil
	}
	p := g.c.buffer[g.patch:][:size]
	clear(p)
	g.patch += room
	g.c.Patches = append(g.c.Patches, Patch{la, p})
	return p
}

// pokeWord is poke of a number.
func (g *generator) pokeWord(la, v uint64, size int) {
	p := g.poke(la, size)
	for i := range p {
		p[i] = byte(v >> (8 * i))
	}
}

// instruction appends an instruction of a row. It gives up if the state of the case leaves no way to.
func (g *generator) instruction(d *dish) bool {
	for try := range 12 {
		g.encode(d, &g.enc)
		in, err := isa.Decode(g.enc.b[:g.enc.n+16], isa.Mode64, Features)
		if err != nil {
			tooLong := err == isa.ErrTooLong && d.Op != isa.UD0 && d.Op != isa.UD1 // see allow.go
			if (tooLong || g.locked()) && g.oneIn(4) {
				g.c.Code = append(g.c.Code, g.enc.b[:g.enc.n]...) // it faults
				return true
			}
			continue
		}
		if in.Row != d.Row || in.FlagsRead()&g.undef != 0 && !d.fault {
			continue
		}
		g.immediate(d, &in)
		ok := g.operands(d, &in)
		if !ok && (try < 9 || d.selector || d.xsave) {
			continue
		}
		// Displacement and immediate may have changed.
		if in, err = isa.Decode(g.enc.b[:in.Len], isa.Mode64, Features); err != nil || in.Row != d.Row {
			continue
		}
		g.append(d, &in)
		return true
	}
	return false
}

// locked reports whether the encoding has a LOCK prefix.
func (g *generator) locked() bool {
	for _, b := range g.enc.b[:g.enc.n] {
		switch {
		case b == 0xf0:
			return true
		case b == 0x0f:
			return false
		}
	}
	return false
}

// append adds the current instruction to the case and notes what it changes.
func (g *generator) append(d *dish, in *isa.Inst) {
	g.undef = undefinedAfter(in, g.undef, g.c.In.GPR[isa.RCX], g.written>>isa.RCX&1 == 0)
	g.c.Insts = append(g.c.Insts, CaseInst{Addr: g.here(), Inst: *in, Undef: g.undef, Arm: g.arm})
	g.c.Code = append(g.c.Code, g.enc.b[:in.Len]...)
	for i := range in.Args {
		g.noteWrite(in.Args[i])
	}
	for i := range in.Row.Implicit {
		g.noteWrite(in.Implicit(i))
	}
	if d.str {
		g.written |= 1<<isa.RSI | 1<<isa.RDI
	}
}

func (g *generator) noteWrite(o isa.Operand) {
	if (o.Kind == isa.KindReg || o.Kind == isa.KindHigh) && o.Access&isa.Write != 0 {
		g.written |= 1 << o.Reg
	}
}

// putImmediate replaces the last bytes of the encoding.
func (g *generator) putImmediate(in *isa.Inst, v uint64, size uint8) {
	p := g.enc.b[in.Len-size : in.Len]
	for i := range p {
		p[i] = byte(v >> (8 * i))
	}
}

// immediate biases the immediate.
func (g *generator) immediate(d *dish, in *isa.Inst) {
	for i := range in.Args {
		o := &in.Args[i]
		if o.Kind != isa.KindImm {
			continue
		}
		v := in.Imm
		switch {
		case d.Op == isa.ENTER:
			size, level := uint64(g.n(256)), uint64(g.n(6))
			if g.oneIn(8) {
				size = g.next() & 0xffff
			}
			if g.oneIn(4) {
				level = uint64(g.n(256))
			}
			g.putImmediate(in, size|level<<16, 3)
			return
		case d.UndefWhen == isa.UndefShift || d.UndefWhen == isa.UndefRotate || d.UndefWhen == isa.UndefDoubleShift:
			if g.percent(70) {
				v = uint64(g.n(int(in.Args[0].Size)*8 + 2))
			}
		case d.Op == isa.INT:
			if g.oneIn(2) {
				v = uint64(g.n(5))
			}
			for v&0xff == 0x80 || v&0xff >= 0x17 && v&0xff < 0x20 {
				v = g.next() // a system call; vectors that the hypervisor of a host was seen to use itself
			}
		case d.Op == isa.RET:
			v = uint64(g.n(64))
		default:
			return
		}
		g.putImmediate(in, v, o.Size)
		in.Imm = v
	}
}
