package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// System-segment and gate types (SDM vol. 3A, table 3-2).
const (
	typeTSS16      = 1
	typeLDT        = 2
	typeTSS16Busy  = 3
	typeCallGate16 = 4
	typeTaskGate   = 5
	typeIntGate16  = 6
	typeTrapGate16 = 7
	typeTSS        = 9
	typeTSSBusy    = 11
	typeCallGate   = 12
	typeIntGate    = 14
	typeTrapGate   = 15

	tssBusy = 2 // the bit that tells a busy TSS from an available one
)

// Bits of c.rights.
const (
	canRead  uint8 = 1
	canWrite uint8 = 2
)

// setSegment replaces a segment register, hidden part included. The caller calls refresh for CS and SS.
func (c *CPU) setSegment(reg uint8, s vcpu.Segment) {
	c.seg[reg] = s
	c.rights[reg&7] = 0
	if reg >= isa.FS {
		c.r[regFSBase+reg-isa.FS] = s.Base
	}
	if key := c.currentKey(); key != c.key {
		c.key = key
		c.unchain = true
	}
	const usable = vcpu.AttrP | vcpu.AttrS
	if s.Attr&usable != usable {
		return
	}
	switch {
	case s.Attr&vcpu.AttrCode != 0:
		if s.Attr&vcpu.AttrWritable != 0 {
			c.rights[reg&7] = canRead
		}
	case s.Attr&vcpu.AttrExpand == 0:
		c.rights[reg&7] = canRead
		if s.Attr&vcpu.AttrWritable != 0 {
			c.rights[reg&7] |= canWrite
		}
	}
}

// setBase replaces the base of FS or GS.
func (c *CPU) setBase(reg uint8, base uint64) {
	c.seg[reg].Base = base
	c.r[regFSBase+reg-isa.FS] = base
}

// linear computes the linear address of size bytes at offset off of a segment, and checks type and limit outside 64-bit
// mode (SDM vol. 3A, 5.3). A violation is #SS(0) for the stack segment, else #GP(0).
func (c *CPU) linear(seg uint8, off, size uint64, write bool) (la uint64, ok bool) {
	s := &c.seg[seg]
	if c.mode == isa.Mode64 {
		if seg >= isa.FS {
			off += s.Base
		}
		return off, true
	}
	need := canRead
	if write {
		need = canWrite
	}
	if c.rights[seg&7]&need != 0 && off+size-1 <= uint64(s.Limit) || expandDownAllows(s, off, size, write) {
		return (s.Base + off) & 0xffffffff, true
	}
	if seg == isa.SS {
		return 0, c.raiseCode(VectorSS, 0)
	}
	return 0, c.gp(0)
}

// expandDownAllows is the check of limit and type for an expand-down data segment (SDM vol. 3A, 5.3).
func expandDownAllows(s *vcpu.Segment, off, size uint64, write bool) bool {
	const mask = vcpu.AttrP | vcpu.AttrS | vcpu.AttrCode | vcpu.AttrExpand
	if s.Attr&mask != vcpu.AttrP|vcpu.AttrS|vcpu.AttrExpand || write && s.Attr&vcpu.AttrWritable == 0 {
		return false
	}
	top := uint64(0xffff)
	if s.Attr&vcpu.AttrDB != 0 {
		top = 0xffffffff
	}
	return off > uint64(s.Limit) && off+size-1 <= top
}

// descriptor is an entry of the GDT or LDT.
type descriptor struct {
	la   uint64 // linear address
	low  uint64
	high uint64 // upper half of a 16-byte descriptor of IA-32e mode
}

func (d *descriptor) attr() uint16  { return uint16(d.low>>40) & 0xf0ff }
func (d *descriptor) kind() uint8   { return uint8(d.low>>40) & 0xf }
func (d *descriptor) dpl() uint8    { return uint8(d.low>>45) & 3 }
func (d *descriptor) present() bool { return d.low>>47&1 != 0 }

