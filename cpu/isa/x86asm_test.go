package isa

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// prefixSets are the prefixes before each enumerated opcode.
var prefixSets = map[Mode][]string{
	Mode16: {"", "\x66", "\x67", "\xf2", "\xf3", "\xf0", "\x66\xf3", "\xf2\x66", "\xf3\xf2", "\x2e", "\x64\x66\x67"},
	Mode32: {"", "\x66", "\x67", "\xf2", "\xf3", "\xf0", "\x66\xf3", "\xf2\x66", "\xf3\xf2", "\x2e", "\x64\x66\x67"},
	Mode64: {
		"", "\x66", "\x67", "\xf2", "\xf3", "\xf0", "\x66\xf3", "\xf2\x66", "\xf3\xf2", "\x2e", "\x64\x66\x67",
		"\x41", "\x48", "\x4f", "\x66\x44", "\x66\x48", "\xf2\x48", "\xf3\x49", "\xf0\x48", "\x66\xf2\x48",
	},
}

var opcodeMaps = []string{"", "\x0f", "\x0f\x38", "\x0f\x3a"}

// enumerate calls f with every prefix set, opcode and ModRM byte, followed by a few kinds of SIB.
func enumerate(mode Mode, f func(prefixes string, code []byte)) {
	sibs := []byte{0x11, 0x25, 0xc0}
	var buf [32]byte
	for _, p := range prefixSets[mode] {
		for _, m := range opcodeMaps {
			for op := range 256 {
				if m == "" && (op == 0x0f || isPrefix(mode, byte(op))) || m == "\x0f" && (op == 0x38 || op == 0x3a) {
					continue
				}
				for modrm := range 256 {
					n := len(sibs)
					if modrm >= 0xc0 || modrm&7 != 4 {
						n = 1
					}
					for _, sib := range sibs[:n] {
						code := append(buf[:0], p...)
						code = append(code, m...)
						code = append(code, byte(op), byte(modrm), sib, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x08, 0x19)
						f(p, code[:15])
					}
				}
			}
		}
	}
}

func isPrefix(mode Mode, b byte) bool {
	c := prefixClass[b]
	return c != noPrefix && (c != prefixREX || mode == Mode64)
}

// families are the names of x86asm that one Op covers, where they differ from the Op's.
var families = map[Op]string{
	JCC:    "JA JAE JB JBE JE JG JGE JL JLE JNE JNO JNP JNS JO JP JS",
	SETCC:  "SETA SETAE SETB SETBE SETE SETG SETGE SETL SETLE SETNE SETNO SETNP SETNS SETO SETP SETS",
	CMOVCC: "CMOVA CMOVAE CMOVB CMOVBE CMOVE CMOVG CMOVGE CMOVL CMOVLE CMOVNE CMOVNO CMOVNP CMOVNS CMOVO CMOVP CMOVS",
	JCXZ:   "JCXZ JECXZ JRCXZ",
	MOVS:   "MOVSB MOVSW MOVSD MOVSQ", CMPS: "CMPSB CMPSW CMPSD CMPSQ", STOS: "STOSB STOSW STOSD STOSQ",
	LODS: "LODSB LODSW LODSD LODSQ", SCAS: "SCASB SCASW SCASD SCASQ", INS: "INSB INSW INSD", OUTS: "OUTSB OUTSW OUTSD",
	MOVSD: "MOVSD_XMM", CMPSD: "CMPSD_XMM", MOVD: "MOVD MOVQ", PEXTRD: "PEXTRD PEXTRQ", PINSRD: "PINSRD PINSRQ",
	CBW: "CBW CWDE CDQE", CWD: "CWD CDQ CQO", IRET: "IRET IRETD IRETQ", PUSHA: "PUSHA PUSHAD", POPA: "POPA POPAD",
	PUSHF: "PUSHF PUSHFD PUSHFQ", POPF: "POPF POPFD POPFQ", XLAT: "XLATB", RET_FAR: "LRET", PUSH_SEG: "PUSH", POP_SEG: "POP",
	MOV_TO_SEG: "MOV", MOV_FROM_SEG: "MOV", MOV_TO_CR: "MOV", MOV_FROM_CR: "MOV", MOV_TO_DR: "MOV", MOV_FROM_DR: "MOV",
	JMP_IND: "JMP", CALL_IND: "CALL", JMP_FAR: "LJMP", CALL_FAR: "LCALL", INT3: "INT", INT1: "ICEBP",
	IMUL1: "IMUL", IMUL2: "IMUL", IMUL3: "IMUL",
	FXSAVE: "FXSAVE FXSAVE64", FXRSTOR: "FXRSTOR FXRSTOR64", XSAVE: "XSAVE XSAVE64", XRSTOR: "XRSTOR XRSTOR64",
	XSAVEOPT: "XSAVEOPT XSAVEOPT64", XSAVEC: "XSAVEC XSAVEC64", XSAVES: "XSAVES XSAVES64", XRSTORS: "XRSTORS XRSTORS64",
	SYSRET: "SYSRET SYSRETQ", SYSEXIT: "SYSEXIT SYSEXITQ",
}

