package metadata_test

import (
	"testing"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// TestObserved: what a handler is told of a site is what was seen, and not what plans have made of it.
func TestObserved(t *testing.T) {
	local, snapshot := []policy.Route{policy.Local}, []policy.Route{policy.Snapshot}
	context := func(at uint64, routes, plan []policy.Route) metadata.Context {
		return metadata.Context{
			Path:     []metadata.Frame{{Return: metadata.Location{Offset: at}, Depth: 8}},
			Decision: metadata.Decision{Routes: routes, Plan: policy.Plan{Routes: plan}},
		}
	}
	for _, c := range []struct {
		name           string
		contexts       []metadata.Context
		site, observed policy.Category
	}{
		{"no plan", []metadata.Context{context(1, local, nil), context(2, snapshot, nil)}, policy.BiRedirectable, policy.BiRedirectable},
		{"sent to the snapshot", []metadata.Context{context(1, local, snapshot)}, policy.Redirectable, policy.NonRedirectable},
		{"sent there once", []metadata.Context{context(1, local, snapshot), context(2, local, nil)}, policy.BiRedirectable, policy.NonRedirectable},
		{"kept local", []metadata.Context{context(1, snapshot, local)}, policy.NonRedirectable, policy.Redirectable},
		{"by a handler alone", []metadata.Context{{Decision: metadata.Decision{Plan: policy.Plan{Routes: snapshot}}}}, policy.Redirectable, policy.Neutral},
	} {
		set := &metadata.Set{}
		id := metadata.ScopeID{Syscall: "read"}
		code := []byte{0x48, 0x8b, 0x00}
		if err := set.Add(id, metadata.Site{Bytes: code, Operands: []metadata.Operand{{Text: "[rax]"}}, Contexts: c.contexts}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		e := metadata.NewIndex(set).Scope(id).Site(metadata.Location{}, code)
		if e.Category() != c.site || e.Observed() != c.observed {
			t.Errorf("%s: %v, observed %v", c.name, e.Category(), e.Observed())
		}
	}
	if c := (*metadata.Entry)(nil).Observed(); c != policy.Unknown {
		t.Errorf("nothing known: %v", c)
	}
}

// TestAnswers: what handlers have said of a site in no particular context is no conflict with what was seen there.
func TestAnswers(t *testing.T) {
	answer := metadata.Context{Decision: metadata.Decision{Plan: policy.Plan{Elide: true}}, Marks: metadata.Adjusted}
	seen := metadata.Context{
		Path:     []metadata.Frame{{Return: metadata.Location{Offset: 1}, Depth: 8}},
		Decision: metadata.Decision{Routes: []policy.Route{policy.Local}},
	}
	for _, c := range []struct {
		reason            policy.Reason
		answers, conflict int
	}{{policy.ByHandler, 1, 0}, {policy.ByDefault, 0, 1}} {
		set := &metadata.Set{}
		id := metadata.ScopeID{Syscall: "read"}
		if err := set.Add(id, metadata.Site{
			Bytes: []byte{0x48, 0x8b, 0x00}, Operands: []metadata.Operand{{Text: "[rax]", Seen: metadata.SeenAs(policy.Local, c.reason)}},
			Contexts: []metadata.Context{answer, seen},
		}); err != nil {
			t.Fatal(err)
		}
		answers, contexts := set.Sites(id)[0].Answers()
		if len(answers) != c.answers || len(answers)+len(contexts) != 2 || len(set.Conflicts()) != c.conflict {
			t.Errorf("%v: %d answers, %d contexts, %d conflicts", c.reason, len(answers), len(contexts), len(set.Conflicts()))
		}
	}
}
