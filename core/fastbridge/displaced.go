package fastbridge

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/hybridbridge/emu/cpu/isa"
)

// encoding is an instruction of 64-bit mode with a ModRM memory operand, in its parts (SDM vol. 2A, 2.1).
type encoding struct {
	prefixes []byte // legacy ones but segment overrides
	segment  []byte
	rex      byte // 0 if there is none
	opcode   []byte
	modrm    byte
	address  []byte // SIB and displacement
	rest     []byte // immediate
}

// split takes code apart, of which in is known to be the decoded form.
func split(in *isa.Inst, code []byte) (e encoding, ok bool) {
	i := 0
	for ; i < len(code) && slices.Contains([]byte{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0xf0, 0xf2, 0xf3}, code[i]); i++ {
		if code[i]&0xe7 == 0x26 || code[i]&^1 == 0x64 {
			e.segment = append(e.segment, code[i])
		} else {
			e.prefixes = append(e.prefixes, code[i])
		}
	}
	if i < len(code) && code[i]&0xf0 == 0x40 {
		e.rex = code[i]
		i++
	}
	from := i
	if i < len(code) && code[i] == 0x0f {
		if i++; i < len(code) && (code[i] == 0x38 || code[i] == 0x3a) {
			i++
		}
	}
	i++
	if !in.HasMem() || i >= len(code) {
		return e, false
	}
	e.opcode, e.modrm = code[from:i], code[i]
	i++
	n := 0
	mod, rm := e.modrm>>6, e.modrm&7
	switch {
	case mod == 3 || in.AddrSize != 8:
		return e, false
	case rm == 4:
		if i >= len(code) {
			return e, false
		}
		if n = 1; mod == 0 && code[i]&7 == 5 {
			n = 5
		}
	case mod == 0 && rm == 5:
		n = 4
	}
	n += [...]int{0, 1, 4}[mod]
	if i+n > len(code) {
		return e, false
	}
	e.address, e.rest = code[i:i+n], code[i+n:]
	return e, true
}

// displaceable are the operations that do the same at another address, of themselves and of their operand.
var displaceable = map[isa.Op]bool{
	isa.MOV: true, isa.MOVZX: true, isa.MOVSX: true, isa.MOVSXD: true, isa.MOVBE: true, isa.MOVNTI: true, isa.CMOVCC: true, isa.SETCC: true,
	isa.ADD: true, isa.ADC: true, isa.SUB: true, isa.SBB: true, isa.AND: true, isa.OR: true, isa.XOR: true, isa.CMP: true, isa.TEST: true,
	isa.INC: true, isa.DEC: true, isa.NOT: true, isa.NEG: true, isa.MUL: true, isa.IMUL1: true, isa.IMUL2: true, isa.IMUL3: true,
	isa.DIV: true, isa.IDIV: true, isa.ROL: true, isa.ROR: true, isa.SHL: true, isa.SHR: true, isa.SAR: true, isa.BT: true, isa.BTS: true,
	isa.BTR: true, isa.BTC: true, isa.TZCNT: true, isa.LZCNT: true, isa.BSF: true, isa.BSR: true, isa.POPCNT: true, isa.XCHG: true,
	isa.XADD: true, isa.CMPXCHG: true, isa.CMPXCHG16B: true, isa.CMPXCHG8B: true,
}

// keepsFlags are those of them that neither read nor write flags.
var keepsFlags = map[isa.Op]bool{
	isa.MOV: true, isa.MOVZX: true, isa.MOVSX: true, isa.MOVSXD: true, isa.MOVBE: true, isa.MOVNTI: true, isa.NOT: true, isa.XCHG: true,
}

