package fastbridge

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/slowbridge"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// interpret executes the instruction at RIP on the interpreter, its operands being the snapshot's where other says so, unless their
// addresses tell.
func (f *frame) interpret(t *site, other [2]bool) error {
	return f.step(f.told(&t.inst, other), nil)
}

// told is other, but for operands whose addresses tell whose they are.
func (f *frame) told(in *isa.Inst, other [2]bool) [2]bool {
	for i, la := range f.operands(in) {
		if la != 0 {
			other[i] = f.b.owners.Snapshot(la) || f.inRoots(la) || other[i] && !f.b.trusted(la)
		}
	}
	return other
}

// step executes the instruction at RIP on the interpreter, its operands being the snapshot's where other says so, and a plan carried out
// if there is one.
func (f *frame) step(other [2]bool, plan *cpu.Plan) error {
	b := f.b
	b.stats.Interpreted++
	if !f.theirStack && other != [2]bool{} {
		if in, _, err := b.code(f.rip); err == nil {
			for i, la := range f.operands(&in) {
				other[i] = other[i] && !f.onStack(la)
			}
		}
	}
	if err := f.makeRoom(); err != nil {
		return err
	}
	if err := b.prepareStepper(f); err != nil {
		return err
	}
	exit := b.stepper.StepScoped(f.scope.cpu, other, plan)
	after := b.stepper.State()
	if exit.Reason != vcpu.ExitDeadline {
		return fmt.Errorf("at %s: %s", b.format(f.rip), exit.Detail)
	}
	if after.IDTR != b.initial.IDTR || after.CR2 != b.initial.CR2 {
		return fmt.Errorf("at %s the snapshot leads to %#x, where it has no memory", b.format(f.rip), after.CR2)
	}
	b.stepped = true
	f.gpr, f.rip, f.flags = after.GPR, after.RIP, after.RFLAGS
	return nil
}

// prepareStepper gives the interpreter the guest's registers.
func (b *Bridge) prepareStepper(f *frame) error {
	if b.stepped {
		b.stepper.SetRegisters(&f.gpr, f.rip, f.flags, b.clean)
		b.stepped = false
		return nil
	}
	s := b.initial
	s.GPR, s.RIP, s.RFLAGS, s.CR3 = f.gpr, f.rip, f.flags, b.clean
	s.Halted, s.NMIPending, s.InterruptShadow = false, false, false
	s.Seg[isa.CS] = vcpu.Segment{Selector: 0x10, Attr: vcpu.AttrP | vcpu.AttrS | vcpu.AttrCode | vcpu.AttrWritable | vcpu.AttrAccessed | vcpu.AttrL | vcpu.AttrG, Limit: ^uint32(0)}
	s.Seg[isa.SS] = vcpu.Segment{Selector: 0x18, Attr: vcpu.AttrP | vcpu.AttrS | vcpu.AttrWritable | vcpu.AttrAccessed | vcpu.AttrDB | vcpu.AttrG, Limit: ^uint32(0)}
	s.Seg[isa.GS].Base = b.perCPU
	return b.stepper.SetState(s)
}

// makeRoom moves the frame, which lies below the guest's stack, out of the way of what the instruction pushes.
func (f *frame) makeRoom() error {
	const room = 64
	if f.at+monitor.FrameSize+room <= f.gpr[isa.RSP] {
		return nil
	}
	f.at -= room
	return nil
}

// decide executes an instruction whose machine is up to its context.
func (f *frame) decide(t *site) error {
	if f.view == nonRedirected {
		f.b.alias(f.otherAddress(&t.inst))
		if err := f.b.refine(f.scope, t); err != nil {
			return err
		}
	}
	d, conflict := f.decision(&t.choices)
	if d == nil && conflict == nil {
		return f.unknown()
	}
	other, err := f.routes(t, d, conflict)
	if errors.Is(err, errUndecided) {
		return f.undecided(t)
	}
	if err != nil {
		return err
	}
	return f.step(other, nil)
}

// routes says which operands of a site are the snapshot's where a decision, or several, were made.
func (f *frame) routes(t *site, d *metadata.Decision, conflict []metadata.Context) (other [2]bool, err error) {
	switch {
	case d != nil:
		other = snapshots(&t.inst, d.Routes)
		f.theirStack = t.onStack
	case t.byAddress:
	default:
		snapshot := theirs(conflict)
		if snapshot == nil {
			return f.owner(t)
		}
		other = [2]bool{*snapshot, *snapshot}
	}
	return f.told(&t.inst, other), nil
}

