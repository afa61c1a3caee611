package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Attention bits: why Run must look up before the next block.
const (
	attStop   uint32 = 1 << iota // Stop was called
	attINTR                      // INTR is up and RFLAGS.IF is set
	attNMI                       // an NMI is latched and not blocked
	attStep                      // RFLAGS.TF or RF is set: one instruction, then look
	attShadow                    // interrupts are blocked for one instruction, or a debug trap waits
	attDebug                     // the debugger steps
)

func (c *CPU) attend(bit uint32)   { c.attention.Or(bit) }
func (c *CPU) unattend(bit uint32) { c.attention.And(^bit) }

// Run implements vcpu.VCPU. Delivering an interrupt or exception counts as one instruction, so a guest that faults
// without end still reaches its deadline.
func (c *CPU) Run(deadline uint64) vcpu.Exit {
	c.until = deadline
	if c.track != nil && !c.tracking && c.track.regs.Tainted() {
		c.startTracking()
	}
	if c.halted && c.attention.Load()&(attINTR|attNMI|attStop) == 0 {
		return vcpu.Exit{Reason: vcpu.ExitHalt}
	}
	for c.icount < c.until {
		limit := uint64(maxBlock)
		if a := c.attention.Load(); a != 0 {
			exit, single, done := c.attendTo(a)
			if done {
				return exit
			}
			if single {
				limit = 1
			}
			if c.icount >= c.until {
				break
			}
		}
		b := c.lookup()
		if b == nil {
			if exit, done := c.stopped(nil); done {
				return exit
			}
			continue
		}
		if b.stops {
			if exit, handled, done := c.breakpoint(); done {
				return exit
			} else if handled {
				continue
			}
		}
		if r := c.redir; r != nil && r.cur != nil {
			if exit, done := c.runScoped(b, limit); done {
				return exit
			}
		} else if exit, done := c.runBlock(b, limit); done {
			return exit
		}
		if limit == 1 {
			if exit, done := c.stepped(); done {
				return exit
			}
		}
	}
	return vcpu.Exit{Reason: vcpu.ExitDeadline}
}

// runBlock executes b, and the blocks that follow it, up to limit instructions if that is less than a whole block.
func (c *CPU) runBlock(b *block, limit uint64) (exit vcpu.Exit, done bool) {
	for {
		if b.hook != nil && c.tracking && !c.InScope() {
			if exit, over, done := c.hooked(b); over {
				return exit, done
			}
		}
		n := uint64(len(b.ops))
		base := c.rip
		c.enter(base)
		if n > limit || n > c.until-c.icount || b.key&keyChecked == 0 {
			part := min(n, limit, c.until-c.icount)
			if c.mode != isa.Mode64 {
				if part = c.withinLimit(b, part); part == 0 {
					c.gp(0)
					return c.stopped(nil)
				}
			}
			if part < n {
				return c.runPart(b, part)
			}
		}
		c.rip = c.wrapIP(base + uint64(b.size))
		var u *uop
		if !c.tracking {
			u = c.execute(&b.ops[0], b.steps)
		} else {
			u = c.executeTracked(b)
		}
		if u != nil {
			c.icount += uint64(u.index)
			return c.stopped(u)
		}
		c.icount += n
		c.stats.BlocksExecuted++
		if c.attention.Load() != 0 || c.icount >= c.until || limit != maxBlock || c.InScope() {
			return exit, false
		}
		// Follow the chain inside the page. All blocks of a page are dropped together, so those that follow b are as valid
		// as b is; dropping sets c.unchain.
		chained := (c.rip^base)&^pageMask == 0 && b.second == 0 && !c.unchain && c.seg[isa.CS].Base&pageMask == 0
		if chained {
			ip := c.rip & pageMask
			if b.nextIP == ip {
				b = b.next
				continue
			}
			if b.otherIP == ip {
				b = b.other
				continue
			}
		}
		c.unchain = false
		nb := c.lookup()
		if nb == nil {
			return c.stopped(nil)
		}
		if nb.stops {
			return exit, false
		}
		if chained && nb.second == 0 {
			b.other, b.otherIP = b.next, b.nextIP
			b.next, b.nextIP = nb, c.rip&pageMask
		}
		b = nb
	}
}

