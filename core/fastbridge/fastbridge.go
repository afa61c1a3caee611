package fastbridge

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/slowbridge"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/snapshots/linux"
)

// Physical addresses beside the trusted VM's memory: MAXPHYADDR is 39 bits at least.
const (
	// SnapshotBase is where the guest has the snapshot's physical address 0.
	SnapshotBase = 1 << 37
	viewsBase    = 1 << 38
	viewsSize    = 1 << 30 // reserved, taken when used
	sharedMemory = 1 << 20 // both machines have it: the real-mode area

	// The last four 2-MiB pages but one of the linear address space are where the monitor sees the first of this memory.
	windowPages = 3
	windowBase  = monitor.Base - 2<<21
	window      = windowPages << 21
	monitorSize = 1 << 20
)

// ErrTrained says that SLOW-BRIDGE has run the same command on the same snapshot already, so that it has nothing to add.
var ErrTrained = errors.New("nothing is left to learn")

// Config is what a Bridge joins.
type Config struct {
	// Machine is the trusted VM, stopped between two instructions of kernel or user code.
	Machine *machine.Machine
	Memory  *Memory
	Kernel  *linux.Kernel
	// Resolve says what the policy means for the VM; it must put the Guest that it is given into slowbridge.Config.
	Resolve func(slowbridge.Guest) (*slowbridge.Bridge, error)
	// Known is what was learned before. It may be nil.
	Known *metadata.Set
	// Train is FALLBACK: it learns what SLOW-BRIDGE makes of the command, at least until it has come to the instruction at unknown in the
	// scope, if it ever does, and returns all that is known then, or ErrTrained. last says that doing it again would teach nothing.
	Train func(scope metadata.ScopeID, unknown metadata.Location, reason string) (known *metadata.Set, last bool, err error)
	// Partial says that the command was trained, but not to its end: FALLBACK takes that further only for what nothing else decides.
	Partial bool
	// ExitSwitching has the guest leave at each int3 and switch views, as in the paper, instead of displacing instructions by itself.
	ExitSwitching bool
}

// Memory is the snapshot's memory in the guest-physical address space.
type Memory struct {
	*slowbridge.Memory
	limit uint64
}

// Stats counts what a run took.
type Stats struct {
	Exits       uint64 `json:"exits"`       // of the guest, for the monitor
	Syscalls    uint64 `json:"syscalls"`    // whose scope was looked for
	Chosen      uint64 `json:"chosen"`      // those of them for which the monitor found it, without an exit
	Scopes      uint64 `json:"scopes"`      // entered
	Switches    uint64 `json:"switches"`    // of views
	Displaced   uint64 `json:"displaced"`   // instructions executed on aliases instead, by int3: jumps are not counted
	Continued   uint64 `json:"continued"`   // int3 at instructions that a jump has taken the place of
	Subtrees    uint64 `json:"subtrees"`    // local functions called
	Clean       uint64 `json:"clean"`       // the times that one went on in the kernel's own address space
	Interrupts  uint64 `json:"interrupts"`  // within scopes
	Faults      uint64 `json:"faults"`      // pages of the snapshot that were mapped
	Hooks       uint64 `json:"hooks"`       // locks and elisions looked at
	Interpreted uint64 `json:"interpreted"` // instructions
	Derived     uint64 `json:"derived"`     // unknown instructions that the rules decide by themselves
	Unknown     uint64 `json:"unknown"`     // instructions that suspended the VM
	Trainings   uint64 `json:"trainings"`
	// Host is the time spent answering the monitor without FALLBACK's.
	Host time.Duration `json:"host_ns"`
	// Views is the part of it that went into making views of Meta-Data.
	Views    time.Duration     `json:"views_ns"`
	Fallback time.Duration     `json:"fallback_ns"`
	Sites    map[string]uint64 `json:"sites"` // by category
	// Calls are the system calls that entered scopes, those that took most first.
	Calls []CallStats `json:"calls"`
	// First is when the first system call asked for its scope.
	First time.Time `json:"-"`
}