// snapshots says which operands (see cpu.Observation) of an instruction are the snapshot's, by the routes of those that it has.
func snapshots(in *isa.Inst, routes []policy.Route) (other [2]bool) {
	for i, operand := range slowbridge.Touched(in) {
		other[operand] = i < len(routes) && routes[i] == policy.Snapshot
	}
	return other
}

// plan carries out what a handler has said of a site in this context. done is false if it leaves it as it is.
func (f *frame) plan(t *site) (done bool, err error) {
	d, conflict := f.decision(&t.choices)
	if d != nil {
		conflict = []metadata.Context{{Decision: *d}}
	}
	if len(conflict) == 0 || !slices.ContainsFunc(conflict, planned) {
		return false, nil
	}
	p := &conflict[0].Plan
	if slices.ContainsFunc(conflict, func(c metadata.Context) bool { return !c.Plan.Equal(p) }) {
		// Of two runs that found the site to be of two categories. The handler of what it is now says which.
		other, err := f.routes(t, d, conflict)
		if err != nil {
			return true, f.undecided(t)
		}
		said, err := f.answer(t, f.seen(&t.inst, other), nil)
		if err != nil {
			return true, err
		}
		return true, f.carry(t, other, &said)
	}
	other := snapshots(&t.inst, conflict[0].Effective())
	if p.Routes == nil && p.Trap == "" && !p.Elide {
		if other, err = f.routes(t, d, conflict); err != nil {
			return true, fmt.Errorf("at %s: %w, and a handler's plan hangs on that; its result stands: use --accel=soft", f.b.format(f.rip), err)
		}
	}
	return true, f.carry(t, other, p)
}

// decision is what the return addresses on the stack say; nil if they say nothing. conflict are the known contexts of which this may be
// any, if they were decided in several ways.
func (f *frame) decision(c *choices) (d *metadata.Decision, conflict []metadata.Context) {
	limit, at := f.stack()
	switch found := metadata.Deepest(c.known, limit, at); len(found) {
	case 0:
	case 1:
		return &found[0].Decision, nil
	default:
		return nil, found
	}
	leaf := c.tree.Leaf(at)
	if leaf == nil {
		return nil, nil
	}
	if leaf.Decision == nil {
		return nil, c.known
	}
	return leaf.Decision, nil
}

// stack is the kernel stack as Meta-Data has it: how deep it is, and what return address is at a depth.
func (f *frame) stack() (limit uint32, at func(depth uint32) metadata.Location) {
	b := f.b
	top := f.gpr[isa.RSP]&^(b.redirect.StackSize-1) + b.redirect.StackSize
	seen := map[uint32]metadata.Location{}
	return uint32(top - f.gpr[isa.RSP]), func(depth uint32) metadata.Location {
		l, ok := seen[depth]
		if !ok {
			v, _ := b.word(top - uint64(depth))
			l = b.slow.Location(v)
			seen[depth] = l
		}
		return l
	}
}

// special does what RDTSC and accesses to control registers mean in a view.
func (f *frame) special(t *site) error {
	b := f.b
	b.stats.Interpreted++
	in := &t.inst
	f.rip += uint64(in.Len)
	switch in.Op {
	case isa.RDTSC, isa.RDTSCP:
		tsc := f.scope.cpu.TSC
		f.gpr[isa.RAX], f.gpr[isa.RDX] = tsc&0xffffffff, tsc>>32
		if in.Op == isa.RDTSCP {
			f.gpr[isa.RCX] = b.initial.MSR.TSCAux
		}
		return nil
	case isa.MOV_FROM_CR, isa.MOV_TO_CR:
		const cr3 = 3
		cr, reg := in.Args[1].Reg, in.Args[0].Reg
		if in.Op == isa.MOV_TO_CR {
			cr, reg = reg, cr
		}
		if cr != cr3 {
			return fmt.Errorf("at %s the kernel accesses CR%d in a scope", b.format(f.rip), cr)
		}
		if in.Op == isa.MOV_FROM_CR {
			f.gpr[reg] = b.clean
		}
		return nil // a flush of translations, which going back is
	}
	return fmt.Errorf("at %s: %s in a scope", b.format(f.rip), in.Op)
}

