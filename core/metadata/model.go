package metadata

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/policy"
)

// Location is an address of kernel code that is the same in every run of the kernel, wherever KASLR put it.
type Location struct {
	// Module is a module's name, or "" for the kernel itself.
	Module string
	// Offset is in bytes from _text, or from the base of the module's text.
	Offset uint64
}

// String is "_text+0x1234" or "module+0x1234".
func (l Location) String() string {
	if l.Module == "" {
		return fmt.Sprintf("_text+%#x", l.Offset)
	}
	return fmt.Sprintf("%s+%#x", l.Module, l.Offset)
}

func (l Location) compare(m Location) int {
	if l.Module != m.Module {
		return cmp.Compare(l.Module, m.Module)
	}
	return cmp.Compare(l.Offset, m.Offset)
}

// Symbol is a location in terms of the function that holds it.
type Symbol struct {
	Function string
	Offset   uint64 // in bytes from the function's start
}

// String is "function" or "function+0x12".
func (s Symbol) String() string {
	if s.Offset == 0 {
		return s.Function
	}
	return fmt.Sprintf("%s+%#x", s.Function, s.Offset)
}

func (s Symbol) compare(t Symbol) int {
	return cmp.Or(cmp.Compare(s.Function, t.Function), cmp.Compare(s.Offset, t.Offset))
}

// ScopeID names what sites are recorded under.
type ScopeID struct {
	Name    string // policy.Scope.Name; "" for system calls that match no scope
	Syscall string // without prefix, such as "getpid"
}

// String is "syscall (scope)".
func (s ScopeID) String() string {
	if s.Name == "" {
		return s.Syscall
	}
	return s.Syscall + " (" + s.Name + ")"
}

func (s ScopeID) compare(t ScopeID) int {
	return cmp.Or(cmp.Compare(s.Syscall, t.Syscall), cmp.Compare(s.Name, t.Name))
}

// Frame is a return address on the kernel stack.
type Frame struct {
	Return Location
	// Depth is how far below the top of the task's kernel stack the return address lies, in bytes, at most maxDepth. The
	// top is what the stack pointer held before the entry code pushed anything.
	Depth uint32
}

func compareFrames(a, b Frame) int {
	return cmp.Or(cmp.Compare(a.Depth, b.Depth), a.Return.compare(b.Return))
}

// Decision is what happens at a site.
type Decision struct {
	// Routes are what the rules of redirection found, for each of the site's operands; those at the end that were never
	// touched may be missing.
	Routes []policy.Route
	// Plan is the handler's answer. Its Routes, if there are any, take precedence.
	Plan policy.Plan
}

// Effective returns the route of every operand after the plan.
func (d *Decision) Effective() []policy.Route {
	if len(d.Plan.Routes) > 0 {
		return d.Plan.Routes
	}
	return d.Routes
}

// Category is the category of an instruction that is always decided so.
func (d *Decision) Category() policy.Category {
	routes := d.Effective()
	snapshot, local := slices.Contains(routes, policy.Snapshot), slices.Contains(routes, policy.Local)
	switch {
	case snapshot && local:
		return policy.SemiRedirectable
	case snapshot:
		return policy.Redirectable
	case local:
		return policy.NonRedirectable
	}
	return policy.Neutral
}

func (d *Decision) compare(e *Decision) int {
	return cmp.Or(slices.Compare(d.Routes, e.Routes), comparePlans(&d.Plan, &e.Plan))
}

func comparePlans(p, q *policy.Plan) int {
	return cmp.Or(
		slices.Compare(p.Routes, q.Routes),
		cmp.Compare(p.Writes, q.Writes),
		cmp.Compare(boolInt(p.Elide), boolInt(q.Elide)),
		compareFrozen(p.Frozen, q.Frozen),
		cmp.Compare(p.Trap, q.Trap),
	)
}