// A pair is what the two decoders made of the same bytes.
type pair struct {
	mode   Mode
	code   []byte // after the prefixes
	prefix string
	in     *Inst
	err    error
	ref    *x86asm.Inst
	referr error
}

// onlyWe reports whether x86asm finds no instruction and Decode one of the given Ops.
func (p *pair) onlyWe(ops ...Op) bool {
	return p.err == nil && p.referr != nil && slices.Contains(ops, p.in.Op)
}

// onlyX86asm reports whether Decode finds no instruction and x86asm one with one of the given names.
func (p *pair) onlyX86asm(names string) bool {
	return p.err == ErrInvalid && p.referr == nil && slices.Contains(strings.Fields(names), p.ref.Op.String())
}

// refusedPrefix reports whether Decode refuses the prefixes of an instruction that it knows without them.
func (p *pair) refusedPrefix() bool {
	if p.err != ErrInvalid || p.prefix == "" {
		return false
	}
	plain, err := Decode(p.code, p.mode, AllFeatures)
	if err != nil {
		return false
	}
	e := plain.Row.Opcode()
	return e.NP || e.NFx
}

// mismatches are the differences from x86asm that are right, with the reason. Each must be met in some mode. Those marked
// "host" were tried on an AMD EPYC, where the bytes were executed or met #UD as Decode has it.
var mismatches = []struct {
	reason string
	match  func(p *pair) bool
}{
	{"undocumented twins of other encodings work (host)", func(p *pair) bool {
		return p.err == nil && p.referr != nil && p.in.Row.Attr&Undocumented != 0
	}},
	{"82 is a twin of 80 outside 64-bit mode (SDM 2D, table A-2)", func(p *pair) bool {
		return p.err == nil && p.referr != nil && p.code[0] == 0x82 && p.mode != Mode64
	}},
	{"MOV to CS is #UD (host)", func(p *pair) bool {
		return p.err == ErrInvalid && p.code[0] == 0x8e && p.code[1]>>3&7 == CS
	}},
	{"features that no row has: RTM, SHA, SSE4A", func(p *pair) bool {
		return p.onlyX86asm("XABORT XBEGIN XEND XTEST SHA1NEXTE SHA1MSG1 SHA1MSG2 SHA256RNDS2 SHA256MSG1 SHA256MSG2 SHA1RNDS4 MOVNTSD MOVNTSS")
	}},
	{"VEX and EVEX are not in the table", func(p *pair) bool {
		return p.err == ErrInvalid && p.referr == nil && strings.HasPrefix(p.ref.Op.String(), "V") && slices.Contains([]byte{0x62, 0xc4, 0xc5}, p.code[0])
	}},
	{"0F C7 /6 with memory is VMPTRLD, not RDRAND (SDM 2D, table A-6)", func(p *pair) bool {
		return p.onlyX86asm("RDRAND") && p.code[2] < 0xc0
	}},
	{"instructions that x86asm does not know", func(p *pair) bool {
		return p.onlyWe(VMCALL, VMMCALL, CLAC, STAC, RDPKRU, WRPKRU, PREFETCH, RDSEED, RDPID, ADCX, ADOX, UD0, UD1, CLWB, CLFLUSHOPT)
	}},
	{"LFENCE, MFENCE, SFENCE with any rm (host)", func(p *pair) bool { return p.onlyWe(LFENCE, MFENCE, SFENCE) }},
	{"all of 0F 18 to 0F 1F is NOP where it is no hint (host)", func(p *pair) bool { return p.onlyWe(NOP) }},
	{"MOV from and to control and debug registers ignores mod (SDM 2B, MOV)", func(p *pair) bool {
		return p.err == nil && p.in.Row.Attr&AnyMod != 0 && p.code[2] < 0xc0
	}},
	{"there are no test registers any more (host), nor CR1, CR5 to CR7, DR8 to DR15 (host)", func(p *pair) bool {
		return p.err == ErrInvalid && p.code[0] == 0x0f && p.code[1]&0xf8 == 0x20
	}},
	{"NP and NFx rows are #UD after these prefixes (host)", (*pair).refusedPrefix},
	{"LOCK needs a lockable instruction with a memory destination (host)", func(p *pair) bool {
		return p.err == ErrInvalid && strings.Contains(p.prefix, "\xf0")
	}},
	{"prefix 66 makes CLWB of XSAVEOPT and CLFLUSHOPT of CLFLUSH", func(p *pair) bool {
		return p.err == nil && (p.in.Op == CLWB || p.in.Op == CLFLUSHOPT)
	}},
	{"F3 90 with REX.B is XCHG (host)", func(p *pair) bool { return p.in.Op == XCHG && p.ref.Op == x86asm.PAUSE }},
	{"MOVLPD and MOVHPD have no register form (host)", func(p *pair) bool {
		return p.onlyX86asm("MOVLPD MOVHPD") && p.code[2] >= 0xc0
	}},
}

