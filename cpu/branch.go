package cpu

import "github.com/hybridbridge/emu/cpu/isa"

func branchHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.JMP: execJMP, isa.JMP_IND: execJMPIndirect, isa.JCC: execJCC, isa.CALL: execCALL,
		isa.CALL_IND: execCALLIndirect, isa.RET: execRET,
		isa.LOOP:   loop(func(f *lazyFlags) bool { return true }),
		isa.LOOPE:  loop(func(f *lazyFlags) bool { return f.zf() }),
		isa.LOOPNE: loop(func(f *lazyFlags) bool { return !f.zf() }),
		isa.JCXZ:   execJCXZ,
	}
}

// target checks where a near branch goes: the instruction pointer is truncated to the operand size and must lie within
// the code segment's limit or, in 64-bit mode, be canonical; else the branch itself faults.
func (c *CPU) target(ip uint64, size uint8) (uint64, bool) {
	ip &= sizeMask[size]
	if c.mode == isa.Mode64 {
		if !c.canonical(ip) {
			return 0, c.gp(0)
		}
	} else if ip > uint64(c.seg[isa.CS].Limit) {
		return 0, c.gp(0)
	}
	return ip, true
}

// relative is target for the displacement of u.
func (c *CPU) relative(u *uop) (uint64, bool) {
	return c.target(c.r[isa.RegRIP]+uint64(u.end)+u.Imm, u.OpSize)
}

func execJMP(c *CPU, u *uop) bool {
	ip, ok := c.relative(u)
	if ok {
		c.rip = ip
	}
	return ok
}

func execJCC(c *CPU, u *uop) bool {
	return !c.f.condition(u.Cond) || execJMP(c, u)
}

func execJMPIndirect(c *CPU, u *uop) bool {
	v, ok := c.read(u, 0)
	if !ok {
		return false
	}
	ip, ok := c.target(v, u.OpSize)
	if ok {
		c.rip = ip
	}
	return ok
}

func execCALL(c *CPU, u *uop) bool {
	ip, ok := c.relative(u)
	if !ok || !c.push(c.next(u), u.OpSize) {
		return false
	}
	c.rip = ip
	return true
}

func execCALLIndirect(c *CPU, u *uop) bool {
	v, ok := c.read(u, 0)
	if !ok {
		return false
	}
	ip, ok := c.target(v, u.OpSize)
	if !ok || !c.push(c.next(u), u.OpSize) {
		return false
	}
	c.rip = ip
	return true
}

// execRET also releases the bytes of arguments that the immediate says.
func execRET(c *CPU, u *uop) bool {
	v, ok := c.stackLoad(0, u.OpSize)
	if !ok {
		return false
	}
	ip, ok := c.target(v, u.OpSize)
	if !ok {
		return false
	}
	c.setSP(c.r[isa.RSP] + uint64(u.OpSize) + u.Imm&0xffff)
	c.rip = ip
	return true
}

// loop makes the handler of LOOP and its kin, which count in rCX of the address size and leave the flags alone.
func loop(cond func(f *lazyFlags) bool) handler {
	return func(c *CPU, u *uop) bool {
		n := (c.r[isa.RCX] - 1) & sizeMask[u.AddrSize]
		if n != 0 && cond(&c.f) {
			ip, ok := c.relative(u)
			if !ok {
				return false
			}
			c.rip = ip
		}
		c.setReg(isa.RCX, u.AddrSize, n)
		return true
	}
}

func execJCXZ(c *CPU, u *uop) bool {
	return c.reg(isa.RCX, u.AddrSize) != 0 || execJMP(c, u)
}
