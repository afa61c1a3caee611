package legacytest

import (
	"fmt"
	"strings"

	"github.com/hybridbridge/emu/cpu/isa"
)

// rule is a reason why a reference may differ from emu.
type rule struct {
	why string
	// holds looks at what the case is about, at emu's result and at the difference, as differences prints it. agrees says that
	// the other reference gives emu's answer, or differs for a reason of its own.
	holds func(a *About, emu *Result, diff string, agrees bool) bool
}

// farOp reports the operations that load CS.
func farOp(op isa.Op) bool {
	return op == isa.RET_FAR || op == isa.IRET || op == isa.JMP_FAR || op == isa.CALL_FAR
}

func farPointerOp(op isa.Op) bool {
	switch op {
	case isa.LDS, isa.LES, isa.LFS, isa.LGS, isa.LSS:
		return true
	}
	return false
}

// twoPartOp reports other operations whose memory operand is accessed in two parts.
func twoPartOp(op isa.Op) bool { return op == isa.BOUND || op == isa.SGDT || op == isa.SIDT }

// partialStore is a rule of both.
var partialStore = rule{
	"SGDT and SIDT write the limit before they find that the base faults (SDM vol. 3A, 6.5: faults restart)",
	func(a *About, emu *Result, diff string, _ bool) bool {
		return (a.Inst.Op == isa.SGDT || a.Inst.Op == isa.SIDT) && emu.Vector != vectorINT3 && diff == "memory"
	},
}

