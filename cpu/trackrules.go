package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/taint"
)

// follow works out what u, which is about to execute, does to taint. It changes nothing but the tracker's notes.
func (c *CPU) follow(u *uop) {
	t := c.track
	t.nreg, t.nmem = 0, 0
	t.string.active = false
	if t.opt.Observer != nil {
		c.observeOperands(u)
	}
	if u.Row.Attr&(isa.Rep|isa.Repe) != 0 {
		c.beginString(u)
		return
	}
	switch u.Op {
	case isa.PUSH:
		c.setMemTaint(c.stackTop(-int64(u.OpSize)), int(u.OpSize), c.taintOf(u, u.Args[0]))
		return
	case isa.POP:
		c.followPop(u)
		return
	case isa.CALL, isa.CALL_IND, isa.PUSH_SEG:
		c.setMemTaint(c.stackTop(-int64(u.OpSize)), int(u.OpSize), taint.Clean)
		return
	case isa.IRET, isa.SYSCALL, isa.SYSRET, isa.SYSENTER, isa.SYSEXIT:
		c.followReturn(u)
		return
	case isa.RDFSBASE, isa.RDGSBASE:
		c.setTaint(u, u.Args[0], t.regs.Segment[baseSegment(u.Op)])
		return
	case isa.WRFSBASE, isa.WRGSBASE:
		t.setReg(&t.regs.Segment[baseSegment(u.Op)], c.taintOf(u, u.Args[0]))
		return
	}
	switch u.Row.Taint {
	case taint.VerbNone:
		c.setTaints(u, func(o isa.Operand) taint.Mask {
			if o.Kind == isa.KindFSW && o.Access&isa.Read != 0 {
				return t.regs.FPUStatus // FINCSTP, FNCLEX and kin keep the condition codes
			}
			return taint.Clean
		})
		if u.Row.Writes&isa.FlagsStatus == isa.FlagsStatus {
			c.taintFlags(u, taint.Clean)
		}
	case taint.VerbCopy:
		if u.Op == isa.FSTP && isFSTPNCE(u) && c.fpu.empty(0) {
			return // it only pops
		}
		m := c.copied(u)
		c.setTaints(u, func(isa.Operand) taint.Mask { return m })
	case taint.VerbSignExtend:
		c.followSignExtend(u)
	case taint.VerbExchange:
		a, b := u.Args[0], u.Args[1]
		ma, mb := c.taintOf(u, a), c.taintOf(u, b)
		c.setTaint(u, a, mb)
		c.setTaint(u, b, ma)
	case taint.VerbBitwise:
		c.followBitwise(u)
	case taint.VerbCarry:
		c.followCarry(u)
	case taint.VerbCompare:
		m := c.sourceTaint(u)
		c.taintFlags(u, m)
		c.setTaints(u, func(isa.Operand) taint.Mask { return m })
	case taint.VerbShiftLeft, taint.VerbShiftRight, taint.VerbRotate:
		c.followShift(u)
	case taint.VerbMix:
		m := c.sourceTaint(u)
		switch u.Op {
		case isa.BSF, isa.BSR:
			c.followBitScan(u)
			return
		case isa.LAR, isa.LSL:
			// A descriptor of the local table; or nothing at all is written, not even the upper half.
			if a := u.Args[0]; c.taintOf(u, u.Args[1]) != 0 {
				c.setTaint(u, a, taint.All(int(a.Size)))
				if a.Size == 4 {
					t.setReg(&t.regs.GPR[a.Reg], taint.All(8))
				}
			}
			c.taintFlags(u, c.taintOf(u, u.Args[1]))
			return
		case isa.FPREM, isa.FPREM1, isa.FSIN, isa.FCOS: // quotient bits, whether the reduction is complete
			t.setReg(&t.regs.FPUStatus, t.regs.FPUStatus|m.Spread(1))
		case isa.FSINCOS, isa.FPTAN: // these replace ST(0) before they push
			if e := c.fpu.reg(0).SE & 0x7fff; m == 0 && !c.fpu.empty(0) && e >= 16383+63 && e != 0x7fff {
				return // out of range: only C2 tells
			}
			t.setReg(&t.regs.FPUStatus, t.regs.FPUStatus|m.Spread(1))
			c.setST(c.fpu.top, m.Spread(10))
		case isa.FXTRACT:
			c.setST(c.fpu.top, m.Spread(10))
		}
		c.setTaints(u, func(o isa.Operand) taint.Mask { return m.Spread(int(o.Size)) })
		c.taintFlags(u, m)
	case taint.VerbLane:
		m := c.sourceTaint(u)
		if len(u.Args) > 2 && u.Args[1].Size < u.Args[0].Size && u.Args[1].Kind != isa.KindImm {
			m = m.Spread(int(u.Args[0].Size))
		}
		c.setTaints(u, func(o isa.Operand) taint.Mask { return taint.Lanes(m, int(u.Row.Lane), int(o.Size)) })
	case taint.VerbPermute:
		c.followPermute(u)
	case taint.VerbSelect:
		c.followSelect(u)
	case taint.VerbSetCC:
		m := t.regs.Flags
		c.setTaints(u, func(o isa.Operand) taint.Mask { return m.Spread(int(o.Size)) })
	case taint.VerbAddress:
		c.followAddress(u)
	case taint.VerbSpecial:
		c.followSpecial(u)
	}
}

