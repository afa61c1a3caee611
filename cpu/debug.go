package cpu

import (
	"slices"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Bits of DR6 and DR7 (SDM vol. 3B, 17.2.3 and 17.2.4).
const (
	dr6BD       uint64 = 1 << 13
	dr6BS       uint64 = 1 << 14
	dr6BT       uint64 = 1 << 15
	dr6Writable        = 0xf | dr6BD | dr6BS | dr6BT
	dr6Fixed    uint64 = 0xffff0ff0
	dr7GD       uint64 = 1 << 13
	dr7Local    uint64 = 0x155 // L0 to L3 and LE
	dr7Writable uint64 = 0xffff23ff
	dr7Fixed    uint64 = 0x400
)

// Kinds of data breakpoint in DR7.R/W.
const (
	dr7Execute   = 0
	dr7Write     = 1
	dr7IO        = 2
	dr7ReadWrite = 3
)

// WatchKind says which accesses a debugger's watchpoint catches.
type WatchKind uint8

// Kinds of watchpoint.
const (
	WatchRead  WatchKind = 1
	WatchWrite WatchKind = 2
	WatchBoth  WatchKind = WatchRead | WatchWrite
)

// dataWatch is a range of linear addresses under a data breakpoint.
type dataWatch struct {
	la, size uint64
	kind     WatchKind
	// bit is the bit of DR6 that a hit sets; 0 for a debugger's watchpoint.
	bit uint64
}

func (w *dataWatch) hits(la, size uint64, kind WatchKind) bool {
	return w.kind&kind != 0 && la < w.la+w.size && w.la < la+size
}

// debugState is what breakpoints need, the guest's in DR0 to DR3 and the debugger's.
type debugState struct {
	breakpoints map[uint64]struct{}
	watchpoints []dataWatch

	// data are the data breakpoints of both, ports the guest's I/O breakpoints.
	data  []dataWatch
	ports []dataWatch
	// stops has the offsets in their page of all instruction breakpoints: blocks begin there; see block.stops.
	stops map[uint16]struct{}
	// skip lets the next instruction run in spite of a breakpoint on it: RFLAGS.RF was set.
	skip bool
	// resume is the instruction count at which the debugger's breakpoint was reported, plus 1.
	resume uint64
	// quiet keeps interrupts away while the debugger steps.
	quiet bool
	// hit is the address of a debugger's watchpoint that the instruction has touched.
	hit   uint64
	isHit bool
}

// debugChanged derives the lists of breakpoints after a change of DR0 to DR3, DR7 or the debugger's set.
func (c *CPU) debugChanged() {
	d := &c.debug
	old := d.stops
	d.data = append([]dataWatch(nil), d.watchpoints...)
	d.ports, d.stops = nil, nil
	stopAt := func(la uint64) {
		if d.stops == nil {
			d.stops = map[uint16]struct{}{}
		}
		d.stops[uint16(la&pageMask)] = struct{}{}
	}
	for la := range d.breakpoints {
		stopAt(la)
	}
	if r := c.redir; r != nil {
		stopAt(r.Switch)
		stopAt(r.Exit)
	}
	for i := range 4 {
		if c.dr[7]>>(2*i)&3 == 0 {
			continue
		}
		field := c.dr[7] >> (16 + 4*i)
		size := [4]uint64{1, 2, 8, 4}[field>>2&3]
		w := dataWatch{la: c.dr[i] &^ (size - 1), size: size, bit: 1 << i}
		switch field & 3 {
		case dr7Execute:
			stopAt(c.dr[i])
		case dr7Write:
			w.kind = WatchWrite
			d.data = append(d.data, w)
		case dr7ReadWrite:
			w.kind = WatchBoth
			d.data = append(d.data, w)
		case dr7IO:
			if c.cr4&cr4DE != 0 {
				w.kind = WatchBoth
				d.ports = append(d.ports, w)
			}
		}
	}
	if len(old) != 0 || len(d.stops) != 0 {
		c.dropAllCode()
		c.unchain = true
	}
	for i := range d.data {
		w := &d.data[i]
		c.invalidatePage(w.la)
		c.invalidatePage(w.la + w.size - 1)
	}
}

// mayCache reports whether the page of la may be entered into the TLB: it holds no data breakpoint, alignment is not
// checked, and no operand is redirected (generation 0).
func (c *CPU) mayCache(la uint64) bool {
	for i := range c.debug.data {
		if w := &c.debug.data[i]; la&^pageMask <= w.la+w.size-1 && w.la <= la|pageMask {
			return false
		}
	}
	return c.ctx>>52&3 != privUserAlign && c.ctx>>54 != 0
}

// watch reports an access to RAM to the data breakpoints. It is false if the instruction must be executed alone.
func (c *CPU) watch(la, size uint64, acc access) bool {
	if len(c.debug.data) == 0 {
		return true
	}
	kind := WatchRead
	if acc == accessWrite {
		kind = WatchWrite
	}
	for i := range c.debug.data {
		w := &c.debug.data[i]
		if !w.hits(la, size, kind) {
			continue
		}
		if !c.alone {
			c.stop = stopAlone
			return false
		}
		if w.bit != 0 {
			c.pendingDB |= w.bit
		} else {
			c.debug.hit, c.debug.isHit = w.la, true
		}
	}
	return true
}

// watchPort reports an access to I/O ports to the guest's I/O breakpoints (CR4.DE). Port instructions call it once they
// are sure to finish.
func (c *CPU) watchPort(port uint16, size uint8) {
	for i := range c.debug.ports {
		if w := &c.debug.ports[i]; w.hits(uint64(port), uint64(size), WatchBoth) {
			c.pendingDB |= w.bit
			c.attend(attShadow) // have the trap raised after the instruction
		}
	}
}

// attendTo looks at what wants attention before the next instruction: a stop, pending debug traps, NMI, an interrupt. single says that
// only one instruction may run before stepped is called.
func (c *CPU) attendTo(a uint32) (exit vcpu.Exit, single, done bool) {
	if a&attStop != 0 {
		c.unattend(attStop)
		return vcpu.Exit{Reason: vcpu.ExitStopped}, false, true
	}
	shadow, shadowSS := c.shadow || c.shadowSS, c.shadowSS
	c.shadow, c.shadowSS = false, false
	c.setAttention(attShadow, false)
	for c.icount < c.until {
		a |= c.attention.Load()
		if c.pendingDB != 0 && !shadowSS {
			if exit, done := c.stepped(); done {
				return exit, false, true
			}
			continue
		}
		if shadow || c.debug.quiet || !c.acknowledge() {
			break
		}
		c.icount++
		if !c.deliverException() {
			return c.deadEnd(), false, true
		}
		c.setAttention(attShadow, false)
	}
	if c.halted {
		return vcpu.Exit{Reason: vcpu.ExitHalt}, false, true
	}
	if c.flags&FlagRF != 0 {
		c.debug.skip = true
		c.setSystemFlags(c.flags &^ FlagRF)
		single = true
	}
	c.stepping = c.flags&FlagTF != 0
	return exit, single || c.stepping || a&(attShadow|attDebug) != 0, false
}

// acknowledge makes the NMI or interrupt that waits the exception to deliver; false if there is none.
func (c *CPU) acknowledge() bool {
	switch a := c.attention.Load(); {
	case a&attNMI != 0:
		c.nmi = false
		c.setAttention(attNMI, false)
		c.exc = exception{vector: VectorNMI, external: true}
	case a&attINTR != 0:
		c.exc = exception{vector: c.plat.AckInterrupt(), external: true}
	default:
		return false
	}
	return true
}

// deadEnd is the exit for a delivery that failed.
func (c *CPU) deadEnd() vcpu.Exit {
	reason := vcpu.ExitShutdown
	if c.stop == stopUnsupported {
		reason = vcpu.ExitUnsupported
	}
	c.stop = stopNone
	return vcpu.Exit{Reason: reason, Detail: c.detail}
}

// stepped raises the debug traps that an instruction has earned, once it is complete, and reports the debugger's
// watchpoints.
func (c *CPU) stepped() (exit vcpu.Exit, done bool) {
	c.debug.skip = false
	if c.stepping {
		c.stepping = false
		if !c.shadowSS { // MOV SS holds the trap back, and the next instruction has its own
			c.pendingDB |= dr6BS
		}
	}
	if c.pendingDB != 0 && !c.shadowSS {
		c.exc = exception{vector: VectorDB, trap: true, dr6: c.pendingDB}
		c.icount++
		if !c.deliverException() {
			return c.deadEnd(), true
		}
	}
	if c.debug.isHit {
		c.debug.isHit = false
		return vcpu.Exit{Reason: vcpu.ExitWatchpoint, Address: c.debug.hit}, true
	}
	return exit, false
}

// breakpoint looks for an instruction breakpoint at RIP, where a block with stops set begins. handled says that a
// debug exception was delivered and the block must not run; done that Run must return.
func (c *CPU) breakpoint() (exit vcpu.Exit, handled, done bool) {
	la := c.rip
	if c.mode != isa.Mode64 {
		la = (la + c.seg[isa.CS].Base) & 0xffffffff
	}
	if _, ok := c.debug.breakpoints[la]; ok && c.debug.resume != c.icount+1 {
		c.debug.resume = c.icount + 1
		return vcpu.Exit{Reason: vcpu.ExitBreakpoint, Address: la}, true, true
	}
	if r := c.redir; r != nil {
		switch la {
		case r.Switch:
			c.switchedStacks()
		case r.Exit:
			delete(r.scopes, c.r[isa.RSP]&^(r.StackSize-1))
			r.cur = nil
		}
	}
	if c.debug.skip {
		return exit, false, false
	}
	hit := uint64(0)
	for i := range 4 {
		if c.dr[7]>>(2*i)&3 != 0 && c.dr[7]>>(16+4*i)&3 == dr7Execute && c.dr[i] == la {
			hit |= 1 << i
		}
	}
	if hit == 0 {
		return exit, false, false
	}
	c.exc = exception{vector: VectorDB, dr6: hit}
	c.icount++
	if !c.deliverException() {
		return c.deadEnd(), true, true
	}
	return exit, true, false
}

// debugRegister resolves DR4 and DR5, and checks general detection; ok is false if it raised a fault (SDM vol. 3B, 17.2).
func (c *CPU) debugRegister(n uint8) (r uint8, ok bool) {
	if n > 7 {
		return 0, c.raise(VectorUD)
	}
	if n == 4 || n == 5 {
		if c.cr4&cr4DE != 0 {
			return 0, c.raise(VectorUD)
		}
		n += 2
	}
	if c.dr[7]&dr7GD != 0 {
		c.exc = exception{vector: VectorDB, dr6: dr6BD}
		c.stop = stopFault
		return 0, false
	}
	return n, true
}

func movFromDR(c *CPU, u *uop) bool {
	n, ok := c.debugRegister(u.Args[1].Reg)
	if ok {
		c.setReg(u.Args[0].Reg, u.OpSize, c.dr[n])
	}
	return ok
}

func movToDR(c *CPU, u *uop) bool {
	n, ok := c.debugRegister(u.Args[0].Reg)
	if !ok {
		return false
	}
	v := c.reg(u.Args[1].Reg, u.OpSize)
	switch n {
	case 6, 7:
		if v>>32 != 0 {
			return c.gp(0)
		}
		if n == 6 {
			c.dr[6] = v&dr6Writable | dr6Fixed
			return true
		}
		c.dr[7] = v&dr7Writable | dr7Fixed
	default:
		if c.mode == isa.Mode64 && !c.canonical(v) {
			return c.gp(0)
		}
		c.dr[n] = v
	}
	c.debugChanged()
	return true
}

// AddBreakpoint makes Run return ExitBreakpoint before it executes an instruction at linear address la. A breakpoint at which
// Run has just stopped is passed when it goes on.
func (c *CPU) AddBreakpoint(la uint64) {
	if c.debug.breakpoints == nil {
		c.debug.breakpoints = map[uint64]struct{}{}
	}
	c.debug.breakpoints[la] = struct{}{}
	c.debugChanged()
}

// RemoveBreakpoint undoes AddBreakpoint.
func (c *CPU) RemoveBreakpoint(la uint64) {
	delete(c.debug.breakpoints, la)
	c.debugChanged()
}

// AddWatchpoint makes Run return ExitWatchpoint after an instruction has accessed one of size bytes at linear address la.
func (c *CPU) AddWatchpoint(la, size uint64, kind WatchKind) {
	c.debug.watchpoints = append(c.debug.watchpoints, dataWatch{la: la, size: size, kind: kind})
	c.debugChanged()
}

// RemoveWatchpoint undoes AddWatchpoint with the same arguments.
func (c *CPU) RemoveWatchpoint(la, size uint64, kind WatchKind) {
	if i := slices.Index(c.debug.watchpoints, dataWatch{la: la, size: size, kind: kind}); i >= 0 {
		c.debug.watchpoints = slices.Delete(c.debug.watchpoints, i, i+1)
	}
	c.debugChanged()
}

// Step executes one instruction, or one iteration of a repeated string instruction, for a debugger: no interrupt is
// taken before it. The exit is ExitDeadline if nothing else happened.
func (c *CPU) Step() vcpu.Exit {
	c.debug.quiet = true
	c.debug.resume = c.icount + 1
	c.attend(attDebug)
	exit := c.Run(c.icount + 1)
	c.unattend(attDebug)
	c.debug.quiet = false
	c.debug.resume = c.icount + 1
	return exit
}

// Halted reports whether the processor sleeps in HLT or MWAIT.
func (c *CPU) Halted() bool { return c.halted }

// TranslateLinear returns the physical address that the current page tables give for a linear address, whatever the
// privilege it needs, and changes nothing.
func (c *CPU) TranslateLinear(la uint64) (pa uint64, ok bool) {
	var w walk
	if c.mmu.mode >= paging4 && !c.canonical(la) || !c.walk(la, &w) {
		return 0, false
	}
	return w.pa, true
}

// ReadLinear reads RAM at a linear address for a debugger, without side effects, and returns the number of bytes that
// could be read.
func (c *CPU) ReadLinear(la uint64, p []byte) int {
	return c.eachPage(la, len(p), func(page []byte, pa uint64, done int) { copy(p[done:], page) })
}

// WriteLinear writes RAM at a linear address for a debugger, whatever the page's rights, and returns the number of bytes
// that could be written.
func (c *CPU) WriteLinear(la uint64, p []byte) int {
	return c.eachPage(la, len(p), func(page []byte, pa uint64, done int) {
		c.MemoryWritten(pa, copy(page, p[done:]))
	})
}

// eachPage calls f for each piece of RAM in a range of linear addresses, with the number of bytes before it.
func (c *CPU) eachPage(la uint64, n int, f func(page []byte, pa uint64, done int)) (done int) {
	for done < n {
		pa, ok := c.TranslateLinear(la + uint64(done))
		if !ok {
			return done
		}
		page, _ := c.mem.Page(pa &^ pageMask)
		if page == nil {
			return done
		}
		piece := page[pa&pageMask:]
		if len(piece) > n-done {
			piece = piece[:n-done]
		}
		f(piece, pa, done)
		done += len(piece)
	}
	return done
}
