// Package kallsyms reads the symbol table that a Linux kernel carries for its own use (CONFIG_KALLSYMS): found by content
// in a kernel image or in memory, or where VMCOREINFO says it is. Start at Find, FindInMemory and Tables.
package kallsyms

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Symbol is a name for an address. Type is nm's letter: t text, d data, r read-only data, b bss, w weak, a absolute;
// upper case for global symbols.
type Symbol struct {
	Name    string
	Address uint64
	Type    byte
}

func (s *Symbol) absolute() bool { return s.Type == 'a' || s.Type == 'A' }

// ErrNotFound is wrapped by errors about memory in which there are no tables, or none that make sense.
var ErrNotFound = errors.New("no kallsyms tables")

// Tables are the virtual addresses of the tables, as VMCOREINFO has them since Linux 6.0.
type Tables struct {
	Names, NumSyms, TokenTable, TokenIndex, Offsets, RelativeBase uint64
	// Word is the kernel's word size in bytes, 4 or 8.
	Word int
}

// Read decodes tables out of memory that read copies from a virtual address.
func (t Tables) Read(read func(p []byte, va uint64) error) ([]Symbol, error) {
	if t.Word != 4 && t.Word != 8 {
		return nil, fmt.Errorf("kallsyms: word of %d bytes", t.Word)
	}
	// The tables are gathered into one buffer in the order of kernels before 6.4, and read as if they had been there.
	var n [8]byte
	if err := read(n[:4], t.NumSyms); err != nil {
		return nil, fmt.Errorf("kallsyms_num_syms: %w", err)
	}
	num := int(binary.LittleEndian.Uint32(n[:]))
	if num < minSymbols || num > maxSymbols {
		return nil, fmt.Errorf("%d symbols: %w", num, ErrNotFound)
	}
	k := &finder{word: t.Word, uleb: true}
	pad := func() { k.b = append(k.b, make([]byte, k.align(len(k.b))-len(k.b))...) }
	fetch := func(what string, va uint64, size int) error {
		pad()
		at := len(k.b)
		k.b = append(k.b, make([]byte, size)...)
		if err := read(k.b[at:], va); err != nil {
			return fmt.Errorf("kallsyms_%s: %w", what, err)
		}
		return nil
	}
	if err := fetch("offsets", t.Offsets, 4*num); err != nil {
		return nil, err
	}
	pad()
	base := len(k.b)
	if err := fetch("relative_base", t.RelativeBase, t.Word); err != nil {
		return nil, err
	}
	numAt := len(k.b)
	k.b = append(k.b, n[:t.Word]...)
	// The end of the names is known only from reading them.
	names := len(k.b)
	for i, p := 0, names; i < num; {
		const piece = 64 << 10
		at := len(k.b)
		if at-names > maxNames {
			return nil, fmt.Errorf("names of more than %d bytes: %w", maxNames, ErrNotFound)
		}
		va := t.Names + uint64(at-names)
		k.b = append(k.b, make([]byte, piece-va%4096)...)
		if err := readPages(read, k.b[at:], va); err != nil {
			return nil, fmt.Errorf("kallsyms_names: %w", err)
		}
		for i < num && p+2 <= len(k.b) {
			n, head := int(k.b[p]), 1
			if n >= 0x80 {
				n, head = n&0x7f|int(k.b[p+1])<<7, 2
			}
			if n == 0 {
				return nil, fmt.Errorf("an empty name: %w", ErrNotFound)
			}
			if p+head+n > len(k.b) {
				break
			}
			p += head + n
			i++
		}
	}
	var index [512]byte
	if err := read(index[:], t.TokenIndex); err != nil {
		return nil, fmt.Errorf("kallsyms_token_index: %w", err)
	}
	end := 0
	for i := range k.tokens {
		end = max(end, int(binary.LittleEndian.Uint16(index[2*i:])))
	}
	tokens := make([]byte, end+maxToken)
	if err := readPages(read, tokens, t.TokenTable); err != nil {
		return nil, fmt.Errorf("kallsyms_token_table: %w", err)
	}
	for i := range k.tokens {
		s := tokens[binary.LittleEndian.Uint16(index[2*i:]):]
		z := bytes.IndexByte(s, 0)
		if z < 0 {
			return nil, fmt.Errorf("token %d has no end: %w", i, ErrNotFound)
		}
		k.tokens[i] = string(s[:z])
	}
	k.table = len(k.b)
	k.b = append(k.b, make([]byte, 8)...) // a name may start in the last byte
	addrs, abs := k.relative(0, base, num)
	if addrs == nil {
		return nil, fmt.Errorf("implausible addresses: %w", ErrNotFound)
	}
	syms := k.expand(numAt, addrs, abs)
	if syms == nil {
		return nil, fmt.Errorf("implausible names: %w", ErrNotFound)
	}
	return syms, nil
}

// maxToken bounds one token.
const maxToken = 256

// readPages reads what may extend past the end of what is mapped: pages after the first that cannot be read are zero.
func readPages(read func(p []byte, va uint64) error, p []byte, va uint64) error {
	for first := true; len(p) > 0; first = false {
		n := min(4096-va%4096, uint64(len(p)))
		if err := read(p[:n], va); err != nil {
			if first {
				return err
			}
			clear(p)
			return nil
		}
		p, va = p[n:], va+n
	}
	return nil
}