// scratch returns a register that an instruction does not use and that addresses memory without SIB and displacement. ok is false for
// an instruction that cannot be displaced: one that uses the stack pointer, which is another there, or AH to BH, which exclude REX.
func scratch(in *isa.Inst) (reg uint8, ok bool) {
	used := []uint8{in.Base, in.Index}
	for _, a := range in.Args {
		switch a.Kind {
		case isa.KindReg:
			used = append(used, a.Reg)
		case isa.KindNone, isa.KindMem, isa.KindImm, isa.KindOne:
		default:
			return 0, false
		}
	}
	if !displaceable[in.Op] || slices.Contains(used, isa.RSP) {
		return 0, false
	}
	for _, r := range []uint8{isa.R11, isa.R10, isa.R9, isa.R8, isa.R15, isa.R14} {
		if !slices.Contains(used, r) {
			return r, true
		}
	}
	return 0, false
}

// displace is the same instruction with a register for the address of its operand.
func (e *encoding) displace(reg uint8) []byte {
	const rexB, rexX = 1, 2
	code := slices.Clone(e.prefixes)
	code = append(code, (e.rex|0x40)&^(rexB|rexX)|reg>>3)
	code = append(code, e.opcode...)
	code = append(code, e.modrm&0x38|reg&7)
	return append(code, e.rest...)
}

// absolute is the same instruction with an address for its operand, sign-extended, in place of one relative to RIP.
func (e *encoding) absolute(to uint32) []byte {
	const sib, none = 4, 0x25
	code := slices.Concat(e.segment, e.prefixes)
	if e.rex != 0 {
		code = append(code, e.rex)
	}
	code = append(code, e.opcode...)
	code = append(code, e.modrm&0x38|sib, none)
	return append(binary.LittleEndian.AppendUint32(code, to), e.rest...)
}

// lea loads the offset of the operand into a register. The operand is not relative to RIP.
func (e *encoding) lea(reg uint8) []byte {
	const rexW, rexBX = 8, 3
	code := []byte{0x40 | rexW | reg>>3<<2 | e.rex&rexBX, 0x8d, e.modrm&^0x38 | reg&7<<3}
	return append(code, e.address...)
}

// assembler makes the little code that a displaced instruction needs around it.
type assembler struct {
	code []byte
	at   uint64 // linear address of its first byte
}

func (a *assembler) bytes(b ...byte) { a.code = append(a.code, b...) }

// push and pop are for R8 to R15.
func (a *assembler) push(reg uint8) { a.bytes(0x41, 0x50|reg&7) }
func (a *assembler) pop(reg uint8)  { a.bytes(0x41, 0x58|reg&7) }

// load loads a constant into one of R8 to R15.
func (a *assembler) load(reg uint8, v uint64) {
	a.bytes(0x49, 0xb8|reg&7)
	a.code = binary.LittleEndian.AppendUint64(a.code, v)
}

// relative appends the displacement of a branch to a linear address, whose opcode precedes it.
func (a *assembler) relative(to uint64) {
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(to-(a.at+uint64(len(a.code))+4)))
}

func (a *assembler) call(to uint64)          { a.bytes(0xe8); a.relative(to) }
func (a *assembler) jump(to uint64)          { a.bytes(0xe9); a.relative(to) }
func (a *assembler) jumpIf(cc byte) (at int) { a.bytes(0x0f, 0x80|cc, 0, 0, 0, 0); return len(a.code) }

// jumpAlways is jumpIf without a condition.
func (a *assembler) jumpAlways() (at int) { a.bytes(0xe9, 0, 0, 0, 0); return len(a.code) }

// land is where a jumpIf goes.
func (a *assembler) land(at int) {
	binary.LittleEndian.PutUint32(a.code[at-4:], uint32(len(a.code)-at))
}

// Conditions.
const (
	ifCarry    = 2
	ifNotCarry = 3
	ifZero     = 4
	ifNotZero  = 5
	ifNotSign  = 9
)

