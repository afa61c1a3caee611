package cpu

import "github.com/hybridbridge/emu/cpu/isa"

func moveHandlers() map[isa.Op]handler {
	t := map[isa.Op]handler{
		isa.MOV: execMOV, isa.MOVZX: execMOV, isa.MOVNTI: execMOV, isa.MOVSX: execMOVSX, isa.MOVSXD: execMOVSX,
		isa.XCHG: execXCHG, isa.CMOVCC: execCMOVCC, isa.SETCC: execSETCC, isa.LEA: execLEA, isa.XLAT: execXLAT,
		isa.CBW: execCBW, isa.CWD: execCWD,
		isa.XADD: execXADD, isa.CMPXCHG: execCMPXCHG, isa.CMPXCHG8B: execCMPXCHG8B, isa.CMPXCHG16B: execCMPXCHG16B,
		isa.LAHF: execLAHF, isa.SAHF: execSAHF, isa.SALC: execSALC,
		isa.CLC: func(c *CPU, u *uop) bool { c.f.setCF(false); return true },
		isa.STC: func(c *CPU, u *uop) bool { c.f.setCF(true); return true },
		isa.CMC: func(c *CPU, u *uop) bool { c.f.setCF(!c.f.cf()); return true },
		isa.CLD: func(c *CPU, u *uop) bool { c.flags &^= FlagDF; return true },
		isa.STD: func(c *CPU, u *uop) bool { c.flags |= FlagDF; return true },
	}
	for _, op := range []isa.Op{
		isa.NOP, isa.PAUSE, isa.LFENCE, isa.MFENCE, isa.SFENCE, isa.PREFETCH, isa.PREFETCHW, isa.PREFETCHNTA,
		isa.PREFETCHT0, isa.PREFETCHT1, isa.PREFETCHT2,
	} {
		t[op] = execNOP
	}
	return t
}

func execNOP(*CPU, *uop) bool { return true }

// execMOV copies the zero-extended source: MOV, MOVZX, MOVNTI.
func execMOV(c *CPU, u *uop) bool {
	v, ok := c.read(u, 1)
	return ok && c.write(u, 0, v)
}

// execMOVSX is MOVSX and MOVSXD.
func execMOVSX(c *CPU, u *uop) bool {
	v, ok := c.read(u, 1)
	return ok && c.write(u, 0, uint64(sext(v, u.Args[1].Size)))
}

func execXCHG(c *CPU, u *uop) bool {
	a, ok := c.modify(u, 0)
	if !ok {
		return false
	}
	b, ok := c.read(u, 1)
	return ok && c.write(u, 0, b) && c.write(u, 1, a)
}

// execCMOVCC reads its source, and writes a 32-bit destination, whatever the condition says.
func execCMOVCC(c *CPU, u *uop) bool {
	v, ok := c.read(u, 1)
	if !ok {
		return false
	}
	a := &u.Args[0]
	if !c.f.condition(u.Cond) {
		v = c.r[a.Reg&31]
	}
	c.setReg(a.Reg, a.Size, v)
	return true
}

func execSETCC(c *CPU, u *uop) bool {
	v := uint64(0)
	if c.f.condition(u.Cond) {
		v = 1
	}
	return c.write(u, 0, v)
}

func execLEA(c *CPU, u *uop) bool {
	c.setReg(u.Args[0].Reg, u.Args[0].Size, c.offset(u))
	return true
}

func execXLAT(c *CPU, u *uop) bool {
	off := (c.r[isa.RBX] + c.r[isa.RAX]&0xff) & sizeMask[u.AddrSize]
	la, ok := c.segment(u.Seg, off, 1, false)
	if !ok {
		return false
	}
	v, ok := c.load8(la)
	if !ok {
		return false
	}
	c.setReg(isa.RAX, 1, uint64(v))
	return true
}

// execCBW is CBW, CWDE and CDQE.
func execCBW(c *CPU, u *uop) bool {
	c.setReg(isa.RAX, u.OpSize, uint64(sext(c.r[isa.RAX], u.OpSize/2)))
	return true
}

