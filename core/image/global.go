package image

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/core/machine"
)

// cr4PGE is CR4's bit for global pages (SDM vol. 3A, 2.5).
const cr4PGE = 1 << 7

// errCR4 is wrapped by errors about a kernel whose note of CR4 was not found.
var errCR4 = errors.New("global pages cannot be switched off")

// endGlobalPages clears CR4.PGE, and the kernel's note of CR4 in cpu_tlbstate, from which it writes the register. A 64-bit Linux sets
// the bit whatever CPUID says, in its first instructions.
func endGlobalPages(m *machine.Machine) error {
	s := m.CPU().State()
	if s.CR4&cr4PGE == 0 {
		return nil
	}
	t := m.KernelSymbols()
	if t == nil {
		return fmt.Errorf("%w: the kernel has no symbols", errCR4)
	}
	offsets, ok := t.Address("__per_cpu_offset")
	at, ok2 := t.Address("cpu_tlbstate")
	var word [8]byte
	if !ok || !ok2 || m.CPU().ReadLinear(offsets, word[:]) != len(word) {
		return fmt.Errorf("%w: the kernel lacks __per_cpu_offset or cpu_tlbstate", errCR4)
	}
	at += binary.LittleEndian.Uint64(word[:])
	// Where the structure has it depends on the version: within two cache lines, and no other member has such a value.
	var note uint64
	for la := at; la < at+128; la += 8 {
		if m.CPU().ReadLinear(la, word[:]) == len(word) && binary.LittleEndian.Uint64(word[:]) == s.CR4 {
			if note != 0 {
				return fmt.Errorf("%w: cpu_tlbstate has CR4's value %#x twice", errCR4, s.CR4)
			}
			note = la
		}
	}
	s.CR4 &^= cr4PGE
	binary.LittleEndian.PutUint64(word[:], s.CR4)
	if note == 0 || m.CPU().WriteLinear(note, word[:]) != len(word) {
		return fmt.Errorf("%w: cpu_tlbstate does not have CR4's value %#x", errCR4, s.CR4|cr4PGE)
	}
	return m.CPU().SetState(s)
}