// finish executes an instruction on the interrupted flags and goes back behind it. On the stack there is the saved value of the scratch
// register, if it has one, and what int3 has pushed.
func (a *assembler) finish(in *isa.Inst, code []byte, reg uint8, saved bool) {
	const flags = 16 // of what int3 has pushed
	top := byte(0)
	if saved {
		top = 8
	}
	if keepsFlags[in.Op] {
		a.bytes(code...)
	} else {
		a.bytes(0xff, 0x74, 0x24, flags+top)                    // push qword [rsp+flags]
		a.bytes(0x48, 0x81, 0x24, 0x24, 0xff, 0xfc, 0xff, 0xff) // and qword [rsp], ~(TF | IF)
		a.bytes(0x9d)                                           // popfq
		a.bytes(code...)
		if !saved {
			a.push(reg)
			top = 8
		}
		a.bytes(0x9c) // pushfq
		a.pop(reg)
		a.bytes(0x49, 0x81, 0xe0|reg&7, 0xd5, 0x08, 0, 0)                  // and reg, CF | PF | AF | ZF | SF | OF
		a.bytes(0x48, 0x81, 0x64, 0x24, flags+top, 0x2a, 0xf7, 0xff, 0xff) // and qword [rsp+flags], ~(CF | PF | AF | ZF | SF | OF)
		a.bytes(0x4c, 0x09, 0x44|reg&7<<3, 0x24, flags+top)                // or qword [rsp+flags], reg
	}
	if top != 0 {
		a.pop(reg)
	}
	a.bytes(0x48, 0x83, 0x04, 0x24, in.Len-1) // add qword [rsp], length: RIP is behind int3
	a.bytes(0x48, 0xcf)                       // iretq
}

// moveString executes MOVS or STOS, of which any operand that does not tell is the snapshot's, with R10 and R11, whose values it changes. locate calls the
// monitor's routine for the address on the stack, and pops into a register; where it jumps if only the host can say is returned.
func (a *assembler) moveString(in *isa.Inst, code []byte, locate func(reg uint8) int) (asks [2]int) {
	operand := func(pushes, subtracts byte, reg uint8) {
		a.bytes(pushes) // push rsi or rdi
		asks[reg-isa.R10] = locate(reg)
		a.bytes(0x49, 0x29, subtracts|reg&7) // sub reg, rsi or rdi
	}
	const source, destination = 0x56, 0x57
	if in.Op == isa.MOVS {
		operand(source, 0xf0, isa.R11)
	}
	operand(destination, 0xf8, isa.R10)
	if in.Op == isa.MOVS {
		a.bytes(0x4c, 0x01, 0xde) // add rsi, r11
	}
	a.bytes(0x4c, 0x01, 0xd7) // add rdi, r10
	a.bytes(code...)
	if in.Op == isa.MOVS {
		a.bytes(0x4c, 0x29, 0xde) // sub rsi, r11
	}
	a.bytes(0x4c, 0x29, 0xd7) // sub rdi, r10
	return asks
}

// movesString reports whether moveString is for an instruction.
func movesString(in *isa.Inst) bool {
	return (in.Op == isa.MOVS || in.Op == isa.STOS) && in.AddrSize == 8 && in.Prefix&isa.PrefixSeg == 0
}

// assembleString is assemble for MOVS and STOS.
func (d *displaced) assembleString(a *assembler, to entries) ([]byte, error) {
	if d.contexts != 0 || !movesString(d.in) {
		return nil, errNotDisplaceable
	}
	a.push(isa.R11)
	a.push(isa.R10)
	asks := a.moveString(d.in, d.code, func(reg uint8) int {
		a.bytes(0x6a, 0) // push 0
		a.call(to.locate)
		a.pop(reg)
		a.pop(reg)
		return a.jumpIf(ifCarry)
	})
	a.pop(isa.R10)
	a.pop(isa.R11)
	a.bytes(0x48, 0x83, 0x04, 0x24, d.in.Len-1, 0x48, 0xcf) // add qword [rsp], length; iretq
	for _, at := range asks {
		if at != 0 {
			a.land(at)
		}
	}
	a.pop(isa.R10)
	a.pop(isa.R11)
	a.jump(to.ask)
	return a.code, nil
}

