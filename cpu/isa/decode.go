package isa

import (
	"encoding/binary"
	"errors"
	"sync"
)

// The errors of Decode. They are compared with ==.
var (
	// ErrTruncated says that the instruction goes on behind the given bytes: fetch the next page.
	ErrTruncated = errors.New("isa: instruction is truncated")
	// ErrTooLong says that the instruction would be longer than 15 bytes: #GP(0).
	ErrTooLong = errors.New("isa: instruction is longer than 15 bytes")
	// ErrInvalid says that the bytes are no instruction in this mode with these features: #UD.
	ErrInvalid = errors.New("isa: invalid instruction")
)

const maxLen = 15

// Slots of the mandatory prefix. F2 and F3 go before 66 (SDM vol. 2D, A.1.2).
const (
	slotNone = iota
	slot66
	slotF3
	slotF2
	numSlots
)

// choice is a list of rows that share an encoding; the first that fits is taken.
type choice struct {
	row  *Row
	next *choice
}

// entry is what one opcode decodes to. With ModRM and several rows, cells is indexed by the reg field for memory
// operands, and by 8 plus the six low bits of ModRM for registers.
type entry struct {
	modrm bool
	one   *choice
	cells *[72]*choice
}

// entries is indexed by 64-bit mode; it is made when it is first needed.
var entries = [2]func() *opcodes{
	sync.OnceValue(func() *opcodes { return buildEntries(0) }), sync.OnceValue(func() *opcodes { return buildEntries(1) }),
}

// opcodes is indexed by mandatory prefix, opcode map and opcode.
type opcodes [numSlots][4][256]entry

func buildEntries(mode64 int) *opcodes {
	all := new(opcodes)
	var spare []choice
	// Lists grow at the front, so the last come first: rows that a mandatory prefix selects go before those that take it
	// as an ordinary one, and else the order is that of the table.
	for _, mandatory := range [2]bool{false, true} {
		for i := range table {
			r := &table[len(table)-1-i]
			e := &r.encoding
			if (e.Prefix != 0) != mandatory {
				continue
			}
			if mode64 == 0 && r.Attr&Only64 != 0 || mode64 == 1 && r.Attr&No64 != 0 {
				continue
			}
			for slot := range numSlots {
				if !e.inSlot(slot) {
					continue
				}
				for n := range e.Count {
					all[slot][e.Map][e.Opcode+n].add(r, &spare)
				}
			}
		}
	}
	return all
}

// inSlot reports whether the encoding can be met under a mandatory prefix.
func (e *Encoding) inSlot(slot int) bool {
	switch e.Prefix {
	case 0x66:
		return slot == slot66
	case 0xf3:
		return slot == slotF3
	case 0xf2:
		return slot == slotF2
	}
	return slot == slotNone || slot == slot66 && !e.NP || slot > slot66 && !e.NP && !e.NFx
}

// link returns a choice from what is spare: making them one by one takes long.
func link(spare *[]choice, r *Row, next *choice) *choice {
	if len(*spare) == 0 {
		*spare = make([]choice, 512)
	}
	c := &(*spare)[0]
	*spare = (*spare)[1:]
	*c = choice{r, next}
	return c
}

// add puts a row before those that the entry has.
func (t *entry) add(r *Row, spare *[]choice) {
	e := &r.encoding
	anyCell := !e.ModRM || e.Reg < 0 && e.RM < 0 && (r.Attr&AnyMod != 0 || r.Attr&(MemOnly|RegOnly) == 0)
	if t.cells == nil && anyCell {
		t.modrm = e.ModRM
		t.one = link(spare, r, t.one)
		return
	}
	t.modrm = true
	if t.cells == nil {
		t.cells = new([72]*choice)
		for i := range t.cells {
			t.cells[i] = t.one
		}
		t.one = nil
	}
	var last *choice
	for i := range t.cells {
		isReg := i >= 8
		reg, rm := i, 0
		if isReg {
			reg, rm = (i-8)>>3, i&7
		}
		if e.Reg >= 0 && reg != int(e.Reg) || e.RM >= 0 && rm != int(e.RM) {
			continue
		}
		if r.Attr&AnyMod == 0 && (isReg && r.Attr&MemOnly != 0 || !isReg && r.Attr&RegOnly != 0) {
			continue
		}
		if last == nil || last.next != t.cells[i] {
			last = link(spare, r, t.cells[i])
		}
		t.cells[i] = last
	}
}

// Classes of prefix bytes.
const (
	noPrefix = iota
	prefix66
	prefix67
	prefixF2
	prefixF3
	prefixLock
	prefixSeg
	prefixREX
)

