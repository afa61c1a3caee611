package fastbridge

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/cpu/isa"
)

// admitted is a site that admitAll has let run where it may, or has yet to.
type admitted struct {
	at     uint64
	length uint8
	place  place
	index  int32 // among the sites of its module
}

// group is a jump in the place of instructions that lie together, as Meta-Data of a scope says of them. Scopes that say the same share it.
type group struct {
	said  string // the length and the place of each
	none  bool   // there can be no jump
	parts int    // how many of the instructions its code has
	code  [jumpSize]byte
	// entries are where the code of those that begin in the jump is.
	entries []groupEntry
	// statics are those whose operand's address is known: a scope can have a substitute for it.
	statics []isa.Inst
	at      []uint64
}

type groupEntry struct{ at, to uint64 }

// jump puts a jump in the place of the first of some sites, and says how many of them it takes care of; 0 if none.
func (b *Bridge) jump(s *scope, sites []admitted) (int, error) {
	at := sites[0].at
	if _, hooked := b.hooks[at]; hooked || at&0xfff+jumpSize > 4096 || sites[0].length < 2 || at < b.text.Lo || at >= b.text.Hi {
		return 0, nil
	}
	said := make([]byte, 0, 16)
	n, next := 0, at
	for ; next < at+jumpSize && n < len(sites) && sites[n].at == next && sites[n].place != nowhere; n++ {
		if _, hooked := b.hooks[next]; hooked {
			break
		}
		said = append(said, sites[n].length, byte(sites[n].place))
		next += uint64(sites[n].length)
	}
	if n < len(sites) && sites[n].at < at+jumpSize && (sites[n].at != next || n+1 < len(sites) && sites[n+1].at < at+jumpSize) {
		return 0, nil // more begins in the jump than it can take care of
	}
	var g *group
	for _, other := range b.groups[at] {
		if other.said == string(said) {
			g = other
		}
	}
	if g == nil {
		var err error
		if g, err = b.makeGroup(sites[:n]); err != nil {
			return 0, err
		}
		g.said = string(said)
		b.groups[at] = append(b.groups[at], g)
	}
	if g.none {
		return 0, nil
	}
	for i := range g.statics {
		if _, fixed := b.substituted(s, &site{address: g.at[i], inst: g.statics[i]}); fixed {
			return 0, nil
		}
	}
	p, err := b.codePage(s, nonRedirected, at&^0xfff)
	if err != nil || p == nil {
		return 0, err
	}
	copy(p.code[at&0xfff:], g.code[:])
	b.vm.Memory().Written(p.pa+at&0xfff, jumpSize)
	for _, e := range g.entries {
		b.enterSite(s, e.at, monitor.ActionContinue, uint32(e.to))
	}
	s.jumps[at] = true
	return g.parts, nil
}

// makeGroup makes the code for a jump.
func (b *Bridge) makeGroup(sites []admitted) (*group, error) {
	g := &group{}
	parts := make([]part, len(sites))
	for i, m := range sites {
		in, code, err := b.code(m.at)
		if err != nil || in.Len != m.length {
			parts = parts[:i]
			break
		}
		p := part{in: in, code: code, at: m.at, displaced: m.place == otherView}
		if p.displaced {
			if off, ok := static(&in, m.at); ok && in.Seg < isa.FS {
				g.statics, g.at = append(g.statics, in), append(g.at, m.at)
				p.fixed = b.aliased(off)
			}
			p.flags = in.FlagsRead() != 0 || !setsFlags[in.Op] && flagsCount(m.at+uint64(in.Len), b.decode)
		}
		parts[i] = p
	}
	if len(parts) == 0 {
		g.none = true
		return g, nil
	}
	// The size does not hang on where the code is.
	j, err := assembleJumped(b.area.lo, parts, b.cfg.Kernel.PageOffset, routines)
	at := parts[0].at
	if errors.Is(err, errNotDisplaceable) || err == nil && len(j.starts) < len(sites) && sites[len(j.starts)].at < at+jumpSize {
		g.none = true
		return g, nil
	}
	if err != nil {
		return nil, err
	}
	var traps [jumpSize - 1]bool
	for _, p := range parts {
		if next := p.next() - at; next < jumpSize {
			traps[next-1] = true
		}
	}
	to, ok := b.area.find(at+jumpSize, traps, len(j.code))
	if !ok {
		g.none = true
		return g, nil
	}
	if j, err = assembleJumped(to, parts, b.cfg.Kernel.PageOffset, routines); err != nil {
		return nil, err
	}
	written, err := b.area.put(to, j.code)
	if err != nil {
		return nil, err
	}
	for _, w := range written {
		b.vm.Memory().Written(w.pa, len(w.mem))
	}
	for i, off := range j.starts {
		if i > 0 && parts[i].at < at+jumpSize {
			g.entries = append(g.entries, groupEntry{parts[i].at, to + uint64(off)})
		}
	}
	for off, about := range j.asks {
		b.asks[to+uint64(off)] = about
	}
	b.displaced[to] = at
	g.parts = len(j.starts)
	g.code[0] = 0xe9
	binary.LittleEndian.PutUint32(g.code[1:], uint32(to-at-jumpSize))
	return g, nil
}

// aliased returns where the snapshot's memory is that an address means, or the address if it tells; 0 if there is no room for an alias.
func (b *Bridge) aliased(la uint64) uint64 {
	if b.tells(la) {
		return la
	}
	b.alias(la)
	to, ok := b.aliases.of[b.slot(la)]
	if !ok {
		return 0
	}
	return la + (uint64(to)-uint64(b.slot(la)))*size(b.levels)
}

// decode is code without the bytes.
func (b *Bridge) decode(at uint64) (isa.Inst, bool) {
	in, _, err := b.code(at)
	return in, err == nil
}

// unjump takes away the jumps in a scope of which bytes in [lo, hi) are a part: their first instruction is displaced by int3 again, the others
// run where they may.
func (b *Bridge) unjump(s *scope, lo, hi uint64) error {
	for at := lo - (jumpSize - 1); at < hi; at++ {
		if !s.jumps[at] {
			continue
		}
		delete(s.jumps, at)
		p := s.views[nonRedirected].pages[at&^0xfff]
		copy(p.code[at&0xfff:], bytes.Repeat([]byte{int3}, jumpSize))
		b.vm.Memory().Written(p.pa+at&0xfff, jumpSize)
		for next := at; next < at+jumpSize; {
			t := b.siteAt(s, next)
			if t == nil {
				break
			}
			if err := b.admit(s, t); err != nil {
				return err
			}
			next += uint64(t.inst.Len)
		}
	}
	return nil
}
