package inspect

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/fastbridge"
	"github.com/hybridbridge/emu/core/image"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/compact"
	"github.com/hybridbridge/emu/core/session"
	"github.com/hybridbridge/emu/core/slowbridge"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/formats"
	"github.com/hybridbridge/emu/snapshots/linux"
)

// DefaultBudget is how many instructions a tool may take unless Options or the policy say otherwise, and defaultTime, under KVM, how many
// nanoseconds: some minutes.
const (
	DefaultBudget = 10_000_000_000
	defaultTime   = 120_000_000_000
)

// Policies is who decides: the programs of package core/policy/host.
type Policies interface {
	// Policy returns the policy for a kernel.
	Policy(ctx context.Context, k policy.Kernel) (policy.Policy, error)
	// Interests says about which sites the handlers want to be asked.
	Interests(ctx context.Context) (policy.Interests, error)
	// Plans answers for sites, one plan each.
	Plans(ctx context.Context, sites []policy.Site) ([]policy.Plan, error)
	// Digest identifies the set of policies, in hexadecimal.
	Digest() string
}

// Options say what to run against what.
type Options struct {
	// Began is when the work began; the zero value is when Run is called.
	Began time.Time
	// Snapshot is the file; Open says how to read it.
	Snapshot string
	Open     formats.Options
	Argv     []string
	// Env is added to the tool's environment, as NAME=VALUE.
	Env []string
	// Input is what the tool's standard input has: each run of the tool gets all of it. Without, it is /dev/null.
	Input          []byte
	Stdout, Stderr io.Writer
	// Fast says on which vCPU FAST-BRIDGE runs the tool; empty means SLOW-BRIDGE alone.
	Fast FastMode
	// Accel makes FastKVM's vCPU.
	Accel machine.Accelerator
	// ExitSwitching: see fastbridge.Config.
	ExitSwitching bool
	Images        *image.Store
	// Kernels is a folder for what is known about snapshots' kernels; empty keeps nothing.
	Kernels  string
	Policies Policies
	// MetaData, if not nil, is what is known already and where this run adds what it learns.
	MetaData *metadata.Store
	// Budget is how many instructions the tool may take; 0 leaves it to the policy, then to DefaultBudget. With Accel it is in nanoseconds,
	// and FALLBACK's SLOW-BRIDGE takes it for 0.
	Budget uint64
	goal   *goal // of FALLBACK
	// Trace, if not nil, receives a line for each system call.
	Trace io.Writer
	// CheckLayout has routes judged by addresses: see slowbridge.Layout.
	CheckLayout bool
	// Console, if not nil, receives what the trusted kernel writes to its console.
	Console  io.Writer
	Progress image.Progress
	Log      hclog.Logger
}

// TimerSlack is that of a trusted VM under KVM. It makes a tick of the trusted VM's clock rarer than its 4 ms: one takes half of that where KVM itself is emulated.
const TimerSlack = 40_000_000

// FastMode is the vCPU of FAST-BRIDGE.
type FastMode string

// Modes.
const (
	FastOff      FastMode = ""
	FastEmulated FastMode = "emu" // the emulator's, for debugging and for machines without KVM
	FastKVM      FastMode = "kvm"
)

// Times are how long the parts of a run took, one after the other. What goes on beside another part does not count.
type Times struct {
	Start    time.Duration `json:"start_ns"` // from Options.Began
	Identify time.Duration `json:"identify_ns"`
	Image    time.Duration `json:"image_ns"`
	Policy   time.Duration `json:"policy_ns"`
	Restore  time.Duration `json:"restore_ns"`
	Connect  time.Duration `json:"connect_ns"`
	Run      time.Duration `json:"run_ns"`
	Learn    time.Duration `json:"learn_ns"`
	// Spawn is the part of Run before Connect: until the tool's process is there. First is how long it took in all until its first system
	// call that FAST-BRIDGE was asked about.
	Spawn time.Duration `json:"spawn_ns"`
	First time.Duration `json:"first_call_ns,omitempty"`
}

