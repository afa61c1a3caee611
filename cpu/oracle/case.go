package oracle

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/isa"
)

// State is what a case begins and ends with: the user-visible registers.
type State struct {
	GPR            [16]uint64 // in encoding order
	RIP            uint64
	RFLAGS         uint64
	FSBase, GSBase uint64
	FX             [512]byte // x87, MMX and SSE, as FXSAVE64 stores them
}

// Offsets in an FXSAVE64 image (SDM vol. 1, table 10-2).
const (
	fxControl = 0
	fxStatus  = 2
	fxTag     = 4
	fxOpcode  = 6
	fxIP      = 8
	fxDP      = 16
	fxMXCSR   = 24
	fxST      = 32
	fxXMM     = 160
	fxUsed    = 416
)

// top returns the number of the physical register that is ST(0).
func (s *State) top() int { return int(s.FX[fxStatus+1] >> 3 & 7) }

// st returns the bytes of ST(i).
func (s *State) st(i int) []byte { return s.FX[fxST+16*i:][:10] }

// xmm returns the bytes of a vector register.
func (s *State) xmm(i int) []byte { return s.FX[fxXMM+16*i:][:16] }

func (s *State) mxcsr() uint32 { return binary.LittleEndian.Uint32(s.FX[fxMXCSR:]) }

// Patch is memory that a case begins with, other than the template's.
type Patch struct {
	Addr uint64
	Data []byte
}

// maxPatchBytes bounds the patches of a case, with 16 bytes for each.
const maxPatchBytes = recOutFlags - recPatch

// Case is one test: code and the state to run it in.
type Case struct {
	// Addr is the linear address of Code. Code ends with a jump to endAddress, unless it ends at the end of the mapped
	// memory.
	Addr    uint64
	Code    []byte
	In      State
	Patches []Patch
	// Insts are the instructions that the case is about, those that lead to the end and markers left out.
	Insts []CaseInst
	// Warm makes the emulator touch the data pages before, so that accesses hit its TLB.
	Warm bool

	buffer [maxPatchBytes - 24*16]byte // of the patches
}

// CaseInst is an instruction of a case.
type CaseInst struct {
	Addr uint64
	isa.Inst
	// Undef are the flags that are undefined after it, given those before.
	Undef isa.Flags
	// Arm is set if it is executed only if a branch is taken, or is not.
	Arm bool
}

// Exception vectors (SDM vol. 3A, table 6-1) and what stands for none and for no end.
const (
	NoFault     = -1
	Hang        = -2 // the case did not end
	Unsupported = -3 // the emulator says that it cannot

	vectorDE = 0
	vectorUD = 6
	vectorSS = 12
	vectorGP = 13
	vectorPF = 14
	vectorAC = 17
)

// Outcome is what a case ended with.
type Outcome struct {
	State
	// Vector is the exception that ended it, or NoFault.
	Vector int
	// Code is the error code, Address CR2 of a page fault.
	Code    uint32
	Address uint64
	// Data are the writable pages.
	Data []byte
	// Detail explains Unsupported.
	Detail string
}

// Template is what memory holds before a case's patches.
type Template struct {
	data [dataSize]byte
	ro   [roSize]byte
}

// NewTemplate makes the memory of a seed.
func NewTemplate(seed uint64) *Template {
	t := new(Template)
	r := newRNG(seed, 1<<63)
	fill := func(p []byte) {
		for len(p) > 0 {
			n := min(len(p), 16<<r.n(3))
			r.fill(p[:n], integers+flavour(r.n(4)))
			p = p[n:]
		}
	}
	fill(t.data[:])
	fill(t.ro[:])
	return t
}