// unknownCode is about an address without a known site in this scope: the rules may decide it by themselves, since an instruction
// without memory operands is neutral, and the address of a variable is never tainted. Anything else is Unknown.
func (f *frame) unknownCode() error {
	b := f.b
	if f.rip < b.text.Lo || f.rip >= b.text.Hi {
		to, err := b.redirect.Branch(f.rip, f.rip)
		if err != nil {
			return err
		}
		if to != f.rip { // the snapshot's address of a module's function
			f.rip = to
			return nil
		}
	}
	in, _, err := b.code(f.rip)
	if err != nil {
		return fmt.Errorf("at %s: %w", b.format(f.rip), err)
	}
	at := f.derive(&in, f.rip)
	if at == nowhere || !f.trained() && !b.partial && f.asks(f.rip) != 0 {
		return f.unknown()
	}
	if done, err := f.askDerived(&in, at); done || err != nil {
		return err
	}
	if err := f.deriveFrom(f.rip); err != nil {
		return err
	}
	return f.breakpoint()
}

// deriveFrom lets the instruction at an address run, and those that may follow it, as far as they are not known and the rules decide them.
func (f *frame) deriveFrom(a uint64) error {
	const most = 64 // instructions at once
	b := f.b
	after := []uint64{a}
	for n := 0; n < most && len(after) > 0; n++ {
		a, after = after[len(after)-1], after[:len(after)-1]
		if _, hooked := b.hooks[a]; hooked && n > 0 || a < b.text.Lo || a >= b.text.Hi || b.siteAt(f.scope, a) != nil || n > 0 && f.asks(a) != 0 {
			continue
		}
		in, _, err := b.code(a)
		if err != nil {
			continue
		}
		t := &site{address: a, inst: in}
		if t.place = f.derive(&in, a); t.place == nowhere {
			continue
		}
		b.stats.Derived++
		if err := b.admit(f.scope, t); err != nil {
			return err
		}
		next := a + uint64(in.Len)
		switch in.Op {
		case isa.JMP:
			after = append(after, next+in.Imm)
		case isa.JCC:
			after = append(after, next+in.Imm, next)
		case isa.RET, isa.JMP_IND, isa.JMP_FAR, isa.RET_FAR, isa.IRET, isa.UD0, isa.UD1, isa.UD2:
		default:
			after = append(after, next)
		}
	}
	return nil
}

// derive finds where an instruction at an address may run that was never seen.
func (f *frame) derive(in *isa.Inst, at uint64) place {
	switch in.Op {
	case isa.MOVS, isa.STOS, isa.LODS, isa.CMPS, isa.SCAS:
		return nowhere
	case isa.LEA, isa.NOP:
		return anywhere
	}
	if !in.HasMem() {
		return anywhere
	}
	la, ok := static(in, at)
	switch {
	case in.Seg == isa.GS && ok:
		if slices.ContainsFunc(f.scope.cpu.Substitutes, func(s cpu.Substitute) bool { return s.PerCPU && la >= s.Lo && la < s.Hi }) {
			return nowhere
		}
		return anywhere
	case in.Seg < isa.FS && in.Base == isa.RSP && in.Index == isa.RegNone:
		return anywhere
	case in.Seg >= isa.FS || !ok:
		return nowhere
	case f.inRoots(la):
		return otherView
	}
	return localView
}

// inRoots reports whether an address is in a variable that is the snapshot's in this scope.
func (f *frame) inRoots(la uint64) bool {
	return slices.ContainsFunc(f.scope.cpu.Roots, func(r cpu.Range) bool { return la >= r.Lo && la < r.Hi })
}

