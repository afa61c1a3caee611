package metadata

import (
	"maps"
	"slices"
)

// Tree tells the contexts of a site apart by few return addresses on the stack. The same contexts give the same tree.
type Tree struct {
	// Decision is what all contexts that lead here agree on. It is nil if there is something left to test, or if they
	// disagree and nothing tells them apart: then the site is Unknown here.
	Decision *Decision
	// Depth is the place on the stack that is looked at, see Frame; 0 in a leaf.
	Depth uint32
	// Branches are by the return address that is found there, in order.
	Branches []Branch
	// Else is for any other value; nil if no known context can have one, so that the context is Unknown.
	Else *Tree
}

// Branch is one outcome of a test.
type Branch struct {
	Return Location
	Tree   *Tree
}

// NewTree builds the tree of a site's contexts. Groups are the contexts, with different decisions, that no test tells
// apart; the tree leaves them undecided. Without contexts there is no tree.
//
// A test must be certain: what lies at a depth where a known context has no return address may be anything, the right
// one too, left over from an earlier call. Such a context therefore follows every branch.
func NewTree(contexts []Context) (tree *Tree, groups [][]Context) {
	if len(contexts) == 0 {
		return nil, nil
	}
	b := builder{}
	refs := make([]*Context, len(contexts))
	for i := range contexts {
		refs[i] = &contexts[i]
	}
	slices.SortFunc(refs, func(a, b *Context) int { return compareContexts(*a, *b) })
	tree = b.build(refs)
	return tree, b.groups
}

type builder struct {
	groups [][]Context
}

func (b *builder) build(contexts []*Context) *Tree {
	first := contexts[0]
	if !slices.ContainsFunc(contexts, func(c *Context) bool { return c.compare(&first.Decision) != 0 }) {
		return &Tree{Decision: &first.Decision}
	}
	depth := bestTest(contexts)
	if depth == 0 {
		b.conflict(contexts)
		return &Tree{}
	}
	by, other := split(contexts, depth)
	t := &Tree{Depth: depth}
	for _, l := range slices.SortedFunc(maps.Keys(by), Location.compare) {
		t.Branches = append(t.Branches, Branch{l, b.build(inOrder(by[l], other))})
	}
	if len(other) > 0 {
		t.Else = b.build(other)
	}
	return t
}

// split sorts contexts by the return address at a depth; other have none there.
func split(contexts []*Context, depth uint32) (by map[Location][]*Context, other []*Context) {
	by = map[Location][]*Context{}
	for _, c := range contexts {
		if l, ok := c.at(depth); ok {
			by[l] = append(by[l], c)
		} else {
			other = append(other, c)
		}
	}
	return by, other
}

func inOrder(a, b []*Context) []*Context {
	return mergeSorted(a, b, func(a, b **Context) int { return compareContexts(**a, **b) },
		func(a, _ *Context) *Context { return a })
}

// at returns the return address at a depth, if there is one.
func (c *Context) at(depth uint32) (Location, bool) {
	i, ok := slices.BinarySearchFunc(c.Path, depth, func(f Frame, d uint32) int { return int(d) - int(f.Depth) })
	if !ok {
		return Location{}, false
	}
	return c.Path[i].Return, true
}

// bestTest returns the depth that tells the most pairs of different decisions apart, the one nearest to the top if there
// are several; 0 if there is none.
func bestTest(contexts []*Context) uint32 {
	depths := map[uint32]bool{}
	for _, c := range contexts {
		for _, f := range c.Path {
			depths[f.Depth] = true
		}
	}
	best, most := uint32(0), 0
	for _, d := range slices.Sorted(maps.Keys(depths)) {
		by, _ := split(contexts, d)
		if n := separated(by); n > most {
			best, most = d, n
		}
	}
	return best
}

// separated counts the pairs of contexts in different branches with different decisions.
func separated(by map[Location][]*Context) int {
	var all []*Context
	within := 0
	for _, branch := range by {
		within += differing(branch)
		all = append(all, branch...)
	}
	return differing(all) - within
}

// differing counts the pairs with different decisions.
func differing(contexts []*Context) int {
	sorted := slices.SortedFunc(slices.Values(contexts), func(a, b *Context) int { return a.compare(&b.Decision) })
	pairs, run := 0, 0
	for i, c := range sorted {
		if i > 0 && c.compare(&sorted[i-1].Decision) != 0 {
			run = i
		}
		pairs += run
	}
	return pairs
}

func (b *builder) conflict(contexts []*Context) {
	group := make([]Context, len(contexts))
	for i, c := range contexts {
		group[i] = *c
	}
	same := func(g []Context) bool {
		return slices.EqualFunc(g, group, func(x, y Context) bool { return compareContexts(x, y) == 0 })
	}
	if !slices.ContainsFunc(b.groups, same) {
		b.groups = append(b.groups, group)
	}
}

// Decide walks the tree. At returns what lies at a depth of the stack, the zero Location if that is no return address.
// The result is nil if the context is not known.
func (t *Tree) Decide(at func(depth uint32) Location) *Decision {
	for t != nil && t.Depth != 0 {
		l := at(t.Depth)
		next := t.Else
		if i, ok := slices.BinarySearchFunc(t.Branches, l, func(b Branch, l Location) int { return b.Return.compare(l) }); ok {
			next = t.Branches[i].Tree
		}
		t = next
	}
	if t == nil {
		return nil
	}
	return t.Decision
}

// Tests returns how many places on the stack the longest walk looks at.
func (t *Tree) Tests() int {
	if t == nil || t.Depth == 0 {
		return 0
	}
	n := t.Else.Tests()
	for _, b := range t.Branches {
		n = max(n, b.Tree.Tests())
	}
	return n + 1
}
