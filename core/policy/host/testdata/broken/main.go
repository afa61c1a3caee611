// Command broken is a policy program that does wrong what its name says.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/protocol"
	"github.com/hybridbridge/emu/plugins/sdk"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "exits":
		fmt.Fprintln(os.Stderr, "no licence found")
		os.Exit(3)
	case "slow-start":
		time.Sleep(time.Hour)
	case "chatty":
		fmt.Println("hello, this is no handshake")
		time.Sleep(time.Hour)
	case "old-version":
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig:  protocol.Handshake(),
			VersionedPlugins: map[int]plugin.PluginSet{protocol.Version + 1: {}},
			GRPCServer:       plugin.DefaultGRPCServer,
		})
	case "panics-policy":
		sdk.ServePolicy(func(policy.Kernel) policy.Policy { panic("what kernel is this") })
	case "bad-policy":
		sdk.ServePolicy(func(policy.Kernel) policy.Policy {
			return policy.Policy{Locks: []policy.Lock{{Function: "mutex_lock"}}}
		})
	case "lost-extension":
		sdk.ServePolicy(func(policy.Kernel) policy.Policy { return policy.Policy{Scopes: []policy.Scope{{Name: "nowhere"}}} })
	case "some":
		sdk.ServeHandler(func(policy.Site) policy.Plan { return policy.Plan{} }, policy.Interest{Functions: []string{"seq_*"}, Scopes: []string{"procfs"}})
	case "wants-nonsense":
		sdk.ServeHandler(func(policy.Site) policy.Plan { return policy.Plan{} }, policy.Interest{Functions: []string{"seq show"}})
	case "older", "hangs-at-once", "panics-at-once":
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: protocol.Handshake(), VersionedPlugins: protocol.Plugins(nil, atOnce(name)), GRPCServer: plugin.DefaultGRPCServer,
		})
	default:
		sdk.ServeHandler(func(policy.Site) policy.Plan { return plan(name) })
	}
}

// atOnce is a handler that does wrong when it is asked what it wants to be asked about.
type atOnce string

// Interests is what a program of before there was the question answers, or worse.
func (h atOnce) Interests(context.Context) ([]policy.Interest, error) {
	switch h {
	case "hangs-at-once":
		time.Sleep(time.Hour)
	case "panics-at-once":
		panic("I want nothing")
	}
	return nil, status.Error(codes.Unimplemented, "unknown method")
}

// Plan leaves all as it is.
func (atOnce) Plan(_ context.Context, sites []policy.Site) ([]policy.Plan, error) {
	return make([]policy.Plan, len(sites)), nil
}

func plan(name string) (p policy.Plan) {
	switch name {
	case "panics":
		panic("divided by zero")
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hangs":
		time.Sleep(time.Hour)
	case "stopped":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		time.Sleep(time.Hour) // on a busy machine the answer can be out before all threads have stopped
	case "routes":
		p.Routes = make([]policy.Route, 5)
	case "enums":
		p.Writes = 77
	case "logs":
		sdk.Logger().Error("the cat is on the keyboard", "paws", 4)
		fmt.Fprintln(os.Stderr, `{"@message": 4, "@level": {}}`)
	case "sends-stack":
		p.Routes = []policy.Route{policy.Snapshot}
	case "freezes":
		p.Frozen = new(uint64)
	}
	return p
}
