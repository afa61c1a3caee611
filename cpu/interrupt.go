package cpu

import (
	"fmt"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// deliverException delivers c.exc with c.rip as the return address, and whatever faults arise on the way (SDM vol. 3A,
// 6.15, "Interrupt 8"). It reports false for a triple fault (c.detail says how it came) and for what is not implemented
// (c.stop is stopUnsupported).
func (c *CPU) deliverException() bool {
	c.halted, c.stepping, c.debug.skip = false, false, false
	c.pendingDB, c.debug.isHit = 0, false
	c.alone = true
	if c.redir != nil {
		c.suspendScope(c.r[isa.RSP])
	}
	var ok bool
	if c.track == nil {
		ok = c.deliverAll(c.exc)
	} else {
		ok = c.deliverTracked()
	}
	c.alone = false
	c.ext = 0
	if c.pendingDB != 0 {
		c.attend(attShadow) // the delivery touched a data breakpoint: the trap comes before the handler's first instruction
	}
	return ok
}

// deliverTracked is deliverAll with taint on.
func (c *CPU) deliverTracked() bool {
	t := c.track
	level := c.cpl
	t.quiet = true
	ok := c.deliverAll(c.exc)
	t.quiet = false
	if ok && c.tracking {
		c.tookEvent(t.regs.Flags, t.regs.GPR[isa.RSP], c.cpl != level, c.eventCode)
	}
	return ok
}

func (c *CPU) deliverAll(e exception) bool {
	story := ""
	for {
		c.accept(&e)
		c.stop = stopNone
		if c.deliver(&e) {
			c.eventCode = e.hasCode
			return true
		}
		if c.stop == stopUnsupported {
			return false
		}
		second := c.exc
		c.stop = stopNone
		if story != "" {
			story += ", then "
		}
		story += e.describe()
		if e.vector == VectorDF && !e.software {
			c.detail = fmt.Sprintf("triple fault at %#x: %s, then %s", c.rip, story, second.describe())
			return false
		}
		if e.software && !second.committed {
			c.rip = e.start
		}
		if e.contributory() && second.contributory() || e.isPageFault() && (second.isPageFault() || second.contributory()) {
			if second.isPageFault() {
				c.cr2 = second.cr2
			}
			story += ", then " + second.describe()
			second = exception{vector: VectorDF, hasCode: true}
		}
		e = second
	}
}

// accept makes the changes to CR2, DR6 and DR7 that come with an exception.
func (c *CPU) accept(e *exception) {
	if e.external || e.software {
		c.stats.Interrupts++
	} else {
		c.stats.Exceptions[e.vector&31]++
	}
	switch {
	case e.isPageFault():
		c.cr2 = e.cr2
	case e.vector == VectorDB && !e.software && !e.external:
		// B0 to B3 are those of this exception, the others stay set until the handler clears them (SDM vol. 3B, 17.2.3).
		c.dr[6] = c.dr[6]&^0xf | e.dr6
		c.dr[7] &^= dr7GD
	}
}

func (e *exception) isPageFault() bool { return e.vector == VectorPF && !e.software && !e.external }

// contributory is the class of table 6-4 in SDM vol. 3A.
func (e *exception) contributory() bool {
	if e.software || e.external {
		return false
	}
	switch e.vector {
	case VectorDE, VectorTS, VectorNP, VectorSS, VectorGP:
		return true
	}
	return false
}

var vectorNames = [32]string{
	VectorDE: "#DE", VectorDB: "#DB", VectorNMI: "NMI", VectorBP: "#BP", VectorOF: "#OF", VectorBR: "#BR", VectorUD: "#UD",
	VectorNM: "#NM", VectorDF: "#DF", VectorTS: "#TS", VectorNP: "#NP", VectorSS: "#SS", VectorGP: "#GP", VectorPF: "#PF",
	VectorMF: "#MF", VectorAC: "#AC", VectorMC: "#MC", VectorXM: "#XM",
}

func (e *exception) describe() string {
	if e.software || e.external || vectorNames[e.vector&31] == "" || e.vector > 31 {
		return fmt.Sprintf("interrupt %d", e.vector)
	}
	s := vectorNames[e.vector]
	if e.hasCode {
		s += fmt.Sprintf("(%#x)", e.code)
	}
	if e.isPageFault() {
		s += fmt.Sprintf(" on address %#x", e.cr2)
	}
	return s
}

// deliver enters the handler of one event, or raises the fault that stands in the way.
func (c *CPU) deliver(e *exception) bool {
	c.ext = 1
	if e.software && (e.intN || e.vector != VectorDB) { // INT1 counts as an external event, INT 1 does not
		c.ext = 0
	}
	switch {
	case c.cr0&cr0PE == 0:
		return c.deliverReal(e)
	case c.longMode():
		return c.deliverLong(e)
	default:
		return c.deliverProtected(e)
	}
}

// savedFlags is the image of RFLAGS that an event pushes: RF is set by faults, so that their instruction can be
// restarted in spite of a breakpoint on it, but not by debug exceptions (SDM vol. 3B, 17.3.1.1).
func (c *CPU) savedFlags(e *exception) uint64 {
	flags := c.RFLAGS()
	if !e.trap && !e.external && !e.software && e.vector != VectorDB {
		flags |= FlagRF
	}
	return flags
}

// deliverReal uses the interrupt vector table (SDM vol. 3B, 20.1.4).
func (c *CPU) deliverReal(e *exception) bool {
	off := uint64(e.vector) * 4
	if off+3 > uint64(c.idtr.Limit) {
		return c.gp(c.ext)
	}
	v, ok := c.loadSystem(c.idtr.Base+off, 4)
	if !ok {
		return false
	}
	st := c.currentStack()
	if !c.pushStack(&st, 2, c.savedFlags(e)) || !c.pushStack(&st, 2, uint64(c.seg[isa.CS].Selector)) ||
		!c.pushStack(&st, 2, c.rip) {
		return false
	}
	c.commitStack(&st)
	c.setSystemFlags(c.flags &^ (FlagIF | FlagTF | FlagAC | FlagRF))
	c.setCode(c.realSegment(isa.CS, uint16(v>>16)), 0)
	c.rip = v & 0xffff
	return true
}

// idtFault raises a fault that names the event's IDT entry.
func (c *CPU) idtFault(vector uint8, e *exception) bool {
	return c.raiseCode(vector, uint32(e.vector)<<3|2|c.ext)
}

// checksGate reports INT n, INT3 and INTO, which need a gate of their privilege; INT1 does not.
func (e *exception) checksGate() bool { return e.software && e.vector != VectorDB || e.intN }

// deliverProtected goes through a gate of the IDT in 32-bit protected mode (SDM vol. 3A, 6.12; vol. 2, INT n).
func (c *CPU) deliverProtected(e *exception) bool {
	off := uint64(e.vector) * 8
	if off+7 > uint64(c.idtr.Limit) {
		return c.idtFault(VectorGP, e)
	}
	v, ok := c.loadSystem(c.idtr.Base+off, 8)
	if !ok {
		return false
	}
	gate := descriptor{low: v}
	size := uint8(4)
	switch kind := gate.kind(); {
	case !gate.system():
		return c.idtFault(VectorGP, e)
	case kind == typeIntGate16 || kind == typeTrapGate16:
		size = 2
	case kind == typeTaskGate || kind == typeIntGate || kind == typeTrapGate:
	default:
		return c.idtFault(VectorGP, e)
	}
	if e.checksGate() && gate.dpl() < c.cpl {
		return c.idtFault(VectorGP, e)
	}
	if !gate.present() {
		return c.idtFault(VectorNP, e)
	}
	if gate.kind() == typeTaskGate {
		return c.deliverTask(&gate, e)
	}
	sel := gate.gateSelector()
	code, cpl, ok := c.handlerSegment(sel)
	if !ok {
		return false
	}
	if c.vm86() && cpl != 0 {
		return c.selectorFault(VectorGP, sel)
	}
	st := c.currentStack()
	if cpl != c.cpl {
		if st, ok = c.innerStack(cpl, 0); !ok {
			return false
		}
	}
	frame := make([]uint64, 0, 10)
	if c.vm86() {
		frame = append(frame, uint64(c.seg[isa.GS].Selector), uint64(c.seg[isa.FS].Selector),
			uint64(c.seg[isa.DS].Selector), uint64(c.seg[isa.ES].Selector))
	}
	if cpl != c.cpl {
		frame = append(frame, uint64(c.seg[isa.SS].Selector), c.r[isa.RSP])
	}
	frame = append(frame, c.savedFlags(e), uint64(c.seg[isa.CS].Selector), c.rip)
	if e.hasCode {
		frame = append(frame, uint64(e.code))
	}
	for _, v := range frame {
		if !c.pushStack(&st, size, v) {
			return false
		}
	}
	ip := gate.gateOffset()
	if size == 2 {
		ip &= 0xffff
	}
	seg := code.segment(sel&^3 | uint16(cpl))
	if ip > uint64(seg.Limit) {
		return c.gp(c.ext)
	}
	if !c.setDescriptorBits(&code, 1) {
		return false
	}
	if c.vm86() {
		for _, reg := range []uint8{isa.ES, isa.DS, isa.FS, isa.GS} {
			c.setSegment(reg, vcpu.Segment{})
		}
	}
	c.enterHandler(e, &gate, seg, cpl, &st, ip)
	return true
}

// handlerSegment checks the code segment that a gate of the IDT names. cpl is the level it will run at.
func (c *CPU) handlerSegment(sel uint16) (d descriptor, cpl uint8, ok bool) {
	if null(sel) {
		return d, 0, c.gp(c.ext)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return d, 0, false
	}
	if !found || !d.code() || d.dpl() > c.cpl {
		return d, 0, c.selectorFault(VectorGP, sel)
	}
	if c.longMode() && d.attr()&(vcpu.AttrL|vcpu.AttrDB) != vcpu.AttrL {
		return d, 0, c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return d, 0, c.selectorFault(VectorNP, sel)
	}
	if d.conforming() {
		return d, c.cpl, true
	}
	return d, d.dpl(), true
}

// enterHandler is the part of delivery that cannot fail.
func (c *CPU) enterHandler(e *exception, gate *descriptor, cs vcpu.Segment, cpl uint8, st *stackRef, ip uint64) {
	flags := c.flags &^ (FlagTF | FlagNT | FlagVM | FlagRF)
	if gate.kind()&1 == 0 {
		flags &^= FlagIF
	}
	c.flags = flags
	c.flagsChanged()
	if cpl != c.cpl {
		c.setSegment(isa.SS, st.seg)
	}
	c.setStackPointer(st.sp, st.mask)
	c.setCode(cs, cpl)
	c.rip = ip
	if e.vector == VectorNMI && e.external {
		c.nmiBlocked = true
		c.setAttention(attNMI, false)
	}
}

// deliverLong goes through a gate of the IDT in IA-32e mode (SDM vol. 3A, 6.14).
func (c *CPU) deliverLong(e *exception) bool {
	off := uint64(e.vector) * 16
	if off+15 > uint64(c.idtr.Limit) {
		return c.idtFault(VectorGP, e)
	}
	low, ok := c.loadSystem(c.idtr.Base+off, 8)
	if !ok {
		return false
	}
	high, ok := c.loadSystem(c.idtr.Base+off+8, 8)
	if !ok {
		return false
	}
	gate := descriptor{low: low, high: high & 0xffffffff}
	if !gate.system() || gate.kind() != typeIntGate && gate.kind() != typeTrapGate || high>>40&0x1f != 0 {
		return c.idtFault(VectorGP, e)
	}
	if e.checksGate() && gate.dpl() < c.cpl {
		return c.idtFault(VectorGP, e)
	}
	if !gate.present() {
		return c.idtFault(VectorNP, e)
	}
	sel := gate.gateSelector()
	code, cpl, ok := c.handlerSegment(sel)
	if !ok {
		return false
	}
	st := stackRef{sp: c.r[isa.RSP], mask: ^uint64(0), ctx: c.ctx, code: c.ext}
	if ist := low >> 32 & 7; cpl != c.cpl || ist != 0 {
		if st, ok = c.innerStack(cpl, ist); !ok {
			return false
		}
	}
	st.sp &^= 15
	frame := [6]uint64{
		uint64(c.seg[isa.SS].Selector), c.r[isa.RSP], c.savedFlags(e), uint64(c.seg[isa.CS].Selector), c.rip, uint64(e.code),
	}
	n := 5
	if e.hasCode {
		n = 6
	}
	for _, v := range frame[:n] {
		if !c.pushStack(&st, 8, v) {
			return false
		}
	}
	ip := gate.gateOffset()
	if !c.canonical(ip) {
		return c.gp(c.ext)
	}
	if !c.setDescriptorBits(&code, 1) {
		return false
	}
	c.enterHandler(e, &gate, code.segment(sel&^3|uint16(cpl)), cpl, &st, ip)
	return true
}

// softInterrupt raises an interrupt by instruction; delivery takes place after it.
func (c *CPU) softInterrupt(u *uop, vector uint8) bool {
	c.exc = exception{vector: vector, software: true, trap: true, start: c.start(u)}
	c.stop = stopFault
	return false
}

// intN is INT n. In virtual-8086 mode it needs IOPL 3 (SDM vol. 3B, 20.2.6.2; there is no VME).
func intN(c *CPU, u *uop) bool {
	if c.vm86() && c.iopl() < 3 {
		return c.gp(0)
	}
	c.softInterrupt(u, uint8(u.Imm))
	c.exc.intN = true
	return false
}

func int3(c *CPU, u *uop) bool { return c.softInterrupt(u, VectorBP) }

// int1 raises #DB without a bit in DR6 (SDM vol. 2, INT n; vol. 3B, 17.3.1.1).
func int1(c *CPU, u *uop) bool { return c.softInterrupt(u, VectorDB) }

func into(c *CPU, u *uop) bool {
	if !c.f.of() {
		return true
	}
	return c.softInterrupt(u, VectorOF)
}

// bound checks an index against a pair of signed bounds (SDM vol. 2, BOUND).
func bound(c *CPU, u *uop) bool {
	size := u.OpSize
	la, ok := c.address(u, size*2, false)
	if !ok {
		return false
	}
	lower, ok := c.load(la, size)
	if !ok {
		return false
	}
	upper, ok := c.load(c.wrapLinear(la+uint64(size)), size)
	if !ok {
		return false
	}
	if i := sext(c.reg(u.Args[0].Reg, size), size); i < sext(lower, size) || i > sext(upper, size) {
		return c.raise(VectorBR)
	}
	return true
}

func undefined(c *CPU, _ *uop) bool { return c.raise(VectorUD) }

// cli and sti (SDM vol. 2); without VME and PVI they need IOPL.
func cli(c *CPU, _ *uop) bool {
	if c.cr0&cr0PE != 0 && c.cpl > c.iopl() {
		return c.gp(0)
	}
	c.setSystemFlags(c.flags &^ FlagIF)
	return true
}

func sti(c *CPU, _ *uop) bool {
	if c.cr0&cr0PE != 0 && c.cpl > c.iopl() {
		return c.gp(0)
	}
	if c.flags&FlagIF == 0 {
		c.setSystemFlags(c.flags | FlagIF)
		c.shadow = true
		c.attend(attShadow)
	}
	return true
}

// unblockNMI ends the blocking of NMIs, as IRET does even if it faults (SDM vol. 3A, 6.7.1).
func (c *CPU) unblockNMI() {
	c.nmiBlocked = false
	c.setAttention(attNMI, c.nmi)
}

// returnFlags merges the flags that IRET popped into RFLAGS, as far as CPL and operand size allow (SDM vol. 2, IRET).
func (c *CPU) returnFlags(popped uint64, size uint8) uint64 {
	mask := flagsArith | FlagTF | FlagDF | FlagNT
	if size != 2 {
		mask |= FlagRF | FlagAC | FlagID
		if c.cpl == 0 {
			mask |= FlagVIF | FlagVIP
		}
	}
	if c.cr0&cr0PE == 0 {
		mask |= FlagIF | FlagIOPL
	} else {
		if c.cpl == 0 {
			mask |= FlagIOPL
		}
		if c.cpl <= c.iopl() {
			mask |= FlagIF
		}
	}
	return c.RFLAGS()&^mask | popped&mask
}

func iret(c *CPU, u *uop) bool {
	if c.vm86() && c.iopl() < 3 {
		return c.gp(0)
	}
	st := c.currentStack()
	if c.protected() {
		if c.flags&FlagNT != 0 {
			if c.longMode() {
				return c.gp(0)
			}
			return c.returnFromTask(u)
		}
		return c.iretProtected(u, &st)
	}
	ip, ok1 := c.popStack(&st, u.OpSize)
	if !ok1 {
		return false
	}
	sel, ok2 := c.popStack(&st, u.OpSize)
	if !ok2 {
		return false
	}
	flags, ok3 := c.popStack(&st, u.OpSize)
	if !ok3 {
		return false
	}
	cs := c.realSegment(isa.CS, uint16(sel))
	if ip > uint64(cs.Limit) {
		return c.gp(0)
	}
	c.unblockNMI()
	c.commitStack(&st)
	flags = c.returnFlags(flags, u.OpSize)
	c.setCode(cs, c.cpl)
	c.setRFLAGS(flags)
	c.rip = ip
	return true
}

func (c *CPU) iretProtected(u *uop, st *stackRef) bool {
	size := u.OpSize
	var frame [3]uint64 // IP, CS, flags
	for i := range frame {
		v, ok := c.popStack(st, size)
		if !ok {
			return false
		}
		frame[i] = v
	}
	if frame[2]&FlagVM != 0 && size == 4 && c.cpl == 0 && !c.longMode() {
		return c.returnToVM86(frame[0], uint16(frame[1]), frame[2], st)
	}
	c.unblockNMI()
	if !c.farReturn(uint16(frame[1]), frame[0], st, size, 0, true, frame[2]) {
		return false
	}
	if c.redir != nil {
		c.returnedFromEvent()
	}
	return true
}

// returnToVM86 completes an IRET to virtual-8086 mode (SDM vol. 3B, 20.2.5).
func (c *CPU) returnToVM86(ip uint64, cs uint16, flags uint64, st *stackRef) bool {
	var v [6]uint64 // ESP, SS, ES, DS, FS, GS
	for i := range v {
		var ok bool
		if v[i], ok = c.popStack(st, 4); !ok {
			return false
		}
	}
	if ip > 0xffff {
		return c.gp(0)
	}
	c.unblockNMI()
	c.setRFLAGS(flags)
	c.cpl = 3
	for i, reg := range []uint8{isa.SS, isa.ES, isa.DS, isa.FS, isa.GS} {
		c.setSegment(reg, c.realSegment(reg, uint16(v[i+1])))
	}
	c.r[isa.RSP] = v[0] & 0xffffffff
	c.setCode(c.realSegment(isa.CS, cs), 3)
	c.rip = ip
	return true
}

func debugHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.INT:  intN,
		isa.INT3: int3,
		isa.INT1: int1,
		isa.INTO: into,
		isa.UD0:  undefined, isa.UD1: undefined, isa.UD2: undefined,
		isa.BOUND: bound,
		isa.CLI:   cli,
		isa.STI:   sti,
		isa.IRET:  iret,
	}
}
