package isa

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hybridbridge/emu/taint"
)

// sizeCode is the size of an operand as the manual's codes give it: a function of the operand size.
type sizeCode uint8

const (
	sizeNone sizeCode = iota
	sizeB
	sizeW
	sizeD
	sizeQ
	sizeT
	sizeDQ
	sizeV
	sizeZ
	sizeY
	sizeH // half the operand size
	sizeP // far pointer
	sizeA // pair of bounds
	sizeS // descriptor-table register
	sizeEnv
	sizeSav
	sizeArea // FXSAVE and XSAVE areas, clipped
	sizeAddr // address size: implicit operands only
	sizeStack
	numSizes
)

// sizes gives the bytes for operand sizes 2, 4 and 8, at index size>>2.
var sizes = [numSizes][4]uint8{
	sizeB: {1, 1, 1}, sizeW: {2, 2, 2}, sizeD: {4, 4, 4}, sizeQ: {8, 8, 8}, sizeT: {10, 10, 10}, sizeDQ: {16, 16, 16},
	sizeV: {2, 4, 8}, sizeZ: {2, 4, 4}, sizeY: {4, 4, 8}, sizeH: {1, 2, 4}, sizeP: {4, 6, 10}, sizeA: {4, 8, 16},
	sizeS: {6, 6, 10}, sizeEnv: {14, 28, 28}, sizeSav: {94, 108, 108}, sizeArea: {255, 255, 255},
}

var sizeWords = map[string]sizeCode{
	"": sizeNone, "b": sizeB, "w": sizeW, "d": sizeD, "ss": sizeD, "q": sizeQ, "sd": sizeQ, "t": sizeT, "dq": sizeDQ,
	"ps": sizeDQ, "pd": sizeDQ, "v": sizeV, "z": sizeZ, "y": sizeY, "p": sizeP, "a": sizeA, "s": sizeS, "env": sizeEnv,
	"sav": sizeSav, "fx": sizeArea, "xs": sizeArea, "bs": sizeB,
}

// form is how the decoder builds an operand.
type form uint8

const (
	formFixed  form = iota // kind and reg as they stand
	formReg                // ModRM.reg is a register of the kind
	formRM                 // ModRM.rm is a register of the kind, or memory
	formOpcode             // low bits of the opcode are a general register
	formImm                // zero-extended
	formImmS               // sign-extended
	formRel
	formFar
	formMoffs
	formMem // memory at [reg]
	formST  // ModRM.rm is an x87 register
	formSeg // ModRM.reg is a segment register
	formCR
	formDR
)

// argSpec is one operand of a row, ready for the decoder.
type argSpec struct {
	form   form
	kind   Kind
	reg    uint8
	size   sizeCode // of the register, or of both
	mem    sizeCode // of memory
	access Access
	place  ArgPlace
}

var attrWords = map[string]Attr{
	"ends": EndsBlock, "lock": Lockable, "no64": No64, "only64": Only64, "d64": Default64, "f64": Force64, "z32": Max32,
	"priv": Privileged | System, "sys": System, "pm": Protected, "rep": Rep, "repe": Repe, "reg": RegOnly, "anymod": AnyMod,
	"norexb": NoREXB, "ua": Unaligned, "fp": SIMDFP, "undoc": Undocumented,
}

var undefWords = map[string]UndefRule{
	"u:shift": UndefShift, "u:rot": UndefRotate, "u:shiftd": UndefDoubleShift, "u:bitscan": UndefBitScan, "u:bswap16": UndefBSwap16,
}

var stackWords = map[string]int8{"push": +1, "pop": -1, "pop2": -2}

var verbWords = map[string]taint.Verb{
	"none": taint.VerbNone, "copy": taint.VerbCopy, "signext": taint.VerbSignExtend, "exchange": taint.VerbExchange,
	"bitwise": taint.VerbBitwise, "carry": taint.VerbCarry, "compare": taint.VerbCompare, "shl": taint.VerbShiftLeft,
	"shr": taint.VerbShiftRight, "rotate": taint.VerbRotate, "mix": taint.VerbMix, "permute": taint.VerbPermute,
	"select": taint.VerbSelect, "setcc": taint.VerbSetCC, "address": taint.VerbAddress, "special": taint.VerbSpecial,
	"lane1": taint.VerbLane, "lane2": taint.VerbLane, "lane4": taint.VerbLane, "lane8": taint.VerbLane,
}