// baseSegment is the segment register that RDFSBASE and its kin name.
func baseSegment(op isa.Op) uint8 {
	if op == isa.RDGSBASE || op == isa.WRGSBASE {
		return isa.GS
	}
	return isa.FS
}

// observeOperands tells the observer of tainted addresses of memory operands, string pointers and branch targets.
func (c *CPU) observeOperands(u *uop) {
	for i := range u.Args {
		a := u.Args[i]
		if a.Kind == isa.KindMem && a.Access != 0 {
			if la, ok := c.operandAddress(u, a.Size); ok {
				c.observe(u, la, a)
			}
		}
	}
	if u.Op != isa.JMP_IND && u.Op != isa.CALL_IND && u.Op != isa.RET {
		return
	}
	var m taint.Mask
	var target uint64
	if u.Op == isa.RET {
		la := c.stackTop(0)
		m = c.memTaint(la, int(u.OpSize))
		if m != 0 {
			target, _ = c.peek(la, u.OpSize)
		}
	} else if m = c.taintOf(u, u.Args[0]); m != 0 {
		target = c.peekOperand(u, 0)
	}
	if m != 0 {
		c.track.opt.Observer.TaintedAddress(TaintedAccess{
			RIP: c.start(u), Address: target, Size: int(u.OpSize), Branch: true, Pointer: m, Index: m,
		})
	}
}

// peek reads RAM for a rule that depends on values, without any side effect.
func (c *CPU) peek(la uint64, size uint8) (v uint64, ok bool) {
	for i := range uint64(size) {
		at := c.wrapLinear(la + i)
		pa, ok := c.dataAddress(at, accessRead)
		if !ok {
			return 0, false
		}
		page, _ := c.mem.Page(pa &^ pageMask)
		v |= uint64(page[pa&pageMask]) << (8 * i)
	}
	return v, true
}

// peekOperand is peek for operand i. The value is 0 where it cannot be read.
func (c *CPU) peekOperand(u *uop, i int) uint64 {
	if u.Args[i].Kind == isa.KindMem {
		la, ok := c.operandAddress(u, u.Args[i].Size)
		if !ok {
			return 0
		}
		v, _ := c.peek(la, u.Args[i].Size)
		return v
	}
	v, _ := c.read(u, i)
	return v
}

// stackTop is the linear address delta bytes from the stack pointer.
func (c *CPU) stackTop(delta int64) uint64 {
	sp := c.r[isa.RSP] + uint64(delta)
	if c.mode == isa.Mode64 {
		return sp
	}
	return c.wrapLinear(c.seg[isa.SS].Base + sp&sizeMask[c.stackSize()])
}

// frameAddress is the linear address delta bytes from the frame pointer.
func (c *CPU) frameAddress(delta int) uint64 {
	la := c.r[isa.RBP] + uint64(int64(delta))
	if c.mode == isa.Mode64 {
		return la
	}
	return c.wrapLinear(c.seg[isa.SS].Base + la&sizeMask[c.stackSize()])
}

// followPop is POP: a memory destination is addressed with the stack pointer as it is after the pop.
func (c *CPU) followPop(u *uop) {
	m := c.memTaint(c.stackTop(0), int(u.OpSize))
	if a := u.Args[0]; a.Kind == isa.KindMem && u.Base == isa.RSP {
		if la, ok := c.operandAddress(u, a.Size); ok {
			c.setMemTaint(la+uint64(u.OpSize), int(u.OpSize), m)
		}
		return
	}
	c.setTaint(u, u.Args[0], m)
}

// copied returns the taint of what a copying instruction copies.
func (c *CPU) copied(u *uop) taint.Mask {
	for i := range u.Args {
		a := u.Args[i]
		if a.Access&isa.Read != 0 && a.Kind != isa.KindImm {
			return c.taintOf(u, a)
		}
	}
	for i := range u.Row.Implicit {
		if o := u.Implicit(i); o.Access == isa.Read {
			return c.taintOf(u, o)
		}
	}
	return taint.Clean
}

func (c *CPU) followSignExtend(u *uop) {
	if u.Row.NumArgs() == 2 {
		m := taint.SignExtend(c.taintOf(u, u.Args[1]), int(u.Args[1].Size), int(u.Args[0].Size))
		c.setTaint(u, u.Args[0], m)
		return
	}
	// CBW and kin extend rAX within itself; CWD and kin fill rDX with its sign.
	r := &c.track.regs
	size := int(u.OpSize)
	if u.Op == isa.CBW {
		c.track.setGPR(isa.RAX, u.OpSize, taint.SignExtend(r.GPR[isa.RAX], size/2, size))
		return
	}
	c.track.setGPR(isa.RDX, u.OpSize, (r.GPR[isa.RAX] >> (size - 1) & 1).Spread(size))
}