var prefixClass = func() (t [256]uint8) {
	t[0x66], t[0x67], t[0xf2], t[0xf3], t[0xf0] = prefix66, prefix67, prefixF2, prefixF3, prefixLock
	for _, b := range []byte{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65} {
		t[b] = prefixSeg
	}
	for b := 0x40; b < 0x50; b++ {
		t[b] = prefixREX
	}
	return t
}()

// segNone stands for no segment override.
const segNone uint8 = 0xff

// Bits of REX.
const (
	rexB = 1 << iota
	rexX
	rexR
	rexW
)

// decoder is the state of one Decode.
type decoder struct {
	b      []byte
	n      int
	mode   Mode
	rex    byte // 0x40-0x4f, or 0
	modrm  byte
	opcode byte
	seg    uint8
}

// Decode decodes the instruction at the start of b, of which it looks at no more than 15 bytes.
//
// A displacement relative to RIP (Base is RegRIP) and the displacement of a branch are given as they are encoded:
// relative to the next instruction. Immediates that are narrower than the operand are extended as the row says (Ib,
// Iw and Iv are zero-extended, Ibs and Iz sign-extended); the user truncates them to the operand's size.
//
// Where Intel and AMD differ, Intel is followed: in 64-bit mode near branches ignore prefix 66, and far pointers in
// memory have a 64-bit form.
func Decode(b []byte, mode Mode, feat FeatureSet) (Inst, error) {
	var in Inst
	err := in.decode(b, mode, feat)
	return in, err
}

func (in *Inst) decode(b []byte, mode Mode, feat FeatureSet) error {
	if len(b) > maxLen {
		b = b[:maxLen]
	}
	d := decoder{b: b, mode: mode, seg: segNone}
	mode64 := 0
	if mode == Mode64 {
		mode64 = 1
	}
	slot, size66, addr67, prefix, ok := d.prefixes()
	if !ok {
		return d.short()
	}

	// Opcode.
	if d.n >= len(b) {
		return d.short()
	}
	m := 0
	op := b[d.n]
	d.n++
	if op == 0x0f {
		m = 1
		if d.n >= len(b) {
			return d.short()
		}
		op = b[d.n]
		d.n++
		if op == 0x38 || op == 0x3a {
			m = 2
			if op == 0x3a {
				m = 3
			}
			if d.n >= len(b) {
				return d.short()
			}
			op = b[d.n]
			d.n++
		}
	}
	d.opcode = op

	// Row.
	if slot == slotNone && size66 {
		slot = slot66
	}
	e := &entries[mode64]()[slot][m][op]
	c := e.one
	if e.modrm {
		if d.n >= len(b) {
			return d.short()
		}
		d.modrm = b[d.n]
		d.n++
		if e.cells != nil {
			i := d.modrm >> 3 & 7
			if d.modrm >= 0xc0 {
				i = 8 + d.modrm&63
			}
			c = e.cells[i]
		}
	}
	var row *Row
	for ; c != nil; c = c.next {
		r := c.row
		if r.need&^feat != 0 || r.Attr&NeedREXW != 0 && d.rex&rexW == 0 || r.Attr&NoREXB != 0 && d.rex&rexB != 0 {
			continue
		}
		row = r
		break
	}
	if row == nil {
		return ErrInvalid
	}
	attr := row.Attr
	in.Row, in.Op, in.Mode = row, row.Op, mode
	in.Cond = op & 15
	switch row.encoding.Prefix {
	case 0x66:
		size66 = false
		prefix &^= PrefixOpSize
	case 0xf2, 0xf3:
		prefix &^= PrefixRep | PrefixRepne
	}

	// Operand and address size.
	os := uint8(4)
	switch {
	case mode64 == 1:
		switch {
		case attr&Force64 != 0 || d.rex&rexW != 0:
			os = 8
		case size66:
			os = 2
		case attr&Default64 != 0:
			os = 8
		}
		in.AddrSize = 8
		if addr67 {
			in.AddrSize = 4
		}
	default:
		if (mode == Mode16) != size66 {
			os = 2
		}
		in.AddrSize = 4
		if (mode == Mode16) != addr67 {
			in.AddrSize = 2
		}
	}
	if attr&Max32 != 0 && os == 8 {
		os = 4
	}
	in.OpSize = os

	// Memory operand.
	in.Base, in.Index, in.Seg = RegNone, RegNone, DS
	if e.modrm && d.modrm < 0xc0 && attr&AnyMod == 0 {
		if !d.memory(in) {
			return d.short()
		}
	}
	if d.seg != segNone {
		in.Seg = d.seg
		prefix |= PrefixSeg
	}

	// Operands.
	for i := range row.args[:row.nargs] {
		if err := d.operand(in, &in.Args[i], &row.args[i]); err != nil {
			return err
		}
	}
	if prefix&PrefixLock != 0 && (attr&Lockable == 0 || in.Args[0].Kind != KindMem) {
		return ErrInvalid
	}
	if attr&byteOp != 0 {
		in.OpSize = 1
	}
	if d.rex != 0 {
		prefix |= PrefixREX
		if d.rex&rexW != 0 {
			prefix |= PrefixREXW
		}
	}
	in.Prefix = prefix
	in.Len = uint8(d.n)
	return nil
}

