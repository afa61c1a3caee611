package snapshots

import (
	"encoding/binary"
	"fmt"
)

// MaxNotes bounds the size of a note segment, in bytes; QEMU writes at most 1 MiB of VMCOREINFO and half a KiB a CPU.
const MaxNotes = 64 << 20

// ParseNotes reads a segment of little-endian ELF notes (System V ABI, chapter 5). Names and data are padded to align
// bytes, 4 or 8.
func ParseNotes(b []byte, align int) ([]Note, error) {
	var notes []Note
	up := func(n uint64) uint64 { return (n + uint64(align) - 1) &^ (uint64(align) - 1) }
	for len(b) >= 12 {
		nameSize, size := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
		typ := binary.LittleEndian.Uint32(b[8:])
		if nameSize == 0 && size == 0 && typ == 0 {
			return notes, nil // padding
		}
		// The name follows the header, and the data the padded end of both.
		at := up(12 + nameSize)
		if align == 4 {
			at = 12 + up(nameSize)
		}
		if at+size > uint64(len(b)) {
			return notes, fmt.Errorf("%w: a note of %d+%d bytes where %d are left", ErrCorrupt, nameSize, size, len(b))
		}
		name := b[12 : 12+nameSize]
		for len(name) > 0 && name[len(name)-1] == 0 {
			name = name[:len(name)-1]
		}
		notes = append(notes, Note{string(name), typ, b[at : at+size : at+size]})
		b = b[min(up(at+size), uint64(len(b))):]
	}
	return notes, nil
}

// ntPrstatus is the type of a "CORE" note with a CPU's general registers.
const ntPrstatus = 1

// CPUsFromNotes returns the processors that notes describe: QEMU's own notes where there are some, else those of a core
// dump of a 64-bit kernel, with general registers only.
func CPUsFromNotes(notes []Note) []CPU {
	var full, general []CPU
	for _, n := range notes {
		switch {
		case n.Name == "QEMU" && n.Type == 0:
			if c, ok := qemuCPU(n.Data); ok {
				full = append(full, c)
			}
		case n.Name == "CORE" && n.Type == ntPrstatus:
			if c, ok := prstatus(n.Data); ok {
				general = append(general, c)
			}
		}
	}
	if len(full) > 0 {
		return full
	}
	return general
}

// qemuCPU reads QEMU's note (its target/i386/arch_dump.c, QEMUCPUState), which is the same for 32-bit guests: version and
// size, registers, ten segments of 24 bytes, five control registers, and since 2.12 the kernel GS base.
func qemuCPU(b []byte) (c CPU, ok bool) {
	const regs, segs, crs = 8, 8 + 18*8, 8 + 18*8 + 10*24
	if len(b) < crs+5*8 || binary.LittleEndian.Uint32(b) != 1 {
		return c, false
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	c.Has = HasGeneral | HasControl | HasSegments
	for i, r := range []int{RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8, R9, R10, R11, R12, R13, R14, R15} {
		c.GPR[r] = u64(regs + 8*i)
	}
	c.RIP, c.RFLAGS = u64(regs+16*8), u64(regs+17*8)
	seg := func(i int) Segment {
		p := b[segs+24*i:]
		return Segment{
			Selector: uint16(binary.LittleEndian.Uint32(p)), Limit: binary.LittleEndian.Uint32(p[4:]),
			Attributes: binary.LittleEndian.Uint32(p[8:]), Base: binary.LittleEndian.Uint64(p[16:]),
		}
	}
	for i, r := range []int{CS, DS, ES, FS, GS, SS} {
		c.Seg[r] = seg(i)
	}
	c.LDTR, c.TR = seg(6), seg(7)
	gdt, idt := seg(8), seg(9)
	c.GDTR, c.IDTR = Table{gdt.Base, gdt.Limit}, Table{idt.Base, idt.Limit}
	c.CR0, c.CR2, c.CR3, c.CR4 = u64(crs), u64(crs+16), u64(crs+24), u64(crs+32)
	if size := binary.LittleEndian.Uint32(b[4:]); size >= crs+6*8 && len(b) >= crs+6*8 {
		c.Has |= HasKernelGSBase
		c.KernelGSBase = u64(crs + 40)
	}
	return c, true
}

// prstatus reads struct elf_prstatus of an x86-64 kernel: 112 bytes in, its struct user_regs_struct.
func prstatus(b []byte) (c CPU, ok bool) {
	const regs = 112
	if len(b) < 336 {
		return c, false
	}
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(b[regs+8*i:]) }
	for i, r := range []int{R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI} {
		c.GPR[r] = u64(i)
	}
	c.Has = HasGeneral
	c.RIP, c.RFLAGS, c.GPR[RSP] = u64(16), u64(18), u64(19)
	for i, r := range map[int]int{17: CS, 20: SS, 23: DS, 24: ES, 25: FS, 26: GS} {
		c.Seg[r].Selector = uint16(u64(i))
	}
	c.Seg[FS].Base, c.Seg[GS].Base = u64(21), u64(22)
	return c, true
}