// sameRegister reports whether the two operands are one register, so that XOR, SUB and their like are constant.
func sameRegister(a, b isa.Operand) bool {
	return a.Kind == b.Kind && a.Reg == b.Reg && (a.Kind == isa.KindReg || a.Kind == isa.KindXMM || a.Kind == isa.KindMMX || a.Kind == isa.KindHigh)
}

func (c *CPU) followBitwise(u *uop) {
	a, b := u.Args[0], u.Args[1]
	if u.Row.NumArgs() == 1 { // NOT
		c.setTaint(u, a, c.taintOf(u, a))
		return
	}
	var m taint.Mask
	switch u.Op {
	case isa.XOR, isa.PXOR, isa.XORPS, isa.XORPD, isa.PANDN, isa.ANDNPS, isa.ANDNPD:
		if !sameRegister(a, b) {
			m = c.taintOf(u, a) | c.taintOf(u, b)
		}
	case isa.BTS, isa.BTR, isa.BTC:
		c.followBitTest(u)
		return
	case isa.AND, isa.OR:
		ma, mb := c.taintOf(u, a), c.taintOf(u, b)
		if m = ma | mb; m != 0 && !sameRegister(a, b) {
			va, vb := c.peekOperand(u, 0), c.peekOperand(u, 1)
			if u.Op == isa.AND {
				m = taint.And(ma, mb, va, vb)
			} else {
				m = taint.Or(ma, mb, va, vb)
			}
		}
	default:
		m = c.taintOf(u, a) | c.taintOf(u, b)
	}
	m = m.Cut(int(a.Size))
	c.setTaint(u, a, m)
	c.taintFlags(u, m)
}

// followBitTest is BTS, BTR and BTC: a tainted bit number may change any byte of the operand; a clean one leaves the
// taint of its byte as it is, since only one bit of it becomes known.
func (c *CPU) followBitTest(u *uop) {
	a := u.Args[0]
	number := c.taintOf(u, u.Args[1])
	m := c.taintOf(u, a)
	if a.Kind == isa.KindMem {
		// The byte that is touched may lie beyond the operand: its taint does not change with a clean number.
		if number != 0 {
			c.setTaint(u, a, m|number.Spread(int(a.Size)))
		}
	} else {
		c.setTaint(u, a, m|number.Spread(int(a.Size)))
	}
	c.taintFlags(u, m|number)
}

// followBitScan is BSF and BSR, which leave their destination, upper half included, as it is if the source is zero.
func (c *CPU) followBitScan(u *uop) {
	m := c.taintOf(u, u.Args[1])
	a := u.Args[0]
	switch {
	case m != 0 && a.Size == 4:
		c.track.setReg(&c.track.regs.GPR[a.Reg], taint.All(8))
	case m != 0:
		c.setTaint(u, a, taint.All(int(a.Size)))
	case c.peekOperand(u, 1)&sizeMask[a.Size] != 0:
		c.setTaint(u, a, taint.Clean)
	}
	c.taintFlags(u, m)
}

func (c *CPU) followCarry(u *uop) {
	t := c.track
	a := u.Args[0]
	if u.Row.FPUStack != 0 || u.Op == isa.LOOP || u.Op == isa.LOOPE || u.Op == isa.LOOPNE {
		m := t.regs.GPR[isa.RCX].Cut(int(u.AddrSize))
		t.setGPR(isa.RCX, u.AddrSize, taint.Carry(m, int(u.AddrSize)))
		return
	}
	size := int(a.Size)
	m := c.sourceTaint(u)
	if u.Row.NumArgs() == 2 && sameRegister(a, u.Args[1]) {
		switch u.Op {
		case isa.SUB:
			m = taint.Clean
		case isa.SBB:
			m = t.regs.Flags
		}
	}
	r := taint.Carry(m, size)
	if r != 0 && t.opt.PointerPart && size == t.space.Width && (u.Op == isa.ADD || u.Op == isa.SUB) && u.Args[1].Kind != isa.KindNone {
		vb := c.peekOperand(u, 1)
		if u.Op == isa.SUB {
			vb = -vb
		}
		r = t.space.PointerPart(
			taint.Part{Value: c.peekOperand(u, 0), Taint: c.taintOf(u, a)},
			taint.Part{Value: vb, Taint: c.taintOf(u, u.Args[1])})
	}
	c.setTaints(u, func(isa.Operand) taint.Mask { return r })
	c.taintFlags(u, m)
}

// followAddress is LEA.
func (c *CPU) followAddress(u *uop) {
	r := &c.track.regs
	base := r.GPR[min(u.Base, isa.RegRIP)]
	index := taint.ShiftLeft(r.GPR[min(u.Index, isa.RegNone)], int(u.Scale&3), 8)
	m := base | index
	if m == 0 {
		c.setTaint(u, u.Args[0], taint.Clean)
		return
	}
	if c.track.opt.PointerPart && int(u.OpSize) == c.track.space.Width {
		m = c.track.space.PointerPart(
			taint.Part{Value: c.r[u.Base&31], Taint: base},
			taint.Part{Value: c.r[u.Index&31] << (u.Scale & 3), Taint: index},
			taint.Part{Value: uint64(u.Disp)})
	}
	c.setTaint(u, u.Args[0], taint.Carry(m.Cut(int(u.AddrSize)), int(u.Args[0].Size)))
}