// short is the error for running out of bytes.
func (d *decoder) short() error {
	if len(d.b) == maxLen {
		return ErrTooLong
	}
	return ErrTruncated
}

// prefixes consumes the legacy prefixes and REX. REX counts only if it is the last of them.
func (d *decoder) prefixes() (slot int, size66, addr67 bool, prefix Prefix, ok bool) {
	for ; d.n < len(d.b); d.n++ {
		c := d.b[d.n]
		class := prefixClass[c]
		if class == noPrefix || class == prefixREX && d.mode != Mode64 {
			return slot, size66, addr67, prefix, true
		}
		d.rex = 0
		switch class {
		case prefixREX:
			d.rex = c
		case prefix66:
			size66 = true
			prefix |= PrefixOpSize
		case prefix67:
			addr67 = true
			prefix |= PrefixAddrSize
		case prefixF2:
			slot = slotF2
			prefix = prefix&^PrefixRep | PrefixRepne
		case prefixF3:
			slot = slotF3
			prefix = prefix&^PrefixRepne | PrefixRep
		case prefixLock:
			prefix |= PrefixLock
		case prefixSeg:
			// In 64-bit mode CS, DS, ES and SS overrides are ignored (SDM vol. 1, 3.3.7.1).
			switch {
			case c == 0x64:
				d.seg = FS
			case c == 0x65:
				d.seg = GS
			case d.mode != Mode64:
				d.seg = c >> 3 & 3
			}
		}
	}
	return 0, false, false, 0, false
}

// Bases and indexes of 16-bit addressing (SDM vol. 2A, table 2-1).
var (
	base16  = [8]uint8{RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX}
	index16 = [8]uint8{RSI, RDI, RSI, RDI, RegNone, RegNone, RegNone, RegNone}
)

// memory decodes ModRM's memory operand, SIB and displacement (SDM vol. 2A, 2.1.5 and 2.2.1).
func (d *decoder) memory(in *Inst) bool {
	mod, rm := d.modrm>>6, d.modrm&7
	disp := 0
	if in.AddrSize == 2 {
		in.Base, in.Index = base16[rm], index16[rm]
		switch {
		case mod == 0 && rm == 6:
			in.Base = RegNone
			disp = 2
		case mod == 1:
			disp = 1
		case mod == 2:
			disp = 2
		}
		if in.Base == RBP {
			in.Seg = SS
		}
	} else {
		base := rm
		if rm == 4 {
			if d.n >= len(d.b) {
				return false
			}
			sib := d.b[d.n]
			d.n++
			base = sib & 7
			index := sib>>3&7 | d.rex&rexX<<2
			if index != RSP {
				in.Index = index
				in.Scale = sib >> 6
			}
		}
		switch {
		case mod == 1:
			disp = 1
		case mod == 2:
			disp = 4
		case base == 5:
			disp = 4
			if rm == 5 && d.mode == Mode64 {
				in.Base = RegRIP
			}
		}
		if mod != 0 || base != 5 {
			in.Base = base | d.rex&rexB<<3
			if in.Base == RSP || in.Base == RBP {
				in.Seg = SS
			}
		}
	}
	if d.n+disp > len(d.b) {
		return false
	}
	switch disp {
	case 1:
		in.Disp = int64(int8(d.b[d.n]))
	case 2:
		in.Disp = int64(int16(binary.LittleEndian.Uint16(d.b[d.n:])))
	case 4:
		in.Disp = int64(int32(binary.LittleEndian.Uint32(d.b[d.n:])))
	}
	d.n += disp
	return true
}

// immediate reads size bytes, zero-extended.
func (d *decoder) immediate(size uint8) (uint64, bool) {
	if d.n+int(size) > len(d.b) {
		return 0, false
	}
	p := d.b[d.n:]
	d.n += int(size)
	switch size {
	case 1:
		return uint64(p[0]), true
	case 2:
		return uint64(binary.LittleEndian.Uint16(p)), true
	case 4:
		return uint64(binary.LittleEndian.Uint32(p)), true
	default:
		return binary.LittleEndian.Uint64(p), true
	}
}

