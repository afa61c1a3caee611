package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/gdb"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/kvmaccel"
)

type runOptions struct {
	kernel, initrd, commandLine string
	memory                      string
	ramAbove                    string
	drives                      []string
	serial                      string
	save, saveWhen, load        string
	gdb                         string
	stats, noReboot, realtime   bool
	taint                       bool
	budget                      uint64
	debugExit, debugConsole     bool
	rng                         bool
	cpu                         string
	virtioConsole               string
	seed                        uint64
	kernelStub                  bool
	shifts                      string
	accel                       string
}

func newRunCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run --kernel FILE | --load FILE",
		Short: "Boot a kernel, or go on from a snapshot",
		Long: `Run boots a Linux kernel (bzImage), an ELF or a multiboot image, or goes on from a snapshot, until the guest powers off.

On a terminal, Ctrl-A x quits, Ctrl-A s saves a snapshot, Ctrl-A h lists the keys.

Exit codes: 0 power-off; 1 error; 2 usage; 3 reset under --no-reboot; 4 triple fault; 5 budget spent; 6 halted for good;
7 not implemented by emu; 128+n ended by signal n. With --debug-exit, a guest that writes v to port 0xf4 ends the run with
2v+1.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("emu run takes flags only, not %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger()
			if err != nil {
				return err
			}
			return runMachine(cmd.Context(), &o, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kernel, "kernel", "", "kernel image: bzImage, ELF or multiboot")
	f.StringVar(&o.initrd, "initrd", "", "initial RAM disk")
	f.StringVar(&o.commandLine, "append", "console=ttyS0", "kernel command line")
	f.StringVar(&o.memory, "memory", "512M", "size of RAM")
	f.StringVar(&o.ramAbove, "ram-above", "", "place RAM above this physical address, beside the first MiB")
	f.StringArrayVar(&o.drives, "drive", nil, "virtio disk: FILE[,format=raw|qcow2][,readonly][,snapshot] (repeatable)")
	f.StringVar(&o.serial, "serial", "stdio", "first serial port: stdio, file:FILE, unix:SOCKET or none")
	f.StringVar(&o.cpu, "cpu", "", "change the processor's features: +la57,-pcid,... (names as in /proc/cpuinfo)")
	f.StringVar(&o.accel, "accel", "soft", "what runs the guest: soft (the emulator, whose runs repeat), kvm, or auto (kvm if it can be used)")
	f.BoolVar(&o.rng, "rng", false, "plug in a virtio random generator, whose numbers repeat")
	f.StringVar(&o.virtioConsole, "virtio-console", "", "plug in a virtio console that writes to this file")
	f.StringVar(&o.save, "save", "", "where to save a snapshot")
	f.StringVar(&o.saveWhen, "save-when", "", "save when this text appears on the console, and go on")
	f.StringVar(&o.load, "load", "", "go on from this snapshot")
	f.StringVar(&o.gdb, "gdb", "", "wait for gdb at this address (host:port or unix:SOCKET)")
	f.BoolVar(&o.stats, "stats", false, "print statistics at the end")
	f.BoolVar(&o.noReboot, "no-reboot", false, "end when the guest resets the machine")
	f.BoolVar(&o.realtime, "realtime", false, "tie guest time to the host's clock; runs then do not repeat")
	f.BoolVar(&o.taint, "taint", false, "keep track of taint (nothing is tainted at first)")
	f.Uint64Var(&o.seed, "seed", 0, "start of all that is random in the machine; runs with the same seed are the same")
	f.BoolVar(&o.kernelStub, "kernel-stub", false, "let the kernel unpack itself instead of unpacking it on the host")
	f.StringVar(&o.shifts, "shifts", "", "place the kernel: text=N,phys_base=N,page_offset=N,vmalloc=N,vmemmap=N, as a snapshot of it tells them")
	f.Uint64Var(&o.budget, "budget", 0, "end after this many instructions (0: no bound)")
	f.BoolVar(&o.debugExit, "debug-exit", false, "offer the debug-exit port 0xf4")
	f.BoolVar(&o.debugConsole, "debug-console", false, "print what the guest writes to port 0xe9 on stderr")
	return cmd
}

// check reports flags that do not fit together.
func (o *runOptions) check() error {
	switch {
	case o.kernel == "" && o.load == "":
		return usageError("emu run needs --kernel FILE or --load FILE")
	case o.kernel != "" && o.load != "":
		return usageError("--kernel and --load exclude each other: a snapshot holds the kernel")
	case o.saveWhen != "" && o.save == "":
		return usageError("--save-when needs --save FILE")
	case o.accel == "kvm" && (o.gdb != "" || o.taint):
		return usageError("--gdb and --taint need the emulator: --accel=soft")
	}
	return nil
}

// config makes the machine's configuration but for the console.
func (o *runOptions) config(log hclog.Logger) (machine.Config, error) {
	cfg := machine.Config{
		CommandLine: o.commandLine, Realtime: o.realtime, DebugExit: o.debugExit, RNG: o.rng, Log: log,
		Seed: o.seed, KernelStub: o.kernelStub,
	}
	if o.shifts != "" {
		var err error
		if cfg.Shifts, err = parseShifts(o.shifts); err != nil {
			return cfg, &codedError{exitUsage, err}
		}
	}
	if o.debugConsole {
		cfg.DebugConsole = os.Stderr
	}
	if o.taint {
		cfg.Taint = &cpu.TaintOptions{}
	}
	for _, s := range o.drives {
		d, err := parseDrive(s)
		if err != nil {
			return cfg, &codedError{exitUsage, err}
		}
		cfg.Drives = append(cfg.Drives, d)
	}
	var err error
	if cfg.MemorySize, err = parseSize(o.memory); err != nil {
		return cfg, usageError("--memory: %w", err)
	}
	if cfg.CPU.Features, cfg.CPU.Model, err = cpu.ParseModel(o.cpu); err != nil {
		return cfg, usageError("--cpu: %w", err)
	}
	if err := o.accelerate(&cfg, log); err != nil || o.load != "" {
		return cfg, err
	}
	if cfg.Kernel, err = os.ReadFile(o.kernel); err != nil {
		return cfg, err
	}
	if o.initrd != "" {
		if cfg.Initrd, err = os.ReadFile(o.initrd); err != nil {
			return cfg, err
		}
	}
	if o.ramAbove != "" {
		above, err := parseSize(o.ramAbove)
		if err != nil {
			return cfg, usageError("--ram-above: %w", err)
		}
		if cfg.Layout, err = memory.Disjoint(cfg.MemorySize, above, memory.Options{}); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// accelerate has KVM run the guest if that is wanted. A model of processor that nobody has asked for gives up what KVM lacks.
func (o *runOptions) accelerate(cfg *machine.Config, log hclog.Logger) error {
	if o.accel == "auto" && (o.gdb != "" || o.taint) {
		log.Info("running in the emulator, which --gdb and --taint need")
		return nil
	}
	host, err := chooseKVM(o.accel, log)
	if host == nil {
		return err
	}
	if o.load == "" && o.cpu == "" {
		var dropped []string
		if cfg.CPU, dropped, _ = cfg.CPU.Fit(host); dropped != nil {
			log.Warn("the processor goes without what KVM lacks here", "features", strings.Join(dropped, " "))
		}
	}
	cfg.Accel = accelerator(log)
	return nil
}

// chooseKVM returns what CPUID can report under KVM, nil if KVM is not wanted or, with auto, cannot be used.
func chooseKVM(accel string, log hclog.Logger) ([]vcpu.CPUIDLeaf, error) {
	if accel == "soft" {
		return nil, nil
	}
	if accel != "kvm" && accel != "auto" {
		return nil, usageError("--accel %s: it is soft, kvm or auto", accel)
	}
	host, err := kvmaccel.SupportedCPUID()
	if err != nil && accel == "auto" {
		log.Warn("running in the emulator", "reason", err)
		return nil, nil
	}
	return host, err
}

// accelerator makes vCPUs of KVM's.
func accelerator(log hclog.Logger) machine.Accelerator {
	return func(model *cpu.CPU, p vcpu.Platform) (vcpu.Accelerated, error) {
		v, err := kvmaccel.New(kvmaccel.Config{Model: model, Platform: p, Log: log})
		if err != nil {
			return nil, err
		}
		return v, nil
	}
}

func runMachine(ctx context.Context, o *runOptions, log hclog.Logger) error {
	if err := o.check(); err != nil {
		return err
	}
	cfg, err := o.config(log)
	if err != nil {
		return err
	}
	if o.save != "" {
		if err := checkSavePath(o.save); err != nil {
			return err
		}
	}
	r := &runner{options: o, config: cfg}
	if o.gdb != "" {
		if r.gdb, err = listenGDB(o.gdb, log); err != nil {
			return err
		}
		defer r.gdb.Close()
	}
	for {
		again, err := r.once(ctx)
		if err != nil || !again {
			if r.gdb != nil {
				r.gdb.Exited(exitCode(err))
			}
			return err
		}
		log.Info("the guest resets the machine: starting again")
		o.load = ""
	}
}

// checkSavePath reports early that a snapshot cannot be saved, not after an hour of running.
func checkSavePath(path string) error {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return fmt.Errorf("--save %s: is a directory", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("--save %s: %w", path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// runner runs machines: one, and another after each reset.
type runner struct {
	options *runOptions
	config  machine.Config
	gdb     *gdb.Server // nil if no debugger is wanted
	saved   bool        // the snapshot that --save-when asks for
}

// once runs one machine until it ends. again says that the guest wants a reboot.
func (r *runner) once(ctx context.Context) (again bool, err error) {
	o, cfg := r.options, r.config
	serial, err := openSerial(o.serial)
	if err != nil {
		return false, err
	}
	defer serial.Close()
	if o.virtioConsole != "" {
		f, err := os.Create(o.virtioConsole)
		if err != nil {
			return false, err
		}
		defer f.Close()
		cfg.VirtioConsole = f
	}
	cfg.Console, cfg.Interactive = serial, serial.interactive
	var m *machine.Machine
	if o.load != "" {
		m, err = machine.Load(o.load, cfg)
	} else {
		m, err = machine.New(cfg)
		if errors.Is(err, boot.ErrNotKernel) || errors.Is(err, boot.ErrTruncated) {
			err = fmt.Errorf("%s: %w", o.kernel, err)
		}
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()

	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keys := newKeys(m, func() { cancel(errQuit) })
	serial.failed = func(err error) { cancel(fmt.Errorf("console: %w", err)) }
	serial.start(keys)
	if o.saveWhen != "" && !r.saved {
		m.WaitFor(o.saveWhen)
	}
	run := m.Run
	if r.gdb != nil {
		r.gdb.Attach(m, machine.Symbols(cfg.Kernel))
		run = r.gdb.Run
	}
	begin, first := time.Now(), m.VCPU().Instructions()
	out := run(runCtx, o.budget)
	for out.Reason == machine.Text || out.Reason == machine.Interrupted && runCtx.Err() == nil {
		if out.Reason == machine.Text {
			if err := m.Save(o.save); err != nil {
				return false, err
			}
			r.saved = true
			keys.say("saved " + o.save)
		} else if keys.takeSave() {
			r.saveForUser(m, keys)
		}
		out = run(runCtx, o.budget)
	}
	serial.Close()
	if o.stats {
		printStats(os.Stderr, m, first, time.Since(begin))
	}
	return r.finish(m, out, context.Cause(runCtx))
}

// saveForUser saves as a person asked with Ctrl-A s. A failure is told, and the guest goes on.
func (r *runner) saveForUser(m *machine.Machine, keys *keys) {
	path := r.options.save
	if path == "" {
		path = "emu-" + time.Now().Format("20060102-150405") + ".snapshot"
	}
	if err := m.Save(path); err != nil {
		keys.say(err.Error())
		return
	}
	keys.say("saved " + path)
}

// errQuit is the cause of a run that a person ended with Ctrl-A x.
var errQuit = errors.New("quit")

// finish turns an outcome into an exit code and says what happened. cause is why the context was cancelled, if it was.
func (r *runner) finish(m *machine.Machine, out machine.Outcome, cause error) (again bool, err error) {
	coded := func(code int) error {
		detail := ""
		if out.Detail != "" {
			detail = ": " + out.Detail
		}
		t := machine.Symbols(r.config.Kernel)
		if t == nil {
			t = m.KernelSymbols()
		}
		return &codedError{code, fmt.Errorf("%v%s\n%s", out.Reason, detail, m.Describe(t))}
	}
	var sig signalError
	switch out.Reason {
	case machine.PowerOff:
		return false, r.missedSave()
	case machine.Reset:
		if r.options.noReboot || r.config.Kernel == nil {
			return false, coded(exitReset)
		}
		return true, nil
	case machine.TripleFault:
		return false, coded(exitTripleFault)
	case machine.DebugExit:
		return false, &codedError{int(out.Code)<<1&0xff | 1, r.missedSave()}
	case machine.Budget:
		return false, coded(exitBudget)
	case machine.Halted, machine.Idle:
		return false, coded(exitHalted)
	case machine.Killed:
		return false, nil
	case machine.Interrupted:
		switch {
		case errors.Is(cause, errQuit):
			return false, nil
		case errors.As(cause, &sig):
			out.Detail = sig.Error()
			return false, coded(exitSignal + int(sig.signal))
		}
		return false, cause
	}
	return false, coded(exitUnsupported)
}

// missedSave is the error of a run in which the text of --save-when was never printed.
func (r *runner) missedSave() error {
	if r.options.saveWhen == "" || r.saved {
		return nil
	}
	return fmt.Errorf("--save-when: %q was never printed on the console, so nothing was saved", r.options.saveWhen)
}

// printStats prints the statistics of a run that began with instruction first.
func printStats(w io.Writer, m *machine.Machine, first uint64, d time.Duration) {
	s, exits := m.Statistics()
	n := m.VCPU().Instructions()
	did := n - first
	if kvm, ok := m.VCPU().(interface{ Exits() map[string]uint64 }); ok {
		fmt.Fprintf(w, "guest time        %.3f s, of which %.3f s in %.2f s under KVM\n", float64(m.Now())/1e9, float64(did)/1e9, d.Seconds())
		for cause, k := range kvm.Exits() {
			exits["KVM: "+cause] = k
		}
	} else {
		ratio := func(a, b uint64) float64 { return 100 * float64(a) / float64(max(b, 1)) }
		fmt.Fprintf(w, "instructions      %d, of which %d in %.2f s, %.1f MIPS; guest time %.3f s\n",
			n, did, d.Seconds(), float64(did)/d.Seconds()/1e6, float64(m.Now())/1e9)
		fmt.Fprintf(w, "blocks            %d executed, %d built, %.4f %% hits; %d pages of code dropped\n",
			s.BlocksExecuted, s.BlocksBuilt, 100-ratio(s.BlocksBuilt, s.BlocksExecuted), s.CodeDrops)
		fmt.Fprintf(w, "TLB               %d misses, one in %.0f instructions\n", s.TLBMisses, float64(did)/float64(max(s.TLBMisses, 1)))
		fmt.Fprintf(w, "interrupts        %d\n", s.Interrupts)
		for v, k := range s.Exceptions {
			if k > 0 {
				fmt.Fprintf(w, "exception %-7d %d\n", v, k)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(exits)) {
		fmt.Fprintf(w, "exits %-11s %d\n", name, exits[name])
	}
}