// entries are the monitor's routines that displaced instructions call, where it has the addresses of those for code that is far away, and where it begins: see
// monitor.asm.
type entries struct{ locate, locateCPU, locateOnStack, ask, resume, locateAt, leaveAt, data uint64 }

// displaced is an instruction that is executed out of its place, by code that int3 leads to.
type displaced struct {
	in   *isa.Inst
	code []byte
	at   uint64 // its linear address
	// contexts is the address of what decides whose the operand is, 0 if it is the snapshot's in any case: see compileContexts.
	contexts uint64
	onStack  bool   // they say so of addresses on the current stack too
	perCPU   bool   // the operand is relative to GS,
	base     uint64 // of which this is the snapshot's base
	// fixed is where the operand is instead, if that is not 0.
	fixed     uint64
	immediate []byte // takes the place of the instruction's own
}

// static returns the offset of the operand of an instruction at an address, if no register but RIP has a part in it.
func static(in *isa.Inst, at uint64) (offset uint64, ok bool) {
	offset = uint64(in.Disp)
	if in.Base == isa.RegRIP {
		offset += at + uint64(in.Len)
	}
	return offset, in.HasMem() && in.Index == isa.RegNone && (in.Base == isa.RegNone || in.Base == isa.RegRIP)
}

var errNotDisplaceable = errors.New("fastbridge: the instruction cannot be displaced")

// assemble makes the code for the linear address at.
func (d *displaced) assemble(at uint64, to entries) ([]byte, error) {
	a := &assembler{at: at}
	if d.immediate != nil {
		code := append(slices.Clone(d.code[:len(d.code)-len(d.immediate)]), d.immediate...)
		a.finish(d.in, code, isa.R11, false)
		return a.code, nil
	}
	if d.in.Op == isa.MOVS || d.in.Op == isa.STOS {
		return d.assembleString(a, to)
	}
	e, ok := split(d.in, d.code)
	reg, free := scratch(d.in)
	if !ok || !free {
		return nil, errNotDisplaceable
	}
	a.push(reg)
	there, here := e.displace(reg), d.code
	off, fixed := static(d.in, d.at)
	switch {
	case d.fixed != 0:
		a.load(reg, d.fixed)
		a.finish(d.in, there, reg, true)
		return a.code, nil
	case fixed:
		a.load(reg, off+d.base)
		if d.in.Base == isa.RegRIP {
			here = e.absolute(uint32(off))
		}
	case d.perCPU:
		a.bytes(e.lea(reg)...)
		a.push(reg)
		a.load(reg, d.base)
		a.bytes(0x4c, 0x01, 0x04|reg&7<<3, 0x24) // add [rsp], reg
		a.pop(reg)
	default:
		a.bytes(e.lea(reg)...)
	}
	a.push(reg)
	a.bytes(0x68) // push: the last 2 GiB of the address space
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(d.contexts))
	locate := to.locate
	switch {
	case d.perCPU:
		locate = to.locateCPU
	case d.onStack && d.contexts != 0:
		locate = to.locateOnStack
	}
	a.call(locate)
	a.pop(reg)
	a.pop(reg)
	ask := a.jumpIf(ifCarry)
	if d.perCPU {
		a.bytes(0x4d, 0x85, 0xc0|reg&7<<3|reg&7) // test reg, reg: 0 if the operand is the trusted VM's
		local := a.jumpIf(ifZero)
		a.finish(d.in, there, reg, true)
		a.land(local)
		a.pop(reg)
		a.finish(d.in, here, reg, false)
	} else {
		a.finish(d.in, there, reg, true)
	}
	a.land(ask)
	a.pop(reg)
	a.jump(to.ask)
	return a.code, nil
}
