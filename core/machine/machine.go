package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Config describes a machine.
type Config struct {
	// MemorySize is the size of RAM in bytes, used if Layout is nil.
	MemorySize uint64
	// Layout places RAM by hand, see package memory.
	Layout []memory.Range
	// Kernel and Initrd are the images to start, in memory; Initrd may be nil.
	Kernel, Initrd []byte
	CommandLine    string
	// KernelStub has a bzImage unpack itself instead of unpacking it on the host.
	KernelStub bool
	// Seed starts all that is random in the machine: where a kernel lies (KASLR), RDRAND, the virtio random generator.
	// Machines that differ in nothing run alike.
	Seed uint64
	// Shifts places a Linux kernel exactly; nil leaves it to Seed and to the command line.
	Shifts *boot.Shifts
	Drives []Drive
	// Console receives what the guest writes to the first serial port; nil discards it.
	Console io.Writer
	// Serial receives what the guest writes to the serial ports COM2, COM3 and COM4, of which there are as many as it has
	// elements; nil elements discard.
	Serial []io.Writer
	// RNG plugs in a virtio random generator, which repeats.
	RNG bool
	// VirtioConsole receives what the guest writes to a virtio console, which is there if it is not nil.
	VirtioConsole io.Writer
	// DebugConsole receives what the guest writes to port 0xe9, if it is not nil.
	DebugConsole io.Writer
	// DebugExit offers port 0xf4, a write to which ends the run.
	DebugExit bool
	// Realtime ties guest time to the host's clock. Runs then do not repeat.
	Realtime bool
	// Interactive makes idle time pass at the host's pace, so that a guest that waits for a person does not spin.
	// What the guest sees does not change.
	Interactive bool
	// CPU chooses the processor's model; its Memory, Platform and Seed are set by New.
	CPU cpu.Config
	// Accel runs the guest on the host's processor instead of the emulator's; nil does not. Guest time then is the host's, so
	// runs do not repeat, idle time passes at the host's pace, budgets are in nanoseconds, and there is no taint, no debugger
	// and no Beyond.
	Accel Accelerator
	// TimerSlack is how long the timers of a running guest wait for each other, so that a slow host does more than to serve
	// them. 0 is none.
	TimerSlack clock.Time
	// Taint switches taint on.
	Taint *cpu.TaintOptions
	// Beyond, if not nil, has memory at physical addresses from BeyondBase on, which the guest's page tables cannot reach:
	// another machine's, for redirection.
	Beyond func(pa uint64) *[4096]byte
	Log    hclog.Logger
}

// Accelerator makes a vCPU without memory, on the host's processor, that is like model: such as kvmaccel.New. model does not
// run; it answers what the guest asks about its processor.
type Accelerator func(model *cpu.CPU, platform vcpu.Platform) (vcpu.Accelerated, error)

// BeyondBase is the first physical address that is served by Config.Beyond: that after MAXPHYADDR.
const BeyondBase = 1 << 40

// Reason says why a run ended.
type Reason int

// Reasons.
const (
	PowerOff    Reason = iota // the guest switched the machine off
	Reset                     // the guest reset the machine
	TripleFault               // an exception could not be delivered, nor the double fault after it
	DebugExit                 // the guest wrote to the debug-exit port
	Halted                    // the guest halted with interrupts off: nothing can wake it
	Budget                    // the instruction budget is spent
	Interrupted               // the context was cancelled
	Breakpoint                // a debugger's breakpoint or watchpoint
	Unsupported               // the guest needs something that emu does not implement
	Text                      // the text that WaitFor named was printed
	Idle                      // the guest waits for input that will never come
	Stepped                   // Step has executed one instruction
	Killed                    // a debugger asked for the end
	Redirection               // redirection cannot go on: see Detail
)

var reasonNames = [...]string{
	"power-off", "reset", "triple fault", "debug exit", "halted for good", "instruction budget spent", "interrupted",
	"breakpoint", "unsupported", "text on the console", "idle without an event to come", "one instruction executed",
	"ended by the debugger", "redirection cannot go on",
}

// String returns the reason in words.
func (r Reason) String() string { return reasonNames[r] }

