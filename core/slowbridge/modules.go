package slowbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/linux"
)

// Modules of the snapshot and those of the trusted VM lie at different addresses. A function pointer from the snapshot that
// leads into a module means the function of the same name of the trusted VM's module of the same name.

// Bounds for lists in the snapshot, which may be forged.
const (
	maxModules       = 1024
	maxModuleSymbols = 1 << 16
	maxSymbolName    = 512
)

// module is a loaded kernel module.
type module struct {
	name       string
	base, size uint64 // of what holds its text
	symbols    []symbols.Symbol
}

// functions returns the functions that satisfy a condition.
func (m *module) functions(is func(symbols.Symbol) bool) []symbols.Symbol {
	var out []symbols.Symbol
	for _, s := range m.symbols {
		if isCode(s) && is(s) {
			out = append(out, s)
		}
	}
	return out
}

// moduleReader reads the list of modules of a kernel.
type moduleReader struct {
	read reader
	word uint64

	next, name, nameSize, state, base, size uint64 // in struct module
	kallsyms, symtab, count, strtab, types  uint64 // in it, and in struct mod_kallsyms
}

func newModuleReader(t *Types, read reader) (*moduleReader, error) {
	m := &moduleReader{read: read, word: t.word}
	for _, f := range []struct {
		to              *uint64
		structure, path string
	}{
		{&m.next, "module", "list"},
		{&m.name, "module", "name"},
		{&m.state, "module", "state"},
		{&m.kallsyms, "module", "kallsyms"},
		{&m.symtab, "mod_kallsyms", "symtab"},
		{&m.count, "mod_kallsyms", "num_symtab"},
		{&m.strtab, "mod_kallsyms", "strtab"},
		{&m.types, "mod_kallsyms", "typetab"},
	} {
		off, err := t.offset(f.structure, f.path)
		if err != nil {
			return nil, fmt.Errorf("modules: %w", err)
		}
		*f.to = off
	}
	m.nameSize = 64 - t.word // MODULE_NAME_LEN
	var err error
	if m.base, err = t.offset("module", "core_layout.base"); err == nil {
		m.size, err = t.offset("module", "core_layout.size")
	} else if mem, e := t.offset("module", "mem"); e == nil { // since Linux 6.4; the first is MOD_TEXT
		if m.base, err = t.offset("module_memory", "base"); err == nil {
			m.size, err = t.offset("module_memory", "size")
		}
		m.base, m.size = m.base+mem, m.size+mem
	}
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	return m, nil
}

// text reads a string of less than limit bytes.
func (m *moduleReader) text(la, limit uint64) (string, bool) {
	var out []byte
	for limit > 0 {
		p := make([]byte, min(64, limit, 0x1000-la&0xfff))
		if !m.read(la, p) {
			return "", false
		}
		if i := bytes.IndexByte(p, 0); i >= 0 {
			return string(append(out, p[:i]...)), true
		}
		out = append(out, p...)
		la, limit = la+uint64(len(p)), limit-uint64(len(p))
	}
	return "", false
}

// all reads the modules of the list whose head is at that address, the last loaded first as the kernel has them. With
// symbols, theirs are read too.
func (m *moduleReader) all(head uint64, withSymbols bool) ([]module, error) {
	const unformed = 3 // MODULE_STATE_UNFORMED
	var out []module
	at, ok := m.read.number(head, m.word)
	for ; ok && at != head; at, ok = m.read.number(at, m.word) {
		if len(out) == maxModules {
			return nil, fmt.Errorf("the list of modules has more than %d entries or never ends", maxModules)
		}
		this := at - m.next
		var mod module
		var state uint64
		var ok1, ok2, ok3, ok4 bool
		mod.name, ok1 = m.text(this+m.name, m.nameSize)
		state, ok2 = m.read.number(this+m.state, 4)
		mod.base, ok3 = m.read.number(this+m.base, m.word)
		mod.size, ok4 = m.read.number(this+m.size, 4)
		if !ok1 || !ok2 || !ok3 || !ok4 {
			return nil, fmt.Errorf("the module at %#x cannot be read", this)
		}
		if withSymbols && state != unformed {
			if mod.symbols, ok = m.symbolsOf(this, mod.name); !ok {
				return nil, fmt.Errorf("the symbols of module %s cannot be read", mod.name)
			}
		}
		out = append(out, mod)
	}
	if !ok {
		return nil, fmt.Errorf("the list of modules leads to %#x, where no memory is", at)
	}
	return out, nil
}