var rulesQEMU = []rule{
	partialStore,
	{
		"checks no limit, type or null selector when it accesses segments (SDM vol. 3A, 5.3 to 5.5)",
		func(_ *About, emu *Result, _ string, agrees bool) bool {
			return agrees && (emu.Vector == vectorGP || emu.Vector == vectorSS) && emu.Error == 0
		},
	},
	{
		"F6 /1 and F7 /1 are #UD; they are TEST (AMD64 manual vol. 3, table A-6)",
		func(a *About, _ *Result, diff string, _ bool) bool {
			return a.Inst.Row.Attr&isa.Undocumented != 0 && a.Inst.Op == isa.TEST && strings.HasPrefix(diff, "vector ")
		},
	},
	{
		"0F 18 with a register is #UD; it is a NOP (SDM vol. 2D, table A-6, group 16)",
		func(a *About, _ *Result, diff string, _ bool) bool {
			return a.Inst.Op == isa.NOP && strings.HasPrefix(diff, "vector 0x3/0x6")
		},
	},
	{
		"reads before it writes, so that the #PF of a read-modify-write is one of a read (Bochs and silicon: of a write)",
		func(_ *About, emu *Result, diff string, _ bool) bool {
			return emu.Vector == vectorPF && emu.Error&2 != 0 && diff == fmt.Sprintf("error %#x/%#x", emu.Error, emu.Error&^2)
		},
	},
	{
		"far transfers set no accessed bits (SDM vol. 3A, 3.4.5.1)",
		func(a *About, _ *Result, diff string, _ bool) bool { return farOp(a.Inst.Op) && diff == "tables" },
	},
	{
		"BSWAP r16 is undefined (SDM vol. 2A, BSWAP); silicon gives 0",
		func(a *About, _ *Result, _ string, _ bool) bool { return a.Inst.Op == isa.BSWAP && a.Inst.OpSize == 2 },
	},
	{
		"CMPS reads ES:rDI first, so that CR2 differs if both operands fault: the order is not specified",
		func(a *About, emu *Result, diff string, _ bool) bool {
			return a.Inst.Op == isa.CMPS && emu.Vector == vectorPF && strings.HasPrefix(diff, "cr2")
		},
	},
	{
		"F1 is #UD; it is INT1 (SDM vol. 2A, INT n)",
		func(a *About, _ *Result, diff string, _ bool) bool {
			return a.Inst.Op == isa.INT1 && strings.HasPrefix(diff, "vector 0x1/0x6")
		},
	},
	{
		"CLFLUSH accesses no memory, so it does not fault (SDM vol. 2A, CLFLUSH: as a load)",
		func(a *About, emu *Result, _ string, _ bool) bool {
			return a.Inst.Op == isa.CLFLUSH && emu.Vector == vectorPF
		},
	},
	{
		"a call gate to conforming code changes to the inner ring's stack (SDM vol. 3A, 5.8.4: CPL does not change)",
		func(a *About, _ *Result, _ string, agrees bool) bool { return a.Inst.Op == isa.CALL_FAR && agrees },
	},
	{
		"LAR and LSL take 16-bit task-state segments for valid in IA-32e mode (SDM vol. 2A, tables 3-52 and 3-54)",
		func(a *About, _ *Result, _ string, agrees bool) bool {
			return (a.Inst.Op == isa.LAR || a.Inst.Op == isa.LSL) && strings.HasPrefix(a.Env, "compat") && agrees
		},
	},
	{
		"the #GP error code of INT n in IA-32e mode has the wrong index (DESIGN.md, section 10)",
		func(a *About, emu *Result, diff string, agrees bool) bool {
			return a.Inst.Op == isa.INT && emu.Vector == vectorGP && strings.HasPrefix(diff, "error") && agrees
		},
	},
	{
		"a gate to code that is not present is #GP, not #NP (SDM vol. 2A, JMP and CALL)",
		func(a *About, _ *Result, diff string, agrees bool) bool {
			return farOp(a.Inst.Op) && diff == "vector 0xb/0xd" && agrees
		},
	},
	{
		"ENTER takes ESP less the operand size for the frame even if a 16-bit stack pointer wraps (SDM vol. 2A, ENTER)",
		func(a *About, _ *Result, _ string, agrees bool) bool { return a.Inst.Op == isa.ENTER && agrees },
	},
	{
		"IRETD with VM in the popped flags goes to virtual-8086 mode at any CPL (SDM vol. 2A, IRET: at CPL 0 only)",
		func(a *About, emu *Result, diff string, agrees bool) bool {
			return a.Inst.Op == isa.IRET && a.Inst.OpSize == 4 && agrees && strings.Contains(diff, "esp ")
		},
	},
	{
		"far returns do not wrap a 16-bit stack pointer between pops (SDM vol. 1, 6.2.2)",
		func(a *About, _ *Result, _ string, agrees bool) bool {
			return (a.Inst.Op == isa.RET_FAR || a.Inst.Op == isa.IRET) && agrees && (a.Env == "vm86" || a.Env == "real")
		},
	},
	{
		"RET imm16 sign-extends its operand, which is a number of bytes (SDM vol. 2B, RET)",
		func(a *About, _ *Result, diff string, _ bool) bool {
			return (a.Inst.Op == isa.RET || a.Inst.Op == isa.RET_FAR) && a.Inst.Imm&0x8000 != 0 && strings.HasPrefix(diff, "esp")
		},
	},
}