// system reports a system segment or a gate.
func (d *descriptor) system() bool { return d.low>>44&1 == 0 }

// code reports a code segment; data a data segment.
func (d *descriptor) code() bool { return d.low>>43&3 == 3 }
func (d *descriptor) data() bool { return d.low>>43&3 == 2 }

// conforming and readable are for code segments, writable for data segments.
func (d *descriptor) conforming() bool { return d.low>>42&1 != 0 }
func (d *descriptor) readable() bool   { return d.low>>41&1 != 0 }
func (d *descriptor) writable() bool   { return d.low>>41&1 != 0 }

// Offset, selector and parameter count of a gate (SDM vol. 3A, figures 5-8, 6-2, 6-8).
func (d *descriptor) gateSelector() uint16 { return uint16(d.low >> 16) }

func (d *descriptor) gateOffset() uint64 { return d.low&0xffff | d.low>>32&0xffff0000 | d.high<<32 }

// segment is what loading the descriptor by selector sel puts into a segment register.
func (d *descriptor) segment(sel uint16) vcpu.Segment {
	s := vcpu.Segment{
		Selector: sel,
		Attr:     d.attr(),
		Limit:    uint32(d.low&0xffff | d.low>>32&0xf0000),
		Base:     d.low>>16&0xffffff | d.low>>56<<24 | d.high<<32,
	}
	if s.Attr&vcpu.AttrG != 0 {
		s.Limit = s.Limit<<12 | 0xfff
	}
	return s
}

// null reports whether a selector is one of the four null selectors.
func null(sel uint16) bool { return sel&^3 == 0 }

// readDescriptor reads the descriptor of a selector; 16 bytes if it is a system descriptor in IA-32e mode. found is
// false if the table ends before it; ok is false if the read raised a fault.
func (c *CPU) readDescriptor(sel uint16) (d descriptor, found, ok bool) {
	base, limit := c.gdtr.Base, uint32(c.gdtr.Limit)
	if sel&4 != 0 {
		if c.ldtr.Attr&vcpu.AttrP == 0 {
			return d, false, true
		}
		base, limit = c.ldtr.Base, c.ldtr.Limit
	}
	off := uint32(sel &^ 7)
	if off+7 > limit {
		return d, false, true
	}
	d.la = c.wrapLinear(base + uint64(off))
	old := c.systemContext()
	d.low, ok = c.load64(d.la)
	if ok && c.longMode() && d.system() {
		if off+15 > limit {
			c.ctx = old
			return d, false, true
		}
		d.high, ok = c.load64(c.wrapLinear(d.la + 8))
	}
	c.ctx = old
	return d, true, ok
}

// setDescriptorBits sets bits in the byte of a descriptor that holds its type.
func (c *CPU) setDescriptorBits(d *descriptor, bits uint8) bool {
	b := uint8(d.low >> 40)
	if b&bits == bits {
		return true
	}
	old := c.systemContext()
	ok := c.store8(c.wrapLinear(d.la+5), b|bits)
	c.ctx = old
	if ok {
		d.low |= uint64(bits) << 40
	}
	return ok
}

// clearBusy makes the TSS of a descriptor available.
func (c *CPU) clearBusy(d *descriptor) bool {
	old := c.systemContext()
	ok := c.store8(c.wrapLinear(d.la+5), uint8(d.low>>40)&^tssBusy)
	c.ctx = old
	return ok
}

// selectorFault raises a fault whose error code is a selector, with the EXT bit of the event being delivered.
func (c *CPU) selectorFault(vector uint8, sel uint16) bool {
	return c.raiseCode(vector, uint32(sel&^3)|c.ext)
}