// symbolsOf reads the symbols of the module at that address.
func (m *moduleReader) symbolsOf(this uint64, name string) ([]symbols.Symbol, bool) {
	k, ok := m.read.number(this+m.kallsyms, m.word)
	if !ok || k == 0 {
		return nil, ok
	}
	symtab, ok1 := m.read.number(k+m.symtab, m.word)
	count, ok2 := m.read.number(k+m.count, 4)
	strtab, ok3 := m.read.number(k+m.strtab, m.word)
	typetab, ok4 := m.read.number(k+m.types, m.word)
	if !ok1 || !ok2 || !ok3 || !ok4 || count > maxModuleSymbols {
		return nil, false
	}
	// Elf64_Sym and Elf32_Sym (System V ABI, Symbol Table).
	entry, value, section := uint64(24), uint64(8), uint64(6)
	if m.word == 4 {
		entry, value, section = 16, 4, 14
	}
	table, letters := make([]byte, count*entry), make([]byte, count)
	if !m.read(symtab, table) || !m.read(typetab, letters) {
		return nil, false
	}
	var out []symbols.Symbol
	for i := range count {
		e := table[i*entry:]
		if binary.LittleEndian.Uint16(e[section:]) == 0 { // SHN_UNDEF
			continue
		}
		s := symbols.Symbol{Type: letters[i], Module: name}
		if s.Address = uint64(binary.LittleEndian.Uint32(e[value:])); m.word == 8 {
			s.Address = binary.LittleEndian.Uint64(e[value:])
		}
		if s.Name, ok = m.text(strtab+uint64(binary.LittleEndian.Uint32(e)), maxSymbolName); !ok {
			return nil, false
		}
		if s.Name != "" {
			out = append(out, s)
		}
	}
	return out, true
}

// ModuleNames returns the names of the modules that a snapshot's kernel has loaded, in the order of loading. They come out
// of the snapshot and may be anything. The symbols are those of the kernel itself, where it runs.
func ModuleNames(s snapshots.Snapshot, k *linux.Kernel, table *symbols.Table, t *Types) ([]string, error) {
	head, ok := table.Address("modules")
	if !ok {
		return nil, nil // a kernel without modules
	}
	// Not the run's memory: what is read there before the run would not be tainted.
	r, err := newModuleReader(t, newSpace(k, NewMemory(s)).read)
	if err != nil {
		return nil, err
	}
	all, err := r.all(head, false)
	if err != nil {
		return nil, fmt.Errorf("the snapshot: %w", err)
	}
	var names []string
	for _, m := range slices.Backward(all) {
		names = append(names, m.name)
	}
	return names, nil
}

// modules finds the functions of the trusted VM's modules for those of the snapshot's.
type modules struct {
	trusted  map[string]*module
	snapshot []module
	err      error // why the snapshot's cannot be read
	found    map[uint64]uint64
}

// readModules reads the trusted VM's modules and adds their symbols to the kernel's.
func (b *Bridge) readModules() error {
	b.modules = modules{trusted: map[string]*module{}, found: map[uint64]uint64{}}
	head, ok := b.symbols.Address("modules")
	if !ok {
		return nil // a kernel without modules
	}
	r, err := newModuleReader(b.types, b.localRead)
	if err != nil {
		return err
	}
	trusted, err := r.all(head, true)
	if err != nil {
		return fmt.Errorf("the trusted VM: %w", err)
	}
	var all []symbols.Symbol
	for i := range trusted {
		b.modules.trusted[trusted[i].name] = &trusted[i]
		all = append(all, trusted[i].symbols...)
	}
	b.symbols = b.symbols.With(all)
	return nil
}

// moduleFunction returns where the trusted VM has the function that the snapshot has at an address in a module.
func (b *Bridge) moduleFunction(target uint64) (uint64, error) {
	m := &b.modules
	if to, ok := m.found[target]; ok {
		return to, nil
	}
	if m.snapshot == nil && m.err == nil {
		head, _ := b.symbols.Address("modules")
		var r *moduleReader
		if r, m.err = newModuleReader(b.types, b.space.read); m.err == nil {
			m.snapshot, m.err = r.all(head, true)
		}
	}
	if m.err != nil {
		return 0, m.err
	}
	to, err := translate(m.snapshot, m.trusted, target)
	if err == nil {
		m.found[target] = to
	}
	return to, err
}

// translate finds the function of the trusted modules that is the one at target of the snapshot's.
func translate(snapshot []module, trusted map[string]*module, target uint64) (uint64, error) {
	i := slices.IndexFunc(snapshot, func(m module) bool { return target-m.base < m.size })
	if i < 0 {
		return 0, fmt.Errorf("%#x, where the snapshot has no module", target)
	}
	from := &snapshot[i]
	named := from.functions(func(s symbols.Symbol) bool { return s.Address == target })
	if len(named) == 0 {
		return 0, fmt.Errorf("%#x in module %s of the snapshot, where no function begins", target, from.name)
	}
	to := trusted[from.name]
	if to == nil {
		return 0, fmt.Errorf("%s of module %s, which the trusted VM has not loaded", named[0].Name, from.name)
	}
	var same []symbols.Symbol
	for _, n := range named {
		same = append(same, to.functions(func(s symbols.Symbol) bool { return s.Name == n.Name })...)
	}
	if len(same) > 1 { // static functions of several files
		same = slices.DeleteFunc(same, func(s symbols.Symbol) bool { return s.Address-to.base != target-from.base })
	}
	if len(same) == 0 {
		return 0, fmt.Errorf("%s of module %s, which the trusted VM's module does not have", named[0].Name, from.name)
	}
	return same[0].Address, nil
}
