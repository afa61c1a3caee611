package debuginfo

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/snapshots"
)

// ErrFormat is wrapped by errors about a file that has no usable debugging information.
var ErrFormat = errors.New("no debugging information of a kernel")

// Info is what a vmlinux with debugging information says.
type Info struct {
	// BTF are the kernel's structures and what they are made of, as a .BTF section has them.
	BTF []byte
	// Symbols are all of the linker's, where the kernel was linked.
	Symbols *symbols.Table
	// BuildID is the linker's, in hexadecimal.
	BuildID string
}

// Read reads a vmlinux: an ELF file with DWARF of version 2 to 5 and a symbol table. Types that several files define by one name
// are those of the first.
func Read(r io.ReaderAt) (*Info, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	defer f.Close()
	i := new(Info)
	if i.Symbols, err = symbols.FromELFFile(f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOTE {
			continue
		}
		b, err := s.Data()
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrFormat, s.Name, err)
		}
		if id := BuildID(b); id != "" {
			i.BuildID = id
		}
	}
	d, err := f.DWARF()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if i.BTF, err = types(d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return i, nil
}

// BuildID returns the linker's build ID, in hexadecimal, in ELF notes such as those in /sys/kernel/notes, "" if there is none.
func BuildID(notes []byte) string {
	const ntGNUBuildID = 3
	all, _ := snapshots.ParseNotes(notes, 4)
	for _, n := range all {
		if n.Name == "GNU" && n.Type == ntGNUBuildID {
			return hex.EncodeToString(n.Data)
		}
	}
	return ""
}

// types makes BTF of DWARF.
func types(d *dwarf.Data) ([]byte, error) {
	c := newConverter(d)
	if err := c.units(); err != nil {
		return nil, err
	}
	return c.encode()
}
