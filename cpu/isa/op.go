package isa

//go:generate go run gen_ops.go
//go:generate go test -run ^TestTable$ . -generate

// Op is what an instruction does, whatever its encoding and operand form: one Op for each mnemonic of the manual.
// Where one mnemonic covers several operations the names differ: JMP, CALL (relative), JMP_IND, CALL_IND (through
// a register or memory), JMP_FAR, CALL_FAR, RET, RET_FAR; IMUL1, IMUL2, IMUL3 by number of operands; MOV_TO_SEG,
// MOV_FROM_CR and so on; PUSH_SEG, POP_SEG. Where several mnemonics cover one operation there is one name:
// MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS, CBW (CWDE, CDQE), CWD (CDQ, CQO), PUSHA, POPA, PUSHF, POPF, IRET with
// the width in Inst.OpSize; JCXZ with the width in Inst.AddrSize; JCC, SETCC, CMOVCC with Inst.Cond; MOVD, PEXTRD,
// PINSRD with the operand's size (MOVQ, PEXTRQ, PINSRQ with REX.W). MOVSD and CMPSD are the SSE2 instructions.
type Op uint16

// String returns the name of the constant.
func (op Op) String() string {
	if op > 0 && op < NumOps {
		return opNames[op]
	}
	return "Op?"
}
