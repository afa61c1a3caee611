package metadata

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// Every join below is the least upper bound of a partial order: commutative, associative and idempotent. So is a merge.

// Merge adds all of o to s and returns the conflicts that neither of them had alone. Conflicts are not lost: see
// Conflicts.
func (s *Set) Merge(o *Set) []Conflict {
	var conflicts []Conflict
	for _, id := range o.Scopes() {
		known, learned := s.Sites(id), o.Sites(id)
		if covers(known, learned, (*Site).compare, (*Site).covers) {
			continue
		}
		s.setSites(id, mergeSorted(known, learned, (*Site).compare, func(a, b Site) Site {
			if a.covers(&b) {
				return a
			}
			joined := joinSites(a, b)
			// With no more contexts than one of them had, there are no more conflicts either.
			if len(joined.Contexts) > max(len(a.Contexts), len(b.Contexts)) {
				conflicts = append(conflicts, newConflicts(id, &a, &b, &joined)...)
			}
			return joined
		}))
	}
	for l, y := range o.allSymbols() {
		s.AddSymbol(l, y)
	}
	s.trainings = mergeSorted(s.trainings, o.trainings, (*Training).compare, joinTrainings)
	return conflicts
}

func newConflicts(id ScopeID, a, b, joined *Site) []Conflict {
	known := slices.Concat(siteConflicts(id, a), siteConflicts(id, b))
	return slices.DeleteFunc(siteConflicts(id, joined), func(c Conflict) bool {
		return slices.ContainsFunc(known, func(k Conflict) bool {
			return slices.EqualFunc(k.Contexts, c.Contexts, func(x, y Context) bool { return compareContexts(x, y) == 0 })
		})
	})
}

// JoinCategories is the category of a site that one run found to be a and another to be b: what is Unknown or touched
// no memory yet (a repeated instruction with a count of zero) gives way, and two that differ make it Bi.
func JoinCategories(a, b policy.Category) policy.Category {
	switch {
	case a == b || b == policy.Unknown:
		return a
	case a == policy.Unknown:
		return b
	case b == policy.Neutral:
		return a
	case a == policy.Neutral:
		return b
	}
	return policy.BiRedirectable
}

func joinOperands(a, b Operand) Operand {
	return Operand{max(a.Text, b.Text), max(a.Size, b.Size), a.Read || b.Read, a.Write || b.Write, a.Seen | b.Seen}
}

func joinSites(a, b Site) Site {
	if len(a.Operands) < len(b.Operands) {
		a, b = b, a
	}
	ops := slices.Clone(a.Operands)
	for i, o := range b.Operands {
		ops[i] = joinOperands(ops[i], o)
	}
	a.Operands = ops
	if bytes.Compare(a.Bytes, b.Bytes) < 0 {
		a.Bytes = b.Bytes
	}
	a.Category = JoinCategories(a.Category, b.Category)
	a.Contexts = mergeSorted(a.Contexts, b.Contexts, contextOrder, joinContexts)
	return a
}

func contextOrder(a, b *Context) int { return compareContexts(*a, *b) }
func joinContexts(a, b Context) Context {
	a.Marks |= b.Marks
	return a
}
func scopeOrder(a, b *ScopeID) int    { return a.compare(*b) }
func firstScope(a, _ ScopeID) ScopeID { return a }
func joinTrainings(a, b Training) Training {
	a.Instructions = max(a.Instructions, b.Instructions)
	a.Partial = a.Partial && b.Partial
	a.Scopes = mergeSorted(a.Scopes, b.Scopes, scopeOrder, firstScope)
	return a
}

// covers reports whether joining t would change nothing.
func (s *Site) covers(t *Site) bool {
	if JoinCategories(s.Category, t.Category) != s.Category || bytes.Compare(s.Bytes, t.Bytes) < 0 || len(s.Operands) < len(t.Operands) {
		return false
	}
	for i, o := range t.Operands {
		if joinOperands(s.Operands[i], o) != s.Operands[i] {
			return false
		}
	}
	return covers(s.Contexts, t.Contexts, contextOrder, func(c, d *Context) bool { return d.Marks&^c.Marks == 0 })
}

// covers reports whether each of b is in a, covered by what is there. Both are sorted.
func covers[T any](a, b []T, order func(a, b *T) int, one func(a, b *T) bool) bool {
	i := 0
	for j := range b {
		for i < len(a) && order(&a[i], &b[j]) < 0 {
			i++
		}
		if i == len(a) || order(&a[i], &b[j]) != 0 || !one(&a[i], &b[j]) {
			return false
		}
	}
	return true
}

// ordered reports whether a slice is sorted without equal elements.
func ordered[T any](s []T, order func(a, b *T) int) bool {
	for i := 1; i < len(s); i++ {
		if order(&s[i-1], &s[i]) >= 0 {
			return false
		}
	}
	return true
}

// normal returns the site with its contexts in order and their category in its own.
func (s *Site) normal() Site {
	n := *s
	n.Bits = cmp.Or(s.Bits, 64)
	if !ordered(s.Contexts, contextOrder) {
		n.Contexts = slices.Clone(s.Contexts)
		slices.SortFunc(n.Contexts, compareContexts)
		n.Contexts = unite(n.Contexts, contextOrder, joinContexts)
	}
	for i := range n.Contexts {
		n.Category = JoinCategories(n.Category, n.Contexts[i].Category())
	}
	return n
}

func (t *Training) normal() Training {
	n := *t
	n.Scopes = slices.Clone(t.Scopes)
	slices.SortFunc(n.Scopes, ScopeID.compare)
	n.Scopes = slices.Compact(n.Scopes)
	return n
}

// unite joins neighbours that are equal.
func unite[T any](sorted []T, order func(a, b *T) int, join func(a, b T) T) []T {
	var out []T
	for i := range sorted {
		if n := len(out); n > 0 && order(&out[n-1], &sorted[i]) == 0 {
			out[n-1] = join(out[n-1], sorted[i])
			continue
		}
		out = append(out, sorted[i])
	}
	return out
}

// mergeSorted returns the union of two sorted slices without equal elements, neither of which it changes.
func mergeSorted[T any](a, b []T, order func(a, b *T) int, join func(a, b T) T) []T {
	switch {
	case len(b) == 0:
		return a
	case len(a) == 0:
		return b
	}
	out := make([]T, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := order(&a[0], &b[0]); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, join(a[0], b[0])), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}
