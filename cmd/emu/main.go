// Command emu runs and inspects virtual machines in a whole-system x86 emulator. This package parses and prints only;
// the machine is package core/machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
)

// Exit codes, documented in docs/guide.md.
const (
	exitOK          = 0
	exitError       = 1 // emu could not do what was asked
	exitUsage       = 2
	exitReset       = 3 // the guest reset the machine under --no-reboot
	exitTripleFault = 4
	exitBudget      = 5 // --budget is spent
	exitHalted      = 6 // the guest halted for good
	exitUnsupported = 7 // the guest needs something that emu does not implement
	exitSignal      = 128
)

// codedError carries the exit code of an end that is not emu's failure; err may be nil.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *codedError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	collectLater()
	os.Exit(run(os.Args[1:]))
}

// collectLater puts the first garbage collection off until the heap has 64 MiB: a run of a short tool ends before, and each collection that
// it would have had takes as long as opening the snapshot. From then on Go's own rule holds. GOGC in the environment is obeyed.
func collectLater() {
	const percent = 64 << 20 / (4 << 20) * 100 // at GOGC=100 the least heap is 4 MiB (runtime/mgcpacer.go)
	if os.Getenv("GOGC") != "" {
		return
	}
	was := debug.SetGCPercent(percent)
	// What nothing points to is found by the first collection.
	runtime.AddCleanup(new([64]byte), func(was int) { debug.SetGCPercent(was) }, was)
}

func run(args []string) int {
	ctx, stop := withSignals(context.Background())
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var coded *codedError
	if errors.As(err, &coded) {
		err = coded.err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "emu:", strings.TrimSuffix(err.Error(), "\n"))
	}
	if coded != nil {
		return coded.code
	}
	return exitCode(err)
}

// exitCode returns the exit code for what a command returned.
func exitCode(err error) int {
	var coded *codedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	}
	return exitError
}

// signalError is the cause of a context that a signal has cancelled.
type signalError struct{ signal syscall.Signal }

func (e signalError) Error() string { return "ended by signal: " + e.signal.String() }

// withSignals cancels the context when a signal asks for the end. A second one kills the process, in case the first has
// no effect.
func withSignals(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// Writes to a closed pipe return an error, so that the terminal can be restored.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		if s, ok := <-signals; ok {
			signal.Stop(signals)
			cancel(signalError{s.(syscall.Signal)})
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

func newRoot() *cobra.Command {
	var level string
	var inspecting inspectFlags
	var logger func() (hclog.Logger, error)
	root := &cobra.Command{
		Use:           "emu --snapshot FILE -- TOOL [ARGUMENT]...",
		Short:         "Run and inspect virtual machines in a whole-system x86 emulator",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if inspecting.snapshot != "" {
				return runInspect(cmd, &inspecting, logger, args)
			}
			if len(args) > 0 {
				return usageError("unknown command %q; \"emu help\" lists them", args[0])
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &codedError{exitUsage, err} })
	root.PersistentFlags().StringVar(&level, "log", "warn", "log level: trace, debug, info, warn, error, off")
	inspecting.add(root.Flags())
	root.Flags().SetInterspersed(false)
	logger = func() (hclog.Logger, error) {
		l := hclog.LevelFromString(level)
		if l == hclog.NoLevel {
			return nil, usageError("--log %s: the levels are trace, debug, info, warn, error and off", level)
		}
		return hclog.New(&hclog.LoggerOptions{Name: "emu", Level: l, Output: os.Stderr}), nil
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newRunCommand(logger), newDisasmCommand(), newSnapshotCommand(), newImageCommand(logger), newMetaCommand(),
		newExplainCommand(), newInspectCommand(logger), newTrainCommand(logger), newPolicyCommand(logger),
		newDoctorCommand(logger))
	return root
}