func compareFrozen(a, b *uint64) int {
	if a == nil || b == nil {
		return cmp.Compare(boolInt(a != nil), boolInt(b != nil))
	}
	return cmp.Compare(*a, *b)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Context is an execution context of a site and what happens there.
type Context struct {
	// Path are the return addresses from the site to the system call's entry, innermost first; so depths decrease.
	Path []Frame
	Decision
	Marks Marks
}

// Marks is what FAST-BRIDGE needs to know of a site in a context beyond its routes: what was seen of it at least once.
type Marks uint8

// Marks.
const (
	// NeedsLocal: a local operand was at an address that the snapshot may have too, so the site must not run in the redirected
	// view. NeedsSnapshot is the same the other way round.
	NeedsLocal Marks = 1 << iota
	NeedsSnapshot
	// Adjusted: no choice of a machine alone does what the rules say, since a per-CPU base, a substitute, a constant of the code or a
	// translated function pointer is involved.
	Adjusted
	// HookTaken and HookPassed: the policy's elision or lock of the function that begins here did, or did not do something, for an
	// argument whose address does not tell the machine.
	HookTaken
	HookPassed
	// OnStack: an operand that was the snapshot's was at an address on the current kernel stack, which is the trusted VM's otherwise.
	OnStack

	allMarks = OnStack<<1 - 1
)

// redirects reports whether something was the snapshot's, or may have to be.
func (c *Context) redirects() bool {
	return c.Marks&(Adjusted|NeedsSnapshot|HookTaken) != 0 || slices.Contains(c.Routes, policy.Snapshot)
}

var markNames = [...]string{"needs-local", "needs-snapshot", "adjusted", "hook-taken", "hook-passed", "on-stack"}

func compareContexts(a, b Context) int {
	return cmp.Or(slices.CompareFunc(a.Path, b.Path, compareFrames), a.compare(&b.Decision))
}

// Seen is a set of pairs of a route and its reason.
type Seen uint32

// SeenAs returns the set of one pair, or the empty set if the pair has no meaning.
func SeenAs(route policy.Route, reason policy.Reason) Seen {
	if route > policy.Snapshot || reason > policy.ByHandler {
		return 0
	}
	return 1 << (uint(route)*reasons + uint(reason))
}

// reasons is the number of reasons that Seen has room for with each route.
const reasons = 16

// All yields the pairs of the set that have a meaning, in order.
func (s Seen) All() iter.Seq2[policy.Route, policy.Reason] {
	return func(yield func(policy.Route, policy.Reason) bool) {
		for route := range policy.Snapshot + 1 {
			for reason := range policy.ByHandler + 1 {
				if s&SeenAs(route, reason) != 0 && !yield(route, reason) {
					return
				}
			}
		}
	}
}

// String is such as "local by stack, snapshot by taint".
func (s Seen) String() string {
	var parts []string
	for route, reason := range s.All() {
		parts = append(parts, routeNames[route]+" by "+reason.String())
	}
	return strings.Join(parts, ", ")
}

// Operand is a memory operand of a site, and what was seen of it in any context.
type Operand struct {
	Text        string // see policy.Operand
	Size        uint32 // in bytes; the greatest that was seen
	Read, Write bool
	Seen        Seen
}

// OperandsOf returns operands as a policy's handlers see them in the form in which they are recorded.
func OperandsOf(ops []policy.Operand) []Operand {
	out := make([]Operand, len(ops))
	for i, o := range ops {
		out[i] = Operand{o.Text, uint32(o.Size), o.Read, o.Write, SeenAs(o.Route, o.Reason)}
	}
	return out
}

// Site is an instruction within a scope. Two sites are the same if their locations and, since kernels patch themselves,
// their bytes are. Displacements and immediates of 4 and 8 bytes do not count: KASLR changes them.
type Site struct {
	Location
	// Bytes are the instruction, 1 to 15 bytes; of two, the greater ones are kept.
	Bytes []byte
	// Bits are the width of its code segment, 32 or 64; 0 means 64.
	Bits uint8
	// Category is at least what the contexts say; Unknown leaves it to them. A site without memory operands needs no
	// context but must say Neutral.
	Category policy.Category
	Operands []Operand
	// Contexts are what was seen in which execution context. A site that has one category in all that a run saw needs
	// not have all of them, but what is not here cannot be told apart when another run finds the other category.
	Contexts []Context
}

// Answers splits the contexts: seen are those that were seen, and answers what handlers have said of the site where nothing else is known
// of it, in no particular context. Those have no path and are Adjusted, and the operands say ByHandler.
func (s *Site) Answers() (answers, seen []Context) {
	byHandler := func(o Operand) bool { return o.Seen&SeenAs(policy.Local, policy.ByHandler) != 0 }
	if !slices.ContainsFunc(s.Operands, byHandler) {
		return nil, s.Contexts
	}
	for _, c := range s.Contexts {
		if len(c.Path) == 0 && c.Marks&Adjusted != 0 {
			answers = append(answers, c)
		} else {
			seen = append(seen, c)
		}
	}
	return answers, seen
}

func (s *Site) compare(t *Site) int {
	if c := s.Location.compare(t.Location); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(s.Bits, t.Bits), compareShapes(s.Bytes, t.Bytes, s.Bits))
}

