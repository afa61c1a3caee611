package metadata

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hybridbridge/emu/core/metadata/internal/metadatapb"
	"github.com/hybridbridge/emu/core/policy"
)

// Outline is what FAST-BRIDGE needs to know of most sites of a scope: how long they are and where they may run. A Store keeps it beside the
// scope, because all of a scope takes long to read. It belongs to one goroutine.
type Outline struct {
	Modules []OutlineModule // sorted by name
	// deciding are all that is known of the sites that contexts decide, and of hooks that did something; it reads them if that is not nil.
	deciding []Site
	read     func() []Site
}

// OutlineModule are the sites in one module, as in Location.
type OutlineModule struct {
	Name  string
	Sites []OutlineSite // of 64-bit code, sorted
}

// OutlineSite is one of them.
type OutlineSite struct {
	Offset uint64 // as in Location
	Length uint8  // in bytes
	Check  uint8  // OutlineCheck of its code
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
		m := o.module(s.Module)
		m.Sites = append(m.Sites, OutlineSite{s.Offset, uint8(len(s.Bytes)), OutlineCheck(s.Bytes), flags})
	}
	return o
}

// module returns the last module, which is made if it has another name.
func (o *Outline) module(name string) *OutlineModule {
	if n := len(o.Modules); n == 0 || o.Modules[n-1].Name != name {
		o.Modules = append(o.Modules, OutlineModule{Name: name})
	}
	return &o.Modules[len(o.Modules)-1]
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

// Site returns all that is known of a site of a module that traps in both views or has TakenHook; nil for others.
func (o *Outline) Site(module string, of OutlineSite) *Site {
	if o.read != nil {
		o.deciding, o.read = o.read(), nil
	}
	at := Location{module, of.Offset}
	i, _ := slices.BinarySearchFunc(o.deciding, at, func(s Site, l Location) int { return s.Location.compare(l) })
	for ; i < len(o.deciding) && o.deciding[i].Location == at; i++ {
		if b := o.deciding[i].Bytes; len(b) == int(of.Length) && OutlineCheck(b) == of.Check {
			return &o.deciding[i]
		}
	}
	return nil
}

// At returns the sites at a location: several if the kernel has patched it.
func (o *Outline) At(l Location) []OutlineSite {
	m, ok := slices.BinarySearchFunc(o.Modules, l.Module, func(m OutlineModule, name string) int { return cmp.Compare(m.Name, name) })
	if !ok {
		return nil
	}
	sites := o.Modules[m].Sites
	i, _ := slices.BinarySearchFunc(sites, l.Offset, func(s OutlineSite, offset uint64) int { return cmp.Compare(s.Offset, offset) })
	j := i
	for j < len(sites) && sites[j].Offset == l.Offset {
		j++
	}
	return sites[i:j]
}

// Outline returns the outline of a scope.
func (s *Set) Outline(id ScopeID) *Outline {
	if p := s.stored.scopes[id]; p != nil {
		if o := p.outlined(id, func() []Site { return outlineOf(s.Sites(id)).deciding }); o != nil {
			return o
		}
	}
	return outlineOf(s.Sites(id))
}

// outlined returns the outline that a store has of a part, nil if it has none of just this. whole makes the deciding sites of the part itself, should
// those of the outline not be readable.
func (p *part) outlined(id ScopeID, whole func() []Site) *Outline {
	m, err := open(p.outline)
	if err != nil || m.Outline == nil || m.Outline.Deciding == nil || !bytes.Equal(p.digest, m.Outline.Of) {
		return nil
	}
	o := &Outline{read: func() []Site {
		stored := new(metadatapb.Set)
		if proto.Unmarshal(m.Outline.Deciding, stored) == nil {
			if set, err := fromProto(stored); err == nil {
				return set.scopes[id]
			}
		}
		return whole()
	}}
	for _, stored := range m.Outline.Modules {
		const least = 4 // bytes of a site
		to := OutlineModule{stored.Name, make([]OutlineSite, 0, len(stored.Sites)/least)}
		offset := uint64(0)
		for b := stored.Sites; len(b) > 0; {
			distance, n := binary.Uvarint(b)
			if n <= 0 || len(b) < n+3 {
				return nil
			}
			offset += distance
			to.Sites = append(to.Sites, OutlineSite{offset, b[n], b[n+1], OutlineFlags(b[n+2])})
			b = b[n+3:]
		}
		o.Modules = append(o.Modules, to)
	}
	return o
}

// digest returns the SHA-256 of an Envelope without copying its body; nil if it has none.
func digest(envelope []byte) []byte {
	fields := (&metadatapb.Envelope{}).ProtoReflect().Descriptor().Fields()
	want := fields.ByName("sha256").Number()
	for len(envelope) > 0 {
		number, wire, n := protowire.ConsumeTag(envelope)
		if n < 0 {
			return nil
		}
		envelope = envelope[n:]
		if number == want && wire == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(envelope)
			return v
		}
		if n = protowire.ConsumeFieldValue(number, wire, envelope); n < 0 {
			return nil
		}
		envelope = envelope[n:]
	}
	return nil
}

// encodeOutline makes what a store keeps beside a scope, whose Envelope is part.
func encodeOutline(k Key, id ScopeID, sites []Site, part []byte) ([]byte, error) {
	o := outlineOf(sites)
	p := &metadatapb.Outline{Of: digest(part)}
	for _, m := range o.Modules {
		to := &metadatapb.OutlineModule{Name: m.Name}
		before := uint64(0)
		for _, s := range m.Sites {
			to.Sites = append(binary.AppendUvarint(to.Sites, s.Offset-before), s.Length, s.Check, byte(s.Flags))
			before = s.Offset
		}
		p.Modules = append(p.Modules, to)
	}
	set := toProto(k, &Set{scopes: map[ScopeID][]Site{id: o.deciding}})
	var err error
	if p.Deciding, err = (proto.MarshalOptions{Deterministic: true}).Marshal(set); err != nil {
		return nil, err
	}
	return seal(&metadatapb.MetaData{Outline: p})
}
