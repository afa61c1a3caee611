package session

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/cpu"
)

// Agent is the guest's side: a script for Busybox's sh at /bin/busybox, which runs as root, with the environment for
// commands, once /proc and /dev are mounted and modules are loaded. It does not end.
//
//go:embed agent.sh
var Agent []byte

// AgentVersion grows when a machine with an older Agent, or one that lies elsewhere, no longer does.
const AgentVersion = 4

// Serial ports by their use.
const (
	portControl = 1 // COM2
	ports       = 3 // control, standard output, standard error
)

// DefaultBudget is how many instructions a command may take if Config says nothing.
const DefaultBudget = 50_000_000_000

// Config says how the host takes part.
type Config struct {
	// Budget is how many instructions one Run may take; 0 means DefaultBudget.
	Budget uint64
	// OnBudget is called when a command has taken its budget, and says how many instructions it may take beyond it; 0 ends it. It may be nil.
	OnBudget func() uint64
	// OnStart is called when the command's process is there, with its number in the guest, before the process executes the
	// command's file. The machine is stopped between two instructions, that process being the running one. It may be nil.
	OnStart func(pid int) error
	// OnOutcome is called for the ends of the machine's Run that the session does not know, such as machine.Breakpoint. If it
	// says handled, the machine goes on; else Run ends with an *EndError. It may be nil.
	OnOutcome func(machine.Outcome) (handled bool, err error)
	// Run runs the machine in place of its own Run if it is not nil.
	Run func(ctx context.Context, budget uint64) machine.Outcome
	// Console receives what the guest writes to its console; nil discards it.
	Console io.Writer
	// Accel is the machine's Config.Accel: what runs the guest in place of the emulator. It excludes Taint and Beyond, and the
	// budget is in nanoseconds.
	Accel machine.Accelerator
	// TimerSlack is the machine's Config.TimerSlack.
	TimerSlack clock.Time
	// Taint switches taint on.
	Taint *cpu.TaintOptions
	// Beyond is the machine's Config.Beyond: another machine's memory.
	Beyond func(pa uint64) *[4096]byte
	Log    hclog.Logger
}

// Session is a trusted VM whose agent waits for a command. Its methods belong to one goroutine.
type Session struct {
	cfg     Config
	m       *machine.Machine
	stdout  io.Writer
	stderr  io.Writer
	outErr  error
	console tail

	limit   uint64 // of the run in progress, in instructions
	partial []byte // an unfinished line on the control port
	lines   []string
}

// Errors of a session.
var (
	// ErrBudget is wrapped by the error for a command that took more instructions than it may.
	ErrBudget = errors.New("the command's instruction budget is spent")
	// ErrInput is the error for a command with standard input where the image's agent is of before 2026-11-23 and gives it none.
	ErrInput = errors.New("the trusted image is too old to give a command standard input: make it anew (emu image rm, emu image build)")
	// ErrCommand is wrapped by errors about a command that cannot be handed to the guest.
	ErrCommand = errors.New("impossible command")
)

// EndError says that the machine ended, for a reason that is not a session's.
type EndError struct {
	Outcome machine.Outcome
	Console string // the last of what the guest wrote to its console
}

// Error says why the machine ended and what its console shows.
func (e *EndError) Error() string {
	s := "the trusted VM ended: " + e.Outcome.Reason.String()
	if e.Outcome.Detail != "" {
		s += ": " + e.Outcome.Detail
	}
	if e.Console != "" {
		s += "; its console ends:\n" + e.Console
	}
	return s
}

// Open restores the machine that was saved at path, whose agent waits. Close it when done.
func Open(path string, cfg Config) (*Session, error) {
	return open(cfg, func(c machine.Config) (*machine.Machine, error) {
		c.Accel, c.TimerSlack, c.Taint, c.Beyond, c.Log = cfg.Accel, cfg.TimerSlack, cfg.Taint, cfg.Beyond, cfg.Log
		return machine.Load(path, c)
	})
}