func (c *CPU) followShift(u *uop) {
	a := u.Args[0]
	size := int(a.Size)
	last := u.Row.NumArgs() - 1
	countTaint := c.taintOf(u, u.Args[last])
	count := 1
	if u.Args[last].Kind != isa.KindOne {
		count = int(c.peekOperand(u, last))
	}
	if a.Kind == isa.KindXMM || a.Kind == isa.KindMMX {
		c.followVectorShift(u, countTaint)
		return
	}
	if size == 8 {
		count &= 63
	} else {
		count &= 31
	}
	m := c.taintOf(u, a)
	if countTaint.Tainted() {
		m = taint.All(size)
		c.setTaint(u, a, m)
		c.taintFlags(u, m)
		return
	}
	if count == 0 {
		c.setTaint(u, a, m) // the upper half of a 32-bit register is cleared all the same
		return
	}
	before := m
	switch u.Op {
	case isa.SHLD, isa.SHRD:
		b := c.taintOf(u, u.Args[1])
		switch {
		case count > 8*size:
			m = (m | b).Spread(size)
		case u.Op == isa.SHLD:
			m = taint.ShiftLeft(m, count, size) | taint.ShiftRight(b, 8*size-count, size, false)
		default:
			m = taint.ShiftRight(m, count, size, false) | taint.ShiftLeft(b, 8*size-count, size)
		}
		before |= b
	case isa.SHR:
		m = taint.ShiftRight(m, count, size, false)
	case isa.SAR:
		m = taint.ShiftRight(m, count, size, true)
	case isa.ROL:
		m = taint.RotateLeft(m, count, size)
	case isa.ROR:
		m = taint.RotateLeft(m, 8*size-count%(8*size), size)
	case isa.RCL, isa.RCR:
		before |= c.track.regs.Flags
		m = before.Spread(size)
	default:
		m = taint.ShiftLeft(m, count, size)
	}
	c.setTaint(u, a, m)
	c.taintFlags(u, before)
}

// followVectorShift is PSLLW to PSRLDQ: whole lanes move bits, and the byte shifts move bytes by a constant.
func (c *CPU) followVectorShift(u *uop, countTaint taint.Mask) {
	a := u.Args[0]
	size := int(a.Size)
	m := c.taintOf(u, a)
	switch {
	case countTaint.Tainted():
		m = taint.All(size)
	case u.Op == isa.PSLLDQ:
		m = taint.ShiftLeft(m, 8*int(min(u.Imm&0xff, 16)), size)
	case u.Op == isa.PSRLDQ:
		m = taint.ShiftRight(m, 8*int(min(u.Imm&0xff, 16)), size, false)
	default:
		lane := int(u.Row.Lane)
		if lane == 0 {
			lane = 8
		}
		m = taint.Lanes(m, lane, size)
	}
	c.setTaint(u, a, m)
}

// choiceTaint is the taint that a condition gives to what is chosen by it. None with PointerPart: which of two local
// objects is chosen does not make it one of the other machine, as with a branch.
func (c *CPU) choiceTaint() taint.Mask {
	if c.track.opt.PointerPart {
		return taint.Clean
	}
	return c.track.regs.Flags
}

// followSelect is CMOVcc, CMPXCHG and the blends.
func (c *CPU) followSelect(u *uop) {
	t := c.track
	r := &t.regs
	a := u.Args[0]
	switch u.Op {
	case isa.CMOVCC:
		size := int(a.Size)
		old, src := c.taintOf(u, a), c.taintOf(u, u.Args[1])
		c.setTaint(u, a, taint.Select(src, old, c.f.condition(u.Cond), c.choiceTaint(), size))
	case isa.CMPXCHG:
		size := int(a.Size)
		dst, src := c.taintOf(u, a), c.taintOf(u, u.Args[1])
		acc := r.GPR[isa.RAX].Cut(size)
		equal := dst | acc
		same := c.peekOperand(u, 0) == c.reg(isa.RAX, a.Size)
		// A register that is not written keeps its upper half too.
		switch {
		case equal.Tainted() && size == 4:
			t.setReg(&r.GPR[isa.RAX], taint.All(8))
			if a.Kind == isa.KindReg {
				t.setReg(&r.GPR[a.Reg], taint.All(8))
			} else {
				c.setTaint(u, a, taint.All(size))
			}
		case equal.Tainted():
			c.setTaint(u, a, taint.All(size))
			t.setGPR(isa.RAX, a.Size, taint.All(size))
		case same:
			c.setTaint(u, a, src)
		default:
			t.setGPR(isa.RAX, a.Size, dst)
		}
		c.taintFlags(u, equal)
	case isa.CMPXCHG8B, isa.CMPXCHG16B:
		half := int(u.Args[0].Size) / 2
		lo, hi := r.GPR[isa.RAX].Cut(half), r.GPR[isa.RDX].Cut(half)
		dst := c.taintOf(u, a)
		equal := dst | lo | hi
		all := equal | r.GPR[isa.RBX].Cut(half) | r.GPR[isa.RCX].Cut(half)
		if all == 0 {
			c.setTaint(u, a, taint.Clean)
			c.taintFlags(u, taint.Clean)
			return
		}
		c.setTaint(u, a, all.Spread(2*half))
		for _, reg := range [2]uint8{isa.RAX, isa.RDX} {
			m := all.Spread(half) | r.GPR[reg]
			if equal.Tainted() {
				m = taint.All(8)
			}
			t.setReg(&r.GPR[reg], m)
		}
		c.taintFlags(u, equal)
	default:
		m := c.sourceTaint(u)
		c.setTaints(u, func(o isa.Operand) taint.Mask { return m.Spread(int(o.Size)) })
	}
}

