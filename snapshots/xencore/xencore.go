// Package xencore reads Xen's xl dump-core files: ELF files with sections instead of segments, among them the pages in
// any order and a table that says which frame each is (docs/misc/dump-core-format.txt in Xen's sources). Start at New.
//
// In a file of a PV guest physical addresses are the guest's pseudo-physical ones, while its page tables hold machine
// frames: Machine translates them.
package xencore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hybridbridge/emu/snapshots"
)

const (
	etCore       = 4
	emX86_64     = 62
	noteHeader   = 0x2000001
	magicPV      = 0xf00febed
	magicHVM     = 0xf00febee
	maxSections  = 1024
	contextSize  = 5168 // struct vcpu_guest_context of x86-64
	invalidFrame = ^uint64(0)
)

// File is an open Xen core file.
type File struct {
	r       io.ReaderAt
	hvm     bool
	page    uint64
	extents snapshots.Extents
	machine snapshots.Extents // PV: by machine address; Offset is the pseudo-physical address
	notes   []snapshots.Note
	cpus    []snapshots.CPU
}

var (
	_ snapshots.Snapshot = (*File)(nil)
	_ snapshots.Mapper   = (*File)(nil)
)

type section struct{ offset, size uint64 }

// Is says whether a file that starts with head may be a Xen core file: an ELF64 core file without segments.
func Is(head []byte) bool {
	return len(head) >= 64 && string(head[:6]) == "\x7fELF\x02\x01" && binary.LittleEndian.Uint16(head[16:]) == etCore &&
		binary.LittleEndian.Uint16(head[56:]) == 0 && binary.LittleEndian.Uint16(head[60:]) > 0
}

// New reads the tables of a Xen core file of size bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r}
	sections, wide, err := readSections(r, size)
	if err != nil {
		return nil, err
	}
	get := func(name string, most uint64) ([]byte, error) {
		s, ok := sections[name]
		if !ok {
			return nil, nil
		}
		if s.size > most {
			return nil, fmt.Errorf("%w: section %s of %d bytes", snapshots.ErrCorrupt, name, s.size)
		}
		b := make([]byte, s.size)
		if err := snapshots.ReadFull(r, b, int64(s.offset)); err != nil {
			return nil, fmt.Errorf("section %s: %w", name, err)
		}
		return b, nil
	}
	b, err := get(".note.Xen", snapshots.MaxNotes)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("ELF core file without segments and without .note.Xen: %w", snapshots.ErrFormat)
	}
	if f.notes, err = snapshots.ParseNotes(b, 4); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	var pages uint64
	for _, n := range f.notes {
		if n.Type == noteHeader && len(n.Data) >= 32 {
			f.hvm = le.Uint64(n.Data) == magicHVM
			if !f.hvm && le.Uint64(n.Data) != magicPV {
				return nil, fmt.Errorf("%w: Xen's header note has magic %#x", snapshots.ErrCorrupt, le.Uint64(n.Data))
			}
			pages, f.page = le.Uint64(n.Data[16:]), le.Uint64(n.Data[24:])
		}
	}
	if f.page < 4096 || f.page > 65536 || f.page&(f.page-1) != 0 || pages == 0 || pages > 1<<40 {
		return nil, fmt.Errorf("%w: %d pages of %d bytes", snapshots.ErrCorrupt, pages, f.page)
	}
	data, ok := sections[".xen_pages"]
	if !ok || pages > data.size/f.page {
		return nil, fmt.Errorf("%w: .xen_pages holds fewer than %d pages", snapshots.ErrTruncated, pages)
	}
	if err := f.readFrames(sections, data.offset, pages); err != nil {
		return nil, err
	}
	if b, err = get(".xen_prstatus", 4096*contextSize); err != nil {
		return nil, err
	}
	for ; wide && len(b) >= contextSize; b = b[contextSize:] {
		f.cpus = append(f.cpus, f.context(b))
	}
	if len(f.extents) == 0 {
		return nil, fmt.Errorf("%w: Xen core file without memory", snapshots.ErrCorrupt)
	}
	return f, nil
}

