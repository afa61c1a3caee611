package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hybridbridge/emu/core/image"
	"github.com/hybridbridge/emu/core/inspect"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy/host"
	"github.com/hybridbridge/emu/core/session"
	"github.com/hybridbridge/emu/core/slowbridge"
)

// Exit codes of an inspection beside the tool's own, as timeout(1) and env(1) have them.
const (
	exitInspectBudget = 124 // the tool's instruction budget is spent
	exitInspect       = 125 // emu could not run the tool
)

// inspectFlags are those of emu inspect and of its short form.
type inspectFlags struct {
	snapshot, accel, views, switching, trace, stats, meta, plugins, stdin string
	budget                                                                uint64
	console, checkLayout, train                                           bool
}

func (i *inspectFlags) add(f *pflag.FlagSet) {
	f.StringVar(&i.accel, "accel", "soft", "what runs the trusted VM: soft (SLOW-BRIDGE), kvm (FAST-BRIDGE), or auto: KVM where it can be used")
	f.StringVar(&i.views, "views", "", "emu: FAST-BRIDGE on the emulator's vCPU, for debugging")
	f.StringVar(&i.switching, "switch", "inguest", "who deals with FAST-BRIDGE's int3: inguest, or exit for a VM exit and a switch of views each time, as in the paper")
	i.addCommon(f)
}

// addCommon adds the flags that emu train has too.
func (i *inspectFlags) addCommon(f *pflag.FlagSet) {
	f.StringVar(&i.snapshot, "snapshot", "", "memory snapshot of the untrusted machine, in any format of \"emu snapshot info\"")
	f.StringVar(&i.stats, "stats", "", "say what the run took on standard error: text or json")
	f.Lookup("stats").NoOptDefVal = "text"
	f.StringVar(&i.trace, "trace", "", "write the tool's system calls and their scopes to this file")
	f.StringVar(&i.stdin, "stdin", "", "give the tool this file as its standard input, - for that of emu; all of it is read before (default: the tool has none)")
	f.StringVar(&i.meta, "meta", "", "file of the Meta-Data, or none (default: emu/metadata.db below $XDG_DATA_HOME)")
	addPluginsFlag(f, &i.plugins)
	f.Uint64Var(&i.budget, "budget", 0, "instructions that the tool may take, or under KVM nanoseconds (default: the policy's, or 10 billion; under KVM 2 minutes)")
	f.BoolVar(&i.checkLayout, "check-layout", false, "compare what is redirected with whose memory the addresses mean, and list on standard error where they differ")
	f.BoolVar(&i.console, "console", false, "show the trusted kernel's console on standard error")
}

func newInspectCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	var flags inspectFlags
	c := &cobra.Command{
		Use:   "inspect --snapshot FILE [flags] -- TOOL [ARGUMENT]...",
		Short: "Run an inspection tool against a memory snapshot",
		Long: `Inspect runs a tool in a trusted VM in which kernel data is that of a memory snapshot: what it prints is what it would have
printed inside the machine of the snapshot. "emu --snapshot FILE -- TOOL" is short for it. The tool's standard output, standard error
and exit code are emu's. Whatever runs in the trusted image runs here, pipelines too: -- sh -c 'ps aux | grep sshd'.

The trusted image of the snapshot's kernel must have been made with "emu image build"; if there is none, emu says how.

Exit codes: the tool's own (126 if it cannot be executed, 127 if there is no such tool); 124 its instruction budget is
spent; 125 emu could not run it, or the snapshot leads nowhere (a finding); 2 usage; 128+n ended by signal n.`,
	}
	c.RunE = func(c *cobra.Command, args []string) error { return runInspect(c, &flags, logger, args) }
	flags.add(c.Flags())
	c.Flags().SetInterspersed(false)
	return c
}

func newTrainCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	flags := inspectFlags{accel: "soft", switching: "inguest", train: true}
	c := &cobra.Command{
		Use:   "train --snapshot FILE [flags] -- TOOL [ARGUMENT]...",
		Short: "Fill Meta-Data ahead of time: run a tool in SLOW-BRIDGE and leave its output aside",
		Long: `Train runs a tool as "emu inspect --accel=soft" does and keeps what is learned, so that FAST-BRIDGE need not stop for it. What the tool
prints is dropped, except for what it says on standard error. The exit codes are those of emu inspect.`,
		RunE: func(c *cobra.Command, args []string) error { return runInspect(c, &flags, logger, args) },
	}
	flags.addCommon(c.Flags())
	c.Flags().SetInterspersed(false)
	return c
}

