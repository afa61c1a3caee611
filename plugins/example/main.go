// Command example is the worked example of docs/policies.md: a kernel policy that adds a root which emu's own lacks. With it,
// /proc/crypto has the algorithms of the snapshot.
package main

import (
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/plugins/sdk"
)

func main() {
	sdk.ServePolicy(describe)
}

func describe(policy.Kernel) policy.Policy {
	return policy.Policy{
		// A scope without system calls extends the one of that name: "emu policy check" prints which there are.
		Scopes: []policy.Scope{{Name: "procfs", Roots: []policy.Root{{Symbol: "crypto_alg_list"}}}},
	}
}
