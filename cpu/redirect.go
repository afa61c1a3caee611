package cpu

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/taint"
)

// Redirection (DESIGN section 5): while a system call of an inspection tool runs, memory operands of kernel code mean the
// memory of another machine, the snapshot, where taint or the policy says so. The CPU knows nothing of snapshots: it asks a
// Redirection where the other machine has an address, and the other machine's memory is part of its own at physical
// addresses that its page tables cannot reach.
//
// A scope begins where Run has stopped at a breakpoint and EnterScope is called, and belongs to the kernel stack in use
// there. It ends when the stack pointer rises above where it was. In between, redirectrun.go executes instruction by
// instruction: each memory operand gets its route (routeOperand), and one that goes to the other machine is executed in a
// translation context that the TLB never holds, so that every access comes to translate, which looks at c.routes.

// Redirection connects the CPU with another machine. Its functions are called on the goroutine of Run and must not call
// the CPU's Run.
type Redirection struct {
	// Translate returns the physical address at which Config.Memory has the byte that the other machine has at linear
	// address la; ok is false where that machine maps nothing.
	Translate func(la uint64) (pa uint64, ok bool)
	// Branch is asked where an indirect branch goes whose target is tainted. An error ends the run.
	Branch func(site, target uint64) (uint64, error)
	// Unmapped is told of an access that Translate could not place; its error ends the run. With nil, the access is a page
	// fault.
	Unmapped func(site, la uint64) error
	// Plan, if not nil, is asked once for each site and context (again if it is in several blocks), before it executes the first time in one
	// of the ways that Asks says; nil stands for TouchOther. It is not asked in a subtree that stays local.
	Plan func(Touch) (Plan, error)
	Asks func(scope int, rip uint64) Touches
	// Check, if not nil, is told of the route of each memory operand above user space, where the route is not to a substitute's
	// bytes: la is the first byte's address in the machine that the route leads to. Implicit operands on the stack have none.
	Check func(site, la uint64, why Reasons)
	// PerCPU is the other machine's base of per-CPU variables, for the first processor.
	PerCPU uint64
	// PerCPUOffset is the offset of the per-CPU variable that holds the base itself (this_cpu_off): added to a number from
	// the other machine, it means that machine's.
	PerCPUOffset uint64
	// Hooks are functions that mean something within a scope, by linear address.
	Hooks map[uint64]Hook
	// Switch is the function that is entered first after a change of stacks (__switch_to), Exit one that is called last on
	// a stack (do_task_dead); 0 if there is none.
	Switch, Exit uint64
	// StackSize is the size of kernel stacks in bytes, a power of two; they are aligned to it.
	StackSize uint64
	// User is the first address above user space.
	User uint64
	// Scratch is the physical address of a page that takes what is to be dropped, and Constant that of one from which frozen values are
	// read.
	Scratch, Constant uint64
	// Apart are ranges in which an address tells by itself which machine has it, since the other one has nothing there or the
	// same: for Marks.
	Apart []Range
}

// HookKind is what a hook does.
type HookKind uint8

// Kinds of hooks.
const (
	HookLocal  HookKind = iota + 1 // nothing is redirected until the function returns
	HookElide                      // the function is not called if the argument points into the other machine
	HookLock                       // a lock of the other machine is set free before
	HookAnswer                     // Answer takes the place of the function if the argument points into the other machine
)

// Hook is what to do when a function is entered in a scope.
type Hook struct {
	Kind HookKind
	// Argument is the number of the argument that counts, from 0.
	Argument int
	// Always elides whatever the argument is; Once does so the first time that the argument has a value.
	Always, Once bool
	// Return is the result of an elided call.
	Return uint64
	// Answer returns a pointer into the other machine as the result of the call with that argument, or false for a call that
	// is to be made.
	Answer func(argument uint64) (result uint64, ok bool)
	// Offset and Size are the bytes of the lock to clear.
	Offset, Size uint64
}

// Range is a range of linear addresses, [Lo, Hi).
type Range struct{ Lo, Hi uint64 }

// Substitute lets loads of a range of local memory yield other bytes, which are tainted.
type Substitute struct {
	Range          // of linear addresses, or of offsets from the base of GS (FS in 32-bit mode) if PerCPU
	PerCPU bool    //
	Code   []Range // of the instructions for which it holds; nil means all
	PA     uint64  // where Config.Memory has the other bytes
}

