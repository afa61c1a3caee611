// Command broken is a policy program that does wrong what its name says.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"

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
	default:
		sdk.ServeHandler(func(policy.Site) policy.Plan { return plan(name) })
	}
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
	case "freezes":
		p.Frozen = new(uint64)
	}
	return p
}