// followPermute runs the instruction's own function on shadow bytes: a tainted byte is 0xff, a clean one 0.
func (c *CPU) followPermute(u *uop) {
	a := u.Args[0]
	m := c.sourceTaint(u)
	if m == 0 {
		c.setTaints(u, func(isa.Operand) taint.Mask { return taint.Clean })
		return
	}
	if r, ok := c.permuted(u); ok {
		c.setTaint(u, a, r)
		return
	}
	c.setTaints(u, func(o isa.Operand) taint.Mask { return m.Spread(int(o.Size)) })
}

// followReturn serves the ways in and out of the kernel, which carry rSP and the flags.
func (c *CPU) followReturn(u *uop) {
	t := c.track
	r := &t.regs
	switch u.Op {
	case isa.IRET:
		size := int64(u.OpSize)
		t.setReg(&r.Flags, c.memTaint(c.stackTop(2*size), 2).Spread(1))
		cs, _ := c.peek(c.stackTop(size), 2)
		if c.mode == isa.Mode64 || c.protected() && uint8(cs&3) > c.cpl {
			t.setReg(&r.GPR[isa.RSP], c.memTaint(c.stackTop(3*size), int(size)))
		}
	case isa.SYSCALL:
		t.setReg(&r.GPR[isa.RCX], taint.Clean)
		t.setReg(&r.GPR[isa.R11], r.Flags.Spread(2))
	case isa.SYSRET:
		t.setReg(&r.Flags, r.GPR[isa.R11].Spread(1))
	case isa.SYSENTER:
		t.setReg(&r.GPR[isa.RSP], taint.Clean)
	case isa.SYSEXIT:
		t.setReg(&r.GPR[isa.RSP], r.GPR[isa.RCX].Cut(int(u.OpSize)))
	}
}

// followSpecial serves the instructions whose rule is their own.
func (c *CPU) followSpecial(u *uop) {
	t := c.track
	r := &t.regs
	size := int(u.OpSize)
	switch u.Op {
	case isa.XADD:
		a, b := c.taintOf(u, u.Args[0]), c.taintOf(u, u.Args[1])
		c.setTaint(u, u.Args[1], a)
		c.setTaint(u, u.Args[0], taint.Carry(a|b, int(u.Args[0].Size)))
		c.taintFlags(u, a|b)
	case isa.PUSHF:
		c.setMemTaint(c.stackTop(int64(-size)), size, r.Flags.Spread(2))
	case isa.POPF:
		c.taintFlags(u, c.memTaint(c.stackTop(0), 2))
	case isa.PUSHA:
		for i := range 8 {
			c.setMemTaint(c.stackTop(int64(-size*(i+1))), size, r.GPR[i].Cut(size))
		}
	case isa.POPA:
		for i := range 8 {
			if reg := uint8(7 - i); reg != isa.RSP {
				t.setGPR(reg, u.OpSize, c.memTaint(c.stackTop(int64(size*i)), size))
			}
		}
	case isa.ENTER:
		c.setMemTaint(c.stackTop(int64(-size)), size, r.GPR[isa.RBP].Cut(size))
		level := int(u.Imm2 & 31)
		for i := 1; i < level; i++ { // the frame pointers of the enclosing levels
			c.setMemTaint(c.stackTop(int64(-size*(i+1))), size, c.memTaint(c.frameAddress(-size*i), size))
		}
		if level > 0 {
			c.setMemTaint(c.stackTop(int64(-size*(level+1))), size, r.GPR[isa.RSP].Cut(size))
		}
		t.setGPR(isa.RBP, u.OpSize, r.GPR[isa.RSP])
	case isa.LEAVE:
		t.setReg(&r.GPR[isa.RSP], r.GPR[isa.RBP])
		t.setGPR(isa.RBP, u.OpSize, c.memTaint(c.frameAddress(0), size))
	case isa.CPUID:
		for _, reg := range []uint8{isa.RAX, isa.RBX, isa.RCX, isa.RDX} {
			t.setGPR(reg, 4, taint.Clean)
		}
	case isa.MASKMOVQ, isa.MASKMOVDQU:
		c.followMaskMove(u)
	default:
		c.followState(u)
	}
}