func readSections(r io.ReaderAt, size int64) (map[string]section, bool, error) {
	var h [64]byte
	if err := snapshots.ReadFull(r, h[:], 0); err != nil {
		return nil, false, fmt.Errorf("core file of Xen: %w", err)
	}
	if !Is(h[:]) {
		return nil, false, fmt.Errorf("core file of Xen: %w", snapshots.ErrFormat)
	}
	le := binary.LittleEndian
	shoff, entsize, num, names := le.Uint64(h[40:]), int(le.Uint16(h[58:])), int(le.Uint16(h[60:])), int(le.Uint16(h[62:]))
	if entsize < 64 || entsize > 4096 || num > maxSections || names >= num {
		return nil, false, fmt.Errorf("%w: %d sections of %d bytes", snapshots.ErrCorrupt, num, entsize)
	}
	if shoff > uint64(size) || uint64(num*entsize) > uint64(size)-shoff {
		return nil, false, fmt.Errorf("%w: sections at %#x of %#x bytes", snapshots.ErrTruncated, shoff, size)
	}
	sh := make([]byte, num*entsize)
	if err := snapshots.ReadFull(r, sh, int64(shoff)); err != nil {
		return nil, false, err
	}
	at := func(i int) (name uint32, s section, err error) {
		p := sh[i*entsize:]
		s = section{le.Uint64(p[24:]), le.Uint64(p[32:])}
		if s.offset > uint64(size) || s.size > uint64(size)-s.offset {
			err = fmt.Errorf("%w: section %d at %#x-%#x of %#x bytes", snapshots.ErrTruncated, i, s.offset, s.offset+s.size, size)
		}
		return le.Uint32(p), s, err
	}
	_, s, err := at(names)
	if err != nil {
		return nil, false, err
	}
	if s.size > 1<<20 {
		return nil, false, fmt.Errorf("%w: %d bytes of section names", snapshots.ErrCorrupt, s.size)
	}
	strtab := make([]byte, s.size)
	if err := snapshots.ReadFull(r, strtab, int64(s.offset)); err != nil {
		return nil, false, err
	}
	out := make(map[string]section)
	for i := 1; i < num; i++ {
		name, s, err := at(i)
		if err != nil {
			return nil, false, err
		}
		if uint64(name) < uint64(len(strtab)) {
			b := strtab[name:]
			if n := bytes.IndexByte(b, 0); n >= 0 {
				out[string(b[:n])] = s
			}
		}
	}
	return out, le.Uint16(h[18:]) == emX86_64, nil
}

// readFrames reads .xen_pfn (a frame for each page) or .xen_p2m (a pair of pseudo-physical and machine frame).
func (f *File) readFrames(sections map[string]section, data, pages uint64) error {
	entry := uint64(8)
	s, ok := sections[".xen_pfn"]
	if !ok {
		entry = 16
		if s, ok = sections[".xen_p2m"]; !ok {
			return fmt.Errorf("%w: neither .xen_pfn nor .xen_p2m", snapshots.ErrCorrupt)
		}
	}
	if pages > s.size/entry {
		return fmt.Errorf("%w: the frame table holds fewer than %d pages", snapshots.ErrTruncated, pages)
	}
	var extents, machine []snapshots.Extent
	add := func(e *[]snapshots.Extent, frame, off uint64) error {
		if frame == invalidFrame {
			return nil
		}
		if frame > 1<<40 {
			return fmt.Errorf("%w: page frame %#x", snapshots.ErrCorrupt, frame)
		}
		base := frame * f.page
		if n := len(*e); n > 0 {
			if p := &(*e)[n-1]; p.Base+p.Size == base && uint64(p.Offset)+p.Size == off {
				p.Size += f.page
				return nil
			}
		}
		*e = append(*e, snapshots.Extent{Base: base, Size: f.page, Offset: int64(off)})
		return nil
	}
	buf := make([]byte, 1<<20)
	for i := uint64(0); i < pages; {
		n := min(uint64(len(buf))/entry, pages-i)
		if err := snapshots.ReadFull(f.r, buf[:n*entry], int64(s.offset+i*entry)); err != nil {
			return err
		}
		for p := buf[:n*entry]; len(p) > 0; p = p[entry:] {
			pfn := binary.LittleEndian.Uint64(p)
			if err := add(&extents, pfn, data+i*f.page); err != nil {
				return err
			}
			if entry == 16 && pfn != invalidFrame {
				if err := add(&machine, binary.LittleEndian.Uint64(p[8:]), pfn*f.page); err != nil {
					return err
				}
			}
			i++
		}
	}
	var err error
	if f.extents, err = snapshots.NewExtents(extents); err != nil {
		return err
	}
	f.machine, err = snapshots.NewExtents(machine)
	return err
}