func runInspect(c *cobra.Command, flags *inspectFlags, logger func() (hclog.Logger, error), args []string) error {
	switch {
	case flags.snapshot == "":
		return usageError("emu %s needs --snapshot FILE", c.Name())
	case len(args) == 0:
		return usageError("there is no tool to run; as in: emu --snapshot %s -- ps aux", flags.snapshot)
	case flags.views != "" && flags.views != "emu":
		return usageError("--views %s: it is emu", flags.views)
	case flags.switching != "inguest" && flags.switching != "exit":
		return usageError("--switch %s: it is inguest or exit", flags.switching)
	case flags.stats != "" && flags.stats != "text" && flags.stats != "json":
		return usageError("--stats %s: text or json", flags.stats)
	}
	log, err := logger()
	if err != nil {
		return err
	}
	code, err := inspectSnapshot(c, flags, log, args)
	var signal signalError
	switch {
	case errors.As(err, &signal):
		return &codedError{exitSignal + int(signal.signal), err}
	case errors.Is(err, session.ErrBudget):
		return &codedError{exitInspectBudget, err}
	case err != nil:
		return &codedError{exitInspect, err}
	case code != 0:
		return &codedError{code: code}
	}
	return nil
}

// inspectSnapshot returns the tool's exit code.
func inspectSnapshot(c *cobra.Command, flags *inspectFlags, log hclog.Logger, args []string) (code int, err error) {
	images, err := image.DefaultStore()
	if err != nil {
		return 0, err
	}
	input, err := readInput(c.Context(), flags.stdin)
	if err != nil {
		return 0, err
	}
	policies, err := openPolicies(flags.plugins, log)
	if err != nil {
		return 0, err
	}
	defer policies.Close()
	progress, done := statusLine(c.ErrOrStderr())
	quiet := func() { done(); done = func() {} }
	defer func() { quiet() }()
	o := inspect.Options{
		Began: processStart(), Snapshot: flags.snapshot, Argv: args, Input: input, Images: images, Policies: policies, Budget: flags.budget, Log: log, Progress: progress,
		CheckLayout: flags.checkLayout, Kernels: filepath.Join(filepath.Dir(images.Cache), "kernels"),
		// The first of the tool's output ends the progress line.
		Stdout: writerFunc(func(p []byte) (int, error) { quiet(); return c.OutOrStdout().Write(p) }),
		Stderr: writerFunc(func(p []byte) (int, error) { quiet(); return c.ErrOrStderr().Write(p) }),
	}
	if o.Accel, err = chooseAccel(flags.accel, log); err != nil {
		return 0, err
	}
	switch {
	case flags.views == "emu":
		o.Fast, o.Accel = inspect.FastEmulated, nil
	case o.Accel != nil:
		o.Fast = inspect.FastKVM
	}
	o.ExitSwitching = flags.switching == "exit"
	if flags.train {
		o.Stdout = io.Discard
	}
	switch {
	case flags.meta == "none" && flags.train:
		return 0, usageError("emu train keeps what it learns: --meta none leaves it nowhere")
	case flags.meta != "none":
		o.MetaData = &metadata.Store{Path: flags.meta}
		if flags.meta == "" {
			if o.MetaData.Path, err = metadata.DefaultPath(); err != nil {
				return 0, err
			}
		}
	}
	if flags.console {
		o.Console = c.ErrOrStderr()
	}
	if flags.trace != "" {
		f, err := os.Create(flags.trace)
		if err != nil {
			return 0, err
		}
		w := bufio.NewWriter(f)
		o.Trace = w
		defer func() {
			if e := errors.Join(w.Flush(), f.Close()); e != nil {
				err = errors.Join(err, fmt.Errorf("--trace: %w", e))
			}
		}()
	}
	res, err := inspect.Run(c.Context(), o)
	quiet()
	if l := res.Stats.Layout; l != nil && flags.stats != "json" {
		printLayout(c.ErrOrStderr(), l)
	}
	if flags.stats != "" {
		printInspectStats(c.ErrOrStderr(), flags.stats, &inspectStats{res.Stats, len(res.Stats.Pages), policies.Stats()})
	}
	return res.ExitCode, err
}

// mostInput bounds the tool's standard input, which is held in memory for FALLBACK's runs of the tool.
const mostInput = 64 << 20

// readInput reads the tool's standard input, which may take until somebody has typed it.
func readInput(ctx context.Context, path string) ([]byte, error) {
	f := os.Stdin
	if path == "" {
		return nil, nil
	}
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, fmt.Errorf("--stdin: %w", err)
		}
		defer f.Close()
	}
	var b []byte
	var err error
	done := make(chan struct{})
	go func() {
		b, err = io.ReadAll(io.LimitReader(f, mostInput+1))
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("--stdin: %w", err)
	case len(b) > mostInput:
		return nil, fmt.Errorf("--stdin %s: it has more than %d MiB", path, mostInput>>20)
	}
	return b, nil
}

