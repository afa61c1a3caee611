package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/taint"
)

// Handlers of tracking mode for the most frequent operand forms. Each does to taint what the general rule (follow and
// commitTaint) does, which TestFastTracking compares, and executes the instruction by its handler of checking mode. They
// rely on what fastHandlerKey has prepared: mask and segBase.
//
// Taint changes when the instruction has executed, so that a fault leaves it as it was, but what it depends on is read
// before, as the instruction may overwrite that. Memory is looked up when the TLB has it, that is: after a load.

// buildTracked chooses the handlers that execute b in tracking mode.
func (c *CPU) buildTracked(b *block) {
	b.tracked = make([]handler, len(b.ops))
	for i := range b.ops {
		b.tracked[i] = c.trackedHandler(&b.ops[i])
	}
}

// trackedHandler returns the handler of u in tracking mode.
func (c *CPU) trackedHandler(u *uop) handler {
	observed := c.track.opt.Observer != nil
	if observed && (u.HasMem() || u.Op == isa.RET || u.Op == isa.JMP_IND || u.Op == isa.CALL_IND) {
		return trackGeneral
	}
	switch u.Op {
	case isa.JMP, isa.JCC, isa.JMP_IND, isa.RET, isa.NOP:
		return u.exec
	}
	if u.mask == 0 {
		return trackGeneral
	}
	if h := trackedVector(u); h != nil {
		return h
	}
	a, b := &u.Args[0], &u.Args[1]
	if u.Args[2].Kind != isa.KindNone || a.Size > 8 {
		return trackGeneral
	}
	form := formNone
	reg, mem := a.Kind == isa.KindReg, a.Kind == isa.KindMem
	switch b.Kind {
	case isa.KindNone:
		switch {
		case reg:
			form = formR
		case mem:
			form = formM
		case a.Kind == isa.KindImm:
			form = formI
		}
	case isa.KindReg:
		switch {
		case reg:
			form = formRR
		case mem:
			form = formMR
		}
	case isa.KindImm, isa.KindOne:
		switch {
		case reg:
			form = formRI
		case mem:
			form = formMI
		}
	case isa.KindMem:
		if reg {
			form = formRM
		}
	}
	if h := c.trackedForm(u, form); h != nil {
		return h
	}
	return trackGeneral
}

// trackedForm returns the handler of an operand form, nil if there is none.
func (c *CPU) trackedForm(u *uop, form fastForm) handler {
	size := u.Args[0].Size
	switch u.Op {
	case isa.MOV:
		return byForm(form, trackMoveRR, trackClearR, trackLoad, trackStore, trackClearM)
	case isa.MOVZX:
		return byForm(form, trackMoveRR, nil, trackLoad, nil, nil)
	case isa.MOVSX, isa.MOVSXD:
		return byForm(form, trackExtendRR, nil, trackExtendRM, nil, nil)
	case isa.LEA:
		if u.AddrSize == 8 && form == formRM {
			return trackLEA
		}
	case isa.ADD, isa.SUB:
		if c.track.opt.PointerPart && int(size) == c.track.space.Width {
			return byForm(form, trackSumRR, trackSumRI, nil, nil, nil)
		}
		fallthrough
	case isa.ADC, isa.SBB:
		if form == formRR && u.Args[0].Reg == u.Args[1].Reg && u.Op != isa.ADD && u.Op != isa.ADC {
			return nil
		}
		if u.Op == isa.ADC || u.Op == isa.SBB {
			return byForm(form, trackCarryInRR, trackCarryInRI, nil, nil, nil)
		}
		return byForm(form, trackCarryRR, trackCarryRI, trackCarryRM, trackCarryMR, trackCarryMI)
	case isa.INC, isa.DEC:
		if form == formR {
			return trackStepR
		}
	case isa.NEG:
		if form == formR {
			return trackCarryRI
		}
	case isa.NOT:
		if form == formR {
			return trackNot
		}
	case isa.AND, isa.OR:
		return byForm(form, trackBitsRR, trackBitsRI, trackBitsRM, nil, trackBitsMI)
	case isa.XOR:
		if form == formRR && u.Args[0].Reg == u.Args[1].Reg {
			return trackZero
		}
		return byForm(form, trackXorRR, trackXorRI, trackXorRM, trackXorMR, trackXorMI)
	case isa.CMP, isa.TEST:
		return byForm(form, trackCompareRR, trackCompareRI, trackCompareRM, trackCompareMR, trackCompareMI)
	case isa.SHL, isa.SHR, isa.SAR, isa.ROL, isa.ROR:
		if form == formRI && size >= 4 {
			return trackShiftRI
		}
	case isa.IMUL2:
		return byForm(form, trackMixRR, nil, trackMixRM, nil, nil)
	case isa.CMOVCC:
		return byForm(form, trackSelectRR, nil, trackSelectRM, nil, nil)
	case isa.SETCC:
		if form == formR {
			return trackSetCC
		}
	case isa.PUSH:
		switch form {
		case formR:
			if size == u.OpSize {
				return trackPushR
			}
		case formI:
			return trackPushClean
		}
	case isa.CALL:
		return trackPushClean
	case isa.CALL_IND:
		if form == formR {
			return trackPushClean
		}
	case isa.POP:
		if form == formR && size == u.OpSize {
			return trackPopR
		}
	case isa.LEAVE:
		return trackLeave
	}
	return nil
}

