package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// stackRef is a stack that an instruction or event is about to use: the current one or that of another privilege level.
// Pushes and pops move sp only; the registers change when the caller commits.
type stackRef struct {
	seg  vcpu.Segment
	sp   uint64
	mask uint64 // of the stack pointer: 16, 32 or 64 bits
	ctx  uint64 // translation context of the accesses
	code uint32 // error code of #SS
}

// currentStack is the stack of the running program.
func (c *CPU) currentStack() stackRef {
	st := stackRef{seg: c.seg[isa.SS], mask: sizeMask[c.stackSize()], ctx: c.ctx, code: c.ext}
	st.sp = c.r[isa.RSP] & st.mask
	return st
}

// stackMask is the width of the stack pointer outside 64-bit mode.
func stackMask(ss *vcpu.Segment) uint64 {
	if ss.Attr&vcpu.AttrDB != 0 {
		return 0xffffffff
	}
	return 0xffff
}

// stackAddress is the linear address of size bytes at offset off of the stack.
func (c *CPU) stackAddress(st *stackRef, off uint64, size uint8, write bool) (uint64, bool) {
	if st.mask == ^uint64(0) {
		return off, true
	}
	const mask = vcpu.AttrP | vcpu.AttrS | vcpu.AttrCode | vcpu.AttrExpand | vcpu.AttrWritable
	const usable = vcpu.AttrP | vcpu.AttrS | vcpu.AttrWritable
	if st.seg.Attr&mask == usable && off+uint64(size)-1 <= uint64(st.seg.Limit) ||
		expandDownAllows(&st.seg, off, uint64(size), write) {
		return (st.seg.Base + off) & 0xffffffff, true
	}
	return 0, c.raiseCode(VectorSS, st.code)
}

// pushStack pushes size bytes.
func (c *CPU) pushStack(st *stackRef, size uint8, v uint64) bool {
	sp := (st.sp - uint64(size)) & st.mask
	la, ok := c.stackAddress(st, sp, size, true)
	if !ok {
		return false
	}
	old := c.ctx
	c.ctx = st.ctx
	ok = c.store(la, size, v)
	c.ctx = old
	if !ok {
		c.fixStackFault(st)
		return false
	}
	st.sp = sp
	return true
}

// popStack pops size bytes.
func (c *CPU) popStack(st *stackRef, size uint8) (v uint64, ok bool) {
	la, ok := c.stackAddress(st, st.sp, size, false)
	if !ok {
		return 0, false
	}
	old := c.ctx
	c.ctx = st.ctx
	v, ok = c.load(la, size)
	c.ctx = old
	if !ok {
		c.fixStackFault(st)
		return 0, false
	}
	st.sp = (st.sp + uint64(size)) & st.mask
	return v, true
}

func (c *CPU) fixStackFault(st *stackRef) {
	if c.stop == stopFault && c.exc.notCanonical {
		c.raiseCode(VectorSS, st.code)
	}
}

// commitStack moves the stack pointer of the running program.
func (c *CPU) commitStack(st *stackRef) { c.setStackPointer(st.sp, st.mask) }

// setStackPointer writes the part of rSP that a stack of the given width uses.
func (c *CPU) setStackPointer(sp, mask uint64) {
	if mask == 0xffff {
		c.setReg(isa.RSP, 2, sp)
		return
	}
	c.r[isa.RSP] = sp & mask
}

// loadSystem reads size bytes as an implicit supervisor access.
func (c *CPU) loadSystem(la uint64, size uint8) (v uint64, ok bool) {
	old := c.systemContext()
	v, ok = c.load(c.wrapLinear(la), size)
	c.ctx = old
	return v, ok
}

// storeSystem writes size bytes as an implicit supervisor access.
func (c *CPU) storeSystem(la uint64, size uint8, v uint64) bool {
	old := c.systemContext()
	ok := c.store(c.wrapLinear(la), size, v)
	c.ctx = old
	return ok
}

// innerStack is the stack that the TSS names for a more privileged level (SDM vol. 3A, 5.8.5). ist is the interrupt
// stack table index in IA-32e mode, or 0.
func (c *CPU) innerStack(cpl uint8, ist uint64) (st stackRef, ok bool) {
	tss := &c.tr
	st.ctx = c.contextFor(cpl)
	if c.longMode() {
		off := 4 + uint64(cpl)*8
		if ist != 0 {
			off = 0x24 + (ist-1)*8
		}
		if off+7 > uint64(tss.Limit) || tss.Attr&vcpu.AttrP == 0 {
			return st, c.selectorFault(VectorTS, tss.Selector)
		}
		if st.sp, ok = c.loadSystem(tss.Base+off, 8); !ok {
			return st, false
		}
		st.seg, st.mask, st.code = nullStack(cpl), ^uint64(0), c.ext
		if !c.canonical(st.sp) {
			return st, c.raiseCode(VectorSS, st.code)
		}
		return st, true
	}
	off, size := 4+uint64(cpl)*8, uint8(4)
	if tss.Attr&8 == 0 {
		off, size = 2+uint64(cpl)*4, 2
	}
	if off+uint64(size)+1 > uint64(tss.Limit) || tss.Attr&vcpu.AttrP == 0 {
		return st, c.selectorFault(VectorTS, tss.Selector)
	}
	if st.sp, ok = c.loadSystem(tss.Base+off, size); !ok {
		return st, false
	}
	v, ok := c.loadSystem(tss.Base+off+uint64(size), 2)
	if !ok {
		return st, false
	}
	ss := uint16(v)
	if null(ss) {
		return st, c.raiseCode(VectorTS, c.ext)
	}
	if st.seg, ok = c.segmentFor(isa.SS, ss, cpl, VectorTS); !ok {
		return st, false
	}
	st.mask = stackMask(&st.seg)
	st.sp &= st.mask
	st.code = uint32(ss&^3) | c.ext
	return st, true
}
