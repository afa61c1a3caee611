package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

// The examples of SDM vol. 2, DAA and DAS, and corner cases worked out from their pseudo-code. OF is not compared.
func TestDecimal(t *testing.T) {
	c, _ := newRig(t, 0x4000)
	c.setMode(isa.Mode32)
	for _, test := range []struct {
		code          string
		ax, flags     uint64
		wantAX, wantF uint64
		mask          uint64
	}{
		{"27", 0xae, 0, 0x14, FlagAF | FlagCF | FlagPF, FlagOF},
		{"27", 0x2e, FlagAF, 0x34, FlagAF, FlagOF},
		{"27", 0x99, 0, 0x99, FlagSF | FlagPF, FlagOF},
		{"27", 0x9a, 0, 0x00, FlagAF | FlagCF | FlagZF | FlagPF, FlagOF},
		{"2f", 0xee, FlagAF, 0x88, FlagAF | FlagCF | FlagSF | FlagPF, FlagOF},
		{"2f", 0x05, FlagAF, 0xff, FlagAF | FlagCF | FlagSF | FlagPF, FlagOF},
		{"37", 0x00fa, 0, 0x0200, FlagAF | FlagCF, ^(FlagAF | FlagCF)},
		{"37", 0x0105, FlagAF, 0x020b, FlagAF | FlagCF, ^(FlagAF | FlagCF)},
		{"37", 0x01f5, 0, 0x0105, 0, ^(FlagAF | FlagCF)},
		{"3f", 0x0200, FlagAF, 0x000a, FlagAF | FlagCF, ^(FlagAF | FlagCF)},
		{"3f", 0x02f3, 0, 0x0203, 0, ^(FlagAF | FlagCF)},
		{"d40a", 0x0048, 0, 0x0702, 0, FlagOF | FlagAF | FlagCF},
		{"d50a", 0x0702, 0, 0x0048, FlagPF, FlagOF | FlagAF | FlagCF},
		{"d510", 0x1203, 0, 0x0023, 0, FlagOF | FlagAF | FlagCF},
	} {
		c.r[isa.RAX] = 0xabcd0000 | test.ax
		c.f.setWord(test.flags)
		if !c.step(t, test.code) || c.r[isa.RAX] != 0xabcd0000|test.wantAX || c.f.word()&^test.mask != test.wantF {
			t.Errorf("%s of %#x, flags %#x: %#x, flags %#x, want %#x, %#x", test.code, test.ax, test.flags, c.r[isa.RAX],
				c.f.word()&^test.mask, test.wantAX, test.wantF)
		}
	}
	c.faults(t, "d400", VectorDE)
}