// followMaskMove stores the bytes of a register that a mask chooses.
func (c *CPU) followMaskMove(u *uop) {
	src, mask := c.taintOf(u, u.Args[1]), c.taintOf(u, u.Args[2])
	la := c.r[isa.RDI] & sizeMask[u.AddrSize]
	if u.Seg >= isa.FS || c.mode != isa.Mode64 {
		la = c.wrapLinear(la + c.seg[u.Seg].Base)
	}
	size := int(u.Args[1].Size)
	v := c.vectorOf(u, 2)
	m := c.memTaint(la, size)
	for i := range size {
		bit := taint.Mask(1) << i
		switch {
		case mask&bit != 0:
			m |= bit
		case v[i/8]>>(i%8*8+7)&1 != 0:
			m = m&^bit | src&bit
		}
	}
	c.setMemTaint(la, size, m)
}

// followState serves the instructions that save and restore the x87, MMX and SSE state. Registers go to and come from
// their places in the image (SDM vol. 1, 10.5 and 13.4; figures 8-9 to 8-12 for the older images).
func (c *CPU) followState(u *uop) {
	t := c.track
	r := &t.regs
	la, ok := c.operandAddress(u, 1)
	if !ok {
		return
	}
	xmms := 8
	if c.mode == isa.Mode64 {
		xmms = 16
	}
	image, words := uint64(28), uint64(4)
	if u.OpSize == 2 {
		image, words = 14, 2
	}
	switch u.Op {
	case isa.FXSAVE, isa.XSAVE, isa.XSAVEOPT, isa.XSAVEC, isa.XSAVES:
		c.followSave(u, la, xmms)
	case isa.FXRSTOR, isa.XRSTOR, isa.XRSTORS:
		c.followRestore(u, la, xmms)
	case isa.FNSTENV:
		c.setMemTaint(la, int(image), c.environmentTaint(words))
	case isa.FLDENV:
		t.setReg(&r.FPUStatus, c.memTaint(la+words+1, 1))
	case isa.FNSAVE:
		c.setMemTaint(la, int(image), c.environmentTaint(words))
		t.setReg(&r.FPUStatus, taint.Clean)
		for i := range 8 {
			c.setMemTaint(la+image+10*uint64(i), 10, r.ST[(c.fpu.top+uint8(i))&7])
		}
	case isa.FRSTOR:
		t.setReg(&r.FPUStatus, c.memTaint(la+words+1, 1))
		top := uint64(0)
		if w, ok := c.peek(la+image/7, 2); ok {
			top = w >> 11 & 7
		}
		for i := range uint64(8) {
			t.setReg(&r.ST[(top+i)&7], c.memTaint(la+image+10*i, 10))
		}
	}
}

// followSave is FXSAVE, XSAVE and their kin.
func (c *CPU) followSave(u *uop, la uint64, xmms int) {
	r := &c.track.regs
	x87, sse := r.FPUStatus, taint.Clean // whether anything in the component is tainted
	for _, m := range r.ST {
		x87 |= m
	}
	for _, m := range r.XMM[:xmms] {
		sse |= m
	}
	rfbm, unused := xcr0X87|xcr0SSE, uint64(0)
	if u.Op != isa.FXSAVE {
		// The header says which components differ from their initial state.
		rfbm = c.fpu.xcr0 & (c.r[isa.RDX]<<32 | c.r[isa.RAX]&0xffffffff)
		header := c.memTaint(la+xsaveHeader, 16)
		if u.Op == isa.XSAVEC || u.Op == isa.XSAVES {
			header = taint.Clean
		}
		if rfbm&xcr0X87 != 0 && x87 != 0 || rfbm&xcr0SSE != 0 && sse != 0 {
			header |= 1
		}
		c.setMemTaint(la+xsaveHeader, 16, header)
		if u.Op != isa.XSAVE {
			unused = rfbm &^ c.fpu.inUse() // and others are not stored
		}
	}
	compact := u.Op != isa.FXSAVE && u.Op != isa.XSAVE
	// place is the taint of a part of the image; whether a tainted component is stored at all may depend on its data.
	place := func(component uint64, any taint.Mask, at uint64, size int, m taint.Mask) {
		switch {
		case rfbm&component == 0:
		case compact && any != 0:
			c.setMemTaint(at, size, taint.All(size))
		case unused&component == 0:
			c.setMemTaint(at, size, m)
		}
	}
	place(xcr0X87, x87, la, 24, r.FPUStatus<<3)
	for i := range 8 {
		place(xcr0X87, x87, la+32+16*uint64(i), 10, r.ST[(c.fpu.top+uint8(i))&7])
	}
	for i := range xmms {
		place(xcr0SSE, sse, la+160+16*uint64(i), 16, r.XMM[i])
	}
}