// Training is a run that contributed. It has no time of day: the same run gives the same Training.
type Training struct {
	Snapshot     string // identity, such as a hash of its file
	Command      []string
	Instructions uint64 // executed, until the command ended or was stopped
	Scopes       []ScopeID
	Partial      bool // it was stopped before it ended
}

func (t *Training) compare(u *Training) int {
	return cmp.Or(slices.Compare(t.Command, u.Command), cmp.Compare(t.Snapshot, u.Snapshot))
}

// Set is all Meta-Data of one key. The zero Set is empty and ready for use. A Set must not be changed while others use it.
type Set struct {
	scopes    map[ScopeID][]Site // each sorted
	symbols   map[Location]Symbol
	trainings []Training // sorted
	stored    stored     // what is not decoded yet
}

// Scopes returns what there are sites of, by system call and name.
func (s *Set) Scopes() []ScopeID {
	ids := make([]ScopeID, 0, len(s.scopes))
	for id := range s.scopes {
		ids = append(ids, id)
	}
	for id := range s.stored.scopes {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, ScopeID.compare)
	return ids
}

// Sites returns the sites of a scope by location. They are the Set's own and must not be changed.
func (s *Set) Sites(id ScopeID) []Site {
	if p := s.stored.scopes[id]; p != nil {
		return p.decode().scopes[id]
	}
	return s.scopes[id]
}

// Redirects reports whether there are sites of a scope, and whether anything of them touches the snapshot or may have to.
func (s *Set) Redirects(id ScopeID) (redirects, known bool) {
	if p := s.stored.scopes[id]; p != nil {
		return p.redirects, true
	}
	sites := s.scopes[id]
	return slices.ContainsFunc(sites, func(s Site) bool {
		return slices.ContainsFunc(s.Contexts, func(c Context) bool { return c.redirects() })
	}), len(sites) > 0
}

// Filter returns the sites that keep accepts, with their symbols and all trainings.
func (s *Set) Filter(keep func(ScopeID, *Site) bool) *Set {
	out := &Set{scopes: map[ScopeID][]Site{}, trainings: s.trainings}
	copySymbol := func(l Location) {
		if y, ok := s.Symbol(l); ok {
			out.AddSymbol(l, y)
		}
	}
	for _, id := range s.Scopes() {
		var kept []Site
		sites := s.Sites(id)
		for i := range sites {
			if !keep(id, &sites[i]) {
				continue
			}
			kept = append(kept, sites[i])
			copySymbol(sites[i].Location)
			for _, c := range sites[i].Contexts {
				for _, f := range c.Path {
					copySymbol(f.Return)
				}
			}
		}
		if kept != nil {
			out.scopes[id] = kept
		}
	}
	return out
}

// Trainings returns the runs that contributed, by command. They are the Set's own and must not be changed.
func (s *Set) Trainings() []Training { return s.trainings }

// Symbol returns the symbol at a location of a site or of a return address, if it was recorded.
func (s *Set) Symbol(l Location) (Symbol, bool) {
	y, ok := s.allSymbols()[l]
	return y, ok
}

// Name is the symbol at a location, or else the location itself.
func (s *Set) Name(l Location) string {
	if y, ok := s.Symbol(l); ok {
		return y.String()
	}
	return l.String()
}

