package fastbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

// int3 fills code pages.
const int3 = 0xcc

// view is one of a scope's two.
type view struct {
	root  *table
	pages map[uint64]*codePage // by linear page
}

type codePage struct {
	pa   uint64
	code []byte
}

// scope is what the guest needs to run the system calls of one scope.
type scope struct {
	id        metadata.ScopeID
	cpu       cpu.Scope
	addr      uint64 // of struct scope in the monitor's window
	data      []byte
	views     [2]view // non-redirected, redirected
	outline   *metadata.Outline
	sites     map[uint64]*site // those that were looked at one by one
	addressed map[uint64]bool  // unknown ones that run where the address tells
	roots     pages            // ranges of cpu.Roots, for the monitor
	// table is the monitor's, of addresses; entries is how many it has.
	table   pages
	entries int
	// taken are functions whose hook did something for an argument whose address does not tell the machine.
	taken map[uint64]*takenHook
	found [policy.Neutral + 1]uint64 // sites by category
	stats CallStats                  // what the monitor does not count
	// stacks are the kernel stacks on which the scope was entered.
	stacks map[uint64]bool
}

// takenHook tells the contexts of a function apart: see frame.hookTaken.
type takenHook struct {
	module  string
	site    metadata.OutlineSite
	choices *choices // nil before they are asked for
}

// pages are guest-physical memory.
type pages struct {
	pa  uint64
	mem []byte
}

// Views by number.
const (
	nonRedirected = iota
	redirected
)