// Stats is what a run took.
type Stats struct {
	Times        Times             `json:"times"`
	Instructions uint64            `json:"instructions"` // executed in the trusted VM
	Redirection  cpu.RedirectStats `json:"redirection"`
	Fast         *fastbridge.Stats `json:"fast,omitempty"`
	// Exits are KVM's, by cause.
	Exits map[string]uint64 `json:"vm_exits,omitempty"`
	// Pages are the numbers of the snapshot's physical pages that were read.
	Pages []uint64 `json:"-"`
	// Asked is about how many instructions the handlers were asked, also in FALLBACK.
	Asked int `json:"asked"`
	// Recorded is how many instructions, by scope, went into Meta-Data: 0 if the same run is there already. Conflicts is how
	// many of them Meta-Data now has decided in two ways in one execution context, and had not before.
	Recorded  int `json:"recorded"`
	Conflicts int `json:"new_conflicts"`
	// Layout is what the referee of the disjoint layout found, if Options asked for it and the tool started.
	Layout *slowbridge.Layout `json:"layout,omitempty"`
}

// Result is the outcome of a tool that ran to its end.
type Result struct {
	// ExitCode is the tool's, as a shell would report it.
	ExitCode int
	Stats    Stats
}

// NoImageError says that there is no trusted image for the kernel of a snapshot.
type NoImageError struct {
	Release string
	// Command makes one.
	Command string
}

// Error names the command that makes the image.
func (e *NoImageError) Error() string {
	return fmt.Sprintf("there is no trusted image of the snapshot's kernel, %s; this makes one:\n  %s", e.Release, e.Command)
}

// OldImageError says that the trusted image for the kernel of a snapshot was made by a version of emu with another agent.
type OldImageError struct {
	ID string
	// Command makes it anew.
	Command string
}

// Error names the command that makes the image anew.
func (e *OldImageError) Error() string {
	return fmt.Sprintf("the trusted image %s was made by another version of emu; this makes it anew:\n  %s", e.ID, e.Command)
}

// BuildCommand returns the command that makes the image for a kernel.
func BuildCommand(k *linux.Kernel) string {
	arch := ""
	if !k.Form.Wide() {
		arch = ":i386"
	}
	return "emu image build --kernel linux-image-" + k.Release + arch
}

// Place is where the trusted kernel, whose symbols are in the table, must lie for a snapshot's virtual addresses to be its own.
func Place(k *linux.Kernel, t *symbols.Table) image.Placement {
	p := image.Placement{LA57: k.Form == linux.Level5, PTI: k.PTI}
	if !k.Form.Wide() {
		// Page structures are at addresses that depend on what was allocated before them, and those of vmalloc on the RAM.
		const most = 1 << 30 // what the kernel's address space can show at once
		read := func(name string) uint64 {
			a, _ := t.Address(name)
			v, _ := k.Space.Uint32(a)
			return uint64(v)
		}
		p.Shifts = &boot.Shifts{Text: k.TextShift, Regions: boot.Regions{Vmemmap: read("mem_map")}}
		p.Memory = min(read("max_low_pfn")<<12, most)
		return p
	}
	if k.TextShift == 0 && k.PhysBase == 0 {
		return p // no KASLR
	}
	p.Shifts = &boot.Shifts{
		Text: k.TextShift, Regions: boot.Regions{PageOffset: k.PageOffset, Vmalloc: k.VmallocBase, Vmemmap: k.VmemmapBase},
	}
	return p
}

// run is a run in progress.
type run struct {
	Options
	kernel *linux.Kernel
	memory *slowbridge.Memory
	image  *image.Image
	table  *symbols.Table
	types  *slowbridge.Types
	policy policy.Policy
	// interests are what the handlers want to be asked about.
	interests policy.Interests
	snap      snapshots.Snapshot
	bridge    *slowbridge.Bridge
	above     uint64 // the physical address where the trusted VM's memory begins
	fast      *fastbridge.Bridge
	// What a run with a goal may take and, once it was reached, where it ends.
	granted, until uint64
	unkept         string                        // the folder of what FALLBACK learned and nobody keeps
	load           func() (*metadata.Set, error) // what is known, once
	known          *metadata.Set
	sess           *session.Session
	state          string // path of the trusted VM's
	written        bool   // which pages of the state a command writes as it starts is known
	done           func() // with table
	stats          Stats
	since          time.Time
}

// lap returns the time since the last lap.
func (r *run) lap() time.Duration {
	now := time.Now()
	d := now.Sub(r.since)
	r.since = now
	return d
}

