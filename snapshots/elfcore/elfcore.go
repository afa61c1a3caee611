package elfcore

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hybridbridge/emu/snapshots"
)

const (
	etCore       = 4
	em386        = 3
	emX86_64     = 62
	ptLoad       = 1
	ptNote       = 4
	pnXNum       = 0xffff // the count is in section 0's sh_info
	maxSegments  = 4 << 20
	magic        = "\x7fELF"
	noOffset     = ^uint64(0) // QEMU's mark of memory that it did not save
	vboxMagic    = 0xc01ac0de
	vboxNoteCore = "VBCORE"
	vboxNoteCPU  = "VBCPU"
)

// File is an open ELF core file.
type File struct {
	r       io.ReaderAt
	format  string
	extents snapshots.Extents
	notes   []snapshots.Note
	cpus    []snapshots.CPU
}

var (
	_ snapshots.Snapshot = (*File)(nil)
	_ snapshots.Mapper   = (*File)(nil)
)

// Is says whether a file that starts with head may be an ELF core file.
func Is(head []byte) bool {
	return len(head) >= 20 && string(head[:4]) == magic && head[5] == 1 && binary.LittleEndian.Uint16(head[16:]) == etCore
}

// header has what is used of the ELF header and program headers, of either class.
type header struct {
	wide      bool
	phoff     uint64
	phentsize uint64
	phnum     uint64
}

// New reads the headers of an ELF core file of size bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{r: r, format: "elf"}
	var extents []snapshots.Extent
	var notes [][2]uint64
	const batch = 1024
	buf := make([]byte, min(h.phnum, batch)*h.phentsize)
	for i := uint64(0); i < h.phnum; i += batch {
		p := buf[:min(batch, h.phnum-i)*h.phentsize]
		if err := snapshots.ReadFull(r, p, int64(h.phoff+i*h.phentsize)); err != nil {
			return nil, fmt.Errorf("program headers: %w", err)
		}
		for ; len(p) > 0; p = p[h.phentsize:] {
			s := h.segment(p)
			switch s.typ {
			case ptNote:
				notes = append(notes, [2]uint64{s.offset, s.filesz})
			case ptLoad:
				if extents, err = s.extents(extents, size); err != nil {
					return nil, err
				}
			}
		}
	}
	if f.extents, err = snapshots.NewExtents(extents); err != nil {
		return nil, err
	}
	for _, n := range notes[:min(len(notes), 16)] {
		if err := f.readNotes(n[0], n[1], size); err != nil {
			return nil, err
		}
	}
	if snapshots.FindNote(f.notes, vboxNoteCore) != nil {
		f.format = "vbox"
		f.cpus = vboxCPUs(f.notes)
	} else {
		f.cpus = snapshots.CPUsFromNotes(f.notes)
	}
	if len(f.extents) == 0 {
		return nil, fmt.Errorf("ELF core file without memory: %w", snapshots.ErrFormat)
	}
	return f, nil
}

func readHeader(r io.ReaderAt, size int64) (h header, err error) {
	var b [64]byte
	if size < 52 {
		return h, fmt.Errorf("ELF core file: %w", snapshots.ErrTruncated)
	}
	if err := snapshots.ReadFull(r, b[:min(size, 64)], 0); err != nil {
		return h, err
	}
	le := binary.LittleEndian
	if !Is(b[:]) {
		return h, fmt.Errorf("ELF core file: %w", snapshots.ErrFormat)
	}
	if m := le.Uint16(b[18:]); m != emX86_64 && m != em386 {
		return h, fmt.Errorf("ELF core file of machine type %d: %w", m, snapshots.ErrUnsupported)
	}
	var shoff uint64
	need := uint64(32)
	switch b[4] {
	case 1:
		h.phoff, shoff = uint64(le.Uint32(b[28:])), uint64(le.Uint32(b[32:]))
		h.phentsize, h.phnum = uint64(le.Uint16(b[42:])), uint64(le.Uint16(b[44:]))
	case 2:
		h.wide, need = true, 56
		h.phoff, shoff = le.Uint64(b[32:]), le.Uint64(b[40:])
		h.phentsize, h.phnum = uint64(le.Uint16(b[54:])), uint64(le.Uint16(b[56:]))
	default:
		return h, fmt.Errorf("ELF class %d: %w", b[4], snapshots.ErrCorrupt)
	}
	if h.phnum == pnXNum {
		at := int64(44)
		if !h.wide {
			at = 28
		}
		var n [4]byte
		if shoff == 0 || shoff > uint64(size) {
			return h, fmt.Errorf("%w: the number of segments should be in section 0, at %#x", snapshots.ErrCorrupt, shoff)
		}
		if err := snapshots.ReadFull(r, n[:], int64(shoff)+at); err != nil {
			return h, fmt.Errorf("section 0: %w", err)
		}
		h.phnum = uint64(le.Uint32(n[:]))
	}
	if h.phnum == 0 {
		return h, nil
	}
	if h.phentsize < need || h.phentsize > 4096 || h.phnum > maxSegments {
		return h, fmt.Errorf("%w: %d program headers of %d bytes", snapshots.ErrCorrupt, h.phnum, h.phentsize)
	}
	if h.phoff > uint64(size) || h.phnum*h.phentsize > uint64(size)-h.phoff {
		return h, fmt.Errorf("%w: %d program headers at %#x in %#x bytes", snapshots.ErrTruncated, h.phnum, h.phoff, size)
	}
	return h, nil
}