// unknown suspends the VM until SLOW-BRIDGE has learned what the instruction does.
func (f *frame) unknown() error {
	b, s := f.b, f.scope
	b.stats.Unknown++
	switch {
	case f.trained() || b.partial:
		if err := f.afterTraining(); !errors.Is(err, errFurther) {
			return err
		}
	case b.cfg.Train == nil:
		return fmt.Errorf("nothing is known about the instruction at %s", b.format(f.rip))
	}
	since := time.Now()
	b.met[unknown{s.id, f.rip}] = true
	set, last, err := b.cfg.Train(s.id, b.slow.Location(f.rip), fmt.Sprintf("%s in %s", b.format(f.rip), s.id))
	switch {
	case errors.Is(err, ErrTrained):
		b.trained = true
		return f.afterTraining()
	case err != nil:
		return trainingError{err}
	}
	b.trained, b.partial = last, !last
	b.stats.Trainings++
	b.stats.Fallback += time.Since(since)
	b.set, b.outlines = set, nil
	b.allow()
	for _, other := range b.scopes {
		if err := b.build(other); err != nil {
			return err
		}
	}
	return b.refresh(s, b.clean) // and the guest meets the same instruction again
}

// unknown is an instruction in a scope.
type unknown struct {
	scope metadata.ScopeID
	rip   uint64
}

// errFurther says that a partial training should be taken further.
var errFurther = errors.New("only more of a partial training can tell")

// trained reports whether FALLBACK has nothing to say about the instruction.
func (f *frame) trained() bool { return f.b.trained || f.b.met[unknown{f.scope.id, f.rip}] }

// afterTraining is about an instruction of which FALLBACK has learned nothing.
func (f *frame) afterTraining() error {
	if f.asks(f.rip) != 0 && f.b.siteAt(f.scope, f.rip) == nil {
		in, _, err := f.b.code(f.rip)
		if err != nil {
			return err
		}
		if f.derive(&in, f.rip) != nowhere {
			return f.unknownCode()
		}
	}
	return f.byOwner()
}

// trainingError is why FALLBACK ended without an answer.
type trainingError struct{ error }

// owner says which operands are the snapshot's of an instruction of which SLOW-BRIDGE has learned nothing, or too much in one context:
// where the address tells its machine, or is a root, or in a table of the kernel's image, or both have the same there, that is enough, else what it does
// in the scope when the same functions call it, and else what it does in all other scopes. Counters by processor are the trusted VM's.
func (f *frame) owner(t *site) (other [2]bool, err error) {
	b := f.b
	if f.countsTheirs(&t.inst) {
		return [2]bool{true, true}, nil
	}
	told := true
	for _, la := range f.operands(&t.inst) {
		told = told && (b.tells(la) || f.inRoots(la) || f.onStack(la) || inTable(&t.inst, b.text.Lo) || b.same(&t.inst, la))
	}
	if told && f.asks(t.address) != 0 {
		return f.told(&t.inst, other), nil // each time
	}
	if told {
		return f.told(&t.inst, other), b.byAddress(f.scope, t)
	}
	if near := f.nearest(); near != nil {
		return f.told(&t.inst, [2]bool{*near, *near}), nil
	}
	if p := b.elsewhere(t); p == localView || p == otherView {
		return f.told(&t.inst, [2]bool{p == otherView, p == otherView}), nil
	}
	return other, errUndecided
}

// inTable reports whether an instruction's operand is an entry of a table of the kernel's image, which is from lo on: the table's address is in the
// code, and so never tainted, whatever the index is.
func inTable(in *isa.Inst, lo uint64) bool {
	return in.HasMem() && in.Seg < isa.FS && in.Base == isa.RegNone && in.Index != isa.RegNone && uint64(in.Disp) >= lo
}

// nearest reports whether the operand of the instruction at RIP is the snapshot's in the contexts that come nearest to this one; nil if
// there are none, or they do not agree.
func (f *frame) nearest() *bool {
	t := f.b.siteAt(f.scope, f.rip)
	if t == nil {
		return nil
	}
	limit, at := f.stack()
	near := metadata.Nearest(t.choices.known, limit, at)
	if len(near) == 0 || slices.ContainsFunc(near, planned) {
		return nil
	}
	return theirs(near)
}

// countsTheirs reports whether an instruction's operand is a variable by processor that only the snapshot has: one that its kernel has allocated,
// as for a mount's counters.
func (f *frame) countsTheirs(in *isa.Inst) bool {
	b := f.b
	if !in.HasMem() || in.Seg != isa.GS {
		return false
	}
	_, _, ours := b.mem.walk(b.clean, b.levels, f.offset(in)+b.perCPU)
	_, theirs := b.redirect.Translate(f.otherAddress(in))
	return theirs && !ours
}

