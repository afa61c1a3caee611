package metadata

import (
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

// Conflicts returns all conflicts, in the order of scopes and sites.
func (s *Set) Conflicts() []Conflict {
	var out []Conflict
	for _, id := range s.Scopes() {
		sites := s.Sites(id)
		for i := range sites {
			out = append(out, siteConflicts(id, &sites[i])...)
		}
	}
	return out
}

func siteConflicts(id ScopeID, s *Site) []Conflict {
	var out []Conflict
	_, seen := s.Answers()
	_, groups := NewTree(seen)
	for _, g := range groups {
		out = append(out, Conflict{id, s, g})
	}
	return out
}
