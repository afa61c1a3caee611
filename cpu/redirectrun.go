package cpu

import (
	"slices"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/taint"
)

// opKind says how an instruction is executed in a scope.
type opKind uint8

const (
	opPlain  opKind = iota // no memory operand but the stack
	opMemory               // what ModRM names
	opString
	opBranch    // indirect, by a register or by what is on the stack
	opClock     // RDTSC
	opImmediate // of a register, in forms that kernels use for constants of their own making
)

// kindOf classifies an instruction.
func kindOf(u *uop) opKind {
	switch u.Op {
	case isa.MOVS, isa.STOS, isa.LODS, isa.CMPS, isa.SCAS:
		return opString
	case isa.RET:
		return opBranch
	case isa.JMP_IND, isa.CALL_IND:
		if !u.HasMem() {
			return opBranch
		}
	case isa.RDTSC, isa.RDTSCP:
		return opClock
	case isa.LEA, isa.NOP, isa.INVLPG:
		return opPlain
	case isa.MOV, isa.SHR:
		if u.Args[0].Kind == isa.KindReg && u.Args[1].Kind == isa.KindImm {
			return opImmediate
		}
	}
	if u.HasMem() {
		return opMemory
	}
	return opPlain
}

// runScoped executes b, or the first limit instructions of it, in the current scope.
func (c *CPU) runScoped(b *block, limit uint64) (exit vcpu.Exit, done bool) {
	r := c.redir
	s := r.cur
	sp := c.r[isa.RSP]
	if s.blind != 0 && sp > s.blind && s.onStack(sp) {
		s.blind = 0
	}
	if sp > s.top && s.onStack(sp) {
		c.endScope()
		return c.runBlock(b, limit)
	}
	if b.hook != nil {
		if exit, over, done := c.hooked(b); over {
			return exit, done
		}
	}
	n := uint64(len(b.ops))
	base := c.rip
	c.enter(base)
	part := min(n, limit, c.until-c.icount)
	whole := part == n
	steps := b.steps
	c.rip = c.wrapIP(base + uint64(b.size))
	if !whole {
		steps = part
		c.rip = c.wrapIP(base + uint64(b.ops[part-1].end))
	}
	if b.kinds == nil {
		b.kinds = make([]opKind, n)
		for i := range b.ops {
			b.kinds[i] = kindOf(&b.ops[i])
		}
	}
	if b.tracked == nil {
		c.buildTracked(b)
	}
	r.rec = c.record(s, b, base)
	fused := whole && !r.rec.separate
	if whole && !fused {
		steps = n
	}
	for i := range steps {
		u := &b.ops[i]
		run := u.exec
		switch {
		case c.tracking && fused:
			run = b.tracked[i]
		case c.tracking:
			run = trackSingle
		case !fused && u.fused:
			run = c.table[u.Op]
		}
		r.joined = fused && u.fused
		if !c.scopedStep(s, u, b.kinds[i], run) {
			c.icount += uint64(u.index)
			r.stats.Instructions += uint64(u.index)
			return c.stopped(u)
		}
	}
	if whole && steps < n { // the branch of a fused pair
		r.rec.ops[n-1].executed = true
	}
	c.icount += part
	r.stats.Instructions += part
	c.stats.BlocksExecuted++
	if r.cur != s {
		return exit, false
	}
	if last := &b.ops[n-1]; whole && !r.elide {
		switch last.Op {
		case isa.CALL, isa.CALL_IND:
			s.called(c.r[isa.RSP], c.next(last))
		case isa.RET:
			c.returnedTo(s)
		}
	}
	if c.tracking {
		c.lookAtRegisters()
	}
	return exit, false
}

func trackSingle(c *CPU, u *uop) bool { return c.trackSingle(u) }

// scopedSingle is single within a scope.
func (c *CPU) scopedSingle(u *uop) bool {
	run := u.exec
	switch {
	case c.tracking:
		run = trackSingle
	case u.fused:
		run = c.table[u.Op]
	}
	c.redir.joined = false
	return c.scopedStep(c.redir.cur, u, kindOf(u), run)
}

