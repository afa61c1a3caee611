package metadata

import (
	"bytes"
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/hybridbridge/emu/core/metadata/internal/metadatapb"
	"github.com/hybridbridge/emu/core/policy"
)

// Outline is what FAST-BRIDGE needs to know of most sites of a scope: how long they are and where they may run. A Store keeps it beside the
// scope, because all of a scope takes long to read.
type Outline struct {
	Sites []OutlineSite // of 64-bit code, sorted
	// deciding are all that is known of the sites that contexts decide, and of hooks that did something.
	deciding []Site
}

// OutlineSite is one of them.
type OutlineSite struct {
	Location
	Length uint8 // in bytes
	Check  uint8 // OutlineCheck of its code
	Flags  OutlineFlags
}

// OutlineCheck tells code from what a kernel has patched in its place, most of the time. KASLR does not change it.
func OutlineCheck(code []byte) uint8 {
	check := code[0]
	if len(code) > 1 {
		check += 31 * code[1] // the lowest byte of an address at most, of which KASLR keeps 21 bits
	}
	return check
}

// OutlineFlags is a set.
type OutlineFlags uint8

// Flags.
const (
	Scoped          OutlineFlags = 1 << iota // it may have been executed outside local functions
	InSubtree                                // it may have been executed in a local function
	TrapsRedirected                          // see Site.Traps
	TrapsNonRedirected
	TakenHook // a hook of the function that begins here did something: HookTaken

	categoryShift = 5
)

// Category is the site's.
func (s OutlineSite) Category() policy.Category { return policy.Category(s.Flags >> categoryShift) }

func outlineOf(sites []Site) *Outline {
	o := &Outline{}
	for i := range sites {
		s := &sites[i]
		if s.Bits == 32 {
			continue
		}
		flags := OutlineFlags(s.Category) << categoryShift
		set := func(f OutlineFlags, on bool) {
			if on {
				flags |= f
			}
		}
		n, r := s.Traps()
		set(TrapsNonRedirected, n)
		set(TrapsRedirected, r)
		set(Scoped, s.seen(func(r policy.Reason) bool { return r != policy.BySubtree }))
		// The stack and user space come before what a subtree means.
		set(InSubtree, s.seen(func(r policy.Reason) bool { return r == policy.BySubtree || r == policy.ByStack || r == policy.ByUser }))
		set(TakenHook, slices.ContainsFunc(s.Contexts, func(c Context) bool { return c.Marks&HookTaken != 0 }))
		if n && r || flags&TakenHook != 0 {
			o.deciding = append(o.deciding, *s)
		}
		o.Sites = append(o.Sites, OutlineSite{s.Location, uint8(len(s.Bytes)), OutlineCheck(s.Bytes), flags})
	}
	return o
}

// ByAddress reports whether the addresses of a site's operands alone made them the snapshot's: they are roots.
func (s *Site) ByAddress() bool {
	roots := false
	for _, o := range s.Operands {
		for route, reason := range o.Seen.All() {
			if route == policy.Snapshot && reason != policy.ByRoot {
				return false
			}
			roots = roots || route == policy.Snapshot
		}
	}
	return roots
}

// seen reports whether a reason for which an operand went where it did matches. An instruction without memory operands has no reason, and
// may have been executed anywhere.
func (s *Site) seen(match func(policy.Reason) bool) bool {
	return len(s.Operands) == 0 || slices.ContainsFunc(s.Operands, func(o Operand) bool {
		for _, r := range o.Seen.All() {
			if match(r) {
				return true
			}
		}
		return false
	})
}

// Site returns all that is known of a site that traps in both views or has TakenHook; nil for others.
func (o *Outline) Site(of OutlineSite) *Site {
	i, _ := slices.BinarySearchFunc(o.deciding, of.Location, func(s Site, l Location) int { return s.Location.compare(l) })
	for ; i < len(o.deciding) && o.deciding[i].Location == of.Location; i++ {
		if b := o.deciding[i].Bytes; len(b) == int(of.Length) && OutlineCheck(b) == of.Check {
			return &o.deciding[i]
		}
	}
	return nil
}

// At returns the sites at a location: several if the kernel has patched it.
func (o *Outline) At(l Location) []OutlineSite {
	i, _ := slices.BinarySearchFunc(o.Sites, l, func(s OutlineSite, l Location) int { return s.Location.compare(l) })
	j := i
	for j < len(o.Sites) && o.Sites[j].Location == l {
		j++
	}
	return o.Sites[i:j]
}

// Outline returns the outline of a scope.
func (s *Set) Outline(id ScopeID) *Outline {
	if p := s.stored.scopes[id]; p != nil {
		if o := p.outlined(id); o != nil {
			return o
		}
	}
	return outlineOf(s.Sites(id))
}

// outlined returns the outline that a store has of a part, nil if it has none of just this.
func (p *part) outlined(id ScopeID) *Outline {
	m, err := open(p.outline)
	if err != nil || m.Outline == nil || len(m.Sets) != 1 {
		return nil
	}
	var e metadatapb.Envelope
	if p.code == nil || proto.Unmarshal(p.code, &e) != nil || !bytes.Equal(e.Sha256, m.Outline.Of) {
		return nil
	}
	set, err := fromProto(m.Sets[0])
	if err != nil {
		return nil
	}
	o := &Outline{deciding: set.scopes[id]}
	for _, module := range m.Outline.Modules {
		l := Location{Module: module.Name}
		for b := module.Sites; len(b) > 0; {
			distance, n := binary.Uvarint(b)
			if n <= 0 || len(b) < n+3 {
				return nil
			}
			l.Offset += distance
			o.Sites = append(o.Sites, OutlineSite{l, b[n], b[n+1], OutlineFlags(b[n+2])})
			b = b[n+3:]
		}
	}
	return o
}

// encodeOutline makes what a store keeps beside a scope, whose Envelope is part.
func encodeOutline(k Key, id ScopeID, sites []Site, part []byte) ([]byte, error) {
	var e metadatapb.Envelope
	if err := proto.Unmarshal(part, &e); err != nil {
		return nil, err
	}
	o := outlineOf(sites)
	p := &metadatapb.Outline{Of: e.Sha256}
	before := uint64(0)
	for _, s := range o.Sites {
		if n := len(p.Modules); n == 0 || p.Modules[n-1].Name != s.Module {
			p.Modules = append(p.Modules, &metadatapb.OutlineModule{Name: s.Module})
			before = 0
		}
		m := p.Modules[len(p.Modules)-1]
		m.Sites = append(binary.AppendUvarint(m.Sites, s.Offset-before), s.Length, s.Check, byte(s.Flags))
		before = s.Offset
	}
	return seal(&metadatapb.MetaData{Sets: []*metadatapb.Set{toProto(k, &Set{scopes: map[ScopeID][]Site{id: o.deciding}})}, Outline: p})
}
