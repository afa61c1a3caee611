package slowbridge

import (
	"encoding/binary"
	"fmt"

	"github.com/hybridbridge/emu/core/disasm"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

// batch is how many sites a question is about at most: a handler's time for it is limited.
const batch = 1000

// questions are what the handlers want to be asked, and have answered in this run.
type questions struct {
	plans     func([]policy.Site) ([]policy.Plan, error)
	interests policy.Interests
	any       bool // of R, NR, Semi, Bi and N wants something
	asks      map[functionKey]cpu.Touches
	// planned are the plans by site and context, and neutral those of instructions without memory operands.
	planned    map[string]policy.Plan
	neutral    map[neutralKey]policy.Plan
	categories map[siteKey]policy.Category // of what was looked at with memory operands
	// answers are by question; before are the sites of a function that were looked at, with what they touched last.
	answers map[question]policy.Plan
	before  map[functionKey][]touched
	asked   int
}

// siteKey names an instruction in a scope.
type siteKey struct {
	scope int
	rip   uint64
}

// neutralKey is a siteKey with the instruction's bytes, since kernels patch themselves.
type neutralKey struct {
	siteKey
	code string
}

// functionKey names a function in a scope, by its address.
type functionKey struct {
	scope    int
	function uint64
}

// question is what an answer hangs on.
type question struct {
	site     string // planKey
	operands [2]cpu.Reasons
	category policy.Category
}

// touched is what an instruction touched.
type touched struct {
	rip      uint64
	inst     isa.Inst
	operands [2]cpu.Reasons
}

func newQuestions(plans func([]policy.Site) ([]policy.Plan, error), interests policy.Interests) questions {
	if plans == nil {
		interests = nil
	}
	return questions{
		any:   interests.Any(policy.Redirectable, policy.NonRedirectable, policy.SemiRedirectable, policy.BiRedirectable, policy.Neutral),
		plans: plans, interests: interests, asks: map[functionKey]cpu.Touches{}, planned: map[string]policy.Plan{}, neutral: map[neutralKey]policy.Plan{},
		categories: map[siteKey]policy.Category{}, answers: map[question]policy.Plan{}, before: map[functionKey][]touched{},
	}
}

// planKey names a site in a context.
func planKey(scope int, rip uint64, context []cpu.Frame) string {
	k := binary.LittleEndian.AppendUint64(make([]byte, 0, 16+8*len(context)), uint64(scope))
	k = binary.LittleEndian.AppendUint64(k, rip)
	for _, f := range context {
		k = binary.LittleEndian.AppendUint64(k, f.Return)
	}
	return string(k)
}

// Asks says in which cases a handler wants to be asked about an instruction in a scope. An operand that is the snapshot's may make it R,
// Semi or Bi.
func (b *Bridge) Asks(scope int, rip uint64) (t cpu.Touches) {
	q := &b.questions
	if !q.any {
		return 0
	}
	s, off, _ := b.symbols.Lookup(rip)
	key := functionKey{scope, rip - off}
	t, ok := q.asks[key]
	if ok {
		return t
	}
	want := func(of ...policy.Category) bool {
		for _, c := range of {
			if q.interests.Want(c, b.scopeIDs[scope].Name, s.Name) {
				return true
			}
		}
		return false
	}
	if want(policy.Redirectable, policy.SemiRedirectable, policy.BiRedirectable) {
		t |= cpu.TouchOther
	}
	if want(policy.NonRedirectable) {
		t |= cpu.TouchLocal
	}
	if want(policy.Neutral) {
		t |= cpu.TouchNone
	}
	q.asks[key] = t
	return t
}

// plan answers the CPU: from Meta-Data, or else by asking the handlers.
func (b *Bridge) plan(t cpu.Touch) (cpu.Plan, error) {
	p, err := b.Ask(&t)
	if err != nil {
		b.failed = err // the policy's fault, not the snapshot's
		return cpu.Plan{}, err
	}
	if p.Default() {
		return cpu.Plan{}, nil
	}
	ops, index := b.operands(t.RIP, t.Inst, b.bytes(t.RIP, t.Inst), t.Operands)
	return b.carryOut(t.RIP, ops, index, &p)
}

// Ask returns the plan for what an instruction is about to touch: Meta-Data's, or the handler's of its category, if that wants to be
// asked. Errors are the handler's.
func (b *Bridge) Ask(t *cpu.Touch) (policy.Plan, error) {
	q := &b.questions
	code := b.bytes(t.RIP, t.Inst)
	id := b.scopeIDs[t.Scope]
	known := b.known.Scope(id).Site(b.location(t.RIP), code)
	if t.Operands == [2]cpu.Reasons{} {
		key := neutralKey{siteKey{t.Scope, t.RIP}, string(code)}
		p, ok := q.neutral[key]
		if !ok && known != nil {
			// Who saw it has asked.
			p, _ = known.Plan(nil)
			q.neutral[key], ok = p, true
		}
		if !ok {
			err := b.askNeutral(t)
			return q.neutral[key], err
		}
		return p, nil
	}
	key := planKey(t.Scope, t.RIP, t.Context)
	if p, ok := q.planned[key]; ok {
		return p, nil
	}
	if p, ok := known.Plan(b.frames(t.Context)); ok {
		q.planned[key] = p
		return p, nil
	}
	p, err := b.askHere(t, key, id, code, known)
	if err == nil {
		q.planned[key] = p
	}
	return p, err
}

// askHere is Ask for an instruction with memory operands in a context of which nothing is known.
func (b *Bridge) askHere(t *cpu.Touch, key string, id metadata.ScopeID, code []byte, known *metadata.Entry) (policy.Plan, error) {
	q := &b.questions
	function := functionKey{t.Scope, b.function(t.RIP)}
	now := touched{t.RIP, *t.Inst, t.Operands}
	category := b.join(t.Scope, &now, known)
	q.categories[siteKey{t.Scope, t.RIP}] = category
	defer q.remember(function, now)
	this := question{key, t.Operands, category}
	if p, ok := q.answers[this]; ok {
		return p, nil
	}
	s := b.site(t.Scope, t.RIP, t.Inst, code, t.Operands, category, t.Context)
	if !q.interests.Want(category, id.Name, s.Symbol) {
		return policy.Plan{}, nil
	}
	sites, asked := []policy.Site{s}, []question{this}
	// What the function touched in other contexts it will touch in this one, most of the time: the answers are there then.
	for i := range q.before[function] {
		o := &q.before[function][i]
		if o.rip == t.RIP || len(sites) == batch {
			continue
		}
		code := b.bytes(o.rip, &o.inst)
		known := b.known.Scope(id).Site(b.location(o.rip), code)
		if _, ok := known.Plan(b.frames(t.Context)); ok {
			continue
		}
		category := b.join(t.Scope, o, known)
		next := question{planKey(t.Scope, o.rip, t.Context), o.operands, category}
		if _, ok := q.answers[next]; !ok && q.interests.Want(category, id.Name, s.Symbol) {
			sites, asked = append(sites, b.site(t.Scope, o.rip, &o.inst, code, o.operands, category, t.Context)), append(asked, next)
		}
	}
	plans, err := q.ask(sites)
	for i, p := range plans {
		q.answers[asked[i]] = p
	}
	return q.answers[this], err
}

func (q *questions) ask(sites []policy.Site) ([]policy.Plan, error) {
	if len(sites) == 0 {
		return nil, nil
	}
	q.asked += len(sites)
	return q.plans(sites)
}

// remember notes what a site of a function has touched.
func (q *questions) remember(f functionKey, t touched) {
	list := q.before[f]
	for i := range list {
		if list[i].rip == t.rip {
			list[i] = t
			return
		}
	}
	q.before[f] = append(list, t)
}

// function is where the function that holds an address begins.
func (b *Bridge) function(rip uint64) uint64 {
	_, off, _ := b.symbols.Lookup(rip)
	return rip - off
}

// askNeutral asks about all instructions without memory operands of the function that holds one.
func (b *Bridge) askNeutral(t *cpu.Touch) error {
	const most = 1 << 16 // bytes of a function
	q := &b.questions
	name, off, _ := b.symbols.Lookup(t.RIP)
	id := b.scopeIDs[t.Scope]
	var sites []policy.Site
	var keys []neutralKey
	add := func(rip uint64, in *isa.Inst, code []byte) {
		s := b.site(t.Scope, rip, in, code, [2]cpu.Reasons{}, policy.Neutral, nil)
		if s.Symbol == name.Name {
			sites, keys = append(sites, s), append(keys, neutralKey{siteKey{t.Scope, rip}, string(code)})
		}
	}
	add(t.RIP, t.Inst, b.bytes(t.RIP, t.Inst))
	text := make([]byte, most)
	text = text[:b.guest.ReadLinear(t.RIP-off, text)]
	for at := uint64(0); at < uint64(len(text)) && len(sites) < batch; {
		rip := t.RIP - off + at
		in, err := isa.Decode(text[at:], isa.Mode(b.bits()), isa.AllFeatures)
		if begin := b.function(rip); err != nil || begin != t.RIP-off {
			break
		}
		code := text[at : at+uint64(in.Len)]
		at += uint64(in.Len)
		_, asked := q.neutral[neutralKey{siteKey{t.Scope, rip}, string(code)}]
		if asked || rip == t.RIP || in.Op == isa.INT3 || len(Touched(&in)) > 0 || b.known.Scope(id).Site(b.location(rip), code) != nil {
			continue
		}
		add(rip, &in, code)
	}
	plans, err := q.ask(sites)
	for i, p := range plans {
		q.neutral[keys[i]] = p
	}
	return err
}

// site is what a handler is told.
func (b *Bridge) site(scope int, rip uint64, in *isa.Inst, code []byte, operands [2]cpu.Reasons, c policy.Category, context []cpu.Frame) policy.Site {
	ops, _ := b.operands(rip, in, code, operands)
	site := policy.Site{Scope: b.scopeIDs[scope].Name, Address: rip, Bytes: code, Operands: ops, Category: c}
	if s, off, ok := b.symbols.Lookup(rip); ok {
		site.Symbol, site.Offset, site.Module = s.Name, off, s.Module
	}
	site.Disassembly, _ = disasm.Instruction(code, rip, disasm.Options{Bits: b.bits(), Syntax: disasm.Intel, Symbols: b.symbols})
	for _, f := range context {
		site.Context = append(site.Context, b.symbols.Format(f.Return))
	}
	return site
}

// AskUnseen asks about an instruction with memory operands of which nothing was learned in this context, nor what the context is. It
// returns the routes of its operands too. told, if not nil, is for U: which operands' addresses tell whose they are.
func (b *Bridge) AskUnseen(scope int, rip uint64, in *isa.Inst, seen [2]cpu.Reasons, told *[2]bool) (p policy.Plan, routes []policy.Route, err error) {
	q := &b.questions
	code := b.bytes(rip, in)
	category := policy.Unknown
	if told == nil {
		category = b.join(scope, &touched{rip, *in, seen}, nil)
	}
	s := b.site(scope, rip, in, code, seen, category, nil)
	for i, o := range s.Operands {
		routes = append(routes, o.Route)
		if told != nil && told[Touched(in)[i]] && (o.Reason == policy.ByDefault || o.Reason == policy.ByTaint) {
			s.Operands[i].Reason = policy.ByAddress
		}
	}
	this := question{"unseen " + planKey(scope, rip, nil), seen, category}
	p, ok := q.answers[this]
	if ok || !q.interests.Want(category, s.Scope, s.Symbol) {
		return p, routes, nil
	}
	plans, err := q.ask([]policy.Site{s})
	if err == nil {
		p = plans[0]
		q.answers[this] = p
	}
	return p, routes, err
}

// Operands describes the memory operands of an instruction, which has those with reasons.
func (b *Bridge) Operands(rip uint64, in *isa.Inst, seen [2]cpu.Reasons) []policy.Operand {
	ops, _ := b.operands(rip, in, b.bytes(rip, in), seen)
	return ops
}

// join is what an instruction is found to be with what it touches, with what it touched in other contexts, in this run as far as it was
// looked at, and in all that Meta-Data knows.
func (b *Bridge) join(scope int, t *touched, known *metadata.Entry) policy.Category {
	var now metadata.Decision
	for _, o := range t.operands {
		switch {
		case o.Other():
			now.Routes = append(now.Routes, policy.Snapshot)
		case o != 0:
			now.Routes = append(now.Routes, policy.Local)
		}
	}
	c := metadata.JoinCategories(now.Category(), known.Observed())
	if before, ok := b.questions.categories[siteKey{scope, t.rip}]; ok {
		c = metadata.JoinCategories(c, before)
	}
	return c
}

// Carry makes the CPU's plan of a handler's, for an instruction with its operands (see cpu.Observation) where other says. An error is the
// plan's end of the run.
func (b *Bridge) Carry(rip uint64, in *isa.Inst, other [2]bool, p *policy.Plan) (cpu.Plan, error) {
	var seen [2]cpu.Reasons
	for _, i := range Touched(in) {
		seen[i] = cpu.ByDefault
		if other[i] {
			seen[i] = cpu.ByTaint
		}
	}
	ops, index := b.operands(rip, in, b.bytes(rip, in), seen)
	return b.carryOut(rip, ops, index, p)
}

// Touched returns which operands (see cpu.Observation) an instruction has, in order.
func Touched(in *isa.Inst) []int {
	switch in.Op {
	case isa.LEA, isa.NOP, isa.INVLPG:
		return nil
	case isa.MOVS, isa.CMPS:
		return []int{0, 1}
	case isa.LODS:
		return []int{0}
	case isa.STOS, isa.SCAS:
		return []int{1}
	}
	for i := range in.Args {
		if a := &in.Args[i]; a.Kind == isa.KindMem && a.Access != 0 {
			if in.Op == isa.PUSH || in.Op == isa.POP || in.Op == isa.CALL_IND {
				return []int{0, 1}
			}
			return []int{0}
		}
	}
	return nil
}

// carryOut is Carry for operands that are described, and what they are to the CPU.
func (b *Bridge) carryOut(rip uint64, ops []policy.Operand, index []int, p *policy.Plan) (cpu.Plan, error) {
	if p.Trap != "" {
		return cpu.Plan{}, fmt.Errorf("a handler ends the run at %s: %s", b.symbols.Format(rip), p.Trap)
	}
	c := cpu.Plan{Discard: p.Writes == policy.Discard, Elide: p.Elide}
	if p.Frozen != nil {
		c.Frozen, c.Value = true, *p.Frozen
	}
	stores := false
	for i, o := range ops {
		route := o.Route
		if i < len(p.Routes) {
			route = p.Routes[i]
			c.Local[index[i]], c.Other[index[i]] = route == policy.Local, route == policy.Snapshot
		}
		stores = stores || o.Write && route == policy.Snapshot
	}
	if p.Writes == policy.Refuse && stores && !p.Elide {
		return c, fmt.Errorf("a handler refuses the store into the snapshot at %s", b.symbols.Format(rip))
	}
	return c, nil
}
