package snapshots

import (
	"errors"
	"io"
)

// Errors that readers wrap.
var (
	// ErrFormat means that a file is not of the reader's format.
	ErrFormat = errors.New("not of this format")
	// ErrTruncated means that a file ends before what its headers promise.
	ErrTruncated = errors.New("the file is truncated")
	// ErrCorrupt means that a file contradicts itself.
	ErrCorrupt = errors.New("the file is corrupt")
	// ErrUnsupported means that a file is well-formed but uses something that emu does not read.
	ErrUnsupported = errors.New("not supported")
	// ErrNoMemory is returned for physical addresses at which the machine has no memory, as far as the file says.
	ErrNoMemory = errors.New("no memory at that address")
	// ErrNotSaved is returned for memory that the machine has and the file left out (free or cached pages, say).
	ErrNotSaved = errors.New("that memory was not saved")
)

// Range is a range of guest physical memory.
type Range struct {
	Base, Size uint64 // bytes
}

// Reader reads guest physical memory.
type Reader interface {
	// ReadPhysical copies len(p) bytes of memory from physical address pa. An error wraps ErrNoMemory or ErrNotSaved if
	// any of them is not in the snapshot; p's content is then undefined. It is safe for concurrent use.
	ReadPhysical(p []byte, pa uint64) error
}

// Snapshot is an open memory snapshot.
type Snapshot interface {
	Reader
	io.Closer
	// Format returns the format's name, such as "elf" or "kdump".
	Format() string
	// Ranges returns the memory that the file is about, in ascending order, disjoint and not touching each other. Pages
	// inside may still read as ErrNotSaved. The caller must not change the slice.
	Ranges() []Range
	// CPUs returns the processors of which the file holds state, in the file's order; often none.
	CPUs() []CPU
	// Notes returns what else the file says about the machine.
	Notes() []Note
}

// Mapper is a Snapshot whose memory lies uncompressed in its file, so that it can be mapped instead of copied.
type Mapper interface {
	// Mapping returns where in the file the byte at physical address pa is and how many bytes from there on belong to
	// consecutive addresses. Neither need be aligned to pages.
	Mapping(pa uint64) (offset int64, length uint64, ok bool)
}

// Note is a named piece of data in the container, such as an ELF note.
type Note struct {
	Name string
	Type uint32
	Data []byte
}

// NoteVMCoreInfo is the name of the note with the kernel's own description of itself (Linux,
// Documentation/admin-guide/kdump/vmcoreinfo.rst).
const NoteVMCoreInfo = "VMCOREINFO"

// FindNote returns the data of the first note of that name, or nil.
func FindNote(notes []Note, name string) []byte {
	for _, n := range notes {
		if n.Name == name {
			return n.Data
		}
	}
	return nil
}

// Has says which fields of a CPU the container held.
type Has uint8

// Groups of registers.
const (
	HasGeneral      Has = 1 << iota // GPR, RIP, RFLAGS
	HasControl                      // CR0, CR2, CR3, CR4
	HasSegments                     // Seg, LDTR, TR, GDTR, IDTR with their bases
	HasSyscall                      // EFER, STAR, LSTAR, CSTAR, SFMASK
	HasKernelGSBase                 // KernelGSBase
)

// Numbers of general registers, in encoding order (Intel SDM vol. 2A, 2.1.5).
const (
	RAX = iota
	RCX
	RDX
	RBX
	RSP
	RBP
	RSI
	RDI
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
)

// Numbers of segment registers, in encoding order.
const (
	ES = iota
	CS
	SS
	DS
	FS
	GS
)

// Segment is a segment register with its hidden part. Attributes are in the container's own form.
type Segment struct {
	Selector   uint16
	Base       uint64
	Limit      uint32
	Attributes uint32
}

// Table is a descriptor table register.
type Table struct {
	Base  uint64
	Limit uint32
}

// CPU is the state of one processor, as far as Has says.
type CPU struct {
	Has    Has
	GPR    [16]uint64
	RIP    uint64
	RFLAGS uint64

	CR0, CR2, CR3, CR4 uint64

	Seg        [6]Segment
	LDTR, TR   Segment
	GDTR, IDTR Table

	EFER, STAR, LSTAR, CSTAR, SFMASK uint64
	KernelGSBase                     uint64 // the MSR: the other half of SWAPGS
}
