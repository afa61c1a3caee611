package metadata

import "cmp"

// Deepest returns those of a site's contexts that a stack shows: all their return addresses are in their places, and no other context
// has more of the stack's. They are several if one context was decided in several ways. limit is the depth of the stack pointer, below
// which nothing counts; at is as for Tree.Decide.
//
// A return address that is left over from an earlier call can only be above the stack pointer, in a hole of the frame of a function
// that the right context passes through too; the right one reaches deeper then.
func Deepest(contexts []Context, limit uint32, at func(depth uint32) Location) []Context {
	var found []Context
	best := Context{}
	for _, c := range contexts {
		if len(c.Path) > 0 && c.Path[0].Depth > limit {
			continue
		}
		order := c.CompareDepth(&best)
		if order < 0 || !shows(c.Path, at) {
			continue
		}
		if order > 0 {
			found = found[:0]
		}
		found, best = append(found, c), c
	}
	return found
}

// CompareDepth says which of two contexts reaches deeper, and if neither does, which has more return addresses: 1 if c does, -1 if d.
func (c *Context) CompareDepth(d *Context) int {
	return cmp.Or(cmp.Compare(c.innermost(), d.innermost()), cmp.Compare(len(c.Path), len(d.Path)))
}

func (c *Context) innermost() uint32 {
	if len(c.Path) == 0 {
		return 0
	}
	return c.Path[0].Depth
}

func shows(path []Frame, at func(depth uint32) Location) bool {
	for _, f := range path {
		if at(f.Depth) != f.Return {
			return false
		}
	}
	return true
}

// Nearest returns those of a site's contexts that have most of the stack's innermost return addresses, two at least: where a stack is that of
// no known context, the function and its caller do for the same caller's caller what they did there. Parameters are as for Deepest.
func Nearest(contexts []Context, limit uint32, at func(depth uint32) Location) []Context {
	var found []Context
	best := 2
	for _, c := range contexts {
		if len(c.Path) > 0 && c.Path[0].Depth > limit {
			continue
		}
		n := 0
		for n < len(c.Path) && at(c.Path[n].Depth) == c.Path[n].Return {
			n++
		}
		if n > best {
			best, found = n, found[:0]
		}
		if n == best {
			found = append(found, c)
		}
	}
	return found
}
