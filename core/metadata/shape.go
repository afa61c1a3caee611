package metadata

import (
	"bytes"
	"cmp"

	"github.com/hybridbridge/emu/cpu/isa"
)

// KASLR changes instructions: the kernel relocates 4- and 8-byte displacements and immediates in its text when it moves.
// A site is the same in every run only without them.

// fields returns a mask of the bytes of an instruction that belong to a displacement or an immediate of at least 4 bytes.
// The decoder says which: changing such a byte changes nothing but that value.
func fields(code []byte, bits uint8) (mask uint16) {
	mode := isa.Mode(bits)
	in, err := isa.Decode(code, mode, isa.AllFeatures)
	if err != nil || int(in.Len) != len(code) || len(code) < 5 {
		return 0
	}
	var disp, imm []int
	changed := bytes.Clone(code)
	for i := 1; i < len(code); i++ {
		changed[i] ^= 0x80
		other, err := isa.Decode(changed, mode, isa.AllFeatures)
		changed[i] = code[i]
		if err != nil {
			continue
		}
		dispOnly, immOnly := other, other
		dispOnly.Disp, immOnly.Imm = in.Disp, in.Imm
		switch {
		case other == in:
		case dispOnly == in:
			disp = append(disp, i)
		case immOnly == in:
			imm = append(imm, i)
		}
	}
	for _, field := range [][]int{disp, imm} {
		if len(field) < 4 {
			continue
		}
		for _, i := range field {
			mask |= 1 << i
		}
	}
	return mask
}

// compareShapes orders instructions by their bytes outside fields.
func compareShapes(a, b []byte, bits uint8) int {
	if bytes.Equal(a, b) {
		return 0
	}
	if len(a) != len(b) {
		return cmp.Compare(len(a), len(b))
	}
	maskA, maskB := fields(a, bits), fields(b, bits)
	if maskA != maskB {
		return cmp.Compare(maskA, maskB)
	}
	for i := range a {
		if maskA&(1<<i) == 0 && a[i] != b[i] {
			return cmp.Compare(a[i], b[i])
		}
	}
	return 0
}

// hasShape reports whether an instruction has the site's bytes outside the site's fields.
func (s *Site) hasShape(code []byte) bool {
	if bytes.Equal(s.Bytes, code) || len(s.Bytes) != len(code) {
		return len(s.Bytes) == len(code)
	}
	mask := fields(s.Bytes, s.Bits)
	for i := range code {
		if mask&(1<<i) == 0 && code[i] != s.Bytes[i] {
			return false
		}
	}
	return true
}
