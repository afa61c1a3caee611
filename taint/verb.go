package taint

// Verb names how taint flows through one instruction, from its source operands to its destination
// operands. An instruction's row in the table of package isa carries its verb; package taint gives the
// verb its meaning on masks (see Apply). The names follow PANDA's and DECAF's propagation rules.
type Verb uint8

// The propagation rules. "Sources" are all operands that the row marks as read, flags included.
const (
	// VerbNone moves no data: nops, jumps, fences, flag clears. Destinations, if any, become clean.
	VerbNone Verb = iota
	// VerbCopy copies byte i to byte i; a wider destination is filled with clean bytes (MOV, MOVZX).
	VerbCopy
	// VerbSignExtend is VerbCopy, but the bytes above the source take the taint of its top byte (MOVSX, CBW, CDQ).
	VerbSignExtend
	// VerbExchange swaps the taint of two operands (XCHG, FXCH).
	VerbExchange
	// VerbBitwise unites byte i of all sources (AND, OR, XOR, NOT, PAND). Where one source byte of AND is a
	// clean zero, or of OR a clean 0xff, the result byte is clean. A zeroing idiom (XOR r,r) is clean.
	VerbBitwise
	// VerbCarry unites bytes 0..i of all sources into byte i: a carry runs upwards (ADD, SUB, INC, NEG, LEA, ADC with CF).
	VerbCarry
	// VerbCompare writes flags only: any tainted source byte taints them (CMP, TEST, COMISS).
	VerbCompare
	// VerbShiftLeft moves bytes up by a clean count and taints all bytes for a tainted one (SHL, SHLD).
	VerbShiftLeft
	// VerbShiftRight moves bytes down by a clean count (SHR, SAR, SHRD).
	VerbShiftRight
	// VerbRotate turns bytes by a clean count (ROL, ROR; RCL and RCR with CF as a source).
	VerbRotate
	// VerbMix taints every byte of every destination if any source byte is tainted (MUL, DIV, BSF, CRC32, FP).
	VerbMix
	// VerbLane is VerbMix within each lane of Row.Lane bytes (PADDD, MULPS, PCMPEQB).
	VerbLane
	// VerbPermute moves whole bytes by positions that no data decides, or that clean data decides: the
	// instruction's own function, run on shadow bytes, gives the result (PUNPCKLBW, PSHUFD, PALIGNR, SHUFPS).
	VerbPermute
	// VerbSelect copies one of several sources by a condition: the union of the sources that the condition can
	// pick when it is tainted, else of the picked one (CMOVcc, PBLENDVB, CMPXCHG).
	VerbSelect
	// VerbSetCC writes a byte that depends on flags only (SETcc, LAHF).
	VerbSetCC
	// VerbAddress yields an address computed from registers (LEA): VerbCarry over base, index and displacement.
	VerbAddress
	// VerbSpecial is a rule of its own, written beside the instruction (PUSHA, FXSAVE, CPUID, XSAVE, ENTER).
	VerbSpecial
)