// Outcome is how a run ended.
type Outcome struct {
	Reason Reason
	Code   uint32    // of DebugExit: what the guest wrote
	Exit   vcpu.Exit // the vCPU's exit that led here
	Detail string
}

// Machine is a PC. Run and the methods that look at or change the guest belong to one goroutine; Input, EndInput and
// Interrupt may be called from any.
type Machine struct {
	cfg   Config
	log   hclog.Logger
	vcpu  vcpu.VCPU        // what runs the guest: cpu or accel
	cpu   *cpu.CPU         // the emulator; with accel, its model
	accel vcpu.Accelerated // nil without Config.Accel
	mem   *memory.Memory
	bus   *bus
	queue *clock.Queue
	board board
	boot  *boot.Loaded

	// skipped is guest time that passed without instructions, in ns: guest time is instructions plus skipped.
	skipped uint64
	due     clock.Time // when timers were last served
	// idleSince is when the guest fell asleep, at instruction idleAt.
	idleAt    uint64
	idleSince clock.Time
	outcome   *Outcome // set by a device to end the run
	endIdle   bool     // the run ends when the guest halts
	console   *console
	regions   *regions // to be placed; nil if not or done

	interrupted atomic.Bool
	inputEnded  atomic.Bool

	mu      sync.Mutex
	input   [serialPorts][]byte
	wakeup  chan struct{}
	started time.Time // host time at which guest time was base
	base    clock.Time
}

// ErrConfig is wrapped by errors about a configuration that makes no machine.
var ErrConfig = errors.New("bad machine configuration")

// New builds a machine and loads the kernel. Close it when done.
func New(cfg Config) (*Machine, error) {
	m, err := assemble(cfg)
	if err != nil {
		return nil, err
	}
	if err := m.loadKernel(); err != nil {
		m.Close()
		return nil, err
	}
	debug.FreeOSMemory() // the unpacked kernel
	return m, nil
}

