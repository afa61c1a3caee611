package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

func farHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.CALL_FAR: callFar,
		isa.JMP_FAR:  jmpFar,
		isa.RET_FAR:  retFar,
		isa.SYSCALL:  syscallInst,
		isa.SYSRET:   sysret,
		isa.SYSENTER: sysenter,
		isa.SYSEXIT:  sysexit,
	}
}

// farTarget reads the far pointer of a far CALL or JMP.
func (c *CPU) farTarget(u *uop) (sel uint16, off uint64, ok bool) {
	if u.Args[0].Kind == isa.KindMem {
		return c.farPointer(u, 0)
	}
	return u.Imm2, u.Imm & sizeMask[u.OpSize], true
}

func jmpFar(c *CPU, u *uop) bool {
	sel, off, ok := c.farTarget(u)
	if !ok {
		return false
	}
	if !c.protected() {
		cs := c.realSegment(isa.CS, sel)
		if off > uint64(cs.Limit) {
			return c.gp(0)
		}
		c.setCode(cs, c.cpl)
		c.rip = off
		return true
	}
	return c.farTransfer(u, sel, off, false)
}

func callFar(c *CPU, u *uop) bool {
	sel, off, ok := c.farTarget(u)
	if !ok {
		return false
	}
	if !c.protected() {
		cs := c.realSegment(isa.CS, sel)
		if off > uint64(cs.Limit) {
			return c.gp(0)
		}
		st := c.currentStack()
		if !c.pushStack(&st, u.OpSize, uint64(c.seg[isa.CS].Selector)) || !c.pushStack(&st, u.OpSize, c.next(u)) {
			return false
		}
		c.commitStack(&st)
		c.setCode(cs, c.cpl)
		c.rip = off
		return true
	}
	return c.farTransfer(u, sel, off, true)
}

