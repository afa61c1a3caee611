package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/taint"
)

// Taint tracking runs in two modes (as in DECAF++). While no register is tainted, the CPU is checking: it runs at full
// speed, and only the slow path of memory accesses, which pages with a tainted byte never leave, looks at the shadow. A
// load that meets a tainted byte stops before it has changed anything, and the CPU goes on tracking: before each
// instruction, follow works out by the verb of its row what the instruction will do to the taint of its operands; the
// instruction executes; commit makes it so, unless it faulted. Once no register is tainted any more it checks again.

// TaintOptions chooses how taint is propagated.
type TaintOptions struct {
	// PointerPart lets sums (ADD, SUB, LEA) take the taint of their pointer part only, see taint.PointerPart. Without it
	// any tainted byte taints the bytes above it.
	PointerPart bool
	// Observer, if not nil, is told of tainted addresses.
	Observer TaintObserver
}

// TaintObserver is told when an instruction uses a tainted address. It is called before the access, on the goroutine
// of Run, and must not call the CPU.
type TaintObserver interface {
	TaintedAddress(TaintedAccess)
}

// TaintedAccess is a use of a tainted address.
type TaintedAccess struct {
	RIP     uint64
	Address uint64     // linear
	Size    int        // bytes
	Write   bool       // else a read
	Branch  bool       // a jump to a tainted target, which is Address
	Pointer taint.Mask // taint of the part that makes it a pointer; 0 if only an index is tainted
	Index   taint.Mask // taint of all parts together
}

// tracker is the taint state of one CPU.
type tracker struct {
	shadow   *taint.Shadow
	regs     taint.Registers
	opt      TaintOptions
	tracking bool

	// What the instruction in progress will do, from follow until commit.
	reg  [24]regEffect
	mem  [20]memEffect
	nreg int
	nmem int

	blocks uint64 // tracked since the registers were last looked at
	string stringProgress
}

type regEffect struct {
	dst *taint.Mask
	m   taint.Mask
}

type memEffect struct {
	pa   uint64
	size int
	m    taint.Mask
}

// EnableTaint switches taint on, with a clean shadow, or off when opt is nil. It may be called between Runs.
func (c *CPU) EnableTaint(opt *TaintOptions) {
	c.flushAll()
	if opt == nil {
		c.track = nil
		return
	}
	t := &tracker{opt: *opt}
	t.shadow = taint.NewShadow(func(pfn uint64, tainted bool) {
		if tainted && !t.tracking {
			c.evict(pfn)
		}
	})
	c.track = t
}

// Shadow returns the taint of physical memory, on which sources are marked and answers are read between Runs or from
// observers; nil when taint is off.
func (c *CPU) Shadow() *taint.Shadow {
	if c.track == nil {
		return nil
	}
	return c.track.shadow
}

// RegisterTaint returns the taint of the registers, which may be changed between Runs; nil when taint is off.
func (c *CPU) RegisterTaint() *taint.Registers {
	if c.track == nil {
		return nil
	}
	return &c.track.regs
}

// startTracking leaves checking mode; pages with taint may enter the TLB from now on.
func (c *CPU) startTracking() { c.track.tracking = true }

// stopTracking goes back to checking mode.
func (c *CPU) stopTracking() {
	t := c.track
	t.tracking = false
	for i := range c.tlbR {
		if c.tlbR[i].tag != 0 && t.shadow.PageTainted(c.pfnR[i]) {
			c.tlbR[i].tag = 0
		}
		if c.tlbW[i].tag != 0 && t.shadow.PageTainted(c.pfnW[i]) {
			c.tlbW[i].tag = 0
		}
	}
}

// evict takes a physical page out of the TLB.
func (c *CPU) evict(pfn uint64) {
	for i := range c.tlbR {
		if c.pfnR[i] == pfn {
			c.tlbR[i].tag = 0
		}
		if c.pfnW[i] == pfn {
			c.tlbW[i].tag = 0
		}
	}
}