// Run runs a tool. Errors are about emu, the snapshot or the trusted VM; a tool that fails has an ExitCode. Those that
// wrap slowbridge.ErrFinding are about a snapshot that leads nowhere; session.ErrBudget is wrapped if the tool did not
// end in time.
func Run(ctx context.Context, o Options) (res Result, err error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.Began.IsZero() {
		o.Began = time.Now()
	}
	r := &run{Options: o, since: o.Began, done: func() {}}
	r.stats.Times.Start = r.lap()
	o.Progress("opening " + o.Snapshot)
	snap, err := formats.Open(o.Snapshot, o.Open)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	if r.kernel, err = identify(snap, &o); err != nil {
		return res, fmt.Errorf("%s: %w", o.Snapshot, err)
	}
	r.snap = snap
	r.memory = slowbridge.NewMemory(snap)
	r.stats.Times.Identify = r.lap()

	r.image, err = o.Images.Find(image.Identity{Banner: r.kernel.Banner, BTFHash: r.kernel.BTFHash})
	if errors.Is(err, image.ErrNotFound) {
		return res, &NoImageError{Release: r.kernel.Release, Command: BuildCommand(r.kernel)}
	} else if err != nil {
		return res, err
	}
	_, err = os.Stat(r.image.BTFPath())
	if r.image.Agent != session.AgentVersion || errors.Is(err, os.ErrNotExist) {
		return res, &OldImageError{ID: r.image.ID, Command: BuildCommand(r.kernel)}
	}
	policyErr := make(chan error, 1)
	preparing, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := r.askPolicy(ctx)
		if err != nil {
			cancel()
		}
		policyErr <- err
	}()
	defer func() {
		r.done()
		if r.unkept != "" {
			err = errors.Join(err, os.RemoveAll(r.unkept))
		}
	}()
	r.load = sync.OnceValues(r.metaData)
	go r.load()
	state, err := r.prepare(preparing)
	r.stats.Times.Image = r.lap()
	if err = cmp.Or(<-policyErr, err); err != nil {
		return res, err
	}
	r.stats.Times.Policy = r.lap()

	o.Progress("restoring the trusted VM")
	cfg := session.Config{
		Budget: r.limit(), Console: o.Console, Log: o.Log, OnOutcome: r.outcome,
	}
	if o.Fast == FastOff {
		cfg.Taint, cfg.Beyond = &cpu.TaintOptions{PointerPart: true}, r.memory.Page
		cfg.OnStart = func(int) error { return r.connect(ctx) }
		if o.goal != nil {
			r.granted = min(goalStep, cfg.Budget)
			cfg.Budget, cfg.OnBudget = r.granted, r.more
		}
	} else {
		if cfg.Accel = o.Accel; cfg.Accel != nil {
			cfg.TimerSlack = TimerSlack
			cfg.Budget = cmp.Or(o.Budget, r.policy.Budget, defaultTime)
		}
		cfg.OnStart = func(int) error { return r.connectFast(ctx) }
	}
	r.sess, err = session.Open(state, cfg)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, r.sess.Close()) }()
	r.state = state
	r.prepareWritten()
	r.stats.Times.Restore = r.lap()

	o.Progress("running " + o.Argv[0])
	c := r.sess.Machine().VCPU()
	before := c.Instructions()
	res.ExitCode, err = r.sess.Run(ctx, session.Command{Argv: o.Argv, Env: o.Env, Input: o.Input, Stdout: o.Stdout, Stderr: o.Stderr})
	r.stats.Times.Run += r.lap()
	r.stats.Instructions = c.Instructions() - before
	r.stats.Pages = r.memory.Touched()
	if r.fast != nil {
		s := r.fast.Stats()
		r.stats.Fast = &s
		if !s.First.IsZero() {
			r.stats.Times.First = s.First.Sub(o.Began)
		}
	}
	if x, ok := c.(interface{ Exits() map[string]uint64 }); ok {
		r.stats.Exits = x.Exits()
	}
	if r.bridge != nil {
		r.stats.Layout = r.bridge.Layout()
	}
	if r.known != nil {
		err = errors.Join(err, r.known.Err())
	}
	if r.fast != nil {
		r.stats.Asked += r.fast.Slow().Asked()
		if set := r.fast.MetaData(); set != nil && err == nil && r.MetaData != nil {
			_, err = r.MetaData.MergeAll(map[metadata.Key]*metadata.Set{r.key(): set})
		}
	}
	if r.bridge != nil {
		r.stats.Redirection = r.sess.Machine().CPU().RedirectStats()
		r.stats.Asked = r.bridge.Asked()
	}
	// What was seen of a tool that does not end, and that is stopped, is worth as much.
	if (err == nil || errors.Is(err, session.ErrBudget)) && r.bridge != nil && r.MetaData != nil {
		o.Progress("recording what was learned")
		err = errors.Join(err, r.learn(errors.Is(err, session.ErrBudget)))
		r.stats.Times.Learn = r.lap()
	}
	res.Stats = r.stats
	return res, err
}

