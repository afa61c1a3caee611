package main

import (
	"slices"
	"testing"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/plugins/linux/tables"
)

// Every root is in a scope that emu's own policy has, and is one that this scope lacks. emu's tests of core/policy/host have
// the same policy as a running program.
func TestDescribe(t *testing.T) {
	for _, bits := range []int{64, 32} {
		own := tables.Policy(policy.Kernel{Bits: bits})
		for _, s := range describe(policy.Kernel{Bits: bits}).Scopes {
			i := slices.IndexFunc(own.Scopes, func(o policy.Scope) bool { return o.Name == s.Name })
			if i < 0 {
				t.Fatalf("%d bits: emu's own policy has no scope %q to extend", bits, s.Name)
			}
			if len(s.Roots) == 0 {
				t.Errorf("%d bits: scope %q gets no root", bits, s.Name)
			}
			for _, r := range s.Roots {
				if slices.Contains(own.Scopes[i].Roots, r) {
					t.Errorf("%d bits: scope %q has the root %s already", bits, s.Name, r.Symbol)
				}
			}
		}
	}
}