// AddSymbol records in which function a location is. If it is recorded otherwise already, the greater one stays.
func (s *Set) AddSymbol(l Location, y Symbol) {
	if old, ok := s.Symbol(l); ok && old.compare(y) >= 0 {
		return
	}
	s.symbols, s.stored.symbols = s.allSymbols(), nil
	if s.symbols == nil {
		s.symbols = map[Location]Symbol{}
	}
	s.symbols[l] = y
}

// AddTraining records a run. Of two with the same command and snapshot, the greater count stays, the scopes unite, and it
// is partial if both are.
func (s *Set) AddTraining(t Training) {
	s.trainings = mergeSorted(s.trainings, []Training{t.normal()}, (*Training).compare, joinTrainings)
}

// Add records sites in a scope, merged with what is there. The Set keeps parts of them, so they must not be changed later.
// An error names the site that makes no sense; then nothing was recorded.
func (s *Set) Add(id ScopeID, sites ...Site) error {
	if id.Syscall == "" {
		return fmt.Errorf("Meta-Data of scope %q: it names no system call", id.Name)
	}
	if len(sites) == 0 {
		return nil
	}
	normal := make([]Site, 0, len(sites))
	for i := range sites {
		n := sites[i].normal()
		if err := sites[i].check(&n); err != nil {
			return fmt.Errorf("Meta-Data of %s: %s: %w", id, sites[i].Location, err)
		}
		normal = append(normal, n)
	}
	if !ordered(normal, (*Site).compare) {
		slices.SortStableFunc(normal, func(a, b Site) int { return a.compare(&b) })
		normal = unite(normal, (*Site).compare, joinSites)
	}
	s.setSites(id, mergeSorted(s.Sites(id), normal, (*Site).compare, joinSites))
	return nil
}

func (s *Set) setSites(id ScopeID, sites []Site) {
	if s.scopes == nil {
		s.scopes = map[ScopeID][]Site{}
	}
	s.scopes[id] = sites
	delete(s.stored.scopes, id)
}

// maxDepth is the size of the largest kernel stack that is believed, in bytes.
const maxDepth = 1 << 20

// check says what is wrong with a site whose normal form is n.
func (s *Site) check(n *Site) error {
	switch {
	case len(s.Bytes) == 0 || len(s.Bytes) > 15:
		return fmt.Errorf("the instruction has %d bytes, but an instruction has 1 to 15", len(s.Bytes))
	case s.Bits != 0 && s.Bits != 32 && s.Bits != 64:
		return fmt.Errorf("its code is said to have %d bits, but it must be 32 or 64", s.Bits)
	case s.Category > policy.Neutral:
		return fmt.Errorf("category %d is not one of the six", s.Category)
	}
	if s.Category != policy.Unknown && n.Category != s.Category {
		return fmt.Errorf("its category is %s, but by its contexts it is at least %s", s.Category, n.Category)
	}
	for i := range s.Contexts {
		c := &s.Contexts[i]
		if n := len(c.Routes); n > len(s.Operands) {
			return fmt.Errorf("context %d has %d routes, but there are %d operands", i, n, len(s.Operands))
		}
		if n := len(c.Plan.Routes); n > len(s.Operands) {
			return fmt.Errorf("the plan of context %d has %d routes, but there are %d operands", i, n, len(s.Operands))
		}
		for _, routes := range [...][]policy.Route{c.Routes, c.Plan.Routes} {
			for _, r := range routes {
				if r > policy.Snapshot {
					return fmt.Errorf("context %d has route %d, which is neither local nor snapshot", i, r)
				}
			}
		}
		if c.Plan.Writes > policy.Refuse {
			return fmt.Errorf("the plan of context %d has the unknown write rule %d", i, c.Plan.Writes)
		}
		last := uint32(maxDepth + 1)
		for _, f := range c.Path {
			if f.Depth >= last || f.Depth == 0 {
				return fmt.Errorf("context %d: return address %s is at depth %#x, but depths decrease outwards, from at most %#x",
					i, f.Return, f.Depth, maxDepth)
			}
			last = f.Depth
		}
	}
	return nil
}
