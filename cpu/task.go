package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// taskReason says what started a task switch (SDM vol. 3A, table 7-2).
type taskReason uint8

const (
	taskJump   taskReason = iota
	taskCall              // CALL
	taskGate              // an interrupt or exception
	taskReturn            // IRET with NT
)

// Offsets in the 32-bit TSS (SDM vol. 3A, figure 7-2).
const (
	tssCR3    = 0x1c
	tssEIP    = 0x20
	tssEFLAGS = 0x24
	tssGPR    = 0x28
	tssSeg    = 0x48
	tssLDT    = 0x60
	tssTrap   = 0x64
	tssSize   = 0x68
)

// Offsets in the 16-bit TSS (SDM vol. 3A, figure 7-10).
const (
	tss16IP    = 0x0e
	tss16FLAGS = 0x10
	tss16GPR   = 0x12
	tss16Seg   = 0x22
	tss16LDT   = 0x2a
	tss16Size  = 0x2c
)

// tssLayout says where a TSS holds what.
type tssLayout struct {
	ip, flags, gpr, seg, ldt, size uint64
	// word is the size of a general register, of IP and of FLAGS; from one selector to the next there is as much.
	word uint8
	// segments is how many segment registers there are, of ES, CS, SS, DS, FS, GS.
	segments int
}

// layoutOf gives the layout of the TSS with a descriptor's attributes.
func layoutOf(attr uint16) tssLayout {
	if attr&8 == 0 {
		return tssLayout{ip: tss16IP, flags: tss16FLAGS, gpr: tss16GPR, seg: tss16Seg, ldt: tss16LDT, size: tss16Size, word: 2, segments: 4}
	}
	return tssLayout{ip: tssEIP, flags: tssEFLAGS, gpr: tssGPR, seg: tssSeg, ldt: tssLDT, size: tssSize, word: 4, segments: 6}
}

// deliverTask delivers an event through a task gate.
func (c *CPU) deliverTask(gate *descriptor, e *exception) bool {
	if !c.throughTaskGate(gate, taskGate, c.rip) {
		return false
	}
	if e.vector == VectorNMI && e.external {
		c.nmiBlocked = true
		c.setAttention(attNMI, false)
	}
	if !e.hasCode {
		return true
	}
	st := c.currentStack()
	size := uint8(4)
	if c.tr.Attr&8 == 0 {
		size = 2
	}
	if !c.pushStack(&st, size, uint64(e.code)) {
		c.exc.committed = true
		return false
	}
	c.commitStack(&st)
	return true
}