// followRestore is FXRSTOR, XRSTOR and XRSTORS. A component that the header leaves out gets its initial state.
func (c *CPU) followRestore(u *uop, la uint64, xmms int) {
	t := c.track
	r := &t.regs
	rfbm, stored := xcr0X87|xcr0SSE, ^uint64(0)
	if u.Op != isa.FXRSTOR {
		rfbm = c.fpu.xcr0 & (c.r[isa.RDX]<<32 | c.r[isa.RAX]&0xffffffff)
		stored, _ = c.peek(la+xsaveHeader, 8)
	}
	load := func(component, at uint64, size int) taint.Mask {
		if stored&component == 0 {
			return taint.Clean
		}
		return c.memTaint(at, size)
	}
	if rfbm&xcr0X87 != 0 {
		t.setReg(&r.FPUStatus, load(xcr0X87, la+3, 1))
		top := uint64(0)
		if w, ok := c.peek(la+2, 2); ok && stored&xcr0X87 != 0 {
			top = w >> 11 & 7
		}
		for i := range uint64(8) {
			t.setReg(&r.ST[(top+i)&7], load(xcr0X87, la+32+16*i, 10))
		}
	}
	if rfbm&xcr0SSE != 0 {
		for i := range xmms {
			t.setReg(&r.XMM[i], load(xcr0SSE, la+160+16*uint64(i), 16))
		}
	}
}

// environmentTaint is the taint of an x87 environment whose first three words are size bytes apart: the condition codes
// are data, and so are the tags, which tell zeros and special values.
func (c *CPU) environmentTaint(size uint64) taint.Mask {
	r := &c.track.regs
	m := r.FPUStatus << (size + 1)
	for i, st := range r.ST {
		if st != 0 && c.fpu.full>>i&1 != 0 {
			m |= 1 << (2*size + uint64(i/4))
		}
	}
	return m
}

// stringProgress remembers where a string instruction began; how far it came is seen after it has executed.
type stringProgress struct {
	active   bool
	rsi, rdi uint64
	rcx      uint64
}

// beginString notes the registers of a string instruction.
func (c *CPU) beginString(u *uop) {
	c.track.string = stringProgress{active: true, rsi: c.r[isa.RSI], rdi: c.r[isa.RDI], rcx: c.r[isa.RCX]}
}

// commitString makes the effects of the iterations that a string instruction has completed, and drops all others:
// instructions that stopped have done nothing.
func (c *CPU) commitString(u *uop) {
	t := c.track
	t.nreg, t.nmem = 0, 0
	if !t.string.active {
		return
	}
	t.string.active = false
	s := t.string
	size := uint64(u.elementSize())
	addr := sizeMask[u.AddrSize]
	repeats := u.Prefix&(isa.PrefixRep|isa.PrefixRepne) != 0
	n := uint64(1)
	if repeats {
		n = (s.rcx - c.r[isa.RCX]) & addr
	} else if c.r[isa.RSI] == s.rsi && c.r[isa.RDI] == s.rdi {
		return
	}
	if n == 0 {
		return
	}
	down := c.flags&FlagDF != 0
	src := stringSide{reg: s.rsi, addr: addr, size: size, down: down}
	if u.Seg >= isa.FS || c.mode != isa.Mode64 {
		src.base = c.seg[u.Seg].Base
	}
	dst := stringSide{reg: s.rdi, addr: addr, size: size, down: down}
	if u.Op == isa.MOVS || u.Op == isa.STOS || u.Op == isa.INS {
		dst.acc = accessWrite
	}
	if c.mode != isa.Mode64 {
		dst.base = c.seg[isa.ES].Base
	}
	acc := t.regs.GPR[isa.RAX].Cut(int(size))
	var seen taint.Mask
	switch u.Op {
	case isa.MOVS:
		c.copyString(&src, &dst, n)
	case isa.STOS:
		c.fillString(&dst, n, acc)
	case isa.INS:
		c.fillString(&dst, n, taint.Clean)
	case isa.LODS:
		t.putGPR(isa.RAX, uint8(size), c.memTaint(src.at(c, n-1), int(size)))
	case isa.SCAS:
		seen = acc | c.stringTaint(&dst, n)
	case isa.CMPS:
		seen = c.stringTaint(&src, n) | c.stringTaint(&dst, n)
	}
	if u.Op == isa.SCAS || u.Op == isa.CMPS {
		t.regs.Flags = seen.Spread(1)
	}
	if !repeats {
		return
	}
	// How far a repeated instruction comes depends on the count, and where it looks for something, on that.
	count := t.regs.GPR[isa.RCX].Cut(int(u.AddrSize))
	if u.Row.Attr&isa.Repe != 0 {
		count |= seen
		t.regs.GPR[isa.RCX] |= count.Spread(int(u.AddrSize))
	}
	// How far a pointer has moved is no part of where it points.
	moved := func(r uint8) {
		if !t.opt.PointerPart || !t.space.KernelAddress(c.r[r]) {
			t.regs.GPR[r] |= count.Spread(int(u.AddrSize))
		}
	}
	if count != 0 {
		if u.Op != isa.STOS && u.Op != isa.SCAS && u.Op != isa.INS {
			moved(isa.RSI)
		}
		if u.Op != isa.LODS && u.Op != isa.OUTS {
			moved(isa.RDI)
		}
	}
}

// stringSide is the source or destination of a string instruction, as its registers were when it began.
type stringSide struct {
	base, reg, addr, size uint64
	down                  bool
	acc                   access
}