// loadSegment loads ES, SS, DS, FS or GS by selector (SDM vol. 2, MOV; vol. 3A, 5.6, 5.7).
func (c *CPU) loadSegment(reg uint8, sel uint16) bool {
	s, ok := c.realSegment(reg, sel), true
	if c.protected() {
		s, ok = c.segmentFor(reg, sel, c.cpl, VectorGP)
	}
	if !ok {
		return false
	}
	c.setSegment(reg, s)
	if reg == isa.SS {
		c.refresh()
	}
	return true
}

// segmentFor makes the checks of loading a data or stack segment register by descriptor at a privilege level and returns what it will
// hold. vector is that of type and privilege violations: #GP, or #TS in a task switch.
func (c *CPU) segmentFor(reg uint8, sel uint16, cpl, vector uint8) (s vcpu.Segment, ok bool) {
	if null(sel) {
		if reg != isa.SS {
			return vcpu.Segment{Selector: sel}, true
		}
		if c.mode != isa.Mode64 || cpl == 3 || uint8(sel&3) != cpl {
			return s, c.selectorFault(vector, sel)
		}
		return nullStack(cpl), true
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return s, false
	}
	if !found {
		return s, c.selectorFault(vector, sel)
	}
	if !c.checkDataSegment(&d, reg, sel, cpl, vector) || !c.setDescriptorBits(&d, 1) {
		return s, false
	}
	return d.segment(sel), true
}

// checkDataSegment raises the faults of loading a descriptor into a data or stack segment register.
func (c *CPU) checkDataSegment(d *descriptor, reg uint8, sel uint16, cpl, vector uint8) bool {
	rpl := uint8(sel & 3)
	if reg == isa.SS {
		if rpl != cpl || !d.data() || !d.writable() || d.dpl() != cpl {
			return c.selectorFault(vector, sel)
		}
		if !d.present() {
			return c.selectorFault(VectorSS, sel)
		}
		return true
	}
	if d.system() || d.code() && !d.readable() {
		return c.selectorFault(vector, sel)
	}
	if (d.data() || !d.conforming()) && d.dpl() < max(rpl, cpl) {
		return c.selectorFault(vector, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	return true
}

// nullStack is SS with a null selector, as 64-bit mode allows below CPL 3. Its DPL is the CPL.
func nullStack(cpl uint8) vcpu.Segment {
	return vcpu.Segment{Selector: uint16(cpl), Attr: uint16(cpl) << vcpu.AttrDPLShift}
}

// realSegment is what a segment register holds after a load in real-address or virtual-8086 mode (SDM vol. 3B, 20.1.1
// and 20.2.1): the limit of real-address mode stays as it was.
func (c *CPU) realSegment(reg uint8, sel uint16) vcpu.Segment {
	if c.vm86() {
		return vcpu.Segment{Selector: sel, Base: uint64(sel) << 4, Limit: 0xffff, Attr: 0xf3}
	}
	s := c.seg[reg]
	s.Selector, s.Base = sel, uint64(sel)<<4
	if reg == isa.CS || s.Attr&vcpu.AttrP == 0 {
		s.Attr = 0x93
	}
	return s
}

// setCode loads CS and CPL.
func (c *CPU) setCode(s vcpu.Segment, cpl uint8) {
	c.setSegment(isa.CS, s)
	c.cpl = cpl
	c.refresh()
}

func segmentHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.MOV_TO_SEG:   movToSeg,
		isa.MOV_FROM_SEG: movFromSeg,
		isa.PUSH_SEG:     pushSeg,
		isa.POP_SEG:      popSeg,
		isa.LES:          loadFarPointer,
		isa.LDS:          loadFarPointer,
		isa.LSS:          loadFarPointer,
		isa.LFS:          loadFarPointer,
		isa.LGS:          loadFarPointer,
		isa.SLDT:         protectedOnly(sldt),
		isa.STR:          protectedOnly(str),
		isa.LLDT:         protectedOnly(privileged(lldt)),
		isa.LTR:          protectedOnly(privileged(ltr)),
		isa.VERR:         protectedOnly(verr),
		isa.VERW:         protectedOnly(verr),
		isa.LAR:          protectedOnly(lar),
		isa.LSL:          protectedOnly(lar),
		isa.ARPL:         protectedOnly(arpl),
	}
}