// context reads struct vcpu_guest_context (xen/include/public/arch-x86/xen.h): 512 bytes of FPU state, flags, the
// registers, trap and descriptor tables, and from 5008 on kernel stack, control and debug registers and bases.
func (f *File) context(b []byte) snapshots.CPU {
	const regs, ctrl, bases = 520, 4984, 5144
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	c := snapshots.CPU{Has: snapshots.HasGeneral | snapshots.HasControl}
	for i, r := range []int{
		snapshots.R15, snapshots.R14, snapshots.R13, snapshots.R12, snapshots.RBP, snapshots.RBX, snapshots.R11, snapshots.R10,
		snapshots.R9, snapshots.R8, snapshots.RAX, snapshots.RCX, snapshots.RDX, snapshots.RSI, snapshots.RDI,
	} {
		c.GPR[r] = u64(regs + 8*i)
	}
	c.RIP, c.RFLAGS, c.GPR[snapshots.RSP] = u64(regs+128), u64(regs+144), u64(regs+152)
	for i, r := range []int{snapshots.ES, snapshots.DS, snapshots.FS, snapshots.GS} {
		c.Seg[r].Selector = uint16(u64(regs + 168 + 8*i))
	}
	c.Seg[snapshots.CS].Selector, c.Seg[snapshots.SS].Selector = uint16(u64(regs+136)), uint16(u64(regs+160))
	c.CR0, c.CR2, c.CR3, c.CR4 = u64(ctrl), u64(ctrl+16), u64(ctrl+24), u64(ctrl+32)
	c.Seg[snapshots.FS].Base = u64(bases)
	// The bases are named for who uses them; in user mode the kernel's is the swapped one.
	c.Has |= snapshots.HasKernelGSBase
	kernel, user := u64(bases+8), u64(bases+16)
	if c.Seg[snapshots.CS].Selector&3 == 3 {
		c.Seg[snapshots.GS].Base, c.KernelGSBase = user, kernel
	} else {
		c.Seg[snapshots.GS].Base, c.KernelGSBase = kernel, user
	}
	return c
}

// Machine translates a machine address of a PV guest to its pseudo-physical address.
func (f *File) Machine(ma uint64) (pa uint64, ok bool) {
	off, _, ok := f.machine.Mapping(ma)
	return uint64(off), ok
}

// Format returns "xen" for HVM and PVH guests and "xen-pv" for PV guests.
func (f *File) Format() string {
	if f.hvm || len(f.machine) == 0 {
		return "xen"
	}
	return "xen-pv"
}

// ReadPhysical implements snapshots.Reader.
func (f *File) ReadPhysical(p []byte, pa uint64) error { return f.extents.ReadFrom(f.r, p, pa) }

// Ranges implements snapshots.Snapshot.
func (f *File) Ranges() []snapshots.Range { return f.extents.Ranges() }

// CPUs implements snapshots.Snapshot.
func (f *File) CPUs() []snapshots.CPU { return f.cpus }

// Notes implements snapshots.Snapshot.
func (f *File) Notes() []snapshots.Note { return f.notes }

// Mapping implements snapshots.Mapper.
func (f *File) Mapping(pa uint64) (offset int64, length uint64, ok bool) {
	return f.extents.Mapping(pa)
}

// Close does nothing: the file belongs to the caller.
func (f *File) Close() error { return nil }
