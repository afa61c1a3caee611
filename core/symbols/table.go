package symbols

import (
	"bufio"
	"cmp"
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
	lists []list // those of one come after those of the lists before it
}

// list is symbols in an order of their own, as a Table is given them.
type list struct {
	symbols
	shift uint64 // of those that are places
}

// symbols are numbered as given. There are two more orders: of those that are places, by address, and of all, by name; what is equal stays
// as given.
type symbols interface {
	len() int
	// at returns a symbol.
	at(i int) Symbol
	address(i int) uint64
	absolute(i int) bool
	// compareName compares the symbol's name with another.
	compareName(i int, name string) int
	places() int
	// byAddress and byName return the numbers of the i-th symbol in these orders.
	byAddress(i int) int
	byName(i int) int
}

// plain are symbols one by one.
type plain struct {
	syms           []Symbol
	byAddr, byText []int32
}

func (p *plain) len() int                           { return len(p.syms) }
func (p *plain) at(i int) Symbol                    { return p.syms[i] }
func (p *plain) address(i int) uint64               { return p.syms[i].Address }
func (p *plain) absolute(i int) bool                { return p.syms[i].absolute() }
func (p *plain) compareName(i int, name string) int { return strings.Compare(p.syms[i].Name, name) }
func (p *plain) places() int                        { return len(p.byAddr) }
func (p *plain) byAddress(i int) int                { return int(p.byAddr[i]) }
func (p *plain) byName(i int) int                   { return int(p.byText[i]) }

// ErrNoSymbols is wrapped by errors about files without a usable symbol table.
var ErrNoSymbols = errors.New("no symbols found")

// NewTable makes a table of syms, which it takes over.
func NewTable(syms []Symbol) *Table {
	p := &plain{syms: syms, byText: make([]int32, len(syms))}
	for i, s := range syms {
		p.byText[i] = int32(i)
		if !s.absolute() {
			p.byAddr = append(p.byAddr, int32(i))
		}
	}
	slices.SortStableFunc(p.byAddr, func(a, b int32) int { return cmp.Compare(syms[a].Address, syms[b].Address) })
	slices.SortStableFunc(p.byText, func(a, b int32) int { return strings.Compare(syms[a].Name, syms[b].Name) })
	return &Table{[]list{{symbols: p}}}
}

func (s *Symbol) absolute() bool { return s.Type == 'a' || s.Type == 'A' }

// Shift returns the same table with delta added to all addresses that are places: what KASLR does to a kernel.
// Shifts add up. The tables share their memory.
func (t *Table) Shift(delta uint64) *Table {
	c := &Table{slices.Clone(t.lists)}
	for i := range c.lists {
		c.lists[i].shift += delta
	}
	return c
}

// With returns a table that has more symbols after its own, which it takes over. The tables share their memory.
func (t *Table) With(more []Symbol) *Table {
	return &Table{slices.Concat(t.lists, NewTable(more).lists)}
}

// Len returns the number of symbols.
func (t *Table) Len() (n int) {
	for i := range t.lists {
		n += t.lists[i].len()
	}
	return n
}

// symbol is at with the shift.
func (l *list) symbol(i int) Symbol {
	s := l.at(i)
	if !s.absolute() {
		s.Address += l.shift
	}
	return s
}

// after returns how many places are at addr or below.
func (l *list) after(addr uint64) int {
	return sort.Search(l.places(), func(i int) bool { return l.address(l.byAddress(i))+l.shift > addr })
}

// named returns how many names come before this.
func (l *list) named(name string) int {
	return sort.Search(l.len(), func(i int) bool { return l.compareName(l.byName(i), name) >= 0 })
}

// All calls yield with every symbol in the table's own order until it returns false.
func (t *Table) All(yield func(Symbol) bool) {
	for n := range t.lists {
		l := &t.lists[n]
		for i := range l.len() {
			if !yield(l.symbol(i)) {
				return
			}
		}
	}
}

// Offsets returns the values of the symbols that are no places, in order.
func (t *Table) Offsets() (v []uint64) {
	for n := range t.lists {
		l := &t.lists[n]
		for i := range l.len() {
			if l.absolute(i) {
				v = append(v, l.address(i))
			}
		}
	}
	slices.Sort(v)
	return v
}

// Lookup returns the symbol at or before addr and the distance from it. Of several at one address it returns the
// first, as the kernel does. It reports false below the first symbol and more than 16 MiB after one: a
// kernel's sections are closer than that.
func (t *Table) Lookup(addr uint64) (found Symbol, distance uint64, ok bool) {
	for n := range t.lists {
		l := &t.lists[n]
		i := l.after(addr) - 1
		if i < 0 {
			continue
		}
		at := l.address(l.byAddress(i))
		if d := addr - l.shift - at; ok && d >= distance {
			continue
		}
		for i > 0 && l.address(l.byAddress(i-1)) == at {
			i--
		}
		found, distance, ok = l.symbol(l.byAddress(i)), addr-l.shift-at, true
	}
	return found, distance, ok && distance < 16<<20
}

// Find returns the symbol called name. If there are several (static functions of different files), it returns the
// first.
func (t *Table) Find(name string) (Symbol, bool) {
	for n := range t.lists {
		l := &t.lists[n]
		if i := l.named(name); i < l.len() && l.compareName(l.byName(i), name) == 0 {
			return l.symbol(l.byName(i)), true
		}
	}
	return Symbol{}, false
}

// Prefixed calls yield with the symbols whose names begin so, by name, until it returns false.
func (t *Table) Prefixed(prefix string) iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		next := make([]int, len(t.lists))
		heads := make([]*Symbol, len(t.lists))
		advance := func(n int) {
			heads[n] = nil
			if l := &t.lists[n]; next[n] < l.len() {
				if s := l.symbol(l.byName(next[n])); strings.HasPrefix(s.Name, prefix) {
					heads[n] = &s
				}
			}
			next[n]++
		}
		for n := range t.lists {
			next[n] = t.lists[n].named(prefix)
			advance(n)
		}
		for {
			least := -1
			for n, h := range heads {
				if h != nil && (least < 0 || h.Name < heads[least].Name) {
					least = n
				}
			}
			if least < 0 || !yield(*heads[least]) {
				return
			}
			advance(least)
		}
	}
}

// Next returns the address of the first place above addr.
func (t *Table) Next(addr uint64) (next uint64, ok bool) {
	for n := range t.lists {
		l := &t.lists[n]
		if i := l.after(addr); i < l.places() {
			if a := l.address(l.byAddress(i)) + l.shift; !ok || a < next {
				next, ok = a, true
			}
		}
	}
	return next, ok
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
