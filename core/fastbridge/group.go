package fastbridge

import (
	"bytes"
	"encoding/binary"

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
	said  uint64 // of each the length and the place, a byte each
	other *group // of a scope that says something else
	none  bool   // there can be no jump
	parts uint8  // how many of the instructions its code has
	first uint8  // how many bytes of the jump are in the place of the first
	code  [jumpSize]byte
	to    uint64 // where its code is
	size  int
	// entries are where the code of those that begin in the jump is, asks where it has int3 by which the host is asked, and about which address.
	entries, asks []link
	// statics are those whose operand's address is known: a scope can have a substitute for it.
	statics []site
}

type link struct{ from, to uint64 }

// hookSaid marks a group whose first instruction has a hook: the site's SiteSkip follows.
const hookSaid = 0x80

// jump puts a jump in the place of the first of some sites, and says how many of them it takes care of; 0 if none.
func (b *Bridge) jump(s *scope, sites []admitted) (int, error) {
	at := sites[0].at
	if at&0xfff+jumpSize > 4096 || sites[0].length < 2 || at < b.text.Lo || at >= b.text.Hi {
		return 0, nil
	}
	said := uint64(0)
	var h *hook
	if _, hooked := b.hooks[at]; hooked {
		if h = b.hookOf(s, at); h == nil {
			return 0, nil
		}
		said = hookSaid<<8 | uint64(h.skip)
	}
	n, next := 0, at
	for ; next < at+jumpSize && n < len(sites) && sites[n].at == next && sites[n].place != nowhere; n++ {
		if _, hooked := b.hooks[next]; hooked && n > 0 {
			return 0, nil
		}
		said = said<<8 | uint64(sites[n].length)<<4 | uint64(sites[n].place)
		next += uint64(sites[n].length)
	}
	if n == 0 || n < len(sites) && sites[n].at < at+jumpSize && (sites[n].at != next || n+1 < len(sites) && sites[n+1].at < at+jumpSize) {
		return 0, nil // more begins in the jump than it can take care of
	}
	g := b.groups[at]
	for ; g != nil && g.said != said; g = g.other {
	}
	if g == nil {
		var err error
		if g, err = b.makeGroup(sites[:n], h); err != nil {
			return 0, err
		}
		g.said, g.other = said, b.groups[at]
		b.groups[at] = g
	}
	if g.none {
		return 0, nil
	}
	for i := range g.statics {
		if _, fixed := b.substituted(s, &g.statics[i]); fixed {
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
		b.enterSite(s, e.from, monitor.ActionContinue, uint32(e.to))
	}
	return int(g.parts), nil
}

// hookOf returns what the code of a jump is to do at the entry of a function that may run, nil if that is left to int3.
func (b *Bridge) hookOf(s *scope, at uint64) *hook {
	var e [monitor.SiteSize]byte
	h := &hook{action: b.hookSite(s, at, b.hooks[at], e[:])}
	h.skip, h.size, h.value = e[monitor.SiteSkip], e[monitor.SiteBytes], binary.LittleEndian.Uint32(e[monitor.SiteValue:])
	if h.action != monitor.ActionElide && h.action != monitor.ActionLock || h.skip&monitor.SkipOnce != 0 || h.skip&monitor.SkipBytes == 0 {
		return nil
	}
	return h
}

// jumpLocal puts a jump in the place of the first instruction of a function that is local, if the scope has code in its page, but none there.
func (b *Bridge) jumpLocal(s *scope, at uint64) error {
	p := s.views[nonRedirected].pages[at&^0xfff]
	if b.copy.delta == 0 || at == b.copy.stays || p == nil || at&0xfff+jumpSize > 4096 || at < b.text.Lo || at >= b.text.Hi {
		return nil
	}
	g := b.groups[at]
	if g == nil {
		in, _, err := b.instruction(at)
		if err != nil {
			return nil
		}
		m := admitted{at: at, length: in.Len}
		if g, err = b.makeGroup([]admitted{m}, &hook{action: monitor.ActionLocal, copy: at + b.copy.delta}); err != nil {
			return err
		}
		b.groups[at] = g
	}
	first := g.first
	if g.none || !bytes.Equal(p.code[at&0xfff+uint64(first):][:jumpSize-first], noJump[:jumpSize-first]) {
		return nil // something begins in the jump
	}
	copy(p.code[at&0xfff:], g.code[:])
	b.vm.Memory().Written(p.pa+at&0xfff, jumpSize)
	return nil
}

// noJump is where nothing is.
var noJump = [jumpSize]byte{int3, int3, int3, int3, int3}

// makeGroup makes the code for a jump. h is what is done at the first instruction, if that is not nil.
func (b *Bridge) makeGroup(sites []admitted, h *hook) (*group, error) {
	g := &group{}
	at := sites[0].at
	b.parts = b.parts[:0]
	for _, m := range sites {
		in, code, err := b.instruction(m.at)
		if err != nil || in.Len != m.length {
			break
		}
		p := part{in: in, code: code, at: m.at, displaced: m.place == otherView, hook: h}
		h = nil
		if p.displaced && p.hook == nil {
			if off, ok := static(&in, m.at); ok && in.Seg < isa.FS {
				g.statics = append(g.statics, site{address: m.at, inst: in})
				p.fixed = b.aliased(off)
			}
			p.flags = in.FlagsRead() != 0 || !setsFlags[in.Op] && flagsCount(p.next(), b.decode)
		}
		b.parts = append(b.parts, p)
	}
	j := &b.jumper
	j.direct, j.to = b.cfg.Kernel.PageOffset, routines
	if len(b.parts) == 0 || j.assemble(b.area.lo, b.parts) != nil || len(j.starts) < len(sites) && sites[len(j.starts)].at < at+jumpSize {
		g.none = true
		return g, nil
	}
	var traps [jumpSize - 1]bool
	for i := range b.parts {
		if next := b.parts[i].next() - at; next < jumpSize {
			traps[next-1] = true
		}
	}
	to, ok := b.area.find(at+jumpSize, traps, len(j.code))
	if !ok {
		g.none = true
		return g, nil
	}
	j.move(to)
	if err := b.area.put(to, j.code, b.vm.Memory().Written); err != nil {
		return nil, err
	}
	for i, off := range j.starts {
		if i > 0 && b.parts[i].at < at+jumpSize {
			g.entries = append(g.entries, link{b.parts[i].at, to + uint64(off)})
		}
	}
	for _, a := range j.asks {
		g.asks = append(g.asks, link{to + uint64(a.off), a.about})
	}
	g.parts, g.first, g.to, g.size = uint8(len(j.starts)), min(sites[0].length, jumpSize), to, len(j.code)
	g.code[0] = 0xe9
	binary.LittleEndian.PutUint32(g.code[1:], uint32(to-at-jumpSize))
	return g, nil
}

// groupOf returns the jump and the group whose code is at an address.
func (b *Bridge) groupOf(a uint64) (at uint64, g *group) {
	if a < b.area.lo || a >= b.area.hi {
		return 0, nil
	}
	for at, g := range b.groups {
		for ; g != nil; g = g.other {
			if a >= g.to && a-g.to < uint64(g.size) {
				return at, g
			}
		}
	}
	return 0, nil
}

// asksAbout returns which instruction the int3 at an address asks about: itself, unless it is in the code of a jump.
func (b *Bridge) asksAbout(a uint64) uint64 {
	if _, g := b.groupOf(a); g != nil {
		for _, l := range g.asks {
			if l.from == a {
				return l.to
			}
		}
	}
	return a
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
	in, _, err := b.instruction(at)
	return in, err == nil
}

// jumps reports whether code at an address is the jump of a group.
func (b *Bridge) jumps(at uint64, code []byte) bool {
	for g := b.groups[at]; g != nil; g = g.other {
		if !g.none && bytes.Equal(code, g.code[:]) {
			return true
		}
	}
	return false
}

// unjump takes away the jumps in a scope of which bytes in [lo, hi) are a part: their first instruction is displaced by int3 again, the others
// run where they may.
func (b *Bridge) unjump(s *scope, lo, hi uint64) error {
	for at := lo - (jumpSize - 1); at < hi; at++ {
		p := s.views[nonRedirected].pages[at&^0xfff]
		if p == nil || at&0xfff+jumpSize > 4096 || !b.jumps(at, p.code[at&0xfff:][:jumpSize]) {
			continue
		}
		copy(p.code[at&0xfff:], noJump[:])
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
