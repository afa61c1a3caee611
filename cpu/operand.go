package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// sizeMask has the low size bytes set; size is 1, 2, 4 or 8.
var sizeMask = [9]uint64{1: 0xff, 2: 0xffff, 4: 0xffffffff, 8: ^uint64(0)}

// reg reads the low size bytes of a general register, zero-extended.
func (c *CPU) reg(r, size uint8) uint64 { return c.r[r&31] & sizeMask[size] }

// setReg writes size bytes of a general register: 8 replaces it, 4 clears the upper half, 2 and 1 keep the rest
// (SDM vol. 1, 3.4.1.1).
func (c *CPU) setReg(r, size uint8, v uint64) {
	p := &c.r[r&31]
	switch size {
	case 8:
		*p = v
	case 4:
		*p = v & 0xffffffff
	case 2:
		*p = *p&^0xffff | v&0xffff
	default:
		*p = *p&^0xff | v&0xff
	}
}

// offset computes the offset part of the memory operand, truncated to the address size.
func (c *CPU) offset(u *uop) uint64 {
	ea := c.r[u.Base&31] + c.r[u.Index&31]<<(u.Scale&3) + uint64(u.Disp)
	if u.AddrSize == 8 {
		return ea
	}
	return ea & sizeMask[u.AddrSize]
}

// address computes the linear address of the size-byte memory operand of u and checks its segment.
func (c *CPU) address(u *uop, size uint8, write bool) (la uint64, ok bool) {
	return c.segment(u.Seg, c.offset(u), uint64(size), write)
}

// segment computes the linear address of size bytes at an offset of a segment and checks limit and access rights. In
// 64-bit mode there are none, and only FS and GS have a base (SDM vol. 3A, 3.2.4).
func (c *CPU) segment(seg uint8, off, size uint64, write bool) (la uint64, ok bool) {
	if c.mode == isa.Mode64 {
		if seg >= isa.FS {
			off += c.seg[seg].Base
		}
		return off, true
	}
	return c.linear(seg, off, size, write)
}

// load reads size bytes (1, 2, 4, 8) at a linear address.
func (c *CPU) load(la uint64, size uint8) (uint64, bool) {
	switch size {
	case 8:
		return c.load64(la)
	case 4:
		v, ok := c.load32(la)
		return uint64(v), ok
	case 2:
		v, ok := c.load16(la)
		return uint64(v), ok
	default:
		v, ok := c.load8(la)
		return uint64(v), ok
	}
}

// store writes size bytes (1, 2, 4, 8) at a linear address.
func (c *CPU) store(la uint64, size uint8, v uint64) bool {
	switch size {
	case 8:
		return c.store64(la, v)
	case 4:
		return c.store32(la, uint32(v))
	case 2:
		return c.store16(la, uint16(v))
	default:
		return c.store8(la, uint8(v))
	}
}

// read returns operand i of u, at most 8 bytes, zero-extended from its size. An immediate keeps the extension to 64 bits
// that the decoder gave it: 48 81 C0 imm32 adds a sign-extended one.
func (c *CPU) read(u *uop, i int) (uint64, bool) {
	a := &u.Args[i]
	switch a.Kind {
	case isa.KindReg:
		return c.reg(a.Reg, a.Size), true
	case isa.KindHigh:
		return c.r[a.Reg&31] >> 8 & 0xff, true
	case isa.KindImm:
		return u.Imm, true
	case isa.KindMem:
		la, ok := c.address(u, a.Size, false)
		if !ok {
			return 0, false
		}
		return c.load(la, a.Size)
	case isa.KindOne:
		return 1, true
	case isa.KindImm2:
		return uint64(u.Imm2), true
	}
	return 0, c.notImplemented("operand kind %d of %v read as an integer", a.Kind, u.Op)
}

// modify is read for an operand that will be written: a memory operand is checked for writing first, so that the
// write that follows it cannot fault.
func (c *CPU) modify(u *uop, i int) (uint64, bool) {
	a := &u.Args[i]
	if a.Kind != isa.KindMem {
		return c.read(u, i)
	}
	la, ok := c.address(u, a.Size, true)
	if !ok || !c.probeWrite(la, a.Size) {
		return 0, false
	}
	return c.load(la, a.Size)
}

// write stores v into operand i of u.
func (c *CPU) write(u *uop, i int, v uint64) bool {
	a := &u.Args[i]
	switch a.Kind {
	case isa.KindReg:
		c.setReg(a.Reg, a.Size, v)
		return true
	case isa.KindHigh:
		p := &c.r[a.Reg&31]
		*p = *p&^0xff00 | v&0xff<<8
		return true
	case isa.KindMem:
		la, ok := c.address(u, a.Size, true)
		return ok && c.store(la, a.Size, v)
	}
	return c.notImplemented("operand kind %d of %v written as an integer", a.Kind, u.Op)
}