// elsewhere is where an instruction runs in all other scopes in which it is known; nowhere if they do not agree.
func (b *Bridge) elsewhere(t *site) (p place) {
	if b.outlines == nil {
		b.outlines = map[metadata.ScopeID]*metadata.Outline{}
		for _, id := range b.set.Scopes() {
			b.outlines[id] = b.set.Outline(id)
		}
	}
	for _, o := range b.outlines {
		for _, m := range o.At(b.slow.Location(t.address)) {
			if m.Flags&metadata.Scoped == 0 || m.Length != t.inst.Len {
				continue
			}
			switch at := placeOf(m); {
			case at == anywhere:
			case p == nowhere && at != nowhere:
				p = at
			case at != p || at == nowhere:
				return nowhere
			}
		}
	}
	return p
}

// same reports whether an instruction only reads at la, and both machines have the same there.
func (b *Bridge) same(in *isa.Inst, la uint64) bool {
	var local, other [64]byte
	n := 0
	for i := range in.Args {
		if a := &in.Args[i]; a.Kind == isa.KindMem {
			if n = int(a.Size); a.Access&isa.Write != 0 || n > len(local) {
				return false
			}
		}
	}
	for i := range other[:n] {
		pa, ok := b.redirect.Translate(la + uint64(i))
		page := b.cfg.Memory.Page(pa &^ 0xfff)
		if !ok || page == nil {
			return false
		}
		other[i] = page[pa&0xfff]
	}
	return guest{b}.ReadLinear(la, local[:n]) == n && local == other
}

// operands are the linear addresses of an instruction's memory operands, in the order of cpu.Observation; 0 where there is none, or one
// relative to the base of per-CPU variables.
func (f *frame) operands(in *isa.Inst) (la [2]uint64) {
	switch in.Op {
	case isa.MOVS, isa.CMPS:
		return [2]uint64{f.gpr[isa.RSI], f.gpr[isa.RDI]}
	case isa.LODS:
		return [2]uint64{f.gpr[isa.RSI]}
	case isa.STOS, isa.SCAS:
		return [2]uint64{0, f.gpr[isa.RDI]}
	}
	if !in.HasMem() || in.Seg >= isa.FS {
		return la
	}
	la[0] = f.offset(in)
	return la
}

// otherAddress is the address of an instruction's operand if that is the snapshot's, 0 if the instruction has none or several.
func (f *frame) otherAddress(in *isa.Inst) uint64 {
	switch {
	case !in.HasMem():
		return 0
	case in.Seg == isa.GS:
		return f.offset(in) + f.b.redirect.PerCPU
	}
	return f.offset(in)
}

// offset is the effective address of an instruction's operand, within its segment.
func (f *frame) offset(in *isa.Inst) uint64 {
	off := uint64(in.Disp)
	if in.Base == isa.RegRIP {
		off += f.rip + uint64(in.Len)
	} else if in.Base != isa.RegNone {
		off += f.gpr[in.Base]
	}
	if in.Index != isa.RegNone {
		off += f.gpr[in.Index] << in.Scale
	}
	return off
}

// hookChoices tells the contexts apart in which the hook of the function that begins at a site did something, for an argument at an
// address that both machines have.
func hookChoices(of []metadata.Context) *choices {
	var contexts []metadata.Context
	for _, c := range of {
		if c.Marks&(metadata.HookTaken|metadata.HookPassed) == 0 {
			continue
		}
		c.Decision = metadata.Decision{Routes: []policy.Route{policy.Local}}
		if c.Marks&metadata.HookTaken != 0 {
			c.Routes[0] = policy.Snapshot
		}
		contexts = append(contexts, c)
	}
	c := newChoices(contexts, contexts)
	return &c
}

// hookTaken says whether the hook of the function at RIP does something in this context.
func (f *frame) hookTaken() bool {
	t := f.scope.taken[f.rip]
	if t == nil {
		return false
	}
	if t.choices == nil {
		full := f.scope.outline.Site(t.module, t.site)
		if full == nil {
			return false
		}
		t.choices = hookChoices(full.Contexts)
	}
	d, _ := f.decision(t.choices)
	return d != nil && d.Routes[0] == policy.Snapshot
}
