package isa

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