// Scope says what is redirected during a system call.
type Scope struct {
	// ID names the scope in observations.
	ID int
	// Roots are ranges that mean the other machine's memory, sorted; PerCPURoots are offsets from the per-CPU base.
	Roots, PerCPURoots []Range
	Substitutes        []Substitute
	// Immediates are what instructions have in place of their immediate operand, by linear address; the result is tainted.
	// It holds for MOV and SHR.
	Immediates map[uint64]uint64
	// TSC is what the time-stamp counter reads, if Frozen.
	Frozen bool
	TSC    uint64
}

// Reasons is a set of reasons for a route, a bit each.
type Reasons uint8

// Reasons for routes: to the local machine the first four, to the other one the rest.
const (
	ByDefault Reasons = 1 << iota
	ByUser
	ByStack
	BySubtree
	ByTaint
	ByRoot
	BySubstitute

	local = ByDefault | ByUser | ByStack | BySubtree
)

// Local and Other report whether any of the routes led there.
func (r Reasons) Local() bool { return r&local != 0 }

// Other reports whether any of the routes led to the other machine.
func (r Reasons) Other() bool { return r&^local != 0 }

// Marks is a set of what FAST-BRIDGE needs to know of an instruction beyond its routes, a bit each.
type Marks uint8

// Marks.
const (
	MarkLocal  Marks = 1 << iota // a local operand was at an address that the other machine may have too
	MarkOther                    // an operand of the other machine was at an address that the local one may have too
	MarkAdjust                   // more than the machine was changed: a per-CPU base, a substitute, a constant, a branch's target
	MarkTaken                    // the hook of the function that begins here did something, for an argument outside Apart
	MarkPassed                   // the hook did nothing, for such an argument
	MarkStack                    // an operand of the other machine was at an address on the current stack
)

// Frame is a return address on the stack of a scope.
type Frame struct {
	Return uint64
	// Depth is how far below the end of the stack it is, in bytes.
	Depth uint32
}

// Touches is a set of ways to touch memory, a bit each.
type Touches uint8

// Touches of an instruction: an operand is the other machine's; all are local; it has none.
const (
	TouchOther Touches = 1 << iota
	TouchLocal
	TouchNone
)

// Touch is an instruction that is about to execute.
type Touch struct {
	Scope   int
	RIP     uint64
	Inst    *isa.Inst
	Context []Frame // innermost first
	// Operands has the reasons seen so far for each operand, this time included; none for an instruction without.
	Operands [2]Reasons
}

// Plan is what to do with an instruction in a context, whatever it touches there. The zero Plan lets it.
type Plan struct {
	// Local keeps an operand local against the rules, and Other sends one to the other machine, but not one in user space or on the stack.
	Local, Other [2]bool
	// Discard drops what the instruction stores into the other machine. Redirection.Scratch must be set.
	Discard bool
	// Elide skips the instruction.
	Elide bool
	// Frozen makes its loads yield Value, untainted. Redirection.Constant must be set.
	Frozen bool
	Value  uint64
}

// Observation is what was seen of one instruction in one scope and context.
type Observation struct {
	Scope   int
	RIP     uint64
	Inst    *isa.Inst
	Context []Frame // innermost first
	// Operands: the first is what ModRM names or the source of a string instruction, the second the destination of a
	// string instruction or the stack. An operand that the instruction does not have has no reasons.
	Operands [2]Reasons
	Marks    Marks
}

// redirection is the state of redirection of one CPU.
type redirection struct {
	Redirection
	scopes map[uint64]*activeScope // by the lowest address of the stack
	cur    *activeScope            // whose code runs, nil outside scopes
	roots  map[int]*callNode       // contexts by scope
	elided map[elidedCall]bool     // by hooks with Once

	routes  [4]route
	nroutes int
	rec     *record // of the block that runs
	joined  bool    // the handler executes the conditional branch that follows too
	elide   bool    // a plan has skipped the instruction

	stats RedirectStats
}

// elidedCall is a call of a function with an argument.
type elidedCall struct{ function, argument uint64 }

