package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

// TestSetRegisters: a processor goes on with other registers, and with the page tables as they are by then.
func TestSetRegisters(t *testing.T) {
	b := newRedirectRig(t)
	copy(b.ram[atCode:], unhex("488b18 4811db")) // mov rbx, [rax]; adc rbx, rbx
	b.c.MemoryWritten(atCode, 256)
	s := b.c.State()
	s.RIP, s.GPR[isa.RAX] = atCode, atData
	if err := b.c.SetState(s); err != nil {
		t.Fatal(err)
	}
	b.put64(atData, 0x1000)
	b.put64(atData+8, 0x8000000000000001)
	const elsewhere = 0x40000
	b.put64(elsewhere, 0x3000)
	for _, c := range []struct{ rax, page, flags, want, wantFlags uint64 }{
		{atData, atData, 0, 0x2000, 0},
		{atData, atData, FlagCF, 0x2001, 0},
		{atData + 8, atData, FlagCF, 3, FlagCF | FlagOF},
		{atData, elsewhere, 0, 0x6000, 0},
	} {
		b.put64(pte(4, atData), c.page|7)
		gpr := s.GPR
		gpr[isa.RAX] = c.rax
		b.c.SetRegisters(&gpr, atCode, c.flags|2, s.CR3)
		b.c.Step()
		b.c.Step()
		if got := b.c.State(); got.GPR[isa.RBX] != c.want || got.RFLAGS&(FlagCF|FlagOF) != c.wantFlags || got.GPR[isa.RAX] != c.rax || got.RIP != atCode+6 {
			t.Errorf("%x with flags %#x: %#x, flags %#x, at %#x", c.rax, c.flags, got.GPR[isa.RBX], got.RFLAGS, got.RIP)
		}
	}
}