// Boot starts the machine that c describes and waits until its agent is ready and the guest is idle. The session can be
// saved with the machine's Save, and opened. c's consoles are replaced.
func Boot(ctx context.Context, c machine.Config, cfg Config) (*Session, error) {
	s, err := open(cfg, func(own machine.Config) (*machine.Machine, error) {
		c.Console, c.Serial = own.Console, own.Serial
		return machine.New(c)
	})
	if err != nil {
		return nil, err
	}
	if err := s.boot(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func open(cfg Config, start func(machine.Config) (*machine.Machine, error)) (*Session, error) {
	if cfg.Budget == 0 {
		cfg.Budget = DefaultBudget
	}
	s := &Session{cfg: cfg}
	var err error
	s.m, err = start(machine.Config{Console: writer(s.print), Serial: []io.Writer{
		writer(s.control), writer(func(p []byte) { s.emit(s.stdout, p) }), writer(func(p []byte) { s.emit(s.stderr, p) }),
	}})
	if err != nil {
		return nil, err
	}
	if s.cfg.Run == nil {
		s.cfg.Run = s.m.Run
	}
	return s, nil
}

// Machine returns the trusted VM. It is stopped except during Run.
func (s *Session) Machine() *machine.Machine { return s.m }

// Close ends the trusted VM.
func (s *Session) Close() error { return s.m.Close() }

func (s *Session) boot(ctx context.Context) error {
	s.limit = s.m.VCPU().Instructions() + s.cfg.Budget
	line, err := s.next(ctx)
	switch {
	case err != nil:
		return err
	case line != "ready":
		return fmt.Errorf("the trusted VM's agent says %q and not that it is ready", line)
	}
	switch out := s.m.RunToIdle(ctx, s.limit); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case out.Reason != machine.Idle:
		return s.ended(out)
	}
	return nil
}

// Command is what Run runs.
type Command struct {
	// Argv is the program, looked up in PATH if it has no slash, and its arguments. No byte is special but 0.
	Argv []string
	// Env is added to the environment of the image, as NAME=VALUE.
	Env []string
	// Input is what the command's standard input has: a pipe with so many bytes. Without, it is /dev/null.
	Input []byte
	// Stdout and Stderr receive what the command writes; nil discards it.
	Stdout, Stderr io.Writer
}

// Run runs a command to its end and returns its exit code as a shell would: 128 and the number of the signal if one killed
// it, 127 if there is no such program, which Stderr then says. After an error the session is of no further use.
func (s *Session) Run(ctx context.Context, c Command) (exitCode int, err error) {
	line, err := c.line()
	if err != nil {
		return 0, err
	}
	s.stdout, s.stderr, s.outErr = c.Stdout, c.Stderr, nil
	s.m.InputTo(portControl, []byte(line))
	s.limit = s.m.VCPU().Instructions() + s.cfg.Budget
	fed := len(c.Input) == 0
	for {
		line, err := s.next(ctx)
		if err != nil {
			return 0, err
		}
		what, number, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil:
			return 0, fmt.Errorf("the trusted VM's agent says %q, which is neither a process nor an exit code", line)
		case what == "input":
			p, err := c.chunk(n)
			if err != nil {
				return 0, err
			}
			s.m.InputTo(portControl, p)
			fed = true
		case !fed:
			return 0, ErrInput
		case what == "exit":
			return n, s.outErr
		case what == "pid" && s.cfg.OnStart != nil:
			if err := s.cfg.OnStart(n); err != nil {
				return 0, err
			}
		}
	}
}

// Extend gives the command in progress n instructions more: those for which the machine was suspended.
func (s *Session) Extend(n uint64) { s.limit += n }

// extended asks for more of a budget that is spent.
func (s *Session) extended() bool {
	n := uint64(0)
	if s.cfg.OnBudget != nil {
		n = s.cfg.OnBudget()
	}
	s.limit += n
	return n > 0
}

// next runs the machine until the agent has said a line.
func (s *Session) next(ctx context.Context) (string, error) {
	for len(s.lines) == 0 {
		out := s.cfg.Run(ctx, s.limit)
		switch {
		case len(s.lines) > 0:
		case s.outErr != nil:
			return "", s.outErr
		case out.Reason == machine.Interrupted && ctx.Err() != nil:
			return "", context.Cause(ctx)
		case out.Reason == machine.Interrupted:
		case out.Reason == machine.Budget && s.m.VCPU().Instructions() < s.limit:
		case out.Reason == machine.Budget && s.extended():
		case out.Reason == machine.Budget:
			return "", fmt.Errorf("%w (%d instructions)", ErrBudget, s.cfg.Budget)
		default:
			if s.cfg.OnOutcome == nil {
				return "", s.ended(out)
			}
			handled, err := s.cfg.OnOutcome(out)
			if err != nil {
				return "", err
			}
			if !handled {
				return "", s.ended(out)
			}
		}
	}
	line := s.lines[0]
	s.lines = s.lines[1:]
	return line, nil
}

func (s *Session) ended(out machine.Outcome) error {
	return &EndError{Outcome: out, Console: strings.TrimSpace(string(s.console))}
}

// control takes what the agent says, and stops the machine after each line.
func (s *Session) control(p []byte) {
	s.partial = append(s.partial, p...)
	for {
		line, rest, ok := bytes.Cut(s.partial, []byte("\n"))
		if !ok {
			return
		}
		s.lines = append(s.lines, string(line))
		s.partial = rest
		s.m.Interrupt()
	}
}

// emit passes on what the command writes. An output that fails ends the run.
func (s *Session) emit(w io.Writer, p []byte) {
	if w == nil || s.outErr != nil {
		return
	}
	if _, s.outErr = w.Write(p); s.outErr != nil {
		s.m.Interrupt()
	}
}

func (s *Session) print(p []byte) {
	s.console.add(p)
	if s.cfg.Console != nil {
		_, _ = s.cfg.Console.Write(p)
	}
}

// tail is the last of a text.
type tail []byte

func (t *tail) add(p []byte) {
	const most = 4 << 10
	*t = append(*t, p...)
	if n := len(*t) - most; n > most {
		*t = append((*t)[:0], (*t)[n:]...)
	}
}

// writer is a function that takes output.
type writer func(p []byte)

// Write implements io.Writer.
func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}