// RedirectStats counts what redirection did.
type RedirectStats struct {
	Scopes       uint64 `json:"scopes"`       // entered
	Instructions uint64 `json:"instructions"` // executed in scopes
	Routed       uint64 `json:"routed"`       // instructions of which an operand went to the other machine
	Plans        uint64 `json:"plans"`        // asked for
	Elided       uint64 `json:"elided"`       // calls
	Locks        uint64 `json:"locks"`        // bytes of locks set free
	Branches     uint64 `json:"branches"`     // with tainted targets
}

// route sends a range of linear addresses elsewhere.
type route struct {
	lo, hi      uint64 // the last address is hi-1
	read, write bool   // of which accesses
	operand     uint8  // as in Observation
	fixed       bool
	here        bool   // it stays where it is, unless a plan says otherwise
	instead     uint64 // if not 0, the physical address of a page that takes the place of each of the operand's pages
	to          uint64 // added to linear addresses for the other machine; if fixed, the physical address of lo
}

// activeScope is a scope on a stack.
type activeScope struct {
	Scope
	base, top uint64 // of the stack; the stack pointer at the entry
	size      uint64
	// blind is the stack pointer at the entry of a local subtree, 0 if not in one.
	blind uint64
	// resume is the stack pointer that an interrupt will return to, while it is handled.
	resume    uint64
	suspended bool
	rootPages map[uint64]struct{}
	// forced are the operands that mean the other machine, whatever the rules say: StepScoped.
	forced *[2]bool
	// given is the plan of the instruction then, nil without one.
	given *Plan

	node   *callNode
	frames []callFrame
}

// callNode is a node of the calling context tree: a path of return addresses from the scope's entry.
type callNode struct {
	parent   *callNode
	frame    Frame
	children map[Frame]*callNode
	records  map[*block]*record
}

type callFrame struct {
	sp   uint64 // where the return address is
	node *callNode
}

// record is what was seen of the instructions of a block in one context.
type record struct {
	block *block
	rip   uint64
	ops   []seen
	// separate says that a branch is not executed together with what is fused with it, since it is asked about by itself.
	separate bool
}

type seen struct {
	executed bool
	asks     Touches // how it is yet to be asked about
	marks    Marks
	operands [2]Reasons
	plan     *Plan
}

// path returns the frames of a context, innermost first.
func (n *callNode) path() []Frame {
	var p []Frame
	for ; n.parent != nil; n = n.parent {
		p = append(p, n.frame)
	}
	return p
}

// EnableRedirection connects the CPU with another machine, or disconnects it if r is nil. Taint must be on, with
// PointerPart. It may be called between Runs.
func (c *CPU) EnableRedirection(r *Redirection) {
	c.dropAllCode()
	if r == nil {
		c.redir = nil
		c.debugChanged()
		return
	}
	c.redir = &redirection{Redirection: *r, scopes: map[uint64]*activeScope{}, roots: map[int]*callNode{}, elided: map[elidedCall]bool{}}
	c.debugChanged()
}

// RedirectStats returns the counters of redirection.
func (c *CPU) RedirectStats() RedirectStats {
	if c.redir == nil {
		return RedirectStats{}
	}
	return c.redir.stats
}

// EnterScope begins a scope on the current stack: Run must have stopped at the entry of the function whose return ends
// it. A scope that is still open on this stack ends.
func (c *CPU) EnterScope(s Scope) {
	r := c.redir
	sp := c.r[isa.RSP]
	a := &activeScope{Scope: s, top: sp, base: sp &^ (r.StackSize - 1), size: r.StackSize}
	if len(s.Roots) > 0 {
		a.rootPages = map[uint64]struct{}{}
		for _, root := range s.Roots {
			for p := root.Lo >> 12; p <= (root.Hi-1)>>12; p++ {
				a.rootPages[p] = struct{}{}
			}
		}
	}
	a.node = r.roots[s.ID]
	if a.node == nil {
		a.node = &callNode{}
		r.roots[s.ID] = a.node
	}
	r.scopes[a.base] = a
	r.cur = a
	r.stats.Scopes++
}