// record finds what was seen of a block in the present context.
func (c *CPU) record(s *activeScope, b *block, rip uint64) *record {
	if b.record != nil && b.recordNode == s.node {
		return b.record
	}
	n := s.node
	rec := n.records[b]
	if rec == nil {
		rec = &record{block: b, rip: rip, ops: make([]seen, len(b.ops))}
		for i := range rec.ops {
			rec.ops[i].plan = s.given
			switch r := c.redir; {
			case r.Plan == nil || s.blind != 0:
			case r.Asks == nil:
				rec.ops[i].asks = TouchOther
			default:
				rec.ops[i].asks = r.Asks(s.ID, rip+uint64(b.ops[i].end)-uint64(b.ops[i].Len))
			}
			rec.separate = rec.separate || rec.ops[i].asks&TouchNone != 0
		}
		if n.records == nil {
			n.records = map[*block]*record{}
		}
		n.records[b] = rec
	}
	b.record, b.recordNode = rec, n
	return rec
}

// called notes a call that has put its return address at sp. Calls on an interrupt stack are no part of the context.
func (s *activeScope) called(sp, ret uint64) {
	if !s.onStack(sp) {
		return
	}
	s.frames = append(s.frames, callFrame{sp: sp, node: s.node})
	f := Frame{Return: ret, Depth: uint32(s.base + s.size - sp)}
	n := s.node.children[f]
	if n == nil {
		n = &callNode{parent: s.node, frame: f}
		if s.node.children == nil {
			s.node.children = map[Frame]*callNode{}
		}
		s.node.children[f] = n
	}
	s.node = n
}

// returnedTo notes that a call has returned: its return address is no longer on the stack.
func (c *CPU) returnedTo(s *activeScope) {
	sp := c.r[isa.RSP]
	if !s.onStack(sp) {
		return
	}
	for len(s.frames) > 0 && s.frames[len(s.frames)-1].sp < sp {
		s.node = s.frames[len(s.frames)-1].node
		s.frames = s.frames[:len(s.frames)-1]
	}
}

// scopedStep executes one instruction by run.
func (c *CPU) scopedStep(s *activeScope, u *uop, kind opKind, run handler) bool {
	rec := &c.redir.rec.ops[u.index]
	rec.executed = true
	c.redir.elide = false
	if kind != opMemory && kind != opString && (rec.asks&TouchNone != 0 || rec.plan != nil) {
		if elided, ok := c.planned(s, u, rec); elided || !ok {
			return ok
		}
	}
	switch kind {
	case opMemory:
		return c.scopedMemory(s, u, rec, run)
	case opString:
		return c.scopedString(s, u, rec, run)
	case opBranch:
		if c.tracking {
			return c.scopedBranch(u, run)
		}
	case opClock:
		if s.Frozen {
			c.setEDXEAX(s.TSC)
			if u.Op == isa.RDTSCP {
				c.r[isa.RCX] = c.msr.TSCAux
				c.track.regs.GPR[isa.RCX] = taint.Clean
			}
			c.track.regs.GPR[isa.RAX], c.track.regs.GPR[isa.RDX] = taint.Clean, taint.Clean
			return true
		}
	case opImmediate:
		if v, ok := s.Immediates[c.start(u)]; ok {
			other := *u
			other.Imm = v
			if !c.tracking {
				c.startTracking()
			}
			rec.marks |= MarkAdjust
			to := u.Args[0]
			if ok = run(c, &other); ok {
				c.track.regs.GPR[to.Reg] = taint.All(int(to.Size))
			}
			return ok
		}
	}
	return run(c, u)
}

