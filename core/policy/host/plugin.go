package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/protocol"
)

// Error is what a plugin did wrong.
type Error struct {
	Plugin string
	Path   string
	Err    error
}

// Error names the plugin.
func (e *Error) Error() string {
	return fmt.Sprintf("policy plugin %s (%s): %v", e.Plugin, e.Path, e.Err)
}

// Unwrap returns what was wrong.
func (e *Error) Unwrap() error { return e.Err }

// What a plugin can do wrong; errors of Plugin and Host wrap one of these in an Error.
var (
	ErrStart    = errors.New("did not start")
	ErrChecksum = errors.New("is not the program whose checksum the manifest has")
	ErrCrash    = errors.New("ended when it was asked")
	ErrHang     = errors.New("did not answer in time")
	ErrNonsense = errors.New("answered nonsense")
)

// Stat is what a plugin has been asked.
type Stat struct {
	Plugin string `json:"plugin"`
	// Calls are questions, about so many Sites (kernels, for a kernel policy; none, for what a handler wants to be asked about).
	Calls int `json:"calls"`
	Sites int `json:"sites"`
	// Start is how long it took to start, 0 if nobody has asked it; Time is how long all calls took.
	Start time.Duration `json:"start_ns"`
	Time  time.Duration `json:"time_ns"`
}

// closeGrace is how long a program has to end when it is asked to.
const closeGrace = 2 * time.Second

// Plugin is one program. It is started by the first question. It is safe for concurrent use.
type Plugin struct {
	Entry
	// Path is where it is.
	Path     string
	deadline time.Duration
	log      hclog.Logger

	mu     sync.Mutex
	cmd    *exec.Cmd
	client *plugin.Client
	impl   any
	broken error
	words  *output
	stat   Stat
}

// Start starts the program unless it runs already. A program that failed once is not started again: the error is the same.
func (p *Plugin) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil || p.client != nil {
		return p.broken
	}
	since := time.Now()
	if err := p.start(); err != nil {
		return p.fail(err)
	}
	p.stat.Start = time.Since(since)
	return nil
}

func (p *Plugin) start() error {
	sum, err := hex.DecodeString(p.SHA256)
	if err != nil {
		return err
	}
	p.words = &output{log: p.log}
	p.cmd = exec.Command(p.Path)
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: protocol.Handshake(), VersionedPlugins: protocol.Plugins(nil, nil),
		Cmd: p.cmd, SecureConfig: &plugin.SecureConfig{Checksum: sum, Hash: sha256.New()},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, AutoMTLS: true,
		// Without a logger, go-plugin leaves what the program writes to us; its own parser panics if a message is no string.
		StartTimeout: p.deadline, Stderr: p.words, SyncStderr: p.words, Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
	})
	connection, err := p.client.Client()
	switch {
	case errors.Is(err, plugin.ErrChecksumsDoNotMatch):
		return fmt.Errorf("%w; if it was changed on purpose, \"emu policy manifest DIR\" notes the new one", ErrChecksum)
	case err != nil:
		return fmt.Errorf("%w: %w%s", ErrStart, err, p.words)
	}
	if p.impl, err = connection.Dispense(string(p.Kind)); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	return nil
}

// fail ends a program that did something wrong. The caller holds the lock.
func (p *Plugin) fail(err error) error {
	p.broken = &Error{Plugin: p.Name, Path: p.Path, Err: err}
	p.end(0)
	return p.broken
}

// end ends the program, after so long even if it does not react at all. When it returns, all that it said has been read.
func (p *Plugin) end(grace time.Duration) {
	if p.client == nil {
		return
	}
	if p.cmd.Process != nil {
		// An error says that it is gone already.
		defer time.AfterFunc(grace, func() { _ = p.cmd.Process.Kill() }).Stop()
	}
	p.client.Kill()
}

// Close ends the program.
func (p *Plugin) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = &Error{Plugin: p.Name, Path: p.Path, Err: errors.New("was asked after it was closed")}
	}
	p.end(closeGrace)
}

// Stat returns what the plugin has been asked.
func (p *Plugin) Stat() Stat {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stat
	s.Plugin = p.Name
	return s
}

