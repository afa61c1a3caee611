package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
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
	// Space is that of the kernel; the zero value means taint.Upper(48).
	Space taint.Space
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
	shadow *taint.Shadow
	regs   taint.Registers
	opt    TaintOptions
	space  taint.Space
	// quiet is set while an event is delivered: its accesses are the processor's, and no load stops.
	quiet bool

	// What the instruction in progress will do, from follow until commit.
	reg  [32]regEffect
	mem  [64]memEffect
	nreg int
	nmem int

	blocks uint32 // tracked since the registers were last looked at
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
	c.dropAllCode() // blocks know how they are tracked
	c.tracking = false
	if opt == nil {
		c.track = nil
		return
	}
	t := &tracker{opt: *opt, space: opt.Space}
	if t.space.Width == 0 {
		t.space = taint.Upper(48)
	}
	t.shadow = taint.NewShadow(func(pfn uint64, tainted bool) {
		if tainted && !c.tracking {
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
func (c *CPU) startTracking() { c.tracking = true }

// stopTracking goes back to checking mode.
func (c *CPU) stopTracking() {
	t := c.track
	c.tracking = false
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
	if t == nil || c.tracking || t.quiet || t.shadow.Get(pa, int(size)) == taint.Clean {
		return true
	}
	c.stop = stopTaint
	return false
}

// checkStore is told by the slow path of stores. In checking mode everything stored is clean.
func (c *CPU) checkStore(pa, size uint64) {
	if t := c.track; t != nil && !c.tracking {
		t.shadow.Set(pa, int(size), taint.Clean)
	}
}

// mayCachePage reports whether the page of pa may enter the TLB in the present mode.
func (c *CPU) mayCachePage(pa uint64) bool {
	t := c.track
	return t == nil || c.tracking || !t.shadow.PageTainted(pa>>12)
}

// blocksPerLook is how many blocks are tracked between looks at the registers, at least.
const blocksPerLook = 64

// executeTracked is execute in tracking mode: the handlers are those of track*.go, which call those of u.
func (c *CPU) executeTracked(b *block) *uop {
	if b.tracked == nil {
		c.buildTracked(b)
	}
	ops := b.ops[:b.steps]
	tracked := b.tracked[:len(ops)]
	for i := range ops {
		if u := &ops[i]; !tracked[i](c, u) {
			return u
		}
	}
	c.lookAtRegisters()
	return nil
}

// lookAtRegisters is called after each block, and now and then leaves tracking mode if no register is tainted.
func (c *CPU) lookAtRegisters() {
	t := c.track
	if t.blocks++; t.blocks%blocksPerLook == 0 && !t.regs.Tainted() {
		c.stopTracking()
	}
}

// trackGeneral tracks any instruction by the rule of its row.
func trackGeneral(c *CPU, u *uop) bool {
	c.follow(u)
	return c.followed(u, u.exec(c, u))
}

// trackSingle is trackGeneral without what may be fused with u.
func (c *CPU) trackSingle(u *uop) bool {
	c.follow(u)
	if u.fused {
		return c.followed(u, c.slow(u))
	}
	return c.followed(u, u.exec(c, u))
}

// followed commits the taint of u as far as it has executed; ok is what its handler returned.
func (c *CPU) followed(u *uop, ok bool) bool {
	if ok || c.stop == stopDone || c.stop == stopFault && c.exc.trap {
		c.commitTaint(u)
	} else {
		c.commitString(u)
	}
	return ok
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
	t.nreg = 0
	c.commitMemory()
}

func (c *CPU) commitMemory() {
	t := c.track
	for _, e := range t.mem[:t.nmem] {
		t.shadow.Set(e.pa, e.size, e.m)
	}
	t.nmem = 0
}

// setReg, setMem and setFlags note an effect.
func (t *tracker) setReg(dst *taint.Mask, m taint.Mask) {
	if t.noted(dst) != m {
		t.reg[t.nreg] = regEffect{dst, m}
		t.nreg++
	}
}

// noted returns the taint that a register has after the effects noted so far: both operands can be parts of one register.
func (t *tracker) noted(p *taint.Mask) taint.Mask {
	for i := t.nreg - 1; i >= 0; i-- {
		if t.reg[i].dst == p {
			return t.reg[i].m
		}
	}
	return *p
}

func (t *tracker) setMem(pa uint64, size int, m taint.Mask) {
	t.mem[t.nmem] = memEffect{pa, size, m}
	t.nmem++
}

// putGPR gives the low size bytes of a general register the taint m, which has no more.
func (t *tracker) putGPR(r, size uint8, m taint.Mask) {
	p := &t.regs.GPR[r&31]
	if size < 4 {
		m |= *p &^ taint.All(int(size))
	}
	*p = m
}

// setGPR notes the taint of the low size bytes of a general register.
func (t *tracker) setGPR(r, size uint8, m taint.Mask) {
	p := &t.regs.GPR[r]
	m = m.Cut(int(size))
	if size < 4 {
		m |= t.noted(p) &^ taint.All(int(size))
	}
	t.setReg(p, m)
}

// dataAddress finds the physical address of an operand without any side effect; ok is false where there is no RAM. Whether
// the access is allowed, the instruction itself will find.
func (c *CPU) dataAddress(la uint64, acc access) (pa uint64, ok bool) {
	if r := c.redir; r != nil && r.nroutes != 0 {
		if pa, hit, ok := c.elsewhere(la, acc); hit {
			return pa, ok
		}
	}
	i := la >> 12 & tlbMask
	if c.tlbR[i].tag == la>>12|c.ctx {
		return c.pfnR[i]<<12 | la&pageMask, true
	}
	if c.tlbW[i].tag == la>>12|c.ctx {
		return c.pfnW[i]<<12 | la&pageMask, true
	}
	pa, ok = c.TranslateLinear(la)
	if ok {
		page, _ := c.mem.Page(pa &^ pageMask)
		ok = page != nil
	}
	return pa, ok
}

// memTaint returns the taint of size bytes at a linear address.
func (c *CPU) memTaint(la uint64, size int) taint.Mask {
	pa, ok := c.dataAddress(la, accessRead)
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
	pa, ok := c.dataAddress(la, accessWrite)
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
	switch u.Op {
	case isa.XLAT:
		la = c.r[isa.RBX] + c.r[isa.RAX]&0xff
		la &= sizeMask[u.AddrSize]
		if c.mode != isa.Mode64 || u.Seg >= isa.FS {
			la = c.wrapLinear(c.seg[u.Seg].Base + la)
		}
		return la, true
	case isa.BT, isa.BTS, isa.BTR, isa.BTC:
		// A bit number in a register reaches beyond the operand.
		if b := &u.Args[1]; b.Kind == isa.KindReg {
			la, ok = c.plainAddress(u, size)
			number := int64(sext(c.reg(b.Reg, b.Size), b.Size))
			return c.wrapLinear(la + uint64(number>>3&^int64(b.Size-1))), ok
		}
	}
	return c.plainAddress(u, size)
}

// plainAddress is operandAddress for instructions that add nothing to what ModRM says.
func (c *CPU) plainAddress(u *uop, size uint8) (la uint64, ok bool) {
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
	segment, segmentTaint := uint64(0), taint.Clean
	if u.Seg >= isa.FS || c.mode != isa.Mode64 {
		segment, segmentTaint = c.seg[u.Seg].Base, r.Segment[u.Seg]
	}
	all = base | index | segmentTaint
	if all == 0 {
		return 0, 0
	}
	return c.track.space.PointerPart(
		taint.Part{Value: c.r[u.Base&31], Taint: base},
		taint.Part{Value: c.r[u.Index&31] << (u.Scale & 3), Taint: index},
		taint.Part{Value: uint64(u.Disp)},
		taint.Part{Value: segment, Taint: segmentTaint}), all
}

// SetTaintSpace changes which numbers are addresses of the kernel (TaintOptions.Space), between Runs.
func (c *CPU) SetTaintSpace(s taint.Space) {
	c.track.space = s
	c.dropAllCode()
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
		return r.FPUStatus << 1 // the condition codes are in the upper byte
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
		t.setReg(p, t.noted(p)&^2|m<<1&2)
	case isa.KindMem:
		if la, ok := c.operandAddress(u, a.Size); ok {
			if u.Row.FPUStack != 0 || u.Row.Feature == isa.FeatFPU {
				if c.unmasked87() {
					m |= c.memTaint(la, int(a.Size))
				}
			}
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
		c.setST(top+a.Reg, m)
	case isa.KindFSW:
		t.setReg(&r.FPUStatus, m.Spread(1))
	}
}

// setST notes the taint of a physical x87 register. An instruction with an exception that is not masked leaves its
// destination as it was, and still counts as executed.
func (c *CPU) setST(i uint8, m taint.Mask) {
	p := &c.track.regs.ST[i&7]
	if c.unmasked87() {
		m |= *p
	}
	c.track.setReg(p, m.Cut(10))
}

// unmasked87 reports whether an x87 instruction may stop at an exception of its own.
func (c *CPU) unmasked87() bool { return c.fpu.cw&x87Flags != x87Flags }

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

// tookEvent gives the frame of an event that has been delivered, and the stack pointer, their taint. flags and sp are
// those from before, inner says that the stack was switched to that of another level.
func (c *CPU) tookEvent(flags, sp taint.Mask, inner, code bool) {
	t := c.track
	size := 4
	switch {
	case c.longMode():
		size = 8
	case c.cr0&cr0PE == 0:
		size = 2
	}
	la := c.stackTop(0)
	if code {
		c.setMemTaint(la, size, taint.Clean)
		la += uint64(size)
	}
	words := [5]taint.Mask{2: flags.Spread(2), 3: sp.Cut(size)}
	n := 3
	if inner || size == 8 {
		n = 5
	}
	for i, m := range words[:n] {
		c.setMemTaint(c.wrapLinear(la+uint64(i*size)), size, m)
	}
	c.commitMemory()
	if inner {
		t.regs.GPR[isa.RSP] = taint.Clean
	}
}