// sameAsX86asm reports whether both decoders found the same instruction.
func sameAsX86asm(in *Inst, err error, ref *x86asm.Inst, referr error) bool {
	if err != nil || referr != nil {
		return err != nil && referr != nil
	}
	if int(in.Len) != ref.Len {
		return false
	}
	names := families[in.Op]
	if names == "" {
		names = in.Op.String()
	}
	for name := range strings.FieldsSeq(names) {
		if name == ref.Op.String() {
			return true
		}
	}
	return false
}

func TestDecodeLikeX86asm(t *testing.T) {
	if testing.Short() {
		t.Skip("enumerates millions of encodings")
	}
	met := make([]int, len(mismatches))
	total := 0
	for _, mode := range []Mode{Mode16, Mode32, Mode64} {
		failures := map[string]int{}
		enumerate(mode, func(p string, code []byte) {
			total++
			in, err := Decode(code, mode, AllFeatures)
			ref, referr := x86asm.Decode(code, int(mode))
			if referr == nil && ref.Op == 0 { // prefixes only
				referr = x86asm.ErrUnrecognized
			}
			if sameAsX86asm(&in, err, &ref, referr) {
				if err == nil {
					diff := ""
					if !otherOperands[in.Op] {
						diff = operandDiff(&in, &ref)
					}
					if diff != "" {
						key := fmt.Sprintf("%v %v", in.Row.Enc, in.Row.Args)
						if failures[key]++; failures[key] == 1 {
							t.Errorf("mode %d: % x: %v %s: %s", mode, code[:12], in.Op, in.Row.Args, diff)
						}
					}
				}
				return
			}
			pr := pair{mode, code[len(p):], p, &in, err, &ref, referr}
			for i := range mismatches {
				if mismatches[i].match(&pr) {
					met[i]++
					return
				}
			}
			key := fmt.Sprintf("%v|%v", in.Op, ref.Op)
			if failures[key]++; failures[key] == 1 {
				t.Errorf("mode %d: % x: %v/%d (%v), x86asm: %v/%d (%v)", mode, code[:12], in.Op, in.Len, err, ref.Op, ref.Len, referr)
			}
		})
	}
	for i, n := range met {
		if n == 0 {
			t.Errorf("allowed mismatch is not met: %s", mismatches[i].reason)
		}
	}
	t.Logf("%d encodings", total)
}

// otherOperands are the instructions whose operands x86asm describes in other ways: it gives string instructions
// plain memory operands, splits far pointers, leaves out or adds implicit operands (RDRAND with REX.W too), gives the
// selector operands of MOV, LAR and LSL the operand's size though 16 bits are read, and MOVSXD with 66 a doubleword
// (SDM 2B, MOVSXD: r16, r/m16).
var otherOperands = map[Op]bool{
	MOVS: true, CMPS: true, STOS: true, LODS: true, SCAS: true, INS: true, OUTS: true, XLAT: true, MASKMOVQ: true, MASKMOVDQU: true,
	MONITOR: true, MOV_TO_SEG: true, LAR: true, LSL: true, MOVSXD: true, RDRAND: true, CALL_FAR: true, JMP_FAR: true, INT3: true,
}