// privileged makes a handler of an instruction that needs CPL 0.
func privileged(h handler) handler {
	return func(c *CPU, u *uop) bool {
		if c.cpl != 0 {
			return c.gp(0)
		}
		return h(c, u)
	}
}

// protectedOnly makes a handler of an instruction that is #UD in real-address and virtual-8086 mode.
func protectedOnly(h handler) handler {
	return func(c *CPU, u *uop) bool {
		if !c.protected() {
			return c.raise(VectorUD)
		}
		return h(c, u)
	}
}

// blockAfterSS holds interrupts and debug traps back for one instruction (SDM vol. 2, MOV; vol. 3A, 6.8.3).
func (c *CPU) blockAfterSS() {
	c.shadowSS = true
	c.attend(attShadow)
}

func movToSeg(c *CPU, u *uop) bool {
	reg := u.Args[0].Reg
	if reg == isa.CS || reg > isa.GS {
		return c.raise(VectorUD)
	}
	sel, ok := c.read(u, 1)
	if !ok || !c.loadSegment(reg, uint16(sel)) {
		return false
	}
	if reg == isa.SS {
		c.blockAfterSS()
	}
	return true
}

func movFromSeg(c *CPU, u *uop) bool {
	reg := u.Args[1].Reg
	if reg > isa.GS {
		return c.raise(VectorUD)
	}
	return c.write(u, 0, uint64(c.seg[reg].Selector))
}

func pushSeg(c *CPU, u *uop) bool {
	st := c.currentStack()
	if !c.pushStack(&st, u.OpSize, uint64(c.seg[u.Args[0].Reg].Selector)) {
		return false
	}
	c.commitStack(&st)
	return true
}

func popSeg(c *CPU, u *uop) bool {
	reg := u.Args[0].Reg
	st := c.currentStack()
	sel, ok := c.popStack(&st, u.OpSize)
	if !ok || !c.loadSegment(reg, uint16(sel)) {
		return false
	}
	c.commitStack(&st)
	if reg == isa.SS {
		c.blockAfterSS()
	}
	return true
}

// farPointer reads a far pointer in memory: an offset of the operand size, then the selector.
func (c *CPU) farPointer(u *uop, arg int) (sel uint16, off uint64, ok bool) {
	size := u.OpSize
	la, ok := c.address(u, size+2, false)
	if !ok {
		return 0, 0, false
	}
	if off, ok = c.load(la, size); !ok {
		return 0, 0, false
	}
	v, ok := c.load16(c.wrapLinear(la + uint64(size)))
	return v, off, ok
}

func loadFarPointer(c *CPU, u *uop) bool {
	sel, off, ok := c.farPointer(u, 1)
	if !ok {
		return false
	}
	var reg uint8
	switch u.Op {
	case isa.LES:
		reg = isa.ES
	case isa.LDS:
		reg = isa.DS
	case isa.LSS:
		reg = isa.SS
	case isa.LFS:
		reg = isa.FS
	case isa.LGS:
		reg = isa.GS
	}
	if !c.loadSegment(reg, sel) {
		return false
	}
	c.setReg(u.Args[0].Reg, u.OpSize, off)
	return true
}

func sldt(c *CPU, u *uop) bool { return c.writeSelector(u, c.ldtr.Selector) }
func str(c *CPU, u *uop) bool  { return c.writeSelector(u, c.tr.Selector) }

func (c *CPU) writeSelector(u *uop, sel uint16) bool {
	if c.hidden() {
		return c.gp(0)
	}
	return c.write(u, 0, uint64(sel))
}

