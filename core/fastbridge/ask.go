package fastbridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/core/slowbridge"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

// frame is the state of the guest that asks: what the monitor saved on the kernel stack.
type frame struct {
	b     *Bridge
	at    uint64
	raw   [monitor.FrameSize]byte
	gpr   [16]uint64
	rip   uint64
	flags uint64
	root  uint64
	scope *scope
	// view is where the guest goes on.
	view  int
	clean bool
	// theirStack says that an operand which is the snapshot's is so at an address of the current stack too.
	theirStack bool
}

// asked answers the monitor, which has written cause to its port.
func (b *Bridge) asked(cause uint32) {
	if b.err != nil {
		return
	}
	b.stats.Exits++
	since := time.Now()
	before := b.stats.Fallback
	defer func() { b.stats.Host += time.Since(since) - (b.stats.Fallback - before) }()
	if cause == monitor.CauseEnter {
		b.enter()
		return
	}
	f := &frame{b: b, at: b.get(monitor.Frame), root: b.get(monitor.Root)}
	f.scope = b.byEntry[b.get(monitor.Current)]
	if f.scope == nil || (guest{b}).ReadLinear(f.at, f.raw[:]) != len(f.raw) {
		b.fail("fastbridge: the monitor asks out of no scope (cause %d)", cause)
		return
	}
	f.scope.stats.Exits++
	for i, off := range monitor.Registers {
		f.gpr[i] = binary.LittleEndian.Uint64(f.raw[off:])
	}
	f.rip = binary.LittleEndian.Uint64(f.raw[monitor.FrameRIP:])
	f.flags = binary.LittleEndian.Uint64(f.raw[monitor.FrameFlags:])
	if f.root == f.scope.views[redirected].root.pa {
		f.view = redirected
	}
	if clean, ok := b.word(f.at&^(b.redirect.StackSize-1) + monitor.StackClean); ok {
		b.clean = clean & addresses
	}
	var err error
	switch cause {
	case 3:
		f.rip--
		f.rip = b.asksAbout(f.rip)
		err = f.breakpoint()
	case 14:
		err = f.fault(b.get(monitor.Fault))
	case monitor.CauseUser:
		err = fmt.Errorf("at %s the kernel touches the user address %#x, which is not there", b.format(f.rip), b.get(monitor.Fault))
	default:
		err = fmt.Errorf("exception %d at %s", cause, b.format(f.rip))
	}
	if err == nil {
		err = f.back()
	}
	if err == nil {
		err = b.cfg.Memory.Err()
	}
	switch training := new(trainingError); {
	case errors.As(err, new(policyError)):
		b.fail("%w", err)
	case errors.As(err, training):
		b.fail("%w", training.error) // SLOW-BRIDGE's own, or the end of somebody's patience
	case err != nil:
		b.fail("%w: in %s: %w", slowbridge.ErrFinding, f.scope.id, err)
	}
}

// format names an address, for displaced code the instruction's.
func (b *Bridge) format(a uint64) string {
	if at, g := b.groupOf(a); g != nil {
		a = at
	}
	begin := uint64(0)
	for at := range b.displaced {
		if at <= a && at > begin {
			begin = at
		}
	}
	if begin != 0 && a-begin < stubSize {
		a = b.displaced[begin]
	}
	return b.slow.Symbols().Format(a)
}

// enter begins a system call.
func (b *Bridge) enter() {
	if b.stats.Syscalls++; b.stats.First.IsZero() {
		b.stats.First = time.Now()
	}
	b.put(monitor.NextScope, 0)
	clean := b.get(monitor.Root)
	b.clean = clean & addresses
	regs, nr := b.get(monitor.Regs), b.get(monitor.Number)&0xffffffff
	sc, id := b.slow.Choose(regs, nr)
	if id.Name == "" && b.plain(id) {
		b.remember(nr, regs, id.Name, 1)
		return
	}
	s, err := b.scope(id, sc)
	if err == nil {
		err = b.refresh(s, clean)
	}
	if err == nil {
		err = b.overlay(s, b.get(monitor.Frame)&^(b.redirect.StackSize-1))
		b.mapAliases(s)
	}
	if err != nil {
		b.fail("%w", err)
		return
	}
	b.stats.Scopes++
	s.stats.Calls++
	b.remember(nr, regs, id.Name, s.addr)
	b.put(monitor.NextScope, s.addr)
}

// back writes the frame back.
func (f *frame) back() error {
	b := f.b
	for i, off := range monitor.Registers {
		binary.LittleEndian.PutUint64(f.raw[off:], f.gpr[i])
	}
	binary.LittleEndian.PutUint64(f.raw[monitor.FrameRIP:], f.rip)
	binary.LittleEndian.PutUint64(f.raw[monitor.FrameFlags:], f.flags)
	if !b.write(f.at, f.raw[:]) {
		return fmt.Errorf("the kernel stack at %#x is not there", f.at)
	}
	b.put(monitor.Frame, f.at)
	b.put(monitor.NextRoot, f.scope.views[f.view].root.pa)
	b.put(monitor.NextClean, 0)
	if f.clean {
		b.put(monitor.NextRoot, b.clean)
		b.put(monitor.NextClean, 1)
	}
	return nil
}

