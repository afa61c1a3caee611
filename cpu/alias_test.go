package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/taint"
)

// TestAlias loads pointers in a scope with an alias, within and outside the code for which it holds.
func TestAlias(t *testing.T) {
	const own, other = 0xffff888000001000, 0xffff888000002000
	for _, test := range []struct {
		name   string
		stored uint64
		code   []Range
		want   uint64
	}{
		{"alias", own, []Range{{Lo: atCode, Hi: atCode + 0x100}}, other},
		{"another pointer", own + 8, []Range{{Lo: atCode, Hi: atCode + 0x100}}, own + 8},
		{"other code", own, []Range{{Lo: atCode + 0x100, Hi: atCode + 0x200}}, own},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newSysRig(t, Config{})
			b.long()
			b.c.EnableTaint(&TaintOptions{PointerPart: true})
			b.c.EnableRedirection(&Redirection{StackSize: 0x1000, User: 0x1000})
			b.c.EnterScope(Scope{Aliases: []Alias{{Code: test.code, Local: own, Other: other}}})
			b.put64(atData, test.stored)
			b.exec("48 8b 04 25" + le(atData, 4)) // mov rax, [atData]
			b.wantReg(isa.RAX, test.want)
			var m taint.Mask
			if test.want == other {
				m = taint.All(8)
			}
			if got := b.c.track.regs.GPR[isa.RAX]; got != m {
				t.Errorf("taint %#x, want %#x", got, m)
			}
		})
	}
}