// CallStats counts what one system call took in one scope.
type CallStats struct {
	Syscall   string `json:"syscall"`
	Scope     string `json:"scope"` // "" for system calls that match no scope
	Calls     uint64 `json:"calls"`
	Switches  uint64 `json:"switches"`
	Displaced uint64 `json:"displaced"`
	Exits     uint64 `json:"exits"` // but for those that asked for the scope
}

// Bridge is a trusted VM that sees a snapshot. It belongs to the goroutine that runs the machine.
type Bridge struct {
	cfg      Config
	vm       *machine.Machine
	mem      physical
	slow     *slowbridge.Bridge
	redirect *cpu.Redirection
	set      *metadata.Set
	outlines map[metadata.ScopeID]*metadata.Outline // of all scopes; nil until an instruction is looked for in others
	hooks    map[uint64]cpu.Hook
	hooked   []uint64 // their addresses, sorted
	elided   map[[2]uint64]bool

	tables  tables
	window  pool // what the monitor sees
	mon     []byte
	levels  int
	clean   uint64 // a root with the kernel's address space, for looking
	perCPU  uint64
	owners  *slowbridge.Owners
	last    *table // the page directory of the last GiB, which all address spaces share
	baseN   *table
	baseR   *table
	poison  uint64 // a page of int3
	aliases aliases
	rules   pathRules
	types   []uint64 // struct file_system_type of the kinds of files that the monitor knows, from 1 on
	copy    textCopy
	// Where the monitor sees displaced code, with its sites by address, lists of contexts, and substitutes by where the snapshot's memory has them.
	stubs, lists         []byte
	stubsAt, listsAt     uint64
	stubsUsed, listsUsed int
	displaced            map[uint64]uint64
	substitutes          map[uint64]uint64
	area                 area
	groups               map[uint64]*group // by the address of the jump
	// What making views uses again and again.
	admitted    []admitted
	parts       []part
	jumper      jumper
	trampolines map[uint64]uint64 // of instructions without an operand, by their address
	text        cpu.Range
	texts       map[uint64]*[4096]byte // pages of code, by linear address; nil if not mapped

	scopes  map[metadata.ScopeID]*scope
	byEntry map[uint64]*scope // by the address of struct scope in the monitor
	initial vcpu.State
	trained bool             // FALLBACK has nothing to add
	partial bool             // it has something to add, that takes long
	met     map[unknown]bool // what it was asked about
	learned *metadata.Set
	stepper *cpu.CPU
	stepped bool // the stepper's last instruction ended well
	err     error
	stats   Stats
}

// limit returns the end of the physical addresses that a snapshot's memory takes.
func limit(end uint64) uint64 { return (end + 1<<21 - 1) &^ (1<<21 - 1) }

// AddMemory gives a machine that was just restored the memory that a Bridge needs. end is the snapshot's last physical address
// plus one.
func AddMemory(m *machine.Machine, end uint64) (views, snapshot []byte, err error) {
	if end > viewsBase-SnapshotBase {
		return nil, nil, fmt.Errorf("fastbridge: the snapshot's memory ends at %#x, and at most %#x has room", end, uint64(viewsBase-SnapshotBase))
	}
	if views, err = m.AddMemory(viewsBase, viewsSize, false); err != nil {
		return nil, nil, err
	}
	snapshot, err = m.AddMemory(SnapshotBase, limit(end), true)
	return views, snapshot, err
}