// farTransfer is a far CALL or JMP in protected mode (SDM vol. 3A, 5.8; vol. 2, CALL, JMP).
func (c *CPU) farTransfer(u *uop, sel uint16, off uint64, call bool) bool {
	if null(sel) {
		return c.gp(0)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return false
	}
	if !found {
		return c.selectorFault(VectorGP, sel)
	}
	if d.code() {
		if !c.checkDirect(&d, sel) {
			return false
		}
		cs := d.segment(sel&^3 | uint16(c.cpl))
		st := c.currentStack()
		// In 64-bit mode RSP may be wider than the stack of the segment that is entered: the pushes are of this one.
		if call && (!c.pushStack(&st, u.OpSize, uint64(c.seg[isa.CS].Selector)) || !c.pushStack(&st, u.OpSize, c.next(u))) {
			return false
		}
		if !c.validIP(&cs, &off) || !c.setDescriptorBits(&d, 1) {
			return false
		}
		if call {
			c.commitStack(&st)
		}
		c.setCode(cs, c.cpl)
		c.rip = off
		return true
	}
	if !d.system() {
		return c.selectorFault(VectorGP, sel)
	}
	// Gates and task-state segments: both CPL and RPL must reach them.
	kind := d.kind()
	switch {
	case kind == typeCallGate, !c.longMode() && (kind == typeCallGate16 || kind == typeTaskGate || kind == typeTSS || kind == typeTSS16):
	default:
		return c.selectorFault(VectorGP, sel)
	}
	if d.dpl() < max(c.cpl, uint8(sel&3)) {
		return c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	reason := taskJump
	if call {
		reason = taskCall
	}
	switch kind {
	case typeCallGate, typeCallGate16:
		return c.callGate(u, &d, sel, call)
	case typeTaskGate:
		c.rip = c.next(u)
		return c.throughTaskGate(&d, reason, 0)
	default:
		c.rip = c.next(u)
		return c.switchTask(&d, sel, reason, c.next(u))
	}
}

// checkDirect checks a code segment that is entered without a gate (SDM vol. 3A, 5.8.1).
func (c *CPU) checkDirect(d *descriptor, sel uint16) bool {
	if d.conforming() {
		if d.dpl() > c.cpl {
			return c.selectorFault(VectorGP, sel)
		}
	} else if uint8(sel&3) > c.cpl || d.dpl() != c.cpl {
		return c.selectorFault(VectorGP, sel)
	}
	if c.longMode() && d.attr()&(vcpu.AttrL|vcpu.AttrDB) == vcpu.AttrL|vcpu.AttrDB {
		return c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	return true
}

// validIP checks that an instruction pointer is within a code segment, or canonical in a 64-bit one, and truncates it.
func (c *CPU) validIP(cs *vcpu.Segment, ip *uint64) bool {
	if c.longMode() && cs.Attr&vcpu.AttrL != 0 {
		if !c.canonical(*ip) {
			return c.gp(0)
		}
		return true
	}
	*ip &= 0xffffffff
	if *ip > uint64(cs.Limit) {
		return c.gp(0)
	}
	return true
}

// callGate goes through a call gate (SDM vol. 3A, 5.8.3 to 5.8.5).
func (c *CPU) callGate(u *uop, gate *descriptor, gateSel uint16, call bool) bool {
	if c.longMode() && gate.high>>40&0x1f != 0 { // the gate is wholly checked before its target is read
		return c.selectorFault(VectorGP, gateSel)
	}
	sel := gate.gateSelector()
	if null(sel) {
		return c.gp(0)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return false
	}
	if !found || !d.code() || d.dpl() > c.cpl || !call && !d.conforming() && d.dpl() != c.cpl {
		return c.selectorFault(VectorGP, sel)
	}
	if c.longMode() && d.attr()&(vcpu.AttrL|vcpu.AttrDB) != vcpu.AttrL {
		return c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	size, ip := uint8(4), gate.gateOffset()
	switch {
	case c.longMode():
		size = 8
	case gate.kind() == typeCallGate16:
		size, ip = 2, ip&0xffff
	}
	cpl := c.cpl
	if !d.conforming() {
		cpl = d.dpl()
	}
	cs := d.segment(sel&^3 | uint16(cpl))
	st := c.currentStack()
	if call {
		if cpl < c.cpl {
			outer := st
			if st, ok = c.innerStack(cpl, 0); !ok {
				return false
			}
			if !c.pushStack(&st, size, uint64(c.seg[isa.SS].Selector)) || !c.pushStack(&st, size, c.r[isa.RSP]) {
				return false
			}
			if n := gate.low >> 32 & 31; n != 0 && !c.longMode() {
				var params [32]uint64
				for i := range n {
					if params[i], ok = c.popStack(&outer, size); !ok {
						return false
					}
				}
				for i := range n {
					if !c.pushStack(&st, size, params[n-1-i]) {
						return false
					}
				}
			}
		}
		if c.longMode() {
			st.mask = ^uint64(0)
		}
		if !c.pushStack(&st, size, uint64(c.seg[isa.CS].Selector)) || !c.pushStack(&st, size, c.next(u)) {
			return false
		}
	}
	if !c.validIP(&cs, &ip) || !c.setDescriptorBits(&d, 1) {
		return false
	}
	if call {
		if cpl < c.cpl {
			c.setSegment(isa.SS, st.seg)
		}
		c.setStackPointer(st.sp, st.mask)
	}
	c.setCode(cs, cpl)
	c.rip = ip
	return true
}

func retFar(c *CPU, u *uop) bool {
	release := uint64(0)
	if u.Args[0].Kind == isa.KindImm {
		release = u.Imm & 0xffff
	}
	st := c.currentStack()
	ip, ok := c.popStack(&st, u.OpSize)
	if !ok {
		return false
	}
	sel, ok := c.popStack(&st, u.OpSize)
	if !ok {
		return false
	}
	if c.protected() {
		return c.farReturn(uint16(sel), ip, &st, u.OpSize, release, false, 0)
	}
	cs := c.realSegment(isa.CS, uint16(sel))
	if ip > uint64(cs.Limit) {
		return c.gp(0)
	}
	st.sp = (st.sp + release) & st.mask
	c.commitStack(&st)
	c.setCode(cs, c.cpl)
	c.rip = ip
	return true
}

// farReturn completes a far RET or an IRET in protected mode, after CS and IP (and the flags) were popped from st (SDM vol.
// 2, RET, IRET). release is what RET n adds to the stack pointers.
func (c *CPU) farReturn(sel uint16, ip uint64, st *stackRef, size uint8, release uint64, iret bool, flags uint64) bool {
	if null(sel) {
		return c.gp(0)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return false
	}
	rpl := uint8(sel & 3)
	if !found || !d.code() || rpl < c.cpl || d.conforming() && d.dpl() > rpl || !d.conforming() && d.dpl() != rpl {
		return c.selectorFault(VectorGP, sel)
	}
	if c.longMode() && d.attr()&(vcpu.AttrL|vcpu.AttrDB) == vcpu.AttrL|vcpu.AttrDB {
		return c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	cs := d.segment(sel)
	to64 := c.longMode() && cs.Attr&vcpu.AttrL != 0
	outer := rpl > c.cpl
	st.sp = (st.sp + release) & st.mask

	ss := c.seg[isa.SS]
	sp, mask := st.sp, st.mask
	if outer || iret && c.mode == isa.Mode64 {
		var newSS uint64
		if sp, ok = c.popStack(st, size); !ok {
			return false
		}
		if newSS, ok = c.popStack(st, size); !ok {
			return false
		}
		if ss, ok = c.outerStack(uint16(newSS), rpl, to64); !ok {
			return false
		}
		sp += release
		mask = stackMask(&ss)
	}
	switch {
	case to64:
		mask = ^uint64(0)
	case c.mode == isa.Mode64:
		mask = stackMask(&ss)
	}
	if !c.validIP(&cs, &ip) || !c.setDescriptorBits(&d, 1) {
		return false
	}
	if iret {
		flags = c.returnFlags(flags, size)
	}
	c.setSegment(isa.SS, ss)
	c.setStackPointer(sp, mask)
	c.setCode(cs, rpl)
	c.rip = ip
	if outer {
		c.hideSegments()
	}
	if iret {
		c.setRFLAGS(flags)
	}
	return true
}

// outerStack checks the stack segment that a return to level rpl pops.
func (c *CPU) outerStack(sel uint16, rpl uint8, to64 bool) (s vcpu.Segment, ok bool) {
	if null(sel) {
		if !to64 || rpl == 3 || uint8(sel&3) != rpl {
			return s, c.gp(0)
		}
		return nullStack(rpl), true
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return s, false
	}
	if !found || uint8(sel&3) != rpl || !d.data() || !d.writable() || d.dpl() != rpl {
		return s, c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return s, c.selectorFault(VectorSS, sel)
	}
	if !c.setDescriptorBits(&d, 1) {
		return s, false
	}
	return d.segment(sel), true
}

// hideSegments makes data segments null that a less privileged program must not use (SDM vol. 3A, 5.8.6).
func (c *CPU) hideSegments() {
	for _, reg := range [4]uint8{isa.ES, isa.DS, isa.FS, isa.GS} {
		s := &c.seg[reg]
		if s.Attr&vcpu.AttrP == 0 {
			s.Selector &^= 3
			if null(s.Selector) {
				s.Selector = 0
			}
			continue
		}
		conforming := s.Attr&(vcpu.AttrCode|vcpu.AttrExpand) == vcpu.AttrCode|vcpu.AttrExpand
		if !conforming && uint8(s.Attr>>vcpu.AttrDPLShift&3) < c.cpl {
			c.setSegment(reg, vcpu.Segment{Base: s.Base})
		}
	}
}

// flatSegment is a segment as SYSCALL and its kin load it, without a look at the descriptor.
func flatSegment(sel uint16, attr uint16) vcpu.Segment {
	return vcpu.Segment{Selector: sel, Attr: attr, Limit: 0xffffffff}
}

// Attributes of flat segments at CPL 0; or-ing 0x60 makes them those of CPL 3.
const (
	attrCode64 = 0xa09b
	attrCode32 = 0xc09b
	attrData32 = 0xc093
	attrCPL3   = 3 << vcpu.AttrDPLShift
)

// syscallInst is SYSCALL as Intel has it, in 64-bit mode only (SDM vol. 2).
func syscallInst(c *CPU, u *uop) bool {
	if c.mode != isa.Mode64 || c.msr.EFER&eferSCE == 0 {
		return c.raise(VectorUD)
	}
	flags := c.RFLAGS() &^ FlagRF
	c.r[isa.RCX] = c.next(u)
	c.r[isa.R11] = flags
	sel := uint16(c.msr.STAR >> 32)
	c.setSegment(isa.SS, flatSegment(sel+8, attrData32))
	c.setCode(flatSegment(sel&^3, attrCode64), 0)
	c.setRFLAGS(flags &^ (c.msr.FMASK | FlagRF))
	if c.flags&FlagTF == 0 {
		c.stepping = false
	}
	c.rip = c.msr.LSTAR
	return true
}

// sysret is SYSRET as Intel has it: a non-canonical RIP faults at CPL 0 (SDM vol. 2).
func sysret(c *CPU, u *uop) bool {
	if c.mode != isa.Mode64 || c.msr.EFER&eferSCE == 0 {
		return c.raise(VectorUD)
	}
	if c.cpl != 0 {
		return c.gp(0)
	}
	sel := uint16(c.msr.STAR >> 48)
	ip := c.r[isa.RCX]
	cs := flatSegment(sel|3, attrCode32|attrCPL3)
	if u.OpSize == 8 {
		if !c.canonical(ip) {
			return c.gp(0)
		}
		cs = flatSegment((sel+16)|3, attrCode64|attrCPL3)
	} else {
		ip &= 0xffffffff
	}
	const keep = FlagRF | FlagVM
	flags := c.r[isa.R11] & (flagsArith | flagsSystem) &^ keep
	c.setSegment(isa.SS, flatSegment((sel+8)|3, attrData32|attrCPL3))
	c.setCode(cs, 3)
	c.setRFLAGS(flags)
	c.rip = ip
	return true
}

func sysenter(c *CPU, _ *uop) bool {
	sel := uint16(c.msr.SysenterCS)
	if c.cr0&cr0PE == 0 || sel&^3 == 0 {
		return c.gp(0)
	}
	attr := uint16(attrCode32)
	ip, sp := c.msr.SysenterEIP, c.msr.SysenterESP
	if c.longMode() {
		attr = attrCode64
	} else {
		ip, sp = ip&0xffffffff, sp&0xffffffff
	}
	c.setSystemFlags(c.flags &^ (FlagVM | FlagIF | FlagRF))
	c.setSegment(isa.SS, flatSegment(sel&^3+8, attrData32))
	c.setCode(flatSegment(sel&^3, attr), 0)
	c.r[isa.RSP] = sp
	c.rip = ip
	return true
}

func sysexit(c *CPU, u *uop) bool {
	sel := uint16(c.msr.SysenterCS)
	if c.cr0&cr0PE == 0 || sel&^3 == 0 || c.cpl != 0 {
		return c.gp(0)
	}
	ip, sp := c.r[isa.RDX], c.r[isa.RCX]
	cs, ss := flatSegment((sel+16)|3, attrCode32|attrCPL3), flatSegment((sel+24)|3, attrData32|attrCPL3)
	if u.OpSize == 8 && c.mode == isa.Mode64 {
		if !c.canonical(ip) || !c.canonical(sp) {
			return c.gp(0)
		}
		cs, ss = flatSegment((sel+32)|3, attrCode64|attrCPL3), flatSegment((sel+40)|3, attrData32|attrCPL3)
	} else {
		ip, sp = ip&0xffffffff, sp&0xffffffff
	}
	c.setSegment(isa.SS, ss)
	c.setCode(cs, 3)
	c.r[isa.RSP] = sp
	c.rip = ip
	return true
}