var flagLetters = map[rune]Flags{
	'c': FlagCF, 'p': FlagPF, 'a': FlagAF, 'z': FlagZF, 's': FlagSF, 't': FlagTF, 'i': FlagIF, 'd': FlagDF, 'o': FlagOF,
	'l': FlagIOPL, 'n': FlagNT, 'r': FlagRF, 'v': FlagVM, 'k': FlagAC, 'b': FlagID, '*': FlagsAll,
}

var accessWords = map[string]Access{
	"r": Read, "w": Write, "rw": Read | Write, "w?": Write | Maybe, "rw?": Read | Write | Maybe, "-": 0,
}

// regNames are the general registers of implicit operands, without their size letter.
var regNames = map[string]uint8{"AX": RAX, "CX": RCX, "DX": RDX, "BX": RBX, "SP": RSP, "BP": RBP, "SI": RSI, "DI": RDI, "11": R11}

// implicitSizes are the size letters of implicit general registers.
var implicitSizes = map[byte]sizeCode{'r': sizeV, 'h': sizeH, 'y': sizeY, 'a': sizeAddr, 'E': sizeD, 'R': sizeQ}

var segNames = map[string]uint8{"ES": ES, "CS": CS, "SS": SS, "DS": DS, "FS": FS, "GS": GS}

// table holds every row. A mistake in the text is a mistake in the program: parsing it panics.
var table = parseTable(rowsInteger, rowsSystem, rowsX87, rowsPacked, rowsFloat, rowsSSE4)

