package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

func TestDivideErrors(t *testing.T) {
	c, _ := newRig(t, 0x4000)
	const min64 = 1 << 63
	for _, test := range []struct {
		code         string
		rax, rdx, by uint64
		ok           bool
	}{
		{"f6f1", 0x1000, 0, 0x10, false},
		{"f6f1", 0x0fff, 0, 0x10, true},
		{"f6f1", 5, 0, 0, false},
		{"f6f9", 0x0080, 0, 1, false},    // 128 / 1
		{"f6f9", 0xff80, 0, 1, true},     // -128 / 1
		{"f6f9", 0xff80, 0, 0xff, false}, // -128 / -1
		{"66f7f9", 0x8000, 0xffff, 0xffff, false},
		{"f7f9", 0x80000000, 0xffffffff, 0xffffffff, false},
		{"f7f9", 0, 0x80000000, 0xffffffff, false}, // the most negative dividend
		{"f7f1", 0, 1, 1, false},
		{"f7f1", 0xffffffff, 1, 2, true},
		{"48f7f1", 0, 1, 1, false},
		{"48f7f1", ^uint64(0), 1, 2, true},
		{"48f7f9", min64, ^uint64(0), ^uint64(0), false},
		{"48f7f9", min64, ^uint64(0), 1, true},
		{"48f7f9", min64, 0, 1, false},
		{"48f7f9", 0, min64, ^uint64(0), false},
		{"48f7f9", 0, 0, 0, false},
	} {
		c.r[isa.RAX], c.r[isa.RDX], c.r[isa.RCX] = test.rax, test.rdx, test.by
		if !test.ok {
			c.faults(t, test.code, VectorDE)
		} else if !c.step(t, test.code) {
			t.Errorf("%s: %#x:%#x / %#x faults", test.code, test.rdx, test.rax, test.by)
		}
	}
}
