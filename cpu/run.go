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
		if exit, done := c.runBlock(b, limit); done {
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

// runBlock executes b, and the blocks chained to it, up to limit instructions if that is less than a whole block.
func (c *CPU) runBlock(b *block, limit uint64) (exit vcpu.Exit, done bool) {
	for {
		ops := b.ops
		n := min(uint64(len(ops)), limit, c.until-c.icount)
		if c.mode != isa.Mode64 {
			n = c.withinLimit(b, n)
			if n == 0 {
				c.gp(0)
				return c.stopped(nil)
			}
		}
		ops = ops[:n]
		base := c.rip
		c.r[isa.RegRIP] = base
		c.rip = c.wrapIP(base + uint64(ops[n-1].end))
		for i := range ops {
			u := &ops[i]
			if !u.exec(c, u) {
				c.icount += uint64(i)
				return c.stopped(u)
			}
		}
		c.icount += n
		c.stats.BlocksExecuted++
		if n < uint64(len(b.ops)) || c.attention.Load() != 0 || c.icount >= c.until || limit != maxBlock {
			return exit, false
		}
		// Follow the chain inside the page.
		if (c.rip^base)&^pageMask != 0 || b.second != 0 || c.unchain || !b.valid || c.seg[isa.CS].Base&pageMask != 0 {
			c.unchain = false
			return exit, false
		}
		if nb := b.next; nb != nil && b.nextIP == c.rip&pageMask && nb.valid {
			b = nb
			continue
		}
		if nb := b.other; nb != nil && b.otherIP == c.rip&pageMask && nb.valid {
			b = nb
			continue
		}
		nb := c.lookup()
		if nb == nil {
			return c.stopped(nil)
		}
		if nb.stops {
			return exit, false
		}
		if nb.second == 0 {
			b.other, b.otherIP = b.next, b.nextIP
			b.next, b.nextIP = nb, c.rip&pageMask
		}
		b = nb
	}
}

// stopped deals with a handler that returned false (u is its instruction) or a fetch that failed (u is nil). On
// return, c.rip is where to go on.
func (c *CPU) stopped(u *uop) (exit vcpu.Exit, done bool) {
	why := c.stop
	c.stop = stopNone
	if why == stopAlone {
		c.alone = true
		c.rip = c.next(u)
		ok := u.exec(c, u)
		c.alone = false
		if ok {
			c.icount++
			return c.stepped()
		}
		why = c.stop
		c.stop = stopNone
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
		if c.halted && c.attention.Load()&(attINTR|attNMI) == 0 {
			return vcpu.Exit{Reason: vcpu.ExitHalt}, true
		}
		return exit, false
	}
	if u != nil {
		c.rip = c.start(u)
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
