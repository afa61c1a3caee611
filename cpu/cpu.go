package cpu

import (
	"sync/atomic"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/softfloat"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Memory is guest RAM as the CPU sees it.
type Memory interface {
	// Page returns the 4 KiB of RAM (or ROM) at the physical address pa, which is page-aligned, and whether it may be
	// written; nil where there is none, so that accesses go to Platform.ReadMMIO. The memory must stay where it is.
	Page(pa uint64) (page *[4096]byte, writable bool)
}

// CPU is one emulated processor. It implements vcpu.VCPU.
type CPU struct {
	// r is the register file: RAX to R15, then RegNone (always zero) and RegRIP (the address of the running block).
	// It is longer than needed so that masking an index by 31 needs no bounds check.
	r   [32]uint64
	f   lazyFlags
	rip uint64
	// flags holds RFLAGS without the six arithmetic flags and without bit 1.
	flags uint64
	// ctx is the translation context in the top 12 bits of TLB tags; see tlb_unsafe.go.
	ctx uint64
	// until and icount: Run executes until icount reaches until.
	icount uint64
	until  uint64

	stop stopReason
	// alone is set while an instruction is executed outside its block and may touch devices and decoded code.
	alone bool
	cpl   uint8
	// mode is the decoding mode of the code segment.
	mode isa.Mode
	// attention is a set of attention bits that Run looks at before each block.
	attention atomic.Uint32

	tlbR, tlbW [tlbSize]tlbEntry
	itlb       [itlbSize]itlbEntry

	seg  [6]vcpu.Segment
	ldtr vcpu.Segment
	tr   vcpu.Segment
	gdtr vcpu.Table
	idtr vcpu.Table

	cr0, cr2, cr3, cr4 uint64
	dr                 [8]uint64
	msr                vcpu.MSRs

	fpu   fpuState
	sfEnv softfloat.Env

	exc    exception
	detail string
	halted bool
	// shadow blocks interrupts for one instruction after STI and MOV SS.
	shadow     bool
	intr       bool
	nmi        bool
	nmiBlocked bool
	// pendingDB collects DR6 bits of traps (single step, data breakpoints) to be raised after the instruction.
	pendingDB uint64

	code codeCache
	// key is currentKey, kept while nothing changes it.
	key blockKey
	// unchain makes Run look the next block up, since mode, translation or privilege changed.
	unchain bool
	table   *table

	mmu   mmuState
	plat  vcpu.Platform
	mem   Memory
	feat  isa.FeatureSet
	stats Stats
}

// Stats are counters since reset, for --stats.
type Stats struct {
	BlocksExecuted, BlocksBuilt uint64
	TLBMisses                   uint64
	Exceptions                  [32]uint64
	Interrupts                  uint64
	PortExits, MMIOExits        uint64
	CodeDrops                   uint64
}