func signExtend(v uint64, size uint8) uint64 {
	shift := 64 - 8*uint(size)
	return uint64(int64(v<<shift) >> shift)
}

// general fills in a general register, with AH to BH where there is no REX.
func (d *decoder) general(o *Operand, reg uint8) {
	o.Reg = reg
	if o.Size == 1 && d.rex == 0 && reg >= 4 {
		o.Kind, o.Reg = KindHigh, reg-4
	}
}

func (d *decoder) operand(in *Inst, o *Operand, a *argSpec) error {
	os := in.OpSize >> 2
	o.Kind, o.Reg, o.Size, o.Access = a.kind, a.reg, sizes[a.size][os], a.access
	switch a.form {
	case formReg:
		reg := d.modrm >> 3 & 7
		switch a.kind {
		case KindReg:
			d.general(o, reg|d.rex&rexR<<1)
		case KindMMX:
			o.Reg = reg
		default:
			o.Reg = reg | d.rex&rexR<<1
		}
	case formRM:
		if d.modrm < 0xc0 && in.Row.Attr&AnyMod == 0 {
			o.Kind, o.Size = KindMem, sizes[a.mem][os]
			return nil
		}
		reg := d.modrm & 7
		switch a.kind {
		case KindReg:
			d.general(o, reg|d.rex&rexB<<3)
		case KindMMX:
			o.Reg = reg
		default:
			o.Reg = reg | d.rex&rexB<<3
		}
	case formOpcode:
		d.general(o, d.opcode&7|d.rex&rexB<<3)
	case formImm, formImmS, formRel:
		v, ok := d.immediate(o.Size)
		if !ok {
			return d.short()
		}
		if a.form != formImm {
			v = signExtend(v, o.Size)
		}
		if a.kind == KindImm2 {
			in.Imm2 = uint16(v)
		} else {
			in.Imm = v
		}
	case formFar:
		off, ok := d.immediate(o.Size - 2)
		if !ok {
			return d.short()
		}
		sel, ok := d.immediate(2)
		if !ok {
			return d.short()
		}
		in.Imm, in.Imm2 = off, uint16(sel)
	case formMoffs:
		off, ok := d.immediate(in.AddrSize)
		if !ok {
			return d.short()
		}
		in.Disp = int64(off)
	case formMem:
		in.Base = a.reg
	case formST:
		o.Reg = d.modrm & 7
	case formSeg:
		o.Reg = d.modrm >> 3 & 7
		if o.Reg > GS || o.Reg == CS && in.Op == MOV_TO_SEG {
			return ErrInvalid
		}
	case formCR:
		o.Reg = d.modrm>>3&7 | d.rex&rexR<<1
		if 1<<o.Reg&(1<<0|1<<2|1<<3|1<<4|1<<8) == 0 {
			return ErrInvalid
		}
	case formDR:
		o.Reg = d.modrm>>3&7 | d.rex&rexR<<1
		if o.Reg > 7 {
			return ErrInvalid
		}
	}
	return nil
}

// Implicit returns the implicit operand i of the row, with its size. The stack pointer's size is given as 8 in 64-bit
// mode and else 4: the stack segment's B bit, which can make it 2, is not known to the decoder.
func (in *Inst) Implicit(i int) Operand {
	a := &in.Row.Implicit[i]
	o := Operand{Kind: a.Kind, Reg: a.Reg, Access: a.Access}
	switch {
	case a.size == sizeAddr:
		o.Size = in.AddrSize
	case a.size == sizeStack && in.Mode == Mode64:
		o.Size = 8
	case a.size == sizeStack:
		o.Size = 4
	default:
		o.Size = sizes[a.size][in.OpSize>>2]
	}
	return o
}

// FlagsRead returns the flags that the instruction reads: for JCC, SETCC and CMOVCC those of its condition.
func (in *Inst) FlagsRead() Flags {
	switch in.Op {
	case JCC, SETCC, CMOVCC:
		return condFlags[in.Cond>>1]
	}
	return in.Row.Reads
}

// condFlags are the flags that a pair of conditions tests (SDM vol. 1, B.1).
var condFlags = [8]Flags{
	FlagOF, FlagCF, FlagZF, FlagCF | FlagZF, FlagSF, FlagPF, FlagSF | FlagOF, FlagZF | FlagSF | FlagOF,
}
