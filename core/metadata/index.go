package metadata

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/hybridbridge/emu/core/policy"
)

// Index answers what is known about sites. It is made from a Set, compiles what it is asked about, and may be used by
// several goroutines.
type Index struct {
	set    *Set
	mu     sync.Mutex
	scopes map[ScopeID]*ScopeIndex // compiled so far
}

// ScopeIndex is the part of an Index that belongs to one scope.
type ScopeIndex struct {
	sites   []Site // sorted
	mu      sync.Mutex
	entries map[int]*Entry // of those that were asked for, by number
}

// Entry is what is known about one site.
type Entry struct {
	Site *Site

	once, treeOnce sync.Once

	tree  *Tree
	exact map[string]*Decision   // by path; nil where decisions conflict
	plans map[string]policy.Plan // by path; missing where plans conflict
}

// NewIndex is of a Set, which must not be changed afterwards.
func NewIndex(s *Set) *Index { return &Index{set: s, scopes: map[ScopeID]*ScopeIndex{}} }

// compile does what only some entries need.
func (e *Entry) compile() {
	_, contexts := e.Site.Answers()
	e.exact = make(map[string]*Decision, len(contexts))
	e.plans = make(map[string]policy.Plan, len(contexts))
	for i := range contexts {
		c := &contexts[i]
		k := pathKey(c.Path)
		if _, conflict := e.exact[k]; conflict {
			if p, ok := e.plans[k]; ok && comparePlans(&p, &c.Plan) != 0 {
				delete(e.plans, k)
			}
			e.exact[k] = nil
			continue
		}
		e.exact[k], e.plans[k] = &c.Decision, c.Plan
	}
}

// Tree is what tells the contexts apart; a leaf if they agree, nil if there are none.
func (e *Entry) Tree() *Tree {
	e.treeOnce.Do(func() {
		_, seen := e.Site.Answers()
		e.tree, _ = NewTree(seen)
	})
	return e.tree
}

// Plan returns the handler's plan in contexts that were seen with exactly this path, whatever the routes were. ok is false
// if there was none, or if there are several plans.
func (e *Entry) Plan(path []Frame) (p policy.Plan, ok bool) {
	if e == nil {
		return p, false
	}
	e.once.Do(e.compile)
	p, ok = e.plans[pathKey(path)]
	return p, ok
}

// Scope returns the index of a scope, nil if nothing is known of it. A nil ScopeIndex knows no site.
func (x *Index) Scope(id ScopeID) *ScopeIndex {
	x.mu.Lock()
	defer x.mu.Unlock()
	si, ok := x.scopes[id]
	if ok {
		return si
	}
	if sites := x.set.Sites(id); len(sites) > 0 {
		si = &ScopeIndex{sites: sites, entries: map[int]*Entry{}}
	}
	x.scopes[id] = si
	return si
}

// Site returns what is known about the instruction with these bytes at a location, nil if nothing is. The bytes are as they
// are in this run, wherever the kernel lies.
func (s *ScopeIndex) Site(l Location, code []byte) *Entry {
	if s == nil {
		return nil
	}
	i, _ := slices.BinarySearchFunc(s.sites, l, func(x Site, l Location) int { return x.Location.compare(l) })
	for ; i < len(s.sites) && s.sites[i].Location == l; i++ {
		if !s.sites[i].hasShape(code) {
			continue
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		e := s.entries[i]
		if e == nil {
			e = &Entry{Site: &s.sites[i]}
			s.entries[i] = e
		}
		return e
	}
	return nil
}

// Category is the site's category; Unknown for a nil Entry.
func (e *Entry) Category() policy.Category {
	if e == nil {
		return policy.Unknown
	}
	return e.Site.Category
}

// Observed is the category of what was seen of the site, whatever plans make of it; Unknown for a nil Entry.
func (e *Entry) Observed() (c policy.Category) {
	if e == nil {
		return policy.Unknown
	}
	routed := false
	for i := range e.Site.Contexts {
		o := &e.Site.Contexts[i]
		routed = routed || len(o.Plan.Routes) > 0
		c = JoinCategories(c, (&Decision{Routes: o.Routes}).Category())
	}
	if !routed {
		return e.Site.Category
	}
	return c
}

// Exact returns the decision in a context that was seen with exactly this path; nil if there is none or several.
func (e *Entry) Exact(path []Frame) *Decision {
	if e == nil {
		return nil
	}
	e.once.Do(e.compile)
	return e.exact[pathKey(path)]
}

// Decide returns the decision in any context that the tests of the tree do not tell from a known one; nil if there is
// none. See Tree.Decide for what at is.
func (e *Entry) Decide(at func(depth uint32) Location) *Decision {
	if e == nil {
		return nil
	}
	return e.Tree().Decide(at)
}

func pathKey(path []Frame) string {
	b := make([]byte, 0, 16*len(path))
	for _, f := range path {
		b = binary.LittleEndian.AppendUint32(b, f.Depth)
		b = binary.LittleEndian.AppendUint64(b, f.Return.Offset)
		b = append(b, f.Return.Module...)
		b = append(b, 0)
	}
	return string(b)
}
