package oracle

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/cpu/isa"
)

// allowance is a difference between the host and the emulator that is no mistake of the emulator: results for which
// the manual gives a bound of error only, and places where AMD's processors and Intel's, whose model the emulator presents
// (docs/decisions/cpu-model.md), differ.
type allowance struct {
	name   string
	reason string
	// ops are the operations that it is for; one of them must be in the case. nil: any.
	ops []isa.Op
	// explains says whether it accounts for one difference.
	explains func(c *Case, host, emu *Outcome, d Diff) bool
}

// Allowances is the table, as names and reasons, for reports.
func Allowances(yield func(name, reason string) bool) {
	for i := range allowances {
		if !yield(allowances[i].name, allowances[i].reason) {
			return
		}
	}
}

var allowances = []allowance{
	{
		name: "approximate reciprocals",
		reason: "RCPPS, RSQRTPS and their scalar forms are approximations with a relative error of at most 1.5*2^-12 (SDM vol. 2, " +
			"RCPPS, RSQRTPS); AMD's tables have other bits than Intel's.",
		ops:      reciprocals,
		explains: nearReciprocal,
	},
	{
		name: "transcendentals",
		reason: "The emulator rounds F2XM1, FYL2X, FYL2XP1, FPATAN, FSIN, FCOS, FSINCOS and FPTAN correctly. Processors promise an error " +
			"of less than one unit in the last place (SDM vol. 1, 8.3.10), and C1, which tells the direction of rounding, follows the result.",
		ops:      transcendentals,
		explains: nearTranscendental,
	},
	{
		name: "MXCSR_MASK",
		reason: "AMD's processors have MXCSR.MM (bit 17, misaligned exception mask; APM vol. 2, 11.3) and say so in the MXCSR_MASK that FXSAVE " +
			"stores; Intel's have not.",
		ops: []isa.Op{isa.FXSAVE, isa.XSAVE, isa.XSAVEC},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return strings.HasPrefix(d.Field, "data") && d.Host == "02" && d.Emu == "00"
		},
	},
	{
		name: "alignment check before page fault",
		reason: "The manual lists #PF before #AC (SDM vol. 3A, table 6-2), and the emulator follows it; AMD's processors check the alignment first " +
			"(APM vol. 2, table 8-8, has the order of the manual, silicon has not).",
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return d.Field == "end" && host.Vector == vectorAC && emu.Vector == vectorPF && host.RIP == emu.RIP
		},
	},
	{
		name: "alignment check of 16 bytes",
		reason: "Whether unaligned 128-bit accesses raise #AC when alignment is checked depends on the implementation (SDM vol. 2, MOVUPS); AMD's " +
			"processors do, the emulator does not.",
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			for i := range c.Insts {
				if in := &c.Insts[i]; in.Addr == host.RIP && host.Vector == vectorAC {
					return in.HasMem() && operandSize(&in.Inst) == 16
				}
			}
			return false
		},
	},
	{
		name: "offset that is not canonical",
		reason: "With a base of FS or GS, AMD's processors want the offset to be canonical too; the manual wants it of the linear address only (SDM " +
			"vol. 1, 3.3.7.1).",
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			for i := range c.Insts {
				if in := &c.Insts[i]; in.Addr == host.RIP && host.Vector == vectorGP {
					return in.Seg >= isa.FS && emu.Vector != NoFault && emu.RIP == host.RIP && d.Field == "end"
				}
			}
			return false
		},
	},
	{
		name: "ports checked for a count of zero",
		reason: "AMD's processors check whether a repeated INS or OUTS may use the port even if the count is zero; in the manual's " +
			"description of REP nothing is executed then (SDM vol. 2B, REP).",
		ops: []isa.Op{isa.INS, isa.OUTS},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			for i := range c.Insts {
				if in := &c.Insts[i]; in.Addr == host.RIP && host.Vector == vectorGP {
					return in.Prefix&(isa.PrefixRep|isa.PrefixRepne) != 0
				}
			}
			return false
		},
	},
	{
		name: "call to an address that is not canonical",
		reason: "The manual checks the target of a call before it pushes (SDM vol. 2A, CALL); AMD's processors push first, so that a page " +
			"fault of the push is seen.",
		ops: []isa.Op{isa.CALL_IND},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return d.Field == "end" && emu.Vector == vectorGP && host.RIP == emu.RIP
		},
	},
	{
		name:   "MMX state after a fault of MASKMOVQ",
		reason: "AMD's processors enter the MMX state before a page fault of MASKMOVQ; a fault should change nothing (SDM vol. 3A, 6.6).",
		ops:    []isa.Op{isa.MASKMOVQ},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return host.Vector != NoFault && (d.Field == "fsw" || d.Field == "ftw" || strings.HasPrefix(d.Field, "st"))
		},
	},
	{
		name: "ModRM of UD0 and UD1",
		reason: "AMD's processors decode UD0 and UD1 without ModRM, so that neither a page fault of its fetch nor too " +
			"long an instruction is seen (SDM vol. 2B, UD, has it for both).",
		ops: []isa.Op{isa.UD0, isa.UD1},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return d.Field == "end" && host.Vector == vectorUD && (emu.Vector == vectorPF || emu.Vector == vectorGP)
		},
	},
	{
		name: "last x87 opcode",
		reason: "The emulator keeps the opcode of the last x87 instruction only if it raised an unmasked exception, as Intel's processors do since " +
			"the Pentium 4 (SDM vol. 1, 8.1.9.1); AMD's keep it always. So an opcode that FRSTOR and its kin have loaded stays in the emulator.",
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			loaded := slices.ContainsFunc(c.Insts, func(in CaseInst) bool { return in.Op == isa.FRSTOR || in.Op == isa.FLDENV || in.Op == isa.FXRSTOR })
			if d.Field == "fop" {
				return d.Emu == "0x0" || loaded
			}
			off, n, ok := d.data()
			// In an environment of 28 bytes the opcode follows the code selector.
			for p := off - 1; ok && p <= off; p++ {
				if p >= 2 && off+n <= p+2 && p+2 <= dataSize && host.Data[p-2] == selUserCS && host.Data[p-1] == 0 && host.Data[p+1] < 8 &&
					(emu.Data[p] == 0 && emu.Data[p+1] == 0 || loaded && emu.Data[p+1] < 8) {
					return true
				}
			}
			return false
		},
	},
	{
		name:   "last x87 pointers in FXSAVE",
		reason: "AMD's FXSAVE stores opcode, instruction and data pointer only if an exception is pending, else zeros (APM vol. 5, FXSAVE).",
		ops:    []isa.Op{isa.FXSAVE, isa.XSAVE, isa.XSAVEC},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			off, n, ok := d.data()
			for area := (off - 16) &^ 15; ok && area <= off; area += 16 {
				if area >= 0 && area+fxMXCSR <= dataSize && off >= area+fxOpcode && off+n <= area+fxMXCSR &&
					bytes.Count(host.Data[area+fxOpcode:area+fxMXCSR], []byte{0}) == fxMXCSR-fxOpcode {
					return true
				}
			}
			return false
		},
	},
	{
		name:   "width of the x87 pointers",
		reason: "AMD's processors keep 57 bits of the x87 instruction and data pointers, which FXRSTOR can set to anything; the emulator keeps 64.",
		ops:    []isa.Op{isa.FXRSTOR, isa.XRSTOR},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			le := binary.LittleEndian
			for name, at := range map[string]int{"fip": fxIP, "fdp": fxDP} {
				if d.Field == name {
					return int64(le.Uint64(emu.FX[at:])<<7)>>7 == int64(le.Uint64(host.FX[at:]))
				}
			}
			return false
		},
	},
	{
		name:   "limit bits of LAR",
		reason: "Bits 19:16 of what LAR loads are undefined (SDM vol. 2A, LAR); AMD's processors load the limit's, the emulator zeros.",
		ops:    []isa.Op{isa.LAR},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			for i, name := range gprNames {
				if d.Field == name {
					return host.GPR[i]&^0xf0000 == emu.GPR[i]
				}
			}
			return false
		},
	},
	{
		name: "far return to a selector that will not do",
		reason: "If RPL says that a far return leaves the privilege level, AMD's processors read the outer stack pointer before they find the " +
			"selector at fault, so that a page fault of the reading is seen; the manual checks the selector first (SDM vol. 2B, RET).",
		ops: []isa.Op{isa.RET_FAR, isa.IRET},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return d.Field == "end" && (host.Vector == vectorPF || host.Vector == vectorAC) && emu.Vector == vectorGP && host.RIP == emu.RIP
		},
	},
	{
		name:   "fault address of a far return",
		reason: "Which word of the frame that IRET and RETF pop is read first is not defined; AMD's processors do not begin with the first.",
		ops:    []isa.Op{isa.RET_FAR, isa.IRET},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			if d.Field != "end" || host.RIP != emu.RIP {
				return false
			}
			return host.Vector == vectorPF && emu.Vector == vectorPF && host.Address-emu.Address < 40 ||
				host.Vector == vectorPF && emu.Vector == vectorSS || host.Vector == vectorSS && emu.Vector == vectorPF
		},
	},
	{
		name:   "error code of IRET",
		reason: "For a stack selector that will not do, the error code is the selector (SDM vol. 2A, IRET); AMD's processors give 0.",
		ops:    []isa.Op{isa.IRET},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return d.Field == "end" && host.Vector == vectorGP && emu.Vector == vectorGP && host.RIP == emu.RIP && host.Code == 0
		},
	},
	{
		name:   "MXCSR.MM",
		reason: "Bit 17 of MXCSR is reserved in the manual, so that loading it is #GP; AMD's processors have it (APM vol. 2, 11.3).",
		ops:    []isa.Op{isa.LDMXCSR, isa.FXRSTOR, isa.XRSTOR},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return host.mxcsr()&(1<<17) != 0 && emu.Vector == vectorGP
		},
	},
	{
		name:   "strings that overlap through two mappings",
		reason: "Fast string operations copy blocks and notice overlap by linear address only (SDM vol. 1, 7.3.9.3, warns of them).",
		ops:    []isa.Op{isa.MOVS},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			_, _, ok := d.data()
			apart := func(r *[16]uint64) bool {
				return (r[isa.RSI] >= highBase-pageSize) != (r[isa.RDI] >= highBase-pageSize)
			}
			return ok && (apart(&host.GPR) || apart(&c.In.GPR)) // other instructions of the case may change them
		},
	},
	{
		name: "segment base after a fault",
		reason: "A host under a paravirtual hypervisor was seen to lose a GS base in the upper half of the address space when an exception " +
			"is delivered; that is the kernel's doing, not the processor's.",
		ops: []isa.Op{isa.WRFSBASE, isa.WRGSBASE},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return host.Vector != NoFault && (d.Field == "gsbase" && int64(emu.GSBase) < 0 || d.Field == "fsbase" && int64(emu.FSBase) < 0)
		},
	},
	{
		name: "misaligned FXSAVE area",
		reason: "With alignment checking, whether a misaligned area gives #AC or #GP depends on the implementation (SDM vol. 2, FXSAVE); AMD's " +
			"processors look at the area's end for #SS before.",
		ops: []isa.Op{isa.FXSAVE, isa.FXRSTOR},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			return d.Field == "end" && (host.Vector == vectorAC || host.Vector == vectorSS) && emu.Vector == vectorGP
		},
	},
	{
		name: "MOVSXD with 16 bits",
		reason: "The source of MOVSXD r16 has 16 bits in the manual (SDM vol. 2B, MOVSXD); AMD's processors read 32 (APM vol. 3, MOVSXD), so that " +
			"faults differ.",
		ops: []isa.Op{isa.MOVSXD},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			for i := range c.Insts {
				if in := &c.Insts[i]; in.Addr == host.RIP && host.Vector != NoFault {
					return in.Op == isa.MOVSXD && in.OpSize == 2
				}
			}
			return false
		},
	},
	{
		name: "fault address of a state image",
		reason: "Which byte of an image that is not mapped is touched first is not defined; AMD's processors begin with the last, the " +
			"emulator with the first.",
		ops: []isa.Op{isa.FXSAVE, isa.FXRSTOR, isa.FNSAVE, isa.FRSTOR, isa.FLDENV, isa.FNSTENV, isa.XSAVE, isa.XSAVEC, isa.XRSTOR},
		explains: func(c *Case, host, emu *Outcome, d Diff) bool {
			if d.Field != "end" || host.RIP != emu.RIP || emu.Vector != vectorPF {
				return false
			}
			over := emu.Address>>47 != (emu.Address+576)>>47 // over the end of the canonical addresses
			return host.Vector == vectorPF && host.Code|1 == emu.Code|1 && host.Address-emu.Address < 576 ||
				over && (host.Vector == vectorGP || host.Vector == vectorSS)
		},
	},
}

