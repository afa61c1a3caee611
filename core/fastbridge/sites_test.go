package fastbridge

import (
	"testing"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/cpu/isa"
)

// TestPlannedSites: a site with a plan runs nowhere by itself, and the answer of a handler about no particular context is kept apart from the
// contexts that decide.
func TestPlannedSites(t *testing.T) {
	local, snapshot := []policy.Route{policy.Local}, []policy.Route{policy.Snapshot}
	path := []metadata.Frame{{Return: metadata.Location{Offset: 1}, Depth: 8}}
	answer := metadata.Context{Decision: metadata.Decision{Plan: policy.Plan{Routes: snapshot}}, Marks: metadata.Adjusted}
	seen := metadata.Context{Path: path, Decision: metadata.Decision{Routes: local}, Marks: metadata.NeedsLocal}
	frozen := seen
	frozen.Plan.Frozen = new(uint64)
	elided := metadata.Context{Decision: metadata.Decision{Plan: policy.Plan{Elide: true}}}
	byHandler, byDefault := metadata.SeenAs(policy.Local, policy.ByHandler), metadata.SeenAs(policy.Local, policy.ByDefault)
	for _, c := range []struct {
		name        string
		seen        metadata.Seen // 0 for an instruction without operands
		contexts    []metadata.Context
		place       place
		planned     bool
		known, kept int
	}{
		{"local", byDefault, []metadata.Context{seen}, localView, false, 0, 0},
		{"frozen", byDefault, []metadata.Context{frozen}, nowhere, true, 1, 0},
		{"an answer for where nothing is known", byHandler, []metadata.Context{answer}, nowhere, false, 0, 1},
		{"and a context that is", byHandler | byDefault, []metadata.Context{answer, seen}, nowhere, false, 1, 1},
		{"at the entry of a system call", byDefault, []metadata.Context{answer}, nowhere, true, 1, 0},
		{"neutral, skipped", 0, []metadata.Context{elided}, nowhere, true, 1, 0},
		{"neutral", 0, nil, anywhere, false, 0, 0},
	} {
		m := metadata.Site{Bytes: []byte{0x48, 0x8b, 0x00}, Contexts: c.contexts}
		if c.seen != 0 {
			m.Operands = []metadata.Operand{{Text: "[rax]", Seen: c.seen}}
		} else {
			m.Category = policy.Neutral
		}
		set := &metadata.Set{}
		id := metadata.ScopeID{Syscall: "read"}
		if err := set.Add(id, m); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		in, err := isa.Decode(m.Bytes, isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatal(err)
		}
		o := set.Outline(id)
		s := newSite(o, "", o.Modules[0].Sites[0], 0x1000, in)
		if s.place != c.place || s.planned != c.planned || len(s.choices.known) != c.known || len(s.kept) != c.kept {
			t.Errorf("%s: place %d, planned %v, %d contexts, %d kept", c.name, s.place, s.planned, len(s.choices.known), len(s.kept))
		}
	}
}
