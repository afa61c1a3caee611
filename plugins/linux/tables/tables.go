package tables

import (
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// Policy returns the policy for a kernel.
func Policy(k policy.Kernel) policy.Policy {
	return policy.Policy{
		Scopes:      scopes(),
		Local:       local,
		Elided:      slices.Concat(releases, touches, waits, stale, clocksources),
		Locks:       locks(k.Bits),
		Substitutes: substitutes,
		Clocks:      clocks(k.Bits),
	}
}

// roots makes roots of whole variables.
func roots(names ...string) []policy.Root {
	r := make([]policy.Root, len(names))
	for i, n := range names {
		r[i].Symbol = n
	}
	return r
}

// elide makes elisions of functions whose first argument is what counts.
func elide(names ...string) []policy.Elision {
	e := make([]policy.Elision, len(names))
	for i, n := range names {
		e[i].Function = n
	}
	return e
}