var reciprocals = []isa.Op{isa.RCPPS, isa.RCPSS, isa.RSQRTPS, isa.RSQRTSS}

var transcendentals = []isa.Op{isa.F2XM1, isa.FYL2X, isa.FYL2XP1, isa.FPATAN, isa.FPTAN, isa.FSIN, isa.FCOS, isa.FSINCOS}

// inexact are the operations after which a case ends, since what follows would multiply the difference.
var inexact = func() map[isa.Op]bool {
	m := map[isa.Op]bool{isa.FXSAVE: true, isa.XSAVE: true, isa.XSAVEC: true, isa.FNSAVE: true, isa.FNSTENV: true, isa.LAR: true}
	for _, op := range slices.Concat(transcendentals, reciprocals) {
		m[op] = true
	}
	return m
}()

// allow returns the differences that no allowance explains, and counts those that one does in used, if that is not nil.
func allow(c *Case, host, emu *Outcome, diffs []Diff, used map[string]uint64) []Diff {
	var left []Diff
	names := map[string]bool{}
	for _, d := range diffs {
		name := ""
		for i := range allowances {
			a := &allowances[i]
			if a.ops != nil && !slices.ContainsFunc(c.Insts, func(in CaseInst) bool { return slices.Contains(a.ops, in.Op) }) {
				continue
			}
			if a.explains(c, host, emu, d) {
				name = a.name
				break
			}
		}
		if name == "" {
			left = append(left, d)
			continue
		}
		names[name] = true
	}
	if used != nil && len(left) == 0 {
		for name := range names {
			used[name]++
		}
	}
	return left
}

