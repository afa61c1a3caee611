package sdk

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/protocol"
)

// orphanCheck is how often a program looks whether emu is still there.
const orphanCheck = 2 * time.Second

// ServeHandler is the whole main function of a handler. It calls f once for each site and context, from several
// goroutines; the zero Plan leaves a site as it is. With interests, it is only called about sites that one of them has; a nil f leaves all
// as they are, and nobody is asked, which costs a run nothing. A panic ends the program, and emu's run with the panic's message. It
// returns when emu ends the program; started by anybody else, it says so and exits.
func ServeHandler(f func(policy.Site) policy.Plan, about ...policy.Interest) {
	serve(nil, newHandler(f, about))
}

// ServePolicy is the whole main function of a kernel policy. It calls f once for each run, with the kernel of the snapshot.
// A panic ends the program, and emu's run with the panic's message. It returns when emu ends the program; started by anybody
// else, it says so and exits.
func ServePolicy(f func(policy.Kernel) policy.Policy) { serve(kernel(f), nil) }

// Logger returns a logger whose messages appear in emu's log, by their level. It is safe for concurrent use.
func Logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: stderr{}, JSONFormat: true})
}

// stderr is the standard error with which the program was started: go-plugin replaces os.Stderr by a pipe of which the end is
// lost when the program crashes.
type stderr struct{}

// Write implements io.Writer.
func (stderr) Write(b []byte) (int, error) { return syscall.Write(syscall.Stderr, b) }

type kernel func(policy.Kernel) policy.Policy

// Describe calls the function.
func (f kernel) Describe(_ context.Context, k policy.Kernel) (policy.Policy, error) { return f(k), nil }

type handler struct {
	plan  func(policy.Site) policy.Plan
	about []policy.Interest
}

func newHandler(f func(policy.Site) policy.Plan, about []policy.Interest) *handler {
	switch {
	case f == nil:
		return &handler{func(policy.Site) policy.Plan { return policy.Plan{} }, nil}
	case about == nil:
		about = []policy.Interest{{}}
	}
	return &handler{f, about}
}

// Interests are what the handler was made with.
func (h *handler) Interests(context.Context) ([]policy.Interest, error) { return h.about, nil }

// Plan calls the function for each site, until nobody waits for the answer any more.
func (h *handler) Plan(ctx context.Context, sites []policy.Site) ([]policy.Plan, error) {
	plans := make([]policy.Plan, len(sites))
	for i := range sites {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		plans[i] = h.plan(sites[i])
	}
	return plans, nil
}

func serve(k protocol.KernelPolicy, h protocol.Handler) {
	go exitWithParent(os.Getppid())
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: protocol.Handshake(), VersionedPlugins: protocol.Plugins(k, h), Logger: Logger(),
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxRecvMsgSize(protocol.MaxMessage))...)
		},
	})
}

// exitWithParent ends the program when emu is gone: an emu that was killed could not end it.
func exitWithParent(parent int) {
	for os.Getppid() == parent {
		time.Sleep(orphanCheck)
	}
	os.Exit(1)
}