// throughTaskGate switches to the task that a task gate names.
func (c *CPU) throughTaskGate(gate *descriptor, reason taskReason, ip uint64) bool {
	sel := gate.gateSelector()
	if reason != taskGate {
		ip = c.rip
	}
	if null(sel) || sel&4 != 0 {
		return c.selectorFault(VectorGP, sel)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return false
	}
	if !found || !d.system() || d.kind() != typeTSS && d.kind() != typeTSS16 {
		return c.selectorFault(VectorGP, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	return c.switchTask(&d, sel, reason, ip)
}

// returnFromTask is IRET with NT set: back to the task that the link field names.
func (c *CPU) returnFromTask(u *uop) bool {
	link, ok := c.loadSystem(c.tr.Base, 2)
	if !ok {
		return false
	}
	sel := uint16(link)
	if null(sel) || sel&4 != 0 {
		return c.selectorFault(VectorTS, sel)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return false
	}
	if !found || !d.system() || d.kind() != typeTSSBusy && d.kind() != typeTSS16Busy {
		return c.selectorFault(VectorTS, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	c.unblockNMI()
	return c.switchTask(&d, sel, taskReturn, c.next(u))
}

// taskImage is what a TSS holds of a task. From a 16-bit TSS come no FS and GS, no trap bit, and the CR3 that is there.
type taskImage struct {
	cr3, eip, eflags uint64
	gpr              [8]uint64
	seg              [6]uint16
	ldt              uint16
	trap             bool
}

// switchTask is the hardware task switch (SDM vol. 3A, 7.3). ip is what the old task will resume at. Faults up to the
// point of commitment belong to the old task, later ones to the new.
func (c *CPU) switchTask(d *descriptor, sel uint16, reason taskReason, ip uint64) bool {
	tss := d.segment(sel)
	layout, oldLayout := layoutOf(tss.Attr), layoutOf(c.tr.Attr)
	if uint64(tss.Limit) < layout.size-1 {
		return c.selectorFault(VectorTS, sel)
	}
	if uint64(c.tr.Limit) < oldLayout.ldt-1 {
		return c.selectorFault(VectorTS, c.tr.Selector)
	}
	old := c.tr
	im, ok := c.readTask(tss.Base, &layout)
	if !ok {
		return false
	}
	flags := c.RFLAGS()
	if reason == taskReturn {
		flags &^= FlagNT
	}
	if !c.saveTask(old.Base, &oldLayout, ip, flags) {
		return false
	}
	if reason == taskJump || reason == taskReturn {
		if od, found, ok := c.readDescriptor(old.Selector); !ok {
			return false
		} else if found && !c.clearBusy(&od) {
			return false
		}
	}
	if reason == taskCall || reason == taskGate {
		if !c.storeSystem(tss.Base, 2, uint64(old.Selector)) {
			return false
		}
		im.eflags |= FlagNT
	}
	if reason != taskReturn && !c.setDescriptorBits(d, tssBusy) {
		return false
	}

	// The new task is committed from here.
	c.tr = d.segment(sel)
	c.tr.Attr |= tssBusy
	c.cr0 |= cr0TS
	c.dr[7] &^= dr7Local
	c.debugChanged()
	if c.mmu.mode != pagingOff && layout.word == 4 {
		if c.mmu.mode == pagingPAE && !c.loadPDPTEs(im.cr3) {
			return c.inNewTask(c.selectorFault(VectorTS, sel))
		}
		c.setCR3(im.cr3, false)
	}
	c.rip = im.eip
	copy(c.r[:8], im.gpr[:])
	c.setRFLAGS(im.eflags)
	c.ldtr = vcpu.Segment{Selector: im.ldt}
	// Until they are loaded the segments are unusable, with the new selectors.
	for i, s := range im.seg {
		c.setSegment(uint8(i), vcpu.Segment{Selector: s})
	}
	if c.vm86() {
		c.cpl = 3
		for i, s := range im.seg {
			c.setSegment(uint8(i), c.realSegment(uint8(i), s))
		}
		c.refresh()
		return true
	}
	return c.inNewTask(c.loadTaskSegments(&im)) && c.taskTrap(&im)
}

// inNewTask marks a fault as one of the new task.
func (c *CPU) inNewTask(ok bool) bool {
	if !ok {
		c.exc.committed = true
	}
	return ok
}

func (c *CPU) taskTrap(im *taskImage) bool {
	if im.trap {
		c.pendingDB |= dr6BT
		c.attend(attShadow) // it is raised before the first instruction
	}
	return true
}

func (c *CPU) readTask(base uint64, l *tssLayout) (im taskImage, ok bool) {
	word := func(off uint64, size uint8) (v uint64) {
		if ok {
			v, ok = c.loadSystem(base+off, size)
		}
		return v
	}
	ok = true
	im.eip, im.eflags = word(l.ip, l.word), word(l.flags, l.word)
	for i := range im.gpr {
		im.gpr[i] = word(l.gpr+uint64(i)*uint64(l.word), l.word)
		if l.word == 2 {
			im.gpr[i] |= 0xffff << 16 // "modified and not maintained" (7.6); ones, as in Bochs
		}
	}
	for i := range l.segments {
		im.seg[i] = uint16(word(l.seg+uint64(i)*uint64(l.word), 2))
	}
	im.ldt = uint16(word(l.ldt, 2))
	if l.word == 4 {
		im.cr3 = word(tssCR3, 4)
		im.trap = word(tssTrap, 2)&1 != 0
	}
	return im, ok
}

func (c *CPU) saveTask(base uint64, l *tssLayout, ip, flags uint64) bool {
	ok := true
	put := func(off uint64, size uint8, v uint64) {
		ok = ok && c.storeSystem(base+off, size, v)
	}
	put(l.ip, l.word, ip)
	put(l.flags, l.word, flags)
	for i := range 8 {
		put(l.gpr+uint64(i)*uint64(l.word), l.word, c.r[i])
	}
	for i := range l.segments {
		put(l.seg+uint64(i)*uint64(l.word), 2, uint64(c.seg[i].Selector))
	}
	return ok
}

// loadTaskSegments loads LDTR and the segment registers of a new task; violations are #TS.
func (c *CPU) loadTaskSegments(im *taskImage) bool {
	c.cpl = uint8(im.seg[isa.CS] & 3)
	c.refresh()
	if !null(im.ldt) {
		if im.ldt&4 != 0 {
			return c.selectorFault(VectorTS, im.ldt)
		}
		d, found, ok := c.readDescriptor(im.ldt)
		if !ok {
			return false
		}
		if !found || !d.system() || d.kind() != typeLDT || !d.present() {
			return c.selectorFault(VectorTS, im.ldt)
		}
		c.ldtr = d.segment(im.ldt)
	}
	sel := im.seg[isa.CS]
	if null(sel) {
		return c.selectorFault(VectorTS, sel)
	}
	d, found, ok := c.readDescriptor(sel)
	if !ok {
		return false
	}
	rpl := uint8(sel & 3)
	if !found || !d.code() || d.conforming() && d.dpl() > rpl || !d.conforming() && d.dpl() != rpl {
		return c.selectorFault(VectorTS, sel)
	}
	if !d.present() {
		return c.selectorFault(VectorNP, sel)
	}
	if !c.setDescriptorBits(&d, 1) {
		return false
	}
	c.setSegment(isa.CS, d.segment(sel))
	c.refresh()
	for _, reg := range []uint8{isa.SS, isa.DS, isa.ES, isa.FS, isa.GS} {
		s, ok := c.segmentFor(reg, im.seg[reg], c.cpl, VectorTS)
		if !ok {
			return false
		}
		c.setSegment(reg, s)
		if reg == isa.SS {
			c.refresh()
		}
	}
	if c.rip > uint64(c.seg[isa.CS].Limit) {
		return c.gp(c.ext)
	}
	return true
}
