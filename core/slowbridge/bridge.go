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
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/snapshots/linux"
	"github.com/hybridbridge/emu/taint"
)

// ErrFinding is wrapped by errors about a snapshot that redirection can't follow any further: a function pointer that
// leads out of the trusted kernel's text, memory that is not there.
var ErrFinding = errors.New("finding")

// Config is what a Bridge joins.
type Config struct {
	// Machine is the trusted VM, restored, with taint on and Memory.Page as its Config.Beyond. Resolve does not need it.
	Machine *machine.Machine
	// Guest is how the trusted VM's memory is read; nil means by Machine.
	Guest  Guest
	Memory *Memory
	// Kernel is what is in the snapshot.
	Kernel *linux.Kernel
	// Symbols are those of the trusted kernel without its modules, where it runs; Types its structures.
	Symbols *symbols.Table
	Types   *Types
	Policy  policy.Policy
	// Known is what was learned before about this kernel under this policy. It may be nil.
	Known *metadata.Set
	// Plans, if not nil, is asked about instructions that Interests have and Known does not know.
	Plans     func([]policy.Site) ([]policy.Plan, error)
	Interests policy.Interests
	// Trace, if not nil, is called at each system call.
	Trace func(syscall, scope string)
	// Above, if not 0, has a Referee judge routes: the physical address from which memory is the trusted VM's.
	Above uint64
}

// Guest is the trusted VM as far as it is looked at.
type Guest interface {
	// ReadLinear copies kernel memory and returns how many bytes there were.
	ReadLinear(la uint64, p []byte) int
	// PerCPUBase is the base of per-CPU variables.
	PerCPUBase() uint64
	// FromSnapshot reports whether the pointer at la came out of the snapshot.
	FromSnapshot(la uint64) bool
}

// emulated is the trusted VM of SLOW-BRIDGE.
type emulated struct{ b *Bridge }

func (g emulated) ReadLinear(la uint64, p []byte) int { return g.b.machine.CPU().ReadLinear(la, p) }

func (g emulated) PerCPUBase() uint64 {
	segment := isa.GS
	if g.b.types.word == 4 {
		segment = isa.FS
	}
	return g.b.machine.CPU().State().Seg[segment].Base
}

func (g emulated) FromSnapshot(la uint64) bool {
	pa, ok := g.b.machine.CPU().TranslateLinear(la)
	return ok && g.b.mem.shadow.Get(pa, int(g.b.types.word)) != taint.Clean
}

// Bridge lets system calls of the trusted VM see the snapshot. It belongs to the goroutine that runs the machine.
type Bridge struct {
	machine *machine.Machine
	guest   Guest
	mem     *Memory
	space   *space
	offsets []uint64 // of per-CPU variables, in order; nil before they are needed
	kernel  *linux.Kernel
	symbols *symbols.Table
	types   *Types
	policy  policy.Policy
	trace   func(syscall, scope string)
	referee *referee // nil if nobody asked for it

	entry       entry
	files       files
	entries     map[uint64]bool // addresses of the entry functions
	deaths      map[uint64]string
	scopes      map[scopeKey]cpu.Scope
	found       map[string][]symbols.Symbol // by find
	substitutes []substitute
	constants   map[string]map[uint64]uint64 // by the name of a root: the snapshot's values, by instruction
	frozen      bool
	tsc         uint64
	code        cpu.Range // the kernel's text
	above       uint64    // Config.Above
	perCPU      cpu.Range // where a 32-bit kernel was linked to have its per-CPU variables; their symbols are offsets all the same
	modules     modules

	// What is known, and what this run adds.
	known       *metadata.Index
	scopeIDs    []metadata.ScopeID
	questions   questions
	failed      error // of the handlers
	moduleBases map[string]uint64
	locations   map[uint64]metadata.Location // of return addresses
	texts       map[uint64]disassembled
}

// sinceTick is how far the frozen clock is past the kernel's last look at it, in its own counts: less than a millisecond on
// any. Inodes get the time of that look, and ls takes what is not in the past for the future.
const sinceTick = 1000

type scopeKey struct{ scope, syscall string }

// New connects a trusted VM with a snapshot.
func New(cfg Config) (*Bridge, error) {
	if cfg.Machine.CPU().Shadow() == nil {
		return nil, errors.New("slowbridge: the machine was built without taint")
	}
	cfg.Memory.shadow = cfg.Machine.CPU().Shadow()
	b, err := Resolve(cfg)
	if err != nil {
		return nil, err
	}
	return b, b.attach()
}