// askPolicy finds out the policy for the kernel, and what the handlers want to be asked about. The same programs say the same about it, so
// that they are started once an image.
func (r *run) askPolicy(ctx context.Context) error {
	const name, version = "policy", 3
	digest := append([]byte(r.Policies.Digest()), '\n')
	if b, ok := bytes.CutPrefix(r.image.Cached(name, version), digest); ok {
		var err error
		if r.policy, r.interests, err = compact.Decode(b); err == nil {
			return nil
		}
	}
	handlers := make(chan error, 1)
	go func() {
		var err error
		r.interests, err = r.Policies.Interests(ctx)
		handlers <- err
	}()
	var err error
	r.policy, err = r.Policies.Policy(ctx, policy.Kernel{Banner: r.kernel.Banner, Release: r.kernel.Release, Bits: r.image.Bits})
	if err = errors.Join(err, <-handlers); err != nil {
		return err
	}
	r.image.Keep(name, version, append(digest, compact.Encode(&r.policy, r.interests)...))
	return nil
}

// prepare reads what the image says about the kernel, and returns the path of its state for the snapshot.
func (r *run) prepare(ctx context.Context) (state string, err error) {
	if r.table, err = r.symbols(); err != nil {
		return "", err
	}
	r.types = r.btf()
	place := Place(r.kernel, r.table)
	if r.kernel.Form.Wide() {
		// Physical addresses of the two machines have nothing in common.
		ranges := r.snap.Ranges()
		last := ranges[len(ranges)-1]
		if r.above, err = image.Above(last.Base+last.Size, r.image.Memory); err != nil {
			return "", fmt.Errorf("%s: %w", r.Snapshot, err)
		}
		place.MemoryAbove = r.above
	}
	if place.Modules, err = r.modules(r.snap); err != nil {
		return "", err
	}
	return r.image.State(ctx, place, r.Progress)
}

// key says what the Meta-Data is about.
func (r *run) key() metadata.Key {
	return metadata.Key{Banner: r.kernel.Banner, BTFHash: r.kernel.BTFHash, Policy: r.Policies.Digest()}
}

// limit is how many instructions the tool may take.
func (r *run) limit() uint64 { return cmp.Or(r.Budget, r.policy.Budget, DefaultBudget) }

// learn adds what was seen to the store, unless all of it is known. partial says that the tool was stopped.
func (r *run) learn(partial bool) error {
	id, err := identity(r.Snapshot)
	if err != nil {
		return err
	}
	if t := r.training(id); t != nil && t.Instructions == r.stats.Instructions && t.Partial == partial {
		return nil // the same run as then
	}
	set, err := r.bridge.MetaData()
	if err != nil {
		return err
	}
	for _, s := range set.Scopes() {
		r.stats.Recorded += len(set.Sites(s))
	}
	conflicts, err := r.MetaData.Merge(r.key(), set, metadata.Training{
		Snapshot: id, Command: r.command(), Instructions: r.stats.Instructions, Scopes: set.Scopes(), Partial: partial,
	})
	r.stats.Conflicts = len(conflicts)
	return err
}

// command is what Meta-Data calls the run: with another input a tool does other things.
func (r *run) command() []string {
	if len(r.Input) == 0 {
		return r.Argv
	}
	return slices.Concat(r.Argv, []string{fmt.Sprintf("<sha256:%.16x", sha256.Sum256(r.Input))})
}