// New connects a trusted VM with a snapshot.
func New(cfg Config, views []byte) (*Bridge, error) {
	b := &Bridge{
		cfg: cfg, vm: cfg.Machine, set: cfg.Known, scopes: map[metadata.ScopeID]*scope{}, byEntry: map[uint64]*scope{},
		elided: map[[2]uint64]bool{}, displaced: map[uint64]uint64{}, substitutes: map[uint64]uint64{}, groups: map[uint64]*group{},
		trampolines: map[uint64]uint64{}, met: map[unknown]bool{}, partial: cfg.Partial, texts: map[uint64]*[4096]byte{}, aliases: aliases{map[int]int{}, map[int]int{}}, types: []uint64{0},
	}
	if b.set == nil {
		b.set = new(metadata.Set)
	}
	b.mem = func(pa uint64) *[4096]byte { return b.vm.Memory().Page(pa &^ 0xfff) }
	b.initial = b.vm.VCPU().State()
	b.levels = 4
	if b.initial.CR4&(1<<12) != 0 {
		b.levels = 5
	}
	// Under page-table isolation the kernel's root is the even one of a pair (arch/x86/mm/pti.c).
	b.clean = b.initial.CR3 & addresses
	if cfg.Kernel.PTI {
		b.clean &^= 0x1000
	}
	p := pool{base: viewsBase + window, mem: views[window:]}
	b.tables = tables{&p, b.mem, b.levels}
	// The monitor needs little of its page of 2 MiB. What it leaves is used first, since the host zeroes such a page as a whole.
	const mon = monitor.Base - windowBase
	b.mon = views[mon : mon+monitorSize]
	b.window = pool{viewsBase + mon + monitorSize, views[mon+monitorSize : window], 0, &pool{base: viewsBase, mem: views[:mon]}}
	above := uint64(0)
	for _, r := range b.vm.Memory().Ranges() {
		if r.Base >= sharedMemory && (above == 0 || r.Base < above) {
			above = r.Base
		}
	}
	var err error
	if b.slow, err = cfg.Resolve(guest{b}); err != nil {
		return nil, err
	}
	if b.redirect, err = b.slow.Redirection(); err != nil {
		return nil, err
	}
	if b.owners, err = b.slow.Owners(above); err != nil {
		return nil, err
	}
	if above < cfg.Memory.limit {
		return nil, fmt.Errorf("fastbridge: the trusted VM's memory begins at %#x, within the snapshot's, which ends at %#x", above, cfg.Memory.limit)
	}
	b.text = b.slow.Text()
	b.hooks = b.slow.Hooks()
	b.hooked = slices.Sorted(maps.Keys(b.hooks))
	if err := errors.Join(b.findPerCPU(), b.install(), b.makeArea(), b.makeBases(), b.makeStepper(), b.elideOutside()); err != nil {
		return nil, err
	}
	b.allow()
	return b, nil
}

// NewMemory is the snapshot's memory for Config. flat is what AddMemory returned.
func NewMemory(m *slowbridge.Memory, flat []byte) *Memory { return &Memory{m, uint64(len(flat))} }

// Stats returns the counters.
func (b *Bridge) Stats() Stats {
	s := b.stats
	s.Continued = b.get(monitor.Continued)
	s.Subtrees += b.get(monitor.Subtrees)
	s.Chosen = b.get(monitor.Chosen)
	s.Syscalls += s.Chosen
	s.Clean += b.get(monitor.Clean)
	s.Interrupts += b.get(monitor.Interrupts)
	s.Hooks += b.get(monitor.Hooks)
	s.Sites = map[string]uint64{}
	for _, scope := range b.scopes {
		c, calls := scope.stats, uint64(0)
		c.Syscall, c.Scope = scope.id.Syscall, scope.id.Name
		if scope.data != nil {
			calls = binary.LittleEndian.Uint64(scope.data[monitor.ScopeCalls:])
			c.Displaced = binary.LittleEndian.Uint64(scope.data[monitor.ScopeDisplaced:])
		}
		c.Calls += calls
		s.Scopes, s.Displaced, s.Switches = s.Scopes+calls, s.Displaced+c.Displaced, s.Switches+c.Switches
		s.Calls = append(s.Calls, c)
		for c, n := range scope.found {
			if n > 0 {
				s.Sites[policy.Category(c).String()] += n
			}
		}
	}
	slices.SortFunc(s.Calls, func(x, y CallStats) int {
		return cmp.Or(cmp.Compare(y.Switches, x.Switches), cmp.Compare(y.Exits, x.Exits), cmp.Compare(y.Displaced, x.Displaced),
			cmp.Compare(x.Syscall, y.Syscall), cmp.Compare(x.Scope, y.Scope))
	})
	return s
}

// MetaData returns what handlers have said of what SLOW-BRIDGE never saw; nil if they were asked nothing.
func (b *Bridge) MetaData() *metadata.Set { return b.learned }

// Err is why the machine's run ended with machine.Redirection.
func (b *Bridge) Err() error { return b.err }

// Slow is what the policy means here.
func (b *Bridge) Slow() *slowbridge.Bridge { return b.slow }