// at is the linear address of element i.
func (s *stringSide) at(c *CPU, i uint64) uint64 {
	d := i * s.size
	if s.down {
		d = -d
	}
	return c.wrapLinear(s.base + (s.reg+d)&s.addr)
}

// run returns the physical address of the lowest byte of the elements from i on that lie together in one page, at most
// n, and how many they are; 0 if element i crosses a page or is not in RAM.
func (s *stringSide) run(c *CPU, i, n uint64) (pa, count uint64) {
	la := s.at(c, i)
	off := la & pageMask
	pa, ok := c.dataAddress(la, s.acc)
	if !ok || off+s.size > 0x1000 {
		return 0, 0
	}
	offset := (s.reg + i*s.size) & s.addr
	if s.down {
		offset = (s.reg - i*s.size) & s.addr
		count = min(n, off/s.size+1, offset/s.size+1)
		return pa - (count-1)*s.size, count
	}
	count = min(n, (0x1000-off)/s.size)
	if left := (s.addr - offset) / s.size; left < count {
		count = max(1, left)
	}
	return pa, count
}

func (c *CPU) copyString(src, dst *stringSide, n uint64) {
	shadow := c.track.shadow
	for i := uint64(0); i < n; {
		from, k := src.run(c, i, n-i)
		to, k2 := dst.run(c, i, n-i)
		switch count := min(k, k2); {
		case count == 0:
			c.setMemTaint(dst.at(c, i), int(dst.size), c.memTaint(src.at(c, i), int(src.size)))
			c.commitMemory()
			i++
		default:
			if src.down {
				from, to = from+(k-count)*src.size, to+(k2-count)*dst.size
			}
			if bytes := count * src.size; to+bytes > from && from+bytes > to && to != from {
				count = 1 // what is read may just have been written
				if src.down {
					from, to = from+bytes-src.size, to+bytes-src.size
				}
			}
			shadow.Copy(to, from, count*src.size)
			i += count
		}
	}
}

func (c *CPU) fillString(dst *stringSide, n uint64, m taint.Mask) {
	shadow, size := c.track.shadow, int(dst.size)
	for i := uint64(0); i < n; {
		pa, count := dst.run(c, i, n-i)
		switch {
		case count == 0:
			c.setMemTaint(dst.at(c, i), size, m)
			c.commitMemory()
			count = 1
		case m == 0:
			shadow.Clear(pa, count*dst.size)
		case m == taint.All(size):
			shadow.Mark(pa, count*dst.size)
		default:
			for j := range count {
				shadow.Set(pa+j*dst.size, size, m)
			}
		}
		i += count
	}
}

// stringTaint is the union of the taint of all elements, as bit 0.
func (c *CPU) stringTaint(s *stringSide, n uint64) taint.Mask {
	for i := uint64(0); i < n; {
		pa, count := s.run(c, i, n-i)
		if count == 0 {
			if c.memTaint(s.at(c, i), int(s.size)) != 0 {
				return 1
			}
			count = 1
		} else if _, found := c.track.shadow.Any(pa, count*s.size); found {
			return 1
		}
		i += count
	}
	return 0
}

// vectorOf is the value of a vector operand for rules that depend on it, leaving faults to the instruction.
func (c *CPU) vectorOf(u *uop, i int) vector {
	exc, stop := c.exc, c.stop
	v, _ := c.vectorArg(u, i)
	c.exc, c.stop = exc, stop
	return v
}

// shadowVector is a mask as bytes, 0xff for a tainted one.
func shadowVector(m taint.Mask) (v vector) {
	for i := range 16 {
		if m>>i&1 != 0 {
			v[i/8] |= 0xff << (i % 8 * 8)
		}
	}
	return v
}

// shadowMask is the inverse of shadowVector: a byte with any bit set is tainted.
func shadowMask(v vector) (m taint.Mask) {
	for i := range 16 {
		if v[i/8]>>(i%8*8)&0xff != 0 {
			m |= 1 << i
		}
	}
	return m
}

// permuted runs the function of a byte-moving instruction on shadow bytes. ok is false if it has none, or if tainted
// bytes decide what goes where.
func (c *CPU) permuted(u *uop) (m taint.Mask, ok bool) {
	a := u.Args[0]
	if u.Op == isa.BSWAP || u.Op == isa.MOVBE {
		src := c.taintOf(u, u.Args[u.Row.NumArgs()-1])
		size := int(a.Size)
		for i := range size {
			m |= src >> i & 1 << (size - 1 - i)
		}
		return m, size > 2 || u.Op == isa.MOVBE
	}
	f := permuteFunc(&u.Inst)
	if f == nil {
		return 0, false
	}
	var d, s vector
	d = shadowVector(c.taintOf(u, a))
	if u.Row.NumArgs() > 1 {
		src := c.taintOf(u, u.Args[1])
		s = shadowVector(src)
		if u.Op == isa.PSHUFB {
			if src != 0 {
				return 0, false
			}
			s = c.vectorOf(u, 1)
		}
	}
	return shadowMask(f(d, s, uint8(u.Imm))), true
}
