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
		if !ok && (try < 9 || d.selector) {
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
	if d.selector {
		return g.selectorOperand(in)
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
		if written>>isa.RSP&1 == 0 {
			g.farFrame(&in, target)
		}
	case d.far:
		if known {
			size := int(in.OpSize)
			g.pokeWord(la, target, size)
			g.pokeWord(la+uint64(size), g.codeSelector(), 2)
		}
	case d.Op == isa.RET:
		if written>>isa.RSP&1 == 0 {
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
