package fastbridge

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/slowbridge"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

// What SLOW-BRIDGE has never seen no handler was asked about. Here they are: about what the rules decide by themselves, for all contexts,
// and about what the owner of an address decides, or nobody (U), for each combination of owners. Which context it is cannot be told: a
// return address on the stack may be left over from an earlier call.

// errUndecided says that nothing tells whose an operand is.
var errUndecided = errors.New("SLOW-BRIDGE has run the same command and has not learned what the instruction does in this context")

// asks says whether a handler wants to be asked about the instruction at an address.
func (f *frame) asks(a uint64) cpu.Touches { return f.b.slow.Asks(f.scope.cpu.ID, a) }

// touches is how an instruction touches memory, with operands that are the snapshot's where other says so.
func touches(in *isa.Inst, other [2]bool) cpu.Touches {
	switch operands := slowbridge.Touched(in); {
	case len(operands) == 0:
		return cpu.TouchNone
	case slices.ContainsFunc(operands, func(i int) bool { return other[i] }):
		return cpu.TouchOther
	}
	return cpu.TouchLocal
}

// seen are the reasons for which the operands of an instruction go where other says, as far as they are known.
func (f *frame) seen(in *isa.Inst, other [2]bool) (seen [2]cpu.Reasons) {
	la := f.operands(in)
	for _, i := range slowbridge.Touched(in) {
		switch {
		case other[i] && f.inRoots(la[i]):
			seen[i] = cpu.ByRoot
		case other[i]:
			seen[i] = cpu.ByTaint
		case i == 1 && in.Op != isa.MOVS && in.Op != isa.CMPS && in.Op != isa.STOS && in.Op != isa.SCAS, f.onStack(la[i]):
			seen[i] = cpu.ByStack
		case la[i] != 0 && la[i] < f.b.redirect.User:
			seen[i] = cpu.ByUser
		default:
			seen[i] = cpu.ByDefault
		}
	}
	return seen
}

func (f *frame) onStack(la uint64) bool {
	return la-f.gpr[isa.RSP]&^(f.b.redirect.StackSize-1) < f.b.redirect.StackSize
}

// askDerived asks about an instruction that the rules decide by themselves, unless no handler wants that. done says that a plan was carried
// out.
func (f *frame) askDerived(in *isa.Inst, at place) (done bool, err error) {
	b := f.b
	other := [2]bool{at == otherView, at == otherView}
	if f.asks(f.rip)&touches(in, other) == 0 {
		return false, nil
	}
	c := metadata.Context{}
	switch at {
	case localView:
		c.Marks = metadata.NeedsLocal
	case otherView:
		c.Marks = metadata.NeedsSnapshot
	}
	seen := f.seen(in, other)
	if seen == [2]cpu.Reasons{} {
		c.Plan, err = b.slow.Ask(&cpu.Touch{Scope: f.scope.cpu.ID, RIP: f.rip, Inst: in})
	} else {
		c.Plan, c.Routes, err = b.slow.AskUnseen(f.scope.cpu.ID, f.rip, in, seen, nil)
	}
	if err != nil {
		return true, policyError{err}
	}
	if err := f.keep(in, seen, c); err != nil || c.Plan.Default() {
		return err != nil, err
	}
	t := &site{address: f.rip, inst: *in, planned: true, choices: newChoices([]metadata.Context{c}, nil)}
	f.scope.sites[f.rip] = t
	return f.plan(t)
}

// byOwner executes an instruction of which SLOW-BRIDGE has learned nothing, because it took another path, or too much in one context.
func (f *frame) byOwner() error {
	in, _, err := f.b.code(f.rip)
	if err != nil {
		return err
	}
	t := &site{address: f.rip, inst: in}
	other, err := f.owner(t)
	if errors.Is(err, errUndecided) && f.b.partial && !f.trained() {
		return errFurther
	}
	if errors.Is(err, errUndecided) {
		return f.undecided(t)
	}
	if err != nil {
		return err
	}
	if f.asks(f.rip)&touches(&in, other) == 0 {
		return f.step(other, nil)
	}
	p, err := f.answer(t, f.seen(&in, other), nil)
	if err != nil {
		return err
	}
	return f.carry(t, other, &p)
}