// execCWD is CWD, CDQ and CQO.
func execCWD(c *CPU, u *uop) bool {
	c.setReg(isa.RDX, u.OpSize, uint64(sext(c.r[isa.RAX], u.OpSize)>>63))
	return true
}

// execXADD writes the register first, so that XADD r,r with one register leaves the sum in it.
func execXADD(c *CPU, u *uop) bool {
	a, ok := c.modify(u, 0)
	if !ok {
		return false
	}
	b, ok := c.read(u, 1)
	if !ok {
		return false
	}
	sum := a + b
	if u.Args[0].Kind == isa.KindMem {
		if !c.write(u, 0, sum) {
			return false
		}
		c.write(u, 1, a)
	} else {
		c.write(u, 1, a)
		c.write(u, 0, sum)
	}
	c.f.add(a, b, 0, u.Args[0].Size)
	return true
}

// execCMPXCHG writes memory in either case (SDM vol. 2A, CMPXCHG). If the comparison fails, a register destination is
// left alone, upper half included, as on silicon.
func execCMPXCHG(c *CPU, u *uop) bool {
	size := u.Args[0].Size
	dst, ok := c.modify(u, 0)
	if !ok {
		return false
	}
	src, ok := c.read(u, 1)
	if !ok {
		return false
	}
	acc := c.reg(isa.RAX, size)
	if acc == dst {
		if !c.write(u, 0, src) {
			return false
		}
	} else {
		if u.Args[0].Kind == isa.KindMem && !c.write(u, 0, dst) {
			return false
		}
		c.setReg(isa.RAX, size, dst)
	}
	c.f.sub(acc, dst, 0, size)
	return true
}

func execCMPXCHG8B(c *CPU, u *uop) bool {
	la, ok := c.address(u, 8, true)
	if !ok || !c.probeWrite(la, 8) {
		return false
	}
	v, ok := c.load64(la)
	if !ok {
		return false
	}
	equal := v == c.r[isa.RDX]<<32|c.r[isa.RAX]&0xffffffff
	w := v
	if equal {
		w = c.r[isa.RCX]<<32 | c.r[isa.RBX]&0xffffffff
	}
	if !c.store64(la, w) {
		return false
	}
	if !equal {
		c.setReg(isa.RAX, 4, v)
		c.setReg(isa.RDX, 4, v>>32)
	}
	c.setZF(equal)
	return true
}

func execCMPXCHG16B(c *CPU, u *uop) bool {
	la, ok := c.address(u, 16, true)
	if !ok {
		return false
	}
	if la&15 != 0 {
		return c.gp(0)
	}
	if !c.probeWrite(la, 16) {
		return false
	}
	v, ok := c.load128(la)
	if !ok {
		return false
	}
	equal := v == [2]uint64{c.r[isa.RAX], c.r[isa.RDX]}
	w := v
	if equal {
		w = [2]uint64{c.r[isa.RBX], c.r[isa.RCX]}
	}
	if !c.store128(la, w) {
		return false
	}
	if !equal {
		c.r[isa.RAX], c.r[isa.RDX] = v[0], v[1]
	}
	c.setZF(equal)
	return true
}

// setZF changes ZF alone.
func (c *CPU) setZF(zf bool) {
	w := uint64(0)
	if zf {
		w = FlagZF
	}
	c.f.update(FlagZF, w)
}

func execLAHF(c *CPU, _ *uop) bool {
	ah := c.f.word()&0xff | 2
	c.r[isa.RAX] = c.r[isa.RAX]&^0xff00 | ah<<8
	return true
}

func execSAHF(c *CPU, _ *uop) bool {
	c.f.update(FlagSF|FlagZF|FlagAF|FlagPF|FlagCF, c.r[isa.RAX]>>8)
	return true
}

// execSALC sets AL to 0 or FF by CF.
func execSALC(c *CPU, _ *uop) bool {
	c.setReg(isa.RAX, 1, -c.f.cfBit())
	return true
}
