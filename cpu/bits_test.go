package cpu

import (
	"encoding/binary"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

// TestBitString addresses bits far from the operand, in both directions.
func TestBitString(t *testing.T) {
	c, ram := newRig(t, 0x8000)
	c.r[isa.RAX] = 0x4000
	for _, test := range []struct {
		code string
		bit  int64
		at   int // byte that changes
		mask byte
	}{
		{"480fab08", 0, 0x4000, 1},
		{"480fab08", 64*3 + 17, 0x4000 + 3*8 + 2, 2},
		{"480fab08", -1, 0x3fff, 0x80},
		{"480fab08", -64 * 513, 0x4000 - 8*513, 1},
		{"0fab08", 1<<32 | 33, 0x4004, 2}, // only ECX counts
		{"0fab08", -32, 0x3ffc, 1},
		{"660fab08", -16, 0x3ffe, 1},
		{"660fab08", 0x7fff, 0x4fff, 0x80},
		{"0fba2821", 0, 0x4000, 2}, // an immediate stays within the operand
	} {
		c.r[isa.RCX] = uint64(test.bit)
		if !c.step(t, test.code) || c.f.cf() || ram[test.at] != test.mask {
			t.Errorf("%s bit %d: byte %#x is %#x, CF %v", test.code, test.bit, test.at, ram[test.at], c.f.cf())
		}
		ram[test.at] = 0
	}
	c.r[isa.RCX] = 0x4000 * 8
	c.faults(t, "480fab08", VectorPF)
}

func TestCompareExchangeWide(t *testing.T) {
	c, ram := newRig(t, 0x8000)
	put := func(at int, v uint64) { binary.LittleEndian.PutUint64(ram[at:], v) }
	get := func(at int) uint64 { return binary.LittleEndian.Uint64(ram[at:]) }
	c.r[isa.RSI] = 0x4000
	put(0x4000, 0x1111111122222222)
	c.r[isa.RAX], c.r[isa.RDX], c.r[isa.RBX], c.r[isa.RCX] = 0xf22222222, 0xf11111111, 0xf33333333, 0xf44444444
	c.f.setWord(flagsArith &^ FlagZF)
	c.step(t, "0fc70e")
	if get(0x4000) != 0x4444444433333333 || c.f.word() != flagsArith || c.r[isa.RAX] != 0xf22222222 {
		t.Errorf("cmpxchg8b, equal: %#x, flags %#x, rax %#x", get(0x4000), c.f.word(), c.r[isa.RAX])
	}
	c.step(t, "0fc70e")
	if c.r[isa.RAX] != 0x33333333 || c.r[isa.RDX] != 0x44444444 || c.f.word() != flagsArith&^FlagZF {
		t.Errorf("cmpxchg8b, different: rdx:rax %#x:%#x, flags %#x", c.r[isa.RDX], c.r[isa.RAX], c.f.word())
	}
	c.r[isa.RSI] = 0x4008
	c.faults(t, "480fc70e", VectorGP) // not aligned
	c.r[isa.RSI] = 0x4010
	put(0x4010, 1)
	put(0x4018, 2)
	c.r[isa.RAX], c.r[isa.RDX], c.r[isa.RBX], c.r[isa.RCX] = 1, 2, 3, 4
	c.step(t, "480fc70e")
	if get(0x4010) != 3 || get(0x4018) != 4 || !c.f.zf() {
		t.Errorf("cmpxchg16b: %#x %#x", get(0x4010), get(0x4018))
	}
}