// chooseAccel returns KVM's vCPUs if they are wanted and can be had, else nil.
func chooseAccel(accel string, log hclog.Logger) (machine.Accelerator, error) {
	host, err := chooseKVM(accel, log)
	if host == nil {
		return nil, err
	}
	return accelerator(log), nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// inspectStats is what a run took, and what of that its policies took.
type inspectStats struct {
	inspect.Stats
	PagesRead int         `json:"snapshot_pages"`
	Plugins   []host.Stat `json:"plugins"`
}

// printLayout lists what the referee of the disjoint layout found.
func printLayout(w io.Writer, l *slowbridge.Layout) {
	fmt.Fprintf(w, "layout        %d operands in the snapshot's memory, %d in the trusted VM's, %d of them wrong, in %d instructions\n",
		l.Snapshot, l.Local, l.Wrong, len(l.Sites))
	for _, d := range l.Sites {
		fmt.Fprintf(w, "  %7d  %#x  %s  %s  at %#x, the %s's: %s by %s; from %s\n", d.Count, d.Address, d.Symbol, d.Disassembly, d.Accessed,
			d.Owner, d.Route, d.Reason, d.Caller)
	}
}

// mostCalls is how many system calls are listed for people.
const mostCalls = 12

func printInspectStats(w io.Writer, form string, s *inspectStats) {
	if form == "json" {
		_ = json.NewEncoder(w).Encode(s)
		return
	}
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	t := &s.Times
	fmt.Fprintf(w, "time          start %v, identify %v, image %v, policy %v, restore %v, spawn %v, connect %v, run %v, learn %v\n",
		round(t.Start), round(t.Identify), round(t.Image), round(t.Policy), round(t.Restore), round(t.Spawn), round(t.Connect), round(t.Run-t.Spawn), round(t.Learn))
	if t.First > 0 {
		fmt.Fprintf(w, "first call    of the tool %v after the start of emu\n", round(t.First))
	}
	fmt.Fprintf(w, "instructions  %d, of them %d in %d scopes\n", s.Instructions, s.Redirection.Instructions, s.Redirection.Scopes)
	if f := s.Fast; f != nil {
		fmt.Fprintf(w, "FAST-BRIDGE   %d system calls in scopes of %d looked at; %d views switched, %d instructions on aliases by int3; %d local functions called, %d interrupts\n",
			f.Scopes, f.Syscalls, f.Switches, f.Displaced, f.Subtrees, f.Interrupts)
		fmt.Fprintf(w, "exits         %d in all: %d of system calls, %d of pages, %d instructions interpreted, %d derived, %d unknown, %d trainings (%v)\n",
			f.Exits, f.Syscalls-f.Chosen, f.Faults, f.Interpreted, f.Derived, f.Unknown, f.Trainings, round(f.Fallback))
		fmt.Fprintf(w, "sites         ")
		for _, c := range slices.Sorted(maps.Keys(f.Sites)) {
			fmt.Fprintf(w, "%s %d  ", c, f.Sites[c])
		}
		fmt.Fprintf(w, "\ncalls         ")
		for i, c := range f.Calls {
			if i == mostCalls {
				fmt.Fprintf(w, "\n              and %d more (--stats=json has all)", len(f.Calls)-i)
				break
			}
			if i > 0 {
				fmt.Fprintf(w, "\n              ")
			}
			fmt.Fprintf(w, "%-30s %6d calls, %6d switches, %6d on aliases by int3, %5d exits", metadata.ScopeID{Syscall: c.Syscall, Name: c.Scope}, c.Calls, c.Switches, c.Displaced, c.Exits)
		}
		if len(s.Exits) > 0 {
			fmt.Fprintf(w, "\nKVM           ")
			for _, c := range slices.Sorted(maps.Keys(s.Exits)) {
				fmt.Fprintf(w, "%s %d  ", c, s.Exits[c])
			}
		}
		fmt.Fprintf(w, "\nspent         %v in emu, %v in FALLBACK, the rest in the guest\n", round(f.Host), round(f.Fallback))
		if s.Asked > 0 {
			fmt.Fprintf(w, "policy        handlers asked about %d instructions\n", s.Asked)
		}
		printPlugins(w, s.Plugins)
		return
	}
	fmt.Fprintf(w, "redirected    %d accesses, %d pages of the snapshot\n", s.Redirection.Routed, s.PagesRead)
	fmt.Fprintf(w, "policy        handlers asked about %d instructions, %d looked at, %d calls elided, %d locks set free, %d branches checked\n",
		s.Asked, s.Redirection.Plans, s.Redirection.Elided, s.Redirection.Locks, s.Redirection.Branches)
	printPlugins(w, s.Plugins)
	fmt.Fprintf(w, "Meta-Data     %d instructions recorded, %d new conflicts\n", s.Recorded, s.Conflicts)
}

// printPlugins prints which policies were started.
func printPlugins(w io.Writer, plugins []host.Stat) {
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	for _, p := range plugins {
		if p.Start > 0 {
			fmt.Fprintf(w, "plugin        %s: started in %v, %d calls about %d sites took %v\n", p.Plugin, round(p.Start), p.Calls, p.Sites, round(p.Time))
		}
	}
}