// scopedMemory executes an instruction with a memory operand.
func (c *CPU) scopedMemory(s *activeScope, u *uop, rec *seen, run handler) bool {
	var a *isa.Operand
	for i := range u.Args {
		if u.Args[i].Kind == isa.KindMem {
			a = &u.Args[i]
		}
	}
	if a == nil || a.Access == 0 {
		if elided, ok := c.planned(s, u, rec); elided || !ok {
			return ok
		}
		return run(c, u)
	}
	la, ok := c.operandAddress(u, a.Size)
	if !ok {
		return run(c, u)
	}
	rt, why := c.routeOperand(s, u, la, max(uint64(a.Size), 1))
	rec.operands[0] |= why
	r := c.redir
	rec.marks |= r.mark(&rt, why, la)
	if r.Check != nil {
		c.check(u, la, rt, why)
	}
	if u.Op == isa.PUSH || u.Op == isa.POP || u.Op == isa.CALL_IND {
		rec.operands[1] |= ByStack
	}
	if !c.askPlan(s, u, rec, why.Other()) {
		return false
	}
	if !why.Other() && (rec.plan == nil || s.blind != 0) {
		if c.tracking && branches(u) && c.memTaint(la, int(u.OpSize)) != 0 {
			return run(c, u) && c.checkBranch(u)
		}
		if !run(c, u) {
			return false
		}
		if why == ByUser && a.Access&isa.Write != 0 && c.tracking {
			c.clearTaint(la, uint64(a.Size))
		}
		return true
	}
	rt.read, rt.write, rt.here = true, true, !why.Other()
	r.routes[0], r.nroutes = rt, 1
	if !c.routed(s, u, rec, run) {
		return false
	}
	if why == ByUser && a.Access&isa.Write != 0 {
		c.clearTaint(la, uint64(a.Size))
	}
	return true
}

// routed executes an instruction of which an operand goes to the other machine, or which has a plan, as r.routes says.
func (c *CPU) routed(s *activeScope, u *uop, rec *seen, run handler) (ok bool) {
	r := c.redir
	if !c.tracking {
		// What it loads is tainted.
		c.startTracking()
		run = trackSingle
	}
	operand := r.routes[0].lo
	if p := rec.plan; p != nil {
		if p.Elide {
			r.nroutes, r.elide = 0, true
			if r.joined && c.f.condition(u.Cond) { // the branch that is fused with it is not elided
				c.rip = (c.r[isa.RegRIP] + u.target) & u.mask
			}
			return true
		}
		c.applyPlan(p, u)
	}
	ctx := c.ctx
	if r.nroutes != 0 {
		r.stats.Routed++
		c.ctx = ctx & (3 << 52) // generation 0, which no translation has
	}
	tainted := branches(u) && c.memTaint(operand, int(u.OpSize)) != 0
	ok = run(c, u)
	if c.ctx == ctx&(3<<52) {
		c.ctx = ctx
	}
	r.nroutes = 0
	if ok && tainted {
		return c.checkBranch(u)
	}
	return ok
}

// applyPlan changes r.routes as a plan for u says, unless the plan elides u.
func (c *CPU) applyPlan(p *Plan, u *uop) {
	r := c.redir
	var planned [len(r.routes)]route
	n := 0
	add := func(rt route) {
		planned[n] = rt
		n++
	}
	for _, rt := range r.routes[:r.nroutes] {
		switch {
		case p.Local[rt.operand]:
			rt.here = true
		case p.Other[rt.operand] && rt.here && rt.lo >= r.User && !r.cur.onStack(rt.lo):
			if rt.here = false; rt.operand == 0 && c.perCPU(u.Seg) {
				rt.to = r.PerCPU - c.seg[u.Seg].Base
			}
		}
		if p.Frozen && rt.read {
			add(c.freeze(u, &rt, p.Value))
			rt.read = false
		}
		if rt.here {
			continue
		}
		if p.Discard && rt.write {
			drop := rt
			drop.read, drop.instead = false, r.Scratch
			add(drop)
			rt.write = false
		}
		if rt.read || rt.write {
			add(rt)
		}
	}
	r.routes, r.nroutes = planned, n
}