// assemble builds a machine without anything in memory.
func assemble(cfg Config) (*Machine, error) {
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	layout := cfg.Layout
	if layout == nil {
		var err error
		if layout, err = memory.Flat(cfg.MemorySize, memory.Options{}); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	mem, err := memory.New(layout)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	m := &Machine{cfg: cfg, log: cfg.Log, mem: mem, bus: newBus(), wakeup: make(chan struct{}, 1)}
	m.queue = clock.NewQueue(m.Now, m.timerSet)
	c := cfg.CPU
	c.Memory, c.Platform, c.Seed = ram{mem, cfg.Beyond}, m, cfg.Seed
	m.cpu = cpu.New(c)
	m.vcpu = m.cpu
	if cfg.Taint != nil {
		m.cpu.EnableTaint(cfg.Taint)
	}
	m.console = &console{out: cfg.Console}
	if err = m.wire(); err == nil && cfg.Accel != nil {
		err = m.accelerate()
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if m.accel == nil {
		mem.OnWrite(m.cpu.MemoryWritten)
	}
	return m, nil
}

// loadKernel puts kernel, initrd and firmware tables into memory and the vCPU at the kernel's entry.
func (m *Machine) loadKernel() error {
	image, err := boot.Parse(m.cfg.Kernel)
	if err != nil {
		return err
	}
	rsdp, err := m.placeTables()
	if err != nil {
		return err
	}
	m.boot, err = image.Load(m.mem, boot.Params{
		CommandLine: m.cfg.CommandLine, Initrd: m.cfg.Initrd, RSDP: rsdp, Reserved: m.reserved(),
		Stub: m.cfg.KernelStub, Seed: m.cfg.Seed, Shifts: m.cfg.Shifts,
		LA57: m.cfg.CPU.Model.Has(cpu.ModelLA57),
	})
	if err != nil {
		return err
	}
	m.log.Debug("kernel loaded", "stub", m.boot.Stub, "base", hclog.Hex(m.boot.KernelBase), "text_shift", hclog.Hex(m.boot.Shifts.Text))
	if r := m.boot.Shifts.Regions; r != (boot.Regions{}) {
		if m.regions, err = findRegions(image, m.boot.Shifts); err != nil {
			return err
		}
		if err := m.armRegions(); err != nil {
			return err
		}
	}
	s := m.cpu.State()
	m.boot.Entry.Apply(&s)
	enableMTRRs(&s.MSR, m.cfg.CPU.PhysBits)
	return m.vcpu.SetState(s)
}

// enableMTRRs does what firmware does: all memory is write-back but the last GiB below 4 GiB, where devices are
// (SDM vol. 3A, 11.11). A kernel that finds them blank takes the machine for broken and does without the PAT.
func enableMTRRs(r *vcpu.MSRs, physBits uint8) {
	if physBits == 0 {
		physBits = 40
	}
	const enabled, valid, writeBack = 1 << 11, 1 << 11, 6
	r.MTRRDefType = enabled | writeBack
	r.MTRRPhys[0] = memory.PCIHole // uncacheable
	r.MTRRPhys[1] = (1<<physBits - (memory.PCIHoleEnd - memory.PCIHole)) | valid
}

// Close releases memory and drives.
func (m *Machine) Close() error {
	var err error
	if m.accel != nil {
		err = m.accel.Close()
	}
	return errors.Join(err, m.board.close(), m.mem.Close())
}

// VCPU returns the processor.
func (m *Machine) VCPU() vcpu.VCPU { return m.vcpu }

// CPU returns the processor if it is the emulator's, else nil.
func (m *Machine) CPU() *cpu.CPU {
	if m.accel != nil {
		return nil
	}
	return m.cpu
}

// CPUConfig is the model of the processor.
func (m *Machine) CPUConfig() cpu.Config { return m.cfg.CPU }

// AddMemory gives the guest memory beside its own, at a physical address where it has nothing: memory.Memory.Add, which says what sparse means.
func (m *Machine) AddMemory(pa, size uint64, sparse bool) ([]byte, error) {
	b, err := m.mem.Add(pa, size, sparse)
	if err == nil && m.accel != nil {
		err = m.accel.AddSlot(pa, b, false)
	}
	return b, err
}

// HandlePort calls f with what the guest writes to a port that no device has. f runs on the machine's goroutine, between two
// instructions.
func (m *Machine) HandlePort(port uint16, f func(v uint32)) error {
	if m.bus.ports[port] != nil {
		return fmt.Errorf("%w: port %#x is a device's", ErrConfig, port)
	}
	m.bus.MapPorts(port, 1, &portHandler{f})
	return nil
}

// Fail makes Run end with Redirection.
func (m *Machine) Fail(detail string) { m.end(Outcome{Reason: Redirection, Detail: detail}) }

// portHandler is a port that a function stands for.
type portHandler struct{ f func(v uint32) }

// ReadPort implements device.Ports.
func (*portHandler) ReadPort(uint16, int) uint32 { return ^uint32(0) }

// WritePort implements device.Ports.
func (p *portHandler) WritePort(_ uint16, _ int, v uint32) { p.f(v) }

// Memory returns guest physical memory.
func (m *Machine) Memory() *memory.Memory { return m.mem }

// Now returns guest time: one nanosecond an instruction, plus what passed while the guest was idle.
func (m *Machine) Now() clock.Time { return clock.Time(m.vcpu.Instructions() + m.skipped) }

// timerSet bounds the run in progress, since a timer was set that is due earlier.
func (m *Machine) timerSet(deadline clock.Time) {
	if m.outcome != nil {
		return // the run ends here
	}
	m.vcpu.SetDeadline(min(m.instructionsAt(deadline), m.limit()))
}

// instructionsAt returns the instruction count at which guest time will be t if the guest does not idle.
func (m *Machine) instructionsAt(t clock.Time) uint64 {
	if t == clock.Never {
		return ^uint64(0)
	}
	if s := m.cfg.TimerSlack; s != 0 {
		t = max(t, m.due+s)
	}
	if uint64(t) <= m.skipped {
		return 0
	}
	return uint64(t) - m.skipped
}

// end makes Run return o after the present instruction.
func (m *Machine) end(o Outcome) {
	if m.outcome == nil {
		m.outcome = &o
	}
	m.vcpu.SetDeadline(0)
}

// Input gives the guest bytes as if they had been typed on its serial console.
func (m *Machine) Input(p []byte) { m.InputTo(0, p) }

// InputTo gives the guest bytes on a serial port: 0 is the console's, COM1. Bytes for a port that the machine does not have
// are lost. It may be called from any goroutine.
func (m *Machine) InputTo(port int, p []byte) {
	if port >= len(m.board.serial) {
		return
	}
	m.mu.Lock()
	m.input[port] = append(m.input[port], p...)
	m.mu.Unlock()
	m.wake()
}

// EndInput says that there will be no more Input: a guest that waits for it would wait forever. It may be called from
// any goroutine.
func (m *Machine) EndInput() {
	m.inputEnded.Store(true)
	m.wake()
}

// wake interrupts the vCPU or the host's sleep.
func (m *Machine) wake() {
	select {
	case m.wakeup <- struct{}{}:
	default:
	}
	m.vcpu.Stop()
}

// Interrupt makes Run end with Interrupted soon. It may be called from any goroutine.
func (m *Machine) Interrupt() {
	m.interrupted.Store(true)
	m.wake()
}

// WaitFor makes Run end with Text when text has been printed on the console from now on; "" takes that back.
func (m *Machine) WaitFor(text string) {
	m.console.waitFor(text, func() { m.end(Outcome{Reason: Text}) })
}

// realtimeSlice bounds a run between looks at the host's clock, in instructions.
const realtimeSlice = 1_000_000

// Run runs the guest until something ends it: at the latest when budget instructions in all have been executed (0 for
// no bound) or ctx is done. It may be called again after an Outcome that left the guest alive.
func (m *Machine) Run(ctx context.Context, budget uint64) Outcome {
	if budget == 0 {
		budget = ^uint64(0)
	}
	return m.run(ctx, budget, false)
}

// RunToIdle is Run that ends with Idle as soon as the guest halts to wait for an interrupt.
func (m *Machine) RunToIdle(ctx context.Context, budget uint64) Outcome {
	m.endIdle = true
	defer func() { m.endIdle = false }()
	return m.Run(ctx, budget)
}

// Step executes one instruction for a debugger, or one iteration of a repeated string instruction: the outcome is
// Stepped if nothing else happened. No interrupt is taken before it, except that a halted guest sleeps until one comes
// and the step ends where its handler begins.
func (m *Machine) Step(ctx context.Context) Outcome {
	if m.accel != nil {
		return Outcome{Reason: Unsupported, Detail: "single steps need the emulator"}
	}
	return m.run(ctx, m.cpu.Instructions()+1, true)
}

// execute runs the vCPU for one turn of run.
func (m *Machine) execute(deadline uint64, step bool) vcpu.Exit {
	if step && !m.cpu.Halted() {
		return m.cpu.Step()
	}
	return m.vcpu.Run(deadline)
}

func (m *Machine) run(ctx context.Context, budget uint64, step bool) Outcome {
	stop := context.AfterFunc(ctx, m.wake)
	defer stop()
	m.board.budget = budget
	m.started, m.base = time.Now(), m.Now()
	realtime := m.cfg.Realtime && m.accel == nil // guest time is the host's with accel
	for {
		if m.queue.Next() <= m.Now() {
			m.due = m.Now()
		}
		m.queue.RunDue()
		m.takeInput()
		if o := m.takeOutcome(); o != nil {
			return *o
		}
		switch {
		case ctx.Err() != nil || m.interrupted.Swap(false):
			return Outcome{Reason: Interrupted}
		case m.vcpu.Instructions() >= budget && step:
			return Outcome{Reason: Stepped}
		case m.vcpu.Instructions() >= budget:
			return Outcome{Reason: Budget}
		}
		deadline := min(m.instructionsAt(m.queue.Next()), budget)
		if realtime {
			deadline = min(deadline, m.vcpu.Instructions()+realtimeSlice)
		}
		exit := m.execute(deadline, step)
		if realtime {
			m.catchUp()
		}
		if o := m.takeOutcome(); o != nil {
			o.Exit = exit
			return *o
		}
		switch exit.Reason {
		case vcpu.ExitDeadline, vcpu.ExitStopped:
		case vcpu.ExitHalt:
			if step && m.vcpu.Instructions() >= budget {
				continue
			}
			if o := m.idle(ctx); o != nil {
				o.Exit = exit
				return *o
			}
		case vcpu.ExitShutdown:
			return Outcome{Reason: TripleFault, Exit: exit, Detail: exit.Detail}
		case vcpu.ExitBreakpoint, vcpu.ExitWatchpoint:
			if handled, err := m.placeRegions(exit); err != nil {
				return Outcome{Reason: Unsupported, Exit: exit, Detail: err.Error()}
			} else if handled {
				continue
			}
			return Outcome{Reason: Breakpoint, Exit: exit}
		case vcpu.ExitRedirection:
			return Outcome{Reason: Redirection, Exit: exit, Detail: exit.Detail}
		default:
			return Outcome{Reason: Unsupported, Exit: exit, Detail: exit.Detail}
		}
	}
}

func (m *Machine) limit() uint64 { return m.board.budget }

func (m *Machine) takeOutcome() *Outcome {
	o := m.outcome
	m.outcome = nil
	return o
}

// takeInput moves typed bytes into the serial ports, as many as they take.
func (m *Machine) takeInput() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, u := range m.board.serial {
		if len(m.input[i]) > 0 {
			m.input[i] = m.input[i][u.Receive(m.input[i]):]
		}
	}
}

// idleTooLong is guest time after which a guest that no timer wakes counts as asleep for good.
const idleTooLong = clock.Time(24 * time.Hour)

// idle passes the time until the next timer, or waits for input if there is none.
func (m *Machine) idle(ctx context.Context) *Outcome {
	next := m.queue.Next()
	waits := m.cfg.Interactive && !m.inputEnded.Load() || m.cfg.Realtime
	switch {
	case !m.vcpu.InterruptsEnabled():
		return &Outcome{Reason: Halted, Detail: "the guest executed HLT with interrupts disabled"}
	case m.endIdle:
		return &Outcome{Reason: Idle}
	case next == clock.Never && !waits:
		return &Outcome{Reason: Idle, Detail: "the guest waits for an interrupt, no timer is set and no input can come"}
	}
	now := m.Now()
	if n := m.vcpu.Instructions(); n != m.idleAt {
		m.idleAt, m.idleSince = n, now
	}
	if next != clock.Never && next <= now {
		return nil
	}
	if !waits && now-m.idleSince > idleTooLong {
		return &Outcome{Reason: Idle, Detail: "a day of guest time has passed without an interrupt that the guest takes"}
	}
	switch {
	case m.accel != nil: // time goes on by itself, and counts against the budget
		m.sleep(ctx, m.accel.Until(min(m.instructionsAt(next), m.limit())))
	case waits:
		m.skipped += uint64(m.sleep(ctx, time.Duration(min(next-now, math.MaxInt64))))
	default:
		m.skipped += uint64(next - now)
	}
	return nil
}

// sleep lets host time d pass, or less if something comes, and returns how much has passed.
func (m *Machine) sleep(ctx context.Context, d time.Duration) time.Duration {
	begin := time.Now()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return d
	case <-m.wakeup:
	case <-ctx.Done():
	}
	return min(time.Since(begin), d)
}

// catchUp ties guest time to the host's: the guest is slower than one instruction a nanosecond, so time that has passed
// on the host is skipped in the guest.
func (m *Machine) catchUp() {
	host := m.base + clock.Time(time.Since(m.started))
	switch now := m.Now(); {
	case host > now:
		m.skipped += uint64(host - now)
	case now-host > clock.Time(time.Millisecond):
		time.Sleep(time.Duration(now - host))
	}
}

// ram adapts memory to the CPU.
type ram struct {
	*memory.Memory
	beyond func(pa uint64) *[4096]byte
}

// Page implements cpu.Memory.
func (r ram) Page(pa uint64) (*[4096]byte, bool) {
	if pa >= BeyondBase && r.beyond != nil {
		return r.beyond(pa), true
	}
	if p := r.Memory.Page(pa); p != nil {
		return p, true
	}
	return r.Memory.ReadPage(pa), false
}