// AppendNote appends a note in the form that ParseNotes reads with align 4.
func AppendNote(b []byte, n Note) []byte {
	pad := func() {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(n.Name)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(n.Data)))
	b = binary.LittleEndian.AppendUint32(b, n.Type)
	b = append(append(b, n.Name...), 0)
	pad()
	b = append(b, n.Data...)
	pad()
	return b
}

// NotesOfCPU returns the two notes that QEMU writes for a processor: NT_PRSTATUS, and its own. pid is the processor's
// number from 1.
func NotesOfCPU(c CPU, pid int) []Note {
	le := binary.LittleEndian
	pr := make([]byte, 336)
	le.PutUint32(pr[32:], uint32(pid))
	for i, r := range []int{R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI, RAX} {
		le.PutUint64(pr[112+8*i:], c.GPR[r])
	}
	for i, v := range []uint64{
		c.RIP, uint64(c.Seg[CS].Selector), c.RFLAGS, c.GPR[RSP], uint64(c.Seg[SS].Selector), c.Seg[FS].Base, c.Seg[GS].Base,
		uint64(c.Seg[DS].Selector), uint64(c.Seg[ES].Selector), uint64(c.Seg[FS].Selector), uint64(c.Seg[GS].Selector),
	} {
		le.PutUint64(pr[112+8*(16+i):], v)
	}
	notes := []Note{{"CORE", ntPrstatus, pr}}
	if c.Has&HasControl == 0 {
		return notes
	}
	const size = 440
	q := le.AppendUint32(nil, 1)
	q = le.AppendUint32(q, size)
	for _, r := range []int{RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8, R9, R10, R11, R12, R13, R14, R15} {
		q = le.AppendUint64(q, c.GPR[r])
	}
	q = le.AppendUint64(le.AppendUint64(q, c.RIP), c.RFLAGS)
	for _, s := range []Segment{
		c.Seg[CS], c.Seg[DS], c.Seg[ES], c.Seg[FS], c.Seg[GS], c.Seg[SS], c.LDTR, c.TR,
		{Base: c.GDTR.Base, Limit: c.GDTR.Limit},
		{Base: c.IDTR.Base, Limit: c.IDTR.Limit},
	} {
		q = le.AppendUint32(q, uint32(s.Selector))
		q = le.AppendUint32(q, s.Limit)
		q = le.AppendUint32(q, s.Attributes)
		q = le.AppendUint32(q, 0)
		q = le.AppendUint64(q, s.Base)
	}
	for _, v := range []uint64{c.CR0, 0, c.CR2, c.CR3, c.CR4, c.KernelGSBase} {
		q = le.AppendUint64(q, v)
	}
	return append(notes, Note{"QEMU", 0, q})
}