// branches reports whether u is an indirect branch.
func branches(u *uop) bool { return u.Op == isa.JMP_IND || u.Op == isa.CALL_IND }

// freeze returns the route by which loads of an operand yield v, as each element of a string. It fills the page that the route leads to,
// at the places that the operand has in its own pages.
func (c *CPU) freeze(u *uop, rt *route, v uint64) route {
	at := c.redir.Constant
	page, _ := c.mem.Page(at)
	size := rt.hi - rt.lo
	if kindOf(u) == opString {
		size = uint64(u.elementSize())
	}
	for i := range min(rt.hi-rt.lo, uint64(len(page))) {
		b := byte(0) // of a vector, what is beyond the lowest 8 bytes
		if n := i % size; n < 8 {
			b = byte(v >> (8 * n))
		}
		page[(rt.lo+i)&pageMask] = b
	}
	c.track.shadow.Clear(at, uint64(len(page)))
	return route{lo: rt.lo, hi: rt.hi, read: true, operand: rt.operand, instead: at}
}

// askPlan asks once what to do with u here, if it is to be asked about now that it touches what it does.
func (c *CPU) askPlan(s *activeScope, u *uop, rec *seen, other bool) bool {
	touches := TouchLocal
	if other {
		touches = TouchOther
	}
	return rec.asks&touches == 0 || c.ask(s, u, rec)
}

func (c *CPU) ask(s *activeScope, u *uop, rec *seen) bool {
	r := c.redir
	r.stats.Plans++
	p, err := r.Plan(Touch{
		Scope: s.ID, RIP: c.start(u), Inst: &u.Inst, Context: s.node.path(), Operands: rec.operands,
	})
	if err != nil {
		r.nroutes = 0
		return c.finding(err)
	}
	rec.asks = 0
	if p != (Plan{}) {
		rec.plan = &p
	}
	return true
}

// planned asks about an instruction that touches no memory, and skips it if its plan says so.
func (c *CPU) planned(s *activeScope, u *uop, rec *seen) (elided, ok bool) {
	if rec.asks&TouchNone != 0 && !c.ask(s, u, rec) {
		return false, false
	}
	c.redir.elide = rec.plan != nil && rec.plan.Elide && s.blind == 0
	return c.redir.elide, true
}

// finding ends the run.
func (c *CPU) finding(err error) bool {
	c.detail = err.Error()
	c.stop = stopRedirection
	return false
}

// scopedString executes a string instruction.
func (c *CPU) scopedString(s *activeScope, u *uop, rec *seen, run handler) bool {
	r := c.redir
	size := uint64(u.elementSize())
	count := uint64(1)
	if u.Prefix&(isa.PrefixRep|isa.PrefixRepne) != 0 {
		if count = c.reg(isa.RCX, u.AddrSize); count == 0 {
			return run(c, u)
		}
		count = min(count, 1<<32/size)
	}
	r.nroutes = 0
	other := false
	span := func(reg, seg uint8, i int, write bool) (lo uint64, why Reasons) {
		la := c.reg(reg, u.AddrSize)
		if c.mode != isa.Mode64 || seg >= isa.FS {
			la = c.wrapLinear(la + c.seg[seg].Base)
		}
		lo = la
		if c.flags&FlagDF != 0 {
			lo = la - (count-1)*size
		}
		rt, why := c.routeAddress(s, uint8(i), c.track.regs.GPR[reg], seg, la, lo, count*size)
		rec.operands[i] |= why
		rec.marks |= r.mark(&rt, why, la)
		if r.Check != nil {
			c.check(u, la, rt, why)
		}
		other = other || why.Other()
		rt.read, rt.write, rt.here = !write, write, !why.Other()
		r.routes[r.nroutes] = rt
		r.nroutes++
		return lo, why
	}
	var dst uint64
	var to Reasons
	if u.Op == isa.MOVS || u.Op == isa.LODS || u.Op == isa.CMPS {
		span(isa.RSI, u.Seg, 0, false)
	}
	if u.Op != isa.LODS {
		dst, to = span(isa.RDI, isa.ES, 1, u.Op == isa.MOVS || u.Op == isa.STOS)
	}
	if !c.askPlan(s, u, rec, other) {
		return false
	}
	if rec.plan == nil || s.blind != 0 {
		n := 0
		for _, rt := range r.routes[:r.nroutes] {
			if !rt.here {
				r.routes[n] = rt
				n++
			}
		}
		r.nroutes = n
	}
	var ok bool
	if r.nroutes != 0 {
		ok = c.routed(s, u, rec, run)
	} else {
		ok = run(c, u)
	}
	if to == ByUser && c.tracking && (u.Op == isa.MOVS || u.Op == isa.STOS) && c.flags&FlagDF == 0 {
		if n := c.reg(isa.RDI, u.AddrSize) - dst; n <= count*size {
			c.clearTaint(dst, n)
		}
	}
	return ok
}

