package fastbridge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/slowbridge"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

// aliases are entries of the non-redirected roots that Linux leaves alone (the guard hole of Documentation/arch/x86/x86_64/mm.rst). They map
// what other entries map in the redirected view, where the address does not tell whose memory it means.
type aliases struct {
	of   map[int]int // by the entry that means the snapshot's memory, the one that maps it
	from map[int]int // the inverse
}

// The guard hole has this many entries, from the first of the kernel's half on.
const hole = 16

// slot is the number of the root's entry for an address.
func (b *Bridge) slot(la uint64) int { return index(la, b.levels) }

// tells reports whether an address says by itself whose memory it means.
func (b *Bridge) tells(la uint64) bool {
	return b.trusted(la) || b.owners.Snapshot(la)
}

// alias sees to it that an address that does not tell has an alias, and says whether there was none before.
func (b *Bridge) alias(la uint64) (made bool) {
	i := b.slot(la)
	if _, ok := b.aliases.of[i]; ok || b.tells(la) {
		return false
	}
	root := b.mem(b.clean)
	for to := 256; to < 256+hole && root != nil; to++ {
		if _, taken := b.aliases.from[to]; taken || binary.LittleEndian.Uint64(root[8*to:])&present != 0 {
			continue
		}
		b.aliases.of[i], b.aliases.from[to] = to, i
		b.put(monitor.Aliases+8*i, (uint64(to)-uint64(i))*size(b.levels))
		for _, s := range b.scopes {
			b.mapAliases(s)
		}
		return true
	}
	return false
}

// unalias returns the address whose alias la is, if it is one.
func (b *Bridge) unalias(la uint64) (uint64, bool) {
	to := b.slot(la)
	from, ok := b.aliases.from[to]
	return la + (uint64(from)-uint64(to))*size(b.levels), ok && la >= 1<<63
}

// mapAliases gives the non-redirected view the entries that the redirected one has now.
func (b *Bridge) mapAliases(s *scope) {
	n, r := s.views[nonRedirected].root, s.views[redirected].root
	for from, to := range b.aliases.of {
		n.set(to, r.get(from))
	}
}

// compileContexts makes the monitor's list of the contexts in which a site is known, in the order in which metadata.Deepest prefers them.
func (b *Bridge) compileContexts(t *site) []byte {
	contexts := slices.Clone(t.choices.known)
	slices.SortStableFunc(contexts, func(x, y metadata.Context) int { return y.CompareDepth(&x) })
	var list, key []byte
	var paths [][]metadata.Context // those with the same return addresses
	known := map[string]int{}
	for _, c := range contexts {
		key = key[:0]
		for _, f := range c.Path {
			key = append(binary.LittleEndian.AppendUint32(key, f.Depth), f.Return.Module...)
			key = binary.LittleEndian.AppendUint64(append(key, 0), f.Return.Offset)
		}
		i, ok := known[string(key)]
		if !ok {
			i = len(paths)
			known[string(key)], paths = i, append(paths, nil)
		}
		paths[i] = append(paths[i], c)
	}
	for _, same := range paths {
		path := same[0].Path
		e := binary.LittleEndian.AppendUint16(nil, uint16(len(path)))
		e = binary.LittleEndian.AppendUint16(e, says(same, t))
		e = append(e, make([]byte, monitor.ContextHead-len(e))...)
		possible := true
		for _, f := range path {
			a, ok := b.slow.Address(f.Return)
			possible = possible && ok
			e = binary.LittleEndian.AppendUint32(e, f.Depth)
			e = binary.LittleEndian.AppendUint32(e, uint32(a))
		}
		if possible {
			list = append(list, e...)
		}
	}
	return binary.LittleEndian.AppendUint64(list, monitor.ContextsEnd)
}

// says is what contexts with the same return addresses say; 0 if the host must. See frame.byOwner for those that do not agree.
func says(contexts []metadata.Context, t *site) uint16 {
	snapshot := theirs(contexts)
	switch {
	case snapshot == nil && (t.byAddress || t.inst.Seg == isa.GS):
		return monitor.ContextLocal
	case snapshot == nil && readsWord(&t.inst):
		return monitor.ContextEither
	case snapshot == nil:
		return 0
	case *snapshot && t.onStack && !slices.ContainsFunc(contexts, func(c metadata.Context) bool { return !meansSnapshot(c) }):
		return monitor.ContextStack
	case *snapshot:
		return monitor.ContextSnapshot
	}
	return monitor.ContextLocal
}