// StepScoped executes one instruction in a scope, its operands (see Observation) being the other machine's where other says so, but
// not those in user space and on the stack. A plan, if not nil, is carried out then. Taint must be on; what the step taints is forgotten.
func (c *CPU) StepScoped(in Scope, other [2]bool, plan *Plan) vcpu.Exit {
	r := c.redir
	s := &activeScope{
		Scope: in, top: ^uint64(0), base: c.r[isa.RSP] &^ (r.StackSize - 1), size: r.StackSize, forced: &other, given: plan, node: &callNode{},
	}
	r.cur = s
	exit := c.Step()
	r.cur = nil
	c.track.regs.Clear()
	for _, pfn := range c.track.shadow.Pages() {
		c.track.shadow.Clear(pfn<<12, 0x1000)
	}
	return exit
}

// InScope reports whether Run has stopped within a scope.
func (c *CPU) InScope() bool { return c.redir != nil && c.redir.cur != nil }

func (s *activeScope) onStack(sp uint64) bool { return sp-s.base < s.size }

// endScope ends the current scope: what goes back to user space is not tainted.
func (c *CPU) endScope() {
	r := c.redir
	s := r.cur
	delete(r.scopes, s.base)
	r.cur = nil
	if c.track == nil {
		return
	}
	c.track.regs.Clear()
	for la := s.top &^ 7; la < s.base+s.size; {
		n := min(0x1000-la&pageMask, s.base+s.size-la)
		if pa, ok := c.TranslateLinear(la); ok {
			c.track.shadow.Clear(pa, n)
		}
		la += n
	}
}

// suspendScope is told that an event is about to be delivered.
func (c *CPU) suspendScope(sp uint64) {
	r := c.redir
	if s := r.cur; s != nil {
		s.resume, s.suspended = sp, true
		r.cur = nil
	}
}

// returned is told that a handler has returned to the stack pointer that is now in force.
func (c *CPU) returnedFromEvent() {
	r := c.redir
	sp := c.r[isa.RSP]
	if s := r.scopes[sp&^(r.StackSize-1)]; s != nil && s.suspended && s.resume == sp && c.cpl == 0 {
		s.suspended = false
		r.cur = s
	}
}

// switchedStacks is told that another stack is in use.
func (c *CPU) switchedStacks() {
	r := c.redir
	r.cur = nil
	if s := r.scopes[c.r[isa.RSP]&^(r.StackSize-1)]; s != nil && !s.suspended {
		r.cur = s
	}
}

// ScopeContext returns the calls that are in progress in the scope of the current stack, innermost first; nil if there is
// none.
func (c *CPU) ScopeContext() []Frame {
	if r := c.redir; r != nil {
		if s := r.scopes[c.r[isa.RSP]&^(r.StackSize-1)]; s != nil {
			return s.node.path()
		}
	}
	return nil
}

// Observations calls yield with all that was seen since redirection was enabled, in an order that repeats.
func (c *CPU) Observations(yield func(*Observation) bool) {
	r := c.redir
	if r == nil {
		return
	}
	scopes := make([]int, 0, len(r.roots))
	for id := range r.roots {
		scopes = append(scopes, id)
	}
	slices.Sort(scopes)
	for _, id := range scopes {
		if !r.roots[id].observations(id, yield) {
			return
		}
	}
}

func (n *callNode) observations(scope int, yield func(*Observation) bool) bool {
	o := Observation{Scope: scope, Context: n.path()}
	records := make([]*record, 0, len(n.records))
	for _, r := range n.records {
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.rip, b.rip), cmp.Compare(len(a.ops), len(b.ops)))
	})
	for _, r := range records {
		for i := range r.ops {
			if !r.ops[i].executed && r.ops[i].marks == 0 {
				continue
			}
			u := &r.block.ops[i]
			o.RIP, o.Inst, o.Operands, o.Marks = r.rip+uint64(u.end)-uint64(u.Len), &u.Inst, r.ops[i].operands, r.ops[i].marks
			if !yield(&o) {
				return false
			}
		}
	}
	frames := make([]Frame, 0, len(n.children))
	for f := range n.children {
		frames = append(frames, f)
	}
	slices.SortFunc(frames, func(a, b Frame) int {
		return cmp.Or(cmp.Compare(a.Return, b.Return), cmp.Compare(a.Depth, b.Depth))
	})
	for _, f := range frames {
		if !n.children[f].observations(scope, yield) {
			return false
		}
	}
	return true
}