// scopedBranch executes an indirect branch by a register or by what is on the stack.
func (c *CPU) scopedBranch(u *uop, run handler) bool {
	var m taint.Mask
	if u.Op == isa.RET {
		m = c.memTaint(c.stackTop(0), int(u.OpSize))
	} else {
		m = c.taintOf(u, u.Args[0])
	}
	if !run(c, u) {
		return false
	}
	if m != 0 {
		return c.checkBranch(u)
	}
	return true
}

// checkBranch lets the other side decide where a branch goes whose target came out of the other machine: c.rip is the
// target, and the branch has executed.
func (c *CPU) checkBranch(u *uop) bool {
	r := c.redir
	r.stats.Branches++
	if r.Branch == nil {
		return true
	}
	to, err := r.Branch(c.start(u), c.rip)
	if err != nil {
		return c.finding(err)
	}
	if to != c.rip {
		r.rec.ops[u.index].marks |= MarkAdjust
	}
	c.rip = to
	return true
}

// mark says what is special about the route of an operand at la.
func (r *redirection) mark(rt *route, why Reasons, la uint64) Marks {
	switch {
	case why&(ByUser|ByStack|BySubtree) != 0:
		return 0
	case rt.fixed || rt.to != 0:
		return MarkAdjust
	case slices.ContainsFunc(r.Apart, func(a Range) bool { return la >= a.Lo && la < a.Hi }):
		return 0
	case why.Other() && r.cur.onStack(la):
		return MarkOther | MarkStack
	case why.Other():
		return MarkOther
	}
	return MarkLocal
}

// clearTaint makes bytes at a linear address clean.
func (c *CPU) clearTaint(la, size uint64) {
	for size > 0 {
		n := min(size, 0x1000-la&pageMask)
		if pa, ok := c.dataAddress(la, accessWrite); ok && c.track.shadow.PageTainted(pa>>12) {
			c.track.shadow.Clear(pa, n)
		}
		la, size = la+n, size-n
	}
}

// routeOperand decides which machine the memory operand of u means.
func (c *CPU) routeOperand(s *activeScope, u *uop, la, size uint64) (route, Reasons) {
	if la < c.redir.User && !c.perCPU(u.Seg) {
		return route{}, ByUser
	}
	var pointer taint.Mask
	if c.tracking {
		if c.perCPU(u.Seg) {
			// The base is this processor's; where it leads is up to the offset.
			g := &c.track.regs.GPR
			pointer = g[min(u.Base, isa.RegRIP)] | g[min(u.Index, isa.RegNone)]
			if u.Op == isa.ADD && u.Args[0].Kind == isa.KindReg && c.wrapLinear(la-c.seg[u.Seg].Base) == c.redir.PerCPUOffset {
				pointer |= g[u.Args[0].Reg]
			}
		} else {
			pointer, _ = c.addressTaint(u)
		}
	}
	return c.routeAddress(s, 0, pointer, u.Seg, la, la, size)
}