// meansSnapshot reports whether an operand is the snapshot's in a context.
func meansSnapshot(c metadata.Context) bool { return slices.Contains(c.Effective(), policy.Snapshot) }

// planned reports whether a handler's plan changes anything in a context.
func planned(c metadata.Context) bool { return !c.Plan.Default() }

// readsWord reports whether an instruction does nothing with memory but read 8 bytes at most.
func readsWord(in *isa.Inst) bool {
	return !slices.ContainsFunc(in.Args[:], func(a isa.Operand) bool { return a.Kind == isa.KindMem && (a.Access != isa.Read || a.Size > 8) })
}

// theirs reports whether the operand is the snapshot's in contexts that cannot be told apart; nil if they do not agree, nor do the
// addresses that told nothing.
func theirs(contexts []metadata.Context) *bool {
	var marks metadata.Marks
	agree, first := true, meansSnapshot(contexts[0])
	for _, c := range contexts {
		marks |= c.Marks &^ metadata.OnStack
		agree = agree && meansSnapshot(c) == first
	}
	switch {
	case agree:
	case marks == metadata.NeedsSnapshot:
		first = true
	case marks == metadata.NeedsLocal:
		first = false
	default:
		return nil
	}
	return &first
}

// stubSize is the most that the code of one displaced instruction takes.
const stubSize = 256

var routines = entries{
	locate: monitor.Base + monitor.Locate, locateCPU: monitor.Base + monitor.LocateCPU, locateOnStack: monitor.Base + monitor.LocateOnStack,
	ask: monitor.Base + monitor.Asked, resume: monitor.Base + monitor.Resume,
	locateAt: monitor.Base + monitor.Routines, leaveAt: monitor.Base + monitor.Routines + 8,
	data: monitor.Base,
}

// displace makes the code that executes a site out of its place, and returns its address; 0 if it cannot be made. contexts is as in
// displaced.
func (b *Bridge) displace(s *scope, t *site, contexts uint64) (uint64, error) {
	d := displaced{in: &t.inst, code: b.original(t.address, int(t.inst.Len)), at: t.address, contexts: contexts, onStack: t.onStack}
	if d.code == nil {
		return 0, nil
	}
	if v, ok := s.cpu.Immediates[t.address]; ok {
		switch n := d.in.Args[1].Size; {
		case d.in.HasMem() || d.in.Args[1].Kind != isa.KindImm:
			return 0, nil
		case d.in.Op == isa.SHR:
			d.immediate = []byte{byte(v)}
		case n == 8:
			d.immediate = binary.LittleEndian.AppendUint64(nil, v)
		default:
			return 0, nil
		}
	} else if at, ok := b.substituted(s, t); ok {
		d.fixed = at
	} else if t.inst.Seg == isa.GS {
		d.perCPU, d.base = true, b.redirect.PerCPU
		if off, ok := static(&t.inst, t.address); ok && slices.ContainsFunc(s.cpu.PerCPURoots, func(r cpu.Range) bool { return off >= r.Lo && off < r.Hi }) {
			d.contexts = 0
		}
	} else if t.inst.Seg == isa.FS {
		return 0, nil
	}
	at, err := b.place(func(at uint64) ([]byte, error) { return d.assemble(at, routines) })
	if errors.Is(err, errNotDisplaceable) {
		return 0, nil
	}
	b.displaced[at] = t.address
	return at, err
}

// place puts code where the monitor sees it, which is made for its address.
func (b *Bridge) place(code func(at uint64) ([]byte, error)) (at uint64, err error) {
	if len(b.stubs)-b.stubsUsed < stubSize {
		pa, mem, err := b.window.take(16)
		if err != nil {
			return 0, err
		}
		b.stubs, b.stubsAt, b.stubsUsed = mem, windowBase+pa-viewsBase, 0
	}
	at = b.stubsAt + uint64(b.stubsUsed)
	c, err := code(at)
	if err != nil {
		return 0, err
	}
	if len(c) > stubSize {
		return 0, errNotDisplaceable
	}
	copy(b.stubs[b.stubsUsed:], c)
	b.vm.Memory().Written(viewsBase+at-windowBase, len(c))
	b.stubsUsed += (len(c) + 15) &^ 15
	return at, nil
}

// trampoline returns the address of code that executes an instruction, which is not about its own address, and goes on behind it.
func (b *Bridge) trampoline(t *site) (uint64, error) {
	if at, ok := b.trampolines[t.address]; ok {
		return at, nil
	}
	code := bytes.Clone(b.original(t.address, int(t.inst.Len)))
	at, err := b.place(func(at uint64) ([]byte, error) {
		a := &assembler{code: code, at: at}
		a.jump(t.address + uint64(t.inst.Len))
		return a.code, nil
	})
	b.trampolines[t.address] = at
	return at, err
}