// checkLoad is asked by the slow path of loads. In checking mode a tainted byte stops the instruction.
func (c *CPU) checkLoad(pa, size uint64) bool {
	t := c.track
	if t == nil || t.tracking || c.implicit || t.shadow.Get(pa, int(size)) == taint.Clean {
		return true
	}
	c.stop = stopTaint
	return false
}

// checkStore is told by the slow path of stores. In checking mode everything stored is clean.
func (c *CPU) checkStore(pa, size uint64) {
	if t := c.track; t != nil && !t.tracking {
		t.shadow.Set(pa, int(size), taint.Clean)
	}
}

// untaint is told what the processor itself pushed or wrote: it is clean.
func (c *CPU) untaint(la uint64, size uint8) {
	t := c.track
	if t == nil || !t.tracking {
		return
	}
	c.setMemTaint(la, int(size), taint.Clean)
	for _, e := range t.mem[:t.nmem] {
		t.shadow.Set(e.pa, e.size, e.m)
	}
	t.nmem = 0
}

// mayCachePage reports whether the page of pa may enter the TLB in the present mode.
func (c *CPU) mayCachePage(pa uint64) bool {
	t := c.track
	return t == nil || t.tracking || !t.shadow.PageTainted(pa>>12)
}

// runTracked executes b in tracking mode, up to limit instructions; it is runBlock with follow and commitTaint around
// each.
func (c *CPU) runTracked(b *block, limit uint64) (exit vcpu.Exit, done bool) {
	t := c.track
	n := min(uint64(len(b.ops)), limit, c.until-c.icount)
	if c.mode != isa.Mode64 {
		if n = c.withinLimit(b, n); n == 0 {
			c.gp(0)
			return c.stopped(nil)
		}
	}
	ops := b.ops[:n]
	base := c.rip
	c.branches[c.branch&(branchCount-1)] = base
	c.branch++
	c.r[isa.RegRIP] = base
	c.rip = c.wrapIP(base + uint64(ops[n-1].end))
	for i := range ops {
		u := &ops[i]
		c.follow(u)
		if c.single(u) {
			c.commitTaint(u)
			continue
		}
		c.icount += uint64(i)
		if c.stop == stopAlone {
			c.stop = stopNone
			c.alone = true
			c.rip = c.next(u)
			ok := c.single(u)
			c.alone = false
			if ok {
				c.commitTaint(u)
				c.icount++
				return c.stepped()
			}
		}
		if c.stop == stopDone || c.stop == stopFault && (c.exc.trap || c.exc.committed) {
			c.commitTaint(u)
		} else {
			c.commitString(u)
		}
		return c.stopped(u)
	}
	c.icount += n
	c.stats.BlocksExecuted++
	c.unchain = false
	if t.blocks++; t.blocks%32 == 0 && !t.regs.Tainted() {
		c.stopTracking()
	}
	return exit, false
}

// commitTaint makes the effects of the instruction that has executed.
func (c *CPU) commitTaint(u *uop) {
	t := c.track
	if t.string.active {
		c.commitString(u)
	}
	for _, e := range t.reg[:t.nreg] {
		*e.dst = e.m
	}
	for _, e := range t.mem[:t.nmem] {
		t.shadow.Set(e.pa, e.size, e.m)
	}
	t.nreg, t.nmem = 0, 0
}

// setReg, setMem and setFlags note an effect.
func (t *tracker) setReg(dst *taint.Mask, m taint.Mask) {
	if *dst != m {
		t.reg[t.nreg] = regEffect{dst, m}
		t.nreg++
	}
}

func (t *tracker) setMem(pa uint64, size int, m taint.Mask) {
	t.mem[t.nmem] = memEffect{pa, size, m}
	t.nmem++
}

// setGPR notes the taint of the low size bytes of a general register.
func (t *tracker) setGPR(r, size uint8, m taint.Mask) {
	p := &t.regs.GPR[r]
	m = m.Cut(int(size))
	if size < 4 {
		m |= *p &^ taint.All(int(size))
	}
	t.setReg(p, m)
}

