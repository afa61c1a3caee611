package isa

// Mode is the width in which code is decoded: the D and L bits of the code segment (Intel SDM vol. 3A, 3.4.5).
type Mode uint8

// The three decoding modes. Real mode and virtual-8086 mode decode as Mode16.
const (
	Mode16 Mode = 16
	Mode32 Mode = 32
	Mode64 Mode = 64
)

// Numbers of general registers in ModRM, SIB and REX order (SDM vol. 2A, table 3-1).
const (
	RAX uint8 = iota
	RCX
	RDX
	RBX
	RSP
	RBP
	RSI
	RDI
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
	// RegNone stands for an absent base or index; the CPU keeps a zero in that slot of its register file.
	RegNone
	// RegRIP as a base stands for the address of the block's first byte; Disp is adjusted by the CPU when a block is built.
	RegRIP
)

// Numbers of segment registers in ModRM order (SDM vol. 2A, table 3-1).
const (
	ES uint8 = iota
	CS
	SS
	DS
	FS
	GS
)

// Kind tells what an operand is.
type Kind uint8

// Operand kinds.
const (
	KindNone   Kind = iota
	KindReg         // general register Reg, low Size bytes
	KindHigh        // AH, CH, DH, BH: bits 8-15 of register Reg (0-3)
	KindMem         // memory operand described by Base, Index, Scale, Disp, Seg
	KindImm         // immediate: Inst.Imm, already sign- or zero-extended to 64 bits as the instruction wants
	KindImm2        // second immediate: Inst.Imm2 (ENTER's level, far pointer's selector)
	KindRel         // branch displacement: Inst.Imm, sign-extended, relative to the next instruction
	KindFar         // far pointer: offset in Inst.Imm, selector in Inst.Imm2
	KindSeg         // segment register Reg
	KindCR          // control register Reg
	KindDR          // debug register Reg
	KindXMM         // vector register Reg
	KindMMX         // MMX register Reg
	KindST          // x87 stack register ST(Reg)
	KindStrSrc      // string source: Seg:[rSI]
	KindStrDst      // string destination: ES:[rDI]
	KindOne         // the constant 1 (D0/D1 shifts)
	KindStack       // memory at the top of the stack (implicit operands only)
	KindFSW         // x87 status word (implicit operands only)
	KindFCW         // x87 control word (implicit operands only)
	KindMXCSR       // MXCSR (implicit operands only)
)

// Access says how an instruction uses an operand.
type Access uint8

// Access bits.
const (
	Read  Access = 1
	Write Access = 2
	// Maybe marks a write that depends on data: CMOVcc's register in 16/64-bit form, CMPXCHG, string destination under REP.
	Maybe Access = 4
)

// Operand is one explicit operand of a decoded instruction.
type Operand struct {
	Kind   Kind
	Reg    uint8
	Size   uint8 // bytes that the operand spans: 1, 2, 4, 6, 8, 10, 16, or more for state images (clipped at 255)
	Access Access
}

// Prefixes that remain meaningful after decoding.
type Prefix uint8

// Prefix bits. For SSE rows in which F2/F3/66 select the row, those bits are cleared.
const (
	PrefixLock     Prefix = 1 << iota
	PrefixRep             // F3
	PrefixRepne           // F2
	PrefixOpSize          // 66
	PrefixAddrSize        // 67
	PrefixSeg             // any segment override that has an effect
	PrefixREXW
	PrefixREX
)

// Inst is one decoded instruction. It is a plain value; decoding the same bytes in the same mode gives the same Inst.
type Inst struct {
	Row  *Row   // the table row that it matched; never nil
	Imm  uint64 // first immediate, displacement of a branch, or moffs is in Disp
	Disp int64  // displacement of the memory operand, sign-extended; also the moffs of A0-A3
	Args [4]Operand
	Op   Op
	Imm2 uint16 // second immediate
	Len  uint8  // bytes, 1 to 15
	// OpSize is the effective operand size in bytes (2, 4, 8); 1 for byte forms of rows whose first argument is a byte.
	OpSize   uint8
	AddrSize uint8 // effective address size in bytes: 2, 4, 8
	Base     uint8 // RAX..R15, RegNone or RegRIP
	Index    uint8 // RAX..R15 or RegNone
	Scale    uint8 // shift count: 0..3
	Seg      uint8 // segment of the memory operand, defaults and overrides resolved: ES..GS
	Prefix   Prefix
	Mode     Mode
	// Cond is the condition code of Jcc, SETcc, CMOVcc (low four bits of the opcode).
	Cond uint8
}

// HasMem reports whether the instruction has a ModRM or moffs memory operand.
func (in *Inst) HasMem() bool {
	for i := range in.Args {
		if in.Args[i].Kind == KindMem {
			return true
		}
	}
	return false
}
