package cpu

import "github.com/hybridbridge/emu/cpu/isa"

//go:generate go run ./internal/gen

// fastForm is the form of operands that a fast handler is made for: register, memory or immediate; J is a branch, JNear
// one that stays in its page.
type fastForm uint8

const (
	formNone fastForm = iota
	formR
	formM
	formI
	formRR
	formRI
	formRM
	formMR
	formMI
	formJ
	formJNear
)

// Pseudo-operations: the extending moves by the size of their source.
const (
	opMOVZX8 = isa.NumOps + iota
	opMOVZX16
	opMOVSX8
	opMOVSX16
	opMOVSX32
)

// fastKey finds a fast handler: cc is the condition code, 0 where there is none.
type fastKey struct {
	form fastForm
	op   isa.Op
	size uint8
	cc   uint8
}

// fastHandler returns a handler made for the operand form of u, nil if there is none, and prepares the fields of u that
// it uses. Such a handler does the same as the general one, which it calls whenever an access misses the TLB or a
// branch leads to a place that needs looking at. off is the
// offset of the block in its page; flat says that 32-bit code needs no segmentation except for FS and GS.
func fastHandler(u *uop, off uint64, flat bool) handler {
	var key fastKey
	return fastHandlerKey(u, off, flat, &key)
}

// fastHandlerKey is fastHandler that also tells under which key it looked.
func fastHandlerKey(u *uop, off uint64, flat bool, key *fastKey) handler {
	switch {
	case u.Mode == isa.Mode64 && u.AddrSize == 8:
		u.mask = ^uint64(0)
	case u.AddrSize == 4 && u.Seg < isa.FS && (u.Mode == isa.Mode64 || u.Mode == isa.Mode32 && flat && u.Seg != isa.CS):
		u.mask = 0xffffffff
	default:
		return nil
	}
	u.segBase = isa.RegNone
	*key = fastKey{op: u.Op, size: u.Args[0].Size}
	a, b := u.Args[0].Kind, u.Args[1].Kind
	if u.HasMem() && u.Seg >= isa.FS && u.Op != isa.LEA {
		u.segBase = regFSBase + u.Seg - isa.FS
	}
	if b == isa.KindOne {
		u.Imm, b = 1, isa.KindImm
	}
	switch {
	case a == isa.KindNone:
		key.form = formNone
	case a == isa.KindReg && b == isa.KindNone:
		key.form = formR
	case a == isa.KindMem && b == isa.KindNone:
		key.form = formM
	case a == isa.KindImm && b == isa.KindNone:
		key.form = formI
	case a == isa.KindReg && b == isa.KindReg:
		key.form = formRR
	case a == isa.KindReg && b == isa.KindImm:
		key.form = formRI
	case a == isa.KindReg && b == isa.KindMem:
		key.form = formRM
	case a == isa.KindMem && b == isa.KindReg:
		key.form = formMR
	case a == isa.KindMem && b == isa.KindImm:
		key.form = formMI
	case a == isa.KindRel:
		key.form = formJ
	default:
		return fastSIMD(u)
	}
	if u.Mode == isa.Mode64 && key.form != formM && (key.form == formJ || u.Op == isa.CALL_IND || u.Op == isa.JMP_IND) {
		u.mask = ^uint64(0) // of the target, not of an address
	}
	native := u.OpSize == 8 || u.OpSize == 4 && u.Mode == isa.Mode32
	switch u.Op {
	case isa.SHL, isa.SHR, isa.SAR, isa.ROL, isa.ROR:
		if key.form == formRI {
			if u.Imm &= countMask(key.size); u.Imm == 0 {
				return nil
			}
		}
	case isa.MOVZX:
		key.op = opMOVZX8 + isa.Op(u.Args[1].Size/2)
		if key.size == 8 {
			key.size = 4 // the same
		}
	case isa.MOVSX, isa.MOVSXD:
		key.op = opMOVSX8 + isa.Op(u.Args[1].Size/2)
	case isa.JMP, isa.JCC:
		if !native {
			return nil
		}
		key.size = 0
		u.target = u.Imm + uint64(u.end)
		if off+u.target < 0x1000 { // wraps around below the page too

			key.form = formJNear
		}
		if u.Op == isa.JMP {
			if key.form == formJNear {
				return fastJMPNear
			}
			return fastJMP
		}
		key.cc = u.Cond
	case isa.CMOVCC, isa.SETCC:
		key.cc = u.Cond
	case isa.CALL:
		u.target = u.Imm + uint64(u.end)
		fallthrough
	case isa.PUSH, isa.POP, isa.CALL_IND, isa.RET, isa.JMP_IND, isa.LEAVE:
		if !native || key.form == formR && u.Args[0].Size != u.OpSize {
			return nil
		}
		key.size = u.OpSize
	}
	return fastHandlers[*key]
}

// The slots of c.r that hold the bases of FS and GS; that of RegNone is always 0.
const (
	regFSBase = isa.RegRIP + 1
	regGSBase = isa.RegRIP + 2
)

// slow executes u by its general handler.
func (c *CPU) slow(u *uop) bool { return c.table[u.Op](c, u) }

// ea is the linear address of the memory operand of u.
func (c *CPU) ea(u *uop) uint64 {
	return (c.r[u.Base&31] + c.r[u.Index&31]<<(u.Scale&3) + uint64(u.Disp) + c.r[u.segBase&31]) & u.mask
}

// jump goes to the target of u.
func (c *CPU) jump(u *uop) bool {
	t := (c.r[isa.RegRIP] + u.target) & u.mask
	if int64(t<<16)>>16 != int64(t) {
		return execJMP(c, u)
	}
	c.rip = t
	return true
}

func fastJMP(c *CPU, u *uop) bool { return c.jump(u) }

func fastJMPNear(c *CPU, u *uop) bool {
	c.rip = (c.r[isa.RegRIP] + u.target) & u.mask
	return true
}
