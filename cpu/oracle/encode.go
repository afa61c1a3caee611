package oracle

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/isa"
)

// encoded is an instruction as bytes, with the place of what may be changed later.
type encoded struct {
	b    [64]byte
	n    int
	disp int // offset of the displacement of the ModRM operand
	size int // its bytes: 0, 1 or 4
}

func (e *encoded) put(b ...byte) { e.n += copy(e.b[e.n:], b) }

// Prefixes that mean nothing in 64-bit mode.
var nullSegments = [4]byte{0x26, 0x2e, 0x36, 0x3e}

// encode writes a random encoding of a row. It need not decode as that row: prefixes may select another.
func (r *rng) encode(d *dish, e *encoded) {
	e.n, e.size, e.disp = 0, 0, 0
	enc := &d.enc
	mem := enc.ModRM && d.Attr&isa.RegOnly == 0 && (d.Attr&isa.MemOnly != 0 || r.percent(55))
	implicitMem := d.str || d.enc.Map == 0 && (enc.Opcode >= 0xa0 && enc.Opcode <= 0xa3 || enc.Opcode == 0xd7) || d.Op == isa.MASKMOVDQU || d.Op == isa.MASKMOVQ

	// Legacy prefixes in random order; the last of F2 and F3 counts.
	var prefix [8]byte
	n := 0
	add := func(b byte) { prefix[n] = b; n++ }
	if enc.Prefix != 0x66 && (!enc.NP && (d.Attr&isa.Force64 == 0 || !d.branch) || enc.Prefix != 0) && r.percent(18) {
		add(0x66)
	}
	if (mem || implicitMem) && r.percent(12) || r.oneIn(100) || (d.Op == isa.JCXZ || d.Op == isa.LOOP || d.Op == isa.LOOPE || d.Op == isa.LOOPNE) && r.oneIn(3) {
		add(0x67)
	}
	if (mem || implicitMem) && r.percent(14) || r.oneIn(200) {
		add(0x64 + byte(r.n(2)))
	}
	if r.percent(3) {
		add(nullSegments[r.n(4)])
	}
	if d.Attr&isa.Lockable != 0 && mem && r.percent(14) || r.oneIn(250) && d.Attr&isa.Privileged == 0 && !d.selector {
		// Not LOCK MOV CR0, which on AMD's processors is MOV CR8 (APM vol. 3, MOV CRn), nor LOCK VERW, which they find
		// invalid only after they have read the operand.
		add(0xf0)
	}
	rep := byte(0xf2 + r.n(2))
	switch {
	case enc.Prefix == 0xf2 || enc.Prefix == 0xf3:
		if r.oneIn(40) {
			add(enc.Prefix ^ 1)
		}
	case d.Attr&(isa.Rep|isa.Repe) != 0 && r.percent(60):
		add(rep)
	case !enc.NP && !enc.NFx && enc.Prefix == 0 && r.oneIn(30) && !d.branch:
		add(rep)
	}
	if r.oneIn(400) {
		add(0x2e)
		if r.oneIn(3) {
			for range 8 {
				e.put(0x3e)
			}
		}
	}
	for i := n - 1; i > 0; i-- {
		k := r.n(i + 1)
		prefix[i], prefix[k] = prefix[k], prefix[i]
	}
	at := n
	if enc.Prefix != 0 {
		at = r.n(n + 1)
		if enc.Prefix != 0x66 {
			at = n // behind the other of F2 and F3
		}
	}
	e.put(prefix[:at]...)
	if enc.Prefix != 0 {
		e.put(enc.Prefix)
	}
	e.put(prefix[at:n]...)

	// REX.
	rex := byte(0)
	if r.percent(55) {
		rex = 0x40 | byte(r.n(16))
		if r.oneIn(3) {
			rex &^= 8
		}
		if d.Attr&isa.NoREXB != 0 {
			rex &^= 1
		}
	}
	if d.Attr&isa.NeedREXW != 0 || d.Op == isa.IRET && r.percent(60) {
		rex |= 0x48
	}
	if d.Op == isa.JMP_FAR || d.Op == isa.CALL_FAR {
		rex &^= 8 // AMD's processors have no 64-bit offsets in far pointers (APM vol. 3, JMP far)
	}
	if rex != 0 {
		e.put(rex)
		if r.oneIn(300) {
			e.put(0x3e) // REX before a prefix is ignored
		}
	}

	// Opcode and ModRM.
	switch enc.Map {
	case 1:
		e.put(0x0f)
	case 2:
		e.put(0x0f, 0x38)
	case 3:
		e.put(0x0f, 0x3a)
	}
	e.put(enc.Opcode + byte(r.n(int(enc.Count))))
	if enc.ModRM {
		r.modrm(enc, e, mem)
	}
	// Immediate: as many random bytes as any instruction can want.
	imm := r.next()
	if r.oneIn(3) {
		imm = r.integer()
	}
	binary.LittleEndian.PutUint64(e.b[e.n:], imm)
	binary.LittleEndian.PutUint64(e.b[e.n+8:], 0x9090909090909090)
}

func (r *rng) modrm(enc *isa.Encoding, e *encoded, mem bool) {
	reg := byte(r.n(8))
	if enc.Reg >= 0 {
		reg = byte(enc.Reg)
	}
	rm := byte(r.n(8))
	if !mem {
		if enc.RM >= 0 {
			rm = byte(enc.RM)
		}
		e.put(0xc0 | reg<<3 | rm)
		return
	}
	mod := byte(r.n(3))
	if r.oneIn(3) {
		rm = 4 // SIB more often
	}
	e.put(mod<<6 | reg<<3 | rm)
	base := rm
	if rm == 4 {
		sib := byte(r.next())
		base = sib & 7
		e.put(sib)
	}
	switch {
	case mod == 1:
		e.size = 1
	case mod == 2 || base == 5:
		e.size = 4
	}
	e.disp = e.n
	v := r.next()
	if r.oneIn(2) {
		v = uint64(r.in(-130, 130))
	}
	for i := range e.size {
		e.put(byte(v >> (8 * i)))
	}
}