// get and put access the monitor's data.
func (b *Bridge) get(off int) uint64     { return binary.LittleEndian.Uint64(b.mon[off:]) }
func (b *Bridge) put(off int, v uint64)  { binary.LittleEndian.PutUint64(b.mon[off:], v) }
func (b *Bridge) symbol(n string) uint64 { a, _ := b.slow.Symbols().Address(n); return a }

// guest lets slowbridge look at the trusted VM.
type guest struct{ b *Bridge }

// ReadLinear implements slowbridge.Guest.
func (g guest) ReadLinear(la uint64, p []byte) (n int) {
	for n < len(p) {
		pa, _, ok := g.b.mem.walk(g.b.clean, g.b.levels, la+uint64(n))
		page := g.b.mem(pa)
		if !ok || page == nil {
			return n
		}
		n += copy(p[n:], page[pa&0xfff:])
	}
	return n
}

// PerCPUBase implements slowbridge.Guest.
func (g guest) PerCPUBase() uint64 { return g.b.perCPU }

// FromSnapshot implements slowbridge.Guest.
func (g guest) FromSnapshot(la uint64) bool {
	v, _ := g.b.word(la)
	return g.b.owners.Snapshot(v)
}

// word reads 8 bytes of the trusted VM.
func (b *Bridge) word(la uint64) (uint64, bool) {
	var p [8]byte
	n := guest{b}.ReadLinear(la, p[:])
	return binary.LittleEndian.Uint64(p[:]), n == 8
}

// write changes the trusted VM's memory, and says whether it is all there.
func (b *Bridge) write(la uint64, p []byte) bool {
	for len(p) > 0 {
		pa, _, ok := b.mem.walk(b.clean, b.levels, la)
		page := b.mem(pa)
		if !ok || page == nil {
			return false
		}
		n := copy(page[pa&0xfff:], p)
		b.vm.Memory().Written(pa, n)
		p, la = p[n:], la+uint64(n)
	}
	return true
}

// trusted reports whether an address can only be the trusted VM's or the tool's.
func (b *Bridge) trusted(la uint64) bool { return la < 1<<63 || b.owners.Trusted(la) }

func (b *Bridge) findPerCPU() error {
	var ok bool
	if b.perCPU, ok = b.word(b.symbol("__per_cpu_offset")); !ok {
		return errors.New("fastbridge: the trusted VM's __per_cpu_offset cannot be read")
	}
	return nil
}

// install puts the monitor into the guest.
func (b *Bridge) install() error {
	copy(b.mon, monitor.Image)
	t := table{}
	// The tables that map the last GiB belong to all processes.
	at := b.clean
	for l := b.levels; l > 2; l-- {
		page := b.mem(at & addresses)
		if page == nil {
			return errors.New("fastbridge: the trusted VM's page tables lead out of its memory")
		}
		at = binary.LittleEndian.Uint64(page[8*index(monitor.Base, l):])
	}
	page := b.mem(at & addresses)
	if at&present == 0 || page == nil {
		return errors.New("fastbridge: the trusted VM maps nothing in the last GiB")
	}
	t.page = page[:]
	for i := range uint64(windowPages) {
		la := uint64(windowBase) + i<<21
		if t.get(index(la, 2)) != 0 {
			return fmt.Errorf("fastbridge: the trusted kernel uses the address %#x, where the monitor is to be", la)
		}
		t.set(index(la, 2), viewsBase+i<<21|present|writable|accessed|dirty|large)
	}
	b.last = &t
	for off, name := range map[int]string{
		monitor.DoSyscall: "do_syscall_64", monitor.GetUser: "__get_user_nocheck_1", monitor.PutUser: "__put_user_nocheck_1",
	} {
		a := b.symbol(name)
		if a == 0 {
			return fmt.Errorf("fastbridge: the trusted kernel has no %s", name)
		}
		b.put(off, a)
	}
	b.put(monitor.PageOffset, b.cfg.Kernel.PageOffset)
	b.put(monitor.AddressMask, addresses)
	b.put(monitor.Routines, monitor.Base+monitor.Locate)
	b.put(monitor.Routines+8, monitor.Base+monitor.LeaveView)
	b.put(monitor.DirectLimit, machine.BeyondBase)
	b.put(monitor.Boundary, b.owners.Above)
	b.put(monitor.Vmemmap, b.cfg.Kernel.VmemmapBase)
	b.put(monitor.VmemmapLimit, b.owners.Descriptors(machine.BeyondBase))
	b.put(monitor.VmemmapBoundary, b.owners.Descriptors(b.owners.Above))
	b.put(monitor.SlotShift, uint64(bits.TrailingZeros64(size(b.levels))))
	const smap = 1 << 21
	if b.initial.CR4&smap != 0 {
		b.put(monitor.SMAP, 1)
	}
	if b.cfg.ExitSwitching {
		b.put(monitor.ExitAlways, 1)
	}
	f := b.slow.FileFields()
	for i, v := range [...]uint64{f.Argument, f.Task, f.Files, f.FDT, f.MaxFDs, f.FD, f.Inode, f.Mode, f.Super, f.Type, f.ProcPID, f.TGID} {
		b.put(monitor.FileFields+8*i, v)
	}
	if err := b.makeIDT(); err != nil {
		return err
	}
	return b.hookEntry()
}

