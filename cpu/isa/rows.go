package isa

import "github.com/hybridbridge/emu/taint"

// The notation of the row tables, one row a line, six columns:
//
//	encoding | instruction | implicit operands | flags | attributes | taint
//
// Encoding is the manual's (SDM vol. 2A, 3.1.1.1): "81 /0", "0F AF /r", "66 0F 38 00 /r", "D9 E8", "D8 C0+i", "50 +r",
// "70 +cc". A leading 66, F2 or F3 selects the row; NP says that none of the three may be there, NFx that F2 and F3 may
// not; without any of these the prefixes keep their ordinary meaning. REX.W must be there where it is written. Of two
// rows with one encoding the first wins whose mode, feature and operand form (memory or register) fit.
//
// Operands are written in the codes of SDM vol. 2D, A.2, with the access after a colon: r, w, rw; "?" for a write that
// depends on data; "-" for an operand that is named but not accessed (LEA, INVLPG). Without it the first operand is rw
// and the others are r. Codes not in the manual: Zx is a general register in the low three bits of the opcode; Ibs is a
// sign-extended byte; "Rv/Mw" has one size as a register and another as memory; BA, BB, BD are memory at DS:rAX, rBX
// (plus AL, see XLAT) and rDI; Ms, Menv, Msav, Mfx, Mxs are a descriptor-table register's image, the x87 environment,
// the x87 state, the FXSAVE area and the XSAVE area. A write to a vector register that is narrower than the register
// keeps the rest, except that a copy from a narrower source clears what the operand's size covers above it.
//
// Implicit operands: a lower-case first letter is a size: r the operand size, h half of it, y 8 with REX.W and else
// 4, a the address size; rSP has the stack's size. "stack" is memory at rSP, X0 is XMM0.
//
// Flags: "read > written ? undefined", by letter: o d i t s z a p c, n for NT, l for IOPL, k for AC, b for ID, r for RF, v for VM
// and * for all. A flag set to a constant counts as written, a flag both written and undefined depends on the count: see u:.
//
// Attributes: a feature in upper case, and the words of attrWords (parse_test.go).
//
// Taint: the verb, in the words of verbWords; laneN is taint.VerbLane with lanes of N bytes.

// Flags is a set of RFLAGS bits, at their places in the register (SDM vol. 1, 3.4.3).
type Flags uint32

// The bits of RFLAGS.
const (
	FlagCF   Flags = 1 << 0
	FlagPF   Flags = 1 << 2
	FlagAF   Flags = 1 << 4
	FlagZF   Flags = 1 << 6
	FlagSF   Flags = 1 << 7
	FlagTF   Flags = 1 << 8
	FlagIF   Flags = 1 << 9
	FlagDF   Flags = 1 << 10
	FlagOF   Flags = 1 << 11
	FlagIOPL Flags = 3 << 12
	FlagNT   Flags = 1 << 14
	FlagRF   Flags = 1 << 16
	FlagVM   Flags = 1 << 17
	FlagAC   Flags = 1 << 18
	FlagID   Flags = 1 << 21
	// FlagsStatus are the six arithmetic flags.
	FlagsStatus = FlagCF | FlagPF | FlagAF | FlagZF | FlagSF | FlagOF
	// FlagsAll are all flags that a row can name.
	FlagsAll = FlagsStatus | FlagTF | FlagIF | FlagDF | FlagIOPL | FlagNT | FlagRF | FlagVM | FlagAC | FlagID
)

// UndefRule says when the flags in Row.Undef, or a result, are undefined. The rules are those of the instruction's
// page in SDM vol. 2; counts are meant after masking to 5 or 6 bits.
type UndefRule uint8

// The rules of undefined results.
const (
	// UndefAlways: the flags in Row.Undef are undefined after every execution.
	UndefAlways UndefRule = iota
	// UndefShift: with count 0 no flag changes; else AF is undefined; OF is with counts over 1; CF, if it is in
	// Row.Undef, is with counts of the operand's width or more.
	UndefShift
	// UndefRotate: with count 0 no flag changes; OF is undefined with counts over 1.
	UndefRotate
	// UndefDoubleShift: with count 0 no flag changes; else AF is undefined; OF is with counts over 1; every flag and
	// the destination are with counts over the operand's width.
	UndefDoubleShift
	// UndefBitScan: the flags in Row.Undef always, the destination with a zero source (in fact it keeps its value).
	UndefBitScan
	// UndefBSwap16: the destination, with a 16-bit operand (in fact it becomes zero).
	UndefBSwap16
)

