package fastbridge

import (
	"slices"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/cpu/isa"
)

// place is where a site may run.
type place uint8

const (
	nowhere   place = iota // it is asked about each time: by context, or because it is interpreted
	anywhere               // neutral, or all its addresses tell which machine they belong to
	localView              // non-redirectable
	otherView              // redirectable
)

// site is what Meta-Data says of an instruction in a scope, at an address of this run.
type site struct {
	address uint64
	inst    isa.Inst
	place   place
	choices choices // of sites that are nowhere
	refined bool    // they are the monitor's too
}

// decide makes a site of Meta-Data's. Its instruction has been decoded.
func (s *site) decide(m *metadata.Site) {
	switch n, r := m.Traps(); {
	case n && r:
		s.choices = newChoices(m.Contexts, needing(m.Contexts))
	case n:
		s.place = otherView
	case r:
		s.place = localView
	default:
		s.place = anywhere
	}
}

// scoped reports whether an instruction may have been executed outside local functions, and local whether it may have been in one.
func scoped(m *metadata.Site) bool {
	return seen(m, func(r policy.Reason) bool { return r != policy.BySubtree })
}

func local(m *metadata.Site) bool {
	// The stack and user space come before what a subtree means, and an instruction without memory operands has no reason at all.
	return seen(m, func(r policy.Reason) bool { return r == policy.BySubtree || r == policy.ByStack || r == policy.ByUser })
}

func seen(m *metadata.Site, match func(policy.Reason) bool) bool {
	return len(m.Operands) == 0 || slices.ContainsFunc(m.Operands, func(o metadata.Operand) bool {
		for _, r := range o.Seen.All() {
			if match(r) {
				return true
			}
		}
		return false
	})
}

// choices decide by execution context. One that is known is found by its return addresses; the tree is for others, which it cannot
// tell from known ones.
type choices struct {
	known []metadata.Context
	tree  *metadata.Tree
}

func newChoices(known, telling []metadata.Context) choices {
	tree, _ := metadata.NewTree(telling)
	return choices{known, tree}
}

// needing are the contexts in which something hangs on the routes. Where an address tells the machine, any route is right.
func needing(contexts []metadata.Context) []metadata.Context {
	var out []metadata.Context
	for _, c := range contexts {
		if c.Marks&(metadata.NeedsLocal|metadata.NeedsSnapshot|metadata.Adjusted) != 0 || !c.Plan.Default() {
			out = append(out, c)
		}
	}
	return out
}