// undecided asks the handler of U.
func (f *frame) undecided(t *site) error {
	b := f.b
	la := f.operands(&t.inst)
	var other, told [2]bool
	for i := range other {
		told[i] = b.tells(la[i]) || f.inRoots(la[i]) || f.onStack(la[i])
		other[i] = told[i] && (b.owners.Snapshot(la[i]) || f.inRoots(la[i]))
	}
	p, err := f.answer(t, f.seen(&t.inst, other), &told)
	switch {
	case err != nil:
		return err
	case p.Trap != "":
		return fmt.Errorf("at %s: %w: %s; its result stands: use --accel=soft", b.format(f.rip), errUndecided, p.Trap)
	case p.Routes == nil && !p.Elide:
		return fmt.Errorf("at %s: %w, and the handler of U does not decide it; its result stands: use --accel=soft", b.format(f.rip), errUndecided)
	}
	return f.carry(t, other, &p)
}

// answer is what a handler says of what SLOW-BRIDGE has not seen: kept in Meta-Data, or new. told is for U: see slowbridge.AskUnseen.
func (f *frame) answer(t *site, seen [2]cpu.Reasons, told *[2]bool) (p policy.Plan, err error) {
	b := f.b
	ops := slowbridge.Touched(&t.inst)
	var routes []policy.Route
	for _, i := range ops {
		r := policy.Local
		if seen[i].Other() {
			r = policy.Snapshot
		}
		routes = append(routes, r)
	}
	if told != nil {
		routes = nil
	}
	if known := b.siteAt(f.scope, f.rip); known != nil {
		for _, c := range known.kept {
			if slices.Equal(c.Routes, routes) {
				return c.Plan, nil
			}
		}
	}
	if len(ops) == 0 {
		p, err = b.slow.Ask(&cpu.Touch{Scope: f.scope.cpu.ID, RIP: f.rip, Inst: &t.inst})
	} else {
		p, _, err = b.slow.AskUnseen(f.scope.cpu.ID, f.rip, &t.inst, seen, told)
	}
	if err != nil {
		return p, policyError{err}
	}
	if p.Trap != "" { // the run ends
		return p, nil
	}
	return p, f.keep(&t.inst, seen, metadata.Context{Decision: metadata.Decision{Routes: routes, Plan: p}, Marks: metadata.Adjusted})
}

// keep has Meta-Data know what was said of an instruction in no particular context. Operands that are there by a handler mark what holds
// where nothing else is known.
func (f *frame) keep(in *isa.Inst, seen [2]cpu.Reasons, c metadata.Context) error {
	b := f.b
	_, code, err := b.code(f.rip)
	if err != nil {
		return err
	}
	m := metadata.Site{Location: b.slow.Location(f.rip), Bytes: code, Bits: 64, Category: policy.Neutral}
	if seen != [2]cpu.Reasons{} {
		m.Category = policy.Unknown // the contexts say
		m.Operands = metadata.OperandsOf(b.slow.Operands(f.rip, in, seen))
		for i := range m.Operands {
			if c.Marks&metadata.Adjusted != 0 {
				m.Operands[i].Seen = metadata.SeenAs(policy.Local, policy.ByHandler)
			}
		}
		m.Contexts = []metadata.Context{c}
	} else if !c.Plan.Default() {
		m.Contexts = []metadata.Context{{Decision: metadata.Decision{Plan: c.Plan}}}
	}
	if b.learned == nil {
		b.learned = &metadata.Set{}
	}
	if s, off, ok := b.slow.Symbols().Lookup(f.rip); ok {
		b.learned.AddSymbol(m.Location, metadata.Symbol{Function: s.Name, Offset: off})
	}
	return b.learned.Add(f.scope.id, m)
}

// carry carries out a plan.
func (f *frame) carry(t *site, other [2]bool, p *policy.Plan) error {
	if p.Elide && p.Trap == "" {
		f.rip += uint64(t.inst.Len)
		return nil
	}
	carried, err := f.b.slow.Carry(f.rip, &t.inst, other, p)
	if err != nil {
		return err
	}
	return f.step(other, &carried)
}

// policyError is a handler's fault, not the snapshot's.
type policyError struct{ error }

// Unwrap returns what the handler did wrong.
func (e policyError) Unwrap() error { return e.error }
