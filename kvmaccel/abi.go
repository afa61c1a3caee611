package kvmaccel

// The structures and numbers of <linux/kvm.h> for x86. A test compares the sizes with those that the ioctl numbers carry.

const apiVersion = 12

// Numbers of the ioctls: direction, size of the argument, 0xAE and the number (API, asm-generic/ioctl.h).
const (
	kvmGetAPIVersion      = 0xae00
	kvmCreateVM           = 0xae01
	kvmCheckExtension     = 0xae03
	kvmGetVCPUMmapSize    = 0xae04
	kvmGetSupportedCPUID  = 0xc008ae05
	kvmCreateVCPU         = 0xae41
	kvmSetUserMemory      = 0x4020ae46
	kvmSetTSSAddr         = 0xae47
	kvmSetIdentityMapAddr = 0x4008ae48
	kvmRun                = 0xae80
	kvmGetRegs            = 0x8090ae81
	kvmSetRegs            = 0x4090ae82
	kvmGetSregs           = 0x8138ae83
	kvmSetSregs           = 0x4138ae84
	kvmInterrupt          = 0x4004ae86
	kvmGetMSRs            = 0xc008ae88
	kvmSetMSRs            = 0x4008ae89
	kvmSetSignalMask      = 0x4004ae8b
	kvmSetCPUID2          = 0x4008ae90
	kvmNMI                = 0xae9a
	kvmGetVCPUEvents      = 0x8040ae9f
	kvmSetVCPUEvents      = 0x4040aea0
	kvmGetDebugRegs       = 0x8080aea1
	kvmSetDebugRegs       = 0x4080aea2
	kvmSetTSCKHz          = 0xaea2
	kvmGetTSCKHz          = 0xaea3
	kvmEnableCap          = 0x4068aea3
	kvmGetXSave           = 0x9000aea4
	kvmSetXSave           = 0x5000aea5
	kvmGetXCRs            = 0x8188aea6
	kvmSetXCRs            = 0x4188aea7
	kvmSetMSRFilter       = 0x4188aec6
	kvmGetSregs2          = 0x8140aecc
	kvmSetSregs2          = 0x4140aecd
)

// Capabilities.
const (
	capUserMemory     = 3
	capSetTSSAddr     = 4
	capExtCPUID       = 7
	capUserNMI        = 22
	capIdentityMap    = 37
	capVCPUEvents     = 41
	capDebugRegs      = 50
	capXSave          = 55
	capXCRs           = 56
	capTSCControl     = 60
	capGetTSCKHz      = 61
	capReadonlyMemory = 81
	capImmediateExit  = 136
	capUserSpaceMSR   = 188
	capMSRFilter      = 189
	capSregs2         = 200
)

// Reasons for which KVM_RUN returns.
const (
	exitUnknown       = 0
	exitIO            = 2
	exitHLT           = 5
	exitMMIO          = 6
	exitIRQWindow     = 7
	exitShutdown      = 8
	exitFailEntry     = 9
	exitIntr          = 10
	exitSetTPR        = 11
	exitInternalError = 17
	exitRDMSR         = 29
	exitWRMSR         = 30
)

var exitNames = map[uint32]string{
	exitUnknown: "unknown", 1: "exception", exitIO: "port", 3: "hypercall", 4: "debug", exitHLT: "halt", exitMMIO: "memory-mapped register",
	exitIRQWindow: "interrupt window", exitShutdown: "shutdown", exitFailEntry: "failed entry", exitIntr: "kick", exitSetTPR: "task priority",
	exitInternalError: "internal error", 24: "system event", exitRDMSR: "read of an MSR", exitWRMSR: "write of an MSR",
}

// runPage is struct kvm_run, which user space and the kernel share.
type runPage struct {
	requestInterruptWindow uint8
	immediateExit          uint8
	_                      [6]uint8
	exitReason             uint32
	readyForInterrupt      uint8
	ifFlag                 uint8
	flags                  uint16
	cr8                    uint64
	apicBase               uint64
	exit                   [256]byte // depends on exitReason
	validRegs, dirtyRegs   uint64
	syncRegs               [2048]byte
}