// identity names a snapshot by its size and some of its blocks: files can be larger than one wants to read.
func identity(path string) (string, error) {
	const blocks, size = 64, 4096
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", end)
	var p [size]byte
	for i := range int64(blocks) {
		n, err := f.ReadAt(p[:], max(end-size, 0)/(blocks-1)*i)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		h.Write(p[:n])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// connect lets the machine see the snapshot from here on.
func (r *run) connect(ctx context.Context) error {
	r.stats.Times.Spawn = r.lap()
	r.stats.Times.Run = r.stats.Times.Spawn
	var err error
	if r.known, err = r.load(); err != nil {
		return err
	}
	cfg := r.bridgeConfig(ctx)
	cfg.Machine = r.sess.Machine()
	r.bridge, err = slowbridge.New(cfg)
	r.keepTypes()
	r.stats.Times.Connect = r.lap()
	return err
}

// metaData loads what is known, which may be nothing.
func (r *run) metaData() (*metadata.Set, error) {
	if r.MetaData == nil {
		return nil, nil
	}
	set, err := r.MetaData.LoadLazily(r.key())
	if errors.Is(err, metadata.ErrNotFound) {
		return nil, nil
	}
	return set, err
}

// bridgeConfig is what both bridges need to know.
func (r *run) bridgeConfig(ctx context.Context) slowbridge.Config {
	cfg := slowbridge.Config{
		Memory: r.memory, Kernel: r.kernel, Symbols: r.table, Types: r.types, Policy: r.policy, Known: r.known,
		Interests: r.interests,
		Plans:     func(s []policy.Site) ([]policy.Plan, error) { return r.Policies.Plans(ctx, s) },
	}
	if r.CheckLayout {
		cfg.Above = max(r.above, 1)
	}
	if r.Trace != nil {
		cfg.Trace = func(call, scope string) {
			fmt.Fprintf(r.Trace, "%d %s %s\n", r.sess.Machine().VCPU().Instructions(), call, scope)
		}
	}
	return cfg
}

// modules returns the modules of the snapshot that the trusted VM is to load beyond those of its image: their functions are
// what function pointers in the snapshot mean.
func (r *run) modules(s snapshots.Snapshot) ([]string, error) {
	names, err := slowbridge.ModuleNames(s, r.kernel, r.table, r.types)
	if err != nil {
		// A tool that needs no modules can do without.
		r.Log.Warn("the snapshot's list of modules cannot be read", "error", err)
		return nil, nil
	}
	have, missing, err := r.image.FindModules(names)
	if len(missing) > 0 {
		r.Log.Debug("the kernel's package does not have these modules of the snapshot", "modules", fmt.Sprintf("%q", missing))
	}
	return have, err
}

// symbols returns the trusted kernel's symbols where it runs. Those of modules are left out: where they lie is up to the
// run.
func (r *run) symbols() (*symbols.Table, error) {
	const name, version = "symbols", 2
	var t symbols.Table
	b, done := r.image.Map(name, version)
	r.done = done
	if b != nil && t.UnmarshalBinary(b) == nil {
		return t.Shift(r.kernel.TextShift), nil
	}
	f, err := os.Open(r.image.KallsymsPath())
	if err != nil {
		return nil, fmt.Errorf("trusted image %s: %w", r.image.ID, err)
	}
	defer f.Close()
	all, err := symbols.ParseProc(f)
	if err != nil {
		return nil, fmt.Errorf("trusted image %s: %w", r.image.ID, err)
	}
	var own []symbols.Symbol
	for s := range all.All {
		if s.Module == "" {
			own = append(own, s)
		}
	}
	t = *symbols.NewTable(own)
	if b, err := t.MarshalBinary(); err == nil {
		r.image.Keep(name, version, b)
	}
	return t.Shift(r.kernel.TextShift), nil
}

const typesCache, typesVersion = "types", 2

// btf returns the trusted kernel's types.
func (r *run) btf() *slowbridge.Types {
	return slowbridge.NewTypes(r.image.Bits, r.image.Cached(typesCache, typesVersion), func() ([]byte, error) { return os.ReadFile(r.image.BTFPath()) })
}

// keepTypes saves the next run the work of finding out what this one did about types.
func (r *run) keepTypes() {
	if b, changed, err := r.types.Answers(); changed && err == nil {
		r.image.Keep(typesCache, typesVersion, b)
	}
}

func (r *run) outcome(o machine.Outcome) (bool, error) {
	if r.fast != nil && r.fast.Err() != nil {
		return false, r.fast.Err()
	}
	if r.bridge == nil {
		return false, nil
	}
	return r.bridge.Outcome(o)
}
