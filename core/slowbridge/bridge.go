package slowbridge

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/snapshots/linux"
	"github.com/hybridbridge/emu/taint"
)

// ErrFinding is wrapped by errors about a snapshot that redirection can't follow any further: a function pointer that
// leads out of the trusted kernel's text, memory that is not there.
var ErrFinding = errors.New("finding")

// Config is what a Bridge joins.
type Config struct {
	// Machine is the trusted VM, restored, with taint on and Memory.Page as its Config.Beyond.
	Machine *machine.Machine
	Memory  *Memory
	// Kernel is what is in the snapshot.
	Kernel *linux.Kernel
	// Symbols are those of the trusted kernel without its modules, where it runs; Types its structures.
	Symbols *symbols.Table
	Types   *Types
	Policy  policy.Policy
	// Known is what was learned before about this kernel under this policy. It may be nil.
	Known *metadata.Set
	// Plans, if not nil, is asked about instructions that touch the snapshot and that Known does not know.
	Plans func([]policy.Site) ([]policy.Plan, error)
	// Trace, if not nil, is called at each system call.
	Trace func(syscall, scope string)
	// Above, if not 0, has a Referee judge routes: the physical address from which memory is the trusted VM's.
	Above uint64
}

// Bridge lets system calls of the trusted VM see the snapshot. It belongs to the goroutine that runs the machine.
type Bridge struct {
	machine *machine.Machine
	mem     *Memory
	space   *space
	kernel  *linux.Kernel
	symbols *symbols.Table
	names   *names
	types   *Types
	policy  policy.Policy
	plans   func([]policy.Site) ([]policy.Plan, error)
	trace   func(syscall, scope string)
	referee *referee // nil if nobody asked for it

	entry       entry
	files       files
	entries     map[uint64]bool // addresses of the entry functions
	deaths      map[uint64]string
	scopes      map[scopeKey]cpu.Scope
	substitutes []substitute
	aliases     []cpu.Alias
	frozen      bool
	tsc         uint64
	code        cpu.Range // the kernel's text
	modules     modules

	// What is known, and what this run adds.
	known       *metadata.Index
	scopeIDs    []metadata.ScopeID
	planned     map[string]policy.Plan
	categories  map[siteKey]policy.Category // of what the handlers were asked about
	asked       int
	failed      error // of the handlers
	moduleBases map[string]uint64
	locations   map[uint64]metadata.Location // of return addresses
}

// sinceTick is how far the frozen clock is past the kernel's last look at it, in its own counts: less than a millisecond on
// any. Inodes get the time of that look, and ls takes what is not in the past for the future.
const sinceTick = 1000

type scopeKey struct{ scope, syscall string }

// New connects a trusted VM with a snapshot.
func New(cfg Config) (*Bridge, error) {
	b := &Bridge{
		machine: cfg.Machine, mem: cfg.Memory, kernel: cfg.Kernel, symbols: cfg.Symbols, types: cfg.Types,
		policy: cfg.Policy,
		plans:  cfg.Plans, trace: cfg.Trace, scopes: map[scopeKey]cpu.Scope{}, entries: map[uint64]bool{}, deaths: map[uint64]string{},
		planned: map[string]policy.Plan{}, categories: map[siteKey]policy.Category{}, moduleBases: map[string]uint64{}, locations: map[uint64]metadata.Location{},
	}
	known := cfg.Known
	if known == nil {
		known = new(metadata.Set)
	}
	b.known = metadata.NewIndex(known)
	c := b.machine.CPU()
	if c.Shadow() == nil {
		return nil, errors.New("slowbridge: the machine was built without taint")
	}
	b.mem.shadow = c.Shadow()
	b.space = newSpace(b.kernel, b.mem)
	if err := b.readModules(); err != nil {
		return nil, err
	}
	b.names = newNames(b.symbols)
	if err := errors.Join(b.findText(), b.readCalls(), b.findFields(), b.makeSubstitutes(&cfg.Policy), b.makeAliases(&cfg.Policy)); err != nil {
		return nil, err
	}
	var err error
	for _, f := range b.policy.Clocks {
		if b.tsc, err = b.evaluate(f); err == nil {
			b.frozen = true
			b.tsc += sinceTick
			break
		}
	}
	if len(b.policy.Clocks) > 0 && !b.frozen {
		return nil, fmt.Errorf("the clock: %w", err)
	}
	c.SetTaintSpace(b.addresses())
	r, err := b.redirection()
	if err != nil {
		return nil, err
	}
	if cfg.Above != 0 {
		if b.referee, err = newReferee(cfg.Kernel, b.types, cfg.Above); err != nil {
			return nil, err
		}
		b.referee.context = c.ScopeContext
		r.Check = b.referee.check
	}
	c.EnableRedirection(r)
	for _, f := range entryFunctions {
		for _, s := range b.names.byName[f] {
			b.entries[s.Address] = true
			c.AddBreakpoint(s.Address)
		}
	}
	for _, f := range []string{"oops_begin", "panic"} {
		if a, ok := b.symbols.Address(f); ok {
			b.deaths[a] = f
			c.AddBreakpoint(a)
		}
	}
	return b, nil
}

