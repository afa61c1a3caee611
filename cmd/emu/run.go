package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/cpu"
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
		Args: cobra.NoArgs,
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
	f.StringVar(&o.ramAbove, "ram-above", "", "place RAM above this physical address, beside what the kernel image needs")
	f.StringArrayVar(&o.drives, "drive", nil, "virtio disk: FILE[,format=raw|qcow2][,readonly][,snapshot] (repeatable)")
	f.StringVar(&o.serial, "serial", "stdio", "first serial port: stdio, file:FILE, unix:SOCKET or none")
	f.StringVar(&o.cpu, "cpu", "", "change the processor's features: +la57,-pcid,... (names as in /proc/cpuinfo)")
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
	}
	return nil
}

// config makes the machine's configuration but for the console.
func (o *runOptions) config(log hclog.Logger) (machine.Config, error) {
	cfg := machine.Config{
		CommandLine: o.commandLine, Realtime: o.realtime, DebugExit: o.debugExit, RNG: o.rng, Log: log,
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
	if o.load != "" {
		return cfg, nil
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
		if cfg.Layout, err = machine.DisjointLayout(cfg.Kernel, cfg.MemorySize, above); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

func runMachine(ctx context.Context, o *runOptions, log hclog.Logger) error {
	if err := o.check(); err != nil {
		return err
	}
	cfg, err := o.config(log)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	for {
		again, err := runOnce(ctx, o, cfg, signals)
		if err != nil || !again {
			return err
		}
		o.load = ""
	}
}

// runOnce runs one machine until it ends. again says that the guest wants a reboot.
func runOnce(ctx context.Context, o *runOptions, cfg machine.Config, signals <-chan os.Signal) (again bool, err error) {
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
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()

	ctx, quit := context.WithCancel(ctx)
	defer quit()
	keys := newKeys(m, quit)
	serial.start(keys)
	if o.gdb != "" {
		return false, serveGDB(ctx, m, o.gdb, cfg)
	}
	if o.saveWhen != "" {
		m.WaitFor(o.saveWhen)
	}
	begin := time.Now()
	out := m.Run(ctx, o.budget)
	for out.Reason == machine.Text || out.Reason == machine.Interrupted && keys.takeSave() {
		path := o.save
		if path == "" {
			path = "emu-" + time.Now().Format("20060102-150405") + ".snapshot"
		}
		if err := m.Save(path); err != nil {
			return false, err
		}
		keys.say("saved " + path)
		out = m.Run(ctx, o.budget)
	}
	serial.Close()
	if o.stats {
		printStats(os.Stderr, m, time.Since(begin))
	}
	return finish(o, cfg, m, out, keys, signals)
}

// finish turns an outcome into an exit code and says what happened.
func finish(o *runOptions, cfg machine.Config, m *machine.Machine, out machine.Outcome, keys *keys, signals <-chan os.Signal) (again bool, err error) {
	coded := func(code int) error {
		detail := ""
		if out.Detail != "" {
			detail = ": " + out.Detail
		}
		return &codedError{code, fmt.Errorf("%v%s\n%s", out.Reason, detail, m.Describe(machine.Symbols(cfg.Kernel)))}
	}
	switch out.Reason {
	case machine.PowerOff:
		return false, nil
	case machine.Reset:
		if o.noReboot || cfg.Kernel == nil {
			return false, coded(exitReset)
		}
		return true, nil
	case machine.TripleFault:
		return false, coded(exitTripleFault)
	case machine.DebugExit:
		return false, &codedError{int(out.Code)<<1&0xff | 1, nil}
	case machine.Budget:
		return false, coded(exitBudget)
	case machine.Halted, machine.Idle:
		return false, coded(exitHalted)
	case machine.Interrupted:
		if keys.quit.Load() {
			return false, nil
		}
		select {
		case s := <-signals:
			return false, &codedError{exitSignal + int(s.(syscall.Signal)), coded(0)}
		default:
			return false, coded(exitError)
		}
	}
	return false, coded(exitUnsupported)
}

// printStats prints the statistics of a run.
func printStats(w io.Writer, m *machine.Machine, d time.Duration) {
	s, devices := m.Statistics()
	n := m.CPU().Instructions()
	ratio := func(a, b uint64) float64 {
		if b == 0 {
			return 0
		}
		return 100 * float64(a) / float64(b)
	}
	fmt.Fprintf(w, "instructions      %d in %.2f s, %.1f MIPS; guest time %.3f s\n",
		n, d.Seconds(), float64(n)/d.Seconds()/1e6, float64(m.Now())/1e9)
	fmt.Fprintf(w, "blocks            %d executed, %d built, %.4f %% hits; %d pages of code dropped\n",
		s.BlocksExecuted, s.BlocksBuilt, 100-ratio(s.BlocksBuilt, s.BlocksExecuted), s.CodeDrops)
	fmt.Fprintf(w, "TLB               %d misses, one in %.0f instructions\n", s.TLBMisses, float64(n)/float64(max(s.TLBMisses, 1)))
	fmt.Fprintf(w, "interrupts        %d\n", s.Interrupts)
	for v, k := range s.Exceptions {
		if k > 0 {
			fmt.Fprintf(w, "exception %-7d %d\n", v, k)
		}
	}
	names := make([]string, 0, len(devices))
	for name := range devices {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(w, "exits %-11s %d\n", name, devices[name])
	}
}