// fault maps a page of the snapshot.
func (f *frame) fault(la uint64) error {
	b := f.b
	const fetch = 1 << 4
	if binary.LittleEndian.Uint64(f.raw[monitor.FrameError:])&fetch != 0 {
		// The redirected view has data here: a page of a module of the snapshot.
		if t := b.siteAt(f.scope, f.rip); t != nil && f.view == redirected {
			f.view = nonRedirected
			if t.place != otherView {
				return nil
			}
			return f.interpret(t, [2]bool{true, true})
		}
		return f.unknownCode()
	}
	root := f.scope.views[f.view].root
	original, alias := b.unalias(la)
	if alias && f.view == nonRedirected {
		la, root = original, f.scope.views[redirected].root
	}
	if e := b.tables.entry(root, la); e&present != 0 {
		return fmt.Errorf("at %s the kernel may not access %#x", b.format(f.rip), la)
	}
	_, ok := b.redirect.Translate(la)
	if root == f.scope.views[nonRedirected].root && !b.owners.Snapshot(la) || !ok {
		return fmt.Errorf("at %s the snapshot leads to %#x, where it has no memory", b.format(f.rip), la)
	}
	return b.mapSnapshot(f.scope, root, la)
}

// breakpoint deals with int3 at a site.
func (f *frame) breakpoint() error {
	b, s := f.b, f.scope
	if h, ok := b.hooks[f.rip]; ok {
		done, err := f.hook(h)
		if done || err != nil {
			return err
		}
	}
	t := b.siteAt(s, f.rip)
	if t == nil {
		return f.unknownCode()
	}
	if t.planned {
		if done, err := f.plan(t); done || err != nil {
			return err
		}
	}
	switch {
	case special(&t.inst, s.cpu.Frozen):
		return f.special(t)
	case t.place == nowhere:
		if _, ok := s.cpu.Immediates[f.rip]; ok {
			if err := b.refine(s, t); err != nil {
				return err
			}
			return f.interpret(t, [2]bool{})
		}
		return f.decide(t)
	}
	if t.place == otherView && !b.cfg.ExitSwitching {
		made := b.alias(f.otherAddress(&t.inst))
		for _, la := range f.operands(&t.inst) {
			made = b.alias(la) || made
		}
		if made {
			return nil // displaced code has asked, and now goes there
		}
		return f.interpret(t, [2]bool{true, true})
	}
	view := f.view
	switch t.place {
	case otherView:
		view = redirected
	case localView:
		view = nonRedirected
	}
	_, hooked := b.hooks[f.rip]
	if hooked && (t.inst.Op == isa.RDTSC || t.inst.Op == isa.RDTSCP) {
		at, err := b.trampoline(t)
		f.rip = at
		return err
	}
	if p := s.views[view].pages[f.rip&^0xfff]; hooked || p == nil {
		// The function's hook lets it run, or there is no room for its code in the view.
		return f.interpret(t, [2]bool{t.place == otherView, t.place == otherView})
	}
	if view != f.view {
		s.stats.Switches++
	}
	f.view = view
	return b.expose(s, view, t) // it is there, unless the kernel has patched it meanwhile
}

// hook does what the policy says at the entry of a function; done says that the function is not to run in this view.
func (f *frame) hook(h cpu.Hook) (done bool, err error) {
	b := f.b
	b.stats.Hooks++
	if h.Kind == cpu.HookLocal {
		return true, f.callLocal()
	}
	arguments := [...]uint8{isa.RDI, isa.RSI, isa.RDX, isa.RCX, isa.R8, isa.R9}
	v := f.gpr[arguments[h.Argument]]
	points := b.owners.Snapshot(v) || !b.trusted(v) && f.hookTaken()
	if !points && !b.trusted(v) && !b.partial && !f.trained() && b.siteAt(f.scope, f.rip) == nil {
		return true, f.unknown() // no training came here: whose the argument is, only SLOW-BRIDGE can tell
	}
	switch h.Kind {
	case cpu.HookLock:
		if !points {
			return false, nil
		}
		for i := range h.Size {
			pa, ok := b.redirect.Translate(v + h.Offset + i)
			if !ok {
				return false, fmt.Errorf("the lock at %#x, which the snapshot names, is not mapped in it", v)
			}
			pa = pa - slowbridge.Base + SnapshotBase
			b.mem(pa)[pa&0xfff] = 0
		}
		return false, nil
	case cpu.HookElide:
		call := [2]uint64{f.rip, v}
		once := h.Once && !b.elided[call]
		if !points && !h.Always && !once {
			return false, nil
		}
		if once {
			b.elided[call] = true
		}
		ret, ok := b.word(f.gpr[isa.RSP])
		if !ok {
			return false, fmt.Errorf("no return address at the elided call of %s", b.format(f.rip))
		}
		f.rip = ret
		f.gpr[isa.RSP] += 8
		f.gpr[isa.RAX] = h.Return
		return true, nil
	}
	return false, nil
}

// callLocal lets the function that is about to begin run in the kernel's own address space. The monitor does the same by itself
// unless it is told not to.
func (f *frame) callLocal() error {
	b := f.b
	base := f.gpr[isa.RSP] &^ (b.redirect.StackSize - 1)
	depth, ok := b.word(base + monitor.StackDepth)
	ret, ok2 := b.word(f.gpr[isa.RSP])
	if !ok || !ok2 || depth >= monitor.MaxReturns {
		return fmt.Errorf("calls of local functions are nested too deeply at %s", b.format(f.rip))
	}
	put := func(la, v uint64) { b.write(la, binary.LittleEndian.AppendUint64(nil, v)) }
	put(base+monitor.StackReturns+8*depth, ret)
	put(base+monitor.StackDepth, depth+1)
	put(f.gpr[isa.RSP], monitor.Base+monitor.Resume)
	b.stats.Subtrees++
	f.clean = true
	return nil
}
