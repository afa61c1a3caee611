package slowbridge

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/hybridbridge/emu/cpu"
)

// findConstants finds variables whose values are in the kernel's code as well (runtime constants, since 6.11): pointers as
// the immediate operand of a 64-bit MOV, counts as that of a SHR beside such a pointer. The kernel has symbols for the tables
// of these places, but has given the tables' memory away. So a place counts if the trusted kernel's value is there, and
// the snapshot's in the snapshot. Roots are redirected there too.
func (b *Bridge) findConstants() {
	b.constants = map[string]map[uint64]uint64{}
	var text []byte
	// place notes that the immediate of n bytes at offset i of the text is a constant, if the snapshot has its value there.
	place := func(name string, i, opcode int, value uint64, n uint64) bool {
		la := b.code.Lo + uint64(i)
		if v, ok := reader(b.space.read).number(la, n); !ok || v != value {
			return false
		}
		if b.constants[name] == nil {
			b.constants[name] = map[uint64]uint64{}
		}
		b.constants[name][la-uint64(opcode)] = value
		return true
	}
	var functions []cpu.Range
	for _, s := range b.names.find("__start_runtime_ptr_*") {
		name := strings.TrimPrefix(s.Name, "__start_runtime_ptr_")
		local, other, ok := b.bothValues(name, 8)
		if !ok {
			continue // the name of something that is no variable
		}
		if text == nil {
			text = make([]byte, b.code.Hi-b.code.Lo)
			text = text[:b.guest.ReadLinear(b.code.Lo, text)]
		}
		pattern := binary.LittleEndian.AppendUint64(nil, local)
		for i := 2; i < len(text); i++ {
			n := bytes.Index(text[i:], pattern)
			if n < 0 {
				break
			}
			if i += n; text[i-2]&^1 == 0x48 && text[i-1]&^7 == 0xb8 && place(name, i, 2, other, 8) { // REX.W MOV r64, imm64
				if s, off, ok := b.symbols.Lookup(b.code.Lo + uint64(i)); ok {
					functions = append(functions, cpu.Range{Lo: s.Address, Hi: s.Address + max(off, b.names.size(s.Address))})
				}
			}
		}
	}
	for _, s := range b.names.find("__start_runtime_shift_*") {
		name := strings.TrimPrefix(s.Name, "__start_runtime_shift_")
		local, other, ok := b.bothValues(name, 1)
		if !ok || local == other {
			continue
		}
		for _, f := range functions {
			for i := int(f.Lo - b.code.Lo); i < min(int(f.Hi-b.code.Lo), len(text)-2); i++ {
				if text[i] != 0xc1 || text[i+1]&^7 != 0xe8 || uint64(text[i+2]) != local { // SHR r32, imm8
					continue
				}
				opcode := 2
				if i > 0 && text[i-1]&^1 == 0x40 {
					opcode = 3 // REX
				}
				place(name, i+2, opcode, other, 1)
			}
		}
	}
}

// bothValues reads a variable in both machines.
func (b *Bridge) bothValues(name string, size uint64) (local, other uint64, ok bool) {
	a, ok := b.symbols.Address(name)
	if !ok {
		return 0, 0, false
	}
	local, ok1 := reader(b.localRead).number(a, size)
	other, ok2 := reader(b.space.read).number(a, size)
	return local, other, ok1 && ok2
}