// makeBases makes what the views of all scopes share.
func (b *Bridge) makeBases() error {
	ts, k := &b.tables, b.cfg.Kernel
	cleanRoot := b.mem(b.clean)
	if cleanRoot == nil {
		return fmt.Errorf("fastbridge: the trusted VM's page tables are not in its memory")
	}
	pa, page, err := ts.pool.take(1)
	if err != nil {
		return err
	}
	for i := range page {
		page[i] = int3
	}
	b.poison = pa
	if err := b.makeCopy(); err != nil {
		return err
	}
	if b.baseN, err = ts.table(b.levels, nil); err != nil {
		return err
	}
	if b.baseR, err = ts.table(b.levels, nil); err != nil {
		return err
	}
	copy(b.baseN.page[2048:], cleanRoot[2048:])
	// In the redirected view only what lies in the last 2 TiB is the trusted VM's: the entry areas, the kernel, the fixmap.
	const last = 0xfffffe0000000000
	for i := index(last, b.levels); i < 512; i++ {
		b.baseR.set(i, binary.LittleEndian.Uint64(cleanRoot[8*i:]))
	}
	type part struct{ base, limit, most uint64 }
	top := b.owners.Above
	for _, r := range b.vm.Memory().Ranges() {
		top = max(top, r.End())
	}
	for n, p := range []part{{k.PageOffset, b.owners.Above, top}, {k.VmemmapBase, b.owners.Descriptors(b.owners.Above), b.owners.Descriptors(top)}} {
		lo := p.base
		if n == 0 {
			lo += sharedMemory // the trusted VM's
		}
		if err := ts.clear(b.baseN, lo, p.base+p.limit); err != nil {
			return err
		}
		for off := uint64(0); off < p.most; off += size(3) {
			pudN, err := ts.reach(b.baseN, p.base+off, 3, true)
			if err != nil {
				return err
			}
			i := index(p.base+off, 3)
			if off < p.limit {
				if _, err := ts.reach(b.baseN, p.base+off, 2, true); err != nil {
					return err
				}
			}
			pudR, err := ts.reach(b.baseR, p.base+off, 3, true)
			if err != nil {
				return err
			}
			pudR.set(i, pudN.get(i))
			if c := pudN.child[i]; c != nil {
				pudR.child[i] = c
			}
		}
	}
	// The kernel's variables and its modules are the snapshot's in the redirected view, its code and constants are not.
	image := [][2]uint64{{b.text.Hi, b.symbol("__start_rodata")}, {b.symbol("__start_ro_after_init"), b.symbol("__end_ro_after_init")}, {b.symbol("__end_rodata"), b.symbol("_end")}}
	for _, r := range image {
		lo, hi := r[0]&^0xfff, (r[1]+0xfff)&^0xfff
		if r[0] == 0 || r[1] <= r[0] {
			continue
		}
		if err := ts.clear(b.baseR, lo, hi); err != nil {
			return err
		}
	}
	const modules, fixmap = 0xffffffffc0000000, 0xffffffffff000000
	if err := ts.clear(b.baseR, modules, fixmap); err != nil {
		return err
	}
	// All of the kernel's text is int3 unless it is known.
	for _, root := range []*table{b.baseN, b.baseR} {
		for la := b.text.Lo &^ 0xfff; la < b.text.Hi; la += 4096 {
			if err := ts.put(root, la, b.poison|codeFlags, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// scope returns a scope, whose views are made when it is first used.
func (b *Bridge) scope(id metadata.ScopeID, c cpu.Scope) (*scope, error) {
	if s := b.scopes[id]; s != nil {
		return s, nil
	}
	since := time.Now()
	s := &scope{id: id, cpu: c, stacks: map[uint64]bool{}}
	if err := b.build(s); err != nil {
		return nil, err
	}
	b.stats.Views += time.Since(since)
	b.scopes[id], b.byEntry[s.addr] = s, s
	return s, nil
}

// build makes the views of a scope out of Meta-Data.
func (b *Bridge) build(s *scope) error {
	if s.data == nil {
		pa, page, err := b.window.take(1)
		if err != nil {
			return err
		}
		s.addr, s.data = windowBase+pa-viewsBase, page
	}
	err := b.listRoots(s)
	if err != nil {
		return err
	}
	s.outline = b.set.Outline(s.id)
	s.sites, s.addressed = map[uint64]*site{}, map[uint64]bool{}
	s.taken, s.found = map[uint64]*takenHook{}, [policy.Neutral + 1]uint64{}
	entries := len(b.hooks) + 256 // unknown sites that turn out to be decided come later
	for _, module := range s.outline.Modules {
		for _, m := range module.Sites {
			switch placeOf(m) {
			case nowhere:
				entries++
			case otherView:
				entries += 2 // what begins in the jump is there too
			}
		}
	}
	size := uint64(max(4096, monitor.SiteSize<<bits.Len64(uint64(entries))))
	if size > uint64(len(s.table.mem)) {
		if s.table.pa, s.table.mem, err = b.window.take(size / 4096); err != nil {
			return err
		}
	}
	clear(s.table.mem)
	s.entries = 0
	for v, base := range [...]*table{b.baseN, b.baseR} {
		root, err := b.root(s.views[v].root, base)
		if err != nil {
			return err
		}
		s.views[v] = view{root, map[uint64]*codePage{}}
	}
	binary.LittleEndian.PutUint64(s.data[monitor.ScopeRootN:], s.views[nonRedirected].root.pa)
	binary.LittleEndian.PutUint64(s.data[monitor.ScopeRootR:], s.views[redirected].root.pa)
	binary.LittleEndian.PutUint64(s.data[monitor.ScopeTable:], windowBase+s.table.pa-viewsBase)
	binary.LittleEndian.PutUint64(s.data[monitor.ScopeMask:], uint64(len(s.table.mem))-1)
	binary.LittleEndian.PutUint64(s.data[monitor.ScopePGDN:], windowBase+s.views[nonRedirected].root.pa-viewsBase)
	binary.LittleEndian.PutUint64(s.data[monitor.ScopePGDR:], windowBase+s.views[redirected].root.pa-viewsBase)
	if err := b.admitAll(s); err != nil {
		return err
	}
	for _, a := range b.hooked {
		b.enterSite(s, a, 0, 0)
		if b.hooks[a].Kind == cpu.HookLocal && !b.cfg.ExitSwitching {
			if err := b.jumpLocal(s, a); err != nil {
				return err
			}
		}
	}
	b.mapAliases(s)
	for stack := range s.stacks {
		if _, _, ok := b.mem.walk(b.clean, b.levels, stack); !ok { // of a process that has ended
			delete(s.stacks, stack)
			continue
		}
		if err := b.overlay(s, stack); err != nil {
			return err
		}
	}
	return nil
}

// listRoots tells the monitor which variables are the snapshot's.
func (b *Bridge) listRoots(s *scope) error {
	if s.roots.mem == nil && len(s.cpu.Roots) > 0 {
		var err error
		if s.roots.pa, s.roots.mem, err = b.window.take(uint64(16*len(s.cpu.Roots)+4095) / 4096); err != nil {
			return err
		}
		for i, r := range s.cpu.Roots {
			binary.LittleEndian.PutUint64(s.roots.mem[16*i:], r.Lo)
			binary.LittleEndian.PutUint64(s.roots.mem[16*i+8:], r.Hi)
		}
	}
	begin := windowBase + s.roots.pa - viewsBase
	binary.LittleEndian.PutUint64(s.data[monitor.ScopeRoots:], begin)
	binary.LittleEndian.PutUint64(s.data[monitor.ScopeRootsEnd:], begin+16*uint64(len(s.cpu.Roots)))
	return nil
}

// root makes a root of a scope, where the monitor sees it: in place of the one that the scope had.
func (b *Bridge) root(old, base *table) (*table, error) {
	var at pages
	var err error
	if old != nil {
		at = pages{old.pa, old.page}
	} else if at.pa, at.mem, err = b.window.take(1); err != nil {
		return nil, err
	}
	return base.copyTo(at), nil
}

// leaf is a page of text that admitAll is at.
type leaf struct {
	la       uint64
	original *[4096]byte
	to       *codePage // in the non-redirected view; nil until something is there
	copy     *codePage // in the copy
}

// admitAll lets all sites of a scope run where they may.
func (b *Bridge) admitAll(s *scope) error {
	at := leaf{la: 1}
	for _, module := range s.outline.Modules {
		base, ok := b.slow.Address(metadata.Location{Module: module.Name})
		if !ok {
			continue
		}
		b.admitted = b.admitted[:0]
		for i, m := range module.Sites {
			a := base + m.Offset
			if la := a &^ 0xfff; la != at.la {
				at = leaf{la: la, original: b.page(la)}
			}
			p, ok, err := b.admitOutlined(s, &at, module.Name, a, m)
			if err != nil {
				return err
			}
			if ok {
				b.admitted = append(b.admitted, admitted{a, m.Length, p, int32(i)})
			}
		}
		if err := b.displaceAll(s, base, &module, b.admitted); err != nil {
			return err
		}
	}
	return nil
}

// admitOutlined lets a site run where it may, and says where that is, if it may run in the scope. Most are copied only. Those that are to be
// displaced are left to displaceAll.
func (b *Bridge) admitOutlined(s *scope, at *leaf, module string, a uint64, m metadata.OutlineSite) (p place, ok bool, err error) {
	var code []byte
	if first := int(a & 0xfff); first+int(m.Length) > 4096 {
		code = b.original(a, int(m.Length))
	} else if at.original != nil {
		code = at.original[first:][:m.Length]
	}
	if code == nil {
		return nowhere, false, nil
	}
	if metadata.OutlineCheck(code) != m.Check {
		if in, _, err := b.code(a); err != nil || in.Len != m.Length {
			return nowhere, false, nil // another version of the code, which the kernel has patched
		}
	}
	if m.Flags&metadata.InSubtree != 0 && (at.copy == nil || at.copy.code[a&0xfff] == int3) {
		if err := b.exposeCopy(a, code); err != nil {
			return nowhere, false, err
		}
		at.copy = b.copy.pages[at.la]
	}
	if m.Flags&metadata.TakenHook != 0 {
		s.taken[a] = &takenHook{module: module, site: m}
	}
	if m.Flags&metadata.Scoped == 0 {
		return nowhere, false, nil
	}
	s.found[m.Category()]++
	constant := false
	if len(s.cpu.Immediates) > 0 {
		_, constant = s.cpu.Immediates[a]
	}
	p = placeOf(m)
	wanted := p == otherView && !b.cfg.ExitSwitching
	switch {
	case constant || maybeSpecial(code):
		p = nowhere
	case wanted || p == nowhere:
		return p, true, nil
	}
	if b.cfg.ExitSwitching || p == nowhere || a&0xfff+uint64(len(code)) > 4096 {
		in, _, err := b.code(a)
		if err != nil {
			return p, false, fmt.Errorf("fastbridge: the instruction at %s: %w", b.format(a), err)
		}
		return p, true, b.admit(s, newSite(s.outline, module, m, a, in))
	}
	if at.to == nil {
		if at.to, err = b.codePage(s, nonRedirected, at.la); err != nil {
			return p, false, err
		}
	}
	copy(at.to.code[a&0xfff:], code)
	return p, true, nil
}

// displaceAll has the sites of a module that must not run in the non-redirected view run elsewhere: by jumps where that is possible, otherwise by int3.
func (b *Bridge) displaceAll(s *scope, base uint64, module *metadata.OutlineModule, sites []admitted) error {
	hooked, _ := slices.BinarySearch(b.hooked, base)
	for i := 0; i < len(sites); {
		for hooked < len(b.hooked) && b.hooked[hooked] < sites[i].at {
			hooked++
		}
		hook := hooked < len(b.hooked) && b.hooked[hooked] == sites[i].at
		if hook {
			if p := s.views[nonRedirected].pages[sites[i].at&^0xfff]; p != nil {
				p.code[sites[i].at&0xfff] = int3
			}
		}
		if b.cfg.ExitSwitching || sites[i].place != otherView && (!hook || b.hooks[sites[i].at].Kind == cpu.HookLocal) {
			i++
			continue
		}
		taken, err := b.jump(s, sites[i:])
		if err != nil {
			return err
		}
		if taken > 0 {
			i += taken
			continue
		}
		if sites[i].place != otherView {
			i++
			continue
		}
		m := module.Sites[sites[i].index]
		in, _, err := b.code(sites[i].at)
		if err != nil {
			return fmt.Errorf("fastbridge: the instruction at %s: %w", b.format(sites[i].at), err)
		}
		if err := b.admit(s, newSite(s.outline, module.Name, m, sites[i].at, in)); err != nil {
			return err
		}
		i++
	}
	return nil
}

// original returns code of the trusted kernel as it was before the bridge changed it; nil if not all of it is there. It must not be changed.
func (b *Bridge) original(a uint64, n int) []byte {
	if first := 4096 - int(a&0xfff); n > first {
		begin, end := b.original(a, first), b.original(a+uint64(first), n-first)
		if begin == nil || end == nil {
			return nil
		}
		return slices.Concat(begin, end)
	}
	page := b.page(a &^ 0xfff)
	if page == nil {
		return nil
	}
	return page[a&0xfff:][:n]
}

// page is original for the page at la.
func (b *Bridge) page(la uint64) *[4096]byte {
	page, ok := b.texts[la]
	if !ok {
		if pa, _, mapped := b.mem.walk(b.clean, b.levels, la); mapped {
			page = b.mem(pa)
		}
		b.texts[la] = page
	}
	return page
}

// siteAt returns what is known about the instruction at an address, nil if nothing is.
func (b *Bridge) siteAt(s *scope, a uint64) *site {
	if t := s.sites[a]; t != nil {
		return t
	}
	at := b.slow.Location(a)
	for _, m := range s.outline.At(at) {
		in, _, err := b.code(a)
		if m.Flags&metadata.Scoped == 0 || err != nil || in.Len != m.Length {
			continue
		}
		t := newSite(s.outline, at.Module, m, a, in)
		s.sites[a] = t
		return t
	}
	return nil
}

// admit lets a site run where it may.
func (b *Bridge) admit(s *scope, t *site) error {
	s.sites[t.address] = t
	_, constant := s.cpu.Immediates[t.address]
	if constant || special(&t.inst, s.cpu.Frozen) {
		t.place = nowhere
	}
	if t.place == otherView && !b.cfg.ExitSwitching {
		at, err := b.displace(s, t, 0)
		if at != 0 {
			b.enterSite(s, t.address, monitor.ActionDisplace, uint32(at))
		}
		return err
	}
	for v := range s.views {
		if t.place == anywhere || t.place == localView && v == nonRedirected || t.place == otherView && v == redirected {
			if v == redirected && !b.cfg.ExitSwitching {
				continue // nothing ever runs there
			}
			if err := b.expose(s, v, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// twoByte returns the second byte of a two-byte opcode (SDM vol. 2A, 2.1.2), 0 for other instructions. A byte 0x0f of an operand may make
// it wrong for those.
func twoByte(code []byte) byte {
	if i := bytes.IndexByte(code, 0x0f); i >= 0 && i+1 < len(code) {
		return code[i+1]
	}
	return 0
}

// Second bytes of opcodes (SDM vol. 2D, A.3).
const (
	group7     = 0x01 // RDTSCP and others
	moveFromCR = 0x20
	moveToCR   = 0x22
	rdtsc      = 0x31
)

// maybeSpecial reports whether an instruction could be special, by its opcode.
func maybeSpecial(code []byte) bool {
	switch twoByte(code) {
	case group7, moveFromCR, moveToCR, rdtsc:
		return true
	}
	return false
}

// special reports whether an instruction never runs natively in a view: it would leave the view or read a clock that does not stand.
func special(in *isa.Inst, frozen bool) bool {
	switch in.Op {
	case isa.RDTSC, isa.RDTSCP:
		return frozen
	case isa.MOV_FROM_CR, isa.MOV_TO_CR:
		return true
	}
	return false
}

// expose puts an instruction into a view's code. The first byte of a function with a hook stays int3.
func (b *Bridge) expose(s *scope, v int, t *site) error {
	code := b.original(t.address, int(t.inst.Len))
	_, hooked := b.hooks[t.address]
	if v == nonRedirected {
		if err := b.unjump(s, t.address, t.address+uint64(len(code))); err != nil {
			return err
		}
	}
	for i := range code {
		la := t.address + uint64(i)
		p, err := b.codePage(s, v, la&^0xfff)
		if err != nil {
			return err
		}
		if p == nil {
			return nil // no code can be here in this view
		}
		c := code[i]
		if i == 0 && hooked {
			c = int3
		}
		b.patch(p, la, c)
	}
	return nil
}

// patch changes a byte of a code page, if it is another one.
func (b *Bridge) patch(p *codePage, la uint64, c byte) {
	if p.code[la&0xfff] != c {
		p.code[la&0xfff] = c
		b.vm.Memory().Written(p.pa+la&0xfff, 1)
	}
}

// codePage returns the code of a view at a linear page; nil where the snapshot has something else in the redirected view.
func (b *Bridge) codePage(s *scope, v int, la uint64) (*codePage, error) {
	view := &s.views[v]
	if p, ok := view.pages[la]; ok {
		return p, nil
	}
	if la < b.text.Lo&^0xfff || la >= b.text.Hi {
		if _, ok := b.redirect.Translate(la); ok && v == redirected {
			view.pages[la] = nil
			return nil, nil
		}
		if v == nonRedirected {
			if err := b.closeModule(s, la); err != nil {
				return nil, err
			}
		}
	}
	p, err := b.poisoned()
	if err != nil {
		return nil, err
	}
	view.pages[la] = p
	return p, b.tables.put(view.root, la, p.pa|codeFlags, true)
}

// poisoned returns a page of int3.
func (b *Bridge) poisoned() (*codePage, error) {
	pa, code, err := b.tables.pool.take(1)
	if err != nil {
		return nil, err
	}
	copy(code, b.tables.pool.mem[b.poison-b.tables.pool.base:][:4096])
	return &codePage{pa, code}, nil
}

// closeModule makes the trusted modules near la in the non-redirected view data: their code runs where it is known only.
func (b *Bridge) closeModule(s *scope, la uint64) error {
	t, err := b.tables.reach(s.views[nonRedirected].root, la, 1, true)
	if err != nil {
		return err
	}
	for i := range 512 {
		if e := t.get(i); e&present != 0 && e&addresses < viewsBase {
			t.set(i, e|noExecute)
		}
	}
	return nil
}

// enterSite enters an address into the scope's table, as long as that has room for the monitor to find an end: it asks about what is
// not there.
func (b *Bridge) enterSite(s *scope, a uint64, action byte, value uint32) {
	mask := uint64(len(s.table.mem)) - 1
	i := a * monitor.SiteSize & mask
	for at := binary.LittleEndian.Uint64(s.table.mem[i:]); at != a; at = binary.LittleEndian.Uint64(s.table.mem[i:]) {
		if at == 0 {
			if s.entries++; s.entries > len(s.table.mem)/monitor.SiteSize*7/8 {
				return
			}
			break
		}
		i = (i + monitor.SiteSize) & mask
	}
	e := s.table.mem[i : i+monitor.SiteSize]
	binary.LittleEndian.PutUint32(e[monitor.SiteValue:], value)
	if h, ok := b.hooks[a]; ok {
		action = b.hookSite(s, a, h, e)
	}
	binary.LittleEndian.PutUint64(e, a)
	e[monitor.SiteAction] = action
}

// hookSite makes the entry of a function with a hook, and returns the action. Those that the monitor cannot do are the host's.
func (b *Bridge) hookSite(s *scope, a uint64, h cpu.Hook, e []byte) (action byte) {
	if h.Kind == cpu.HookLocal {
		return monitor.ActionLocal
	}
	// Functions begin with a NOP or ENDBR64 of the tracer's or of the branch tracker's, which can be skipped.
	if t := b.siteAt(s, a); t != nil && t.inst.Op == isa.NOP && t.place == anywhere {
		e[monitor.SiteSkip] = t.inst.Len
	}
	if h.Argument == 1 {
		e[monitor.SiteSkip] |= monitor.SkipSecond
	}
	if s.taken[a] == nil && b.siteAt(s, a) != nil {
		e[monitor.SiteSkip] |= monitor.SkipOthers
	}
	switch {
	case h.Argument > 1 || h.Argument == 1 && (h.Kind == cpu.HookLock || h.Once) || h.Return >= 1<<32 || h.Offset >= 1<<31:
		return 0
	case h.Kind == cpu.HookElide:
		if h.Always {
			e[monitor.SiteSkip] |= monitor.SkipNever
		}
		if h.Once {
			e[monitor.SiteSkip] |= monitor.SkipOnce
		}
		binary.LittleEndian.PutUint32(e[monitor.SiteValue:], uint32(h.Return))
		return monitor.ActionElide
	case h.Size == 4 || h.Size == 8:
		e[monitor.SiteBytes] = byte(h.Size)
		binary.LittleEndian.PutUint32(e[monitor.SiteValue:], uint32(h.Offset))
		return monitor.ActionLock
	}
	return 0
}

// refresh takes over what has changed in the kernel's own tables, and user space.
func (b *Bridge) refresh(s *scope, clean uint64) error {
	root := b.mem(clean & addresses)
	if root == nil {
		return fmt.Errorf("fastbridge: CR3 is %#x, where there is no memory", clean)
	}
	n := s.views[nonRedirected].root
	for i := range 512 {
		e := binary.LittleEndian.Uint64(root[8*i:])
		if i < 256 {
			n.set(i, e)
			s.views[redirected].root.set(i, e)
		} else if _, alias := b.aliases.from[i]; n.child[i] == nil && !alias {
			n.set(i, e)
		}
	}
	return nil
}

// overlay maps the kernel stack that begins at base in the redirected view, if code runs there. Where it is for its aliases only, they lead to
// what the snapshot has at these addresses.
func (b *Bridge) overlay(s *scope, base uint64) error {
	if !b.cfg.ExitSwitching {
		return nil
	}
	s.stacks[base] = true
	for la := base; la < base+b.redirect.StackSize; la += 4096 {
		pa, _, ok := b.mem.walk(b.clean, b.levels, la)
		if !ok {
			return fmt.Errorf("fastbridge: the kernel stack at %#x is not mapped", la)
		}
		if b.tells(la) {
			continue // in the direct map, which is in both views
		}
		if err := b.tables.put(s.views[redirected].root, la, pa&^0xfff|dataFlags, false); err != nil {
			return err
		}
	}
	return nil
}
