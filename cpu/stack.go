package cpu

import "github.com/hybridbridge/emu/cpu/isa"

func stackHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.PUSH: execPUSH, isa.POP: execPOP, isa.PUSHA: execPUSHA, isa.POPA: execPOPA,
		isa.PUSHF: execPUSHF, isa.POPF: execPOPF, isa.ENTER: execENTER, isa.LEAVE: execLEAVE,
	}
}

// setSP writes the stack pointer in the stack's width; 16-bit stacks keep the upper part of ESP.
func (c *CPU) setSP(v uint64) { c.setReg(isa.RSP, c.stackSize(), v) }

// stackLinear computes the linear address of size bytes at rSP+delta, wrapped to the stack's width.
func (c *CPU) stackLinear(delta int64, size uint8, write bool) (la uint64, ok bool) {
	off := (c.r[isa.RSP] + uint64(delta)) & sizeMask[c.stackSize()]
	return c.segment(isa.SS, off, uint64(size), write)
}

// stackLoad reads size bytes (2, 4, 8) at rSP+delta and leaves rSP alone.
func (c *CPU) stackLoad(delta int64, size uint8) (uint64, bool) {
	la, ok := c.stackLinear(delta, size, false)
	if !ok {
		return 0, false
	}
	return c.load(la, size)
}

// stackStore writes size bytes (2, 4, 8) at rSP+delta and leaves rSP alone.
func (c *CPU) stackStore(delta int64, size uint8, v uint64) bool {
	la, ok := c.stackLinear(delta, size, true)
	return ok && c.store(la, size, v)
}

// push stores v (2, 4 or 8 bytes) below rSP and moves rSP down. If it fails nothing has changed.
func (c *CPU) push(v uint64, size uint8) bool {
	if !c.stackStore(-int64(size), size, v) {
		return false
	}
	c.setSP(c.r[isa.RSP] - uint64(size))
	return true
}

// pop loads size bytes (2, 4, 8) at rSP and moves rSP up. If it fails nothing has changed.
func (c *CPU) pop(size uint8) (uint64, bool) {
	v, ok := c.stackLoad(0, size)
	if ok {
		c.setSP(c.r[isa.RSP] + uint64(size))
	}
	return v, ok
}

func execPUSH(c *CPU, u *uop) bool {
	v, ok := c.read(u, 0)
	return ok && c.push(v, u.OpSize)
}

// execPOP computes the address of a memory destination with rSP after the pop (SDM vol. 2B, POP).
func execPOP(c *CPU, u *uop) bool {
	old := c.r[isa.RSP]
	v, ok := c.pop(u.OpSize)
	if !ok {
		return false
	}
	if !c.write(u, 0, v) {
		c.r[isa.RSP] = old
		return false
	}
	return true
}

func execPUSHA(c *CPU, u *uop) bool {
	size := u.OpSize
	// Probe from both ends, so that a fault leaves memory alone too.
	for _, n := range [2]int64{1, 8} {
		la, ok := c.stackLinear(-n*int64(size), size, true)
		if !ok || !c.probeWrite(la, size) {
			return false
		}
	}
	for r := isa.RAX; r <= isa.RDI; r++ {
		if !c.stackStore(-int64(r+1)*int64(size), size, c.r[r]) {
			return false
		}
	}
	c.setSP(c.r[isa.RSP] - 8*uint64(size))
	return true
}

func execPOPA(c *CPU, u *uop) bool {
	size := u.OpSize
	var v [8]uint64
	for i := range v {
		var ok bool
		if v[i], ok = c.stackLoad(int64(i)*int64(size), size); !ok {
			return false
		}
	}
	for i := range v {
		if r := isa.RDI - uint8(i); r != isa.RSP {
			c.setReg(r, size, v[i])
		}
	}
	c.setSP(c.r[isa.RSP] + 8*uint64(size))
	return true
}

// v86Sensitive reports whether an IOPL-sensitive instruction (PUSHF, POPF, CLI, STI, INT n) must raise #GP in
// virtual-8086 mode (SDM vol. 3B, 22.2.7).
func (c *CPU) v86Sensitive() bool { return c.flags&FlagVM != 0 && c.flags&FlagIOPL != FlagIOPL }

func execPUSHF(c *CPU, u *uop) bool {
	if c.v86Sensitive() {
		return c.gp(0)
	}
	return c.push(c.RFLAGS()&^(FlagVM|FlagRF), u.OpSize)
}

// execPOPF changes what the privilege level lets it (SDM vol. 2B, POPF, table 4-19).
func execPOPF(c *CPU, u *uop) bool {
	if c.v86Sensitive() {
		return c.gp(0)
	}
	v, ok := c.pop(u.OpSize)
	if !ok {
		return false
	}
	mask := flagsArith | FlagTF | FlagDF | FlagNT
	if u.OpSize != 2 {
		mask |= FlagAC | FlagID | FlagRF
		v &^= FlagRF
	}
	if c.cpl == 0 {
		mask |= FlagIOPL
	}
	if uint64(c.cpl)<<12 <= c.flags&FlagIOPL || c.flags&FlagVM != 0 {
		mask |= FlagIF
	}
	c.setRFLAGS(c.RFLAGS()&^mask | v&mask)
	return true
}

// execENTER makes a stack frame: of display pointers too if the nesting level is not 0.
func execENTER(c *CPU, u *uop) bool {
	size := u.OpSize
	level := int64(u.Imm2 & 31)
	width := c.stackSize()
	step := int64(size)
	// The frame is where rSP is after the first push, in which a 16-bit stack pointer keeps the upper part of ESP.
	mask := sizeMask[width]
	frame := c.r[isa.RSP]&^mask | (c.r[isa.RSP]-uint64(size))&mask
	if !c.stackStore(-step, size, c.r[isa.RBP]) {
		return false
	}
	for i := int64(1); i < level; i++ {
		off := (c.r[isa.RBP] - uint64(i*step)) & sizeMask[width]
		la, ok := c.segment(isa.SS, off, uint64(size), false)
		if !ok {
			return false
		}
		v, ok := c.load(la, size)
		if !ok {
			return false
		}
		if !c.stackStore(-step*(i+1), size, v) {
			return false
		}
	}
	down := step
	if level > 0 {
		down += step * level
		if !c.stackStore(-down, size, frame) {
			return false
		}
	}
	down += int64(u.Imm & 0xffff)
	// The new top of the stack must be writable, though nothing is written there.
	la, ok := c.stackLinear(-down, size, true)
	if !ok || !c.probeWrite(la, size) {
		return false
	}
	c.setReg(isa.RBP, size, frame)
	c.setSP(c.r[isa.RSP] - uint64(down))
	return true
}

func execLEAVE(c *CPU, u *uop) bool {
	old := c.r[isa.RSP]
	c.setSP(c.r[isa.RBP])
	v, ok := c.pop(u.OpSize)
	if !ok {
		c.r[isa.RSP] = old
		return false
	}
	c.setReg(isa.RBP, u.OpSize, v)
	return true
}