func parseTable(texts ...string) []Row {
	ops := make(map[string]Op, NumOps)
	for op := Op(1); op < NumOps; op++ {
		ops[opNames[op]] = op
	}
	features := make(map[string]Feature, numFeatures)
	for f := FeatNone + 1; f < numFeatures; f++ {
		features[featureNames[f]] = f
	}
	rows := make([]Row, 0, 1024)
	for _, text := range texts {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			row, err := parseRow(line, ops, features)
			if err != nil {
				panic(fmt.Sprintf("isa: row %q: %v", line, err))
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func parseRow(line string, ops map[string]Op, features map[string]Feature) (Row, error) {
	cols := strings.Split(line, "|")
	if len(cols) != 6 {
		return Row{}, fmt.Errorf("%d columns", len(cols))
	}
	for i := range cols {
		cols[i] = strings.TrimSpace(cols[i])
	}
	name, args, _ := strings.Cut(cols[1], " ")
	r := Row{Op: ops[name], Enc: cols[0], Args: args}
	if r.Op == 0 {
		return r, fmt.Errorf("no Op %s: run go generate", name)
	}
	if err := r.parseEncoding(); err != nil {
		return r, err
	}
	if err := r.parseArgs(); err != nil {
		return r, err
	}
	for _, text := range splitList(cols[2]) {
		a, err := parseImplicit(text)
		if err != nil {
			return r, err
		}
		r.Implicit = append(r.Implicit, a)
	}
	if err := r.parseFlags(cols[3]); err != nil {
		return r, err
	}
	for _, word := range strings.Fields(cols[4]) {
		if f, ok := features[word]; ok {
			r.Feature = f
			r.need = 1 << f
		} else if a, ok := attrWords[word]; ok {
			r.Attr |= a
		} else if u, ok := undefWords[word]; ok {
			r.UndefWhen = u
		} else if n, ok := stackWords[word]; ok {
			r.FPUStack = n
		} else {
			return r, fmt.Errorf("attribute %q", word)
		}
	}
	verb, ok := verbWords[cols[5]]
	if !ok {
		return r, fmt.Errorf("taint verb %q", cols[5])
	}
	r.Taint = verb
	if verb == taint.VerbLane {
		r.Lane = cols[5][4] - '0'
	}
	return r, nil
}

// splitList splits at commas; an empty text is an empty list.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func (r *Row) parseEncoding() error {
	e := Encoding{Count: 1, Reg: -1, RM: -1}
	var code []byte
	for _, word := range strings.Fields(r.Enc) {
		switch {
		case word == "NP":
			e.NP = true
		case word == "NFx":
			e.NFx = true
		case word == "REX.W":
			r.Attr |= NeedREXW
		case len(code) == 0 && (word == "66" || word == "F2" || word == "F3"):
			n, _ := strconv.ParseUint(word, 16, 8)
			e.Prefix = byte(n)
		case word == "/r":
			e.ModRM = true
		case word[0] == '/':
			e.ModRM = true
			e.Reg = int8(word[1] - '0')
		case word == "+r":
			e.Count = 8
		case word == "+cc":
			e.Count = 16
		default:
			text, plusI := strings.CutSuffix(word, "+i")
			n, err := strconv.ParseUint(text, 16, 8)
			if err != nil {
				return err
			}
			if plusI || isModRM(code) {
				e.ModRM = true
				e.Reg = int8(n >> 3 & 7)
				if !plusI {
					e.RM = int8(n & 7)
				}
				r.Attr |= RegOnly
			} else {
				code = append(code, byte(n))
			}
		}
	}
	switch {
	case len(code) == 1:
		e.Opcode = code[0]
	case len(code) == 2 && code[0] == 0x0f:
		e.Map, e.Opcode = 1, code[1]
	case len(code) == 3 && code[0] == 0x0f && code[1] == 0x38:
		e.Map, e.Opcode = 2, code[2]
	case len(code) == 3 && code[0] == 0x0f && code[1] == 0x3a:
		e.Map, e.Opcode = 3, code[2]
	default:
		return fmt.Errorf("opcode % x", code)
	}
	r.encoding = e
	return nil
}

// isModRM reports whether a byte after these opcode bytes is a whole ModRM byte ("D9 E8", "0F 01 C1").
func isModRM(code []byte) bool {
	switch len(code) {
	case 1:
		return code[0] != 0x0f
	case 2:
		return code[1] != 0x38 && code[1] != 0x3a
	case 3:
		return true
	}
	return false
}

func (r *Row) parseArgs() error {
	for i, text := range splitList(r.Args) {
		code, acc, explicit := strings.Cut(text, ":")
		if !explicit {
			acc = "r"
			if i == 0 {
				acc = "rw"
			}
		}
		access, ok := accessWords[acc]
		if !ok {
			return fmt.Errorf("access %q", acc)
		}
		a, err := r.parseArg(code)
		if err != nil {
			return err
		}
		if a.kind == KindImm || a.kind == KindOne || a.kind == KindRel || a.kind == KindFar {
			access &= Read
		}
		if a.kind == KindImm && i > 0 && r.args[i-1].kind == KindImm {
			a.kind = KindImm2
		}
		a.access = access
		r.args[i] = a
		r.nargs++
	}
	// A byte form is one whose first operand, ports and immediates apart, is a byte.
	for i := range r.args[:r.nargs] {
		a := &r.args[i]
		if a.kind == KindImm || a.kind == KindReg && a.reg == RDX && a.form == formFixed {
			continue
		}
		if a.size == sizeB && (a.kind == KindReg || a.kind == KindStrSrc || a.kind == KindStrDst || a.form == formMoffs) {
			r.Attr |= byteOp
		}
		break
	}
	return nil
}

var fixedArgs = map[string]argSpec{
	"AL":  {kind: KindReg, reg: RAX, size: sizeB},
	"CL":  {kind: KindReg, reg: RCX, size: sizeB},
	"AX":  {kind: KindReg, reg: RAX, size: sizeW},
	"DX":  {kind: KindReg, reg: RDX, size: sizeW},
	"eAX": {kind: KindReg, reg: RAX, size: sizeZ},
	"rAX": {kind: KindReg, reg: RAX, size: sizeV},
	"1":   {kind: KindOne, size: sizeB},
	"ST0": {kind: KindST, size: sizeT},
	"STi": {form: formST, kind: KindST, size: sizeT, place: PlaceRM},
	"ES":  {kind: KindSeg, reg: ES, size: sizeW},
	"CS":  {kind: KindSeg, reg: CS, size: sizeW},
	"SS":  {kind: KindSeg, reg: SS, size: sizeW},
	"DS":  {kind: KindSeg, reg: DS, size: sizeW},
	"FS":  {kind: KindSeg, reg: FS, size: sizeW},
	"GS":  {kind: KindSeg, reg: GS, size: sizeW},
	"BAb": {form: formMem, kind: KindMem, reg: RAX, mem: sizeB},
	"BBb": {form: formMem, kind: KindMem, reg: RBX, mem: sizeB},
	"BDq": {form: formMem, kind: KindMem, reg: RDI, mem: sizeQ},

	"BDdq": {form: formMem, kind: KindMem, reg: RDI, mem: sizeDQ},
}

// letterArgs are the manual's codes of one letter (SDM vol. 2D, A.2.1).
var letterArgs = map[byte]argSpec{
	'E': {form: formRM, kind: KindReg, place: PlaceRM},
	'M': {form: formRM, kind: KindMem, place: PlaceRM},
	'R': {form: formRM, kind: KindReg, place: PlaceRM},
	'G': {form: formReg, kind: KindReg, place: PlaceReg},
	'Z': {form: formOpcode, kind: KindReg, place: PlaceOpcode},
	'V': {form: formReg, kind: KindXMM, place: PlaceReg},
	'W': {form: formRM, kind: KindXMM, place: PlaceRM},
	'U': {form: formRM, kind: KindXMM, place: PlaceRM},
	'P': {form: formReg, kind: KindMMX, place: PlaceReg},
	'Q': {form: formRM, kind: KindMMX, place: PlaceRM},
	'N': {form: formRM, kind: KindMMX, place: PlaceRM},
	'S': {form: formSeg, kind: KindSeg, place: PlaceReg},
	'C': {form: formCR, kind: KindCR, place: PlaceReg},
	'D': {form: formDR, kind: KindDR, place: PlaceReg},
	'X': {kind: KindStrSrc, place: PlaceString},
	'Y': {kind: KindStrDst, place: PlaceString},
	'O': {form: formMoffs, kind: KindMem, place: PlaceImm},
	'I': {form: formImm, kind: KindImm, place: PlaceImm},
	'J': {form: formRel, kind: KindRel, place: PlaceImm},
	'A': {form: formFar, kind: KindFar, place: PlaceImm},
}

func (r *Row) parseArg(code string) (argSpec, error) {
	if a, ok := fixedArgs[code]; ok {
		a.size = max(a.size, a.mem)
		return a, nil
	}
	a, ok := letterArgs[code[0]]
	if !ok {
		return a, fmt.Errorf("operand %q", code)
	}
	reg, mem, two := strings.Cut(code[1:], "/M")
	size, ok := sizeWords[reg]
	if !ok {
		return a, fmt.Errorf("operand size %q", code)
	}
	a.size, a.mem = size, size
	switch {
	case two:
		if a.mem, ok = sizeWords[mem]; !ok {
			return a, fmt.Errorf("operand size %q", code)
		}
	case code[0] == 'M':
		r.Attr |= MemOnly
	case code[0] == 'R' || code[0] == 'U' || code[0] == 'N':
		r.Attr |= RegOnly
	case code == "Ibs" || code == "Iz":
		a.form = formImmS
	case code[0] == 'S':
		a.size = sizeW
	case code[0] == 'C' || code[0] == 'D':
		a.size = sizeY
	}
	return a, nil
}

func parseImplicit(text string) (ImplicitArg, error) {
	name, acc, _ := strings.Cut(text, ":")
	access, ok := accessWords[acc]
	if !ok {
		return ImplicitArg{}, fmt.Errorf("implicit access %q", text)
	}
	a := ImplicitArg{Access: access}
	switch name {
	case "stack":
		a.Kind, a.size = KindStack, sizeV
		return a, nil
	case "FSW":
		a.Kind, a.size = KindFSW, sizeW
		return a, nil
	case "FCW":
		a.Kind, a.size = KindFCW, sizeW
		return a, nil
	case "MXCSR":
		a.Kind, a.size = KindMXCSR, sizeD
		return a, nil
	case "ST0", "ST1":
		a.Kind, a.Reg, a.size = KindST, name[2]-'0', sizeT
		return a, nil
	case "X0":
		a.Kind, a.size = KindXMM, sizeDQ
		return a, nil
	case "AL":
		a.Kind, a.size = KindReg, sizeB
		return a, nil
	case "AH":
		a.Kind, a.size = KindHigh, sizeB
		return a, nil
	case "AX":
		a.Kind, a.size = KindReg, sizeW
		return a, nil
	case "rSP":
		a.Kind, a.Reg, a.size = KindReg, RSP, sizeStack
		return a, nil
	}
	if s, ok := segNames[name]; ok {
		a.Kind, a.Reg, a.size = KindSeg, s, sizeW
		return a, nil
	}
	reg, ok := regNames[name[1:]]
	size, ok2 := implicitSizes[name[0]]
	if !ok || !ok2 {
		return a, fmt.Errorf("implicit operand %q", text)
	}
	a.Kind, a.Reg, a.size = KindReg, reg, size
	return a, nil
}

func (r *Row) parseFlags(text string) error {
	at := &r.Reads
	for _, c := range text {
		switch c {
		case '>':
			at = &r.Writes
		case '?':
			at = &r.Undef
		default:
			f, ok := flagLetters[c]
			if !ok {
				return fmt.Errorf("flag %q", c)
			}
			*at |= f
		}
	}
	return nil
}