// byForm picks the handler of an operand form.
func byForm(form fastForm, rr, ri, rm, mr, mi handler) handler {
	switch form {
	case formRR:
		return rr
	case formRI:
		return ri
	case formRM:
		return rm
	case formMR:
		return mr
	case formMI:
		return mi
	}
	return nil
}

// keepMask has the low size bits set: the bytes of an operand.
var keepMask = [17]taint.Mask{1: 1, 2: 3, 4: 0xf, 8: 0xff, 16: 0xffff}

// keep is the mask of an operand's bytes, of at most 16.
func keep(a *isa.Operand) taint.Mask { return keepMask[a.Size&15] }

// regTaint is the taint of a general register operand.
func (c *CPU) regTaint(a *isa.Operand) taint.Mask { return c.track.regs.GPR[a.Reg&31] & keep(a) }

// putReg gives a general register operand the taint m, which has no more bytes than it.
func (c *CPU) putReg(a *isa.Operand, m taint.Mask) {
	p := &c.track.regs.GPR[a.Reg&31]
	if a.Size < 4 {
		m |= *p &^ keep(a)
	}
	*p = m
}

// loadTaint is the taint of a memory operand of at most 8 bytes, the TLB being likely to have it.
func (c *CPU) loadTaint(la uint64, size uint8) taint.Mask {
	i := la >> 12 & tlbMask
	if c.tlbR[i].tag != (la+uint64(size)-1)>>12|c.ctx {
		return c.memTaint(la, int(size))
	}
	p := c.track.shadow.Page(c.pfnR[i])
	if p == nil {
		return taint.Clean
	}
	return p.Get8(la&pageMask, keepMask[size&15])
}

// storeTaint gives a memory operand of at most 8 bytes that has just been stored to its taint.
func (c *CPU) storeTaint(la uint64, size uint8, m taint.Mask) {
	i := la >> 12 & tlbMask
	if c.tlbW[i].tag != (la+uint64(size)-1)>>12|c.ctx {
		c.setMemTaint(la, int(size), m)
		c.commitMemory()
		return
	}
	pfn := c.pfnW[i]
	if p := c.track.shadow.Page(pfn); p == nil && m == 0 || p != nil && p.Get8(la&pageMask, keepMask[size&15]) == m {
		return
	}
	c.track.shadow.Set(pfn<<12|la&pageMask, int(size), m)
}

// up is taint.Carry for bytes that are cut already.
func up(m, keep taint.Mask) taint.Mask { return -(m & -m) & keep }

// bit is 1 if anything is tainted.
func bit(m taint.Mask) taint.Mask {
	if m != 0 {
		return 1
	}
	return 0
}

// Moves.

func trackMoveRR(c *CPU, u *uop) bool {
	m := c.regTaint(&u.Args[1]) // MOVZX clears what is above
	if !u.exec(c, u) {
		return false
	}
	c.putReg(&u.Args[0], m)
	return true
}

func trackClearR(c *CPU, u *uop) bool {
	c.putReg(&u.Args[0], taint.Clean)
	return u.exec(c, u)
}

func trackLoad(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.putReg(&u.Args[0], c.loadTaint(la, u.Args[1].Size))
	return true
}

func trackStore(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.storeTaint(la, u.Args[0].Size, c.regTaint(&u.Args[1]))
	return true
}

func trackClearM(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.storeTaint(la, u.Args[0].Size, taint.Clean)
	return true
}

func trackExtendRR(c *CPU, u *uop) bool {
	a, b := &u.Args[0], &u.Args[1]
	c.putReg(a, taint.SignExtend(c.regTaint(b), int(b.Size), int(a.Size)))
	return u.exec(c, u)
}

func trackExtendRM(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	a, b := &u.Args[0], &u.Args[1]
	c.putReg(a, taint.SignExtend(c.loadTaint(la, b.Size), int(b.Size), int(a.Size)))
	return true
}

