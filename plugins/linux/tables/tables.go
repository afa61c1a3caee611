package tables

import (
	"fmt"
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// Policy returns the policy for a kernel.
func Policy(k policy.Kernel) policy.Policy {
	s := scopes()
	if hashTableInText(k.Release) {
		s = slices.DeleteFunc(s, func(s policy.Scope) bool { return slices.Contains(lookupScopes, s.Name) })
	}
	return policy.Policy{
		Scopes:      s,
		Local:       local,
		Elided:      slices.Concat(releases, touches, waits, stale, clocksources),
		Locks:       locks(k.Bits),
		Substitutes: substitutes,
		Aliases:     aliases,
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

// hashTableInText reports whether the kernel has the address of the dentry hash table in its code (runtime constants, since
// 6.11), where no redirection reaches it, so that paths cannot be looked up in the snapshot.
func hashTableInText(release string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 6 || major == 6 && minor >= 11
}