// enter notes that the block at RIP base is about to run.
func (c *CPU) enter(base uint64) {
	c.branches[c.branch&(branchCount-1)] = base
	c.branch++
	c.r[isa.RegRIP] = base
}

// runPart executes the first n instructions of b, which has more.
func (c *CPU) runPart(b *block, n uint64) (exit vcpu.Exit, done bool) {
	c.rip = c.wrapIP(c.rip + uint64(b.ops[n-1].end))
	for i := range b.ops[:n] {
		u := &b.ops[i]
		if !c.single(u) {
			c.icount += uint64(i)
			return c.stopped(u)
		}
	}
	c.icount += n
	return exit, false
}

// single executes u without what may be fused with it.
func (c *CPU) single(u *uop) bool {
	if r := c.redir; r != nil && r.cur != nil {
		return c.scopedSingle(u)
	}
	if c.tracking {
		return c.trackSingle(u)
	}
	if u.fused {
		return c.slow(u)
	}
	return u.exec(c, u)
}

// stopped deals with a handler that returned false (u is its instruction) or a fetch that failed (u is nil). On
// return, c.rip is where to go on.
func (c *CPU) stopped(u *uop) (exit vcpu.Exit, done bool) {
	why := c.stop
	c.stop = stopNone
	if why == stopTaint { // again, in tracking mode
		c.startTracking()
		c.rip = c.next(u)
		if c.single(u) {
			c.icount++
			return exit, false
		}
		why = c.stop
		c.stop = stopNone
	}
	if why == stopAlone {
		c.alone = true
		c.rip = c.next(u)
		ok := c.single(u)
		c.alone = false
		if ok {
			c.icount++
			return c.stepped()
		}
		why = c.stop
		c.stop = stopNone
		if why == stopTaint {
			c.startTracking()
			c.stop = stopAlone
			return c.stopped(u)
		}
	}
	switch why {
	case stopFault:
		if u != nil && !c.exc.committed {
			c.rip = c.start(u)
			if c.exc.trap {
				c.rip = c.next(u)
			}
			if c.exc.notCanonical {
				c.stackFault(u)
			}
		}
		c.icount++
		if !c.deliverException() {
			return c.deadEnd(), true
		}
		return exit, false
	case stopDone:
		c.icount++
		if c.halted && c.attention.Load()&(attINTR|attNMI) == 0 && !c.stepping {
			return vcpu.Exit{Reason: vcpu.ExitHalt}, true
		}
		return exit, false
	}
	if u != nil {
		c.rip = c.start(u)
	}
	if why == stopRedirection {
		return vcpu.Exit{Reason: vcpu.ExitRedirection, Address: c.rip, Detail: c.detail}, true
	}
	return vcpu.Exit{Reason: vcpu.ExitUnsupported, Detail: c.detail}, true
}

// withinLimit returns how many of the first n instructions of b end within the limit of the code segment.
func (c *CPU) withinLimit(b *block, n uint64) uint64 {
	limit := uint64(c.seg[isa.CS].Limit)
	if c.rip+uint64(b.size)-1 <= limit {
		return n
	}
	for n > 0 && c.rip+uint64(b.ops[n-1].end)-1 > limit {
		n--
	}
	return n
}

// SetDeadline implements vcpu.VCPU.
func (c *CPU) SetDeadline(deadline uint64) { c.until = deadline }

// Instructions implements vcpu.VCPU.
func (c *CPU) Instructions() uint64 { return c.icount }

// Stop implements vcpu.VCPU.
func (c *CPU) Stop() { c.attend(attStop) }

// branchCount is how many block entries are remembered.
const branchCount = 16

// LastBranches returns the addresses at which the last blocks were entered, newest first: targets of branches, and
// where straight code was cut into blocks.
func (c *CPU) LastBranches() []uint64 {
	n := min(c.branch, branchCount)
	b := make([]uint64, 0, n)
	for i := uint64(1); i <= n; i++ {
		b = append(b, c.branches[(c.branch-i)&(branchCount-1)])
	}
	return b
}
