package cpu

import (
	"fmt"
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

// Config says what a CPU is connected to and which model it is.
type Config struct {
	Memory   Memory
	Platform vcpu.Platform
	// Features are the instruction-set extensions that decode and that CPUID reports; 0 means DefaultFeatures.
	Features isa.FeatureSet
	// Model are the features that bring no instructions; 0 means DefaultModel.
	Model Model
	// PhysBits is MAXPHYADDR (SDM vol. 3A, 4.1.4), 36 to 52; 0 means 40.
	PhysBits uint8
	// APICID is the initial local APIC ID that CPUID reports.
	APICID uint8
	// Seed starts the generator behind RDRAND and RDSEED.
	Seed uint64
}

// CPU is one emulated processor. It implements vcpu.VCPU.
type CPU struct {
	// r is the register file: RAX to R15, then RegNone (always zero) and RegRIP (the address of the running block).
	// It is longer than needed so that masking an index by 31 needs no bounds check.
	r   [32]uint64
	f   lazyFlags
	rip uint64
	// flags holds RFLAGS without the six arithmetic flags and without bit 1. It is changed by setRFLAGS and
	// setSystemFlags only, except for DF.
	flags uint64
	// ctx is the translation context in the top 12 bits of TLB tags; see tlb_unsafe.go.
	ctx uint64
	// until and icount: Run executes until icount reaches until.
	icount uint64
	until  uint64

	stop stopReason
	// alone is set while an instruction is executed outside its block and may touch devices and decoded code.
	alone bool
	// tracking says that taint is on and has met something tainted; see track.go.
	tracking bool
	cpl      uint8
	// mode is the decoding mode of the code segment.
	mode isa.Mode
	// rights has, for each segment register, bit 0 set if it can be read and bit 1 if it can be written, between 0 and
	// its limit.
	rights [8]uint8
	// attention is a set of attention bits that Run looks at before each block.
	attention atomic.Uint32

	tlbR, tlbW [tlbSize]tlbEntry
	itlb       [itlbSize]itlbEntry
	jumps      [jumpSize]jumpEntry
	// pfnR and pfnW are the physical page numbers of the entries of tlbR and tlbW, for the taint engine.
	pfnR, pfnW [tlbSize]uint64
	track      *tracker     // nil if taint is off
	redir      *redirection // nil if there is no other machine
	eventCode  bool         // the last event had an error code

	// seg is changed by setSegment only.
	seg  [6]vcpu.Segment
	ldtr vcpu.Segment
	tr   vcpu.Segment
	gdtr vcpu.Table
	idtr vcpu.Table

	cr0, cr2, cr3, cr4 uint64
	dr                 [8]uint64
	msr                vcpu.MSRs
	// random is the state of the generator behind RDRAND.
	random uint64

	fpu   fpuState
	sfEnv softfloat.Env

	exc exception
	// ext is the EXT bit of error codes that arise while an event is delivered (SDM vol. 3A, 6.13).
	ext    uint32
	detail string
	halted bool
	// shadow blocks interrupts for one instruction after STI; shadowSS also blocks debug traps, after MOV SS and POP SS.
	shadow     bool
	shadowSS   bool
	intr       bool
	nmi        bool
	nmiBlocked bool
	// stepping says that RFLAGS.TF was set when the instruction began.
	stepping bool
	// pendingDB collects DR6 bits of traps (single step, data breakpoints) to be raised after the instruction.
	pendingDB uint64
	debug     debugState

	code codeCache
	// key is currentKey, kept while nothing changes it.
	key blockKey
	// unchain makes Run look the next block up, since mode, translation or privilege changed.
	unchain bool
	table   *table

	mmu    mmuState
	plat   vcpu.Platform
	mem    Memory
	feat   isa.FeatureSet
	model  Model
	apicID uint8
	stats  Stats

	// branches are the last block entries, a ring.
	branches [branchCount]uint64
	branch   uint64
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

// New returns a CPU in its reset state.
func New(cfg Config) *CPU {
	c := &CPU{plat: cfg.Platform, mem: cfg.Memory, feat: cfg.Features, model: cfg.Model, apicID: cfg.APICID}
	if c.feat == 0 {
		c.feat = DefaultFeatures
	}
	if c.model == 0 {
		c.model = DefaultModel
	}
	bits := cfg.PhysBits
	if bits == 0 {
		bits = 40
	}
	c.mmu.physBits = min(max(bits, 36), 52)
	c.mmu.physMask = 1<<c.mmu.physBits - 1
	c.random = cfg.Seed
	c.table = newTable()
	c.code.pages = map[uint64]*codePage{}
	c.Reset()
	return c
}

// Stats returns the counters.
func (c *CPU) Stats() Stats { return c.stats }

// Reset puts the processor into the state after RESET (SDM vol. 3A, table 9-1). Instructions and the random generator go on.
func (c *CPU) Reset() {
	s := vcpu.State{
		RIP:          0xfff0,
		RFLAGS:       2,
		CR0:          cr0ET | cr0NW | cr0CD,
		GDTR:         vcpu.Table{Limit: 0xffff},
		IDTR:         vcpu.Table{Limit: 0xffff},
		LDTR:         vcpu.Segment{Limit: 0xffff, Attr: 0x82},
		TR:           vcpu.Segment{Limit: 0xffff, Attr: 0x8b},
		Instructions: c.icount,
		Random:       c.random,
	}
	s.GPR[isa.RDX] = uint64(c.signature())
	for i := range s.Seg {
		s.Seg[i] = vcpu.Segment{Limit: 0xffff, Attr: 0x93}
	}
	s.Seg[isa.CS].Selector, s.Seg[isa.CS].Base = 0xf000, 0xffff0000
	s.DR[6], s.DR[7] = dr6Fixed, dr7Fixed
	s.FPU = vcpu.FPU{Control: 0x40, Tag: 0xff, MXCSR: 0x1f80, XCR0: 1}
	s.MSR.PAT = 0x0007040600070406
	s.MSR.MiscEnable = 1 // fast strings
	if err := c.SetState(s); err != nil {
		panic("cpu: reset state refused: " + err.Error()) // the emulator's own mistake
	}
}

// State implements vcpu.VCPU.
func (c *CPU) State() vcpu.State {
	s := vcpu.State{
		RIP: c.rip, RFLAGS: c.RFLAGS(), Seg: c.seg, LDTR: c.ldtr, TR: c.tr, GDTR: c.gdtr, IDTR: c.idtr,
		CR0: c.cr0, CR2: c.cr2, CR3: c.cr3, CR4: c.cr4, PDPTE: c.mmu.pdpte, DR: c.dr, MSR: c.msr,
		Halted: c.halted, NMIBlocked: c.nmiBlocked, NMIPending: c.nmi,
		InterruptShadow: c.shadow || c.shadowSS, MovSSShadow: c.shadowSS, PendingDB: c.pendingDB,
		Instructions: c.icount, Random: c.random,
	}
	copy(s.GPR[:], c.r[:16])
	s.FPU = c.fpu.state()
	return s
}

// SetState implements vcpu.VCPU. It refuses states that no sequence of instructions leads to and that would confuse
// the emulator.
func (c *CPU) SetState(s vcpu.State) error {
	switch {
	case s.CR0&cr0PG != 0 && s.CR0&cr0PE == 0:
		return fmt.Errorf("cpu: CR0 %#x has paging without protection", s.CR0)
	case s.CR0&cr0PG != 0 && s.MSR.EFER&eferLMA != 0 && s.CR4&cr4PAE == 0:
		return fmt.Errorf("cpu: EFER %#x has long mode without CR4.PAE", s.MSR.EFER)
	case s.MSR.EFER&eferLMA != 0 && s.CR0&cr0PG == 0:
		return fmt.Errorf("cpu: EFER %#x has long mode without paging", s.MSR.EFER)
	case s.CR4&^c.cr4Allowed() != 0:
		return fmt.Errorf("cpu: CR4 %#x has bits that this model lacks: %#x", s.CR4, s.CR4&^c.cr4Allowed())
	case s.FPU.XCR0&^xcr0Allowed != 0:
		return fmt.Errorf("cpu: XCR0 %#x has bits that this model lacks", s.FPU.XCR0)
	}
	copy(c.r[:16], s.GPR[:])
	c.rip = s.RIP
	c.ldtr, c.tr, c.gdtr, c.idtr = s.LDTR, s.TR, s.GDTR, s.IDTR
	c.cr0, c.cr2, c.cr3, c.cr4 = s.CR0|cr0ET, s.CR2, s.CR3, s.CR4
	c.mmu.pdpte = s.PDPTE
	c.dr, c.msr = s.DR, s.MSR
	c.dr[6] = c.dr[6]&dr6Writable | dr6Fixed
	c.dr[7] = c.dr[7]&dr7Writable | dr7Fixed
	c.fpu.setState(&s.FPU)
	c.halted, c.nmiBlocked, c.nmi = s.Halted, s.NMIBlocked, s.NMIPending
	c.shadow, c.shadowSS = s.InterruptShadow, s.MovSSShadow
	c.pendingDB, c.stepping = s.PendingDB, false
	c.icount, c.random = s.Instructions, s.Random
	c.exc, c.stop, c.alone = exception{}, stopNone, false

	for i := range s.Seg {
		c.setSegment(uint8(i), s.Seg[i])
	}
	c.f.setWord(s.RFLAGS)
	c.flags = s.RFLAGS & flagsSystem
	c.cpl = 0
	switch {
	case c.vm86():
		c.cpl = 3
	case c.cr0&cr0PE != 0:
		c.cpl = uint8(s.Seg[isa.SS].Attr >> vcpu.AttrDPLShift & 3)
	}
	c.recycleCode()
	c.flushAll()
	c.pagingChanged()
	c.refresh()
	c.debugChanged()
	c.setAttention(attShadow, c.shadow || c.shadowSS)
	c.setAttention(attNMI, c.nmi && !c.nmiBlocked)
	c.flagsChanged()
	return nil
}

// SetRegisters is SetState for a processor that last executed an instruction without an exception, when nothing but these registers has
// changed since, nor any code. Translations are forgotten.
func (c *CPU) SetRegisters(gpr *[16]uint64, rip, rflags, cr3 uint64) {
	copy(c.r[:16], gpr[:])
	c.rip = rip
	c.f.setWord(rflags)
	c.flags = rflags & flagsSystem
	c.flagsChanged()
	c.setCR3(cr3, false)
	c.refresh()
}

// InterruptsEnabled implements vcpu.VCPU.
func (c *CPU) InterruptsEnabled() bool { return c.flags&FlagIF != 0 }

// SetINTR implements vcpu.VCPU.
func (c *CPU) SetINTR(level bool) {
	c.intr = level
	c.setAttention(attINTR, level && c.flags&FlagIF != 0)
}

// SetNMI implements vcpu.VCPU.
func (c *CPU) SetNMI() {
	c.nmi = true
	c.setAttention(attNMI, !c.nmiBlocked)
}

// setAttention makes an attention bit say whether on holds.
func (c *CPU) setAttention(bit uint32, on bool) {
	if (c.attention.Load()&bit != 0) == on {
		return
	}
	if on {
		c.attend(bit)
	} else {
		c.unattend(bit)
	}
}

// flagsSystem are the bits of RFLAGS that c.flags holds.
const flagsSystem = FlagTF | FlagIF | FlagDF | FlagIOPL | FlagNT | FlagRF | FlagVM | FlagAC | FlagVIF | FlagVIP | FlagID

// setRFLAGS replaces RFLAGS as a whole; who may change which bit is the caller's business.
func (c *CPU) setRFLAGS(v uint64) {
	c.f.setWord(v)
	c.setSystemFlags(v)
}

// setSystemFlags replaces RFLAGS except for the six arithmetic flags.
func (c *CPU) setSystemFlags(v uint64) {
	v &= flagsSystem
	changed := v ^ c.flags
	c.flags = v
	if changed&(FlagTF|FlagIF|FlagRF) != 0 {
		c.flagsChanged()
	}
	if changed&FlagVM != 0 {
		c.refresh()
	} else if changed&FlagAC != 0 {
		c.updateContext()
	}
}

// flagsChanged derives the attention bits from c.flags.
func (c *CPU) flagsChanged() {
	c.setAttention(attINTR, c.intr && c.flags&FlagIF != 0)
	c.setAttention(attStep, c.flags&(FlagTF|FlagRF) != 0)
}

// refresh derives what follows from the code and stack segments, CPL and control registers: decoding mode, block key,
// translation context.
func (c *CPU) refresh() {
	switch cs := c.seg[isa.CS].Attr; {
	case c.vm86():
		c.mode = isa.Mode16
	case c.longMode() && cs&vcpu.AttrL != 0:
		c.mode = isa.Mode64
	case cs&vcpu.AttrDB != 0:
		c.mode = isa.Mode32
	default:
		c.mode = isa.Mode16
	}
	c.key = c.currentKey()
	c.updateContext()
	c.unchain = true
}

// longMode reports IA-32e mode, 64-bit or compatibility.
func (c *CPU) longMode() bool { return c.msr.EFER&eferLMA != 0 }

// vm86 reports virtual-8086 mode.
func (c *CPU) vm86() bool { return c.flags&FlagVM != 0 }

// protected reports protected mode without virtual-8086 mode: selectors name descriptors.
func (c *CPU) protected() bool { return c.cr0&cr0PE != 0 && c.flags&FlagVM == 0 }

// iopl returns the I/O privilege level.
func (c *CPU) iopl() uint8 { return uint8(c.flags >> 12 & 3) }

// stackSize is the width of the stack pointer in bytes (SDM vol. 1, 6.2.3).
func (c *CPU) stackSize() uint8 {
	switch {
	case c.mode == isa.Mode64:
		return 8
	case c.seg[isa.SS].Attr&vcpu.AttrDB != 0:
		return 4
	default:
		return 2
	}
}
