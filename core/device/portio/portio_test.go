package portio

import "testing"

func TestSplit(t *testing.T) {
	regs := map[uint16]uint8{0x10: 0x11, 0x11: 0x22, 0x12: 0x33, 0x13: 0x44}
	read := func(p uint16) uint8 { return regs[p] }
	for size, want := range map[int]uint32{0: 0, 1: 0x11, 2: 0x2211, 4: 0x44332211, 8: 0x44332211} {
		if got := Read(0x10, size, read); got != want {
			t.Errorf("size %d: %#x, want %#x", size, got, want)
		}
	}
	Write(0xffff, 2, 0xaabb, func(p uint16, v uint8) { regs[p] = v }) // wraps, as the address bus does
	if regs[0xffff] != 0xbb || regs[0] != 0xaa {
		t.Errorf("registers %v", regs)
	}
}