// dataAddress finds the physical address of an operand without a side effect on the guest but accessed bits; ok is
// false where there is no RAM or the access will fault, which the instruction itself will find.
func (c *CPU) dataAddress(la uint64, write bool) (pa uint64, ok bool) {
	i := la >> 12 & tlbMask
	if c.tlbR[i].tag == la>>12|c.ctx {
		return c.pfnR[i]<<12 | la&pageMask, true
	}
	if c.tlbW[i].tag == la>>12|c.ctx {
		return c.pfnW[i]<<12 | la&pageMask, true
	}
	a := accessRead
	if write {
		a = accessWrite
	}
	exc, stop := c.exc, c.stop
	pa, ok = c.translate(la, a)
	c.exc, c.stop = exc, stop
	if ok {
		page, _ := c.mem.Page(pa &^ pageMask)
		ok = page != nil
	}
	return pa, ok
}

// memTaint returns the taint of size bytes at a linear address.
func (c *CPU) memTaint(la uint64, size int) taint.Mask {
	pa, ok := c.dataAddress(la, false)
	if !ok {
		return taint.Clean
	}
	if off := int(la & pageMask); off+size > 0x1000 {
		n := 0x1000 - off
		m := c.track.shadow.Get(pa, n)
		return m | c.memTaint(c.wrapLinear(la+uint64(n)), size-n)<<n
	}
	return c.track.shadow.Get(pa, size)
}

// setMemTaint notes the taint of size bytes, at most 64, at a linear address.
func (c *CPU) setMemTaint(la uint64, size int, m taint.Mask) {
	pa, ok := c.dataAddress(la, true)
	if !ok {
		return
	}
	if off := int(la & pageMask); off+size > 0x1000 {
		n := 0x1000 - off
		c.track.setMem(pa, n, m.Cut(n))
		c.setMemTaint(c.wrapLinear(la+uint64(n)), size-n, m>>n)
		return
	}
	if !c.track.shadow.PageTainted(pa>>12) && m == 0 {
		return
	}
	c.track.setMem(pa, size, m)
}

// operandAddress computes the linear address of the memory operand, leaving faults to the instruction.
func (c *CPU) operandAddress(u *uop, size uint8) (la uint64, ok bool) {
	if c.mode == isa.Mode64 {
		off := c.offset(u)
		if u.Seg >= isa.FS {
			off += c.seg[u.Seg].Base
		}
		return off, true
	}
	exc, stop := c.exc, c.stop
	la, ok = c.address(u, size, false)
	c.exc, c.stop = exc, stop
	return la, ok
}

// addressTaint returns the taint of the pointer part of u's memory operand, and that of all parts.
func (c *CPU) addressTaint(u *uop) (pointer, all taint.Mask) {
	r := &c.track.regs
	base, index := r.GPR[min(u.Base, isa.RegRIP)], r.GPR[min(u.Index, isa.RegNone)]
	all = base | index
	if all == 0 {
		return 0, 0
	}
	segment := uint64(0)
	if u.Seg >= isa.FS || c.mode != isa.Mode64 {
		segment = c.seg[u.Seg].Base
	}
	return taint.PointerPart(c.addressBits(),
		taint.Part{Value: c.r[u.Base&31], Taint: base},
		taint.Part{Value: c.r[u.Index&31] << (u.Scale & 3), Taint: index},
		taint.Part{Value: uint64(u.Disp)},
		taint.Part{Value: segment}), all
}

// addressBits is the number of bits of a linear address.
func (c *CPU) addressBits() uint {
	if c.cr4&cr4LA57 != 0 {
		return 57
	}
	return 48
}

// observe tells the observer that u uses a tainted address.
func (c *CPU) observe(u *uop, la uint64, a isa.Operand) {
	o := c.track.opt.Observer
	if o == nil {
		return
	}
	pointer, all := c.addressTaint(u)
	if all == 0 {
		return
	}
	o.TaintedAddress(TaintedAccess{
		RIP: c.start(u), Address: la, Size: int(a.Size), Write: a.Access&isa.Write != 0,
		Pointer: pointer, Index: all,
	})
}

