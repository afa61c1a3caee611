package slowbridge

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
)

// names finds the kernel's symbols for the policy's names.
type names struct {
	byName map[string][]symbols.Symbol
	sorted []symbols.Symbol // by address, places only
	all    []string         // sorted names
}

func newNames(t *symbols.Table) *names {
	n := &names{byName: map[string][]symbols.Symbol{}}
	for s := range t.All {
		n.byName[s.Name] = append(n.byName[s.Name], s)
		// The compiler's own versions of a function stand for it.
		if base, _, ok := strings.Cut(s.Name, "."); ok && base != "" && !strings.HasSuffix(s.Name, ".cold") {
			n.byName[base] = append(n.byName[base], s)
		}
		if s.Type != 'a' && s.Type != 'A' {
			n.sorted = append(n.sorted, s)
		}
	}
	slices.SortStableFunc(n.sorted, func(a, b symbols.Symbol) int { return cmp.Compare(a.Address, b.Address) })
	n.all = slices.Sorted(maps.Keys(n.byName))
	return n
}

// find returns the symbols that a name of the policy stands for.
func (n *names) find(name string) []symbols.Symbol {
	prefix, ok := strings.CutSuffix(name, "*")
	if !ok {
		return n.byName[name]
	}
	var out []symbols.Symbol
	i, _ := slices.BinarySearch(n.all, prefix)
	for ; i < len(n.all) && strings.HasPrefix(n.all[i], prefix); i++ {
		out = append(out, n.byName[n.all[i]]...)
	}
	return out
}

// size returns how many bytes there are up to the next symbol.
func (n *names) size(addr uint64) uint64 {
	i, _ := slices.BinarySearchFunc(n.sorted, addr+1, func(s symbols.Symbol, a uint64) int { return cmp.Compare(s.Address, a) })
	if i == len(n.sorted) {
		return 4096
	}
	return n.sorted[i].Address - addr
}

// isCode reports whether a symbol is a function.
func isCode(s symbols.Symbol) bool { return strings.ContainsRune("tTwW", rune(s.Type)) }

// hooks makes the CPU's hooks of the policy.
func (b *Bridge) hooks(p *policy.Policy) map[uint64]cpu.Hook {
	h := map[uint64]cpu.Hook{}
	add := func(name string, hook cpu.Hook) {
		for _, s := range b.names.find(name) {
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
		for _, sym := range b.names.find(root.Symbol) {
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
					size = b.names.size(sym.Address)
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
	next := uint64(math.MaxUint64)
	for s := range b.symbols.All {
		if (s.Type == 'A' || s.Type == 'a') && s.Address > offset {
			next = min(next, s.Address)
		}
	}
	if next-offset > 1<<16 {
		return 4096
	}
	return next - offset
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
		if st.deref {
			from := at
			if at, ok = b.word(from); !ok {
				return 0, fmt.Errorf("%q leads to %#x, which is not mapped in the snapshot", f, from)
			}
		}
		at += st.off
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
		for _, sym := range b.names.find(f) {
			if isCode(sym) {
				code = append(code, cpu.Range{Lo: sym.Address, Hi: sym.Address + b.names.size(sym.Address)})
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
	return &s, e.steps[0].off, nil
}
