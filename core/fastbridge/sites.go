package fastbridge

import (
	"slices"

	"github.com/hybridbridge/emu/core/metadata"
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
	// byAddress says that an operand is the snapshot's only if its address tells or is a root.
	byAddress bool
	// onStack says that the snapshot's memory was seen at addresses of the current kernel stack.
	onStack bool
	// planned says that a handler's plan changes it in some context.
	planned bool
	// kept are answers of handlers that count where nothing else is known: see frame.keep.
	kept []metadata.Context
}

// placeOf is where a site may run.
func placeOf(m metadata.OutlineSite) place {
	switch m.Flags & (metadata.TrapsNonRedirected | metadata.TrapsRedirected) {
	case metadata.TrapsNonRedirected | metadata.TrapsRedirected:
		return nowhere
	case metadata.TrapsNonRedirected:
		return otherView
	case metadata.TrapsRedirected:
		return localView
	}
	return anywhere
}

// newSite makes a site of Meta-Data's, whose instruction has been decoded.
func newSite(o *metadata.Outline, module string, m metadata.OutlineSite, address uint64, in isa.Inst) *site {
	t := &site{address: address, inst: in, place: placeOf(m)}
	if t.place != nowhere {
		return t
	}
	if full := o.Site(module, m); full != nil {
		var contexts []metadata.Context
		t.kept, contexts = full.Answers()
		t.choices, t.byAddress = newChoices(contexts, needing(contexts)), full.ByAddress()
		t.onStack = slices.ContainsFunc(contexts, func(c metadata.Context) bool { return c.Marks&metadata.OnStack != 0 })
		t.planned = slices.ContainsFunc(contexts, planned)
	}
	return t
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