func trackLEA(c *CPU, u *uop) bool {
	r := &c.track.regs
	if m := r.GPR[u.Base&31] | r.GPR[u.Index&31]; m == 0 {
		c.putReg(&u.Args[0], taint.Clean)
	} else {
		c.track.nreg, c.track.nmem = 0, 0
		c.followAddress(u)
		c.commitTaint(u)
	}
	return u.exec(c, u)
}

// Sums.

func trackCarryRR(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a) | c.regTaint(&u.Args[1])
	c.putReg(a, up(m, keep(a)))
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

func trackCarryRI(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a)
	c.putReg(a, up(m, keep(a)))
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

func trackCarryInRR(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a) | c.regTaint(&u.Args[1]) | c.track.regs.Flags
	c.putReg(a, up(m, keep(a)))
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

func trackCarryInRI(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a) | c.track.regs.Flags
	c.putReg(a, up(m, keep(a)))
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

func trackCarryRM(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	a := &u.Args[0]
	m := c.regTaint(a) | c.loadTaint(la, a.Size)
	c.putReg(a, up(m, keep(a)))
	c.track.regs.Flags = bit(m)
	return true
}

func trackCarryMR(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	a := &u.Args[0]
	m := c.loadTaint(la, a.Size) | c.regTaint(&u.Args[1])
	c.storeTaint(la, a.Size, up(m, keep(a)))
	c.track.regs.Flags = bit(m)
	return true
}

func trackCarryMI(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	a := &u.Args[0]
	m := c.loadTaint(la, a.Size)
	c.storeTaint(la, a.Size, up(m, keep(a)))
	c.track.regs.Flags = bit(m)
	return true
}

// trackStepR is INC and DEC, which leave CF.
func trackStepR(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a)
	c.putReg(a, up(m, keep(a)))
	c.track.regs.Flags |= bit(m)
	return u.exec(c, u)
}

// trackSumRR and trackSumRI are ADD and SUB of 8 bytes under the pointer-part rule.
func trackSumRR(c *CPU, u *uop) bool {
	a, b := &u.Args[0], &u.Args[1]
	return c.trackSum(u, c.r[b.Reg&31], c.regTaint(a), c.regTaint(b), a.Reg == b.Reg)
}

func trackSumRI(c *CPU, u *uop) bool {
	return c.trackSum(u, u.Imm, c.regTaint(&u.Args[0]), taint.Clean, false)
}