// operandDiff says how the operands of two decodings of one instruction differ.
func operandDiff(in *Inst, ref *x86asm.Inst) string {
	if int(in.AddrSize)*8 != ref.AddrSize {
		return fmt.Sprintf("address size %d, x86asm %d", in.AddrSize, ref.AddrSize)
	}
	args := in.Args[:in.Row.NumArgs()]
	refArgs := ref.Args[:]
	for len(refArgs) > 0 && refArgs[len(refArgs)-1] == nil {
		refArgs = refArgs[:len(refArgs)-1]
	}
	switch {
	case len(args) > 0 && args[0].Kind == KindST && len(args) == len(refArgs)+1:
		args = args[1:] // x86asm leaves ST0 out where assemblers do
	case in.Op == PBLENDVB || in.Op == BLENDVPS || in.Op == BLENDVPD:
		refArgs = refArgs[:2] // XMM0 is implicit in ours
	}
	if len(args) != len(refArgs) {
		return fmt.Sprintf("%d operands, x86asm %v", len(args), refArgs)
	}
	for i := range args {
		o, want := &args[i], refArgs[i]
		got := toX86asm(in, o)
		if m, ok := want.(x86asm.Mem); ok && m.Index == 0 {
			m.Scale = 0
			want = m
		}
		if v, ok := want.(x86asm.Imm); ok {
			want = v & (1<<(8*o.Size) - 1)
			v, _ = got.(x86asm.Imm)
			got = v & (1<<(8*o.Size) - 1)
		}
		if got != want {
			return fmt.Sprintf("operand %d is %+v, x86asm %+v", i, got, want)
		}
		if o.Kind == KindMem && int(o.Size) != ref.MemBytes && ref.MemBytes != 0 && o.Size != 255 {
			return fmt.Sprintf("memory has %d bytes, x86asm %d", o.Size, ref.MemBytes)
		}
	}
	return ""
}

// generalRegs are x86asm's general registers by operand size.
var generalRegs = map[uint8]x86asm.Reg{2: x86asm.AX, 4: x86asm.EAX, 8: x86asm.RAX}

// toX86asm gives an operand as x86asm has it.
func toX86asm(in *Inst, o *Operand) x86asm.Arg {
	reg := x86asm.Reg(o.Reg)
	switch o.Kind {
	case KindReg:
		if o.Size > 1 {
			return generalRegs[o.Size] + reg
		}
		if reg >= 4 {
			return x86asm.SPB + reg - 4
		}
		return x86asm.AL + reg
	case KindHigh:
		return x86asm.AH + reg
	case KindMMX:
		return x86asm.M0 + reg
	case KindXMM:
		return x86asm.X0 + reg
	case KindST:
		return x86asm.F0 + reg
	case KindSeg:
		return x86asm.ES + reg
	case KindCR:
		return x86asm.CR0 + reg
	case KindDR:
		return x86asm.DR0 + reg
	case KindImm:
		return x86asm.Imm(in.Imm)
	case KindImm2:
		return x86asm.Imm(in.Imm2)
	case KindOne:
		return x86asm.Imm(1)
	case KindRel:
		return x86asm.Rel(in.Imm)
	case KindMem:
		m := x86asm.Mem{Disp: in.Disp}
		if in.Prefix&PrefixSeg != 0 {
			m.Segment = x86asm.ES + x86asm.Reg(in.Seg)
		}
		switch {
		case in.Base == RegRIP && in.AddrSize == 4:
			m.Base = x86asm.EIP
		case in.Base == RegRIP:
			m.Base = x86asm.RIP
		case in.Base != RegNone:
			m.Base = generalRegs[in.AddrSize] + x86asm.Reg(in.Base)
		}
		if in.Index != RegNone {
			m.Index = generalRegs[in.AddrSize] + x86asm.Reg(in.Index)
			m.Scale = 1 << in.Scale
		}
		return m
	}
	return nil
}