// Attr is a set of facts about a row.
type Attr uint32

// The attributes.
const (
	EndsBlock    Attr = 1 << iota // the next instruction may be elsewhere, or be decoded or fetched under new rules
	Lockable                      // LOCK may precede it, if the destination is memory
	No64                          // invalid in 64-bit mode
	Only64                        // invalid outside 64-bit mode
	Default64                     // in 64-bit mode the operand size is 8, or 2 with prefix 66
	Force64                       // in 64-bit mode the operand size is 8, whatever the prefixes (Intel; AMD honours 66 for near branches)
	Max32                         // REX.W does not widen the operand beyond 4 bytes
	Privileged                    // needs CPL 0
	System                        // depends on more than user-level registers and memory: not for generated user-level tests
	Protected                     // #UD (SYSENTER, SYSEXIT: #GP) in real-address and virtual-8086 mode
	Rep                           // F2 or F3 repeats it rCX times
	Repe                          // F3 repeats it while equal, F2 while not equal
	MemOnly                       // the ModRM operand must be memory
	RegOnly                       // the ModRM operand must be a register
	AnyMod                        // the ModRM operand is a register, whatever mod says
	NeedREXW                      // REX.W selects the row
	NoREXB                        // REX.B selects another row
	Unaligned                     // a 16-byte memory operand need not be aligned
	SIMDFP                        // reads MXCSR's controls, sets its flags, may raise #XM
	Undocumented                  // not in the manual's tables, but in the silicon
	byteOp                        // Inst.OpSize is 1
)

// Row is one line of the table: one instruction in one operand form. Rows are shared and must not be changed.
type Row struct {
	Op   Op
	Enc  string // encoding, in the manual's notation
	Args string // explicit operands, in the manual's codes, with access
	// Implicit are the operands that the encoding does not name. Inst.Implicit gives them with sizes.
	Implicit  []ImplicitArg
	Reads     Flags // flags that are inputs; by condition, Inst.FlagsRead is exact
	Writes    Flags // flags that it sets, clears or computes
	Undef     Flags // flags that it can leave undefined, see UndefWhen
	UndefWhen UndefRule
	Feature   Feature
	Attr      Attr
	Taint     taint.Verb
	Lane      uint8 // bytes in a lane of taint.VerbLane
	FPUStack  int8  // what it adds to the x87 stack: +1 push, -1 pop, -2; the operands' ST numbers of a push are those after it, of a pop those before it

	nargs    uint8
	args     [4]argSpec
	need     FeatureSet
	encoding Encoding
}

// NumArgs returns the number of explicit operands.
func (r *Row) NumArgs() int { return int(r.nargs) }

// ImplicitArg is an operand that the encoding does not name. Size is a code that Inst.Implicit resolves.
type ImplicitArg struct {
	Kind   Kind
	Reg    uint8
	Access Access
	size   sizeCode
}

// Encoding is a row's encoding in numbers.
type Encoding struct {
	Prefix byte // mandatory prefix: 0, 0x66, 0xF2, 0xF3
	Map    byte // 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A
	Opcode byte // the first opcode, if there are several
	Count  byte // number of consecutive opcodes: 1, 8 (+r) or 16 (+cc)
	NP     bool // no 66, F2, F3 allowed
	NFx    bool // no F2, F3 allowed
	ModRM  bool
	Reg    int8 // fixed reg field of ModRM, or -1
	RM     int8 // fixed rm field of ModRM (with mod 3), or -1
}

// Opcode returns the row's encoding.
func (r *Row) Opcode() Encoding { return r.encoding }

// Rows yields every row, in the order of the tables.
func Rows(yield func(*Row) bool) {
	for i := range table {
		if !yield(&table[i]) {
			return
		}
	}
}

// ArgPlace tells where an operand is encoded.
type ArgPlace uint8

// Places of operands.
const (
	PlaceFixed  ArgPlace = iota // implied by the opcode: AL, DX, ST0, ES
	PlaceReg                    // ModRM.reg
	PlaceRM                     // ModRM.rm, with mod and SIB
	PlaceOpcode                 // low three bits of the opcode
	PlaceImm                    // immediate, displacement of a branch, far pointer, moffs
	PlaceString                 // rSI or rDI
)

// Arg returns the place, kind and access of explicit operand i. The kind of a ModRM operand that may be memory
// or register is that of the register.
func (r *Row) Arg(i int) (ArgPlace, Kind, Access) {
	a := &r.args[i]
	return a.place, a.kind, a.access
}
