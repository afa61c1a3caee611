package metadata

import (
	"bytes"
	"fmt"
	"slices"
)

// Conflict is a Bi site that the known contexts do not decide. FAST-BRIDGE treats it as Unknown in those contexts.
type Conflict struct {
	Scope ScopeID
	Site  *Site
	// Contexts are those that cannot be told apart, with different decisions. If their paths are equal, one context shows
	// both behaviours; else no return address at a certain place on the stack tells them apart.
	Contexts []Context
}

// SamePath says whether it is one and the same path that was decided differently.
func (c *Conflict) SamePath() bool {
	return !slices.ContainsFunc(c.Contexts, func(x Context) bool { return !slices.Equal(x.Path, c.Contexts[0].Path) })
}

// String says what and where.
func (c *Conflict) String() string {
	why := "cannot be told apart by return addresses"
	if c.SamePath() {
		why = "are the same path"
	}
	return fmt.Sprintf("%s at %s: %d contexts are decided differently and %s", c.Scope, c.Site.Location, len(c.Contexts), why)
}

type conflictID struct {
	scope    ScopeID
	location Location
	shape    string
	contexts int
}

func (c *Conflict) id() conflictID {
	shape := bytes.Clone(c.Site.Bytes)
	for i := range shape {
		if c.Site.fields&(1<<i) != 0 {
			shape[i] = 0
		}
	}
	return conflictID{c.Scope, c.Site.Location, string(shape), len(c.Contexts)}
}

// Conflicts returns all conflicts, in the order of scopes and sites.
func (s *Set) Conflicts() []Conflict {
	var out []Conflict
	for _, id := range s.Scopes() {
		sites := s.scopes[id]
		for i := range sites {
			_, groups := NewTree(sites[i].Contexts)
			for _, g := range groups {
				out = append(out, Conflict{id, &sites[i], g})
			}
		}
	}
	return out
}
