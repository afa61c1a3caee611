package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// fuse joins the last two instructions of a block, if they are a comparison (or the like) and a conditional branch
// within the page: one handler then executes both, and counts as one step of the block. The branch can't fault, since
// its target is in the page that executes; a fault of the comparison is precise, since nothing else has happened. When
// a block is executed in part, or an instruction by itself, its general handler takes the place of the fused one.
func (c *CPU) fuse(ops []uop, off uint64) bool {
	n := len(ops)
	if n < 2 || ops[n-1].Op != isa.JCC {
		return false
	}
	u, branch := &ops[n-2], &ops[n-1]
	var key fastKey
	flat := c.key&keyFlat != 0
	if fastHandlerKey(branch, off, flat, &key); key.form != formJNear {
		return false
	}
	if fastHandlerKey(u, off, flat, &key) == nil || u.mask != branch.mask {
		return false
	}
	key.cc = branch.Cond
	h := fusedHandlers[key]
	if h == nil {
		return false
	}
	u.exec, u.fused, u.target, u.Cond = h, true, branch.target, branch.Cond
	return true
}

// slowFused executes a fused pair by the general handler of its first instruction.
func (c *CPU) slowFused(u *uop) bool {
	if !c.slow(u) {
		return false
	}
	if c.f.condition(u.Cond) {
		c.rip = (c.r[isa.RegRIP] + u.target) & u.mask
	}
	return true
}