// makeIDT makes the views' interrupt table: the monitor takes all, on the same stacks.
func (b *Bridge) makeIDT() error {
	const gates = 256 * 16
	var old [gates]byte
	limit := int(b.initial.IDTR.Limit) + 1
	if n := (guest{b}).ReadLinear(b.initial.IDTR.Base, old[:min(limit, gates)]); n < gates {
		return fmt.Errorf("fastbridge: the trusted VM's interrupt table has %d bytes", n)
	}
	pa, idt, err := b.window.take(1)
	if err != nil {
		return err
	}
	for v := range uint64(256) {
		g := old[v*16:]
		handler := uint64(binary.LittleEndian.Uint16(g)) | uint64(binary.LittleEndian.Uint16(g[6:]))<<16 | uint64(binary.LittleEndian.Uint32(g[8:]))<<32
		b.put(int(monitor.Handlers+8*v), handler)
		to := uint64(monitor.Base + monitor.Vectors + 16*v)
		switch v {
		case 3:
			to = monitor.Base + monitor.Breakpoint
		case 14:
			to = monitor.Base + monitor.PageFault
		}
		n := idt[v*16:]
		setGate(n, to)
		copy(n[2:5], g[2:5]) // selector and stack
		n[5] = 0x8e          // present, interrupt gate
	}
	descriptor := func(off int, base uint64) {
		binary.LittleEndian.PutUint16(b.mon[off:], gates-1)
		binary.LittleEndian.PutUint64(b.mon[off+2:], base)
	}
	descriptor(monitor.ViewIDT, windowBase+pa-viewsBase)
	descriptor(monitor.CleanIDT, b.initial.IDTR.Base)
	return nil
}

// guardCopy has int3 in the kernel's own address space come to the monitor first, which leads out of the copy.
func (b *Bridge) guardCopy() bool {
	var gate [16]byte
	at := b.initial.IDTR.Base + 3*16
	if (guest{b}).ReadLinear(at, gate[:]) != len(gate) {
		return false
	}
	setGate(gate[:], monitor.Base+monitor.CleanInt3)
	return b.write(at, gate[:])
}

// setGate has a gate of an interrupt table lead to a handler (SDM vol. 3A, 6.14.1).
func setGate(gate []byte, to uint64) {
	binary.LittleEndian.PutUint16(gate, uint16(to))
	binary.LittleEndian.PutUint16(gate[6:], uint16(to>>16))
	binary.LittleEndian.PutUint32(gate[8:], uint32(to>>32))
}

// hookEntry has the kernel's system-call entry call the monitor in place of do_syscall_64.
func (b *Bridge) hookEntry() error {
	entry, target := b.symbol("entry_SYSCALL_64"), b.symbol("do_syscall_64")
	var code [512]byte
	n := guest{b}.ReadLinear(entry, code[:])
	for i := 0; i+5 <= n; i++ {
		next := entry + uint64(i) + 5
		if code[i] != 0xe8 || next+uint64(int64(int32(binary.LittleEndian.Uint32(code[i+1:])))) != target {
			continue
		}
		b.put(monitor.SyscallReturn, next)
		to := uint64(monitor.Base+monitor.Enter) - next
		if !b.write(next-4, binary.LittleEndian.AppendUint32(nil, uint32(int32(to)))) {
			break
		}
		return b.vm.HandlePort(monitor.Port, b.asked)
	}
	return errors.New("fastbridge: entry_SYSCALL_64 of the trusted kernel does not call do_syscall_64 as expected")
}

