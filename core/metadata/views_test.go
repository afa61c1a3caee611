package metadata_test

import (
	"testing"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// TestTraps: an instruction has int3 where it must not run.
func TestTraps(t *testing.T) {
	local, snapshot := []policy.Route{policy.Local}, []policy.Route{policy.Snapshot}
	context := func(routes []policy.Route, marks metadata.Marks) metadata.Context {
		return metadata.Context{Decision: metadata.Decision{Routes: routes}, Marks: marks}
	}
	planned := context(snapshot, metadata.NeedsSnapshot)
	planned.Plan.Elide = true
	routed := context(local, metadata.NeedsLocal)
	routed.Plan.Routes = snapshot
	for _, c := range []struct {
		name          string
		category      policy.Category
		contexts      []metadata.Context
		local, redirs bool
	}{
		{"neutral", policy.Neutral, nil, false, false},
		{"unknown", policy.Unknown, nil, true, true},
		{"local where only the trusted VM has memory", policy.NonRedirectable, []metadata.Context{context(local, 0)}, false, false},
		{"local where both have", policy.NonRedirectable, []metadata.Context{context(local, metadata.NeedsLocal), context(local, 0)}, false, true},
		{"snapshot where only it has memory", policy.Redirectable, []metadata.Context{context(snapshot, 0)}, true, false},
		{"snapshot where both have", policy.Redirectable, []metadata.Context{context(snapshot, metadata.NeedsSnapshot)}, true, false},
		{"both, told by the address", policy.BiRedirectable, []metadata.Context{context(snapshot, 0), context(local, 0)}, true, false},
		{"both, local not told", policy.BiRedirectable, []metadata.Context{context(snapshot, 0), context(local, metadata.NeedsLocal)}, false, true},
		{
			"both, not told", policy.BiRedirectable,
			[]metadata.Context{context(snapshot, metadata.NeedsSnapshot), context(local, metadata.NeedsLocal)},
			true, true,
		},
		{"snapshot where the current stack is", policy.Redirectable, []metadata.Context{context(snapshot, metadata.NeedsSnapshot|metadata.OnStack)}, true, true},
		{"adjusted", policy.Redirectable, []metadata.Context{context(snapshot, metadata.Adjusted)}, true, true},
		{"planned", policy.Redirectable, []metadata.Context{planned}, true, true},
		{"routed by a plan", policy.NonRedirectable, []metadata.Context{routed}, true, true},
	} {
		s := metadata.Site{Category: c.category, Contexts: c.contexts}
		if n, r := s.Traps(); n != c.local || r != c.redirs {
			t.Errorf("%s: int3 in the non-redirected view: %v, in the redirected: %v", c.name, n, r)
		}
	}
}