// lldt loads the local descriptor table (SDM vol. 2, LLDT).
func lldt(c *CPU, u *uop) bool {
	v, ok := c.read(u, 0)
	if !ok {
		return false
	}
	sel := uint16(v)
	if null(sel) {
		c.ldtr = vcpu.Segment{Selector: sel}
		return true
	}
	if sel&4 != 0 {
		return c.selectorFault(VectorGP, sel)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return false
	}
	if !found || !d.system() || d.kind() != typeLDT || d.high>>40&0x1f != 0 {
		return c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	s := d.segment(sel)
	if !c.canonical(s.Base) && c.longMode() {
		return c.selectorFault(VectorGP, sel)
	}
	c.ldtr = s
	return true
}

// ltr loads the task register and marks the TSS busy (SDM vol. 2, LTR).
func ltr(c *CPU, u *uop) bool {
	v, ok := c.read(u, 0)
	if !ok {
		return false
	}
	sel := uint16(v)
	if null(sel) {
		return c.gp(0)
	}
	if sel&4 != 0 {
		return c.selectorFault(VectorGP, sel)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return false
	}
	if !found || !d.system() || d.kind() != typeTSS && (d.kind() != typeTSS16 || c.longMode()) ||
		d.high>>40&0x1f != 0 {
		return c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	if c.longMode() && !c.canonical(d.segment(sel).Base) {
		return c.selectorFault(VectorGP, sel)
	}
	if !c.setDescriptorBits(&d, tssBusy) {
		return false
	}
	c.tr = d.segment(sel)
	return true
}

// visible reads the descriptor of a selector for LAR, LSL, VERR and VERW. found is false if the instruction must clear
// ZF: no such descriptor, or privilege hides it.
func (c *CPU) visible(sel uint16) (d descriptor, found, ok bool) {
	if null(sel) {
		return d, false, true
	}
	d, found, ok = c.readDescriptor(sel)
	if !ok || !found {
		return d, false, ok
	}
	if d.code() && d.conforming() {
		return d, true, true
	}
	return d, d.dpl() >= max(c.cpl, uint8(sel&3)), true
}

// result sets ZF as the outcome of an instruction that cannot fail any more.
func (c *CPU) result(zf bool) bool {
	c.setZF(zf)
	return true
}

// verr is VERR and VERW.
func verr(c *CPU, u *uop) bool {
	v, ok := c.read(u, 0)
	if !ok {
		return false
	}
	d, found, ok := c.visible(uint16(v))
	if !ok {
		return false
	}
	if u.Op == isa.VERW {
		return c.result(found && d.data() && d.writable())
	}
	return c.result(found && (d.data() || d.code() && d.readable()))
}

// lar is LAR and LSL (SDM vol. 2, tables 3-52 and 3-54 list the descriptor types).
func lar(c *CPU, u *uop) bool {
	v, ok := c.read(u, 1)
	if !ok {
		return false
	}
	d, found, ok := c.visible(uint16(v))
	if !ok {
		return false
	}
	if found && d.system() {
		switch d.kind() {
		case typeTSS16, typeTSS16Busy:
			found = !c.longMode()
		case typeLDT, typeTSS, typeTSSBusy:
		case typeCallGate16, typeTaskGate:
			found = u.Op == isa.LAR && !c.longMode()
		case typeCallGate:
			found = u.Op == isa.LAR
		default:
			found = false
		}
	}
	if !found {
		return c.result(false)
	}
	r := uint64(d.segment(0).Limit)
	if u.Op == isa.LAR {
		r = d.low >> 32 & 0x00f0ff00
	}
	c.setReg(u.Args[0].Reg, u.OpSize, r)
	return c.result(true)
}

func arpl(c *CPU, u *uop) bool {
	dst, ok := c.modify(u, 0)
	if !ok {
		return false
	}
	src, _ := c.read(u, 1)
	if dst&3 >= src&3 {
		return c.result(false)
	}
	if !c.write(u, 0, dst&^3|src&3) {
		return false
	}
	return c.result(true)
}
