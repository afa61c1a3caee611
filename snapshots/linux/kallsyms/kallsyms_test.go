package kallsyms

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// build makes the six tables of a kernel since 6.4, in one piece at address base, with single-byte tokens.
func build(syms []Symbol, base uint64) ([]byte, Tables) {
	le := binary.LittleEndian
	var b []byte
	t := Tables{Word: 8}
	here := func() uint64 {
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		return base + uint64(len(b))
	}
	t.NumSyms = here()
	b = le.AppendUint32(b, uint32(len(syms)))
	t.Names = here()
	for _, s := range syms {
		if n := len(s.Name) + 1; n < 0x80 {
			b = append(b, byte(n))
		} else {
			b = append(b, byte(n&0x7f|0x80), byte(n>>7))
		}
		b = append(append(b, s.Type), s.Name...)
	}
	t.TokenTable = here()
	var index []byte
	start := len(b)
	for i := range 256 {
		index = le.AppendUint16(index, uint16(len(b)-start))
		b = append(b, byte(max(i, 1)), 0)
	}
	t.TokenIndex = here()
	b = append(b, index...)
	t.Offsets = here()
	for _, s := range syms {
		b = le.AppendUint32(b, uint32(s.Address-syms[0].Address))
	}
	t.RelativeBase = here()
	return le.AppendUint64(b, syms[0].Address), t
}

func sample() []Symbol {
	var syms []Symbol
	for i := range 500 {
		syms = append(syms, Symbol{Name: fmt.Sprintf("f_%d", i), Type: 't', Address: 0xffffffff81000000 + uint64(i)*64})
	}
	syms[77].Name = strings.Repeat("long", 50)
	return syms
}

func reader(b []byte, base uint64) func([]byte, uint64) error {
	return func(p []byte, va uint64) error {
		if va < base || va-base > uint64(len(b)) || uint64(len(p)) > uint64(len(b))-(va-base) {
			return errors.New("not mapped")
		}
		copy(p, b[va-base:])
		return nil
	}
}

func TestTables(t *testing.T) {
	want := sample()
	const base = 0xffffffff82000000
	b, tables := build(want, base)
	b = append(b, make([]byte, 128<<10)...)
	got, err := tables.Read(reader(b, base))
	if err != nil || len(got) != len(want) {
		t.Fatal(err, len(got))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%+v, want %+v", got[i], want[i])
		}
	}
	for _, bad := range []func(*Tables){
		func(t *Tables) { t.Names = 0 },
		func(t *Tables) { t.Names = t.Offsets },
		func(t *Tables) { t.NumSyms = t.Names },
		func(t *Tables) { t.TokenIndex = 5 },
		func(t *Tables) { t.RelativeBase = t.NumSyms },
		func(t *Tables) { t.Word = 3 },
	} {
		wrong := tables
		bad(&wrong)
		if _, err := wrong.Read(reader(b, base)); err == nil {
			t.Errorf("no error for %+v", wrong)
		}
	}
}

func FuzzTables(f *testing.F) {
	const base = 0xffffffff82000000
	b, t := build(sample(), base)
	f.Add(b, uint16(t.Names-base), uint16(t.NumSyms-base), uint16(t.TokenTable-base), uint16(t.TokenIndex-base), uint16(t.Offsets-base), uint16(t.RelativeBase-base), true)
	f.Fuzz(func(_ *testing.T, b []byte, names, num, table, index, offsets, relative uint16, wide bool) {
		t := Tables{
			Names: base + uint64(names), NumSyms: base + uint64(num), TokenTable: base + uint64(table),
			TokenIndex: base + uint64(index), Offsets: base + uint64(offsets), RelativeBase: base + uint64(relative), Word: 4,
		}
		if wide {
			t.Word = 8
		}
		_, _ = t.Read(reader(append(b, make([]byte, 70<<10)...), base))
	})
}

func FuzzFindInMemory(f *testing.F) {
	b, _ := build(sample(), 0)
	f.Add(b, true)
	f.Fuzz(func(_ *testing.T, b []byte, wide bool) {
		word := 4
		if wide {
			word = 8
		}
		_, _ = FindInMemory(b, word)
	})
}