// allow says which system calls ask for their scope: those that the policy names and those that are not known to touch nothing
// of the snapshot.
func (b *Bridge) allow() {
	bits := b.mon[monitor.Calls : monitor.Calls+128]
	clear(bits)
	rows := b.mon[monitor.Rows : monitor.Rows+1024]
	clear(rows)
	clear(b.mon[monitor.Scopes:monitor.PathRows])
	b.clearRules()
	row := 0
	for _, n := range b.slow.Syscalls(func(id metadata.ScopeID) bool { return !b.plain(id) }) {
		if n >= 1024 {
			continue
		}
		bits[n/8] |= 1 << (n % 8)
		if b.ruleByPath(n) {
			continue
		}
		if !b.cfg.ExitSwitching && row+1 < monitor.MaxRows && b.slow.OnFile(n) {
			row++
			rows[n] = byte(row)
		}
	}
}

// remember tells the monitor which scope, of a name, a system call has for a path or on a kind of file, so that it need not ask again; 1 is none.
func (b *Bridge) remember(nr, regs uint64, name string, scope uint64) {
	if at, ok := b.rules.slots[ruleSlot{nr, name}]; ok {
		binary.LittleEndian.PutUint64(b.rules.mem[at:], scope)
		return
	}
	if nr >= 1024 || b.mon[monitor.Rows+nr] == 0 {
		return
	}
	snapshot, fsType, proc, ok := b.slow.FileType(regs)
	if !ok {
		return
	}
	kind := 0
	if !snapshot {
		if kind = slices.Index(b.types, fsType); kind < 0 {
			if len(b.types) == monitor.Kinds {
				return
			}
			kind = len(b.types)
			b.types = append(b.types, fsType)
			b.put(monitor.Types+8*kind, fsType)
			if proc {
				b.put(monitor.ProcType, fsType)
			}
		}
	}
	b.put(monitor.Scopes+8*(int(b.mon[monitor.Rows+nr])*monitor.Kinds+kind), scope)
}

// plain reports whether a system call is known, and known to touch nothing of the snapshot.
func (b *Bridge) plain(id metadata.ScopeID) bool {
	redirects, known := b.set.Redirects(id)
	return known && !redirects
}

// fail ends the run.
func (b *Bridge) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
		b.vm.Fail(b.err.Error())
	}
}

// makeStepper makes the processor that interprets.
func (b *Bridge) makeStepper() error {
	model := b.vm.CPUConfig()
	model.Memory, model.Platform = stepMemory{b}, nil
	b.stepper = cpu.New(model)
	b.stepper.EnableTaint(&cpu.TaintOptions{PointerPart: true})
	r := *b.redirect
	r.Hooks, r.Plan = nil, nil
	b.stepper.EnableRedirection(&r)
	return nil
}

// stepMemory is guest-physical memory for the stepper.
type stepMemory struct{ b *Bridge }

// Page implements cpu.Memory.
func (m stepMemory) Page(pa uint64) (*[4096]byte, bool) {
	if pa >= slowbridge.Base {
		return m.b.cfg.Memory.Page(pa), true
	}
	p := m.b.mem(pa)
	return p, p != nil
}

// code reads an instruction of the trusted kernel.
func (b *Bridge) code(la uint64) (in isa.Inst, code []byte, err error) {
	in, code, err = b.instruction(la)
	return in, bytes.Clone(code), err
}

// instruction is code whose bytes must not be changed.
func (b *Bridge) instruction(la uint64) (in isa.Inst, code []byte, err error) {
	const most = 15
	if code = b.original(la, most); code == nil { // the last ones of a mapping
		code = b.original(la, min(most, 4096-int(la&0xfff)))
	}
	in, err = isa.Decode(code, isa.Mode64, b.vm.CPUConfig().Features)
	if err == nil {
		code = code[:in.Len:in.Len]
	}
	return in, code, err
}
