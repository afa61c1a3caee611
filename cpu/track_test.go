package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/taint"
)

// TestChoiceTaint executes CMOVLE RAX, RSI with tainted flags: with PointerPart, what is chosen keeps its own taint.
func TestChoiceTaint(t *testing.T) {
	for _, test := range []struct {
		pointers     bool
		source, want taint.Mask
	}{
		{false, taint.Clean, taint.All(8)},
		{true, taint.Clean, taint.Clean},
		{true, taint.All(8), taint.All(8)},
	} {
		c, _ := newRig(t, 1<<16)
		c.EnableTaint(&TaintOptions{PointerPart: test.pointers})
		c.setMode(isa.Mode64)
		in, err := isa.Decode([]byte{0x48, 0x0f, 0x4e, 0xc6}, isa.Mode64, c.feat)
		if err != nil {
			t.Fatal(err)
		}
		u := uop{Inst: in, end: uint32(in.Len)}
		u.exec = c.handlerFor(&u, 0x10)
		c.f.setWord(1 << 6) // ZF
		c.track.regs.Flags = 1
		c.track.regs.GPR[isa.RSI] = test.source
		if !c.trackedHandler(&u)(c, &u) {
			t.Fatal("the instruction has failed")
		}
		if got := c.track.regs.GPR[isa.RAX]; got != test.want {
			t.Errorf("pointers %v, source %#x: taint %#x, want %#x", test.pointers, test.source, got, test.want)
		}
	}
}
