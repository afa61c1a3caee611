package slowbridge

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
)

// find returns the kernel's symbols that a name of the policy stands for. The compiler's own versions of a function stand for it.
func (b *Bridge) find(name string) []symbols.Symbol {
	found, ok := b.found[name]
	if !ok {
		found = b.search(name)
		b.found[name] = found
	}
	return found
}

// search is find without what was found before.
func (b *Bridge) search(name string) []symbols.Symbol {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		return slices.Collect(b.symbols.Prefixed(prefix))
	}
	var out []symbols.Symbol
	for s := range b.symbols.Prefixed(name) {
		switch rest := s.Name[len(name):]; {
		case rest == "", rest[0] == '.' && !strings.Contains(name, ".") && !strings.HasSuffix(rest, ".cold"):
			out = append(out, s)
		case rest[0] > '.':
			return out
		}
	}
	return out
}

// size returns how many bytes there are up to the next symbol.
func (b *Bridge) size(addr uint64) uint64 {
	next, ok := b.symbols.Next(addr)
	if !ok {
		return 4096
	}
	return next - addr
}

// isCode reports whether a symbol is a function.
func isCode(s symbols.Symbol) bool { return strings.ContainsRune("tTwW", rune(s.Type)) }

// hooks makes the CPU's hooks of the policy.
func (b *Bridge) hooks(p *policy.Policy) map[uint64]cpu.Hook {
	h := map[uint64]cpu.Hook{}
	add := func(name string, hook cpu.Hook) {
		for _, s := range b.find(name) {
			if isCode(s) {
				h[s.Address] = hook
			}
		}
	}
	for _, f := range p.Local {
		add(f, cpu.Hook{Kind: cpu.HookLocal})
	}
	for _, l := range p.Locks {
		add(l.Function, cpu.Hook{Kind: cpu.HookLock, Argument: l.Argument, Offset: l.Offset, Size: l.Size})
	}
	for _, e := range p.Elided {
		h := cpu.Hook{Kind: cpu.HookElide, Argument: e.Argument, Always: e.Always, Once: e.Once, Return: e.Return}
		if e.Clock {
			h.Return = b.tsc
		}
		add(e.Function, h)
	}
	return h
}

// scope makes the CPU's scope of a scope of the policy. id names it together with its system call.
func (b *Bridge) scope(id int, s *policy.Scope) cpu.Scope {
	c := cpu.Scope{ID: id, Immediates: map[uint64]uint64{}}
	for _, root := range s.Roots {
		maps.Copy(c.Immediates, b.constants[root.Symbol])
		for _, sym := range b.find(root.Symbol) {
			if isCode(sym) || sym.Module != "" {
				continue
			}
			perCPU := sym.Type == 'A' || sym.Type == 'a' || sym.Address >= b.perCPU.Lo && sym.Address < b.perCPU.Hi
			if perCPU != root.PerCPU {
				continue
			}
			size := root.Size
			if size == 0 {
				if perCPU && b.types.word == 8 {
					size = b.perCPUSize(sym.Address)
				} else {
					size = b.size(sym.Address)
				}
				size -= min(size, root.Offset)
			}
			r := cpu.Range{Lo: sym.Address + root.Offset, Hi: sym.Address + root.Offset + size}
			if perCPU {
				c.PerCPURoots = append(c.PerCPURoots, r)
			} else {
				c.Roots = append(c.Roots, r)
			}
		}
	}
	slices.SortFunc(c.Roots, func(x, y cpu.Range) int { return cmp.Compare(x.Lo, y.Lo) })
	for _, sub := range b.substitutes {
		if len(sub.scopes) == 0 || slices.Contains(sub.scopes, s.Name) {
			c.Substitutes = append(c.Substitutes, sub.Substitute)
		}
	}
	if s.FreezeClock {
		c.Frozen, c.TSC = b.frozen, b.tsc
	}
	return c
}

// perCPUSize is size for per-CPU variables, whose symbols are offsets.
func (b *Bridge) perCPUSize(offset uint64) uint64 {
	if b.offsets == nil {
		b.offsets = b.symbols.Offsets()
	}
	i, _ := slices.BinarySearch(b.offsets, offset+1)
	if i == len(b.offsets) || b.offsets[i]-offset > 1<<16 {
		return 4096
	}
	return b.offsets[i] - offset
}

// evaluate returns the value that a field of the policy has in the snapshot.
func (b *Bridge) evaluate(f policy.Field) (uint64, error) {
	e, err := b.types.parse(string(f))
	if err != nil {
		return 0, err
	}
	sym, ok := b.symbols.Find(e.symbol)
	if !ok {
		return 0, fmt.Errorf("the kernel has no %s, which the policy's field %q names", e.symbol, f)
	}
	at := sym.Address
	for _, st := range e.steps {
		if st.Follow {
			from := at
			if at, ok = b.word(from); !ok {
				return 0, fmt.Errorf("%q leads to %#x, which is not mapped in the snapshot", f, from)
			}
		}
		at += st.Offset
	}
	v, ok := reader(b.space.read).number(at, e.size)
	if !ok {
		return 0, fmt.Errorf("%q leads to %#x, which is not mapped in the snapshot", f, at)
	}
	return v, nil
}

// substitute is one of the policy's, in the scopes that it names.
type substitute struct {
	cpu.Substitute
	scopes []string
}

// makeSubstitutes resolves the policy's substitutes.
func (b *Bridge) makeSubstitutes(p *policy.Policy) error {
	for _, s := range p.Substitutes {
		sub := cpu.Substitute{PerCPU: s.PerCPU}
		local, offset, err := b.local(s.Local)
		if err != nil {
			return err
		}
		if local == nil {
			continue
		}
		sub.Lo = local.Address + offset
		sub.Hi = sub.Lo + b.types.word
		sub.Code = b.ranges(s.Functions)
		if len(s.Functions) > 0 && sub.Code == nil {
			continue
		}
		v, err := b.evaluate(s.Snapshot)
		if err != nil {
			return err
		}
		sub.PA = b.mem.value(binary.LittleEndian.AppendUint64(nil, v)[:b.types.word])
		b.substitutes = append(b.substitutes, substitute{sub, s.Scopes})
	}
	return nil
}

// ranges returns where functions of the policy are.
func (b *Bridge) ranges(functions []string) []cpu.Range {
	var code []cpu.Range
	for _, f := range functions {
		for _, sym := range b.find(f) {
			if isCode(sym) {
				code = append(code, cpu.Range{Lo: sym.Address, Hi: sym.Address + b.size(sym.Address)})
			}
		}
	}
	return code
}

// local finds the symbol and the offset of a field that needs no pointer to be followed. The symbol is nil if the kernel
// does not have it.
func (b *Bridge) local(field policy.Field) (*symbols.Symbol, uint64, error) {
	if i := strings.IndexAny(string(field), "+:.-"); i > 0 {
		if _, ok := b.symbols.Find(string(field[:i])); !ok {
			return nil, 0, nil
		}
	}
	e, err := b.types.parse(string(field))
	if err != nil {
		return nil, 0, err
	}
	if len(e.steps) != 1 {
		return nil, 0, fmt.Errorf("the policy's local field %q follows a pointer", field)
	}
	s, ok := b.symbols.Find(e.symbol)
	if !ok {
		return nil, 0, nil
	}
	return &s, e.steps[0].Offset, nil
}