// substituted returns where the guest has what a site reads in place of its operand, if that is a substitute.
func (b *Bridge) substituted(s *scope, t *site) (uint64, bool) {
	la, ok := static(&t.inst, t.address)
	if !ok {
		return 0, false
	}
	for _, sub := range s.cpu.Substitutes {
		in := func(r cpu.Range) bool { return t.address >= r.Lo && t.address < r.Hi }
		if sub.PerCPU != (t.inst.Seg == isa.GS) || la < sub.Lo || la >= sub.Hi || sub.Code != nil && !slices.ContainsFunc(sub.Code, in) {
			continue
		}
		for i := range t.inst.Args {
			if a := &t.inst.Args[i]; a.Kind == isa.KindMem && (a.Access&isa.Write != 0 || la+uint64(a.Size) > sub.Hi) {
				return 0, false
			}
		}
		return b.substitute(sub.PA) + la - sub.Lo, true
	}
	return 0, false
}

// substitute returns the linear address at which the monitor has the 8 bytes of a substitute.
func (b *Bridge) substitute(pa uint64) uint64 {
	at, ok := b.substitutes[pa]
	if page := b.cfg.Memory.Page(pa &^ 0xfff); !ok && page != nil {
		at = monitor.Base + uint64(monitor.Substitutes+8*len(b.substitutes))
		b.substitutes[pa] = at
		copy(b.mon[at-monitor.Base:], page[pa&0xfff:pa&0xfff+8])
	}
	return at
}

// refine makes the code for a site that execution contexts decide, when it is met first: by then most of a scope's such sites never are.
func (b *Bridge) refine(s *scope, t *site) error {
	if t.refined || t.planned || b.cfg.ExitSwitching { // the monitor knows of no plans
		return nil
	}
	t.refined = true
	_, fixed := b.substituted(s, t)
	if _, constant := s.cpu.Immediates[t.address]; constant || fixed {
		at, err := b.displace(s, t, 0)
		if at != 0 {
			b.enterSite(s, t.address, monitor.ActionDisplace, uint32(at))
		}
		return err
	}
	list := b.compileContexts(t)
	const most = 1 << 16
	if len(t.choices.known) == 0 || len(list) > most {
		return nil
	}
	return b.displaceBy(s, t, list)
}

// byAddress makes the code for a site of which nothing is known: it asks unless the address tells.
func (b *Bridge) byAddress(s *scope, t *site) error {
	if b.cfg.ExitSwitching || t.inst.Seg >= isa.FS || special(&t.inst, s.cpu.Frozen) {
		return nil
	}
	if _, hooked := b.hooks[t.address]; hooked || s.addressed[t.address] || b.siteAt(s, t.address) != nil {
		return nil
	}
	s.addressed[t.address] = true
	return b.displaceBy(s, t, b.compileContexts(t))
}

// displaceBy displaces a site by a list of contexts.
func (b *Bridge) displaceBy(s *scope, t *site, list []byte) error {
	if len(b.lists)-b.listsUsed < len(list) {
		pa, mem, err := b.window.take(max(16, uint64(len(list)+4095)/4096))
		if err != nil {
			return err
		}
		b.lists, b.listsAt, b.listsUsed = mem, windowBase+pa-viewsBase, 0
	}
	copy(b.lists[b.listsUsed:], list)
	at, err := b.displace(s, t, b.listsAt+uint64(b.listsUsed))
	if at == 0 || err != nil {
		return err
	}
	b.listsUsed += len(list)
	b.enterSite(s, t.address, monitor.ActionDisplace, uint32(at))
	return nil
}

// mapSnapshot maps the pages around la in a scope's redirected view, and so under its alias.
func (b *Bridge) mapSnapshot(s *scope, root *table, la uint64) error {
	b.stats.Faults++
	// What lies beside it is wanted next, as far as it is there.
	for page := la &^ 0xffff; page <= la|0xffff && page >= la&^0xffff; page += 4096 {
		if page != la&^0xfff && (!b.owners.Snapshot(page) || b.tables.entry(root, page)&present != 0) {
			continue
		}
		pa, ok := b.redirect.Translate(page)
		if !ok {
			continue
		}
		if err := b.tables.put(root, page, (pa-slowbridge.Base+SnapshotBase)&^0xfff|dataFlags, false); err != nil {
			return err
		}
	}
	b.mapAliases(s)
	return nil
}
