package metadata_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// TestDeepest: on the stack of a known context that context is found, whatever is left over below the stack pointer.
func TestDeepest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		location := rapid.Custom(func(t *rapid.T) metadata.Location {
			return metadata.Location{Offset: rapid.Uint64Range(1, 3).Draw(t, "return")}
		})
		context := rapid.Custom(func(t *rapid.T) metadata.Context {
			var c metadata.Context
			for depth := rapid.Uint32Range(1, 6).Draw(t, "innermost"); depth > 0; depth-- {
				if len(c.Path) == 0 || rapid.Bool().Draw(t, "frame") {
					c.Path = append(c.Path, metadata.Frame{Return: location.Draw(t, "location"), Depth: depth})
				}
			}
			c.Routes = []policy.Route{policy.Local}
			return c
		})
		contexts := rapid.SliceOfN(context, 1, 8).Draw(t, "contexts")
		right := rapid.SampledFrom(contexts).Draw(t, "right")
		stack := map[uint32]metadata.Location{}
		for _, f := range right.Path {
			stack[f.Depth] = f.Return
		}
		// Below the stack pointer is anything.
		limit := right.Path[0].Depth
		for depth := limit + 1; depth < 8; depth++ {
			stack[depth] = location.Draw(t, "left over")
		}
		found := metadata.Deepest(contexts, limit, func(depth uint32) metadata.Location { return stack[depth] })
		for _, c := range found {
			if len(c.Path) != len(right.Path) || c.Path[0] != right.Path[0] {
				t.Fatalf("found %v, want %v", c.Path, right.Path)
			}
		}
		if len(found) == 0 {
			t.Fatal("found none")
		}
	})
	if got := metadata.Deepest(nil, 8, nil); got != nil {
		t.Errorf("found %v in nothing", got)
	}
}

// TestNearest: of contexts whose beginnings the stack shows, those count of which it shows most.
func TestNearest(t *testing.T) {
	context := func(returns ...uint64) metadata.Context {
		var c metadata.Context
		for i, r := range returns {
			c.Path = append(c.Path, metadata.Frame{Return: metadata.Location{Offset: r}, Depth: uint32(10 - i)})
		}
		return c
	}
	contexts := []metadata.Context{context(1, 2, 3, 4), context(1, 2, 3, 5), context(1, 2, 6, 9), context(1, 7, 8, 9), context(4, 2, 8, 9)}
	for _, c := range []struct {
		stack []uint64
		want  []metadata.Context
	}{
		{[]uint64{1, 2, 3, 9}, contexts[:2]},
		{[]uint64{1, 2, 8, 9}, contexts[:3]},
		{[]uint64{1, 2, 6, 4}, contexts[2:3]},
		{[]uint64{1, 3, 8, 9}, nil},
		{[]uint64{5, 2, 8, 9}, nil},
	} {
		at := func(depth uint32) metadata.Location { return metadata.Location{Offset: c.stack[10-depth]} }
		if got := metadata.Nearest(contexts, 10, at); !slices.EqualFunc(got, c.want, func(a, b metadata.Context) bool { return slices.Equal(a.Path, b.Path) }) {
			t.Errorf("stack %v: %v, want %v", c.stack, got, c.want)
		}
		if got := metadata.Nearest(contexts, 9, at); got != nil {
			t.Errorf("stack %v: %v, which are below the stack pointer", c.stack, got)
		}
	}
}
