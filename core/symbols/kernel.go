package symbols

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/snapshots/linux/kallsyms"
)

// FromKernel reads the symbols of an unpacked kernel (boot.Image.Unpack): its ELF symbol table if it has one, else its
// kallsyms tables. Addresses are those that the kernel was linked for.
func FromKernel(vmlinux []byte) (*Table, error) {
	t, err := FromELF(vmlinux)
	if err == nil {
		return t, nil
	}
	k, kerr := FromKallsyms(vmlinux)
	if kerr == nil {
		return k, nil
	}
	return nil, errors.Join(err, kerr)
}

// FromELF reads the .symtab of an ELF file.
func FromELF(b []byte) (*Table, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("ELF symbols: %w", err)
	}
	return FromELFFile(f)
}

// FromELFFile reads the .symtab of an open ELF file.
func FromELFFile(f *elf.File) (*Table, error) {
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("ELF symbols: %w: %w", err, ErrNoSymbols)
	}
	var syms []Symbol
	for _, s := range all {
		switch elf.ST_TYPE(s.Info) {
		case elf.STT_SECTION, elf.STT_FILE:
			continue
		}
		if s.Name == "" || s.Section == elf.SHN_UNDEF {
			continue
		}
		syms = append(syms, Symbol{Name: s.Name, Address: s.Value, Type: letter(f, s)})
	}
	if len(syms) == 0 {
		return nil, fmt.Errorf("ELF symbols: %w", ErrNoSymbols)
	}
	return NewTable(syms), nil
}

// letter is what nm prints for a symbol.
func letter(f *elf.File, s elf.Symbol) byte {
	c := byte('d')
	switch {
	case s.Section == elf.SHN_ABS:
		c = 'a'
	case int(s.Section) < len(f.Sections):
		switch sec := f.Sections[s.Section]; {
		case sec.Flags&elf.SHF_EXECINSTR != 0:
			c = 't'
		case sec.Type == elf.SHT_NOBITS:
			c = 'b'
		case sec.Flags&elf.SHF_WRITE == 0:
			c = 'r'
		}
	}
	switch elf.ST_BIND(s.Info) {
	case elf.STB_WEAK:
		return 'W'
	case elf.STB_GLOBAL:
		c -= 'a' - 'A'
	}
	return c
}

// Banner returns the "Linux version ..." line of an unpacked kernel, without the newline, or "". A kernel image holds
// several: a format string, one from before the build number was known, and the one that it prints at boot.
func Banner(vmlinux []byte) string {
	const mark = "Linux version "
	found := ""
	for b := vmlinux; ; {
		i := bytes.Index(b, []byte(mark))
		if i < 0 {
			return found
		}
		b = b[i:]
		line := b[:min(len(b), 1024)]
		j := bytes.IndexAny(line, "\n\x00")
		b = b[len(mark):]
		if j < 0 || bytes.IndexByte(line[:j], '%') >= 0 {
			continue
		}
		line = line[:j]
		if n := bytes.IndexByte(line, '#'); n >= 0 && n+1 < len(line) && line[n+1] != ' ' {
			return string(line)
		}
		if found == "" {
			found = string(line)
		}
	}
}

// FromMemory is FromKallsyms for a piece of memory that holds a running kernel of that word size, 4 or 8 bytes. Its symbols
// are where the kernel runs. b must be aligned as it was in memory.
func FromMemory(b []byte, word int) (*Table, error) {
	syms, err := kallsyms.FindInMemory(b, word)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrNoSymbols)
	}
	return FromDecoded(syms), nil
}

// FromKallsyms finds and reads the kallsyms tables in an unpacked kernel.
func FromKallsyms(b []byte) (*Table, error) {
	syms, err := kallsyms.Find(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrNoSymbols)
	}
	return FromDecoded(syms), nil
}

// FromDecoded makes a table of symbols that package kallsyms decoded, from a kernel image or from a snapshot.
func FromDecoded(in []kallsyms.Symbol) *Table {
	syms := make([]Symbol, len(in))
	for i, s := range in {
		syms[i] = Symbol{Name: s.Name, Address: s.Address, Type: s.Type}
	}
	return NewTable(syms)
}