// taintOf returns the taint of an operand.
func (c *CPU) taintOf(u *uop, a isa.Operand) taint.Mask {
	r := &c.track.regs
	switch a.Kind {
	case isa.KindReg:
		return r.GPR[a.Reg].Cut(int(a.Size))
	case isa.KindHigh:
		return r.GPR[a.Reg] >> 1 & 1
	case isa.KindMem:
		if la, ok := c.operandAddress(u, a.Size); ok {
			return c.memTaint(la, min(int(a.Size), 64))
		}
	case isa.KindXMM:
		return r.XMM[a.Reg].Cut(int(a.Size))
	case isa.KindMMX:
		return r.ST[a.Reg&7].Cut(int(a.Size))
	case isa.KindST:
		return r.ST[(c.fpu.top+a.Reg)&7]
	case isa.KindFSW:
		return r.FPUStatus
	case isa.KindSeg:
		return taint.Clean
	}
	return taint.Clean
}

// setTaint notes the taint of a destination operand.
func (c *CPU) setTaint(u *uop, a isa.Operand, m taint.Mask) {
	t := c.track
	r := &t.regs
	switch a.Kind {
	case isa.KindReg:
		t.setGPR(a.Reg, a.Size, m)
	case isa.KindHigh:
		p := &r.GPR[a.Reg]
		t.setReg(p, *p&^2|m<<1&2)
	case isa.KindMem:
		if la, ok := c.operandAddress(u, a.Size); ok {
			c.setMemTaint(la, min(int(a.Size), 64), m.Cut(min(int(a.Size), 64)))
		}
	case isa.KindXMM:
		p := &r.XMM[a.Reg]
		t.setReg(p, *p&^taint.All(int(a.Size))|m.Cut(int(a.Size)))
	case isa.KindMMX:
		t.setReg(&r.ST[a.Reg&7], m.Cut(8))
	case isa.KindST:
		top := c.fpu.top
		if u.Row.FPUStack > 0 {
			top--
		}
		t.setReg(&r.ST[(top+a.Reg)&7], m.Cut(10))
	case isa.KindFSW:
		t.setReg(&r.FPUStatus, m.Spread(1))
	}
}

// sourceTaint returns the union of all source operands, flags included as byte 0.
func (c *CPU) sourceTaint(u *uop) taint.Mask {
	var m taint.Mask
	for i := range u.Args {
		if u.Args[i].Access&isa.Read != 0 {
			m |= c.taintOf(u, u.Args[i])
		}
	}
	for i := range u.Row.Implicit {
		o := u.Implicit(i)
		if o.Access&isa.Read != 0 && o.Kind != isa.KindStack && !(o.Kind == isa.KindReg && o.Reg == isa.RSP) {
			m |= c.taintOf(u, o)
		}
	}
	if u.FlagsRead()&isa.FlagsStatus != 0 {
		m |= c.track.regs.Flags
	}
	return m
}

// setTaints gives every destination operand the taint that of computes for it.
func (c *CPU) setTaints(u *uop, of func(isa.Operand) taint.Mask) {
	for i := range u.Args {
		if u.Args[i].Access&isa.Write != 0 {
			c.setTaint(u, u.Args[i], of(u.Args[i]))
		}
	}
	for i := range u.Row.Implicit {
		o := u.Implicit(i)
		if o.Access&isa.Write != 0 && o.Kind != isa.KindStack && !(o.Kind == isa.KindReg && o.Reg == isa.RSP) {
			c.setTaint(u, o, of(o))
		}
	}
}

// taintFlags notes the taint of the arithmetic flags after an instruction whose sources have taint m.
func (c *CPU) taintFlags(u *uop, m taint.Mask) {
	w := u.Row.Writes | u.Row.Undef
	if w&isa.FlagsStatus == 0 {
		return
	}
	m = m.Spread(1)
	if w&isa.FlagsStatus != isa.FlagsStatus {
		m |= c.track.regs.Flags
	}
	c.track.setReg(&c.track.regs.Flags, m)
}
