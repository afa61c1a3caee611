package disasm

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/symbols"
)

// Image is a file of code. It implements Memory, at the addresses for which the file was linked.
type Image struct {
	Bits    int // 0 if the file does not say
	Entry   uint64
	Symbols *symbols.Table // nil if there are none

	parts []part
}

// part is a piece of the file that has an address; bytes behind data, up to size, are zero.
type part struct {
	addr, size uint64
	data       []byte
}

// OpenImage reads a kernel image (the kernel inside it), an ELF file, or, if it is neither, a flat binary, which lies at
// base.
func OpenImage(file []byte, base uint64) (*Image, error) {
	if im, err := boot.Parse(file); err == nil && im.Format == boot.BzImage {
		if file, err = im.Unpack(); err != nil {
			return nil, err
		}
	}
	if len(file) == 0 {
		return nil, errors.New("the file is empty")
	}
	if !bytes.HasPrefix(file, []byte(elf.ELFMAG)) {
		return &Image{Entry: base, parts: []part{{base, uint64(len(file)), file}}}, nil
	}
	return openELF(file)
}

func openELF(file []byte) (*Image, error) {
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("ELF: %w", err)
	}
	im := &Image{Bits: 32, Entry: f.Entry}
	switch {
	case f.Machine != elf.EM_386 && f.Machine != elf.EM_X86_64:
		return nil, fmt.Errorf("ELF: it is for %v, not x86", f.Machine)
	case f.Class == elf.ELFCLASS64:
		im.Bits = 64
	}
	found := false // a program header that the entry point lies in
	physical := f.Entry
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 {
			continue
		}
		if p.Off > uint64(len(file)) || p.Filesz > uint64(len(file))-p.Off {
			return nil, fmt.Errorf("ELF: the segment at %#x ends behind the file", p.Vaddr)
		}
		im.parts = append(im.parts, part{p.Vaddr, max(p.Memsz, p.Filesz), file[p.Off:][:p.Filesz]})
		found = found || f.Entry-p.Vaddr < p.Memsz
		if f.Entry-p.Paddr < p.Memsz {
			physical = f.Entry - p.Paddr + p.Vaddr
		}
	}
	if !found { // Linux gives its entry point as a physical address
		im.Entry = physical
	}
	if im.parts == nil { // an object file
		for _, s := range f.Sections {
			if s.Flags&elf.SHF_EXECINSTR != 0 && s.Type == elf.SHT_PROGBITS {
				b, err := s.Data()
				if err != nil {
					return nil, fmt.Errorf("ELF: section %s: %w", s.Name, err)
				}
				im.parts = append(im.parts, part{s.Addr, uint64(len(b)), b})
				im.Entry = s.Addr
				break
			}
		}
	}
	if im.parts == nil {
		return nil, errors.New("ELF: there is nothing to disassemble in this file")
	}
	if t, err := symbols.FromKernel(file); err == nil {
		im.Symbols = t
	}
	return im, nil
}

// ReadLinear implements Memory.
func (im *Image) ReadLinear(addr uint64, p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := im.read(addr+uint64(done), p[done:])
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}

func (im *Image) read(addr uint64, p []byte) int {
	for _, s := range im.parts {
		off := addr - s.addr
		if off >= s.size {
			continue
		}
		n := int(min(uint64(len(p)), s.size-off))
		k := 0
		if off < uint64(len(s.data)) {
			k = copy(p[:n], s.data[off:])
		}
		clear(p[k:n])
		return n
	}
	return 0
}

// Address reads an address as a person writes it: a number, a symbol, or a symbol and a distance like start_kernel+0x10.
func Address(s string, t *symbols.Table) (uint64, error) {
	if a, err := strconv.ParseUint(s, 0, 64); err == nil {
		return a, nil
	}
	symbol, distance, plus := strings.Cut(s, "+")
	off := uint64(0)
	if plus {
		var err error
		if off, err = strconv.ParseUint(distance, 0, 64); err != nil {
			return 0, fmt.Errorf("%q is no address: %q is not a number", s, distance)
		}
	}
	if t == nil {
		return 0, fmt.Errorf("%q is no number, and there are no symbols", s)
	}
	a, ok := t.Address(symbol)
	if !ok {
		// kallsyms addresses are often copied without 0x.
		if a, err := strconv.ParseUint(s, 16, 64); err == nil && len(s) >= 8 {
			return a, nil
		}
		return 0, fmt.Errorf("there is no symbol %q", symbol)
	}
	return a + off, nil
}