// kvmRegs is struct kvm_regs. GPR are in KVM's order: see gprOrder.
type kvmRegs struct {
	GPR    [16]uint64
	RIP    uint64
	RFLAGS uint64
}

type kvmSegment struct {
	Base                                 uint64
	Limit                                uint32
	Selector                             uint16
	Type, Present, DPL, DB, S, L, G, AVL uint8
	Unusable                             uint8
	_                                    uint8
}

type kvmTable struct {
	Base  uint64
	Limit uint16
	_     [3]uint16
}

// kvmSregs2 is struct kvm_sregs2. struct kvm_sregs begins alike and has interrupts, which are not used here, in place of
// Flags and PDPTRs.
type kvmSregs2 struct {
	CS, DS, ES, FS, GS, SS  kvmSegment
	TR, LDT                 kvmSegment
	GDT, IDT                kvmTable
	CR0, CR2, CR3, CR4, CR8 uint64
	EFER                    uint64
	APICBase                uint64
	Flags                   uint64
	PDPTRs                  [4]uint64
}

const (
	sregsSize         = 312
	sregs2PDPTRsValid = 1
)

type kvmDebugRegs struct {
	DB       [4]uint64
	DR6, DR7 uint64
	Flags    uint64
	_        [9]uint64
}

// kvmXSave is an XSAVE area in standard form. KVM's may be larger for features that must be enabled first.
type kvmXSave [4096]byte

type kvmXCRs struct {
	N     uint32
	Flags uint32
	XCR   [16]struct {
		Number uint32
		_      uint32
		Value  uint64
	}
	_ [16]uint64
}

type kvmEvents struct {
	ExceptionInjected, Exception, ExceptionHasCode, ExceptionPending uint8
	ExceptionCode                                                    uint32
	InterruptInjected, Interrupt, InterruptSoft, Shadow              uint8
	NMIInjected, NMIPending, NMIMasked                               uint8
	_                                                                uint8
	SIPI                                                             uint32
	Flags                                                            uint32
	SMI                                                              [4]uint8
	TripleFault                                                      uint8
	_                                                                [26]uint8
	HasPayload                                                       uint8
	Payload                                                          uint64
}

// Bits of kvmEvents.Flags and Shadow.
const (
	eventsNMIPending = 1 << 0
	eventsShadow     = 1 << 2
	shadowMovSS      = 1
	shadowSTI        = 2
)

type kvmMSR struct {
	Index uint32
	_     uint32
	Value uint64
}

const maxMSRs = 16

type kvmMSRs struct {
	N   uint32
	_   uint32
	MSR [maxMSRs]kvmMSR
}

type kvmCPUIDEntry struct {
	Leaf, Sub, Flags   uint32
	EAX, EBX, ECX, EDX uint32
	_                  [3]uint32
}

const (
	maxCPUID              = 512
	cpuidSignificantIndex = 1
)

type kvmCPUID struct {
	N     uint32
	_     uint32
	Entry [maxCPUID]kvmCPUIDEntry
}

type kvmMemoryRegion struct {
	Slot, Flags uint32
	Guest, Size uint64
	Host        uint64
}

const memoryReadonly = 2

type kvmCap struct {
	Cap, Flags uint32
	Args       [4]uint64
	_          [64]byte
}

// Reasons for which a guest's access to an MSR comes to user space.
const (
	msrInvalid  = 1
	msrUnknown  = 2
	msrFiltered = 4
)

const (
	filterDefaultDeny = 1
	filterRead        = 1
	filterWrite       = 2
)

// msrRange says which accesses of KVM's the MSRs from Base on are.
type msrRange struct {
	Flags, N, Base uint32
	Bitmap         *uint64
}

type kvmMSRFilter struct {
	Flags uint32
	Range [16]msrRange
}

type kvmSignalMask struct {
	Len  uint32
	Mask [8]byte
}
