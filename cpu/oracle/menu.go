package oracle

import (
	"regexp"
	"strings"

	"github.com/hybridbridge/emu/cpu/isa"
)

// Features are the features that cases are decoded with: all but those that mean to be unused.
var Features = isa.AllFeatures &^ isa.Features(isa.FeatVMX, isa.FeatSVM)

// dish is a row of the instruction table with what the generator wants to know about it.
type dish struct {
	*isa.Row
	enc isa.Encoding
	// kind are the flavours of the operands, by explicit operand.
	kind [4]flavour
	// vectors is the flavour that vector registers should have.
	vectors flavour
	stack   bool // uses memory at rSP
	str     bool // string instruction
	branch  bool // near branch
	far     bool // a branch that loads CS
	// selector says that the source is a selector.
	selector bool
	fault    bool // faults in ring 3 whatever the operands
	x87      bool
}

// excluded are operations that cases do not contain, with the reason.
var excluded = map[isa.Op]string{
	isa.SYSCALL:    "enters the host's kernel",
	isa.SYSENTER:   "enters the host's kernel; AMD's processors do not have it in long mode (APM vol. 3, SYSENTER)",
	isa.SYSEXIT:    "AMD's processors do not have it in long mode (APM vol. 3, SYSEXIT)",
	isa.VMCALL:     "may call the host's hypervisor",
	isa.VMMCALL:    "may call the host's hypervisor",
	isa.RDTSC:      "answers differ from run to run",
	isa.RDTSCP:     "answers differ from run to run",
	isa.RDPMC:      "depends on CR4.PCE and on what the host counts",
	isa.RDRAND:     "answers differ from run to run",
	isa.RDSEED:     "answers differ from run to run",
	isa.RDPID:      "answers which CPU the host chose",
	isa.CPUID:      "answers what the host is",
	isa.XGETBV:     "answers what the host has enabled in XCR0",
	isa.RDPKRU:     "depends on what the host has enabled in CR4",
	isa.WRPKRU:     "depends on what the host has enabled in CR4",
	isa.SGDT:       "depends on the host's tables and UMIP",
	isa.SIDT:       "depends on the host's tables and UMIP",
	isa.SLDT:       "depends on the host's tables and UMIP",
	isa.STR:        "depends on the host's tables and UMIP",
	isa.SMSW:       "depends on the host's CR0 and UMIP",
	isa.MOV_TO_SEG: "depends on the host's descriptor tables",
	isa.POP_SEG:    "depends on the host's descriptor tables",
	isa.LSS:        "depends on the host's descriptor tables",
	isa.LFS:        "depends on the host's descriptor tables",
	isa.LGS:        "depends on the host's descriptor tables",
	isa.MONITOR:    "at CPL 3 the answer depends on a model-specific register",
	isa.MWAIT:      "at CPL 3 the answer depends on a model-specific register",
	isa.XSAVE:      "the layout depends on what the host has enabled in XCR0",
	isa.XSAVEOPT:   "the layout depends on what the host has enabled in XCR0",
	isa.XSAVEC:     "the layout depends on what the host has enabled in XCR0",
	isa.XRSTOR:     "the layout depends on what the host has enabled in XCR0",
}

// Excluded returns why cases do not contain a row, or "".
func Excluded(r *isa.Row) string {
	if r.Attr&isa.No64 != 0 {
		return "invalid in 64-bit mode, the only one that the host has"
	}
	return excluded[r.Op]
}

// menu are the rows that cases are made of.
type menu struct {
	all []*dish
	// flags are those that write or read arithmetic flags and are no branches: what follows another instruction.
	flags []*dish
	byRow map[*isa.Row]*dish
}

// newMenu returns the rows whose operation matches the expression; nil means all.
func newMenu(filter *regexp.Regexp) *menu {
	m := &menu{byRow: map[*isa.Row]*dish{}}
	for r := range isa.Rows {
		if Excluded(r) != "" || !Features.Has(r.Feature) || filter != nil && !filter.MatchString(r.Op.String()) {
			continue
		}
		d := newDish(r)
		m.all = append(m.all, d)
		m.byRow[r] = d
		if (r.Reads|r.Writes)&isa.FlagsStatus != 0 && !d.branch && !d.fault && !d.str {
			m.flags = append(m.flags, d)
		}
	}
	if len(m.flags) == 0 {
		m.flags = m.all
	}
	return m
}

func newDish(r *isa.Row) *dish {
	d := &dish{Row: r, enc: r.Opcode(), vectors: anyFlavour, x87: r.Feature == isa.FeatFPU || strings.HasPrefix(r.Op.String(), "F")}
	for _, a := range r.Implicit {
		d.stack = d.stack || a.Kind == isa.KindStack
	}
	switch r.Op {
	case isa.JCC, isa.LOOP, isa.LOOPE, isa.LOOPNE, isa.JCXZ, isa.CALL, isa.CALL_IND, isa.JMP, isa.JMP_IND, isa.RET:
		d.branch = true
	case isa.JMP_FAR, isa.CALL_FAR, isa.RET_FAR, isa.IRET:
		d.branch, d.far = true, true
	case isa.LAR, isa.LSL, isa.VERR, isa.VERW:
		d.selector = true
	case isa.INT, isa.INT3, isa.INT1, isa.UD0, isa.UD1, isa.UD2, isa.CLI, isa.STI, isa.IN, isa.OUT, isa.INS, isa.OUTS:
		d.fault = true
	case isa.FXSAVE, isa.FXRSTOR:
		d.x87 = false
	}
	if r.Attr&isa.Privileged != 0 {
		d.fault = true
	}
	codes := strings.Split(r.Args, ",")
	for i := range r.NumArgs() {
		place, _, _ := r.Arg(i)
		d.str = d.str || place == isa.PlaceString
		code, _, _ := strings.Cut(codes[i], ":")
		d.kind[i] = operandFlavour(r, code)
		if d.kind[i] == singles || d.kind[i] == doubles {
			d.vectors = d.kind[i]
		}
	}
	if d.vectors == anyFlavour && r.Attr&isa.SIMDFP != 0 {
		d.vectors = singles
		if d.enc.Prefix == 0x66 || d.enc.Prefix == 0xf2 {
			d.vectors = doubles
		}
	}
	return d
}

// operandFlavour says what kind of data an operand holds, from the manual's code of it.
func operandFlavour(r *isa.Row, code string) flavour {
	switch code {
	case "Menv":
		return environment
	case "Msav":
		return saved
	case "Mfx":
		return fxImage
	case "Mxs":
		return xsaveImage
	}
	op := r.Op.String()
	switch r.Op {
	case isa.FLDCW:
		return controlWord
	case isa.LDMXCSR:
		return mxcsrWord
	case isa.FBLD, isa.FBSTP:
		return decimal
	}
	if r.Feature == isa.FeatFPU || r.Op == isa.FISTTP {
		whole := strings.HasPrefix(op, "FI") && r.Op != isa.FINCSTP
		switch {
		case code == "Mt":
			return extended
		case code == "Md" && !whole:
			return singles
		case code == "Mq" && !whole:
			return doubles
		}
		return integers
	}
	switch {
	case strings.HasSuffix(code, "ps") || strings.HasSuffix(code, "ss"):
		return singles
	case strings.HasSuffix(code, "pd") || strings.HasSuffix(code, "sd"):
		return doubles
	case r.Attr&isa.SIMDFP != 0 && code == "Wq":
		// The low half of a vector that is converted.
		if strings.HasPrefix(op, "CVTDQ") {
			return integers
		}
		return singles
	}
	return integers
}
