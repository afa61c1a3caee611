package symbols

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Symbol is a name for an address. Type is nm's letter: t text, d data, r read-only data, b bss, w weak, a absolute;
// upper case for global symbols. Absolute symbols (per-CPU offsets and the like) are no places in memory.
type Symbol struct {
	Name    string
	Address uint64
	Type    byte
	Module  string // the module that holds it, "" for the kernel itself
}

// Table is a set of symbols. It does not change and is safe for concurrent use.
type Table struct {
	syms   []Symbol // as given
	byAddr []int32  // those that are places, sorted by address, then by order in syms
	byName []int32  // sorted by name, then by order in syms
	shift  uint64
}

// ErrNoSymbols is wrapped by errors about files without a usable symbol table.
var ErrNoSymbols = errors.New("no symbols found")

// NewTable makes a table of syms, which it takes over.
func NewTable(syms []Symbol) *Table {
	t := &Table{syms: syms, byName: make([]int32, len(syms))}
	for i, s := range syms {
		t.byName[i] = int32(i)
		if !s.absolute() {
			t.byAddr = append(t.byAddr, int32(i))
		}
	}
	slices.SortStableFunc(t.byAddr, func(a, b int32) int {
		switch x, y := syms[a].Address, syms[b].Address; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	slices.SortStableFunc(t.byName, func(a, b int32) int { return strings.Compare(syms[a].Name, syms[b].Name) })
	return t
}

func (s *Symbol) absolute() bool { return s.Type == 'a' || s.Type == 'A' }

// Shift returns the same table with delta added to all addresses that are places: what KASLR does to a kernel.
// Shifts add up. The tables share their memory.
func (t *Table) Shift(delta uint64) *Table {
	c := *t
	c.shift += delta
	return &c
}

// With returns a table that has more symbols after its own.
func (t *Table) With(more []Symbol) *Table {
	o := NewTable(more)
	all := make([]Symbol, 0, len(t.syms)+len(more))
	for s := range t.All {
		all = append(all, s)
	}
	n := int32(len(all))
	all = append(all, o.syms...)
	merge := func(a, b []int32, after func(x, y *Symbol) bool) []int32 {
		out := make([]int32, 0, len(a)+len(b))
		for len(a) > 0 && len(b) > 0 {
			if after(&all[a[0]], &all[n+b[0]]) {
				out, b = append(out, n+b[0]), b[1:]
			} else {
				out, a = append(out, a[0]), a[1:]
			}
		}
		out = append(out, a...)
		for _, i := range b {
			out = append(out, n+i)
		}
		return out
	}
	return &Table{
		syms:   all,
		byAddr: merge(t.byAddr, o.byAddr, func(x, y *Symbol) bool { return x.Address > y.Address }),
		byName: merge(t.byName, o.byName, func(x, y *Symbol) bool { return x.Name > y.Name }),
	}
}

// Len returns the number of symbols.
func (t *Table) Len() int { return len(t.syms) }

func (t *Table) at(i int32) Symbol {
	s := t.syms[i]
	if !s.absolute() {
		s.Address += t.shift
	}
	return s
}

// All calls yield with every symbol in the table's own order until it returns false.
func (t *Table) All(yield func(Symbol) bool) {
	for i := range t.syms {
		if !yield(t.at(int32(i))) {
			return
		}
	}
}

// Lookup returns the symbol at or before addr and the distance from it. Of several at one address it returns the
// first, as the kernel does. It reports false below the first symbol and more than 16 MiB after one: a
// kernel's sections are closer than that.
func (t *Table) Lookup(addr uint64) (Symbol, uint64, bool) {
	addr -= t.shift
	i := sort.Search(len(t.byAddr), func(i int) bool { return t.syms[t.byAddr[i]].Address > addr })
	if i == 0 {
		return Symbol{}, 0, false
	}
	i--
	for i > 0 && t.syms[t.byAddr[i-1]].Address == t.syms[t.byAddr[i]].Address {
		i--
	}
	s := t.at(t.byAddr[i])
	off := addr + t.shift - s.Address
	return s, off, off < 16<<20
}

// Find returns the symbol called name. If there are several (static functions of different files), it returns the
// first.
func (t *Table) Find(name string) (Symbol, bool) {
	i := sort.Search(len(t.byName), func(i int) bool { return t.syms[t.byName[i]].Name >= name })
	if i == len(t.byName) || t.syms[t.byName[i]].Name != name {
		return Symbol{}, false
	}
	return t.at(t.byName[i]), true
}

// Prefixed calls yield with the symbols whose names begin so, by name, until it returns false.
func (t *Table) Prefixed(prefix string) iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		i := sort.Search(len(t.byName), func(i int) bool { return t.syms[t.byName[i]].Name >= prefix })
		for ; i < len(t.byName) && strings.HasPrefix(t.syms[t.byName[i]].Name, prefix); i++ {
			if !yield(t.at(t.byName[i])) {
				return
			}
		}
	}
}

// Next returns the address of the first place above addr.
func (t *Table) Next(addr uint64) (next uint64, ok bool) {
	i := sort.Search(len(t.byAddr), func(i int) bool { return t.syms[t.byAddr[i]].Address+t.shift > addr })
	if i == len(t.byAddr) {
		return 0, false
	}
	return t.at(t.byAddr[i]).Address, true
}

// Address returns the address of name, see Find.
func (t *Table) Address(name string) (uint64, bool) {
	s, ok := t.Find(name)
	return s.Address, ok
}

// Format returns "name+0x12", "name+0x12 [module]" or, for an address without a symbol, its hexadecimal digits.
// A nil table knows no symbols.
func (t *Table) Format(addr uint64) string {
	if t == nil {
		return fmt.Sprintf("%#x", addr)
	}
	s, off, ok := t.Lookup(addr)
	if !ok {
		return fmt.Sprintf("%#x", addr)
	}
	if s.Module != "" {
		return fmt.Sprintf("%s+%#x [%s]", s.Name, off, s.Module)
	}
	return fmt.Sprintf("%s+%#x", s.Name, off)
}

// ParseProc reads the text of /proc/kallsyms ("address type name [module]") or of a System.map. Text in which all
// addresses are zero, as unprivileged readers get it, is an error.
func ParseProc(r io.Reader) (*Table, error) {
	var syms []Symbol
	some := false
	sc := bufio.NewScanner(r)
	for line := 1; sc.Scan(); line++ {
		f := strings.Fields(sc.Text())
		if len(f) == 0 {
			continue
		}
		if len(f) < 3 || len(f[1]) != 1 {
			return nil, fmt.Errorf("kallsyms: line %d: %q is not \"address type name\"", line, sc.Text())
		}
		a, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("kallsyms: line %d: %w", line, err)
		}
		s := Symbol{Name: strings.Clone(f[2]), Address: a, Type: f[1][0]}
		if len(f) > 3 {
			s.Module = strings.Clone(strings.Trim(f[3], "[]"))
		}
		some = some || a != 0 && !s.absolute()
		syms = append(syms, s)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("kallsyms: %w", err)
	}
	if !some {
		return nil, fmt.Errorf("kallsyms: no line has an address (kernel.kptr_restrict?): %w", ErrNoSymbols)
	}
	return NewTable(syms), nil
}
