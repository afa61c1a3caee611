package vcpu

import "time"

// VCPU runs guest code until something happens. Run must be called from one goroutine at a time; only Interrupt
// may be called from others.
type VCPU interface {
	// Run executes until the instruction count reaches the deadline or an Exit other than that happens. The deadline
	// may be moved while running, by a device that sets a timer, through SetDeadline.
	Run(deadline uint64) Exit
	// SetDeadline bounds the Run in progress. It is called from device code that Run itself called.
	SetDeadline(deadline uint64)
	// Instructions returns how many instructions have been executed since reset, each iteration of a repeated string
	// instruction counted as one. A vCPU that cannot count them returns ticks of its time-stamp counter, which go on
	// while it does not run.
	Instructions() uint64
	// InterruptsEnabled returns RFLAGS.IF.
	InterruptsEnabled() bool
	// State returns a copy of the architectural state.
	State() State
	// SetState replaces the architectural state and drops everything derived from the old one.
	SetState(State) error
	// SetINTR is the level of the INTR pin, driven by the local APIC or the PIC.
	SetINTR(level bool)
	// SetNMI latches a non-maskable interrupt.
	SetNMI()
	// Stop makes Run return ExitStopped soon. It is safe for concurrent use.
	Stop()
}

// Platform is what a vCPU sees outside itself. All calls are made from Run, on its goroutine.
type Platform interface {
	// ReadMMIO and WriteMMIO access a physical address that is not RAM; size is 1, 2, 4 or 8 bytes. An address at which
	// there is nothing reads as all ones.
	ReadMMIO(pa uint64, size int) uint64
	WriteMMIO(pa uint64, size int, v uint64)
	// ReadPort and WritePort access an I/O port; size is 1, 2 or 4 bytes.
	ReadPort(port uint16, size int) uint32
	WritePort(port uint16, size int, v uint32)
	// AckInterrupt returns the vector of the interrupt that INTR announces and moves it into service.
	AckInterrupt() uint8
	// TaskPriority and SetTaskPriority are CR8, bits 7:4 of the local APIC's TPR.
	TaskPriority() uint8
	SetTaskPriority(uint8)
	// APICBase and SetAPICBase are the IA32_APIC_BASE MSR. SetAPICBase reports false for a value that the local APIC
	// rejects (#GP).
	APICBase() uint64
	SetAPICBase(uint64) bool
	// TSCDeadline and SetTSCDeadline are the IA32_TSC_DEADLINE MSR.
	TSCDeadline() uint64
	SetTSCDeadline(uint64)
	// TSC returns the time-stamp counter before TSC_ADJUST: guest time in ticks of 1 ns.
	TSC() uint64
	// TSCChanged tells that the guest has written IA32_TSC or IA32_TSC_ADJUST: a pending TSC deadline is at another time now.
	TSCChanged()
}

// Accelerated is a VCPU that is not the emulator: it executes on the host's processor, and its Instructions are time. It
// sees the memory in its slots; other addresses are the Platform's.
type Accelerated interface {
	VCPU
	// AddSlot lets the guest see mem at the guest-physical address pa. Both are multiples of 4 KiB, and mem stays mapped
	// until RemoveSlot or Close. What the guest writes to a read-only slot goes to the Platform.
	AddSlot(pa uint64, mem []byte, readOnly bool) error
	// RemoveSlot takes back the slot that was added at pa.
	RemoveSlot(pa uint64) error
	// Until returns the host's time until Instructions is n.
	Until(n uint64) time.Duration
	// Close ends the vCPU.
	Close() error
}

// CPUIDLeaf is what CPUID returns for a leaf, and for a subleaf if it is Indexed.
type CPUIDLeaf struct {
	Leaf, Sub          uint32
	Indexed            bool
	EAX, EBX, ECX, EDX uint32
}

// ExitReason says why Run returned.
type ExitReason uint8

// Exit reasons.
const (
	ExitDeadline    ExitReason = iota // the instruction count reached the deadline
	ExitHalt                          // HLT (or MWAIT) with no interrupt to take
	ExitShutdown                      // triple fault
	ExitStopped                       // Stop was called
	ExitBreakpoint                    // a debugger's breakpoint is at RIP (before it executes)
	ExitWatchpoint                    // a debugger's watchpoint was hit by the instruction before RIP
	ExitUnsupported                   // an instruction or state that the CPU does not implement: see Detail
	ExitRedirection                   // redirection cannot go on at Address: see Detail
)