// Resolve finds out what the policy means for a trusted VM and a snapshot, and leaves the VM alone: what FAST-BRIDGE needs.
func Resolve(cfg Config) (*Bridge, error) {
	b := &Bridge{
		machine: cfg.Machine, guest: cfg.Guest, above: cfg.Above, mem: cfg.Memory, kernel: cfg.Kernel, symbols: cfg.Symbols, types: cfg.Types,
		policy: cfg.Policy,
		trace:  cfg.Trace, scopes: map[scopeKey]cpu.Scope{}, found: map[string][]symbols.Symbol{}, entries: map[uint64]bool{}, deaths: map[uint64]string{},
		questions: newQuestions(cfg.Plans, cfg.Interests), moduleBases: map[string]uint64{}, locations: map[uint64]metadata.Location{}, texts: map[uint64]disassembled{},
	}
	known := cfg.Known
	if known == nil {
		known = new(metadata.Set)
	}
	b.known = metadata.NewIndex(known)
	if b.guest == nil {
		b.guest = emulated{b}
	}
	b.space = newSpace(b.kernel, b.mem)
	if err := b.readModules(); err != nil {
		return nil, err
	}
	if err := errors.Join(b.findText(), b.readCalls(), b.findFields(), b.makeSubstitutes(&cfg.Policy)); err != nil {
		return nil, err
	}
	b.findConstants()
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
	return b, nil
}

// attach has the CPU redirect.
func (b *Bridge) attach() error {
	c := b.machine.CPU()
	c.SetTaintSpace(b.addresses())
	r, err := b.Redirection()
	if err != nil {
		return err
	}
	if b.questions.any {
		r.Plan, r.Asks = b.plan, b.Asks
	}
	if b.above != 0 {
		o, err := b.Owners(b.above)
		if err != nil {
			return err
		}
		b.referee = &referee{Owners: o, sites: map[judged]*verdict{}, context: c.ScopeContext}
		r.Check = b.referee.check
	}
	c.EnableRedirection(r)
	for _, f := range entryFunctions {
		for _, s := range b.find(f) {
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
	return nil
}

// addresses says which numbers are addresses of this kernel.
func (b *Bridge) addresses() taint.Space {
	var s taint.Space
	switch {
	case b.types.word == 4:
		s = taint.Above(0xc0000000)
		s.Origins = []uint64{0xc0000000}
		if at, ok := b.symbols.Address("mem_map"); ok {
			if v, ok := b.localWord(at); ok {
				s.Origins = append(s.Origins, v)
			}
		}
		s.OffsetsLo, s.OffsetsHi = b.perCPU.Lo, b.perCPU.Hi
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

// Redirection is what a CPU needs to know of the snapshot and the policy.
func (b *Bridge) Redirection() (*cpu.Redirection, error) {
	r := &cpu.Redirection{
		Translate: b.space.translate, Branch: b.branch, Unmapped: b.unmapped,
		Hooks: b.hooks(&b.policy), StackSize: 16 << 10, User: 1 << 63,
	}
	if b.types.word == 4 {
		r.StackSize, r.User = 8<<10, 0xc0000000
	}
	if err := b.hookHighmem(r.Hooks); err != nil {
		return nil, err
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
	r.Scratch, r.Constant = b.mem.value(nil), b.mem.value(nil)
	r.Switch, _ = b.symbols.Address("__switch_to")
	r.Exit, _ = b.symbols.Address("do_task_dead")
	r.Apart = b.apart()
	return r, nil
}

// Owners says whose addresses are, if the trusted VM's memory begins at above.
func (b *Bridge) Owners(above uint64) (*Owners, error) { return NewOwners(b.kernel, b.types, above) }

// apart returns where an address tells whose it is: the disjoint layout's direct map and vmemmap, what is constant in the
// kernel's image, and the CPU entry areas (Documentation/arch/x86/x86_64/mm.rst).
func (b *Bridge) apart() []cpu.Range {
	o, err := b.Owners(0)
	if err != nil {
		return nil // 32 bits
	}
	const entryArea, entryAreaEnd = 0xfffffe0000000000, 0xfffffe8000000000
	r := append(o.ranges(), cpu.Range{Lo: entryArea, Hi: entryAreaEnd}, b.code)
	for _, s := range [][2]string{{"__start_rodata", "__start_ro_after_init"}, {"__end_ro_after_init", "__end_rodata"}} {
		lo, ok := b.symbols.Address(s[0])
		hi, ok2 := b.symbols.Address(s[1])
		if ok && ok2 {
			r = append(r, cpu.Range{Lo: lo, Hi: hi})
		}
	}
	return r
}

// findText finds what may be executed.
func (b *Bridge) findText() error {
	var ok1, ok2 bool
	b.code.Lo, ok1 = b.symbols.Address("_text")
	b.code.Hi, ok2 = b.symbols.Address("_etext")
	if !ok1 || !ok2 {
		return errors.New("the trusted kernel's symbols do not say where its text is (_text and _etext)")
	}
	if b.types.word == 4 {
		b.perCPU.Lo, _ = b.symbols.Address("__per_cpu_start")
		b.perCPU.Hi, _ = b.symbols.Address("__per_cpu_end")
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
func (b *Bridge) Asked() int { return b.questions.asked }

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