type segment struct {
	typ                                  uint32
	offset, vaddr, paddr, filesz, memory uint64
}

func (h *header) segment(p []byte) segment {
	le := binary.LittleEndian
	if h.wide {
		return segment{le.Uint32(p), le.Uint64(p[8:]), le.Uint64(p[16:]), le.Uint64(p[24:]), le.Uint64(p[32:]), le.Uint64(p[40:])}
	}
	u32 := func(at int) uint64 { return uint64(le.Uint32(p[at:])) }
	s := segment{le.Uint32(p), u32(4), u32(8), u32(12), u32(16), u32(20)}
	if s.offset == 0xffffffff {
		s.offset = noOffset
	}
	return s
}

// extents appends what a segment holds: saved memory, then memory that was not saved.
func (s segment) extents(to []snapshots.Extent, size int64) ([]snapshots.Extent, error) {
	saved := s.filesz
	if s.offset == noOffset {
		saved = 0
	}
	if s.paddr+max(s.memory, saved) < s.paddr {
		return to, fmt.Errorf("%w: segment of %#x bytes at %#x", snapshots.ErrCorrupt, s.memory, s.paddr)
	}
	if saved > 0 {
		if s.offset > uint64(size) || saved > uint64(size)-s.offset {
			return to, fmt.Errorf("%w: memory at %#x should lie at %#x-%#x of %#x bytes", snapshots.ErrTruncated,
				s.paddr, s.offset, s.offset+saved, size)
		}
		to = append(to, snapshots.Extent{Base: s.paddr, Size: saved, Offset: int64(s.offset)})
	}
	if s.memory > saved {
		to = append(to, snapshots.Extent{Base: s.paddr + saved, Size: s.memory - saved, Offset: -1})
	}
	return to, nil
}

func (f *File) readNotes(off, n uint64, size int64) error {
	if off > uint64(size) || n > uint64(size)-off {
		return fmt.Errorf("%w: notes at %#x-%#x of %#x bytes", snapshots.ErrTruncated, off, off+n, size)
	}
	if n > snapshots.MaxNotes {
		return fmt.Errorf("%w: %d bytes of notes", snapshots.ErrCorrupt, n)
	}
	b := make([]byte, n)
	if err := snapshots.ReadFull(f.r, b, int64(off)); err != nil {
		return fmt.Errorf("notes: %w", err)
	}
	align := 4
	// VirtualBox pads to 8 and does not count the name's NUL.
	if len(b) > 18 && string(b[12:12+len(vboxNoteCore)]) == vboxNoteCore {
		align = 8
	}
	notes, err := snapshots.ParseNotes(b, align)
	f.notes = append(f.notes, notes...)
	return err
}

// vboxCPUs reads DBGFCORECPU (include/VBox/vmm/dbgfcorefmt.h), the part before the MSRs that later versions added.
func vboxCPUs(notes []snapshots.Note) []snapshots.CPU {
	const sel, crs, gdtr, msrs, size = 144, 288, 384, 488, 544
	var cpus []snapshots.CPU
	for _, n := range notes {
		if n.Name != vboxNoteCPU || len(n.Data) < size {
			continue
		}
		u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(n.Data[at:]) }
		seg := func(at int) snapshots.Segment {
			p := n.Data[at:]
			return snapshots.Segment{
				Base: binary.LittleEndian.Uint64(p), Limit: binary.LittleEndian.Uint32(p[8:]),
				Attributes: binary.LittleEndian.Uint32(p[12:]), Selector: binary.LittleEndian.Uint16(p[16:]),
			}
		}
		c := snapshots.CPU{Has: snapshots.HasGeneral | snapshots.HasControl | snapshots.HasSegments |
			snapshots.HasSyscall | snapshots.HasKernelGSBase}
		for i, r := range []int{
			snapshots.RAX, snapshots.RBX, snapshots.RCX, snapshots.RDX, snapshots.RSI, snapshots.RDI, snapshots.R8,
			snapshots.R9, snapshots.R10, snapshots.R11, snapshots.R12, snapshots.R13, snapshots.R14, snapshots.R15,
		} {
			c.GPR[r] = u64(8 * i)
		}
		c.RIP, c.GPR[snapshots.RSP], c.GPR[snapshots.RBP], c.RFLAGS = u64(112), u64(120), u64(128), u64(136)
		for i, r := range []int{snapshots.CS, snapshots.DS, snapshots.ES, snapshots.FS, snapshots.GS, snapshots.SS} {
			c.Seg[r] = seg(sel + 24*i)
		}
		c.CR0, c.CR2, c.CR3, c.CR4 = u64(crs), u64(crs+8), u64(crs+16), u64(crs+24)
		limit := func(at int) uint32 { return binary.LittleEndian.Uint32(n.Data[at:]) }
		c.GDTR = snapshots.Table{Base: u64(gdtr), Limit: limit(gdtr + 8)}
		c.IDTR = snapshots.Table{Base: u64(gdtr + 16), Limit: limit(gdtr + 24)}
		c.LDTR, c.TR = seg(gdtr+32), seg(gdtr+56)
		c.EFER, c.STAR, c.LSTAR, c.CSTAR = u64(msrs), u64(msrs+8), u64(msrs+24), u64(msrs+32)
		c.SFMASK, c.KernelGSBase = u64(msrs+40), u64(msrs+48)
		cpus = append(cpus, c)
	}
	return cpus
}

// Format returns "elf" or "vbox".
func (f *File) Format() string { return f.format }

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