// Exit is why and where a vCPU stopped.
type Exit struct {
	Reason  ExitReason
	Address uint64 // of the breakpoint or watchpoint, or of the instruction
	Detail  string // for ExitShutdown, ExitUnsupported and ExitRedirection: what happened
}

// Segment is a segment register with its hidden part (SDM vol. 3A, 3.4.3). Attr has the layout of bits 40-55 of a
// descriptor: type, S, DPL, P, then AVL, L, D/B, G in bits 12-15. Limit is in bytes, already scaled by G. A null or
// unusable segment has P clear.
type Segment struct {
	Selector uint16
	Attr     uint16
	Limit    uint32
	Base     uint64
}

// Attr bits of a Segment.
const (
	AttrTypeMask uint16 = 0xf
	AttrAccessed uint16 = 1 << 0
	AttrWritable uint16 = 1 << 1 // data: writable; code: readable
	AttrExpand   uint16 = 1 << 2 // data: expand down; code: conforming
	AttrCode     uint16 = 1 << 3
	AttrS        uint16 = 1 << 4
	AttrDPLShift        = 5
	AttrP        uint16 = 1 << 7
	AttrAVL      uint16 = 1 << 12
	AttrL        uint16 = 1 << 13
	AttrDB       uint16 = 1 << 14
	AttrG        uint16 = 1 << 15
)

// Table is GDTR or IDTR.
type Table struct {
	Base  uint64
	Limit uint16
}

// FPU is the x87, MMX and SSE state in architectural form. ST is in stack order of physical registers R0-R7 (not
// relative to TOP), each as 64-bit significand and sign-exponent word.
type FPU struct {
	ST         [8]F80
	Control    uint16
	Status     uint16 // TOP in bits 11-13
	Tag        uint8  // abridged: bit i set means that physical register i is not empty
	LastOpcode uint16
	LastIP     uint64
	LastCS     uint16
	LastDP     uint64
	LastDS     uint16
	XMM        [16][2]uint64 // low quadword first
	MXCSR      uint32
	XCR0       uint64
}

// F80 is an 80-bit extended real.
type F80 struct {
	Mant uint64
	SE   uint16
}

// State is the architectural state of one processor. It is a plain value: the form in which snapshots, gdb and KVM
// exchange it.
type State struct {
	GPR    [16]uint64 // in encoding order: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8-R15
	RIP    uint64
	RFLAGS uint64
	Seg    [6]Segment // ES, CS, SS, DS, FS, GS
	LDTR   Segment
	TR     Segment
	GDTR   Table
	IDTR   Table
	CR0    uint64
	CR2    uint64
	CR3    uint64
	CR4    uint64
	// PDPTE are the page-directory-pointer-table registers, loaded with CR3 under PAE paging (SDM vol. 3A, 4.4.1).
	PDPTE [4]uint64
	DR    [8]uint64 // DR4 and DR5 unused
	FPU   FPU
	MSR   MSRs

	Halted          bool
	NMIBlocked      bool
	NMIPending      bool
	InterruptShadow bool   // STI or MOV SS was the last instruction
	MovSSShadow     bool   // it was MOV SS or POP SS, which hold debug traps back too
	PendingDB       uint64 // bits of DR6 that a debug trap will set once MovSSShadow is over
	Instructions    uint64 // executed since reset
	Random          uint64 // state of the generator behind RDRAND
}

// MSRs are the model-specific registers that hold state (SDM vol. 4). Those of the local APIC are the platform's.
type MSRs struct {
	EFER         uint64
	STAR         uint64
	LSTAR        uint64
	CSTAR        uint64
	FMASK        uint64
	KernelGSBase uint64
	SysenterCS   uint64
	SysenterESP  uint64
	SysenterEIP  uint64
	PAT          uint64
	TSCAdjust    int64 // TSC that the guest reads minus the platform's TSC
	TSCAux       uint64
	MiscEnable   uint64
	MTRRDefType  uint64
	MTRRPhys     [16]uint64
	MTRRFixed    [11]uint64
	SpecCtrl     uint64
	MCGStatus    uint64
	DebugCtl     uint64
}
