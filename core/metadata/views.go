package metadata

import (
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// stack is policy.Operand.Text of memory that an instruction touches through the stack pointer without naming it.
const stack = "stack"

// Traps says in which of FAST-BRIDGE's two code pages the site starts with int3. The redirected view has the snapshot's
// data but the local stack, so a push of a snapshot's value runs there; other Semi sites are emulated, and so is what a
// plan changes otherwise than by routes.
func (s *Site) Traps() (nonRedirected, redirected bool) {
	for i := range s.Contexts {
		if p := &s.Contexts[i].Plan; p.Elide || p.Frozen != nil || p.Trap != "" || p.Writes != policy.PrivateCopy {
			return true, true
		}
	}
	switch s.Category {
	case policy.Neutral:
		return false, false
	case policy.NonRedirectable:
		return false, true
	case policy.Redirectable:
		return true, false
	case policy.SemiRedirectable:
		return true, !s.pushes()
	}
	return true, true
}

// pushes says whether only the implied stack is local.
func (s *Site) pushes() bool {
	return len(s.Contexts) > 0 && !slices.ContainsFunc(s.Contexts, func(c Context) bool {
		for i, r := range c.Effective() {
			if (r == policy.Local) != (s.Operands[i].Text == stack) {
				return true
			}
		}
		return false
	})
}
