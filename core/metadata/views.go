package metadata

import (
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// Traps says in which of FAST-BRIDGE's two code pages the site starts with int3. Where the addresses of all its operands tell which
// machine they belong to, a non-redirectable site runs in either; the stack is local in both. A site that is up to its context, that
// means a stack of the snapshot at the address of the current one, or that a plan changes, runs in neither.
func (s *Site) Traps() (nonRedirected, redirected bool) {
	needsLocal, needsSnapshot, snapshot := false, false, false
	for i := range s.Contexts {
		c := &s.Contexts[i]
		if c.Marks&(Adjusted|OnStack) != 0 || !c.Plan.Default() {
			return true, true
		}
		needsLocal = needsLocal || c.Marks&NeedsLocal != 0
		needsSnapshot = needsSnapshot || c.Marks&NeedsSnapshot != 0
		snapshot = snapshot || slices.Contains(c.Routes, policy.Snapshot)
	}
	switch {
	case needsLocal && needsSnapshot || s.Category == policy.Unknown:
		return true, true
	case needsSnapshot || snapshot && !needsLocal:
		return true, false
	}
	return false, needsLocal
}