var rulesBochs = []rule{
	{
		"PUSH of a segment register writes 2 bytes whatever the operand size; both are allowed (SDM vol. 2B, PUSH)",
		func(a *About, emu *Result, diff string, _ bool) bool {
			return a.Inst.Op == isa.PUSH_SEG && (diff == "memory" || emu.Vector == vectorSS || emu.Vector == vectorPF)
		},
	},
	{
		"POP of a segment register reads 2 bytes whatever the operand size: not specified, seen at the end of a segment",
		func(a *About, emu *Result, _ string, _ bool) bool {
			return a.Inst.Op == isa.POP_SEG && (emu.Vector == vectorSS || emu.Vector == vectorPF)
		},
	},
	{
		"the second part of an operand is at an offset that wraps at the address size, and a selector is read first: not specified",
		func(a *About, emu *Result, _ string, _ bool) bool {
			return (farPointerOp(a.Inst.Op) || farOp(a.Inst.Op) || twoPartOp(a.Inst.Op)) && a.Inst.HasMem() &&
				(emu.Vector == vectorGP || emu.Vector == vectorSS || emu.Vector == vectorPF)
		},
	},
	partialStore,
	{
		"near CALL pushes before it finds the target beyond the limit (SDM vol. 2A, CALL: the check comes first)",
		func(a *About, emu *Result, diff string, _ bool) bool {
			return (a.Inst.Op == isa.CALL || a.Inst.Op == isa.CALL_IND) && emu.Vector == vectorGP && (diff == "memory" || diff == "vector 0xd/0xc")
		},
	},
	{
		"PUSHA pushes what it can before it finds that it cannot push all (SDM vol. 3A, 6.5: faults restart)",
		func(a *About, emu *Result, diff string, _ bool) bool {
			return a.Inst.Op == isa.PUSHA && emu.Vector != vectorINT3 && diff == "memory"
		},
	},
	{
		"LAR gives bits 16 to 19 of the descriptor too, which are undefined (SDM vol. 2A, LAR)",
		func(a *About, _ *Result, diff string, agrees bool) bool {
			return a.Inst.Op == isa.LAR && agrees && !strings.Contains(diff, ",")
		},
	},
	{
		"far transfers do not wrap a 16-bit stack pointer between pushes or pops (SDM vol. 1, 6.2.2)",
		func(a *About, emu *Result, diff string, _ bool) bool {
			return farOp(a.Inst.Op) && emu.Vector != vectorSS && strings.HasPrefix(diff, fmt.Sprintf("vector %#x/0xc", emu.Vector))
		},
	},
	{
		"IRETD in virtual-8086 mode does not check EIP against the limit (SDM vol. 2A, IRET)",
		func(a *About, emu *Result, _ string, _ bool) bool {
			return a.Inst.Op == isa.IRET && a.Env == "vm86" && emu.Vector == vectorGP
		},
	},
	{
		"LAR and LSL look at the type in the upper half of a 16-byte descriptor: not specified",
		func(a *About, _ *Result, _ string, _ bool) bool {
			return (a.Inst.Op == isa.LAR || a.Inst.Op == isa.LSL) && strings.HasPrefix(a.Env, "compat")
		},
	},
}

// undefined returns why nothing can be said about a case, or "".
func undefined(a *About, c *Case, emu *Result) string {
	in := &a.Inst
	if in.Op == isa.UD0 && emu.Vector == vectorGP {
		return "not specified: whether UD0 has a ModRM byte, seen at the end of a segment (SDM vol. 2B, UD)"
	}
	if in.HasMem() && (emu.Vector == vectorGP || emu.Vector == vectorSS) && c.DS == selFlatData3 && in.AddrSize == 4 && (effective(c, in) > 0xfffffff0 || in.Op == isa.BT || in.Op == isa.BTS || in.Op == isa.BTR || in.Op == isa.BTC) {
		return "not specified: accesses across 4 GiB in a flat segment (SDM vol. 3A, 5.3)"
	}
	if (in.Op == isa.SHLD || in.Op == isa.SHRD) && in.OpSize == 2 {
		count := uint32(in.Imm)
		if in.Args[2].Kind != isa.KindImm {
			count = c.GPR[isa.RCX]
		}
		if count&31 > 16 {
			return "undefined: SHLD and SHRD of 16 bits with a count over 16 (SDM vol. 2B)"
		}
	}
	return ""
}

// allowed returns why a difference is the references' own fault, or "". q and b say where QEMU and Bochs differ from emu.
func allowed(c *Case, a *About, emu *Result, q, b string, haveQ bool) string {
	if why := undefined(a, c, emu); why != "" {
		return why
	}
	whyBochs := reason(rulesBochs, a, emu, b, haveQ && q == "")
	whyQEMU := reason(rulesQEMU, a, emu, q, b == "" || whyBochs != "")
	switch {
	case b != "" && whyBochs == "" || q != "" && whyQEMU == "":
		return ""
	case b == "":
		return "QEMU: " + whyQEMU
	case q == "":
		return "Bochs: " + whyBochs
	}
	return "QEMU: " + whyQEMU + "; Bochs: " + whyBochs
}

func reason(rules []rule, a *About, emu *Result, diff string, agrees bool) string {
	if diff == "" {
		return ""
	}
	for i := range rules {
		if rules[i].holds(a, emu, diff, agrees) {
			return rules[i].why
		}
	}
	return ""
}