func (c *CPU) trackSum(u *uop, vb uint64, ma, mb taint.Mask, same bool) bool {
	a := &u.Args[0]
	m := ma | mb
	if u.Op == isa.SUB {
		vb = -vb
		if same {
			m = taint.Clean
		}
	}
	r := m
	if m != 0 {
		r = c.track.space.PointerPart(taint.Part{Value: c.r[a.Reg&31], Taint: ma}, taint.Part{Value: vb, Taint: mb})
	}
	c.putReg(a, r)
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

// Bitwise operations.

// bitwise is the rule of AND and OR.
func bitwise(op isa.Op, ma, mb taint.Mask, va, vb uint64) taint.Mask {
	if op == isa.AND {
		return taint.And(ma, mb, va, vb)
	}
	return taint.Or(ma, mb, va, vb)
}

func trackBitsRR(c *CPU, u *uop) bool {
	a, b := &u.Args[0], &u.Args[1]
	ma, mb := c.regTaint(a), c.regTaint(b)
	m := ma | mb
	if ma != mb { // where both are tainted, or neither, values don't matter
		m = bitwise(u.Op, ma, mb, c.r[a.Reg&31], c.r[b.Reg&31]) & keep(a)
	}
	c.putReg(a, m)
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

func trackBitsRI(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a)
	if m != 0 {
		m = bitwise(u.Op, m, 0, c.r[a.Reg&31], u.Imm) & keep(a)
	}
	c.putReg(a, m)
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

func trackBitsRM(c *CPU, u *uop) bool {
	la := c.ea(u)
	a := &u.Args[0]
	va := c.r[a.Reg&31]
	if !u.exec(c, u) {
		return false
	}
	ma, mb := c.regTaint(a), c.loadTaint(la, a.Size)
	m := ma | mb
	if ma != mb {
		vb, _ := c.peekFast(la, a.Size)
		m = bitwise(u.Op, ma, mb, va, vb) & keep(a)
	}
	c.putReg(a, m)
	c.track.regs.Flags = bit(m)
	return true
}

func trackBitsMI(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	a := &u.Args[0]
	m := c.loadTaint(la, a.Size)
	if m != 0 {
		m = bitwise(u.Op, m, 0, 0, u.Imm) & keep(a) // only the immediate's clean bytes matter
	}
	c.storeTaint(la, a.Size, m)
	c.track.regs.Flags = bit(m)
	return true
}

// peekFast is peek by the TLB if it can.
func (c *CPU) peekFast(la uint64, size uint8) (uint64, bool) {
	if p := c.hostPage(la, false); p != nil && la&pageMask <= 0x1000-8 {
		o := la & pageMask
		b := p[o : o+8]
		v := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		return v & sizeMask[size], true
	}
	return c.peek(la, size)
}

func trackNot(c *CPU, u *uop) bool {
	c.putReg(&u.Args[0], c.regTaint(&u.Args[0]))
	return u.exec(c, u)
}

func trackZero(c *CPU, u *uop) bool {
	c.putReg(&u.Args[0], taint.Clean)
	c.track.regs.Flags = taint.Clean
	return u.exec(c, u)
}

func trackXorRR(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a) | c.regTaint(&u.Args[1])
	c.putReg(a, m)
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

func trackXorRI(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a)
	c.putReg(a, m)
	c.track.regs.Flags = bit(m)
	return u.exec(c, u)
}

func trackXorRM(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	a := &u.Args[0]
	m := c.regTaint(a) | c.loadTaint(la, a.Size)
	c.putReg(a, m)
	c.track.regs.Flags = bit(m)
	return true
}

func trackXorMR(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	a := &u.Args[0]
	m := c.regTaint(&u.Args[1]) | c.loadTaint(la, a.Size)
	c.storeTaint(la, a.Size, m)
	c.track.regs.Flags = bit(m)
	return true
}

func trackXorMI(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.track.regs.Flags = bit(c.loadTaint(la, u.Args[0].Size))
	return true
}

// Comparisons. The handler may execute the branch that follows too, which has no taint to move.

func trackCompareRR(c *CPU, u *uop) bool {
	c.track.regs.Flags = bit(c.regTaint(&u.Args[0]) | c.regTaint(&u.Args[1]))
	return u.exec(c, u)
}

func trackCompareRI(c *CPU, u *uop) bool {
	c.track.regs.Flags = bit(c.regTaint(&u.Args[0]))
	return u.exec(c, u)
}

func trackCompareRM(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.track.regs.Flags = bit(c.regTaint(&u.Args[0]) | c.loadTaint(la, u.Args[1].Size))
	return true
}

func trackCompareMR(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.track.regs.Flags = bit(c.regTaint(&u.Args[1]) | c.loadTaint(la, u.Args[0].Size))
	return true
}

func trackCompareMI(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.track.regs.Flags = bit(c.loadTaint(la, u.Args[0].Size))
	return true
}

// Shifts, products, choices.

func trackShiftRI(c *CPU, u *uop) bool {
	a := &u.Args[0]
	size := int(a.Size)
	count := int(u.Imm & countMask(a.Size))
	m := c.regTaint(a)
	if count == 0 {
		if !u.exec(c, u) {
			return false
		}
		c.putReg(a, m)
		return true
	}
	r := &c.track.regs
	flags := bit(m)
	if u.Op == isa.ROL || u.Op == isa.ROR {
		flags |= r.Flags
	}
	if m != 0 {
		switch u.Op {
		case isa.SHL:
			m = taint.ShiftLeft(m, count, size)
		case isa.SHR:
			m = taint.ShiftRight(m, count, size, false)
		case isa.SAR:
			m = taint.ShiftRight(m, count, size, true)
		case isa.ROL:
			m = taint.RotateLeft(m, count, size)
		default:
			m = taint.RotateLeft(m, 8*size-count%(8*size), size)
		}
	}
	r.GPR[a.Reg&31] = m
	r.Flags = flags
	return u.exec(c, u)
}

func trackMixRR(c *CPU, u *uop) bool {
	a := &u.Args[0]
	m := c.regTaint(a) | c.regTaint(&u.Args[1])
	c.track.regs.Flags = bit(m)
	c.putReg(a, -bit(m)&keep(a))
	return u.exec(c, u)
}

func trackMixRM(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	a := &u.Args[0]
	m := c.regTaint(a) | c.loadTaint(la, a.Size)
	c.track.regs.Flags = bit(m)
	c.putReg(a, -bit(m)&keep(a))
	return true
}

func trackSelectRR(c *CPU, u *uop) bool {
	a := &u.Args[0]
	c.putReg(a, taint.Select(c.regTaint(&u.Args[1]), c.regTaint(a), c.f.condition(u.Cond), c.choiceTaint(), int(a.Size)))
	return u.exec(c, u)
}

func trackSelectRM(c *CPU, u *uop) bool {
	la, cond := c.ea(u), c.f.condition(u.Cond)
	if !u.exec(c, u) {
		return false
	}
	a := &u.Args[0]
	c.putReg(a, taint.Select(c.loadTaint(la, a.Size), c.regTaint(a), cond, c.choiceTaint(), int(a.Size)))
	return true
}

func trackSetCC(c *CPU, u *uop) bool {
	c.putReg(&u.Args[0], bit(c.track.regs.Flags))
	return u.exec(c, u)
}

// The stack.

func trackPushR(c *CPU, u *uop) bool {
	la := c.stackTop(-int64(u.OpSize))
	if !u.exec(c, u) {
		return false
	}
	c.storeTaint(la, u.OpSize, c.regTaint(&u.Args[0]))
	return true
}

func trackPushClean(c *CPU, u *uop) bool {
	la := c.stackTop(-int64(u.OpSize))
	if !u.exec(c, u) {
		return false
	}
	c.storeTaint(la, u.OpSize, taint.Clean)
	return true
}

func trackPopR(c *CPU, u *uop) bool {
	la := c.stackTop(0)
	if !u.exec(c, u) {
		return false
	}
	c.putReg(&u.Args[0], c.loadTaint(la, u.OpSize))
	return true
}

func trackLeave(c *CPU, u *uop) bool {
	if c.mode != isa.Mode64 {
		return trackGeneral(c, u)
	}
	la := c.r[isa.RBP]
	if !u.exec(c, u) {
		return false
	}
	r := &c.track.regs
	r.GPR[isa.RSP] = r.GPR[isa.RBP]
	c.track.putGPR(isa.RBP, u.OpSize, c.loadTaint(la, u.OpSize))
	return true
}

// Vector moves of 16 bytes, and what works in lanes.

func trackedVector(u *uop) handler {
	a, b := &u.Args[0], &u.Args[1]
	if u.Row.Taint == taint.VerbLane && u.Row.NumArgs() == 2 && len(u.Row.Implicit) == 0 && a.Kind == isa.KindXMM {
		switch b.Kind {
		case isa.KindXMM:
			return trackLaneXX
		case isa.KindMem:
			return trackLaneXM
		}
	}
	switch u.Op {
	case isa.MOVAPS, isa.MOVAPD, isa.MOVUPS, isa.MOVUPD, isa.MOVDQA, isa.MOVDQU:
	default:
		return nil
	}
	switch {
	case a.Kind == isa.KindXMM && b.Kind == isa.KindXMM:
		return trackVectorXX
	case a.Kind == isa.KindXMM && b.Kind == isa.KindMem:
		return trackVectorXM
	case a.Kind == isa.KindMem && b.Kind == isa.KindXMM:
		return trackVectorMX
	}
	return nil
}

func trackVectorXX(c *CPU, u *uop) bool {
	if !u.exec(c, u) {
		return false
	}
	x := &c.track.regs.XMM
	x[u.Args[0].Reg&15] = x[u.Args[1].Reg&15]
	return true
}

func trackVectorXM(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.track.regs.XMM[u.Args[0].Reg&15] = c.memTaint(la, 16)
	return true
}

func trackVectorMX(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.setMemTaint(la, 16, c.track.regs.XMM[u.Args[1].Reg&15])
	c.commitMemory()
	return true
}

func trackLaneXX(c *CPU, u *uop) bool {
	if !u.exec(c, u) {
		return false
	}
	b := &u.Args[1]
	c.putLanes(u, c.track.regs.XMM[b.Reg&15].Cut(int(b.Size)))
	return true
}

func trackLaneXM(c *CPU, u *uop) bool {
	la := c.ea(u)
	if !u.exec(c, u) {
		return false
	}
	c.putLanes(u, c.memTaint(la, int(u.Args[1].Size)))
	return true
}

// putLanes gives the destination of an instruction that works in lanes its taint, m being that of the source.
func (c *CPU) putLanes(u *uop, m taint.Mask) {
	a := &u.Args[0]
	p := &c.track.regs.XMM[a.Reg&15]
	size := int(a.Size)
	all := taint.All(size)
	if a.Access&isa.Read != 0 {
		m |= *p & all
	}
	if u.Args[1].Size < a.Size {
		m = m.Spread(size)
	}
	if m != 0 && m != all {
		m = taint.Lanes(m, int(u.Row.Lane), size)
	}
	*p = *p&^all | m
}
