package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// MMX registers are the significands of the physical x87 registers (SDM vol. 1, 9.2.1; vol. 3A, 13.1).

// mmxHandlers are the instructions that exist for MMX registers only; the others are packedHandlers.
func mmxHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.EMMS:     emms,
		isa.MASKMOVQ: maskMove,
		isa.MOVNTQ:   moveVector,
	}
}

// mmxReady checks that instructions on MMX registers may be executed (SDM vol. 3A, table 13-1 and 13.5). A pending
// x87 exception is reported first.
func (c *CPU) mmxReady() bool {
	switch {
	case c.cr0&cr0EM != 0:
		return c.raise(VectorUD)
	case c.cr0&cr0TS != 0:
		return c.raise(VectorNM)
	}
	return c.x87NonePending()
}

// enterMMX is what every instruction with an MMX operand does to the x87 state beside its result (SDM vol. 3A, 13.2.1).
func (f *fpuState) enterMMX() { f.top, f.full = 0, 0xff }

func (f *fpuState) setMMX(r uint8, v uint64) {
	p := &f.st[r&7]
	p.Mant, p.SE = v, 0xffff
}

func emms(c *CPU, u *uop) bool {
	if !c.mmxReady() {
		return false
	}
	c.fpu.top, c.fpu.full = 0, 0
	return true
}