// check tells Check of the route of an operand of u at la.
func (c *CPU) check(u *uop, la uint64, rt route, why Reasons) {
	if why != ByUser && !rt.fixed {
		c.redir.Check(c.start(u), la+rt.to, why)
	}
}

// perCPU reports whether a segment register holds the base of per-CPU variables.
func (c *CPU) perCPU(seg uint8) bool {
	return seg == isa.GS && c.mode == isa.Mode64 || seg == isa.FS && c.mode == isa.Mode32
}

// routeAddress decides which machine size bytes from lo on mean, for an operand with a pointer of taint m at la (DESIGN
// section 5).
func (c *CPU) routeAddress(s *activeScope, operand uint8, m taint.Mask, seg uint8, la, lo, size uint64) (route, Reasons) {
	r := c.redir
	rt := route{lo: lo, hi: lo + size, operand: operand}
	perCPU := c.perCPU(seg)
	switch {
	case la < r.User && !perCPU:
		return rt, ByUser
	case m == 0 && s.onStack(la) && (s.forced == nil || !s.forced[operand]): // with taint it is a stack of the other machine, at the same address
		return rt, ByStack
	case s.blind != 0:
		return rt, BySubtree
	}
	if len(s.Substitutes) != 0 {
		if pa, ok := c.substitute(s, la, perCPU, c.seg[seg].Base); ok {
			rt.fixed, rt.to = true, pa
			return rt, BySubstitute
		}
	}
	if s.forced != nil {
		if !s.forced[operand] {
			return rt, ByDefault
		}
		if perCPU {
			rt.to = r.PerCPU - c.seg[seg].Base
		}
		return rt, ByTaint
	}
	if perCPU {
		off := c.wrapLinear(la - c.seg[seg].Base)
		if m != 0 {
			rt.to = r.PerCPU - c.seg[seg].Base
			return rt, ByTaint
		}
		for _, root := range s.PerCPURoots {
			if off >= root.Lo && off < root.Hi {
				rt.to = r.PerCPU - c.seg[seg].Base
				return rt, ByRoot
			}
		}
		return rt, ByDefault
	}
	if m != 0 {
		return rt, ByTaint
	}
	if _, ok := s.rootPages[la>>12]; ok {
		for _, root := range s.Roots {
			if la >= root.Lo && la < root.Hi {
				return rt, ByRoot
			}
		}
	}
	return rt, ByDefault
}

func inRanges(ranges []Range, a uint64) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return a >= r.Lo && a < r.Hi })
}

// substitute finds what a load of local memory is to yield instead.
func (c *CPU) substitute(s *activeScope, la uint64, perCPU bool, base uint64) (pa uint64, ok bool) {
	for i := range s.Substitutes {
		sub := &s.Substitutes[i]
		at := la
		if sub.PerCPU {
			if !perCPU {
				continue
			}
			at = c.wrapLinear(at - base)
		}
		if at < sub.Lo || at >= sub.Hi {
			continue
		}
		if sub.Code == nil || inRanges(sub.Code, c.redir.rec.rip) {
			return sub.PA + at - sub.Lo, true
		}
	}
	return 0, false
}

// elsewhere is translate for linear addresses that have a route. hit says that la has one.
func (c *CPU) elsewhere(la uint64, acc access) (pa uint64, hit, ok bool) {
	r := c.redir
	for i := range r.routes[:r.nroutes] {
		rt := &r.routes[i]
		if la < rt.lo || la >= rt.hi || acc == accessWrite && !rt.write || acc == accessRead && !rt.read {
			continue
		}
		if rt.instead != 0 {
			return rt.instead + la&pageMask, true, true
		}
		if rt.fixed {
			return rt.to + la - rt.lo, true, true
		}
		pa, ok = r.Translate(c.wrapLinear(la + rt.to))
		return pa, true, ok
	}
	return 0, false, false
}
