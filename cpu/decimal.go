package cpu

import "github.com/hybridbridge/emu/cpu/isa"

func decimalHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.AAA: execAAA, isa.AAS: execAAS, isa.AAM: execAAM, isa.AAD: execAAD, isa.DAA: execDAA, isa.DAS: execDAS,
	}
}

// decimalFlags sets SF, ZF and PF from AL, and CF and AF; OF is cleared (undefined).
func (c *CPU) decimalFlags(cf, af bool) {
	c.f.logic(c.r[isa.RAX], 1)
	if cf {
		c.f.carries |= 1<<63 | 1<<62
	}
	if af {
		c.f.carries |= 8
	}
}

func execAAA(c *CPU, _ *uop) bool {
	ax := c.r[isa.RAX] & 0xffff
	adjust := ax&15 > 9 || c.f.af()
	if adjust {
		ax += 0x106
	}
	c.setReg(isa.RAX, 2, ax&0xff0f)
	c.decimalFlags(adjust, adjust)
	return true
}

func execAAS(c *CPU, _ *uop) bool {
	ax := c.r[isa.RAX] & 0xffff
	adjust := ax&15 > 9 || c.f.af()
	if adjust {
		ax -= 0x106
	}
	c.setReg(isa.RAX, 2, ax&0xff0f)
	c.decimalFlags(adjust, adjust)
	return true
}

func execAAM(c *CPU, u *uop) bool {
	base := u.Imm & 0xff
	if base == 0 {
		return c.raise(VectorDE)
	}
	al := c.r[isa.RAX] & 0xff
	c.setReg(isa.RAX, 2, al/base<<8|al%base)
	c.decimalFlags(false, false)
	return true
}

func execAAD(c *CPU, u *uop) bool {
	ax := c.r[isa.RAX]
	c.setReg(isa.RAX, 2, (ax+ax>>8&0xff*(u.Imm&0xff))&0xff)
	c.decimalFlags(false, false)
	return true
}

func execDAA(c *CPU, _ *uop) bool {
	old := c.r[isa.RAX] & 0xff
	al := old
	af := al&15 > 9 || c.f.af()
	cf := old > 0x99 || c.f.cf()
	if af {
		al += 6
	}
	if cf {
		al += 0x60
	}
	c.setReg(isa.RAX, 1, al)
	c.decimalFlags(cf, af)
	return true
}

func execDAS(c *CPU, _ *uop) bool {
	old := c.r[isa.RAX] & 0xff
	al := old
	af := al&15 > 9 || c.f.af()
	carry := old > 0x99 || c.f.cf()
	cf := carry
	if af {
		cf = cf || al < 6
		al -= 6
	}
	if carry {
		al -= 0x60
	}
	c.setReg(isa.RAX, 1, al)
	c.decimalFlags(cf, af)
	return true
}
