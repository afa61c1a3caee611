// Command emu runs and inspects virtual machines in a whole-system x86 emulator. This package parses and prints only;
// the machine is package core/machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
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

// exitError carries the exit code of an end that is not emu's failure.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var coded *codedError
	if errors.As(err, &coded) {
		if coded.err != nil {
			fmt.Fprintln(os.Stderr, "emu:", coded.err)
		}
		return coded.code
	}
	fmt.Fprintln(os.Stderr, "emu:", err)
	return exitError
}

func newRoot() *cobra.Command {
	var level string
	root := &cobra.Command{
		Use:           "emu",
		Short:         "Run and inspect virtual machines in a whole-system x86 emulator",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &codedError{exitUsage, err} })
	root.PersistentFlags().StringVar(&level, "log", "warn", "log level: trace, debug, info, warn, error, off")
	logger := func() (hclog.Logger, error) {
		l := hclog.LevelFromString(level)
		if l == hclog.NoLevel {
			return nil, usageError("--log %s: the levels are trace, debug, info, warn, error and off", level)
		}
		return hclog.New(&hclog.LoggerOptions{Name: "emu", Level: l, Output: os.Stderr}), nil
	}
	root.AddCommand(newRunCommand(logger), newDisasmCommand())
	return root
}
