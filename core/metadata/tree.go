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
// one too, left over from an earlier call. Such a context therefore follows every branch. Contexts that would make the
// tree grow out of proportion by that are left undecided as well.
func NewTree(contexts []Context) (tree *Tree, groups [][]Context) {
	if len(contexts) == 0 {
		return nil, nil
	}
	first := &contexts[0]
	if !slices.ContainsFunc(contexts, func(c Context) bool { return c.compare(&first.Decision) != 0 }) {
		return &Tree{Decision: &first.Decision}, nil
	}
	b := newBuilder(contexts)
	all := make([]int, len(b.contexts))
	for i := range all {
		all[i] = i
	}
	return b.build(all), b.groups
}

// builder has contexts, decisions and return addresses as small numbers, in order.
type builder struct {
	contexts []*Context
	decision []int // by context
	levels   []level
	nodes    int // made so far
	groups   [][]Context
}

// level is a depth at which contexts have return addresses.
type level struct {
	depth   uint32
	returns []Location
	at      []int // by context, index in returns, or -1
}

func newBuilder(contexts []Context) *builder {
	b := &builder{decision: make([]int, len(contexts))}
	for i := range contexts {
		b.contexts = append(b.contexts, &contexts[i])
	}
	slices.SortFunc(b.contexts, func(a, b *Context) int { return compareContexts(*a, *b) })
	var decisions []*Decision
	returns := map[uint32][]Location{}
	for i, c := range b.contexts {
		d := slices.IndexFunc(decisions, func(d *Decision) bool { return d.compare(&c.Decision) == 0 })
		if d < 0 {
			d = len(decisions)
			decisions = append(decisions, &c.Decision)
		}
		b.decision[i] = d
		for _, f := range c.Path {
			returns[f.Depth] = append(returns[f.Depth], f.Return)
		}
	}
	for _, depth := range slices.Sorted(maps.Keys(returns)) {
		l := level{depth, returns[depth], make([]int, len(contexts))}
		slices.SortFunc(l.returns, Location.compare)
		l.returns = slices.Compact(l.returns)
		for i, c := range b.contexts {
			l.at[i] = -1
			if r, ok := c.at(depth); ok {
				l.at[i], _ = slices.BinarySearchFunc(l.returns, r, Location.compare)
			}
		}
		b.levels = append(b.levels, l)
	}
	return b
}

// at returns the return address at a depth, if there is one.
func (c *Context) at(depth uint32) (Location, bool) {
	i, ok := slices.BinarySearchFunc(c.Path, depth, func(f Frame, d uint32) int { return int(d) - int(f.Depth) })
	if !ok {
		return Location{}, false
	}
	return c.Path[i].Return, true
}

// build makes the tree of some of the contexts, which are in order.
func (b *builder) build(some []int) *Tree {
	b.nodes++
	if !slices.ContainsFunc(some, func(c int) bool { return b.decision[c] != b.decision[some[0]] }) {
		return &Tree{Decision: &b.contexts[some[0]].Decision}
	}
	l := b.bestTest(some)
	if l == nil || b.nodes > 64+16*len(b.contexts) {
		b.conflict(some)
		return &Tree{}
	}
	branches := make([][]int, len(l.returns))
	var other []int
	for _, c := range some {
		switch r := l.at[c]; {
		case r < 0:
			other = append(other, c)
			for i := range branches {
				branches[i] = append(branches[i], c)
			}
		default:
			branches[r] = append(branches[r], c)
		}
	}
	t := &Tree{Depth: l.depth}
	for i, branch := range branches {
		if len(branch) > len(other) {
			t.Branches = append(t.Branches, Branch{l.returns[i], b.build(branch)})
		}
	}
	if len(other) > 0 {
		t.Else = b.build(other)
	}
	return t
}

// bestTest returns the level that tells the most pairs of different decisions apart, the one nearest to the top if there
// are several; nil if there is none.
func (b *builder) bestTest(some []int) *level {
	var best *level
	most := 0
	type cell struct{ branch, decision int }
	counts := map[cell]int{}
	const all = -1
	for i := range b.levels {
		l := &b.levels[i]
		clear(counts)
		for _, c := range some {
			if r := l.at[c]; r >= 0 {
				counts[cell{r, b.decision[c]}]++
				counts[cell{r, all}]++
				counts[cell{all, b.decision[c]}]++
				counts[cell{all, all}]++
			}
		}
		// Twice the pairs with different decisions, in all branches together and less those within a branch.
		separated := 0
		for c, n := range counts {
			if (c.branch == all) == (c.decision == all) {
				separated += n * n
			} else {
				separated -= n * n
			}
		}
		if separated > most {
			best, most = l, separated
		}
	}
	return best
}

func (b *builder) conflict(some []int) {
	group := make([]Context, len(some))
	for i, c := range some {
		group[i] = *b.contexts[c]
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
	if t = t.Leaf(at); t == nil {
		return nil
	}
	return t.Decision
}

// Leaf is where Decide ends: nil if the context is not known, and without a Decision if known contexts that lead here disagree.
func (t *Tree) Leaf(at func(depth uint32) Location) *Tree {
	for t != nil && t.Depth != 0 {
		l := at(t.Depth)
		next := t.Else
		if i, ok := slices.BinarySearchFunc(t.Branches, l, func(b Branch, l Location) int { return b.Return.compare(l) }); ok {
			next = t.Branches[i].Tree
		}
		t = next
	}
	return t
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