// addresses says which numbers are addresses of this kernel.
func (b *Bridge) addresses() taint.Space {
	var s taint.Space
	switch {
	case b.types.word == 4:
		s = taint.Above(0xc0000000)
		s.Origins = []uint64{0xc0000000}
	case b.kernel.Form == linux.Level5:
		s = taint.Upper(57)
	default:
		s = taint.Upper(48)
	}
	for _, o := range []uint64{b.kernel.PageOffset, b.kernel.VmemmapBase} {
		if o != 0 {
			s.Origins = append(s.Origins, o)
		}
	}
	return s
}

// redirection is what the CPU needs to know.
func (b *Bridge) redirection() (*cpu.Redirection, error) {
	r := &cpu.Redirection{
		Translate: b.space.translate, Branch: b.branch, Unmapped: b.unmapped,
		Hooks: b.hooks(&b.policy), StackSize: 16 << 10, User: 1 << 63,
	}
	if b.types.word == 4 {
		r.StackSize, r.User = 8<<10, 0xc0000000
	}
	offsets, ok := b.symbols.Address("__per_cpu_offset")
	if ok {
		r.PerCPU, ok = b.word(offsets)
	}
	if !ok {
		return nil, errors.New("the snapshot's __per_cpu_offset cannot be read")
	}
	if off, ok := b.symbols.Address("this_cpu_off"); ok {
		r.PerCPUOffset = off
	}
	r.Switch, _ = b.symbols.Address("__switch_to")
	r.Exit, _ = b.symbols.Address("do_task_dead")
	r.Plan = b.plan
	r.Scratch = b.mem.value(nil)
	return r, nil
}

// findText finds what may be executed.
func (b *Bridge) findText() error {
	var ok1, ok2 bool
	b.code.Lo, ok1 = b.symbols.Address("_text")
	b.code.Hi, ok2 = b.symbols.Address("_etext")
	if !ok1 || !ok2 {
		return errors.New("the trusted kernel's symbols do not say where its text is (_text and _etext)")
	}
	return nil
}

// branch lets a branch whose target came from the snapshot lead to the entry of a function of the trusted kernel or of its
// modules only.
func (b *Bridge) branch(site, target uint64) (uint64, error) {
	if target >= b.code.Lo && target < b.code.Hi {
		if sym, off, ok := b.symbols.Lookup(target); ok && off == 0 && isCode(sym) {
			return target, nil
		}
		return 0, fmt.Errorf("at %s the snapshot gives a function pointer to %s, where no function begins", b.symbols.Format(site),
			b.symbols.Format(target))
	}
	to, err := b.moduleFunction(target)
	if err != nil {
		return 0, fmt.Errorf("at %s the snapshot gives a function pointer to %w; nothing of the snapshot is ever executed",
			b.symbols.Format(site), err)
	}
	return to, nil
}

func (b *Bridge) unmapped(site, la uint64) error {
	return fmt.Errorf("at %s the snapshot leads to %#x, where it has no memory", b.symbols.Format(site), la)
}

// Asked returns how many instructions the handlers were asked about.
func (b *Bridge) Asked() int { return b.asked }

// Outcome deals with the ends of machine.Run that are the bridge's. handled says that the machine is to run on.
func (b *Bridge) Outcome(o machine.Outcome) (handled bool, err error) {
	switch o.Reason {
	case machine.Breakpoint:
		if b.entries[o.Exit.Address] {
			b.enter()
			return true, nil
		}
		if f, ok := b.deaths[o.Exit.Address]; ok {
			return false, fmt.Errorf("%w: the trusted kernel fails (%s) on what the snapshot gave it, at address %#x, in %s", ErrFinding, f,
				b.machine.CPU().State().CR2, b.path())
		}
	case machine.Redirection:
		switch {
		case b.failed != nil:
			return false, b.failed
		case b.mem.err != nil:
			return false, b.mem.err
		}
		return false, fmt.Errorf("%w: %s, in %s", ErrFinding, o.Detail, b.path())
	}
	return false, nil
}

// path names the calls in progress in the scope.
func (b *Bridge) path() string {
	var names []string
	for _, f := range b.machine.CPU().ScopeContext() {
		names = append(names, b.symbols.Format(f.Return))
	}
	return strings.Join(names, " < ")
}