// ask starts the program, asks it about n things, and blames it for what goes wrong. The function returns an error that
// wraps ErrNonsense if the answer is.
func (p *Plugin) ask(ctx context.Context, n int, f func(context.Context) error) error {
	if err := p.Start(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, p.deadline)
	defer cancel()
	since := time.Now()
	err := f(limited)
	took := time.Since(since)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stat.Calls++
	p.stat.Sites += n
	p.stat.Time += took
	if err == nil || p.broken != nil {
		return errors.Join(err, p.broken)
	}
	var enum *protocol.EnumError
	switch code := status.Code(err); {
	case errors.Is(err, ErrNonsense):
	case errors.As(err, &enum):
		err = fmt.Errorf("%w: %w", ErrNonsense, err)
	case limited.Err() != nil, code == codes.DeadlineExceeded:
		p.end(0)
		err = fmt.Errorf("%w: %v are over%s", ErrHang, p.deadline, p.words)
	case code == codes.Unavailable, p.client.Exited():
		p.end(0)
		err = fmt.Errorf("%w%s", ErrCrash, p.words)
	case code == codes.Unimplemented:
		err = fmt.Errorf("%w: it is no %s, as the manifest says", ErrNonsense, p.Kind)
	default:
		err = fmt.Errorf("%w: %w", ErrNonsense, err)
	}
	return p.fail(err)
}

// Describe asks a kernel policy. The answer is as it gave it: it may be there to extend another's.
func (p *Plugin) Describe(ctx context.Context, k policy.Kernel) (policy.Policy, error) {
	var answer policy.Policy
	err := p.ask(ctx, 1, func(ctx context.Context) (err error) {
		impl, ok := p.impl.(protocol.KernelPolicy)
		if !ok {
			return fmt.Errorf("%w: it is a %s and was asked about a kernel", ErrNonsense, p.Kind)
		}
		answer, err = impl.Describe(ctx, k)
		return err
	})
	return answer, err
}

// Interests asks a handler what it wants to be asked about.
func (p *Plugin) Interests(ctx context.Context) ([]policy.Interest, error) {
	var answer []policy.Interest
	err := p.ask(ctx, 0, func(ctx context.Context) (err error) {
		impl, ok := p.impl.(protocol.Handler)
		if !ok {
			return fmt.Errorf("%w: it is a %s policy and was asked about instructions", ErrNonsense, p.Kind)
		}
		if answer, err = impl.Interests(ctx); err != nil {
			return err
		}
		for i := range answer {
			if err := answer[i].Validate(); err != nil {
				return fmt.Errorf("%w: %w", ErrNonsense, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// Plan asks a handler. There is a plan for each site, and it fits the site.
func (p *Plugin) Plan(ctx context.Context, sites []policy.Site) ([]policy.Plan, error) {
	var answer []policy.Plan
	err := p.ask(ctx, len(sites), func(ctx context.Context) (err error) {
		impl, ok := p.impl.(protocol.Handler)
		if !ok {
			return fmt.Errorf("%w: it is a %s policy and was asked about instructions", ErrNonsense, p.Kind)
		}
		if answer, err = impl.Plan(ctx, sites); err != nil {
			return err
		}
		if len(answer) != len(sites) {
			return fmt.Errorf("%w: %d plans for %d sites", ErrNonsense, len(answer), len(sites))
		}
		for i := range answer {
			if err := fits(&answer[i], &sites[i]); err != nil {
				return fmt.Errorf("%w at %s+%#x (%s): %w", ErrNonsense, sites[i].Symbol, sites[i].Offset, sites[i].Disassembly, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// fits reports what about a plan cannot be done at its site.
func fits(p *policy.Plan, s *policy.Site) error {
	if p.Routes != nil && len(p.Routes) != len(s.Operands) {
		return fmt.Errorf("%d routes for %d operands", len(p.Routes), len(s.Operands))
	}
	for i, r := range p.Routes {
		if o := &s.Operands[i]; r == policy.Snapshot && o.Route == policy.Local && (o.Reason == policy.ByUser || o.Reason == policy.ByStack) {
			return fmt.Errorf("the snapshot has no %s, where the %s is", o.Text, o.Reason)
		}
	}
	if p.Elide && p.Frozen != nil {
		return errors.New("it is elided and yields a frozen value")
	}
	if p.Frozen != nil && !slices.ContainsFunc(s.Operands, func(o policy.Operand) bool { return o.Read }) {
		return errors.New("a frozen value, but no operand is read")
	}
	return nil
}
