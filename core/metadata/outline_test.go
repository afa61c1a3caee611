package metadata_test

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// TestOutline: what a store keeps as a scope's outline is what the scope's sites say, also after they have changed.
func TestOutline(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		s := &metadata.Store{Path: filepath.Join(dir, string(rune('a'+n%26)), "metadata.db")}
		for range 2 {
			if _, err := s.Merge(testKey, genSet.Draw(t, "set"), training); err != nil {
				t.Fatal(err)
			}
			lazy, err := s.LoadLazily(testKey)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := s.Load(testKey)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range whole.Scopes() {
				got, want := lazy.Outline(id), whole.Outline(id)
				if !reflect.DeepEqual(got.Modules, want.Modules) {
					t.Fatalf("%s: %+v, want %+v", id, got.Modules, want.Modules)
				}
				sites := whole.Sites(id)
				for _, module := range want.Modules {
					for _, m := range module.Sites {
						if !reflect.DeepEqual(got.Site(module.Name, m), want.Site(module.Name, m)) {
							t.Fatalf("%s: %+v is another site", id, m)
						}
						full := sites[0]
						sites = sites[1:]
						n, r := full.Traps()
						if full.Location != (metadata.Location{Module: module.Name, Offset: m.Offset}) || m.Category() != full.Category ||
							n != (m.Flags&metadata.TrapsNonRedirected != 0) || r != (m.Flags&metadata.TrapsRedirected != 0) ||
							n && r && len(full.Contexts) != len(want.Site(module.Name, m).Contexts) {
							t.Fatalf("%s: %+v of %+v", id, m, full)
						}
						if !slices.Contains(got.At(full.Location), m) {
							t.Fatalf("%s: %+v is not found at %v", id, m, full.Location)
						}
					}
				}
				if len(sites) != 0 {
					t.Fatalf("%s: %d sites are missing", id, len(sites))
				}
			}
		}
	})
}

// TestOutlineFlags: where an instruction was executed follows from why its operands went where they did.
func TestOutlineFlags(t *testing.T) {
	operand := func(route policy.Route, reason policy.Reason) []metadata.Operand {
		return []metadata.Operand{{Text: "[rax]", Size: 8, Read: true, Seen: metadata.SeenAs(route, reason)}}
	}
	for name, c := range map[string]struct {
		operands       []metadata.Operand
		scoped, local  bool
		byAddressAlone bool
	}{
		"no operand": {nil, true, true, false},
		"taint":      {operand(policy.Snapshot, policy.ByTaint), true, false, false},
		"root":       {operand(policy.Snapshot, policy.ByRoot), true, false, true},
		"default":    {operand(policy.Local, policy.ByDefault), true, false, false},
		"subtree":    {operand(policy.Local, policy.BySubtree), false, true, false},
		"stack":      {operand(policy.Local, policy.ByStack), true, true, false},
	} {
		s := metadata.Site{Bytes: []byte{0x48, 0x8b}, Operands: c.operands, Category: policy.Neutral}
		if c.operands != nil {
			route := policy.Local
			if c.byAddressAlone || name == "taint" {
				route = policy.Snapshot
			}
			s.Contexts = []metadata.Context{{Decision: metadata.Decision{Routes: []policy.Route{route}}}}
			s.Category = s.Contexts[0].Category()
		}
		set := setOf(t, s)
		m := set.Outline(scope).Modules[0].Sites[0]
		if got := m.Flags&metadata.Scoped != 0; got != c.scoped {
			t.Errorf("%s: scoped %v", name, got)
		}
		if got := m.Flags&metadata.InSubtree != 0; got != c.local {
			t.Errorf("%s: in a subtree %v", name, got)
		}
		if got := s.ByAddress(); got != c.byAddressAlone {
			t.Errorf("%s: by address %v", name, got)
		}
	}
	if metadata.OutlineCheck([]byte{0xeb, 5}) == metadata.OutlineCheck([]byte{0x66, 0x90}) {
		t.Error("a jump and what a kernel patches over it have the same check")
	}
}