// argument returns the value and the pointer taint of an argument at the entry of a function.
func (c *CPU) argument(n int) (uint64, taint.Mask) {
	regs := [...]uint8{isa.RDI, isa.RSI, isa.RDX, isa.RCX, isa.R8, isa.R9}
	if c.mode != isa.Mode64 { // -mregparm=3
		regs = [...]uint8{isa.RAX, isa.RDX, isa.RCX, isa.RAX, isa.RAX, isa.RAX}
	}
	r := regs[n%len(regs)]
	return c.r[r], c.track.regs.GPR[r]
}

// hooked does what the hook of b says, at whose function the CPU stands. over says that b is not to run, done that Run must
// return.
func (c *CPU) hooked(b *block) (exit vcpu.Exit, over, done bool) {
	skipped, err := c.enterHook(b)
	if err != nil {
		return vcpu.Exit{Reason: vcpu.ExitRedirection, Address: c.rip, Detail: err.Error()}, true, true
	}
	if skipped {
		c.icount++
	}
	return exit, skipped, false
}

// enterHook does what a hook says at the entry of its function. skipped says that the call is over. Outside scopes calls are
// elided too: what a system call has left to do later, as RCU does, is not to be done to the other machine either.
func (c *CPU) enterHook(b *block) (skipped bool, err error) {
	h := b.hook
	r := c.redir
	s := r.cur
	v, m := c.argument(h.Argument)
	points := m != 0 && v >= r.User
	if s != nil && h.Kind != HookLocal && v >= r.User && !inRanges(r.Apart, v) {
		mark := MarkPassed
		if points {
			mark = MarkTaken
		}
		c.record(s, b, c.rip).ops[0].marks |= mark
	}
	if s == nil {
		if h.Kind != HookElide || !points {
			return false, nil
		}
		return c.elide(h)
	}
	switch h.Kind {
	case HookLocal:
		if s.blind == 0 {
			s.blind = c.r[isa.RSP]
		}
	case HookElide:
		once := h.Once && !r.elided[elidedCall{c.rip, v}]
		if !points && !h.Always && !once {
			return false, nil
		}
		if once {
			r.elided[elidedCall{c.rip, v}] = true
		}
		return c.elide(h)
	case HookAnswer:
		if !points {
			return false, nil
		}
		v, ok := h.Answer(v)
		if !ok {
			return false, nil
		}
		skipped, err = c.elide(&Hook{Return: v})
		c.track.regs.GPR[isa.RAX] = taint.All(8).Cut(c.track.space.Width)
		return skipped, err
	case HookLock:
		if !points {
			return false, nil
		}
		for i := range h.Size {
			pa, ok := r.Translate(v + h.Offset + i)
			if !ok {
				return false, fmt.Errorf("the lock at %#x, which the snapshot names, is not mapped in it", v)
			}
			page, _ := c.mem.Page(pa &^ pageMask)
			if page == nil {
				return false, fmt.Errorf("the lock at %#x, which the snapshot names, is not in it", v)
			}
			if page[pa&pageMask] != 0 {
				page[pa&pageMask] = 0
				r.stats.Locks++
			}
		}
	}
	return false, nil
}

// elide returns from the function that is about to be entered.
func (c *CPU) elide(h *Hook) (skipped bool, err error) {
	r := c.redir
	r.stats.Elided++
	size := uint8(4)
	if c.mode == isa.Mode64 {
		size = 8
	}
	ret, ok := c.peek(c.stackTop(0), size)
	if !ok {
		return false, fmt.Errorf("no return address at the elided call of %#x", c.rip)
	}
	c.rip = ret
	c.r[isa.RSP] += uint64(size)
	c.r[isa.RAX] = h.Return & sizeMask[size]
	c.track.regs.GPR[isa.RAX] = taint.Clean
	if size == 4 { // the upper half of a result of 64 bits
		c.r[isa.RDX] = h.Return >> 32
		c.track.regs.GPR[isa.RDX] = taint.Clean
	}
	if r.cur != nil {
		c.returnedTo(r.cur)
	}
	return true, nil
}
