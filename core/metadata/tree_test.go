package metadata_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// TestTreeDecidesAsTrained says that no known context is ever decided wrongly, whatever lies between its return
// addresses, and that it is undecided only in a conflict.
func TestTreeDecidesAsTrained(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var contexts []metadata.Context
		for range rapid.IntRange(1, 6).Draw(t, "contexts") {
			contexts = append(contexts, metadata.Context{
				Path:     genPath.Draw(t, "path"),
				Decision: metadata.Decision{Routes: []policy.Route{policy.Route(rapid.IntRange(0, 1).Draw(t, "route"))}},
			})
		}
		tree, groups := metadata.NewTree(contexts)
		for _, c := range contexts {
			d := tree.Decide(func(depth uint32) metadata.Location {
				for _, f := range c.Path {
					if f.Depth == depth {
						return f.Return
					}
				}
				return genLocation.Draw(t, "garbage")
			})
			conflict := slices.ContainsFunc(groups, func(g []metadata.Context) bool {
				return slices.ContainsFunc(g, func(x metadata.Context) bool { return slices.Equal(x.Path, c.Path) })
			})
			switch {
			case d == nil && !conflict:
				t.Fatalf("%v is undecided without a conflict", c)
			case d != nil && !slices.Equal(d.Routes, c.Routes):
				t.Fatalf("%v is decided as %v", c, d.Routes)
			}
		}
		for _, g := range groups {
			if len(g) < 2 {
				t.Fatalf("a conflict of %d contexts", len(g))
			}
		}
	})
}

func TestTreeTestsLittle(t *testing.T) {
	var contexts []metadata.Context
	for i := range uint64(8) {
		route := policy.Local
		if i%2 == 1 {
			route = policy.Snapshot
		}
		// What differs and matters is the second of four: the rest is shared.
		contexts = append(contexts, from(route, 0x400, 0x300, 0x200+i, 0x100))
	}
	tree, groups := metadata.NewTree(contexts)
	if len(groups) != 0 || tree.Tests() != 1 || len(tree.Branches) != 8 {
		t.Errorf("%d tests, %d branches, conflicts %v", tree.Tests(), len(tree.Branches), groups)
	}
	reversed := slices.Clone(contexts)
	slices.Reverse(reversed)
	if again, _ := metadata.NewTree(reversed); !slices.EqualFunc(tree.Branches, again.Branches, func(a, b metadata.Branch) bool {
		return a.Return == b.Return && a.Tree.Decision.Routes[0] == b.Tree.Decision.Routes[0]
	}) {
		t.Error("the order of contexts shows in the tree")
	}
}

// A call chain and one that goes deeper cannot be told apart: below the shorter one's end anything may lie.
func TestTreeDoesNotTrustTheUnusedStack(t *testing.T) {
	tree, groups := metadata.NewTree([]metadata.Context{from(policy.Local, 0x10), from(policy.Snapshot, 0x20, 0x10)})
	if len(groups) != 1 || len(groups[0]) != 2 || tree.Decision != nil {
		t.Errorf("%+v %v", tree, groups)
	}
}