// operandSize is the size of the memory operand.
func operandSize(in *isa.Inst) int {
	for i := range in.Args {
		if in.Args[i].Kind == isa.KindMem {
			return int(in.Args[i].Size)
		}
	}
	return 0
}

// index returns the number at the end of a field's name, if the name begins with kind.
func index(field, kind string) (int, bool) {
	text, ok := strings.CutPrefix(field, kind)
	if !ok || text == "" {
		return 0, false
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// nearReciprocal accepts vectors whose singles are equal or have a relative difference that two approximations of the
// allowed error can have.
func nearReciprocal(_ *Case, host, emu *Outcome, d Diff) bool {
	i, ok := index(d.Field, "xmm")
	if !ok {
		return false
	}
	le := binary.LittleEndian
	for k := 0; k < 16; k += 4 {
		h, e := le.Uint32(host.xmm(i)[k:]), le.Uint32(emu.xmm(i)[k:])
		if h == e || h<<1 == 0 && e&^(1<<31) <= 1<<23 && h>>31 == e>>31 {
			continue // or too small: flushed to zero
		}
		a, b := float64(math.Float32frombits(h)), float64(math.Float32frombits(e))
		const bound = 1.5 / 4096
		if !(math.Abs(a-b) <= 2*bound*math.Abs(a)*1.01) || math.IsInf(a, 0) {
			return false
		}
	}
	return true
}

// nearTranscendental accepts results that differ by one unit in the last place, and C1.
func nearTranscendental(_ *Case, host, emu *Outcome, d Diff) bool {
	if d.Field == "fsw" {
		const c1 = 1 << 9
		le := binary.LittleEndian
		h, e := le.Uint16(host.FX[fxStatus:]), le.Uint16(emu.FX[fxStatus:])
		return h|c1 == e|c1
	}
	i, ok := index(d.Field, "st")
	if !ok {
		return false
	}
	h, ok1 := realValue(host.st(i))
	e, ok2 := realValue(emu.st(i))
	if !ok1 || !ok2 || h.Sign() != e.Sign() {
		return false
	}
	// One unit of the smaller number's last place.
	exp := min(h.MantExp(nil), e.MantExp(nil))
	exp = max(exp, -16382+1)
	unit := new(big.Float).SetMantExp(big.NewFloat(1), exp-64)
	diff := new(big.Float).Sub(h, e)
	return diff.Abs(diff).Cmp(unit) <= 0
}

// realValue returns a finite 80-bit real.
func realValue(p []byte) (*big.Float, bool) {
	se, m := binary.LittleEndian.Uint16(p[8:]), binary.LittleEndian.Uint64(p)
	e := int(se & 0x7fff)
	if e == 0x7fff {
		return nil, false
	}
	v := new(big.Float).SetPrec(200).SetUint64(m)
	v.SetMantExp(v, max(e, 1)-16383-63)
	if se&0x8000 != 0 {
		v.Neg(v)
	}
	return v, true
}
