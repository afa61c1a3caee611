package legacytest

import (
	"strings"

	"github.com/hybridbridge/emu/cpu/isa"
)

// allowed returns why a difference is the reference's own fault, or "". diff and have are of emu, QEMU and Bochs, in this
// order; diff says where the reference differs from emu.
func allowed(_ *Case, a *About, emu *Result, diff [3]string, have [3]bool) string {
	const qemu, bochs = 1, 2
	q, b := diff[qemu], diff[bochs]
	if b != "" {
		return allowedBochs(a, emu, q, b)
	}
	sure := have[bochs] // Bochs agrees with emu
	op := a.Inst.Op
	switch {
	case sure && (emu.Vector == vectorGP || emu.Vector == vectorSS) && emu.Error == 0:
		return "QEMU: checks no limit, type or null selector of data and code segments (DESIGN.md, section 10)"
	case a.Inst.Row.Attr&isa.Undocumented != 0 && strings.HasPrefix(q, "vector 0x3/0x6"):
		return "QEMU: alias F6 /1, F7 /1 of TEST is #UD (AMD64 manual vol. 3, table A-6 has it)"
	case emu.Vector == vectorPF && (q == "error 0x7/0x5" || q == "error 0x6/0x4"):
		return "QEMU: reads before it writes, so the #PF of a read-modify-write is one of reading (Bochs and silicon: W set)"
	case (op == isa.RET_FAR || op == isa.IRET) && q == "tables":
		return "QEMU: far returns set no accessed bits (SDM vol. 3A, 3.4.5.1)"
	}
	return ""
}

func allowedBochs(a *About, emu *Result, q, b string) string {
	return ""
}
