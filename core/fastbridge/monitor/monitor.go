// Package monitor is FAST-BRIDGE's code in the guest, which owns the breakpoint and page-fault vectors within scopes: see
// monitor.asm. Start at Image.
package monitor

import _ "embed"

//go:generate nasm -f bin -o monitor.bin monitor.asm

// Image is the code and its data, to be mapped at Base.
//
//go:embed monitor.bin
var Image []byte

// Base is the linear address of the monitor: a part of the last GiB that Linux leaves alone
// (Documentation/arch/x86/x86_64/mm.rst).
const Base = 0xffffffffffc00000

// Entry points, by offset from Base.
const (
	Enter         = 0x00
	Breakpoint    = 0x08
	PageFault     = 0x10
	Resume        = 0x18
	Locate        = 0x20
	LocateCPU     = 0x28
	Asked         = 0x30
	CleanInt3     = 0x38
	LeaveView     = 0x40
	LocateOnStack = 0x48
	Vectors       = 0x80 // 16 bytes each
)

// Port is the I/O port by which the guest asks the host, and what it writes there: an exception's vector, or one of these.
const (
	Port       = 0x8d00
	CauseEnter = 0x100
	CauseUser  = 0x101
)

// Offsets of the data, which the host fills in and the monitor leaves behind, from Base.
const (
	data = 0x3000

	DoSyscall     = data + 8*(iota-1) // the kernel's do_syscall_64
	SyscallReturn                     // where it returns to
	GetUser                           // __get_user_nocheck_1
	PutUser                           // __put_user_nocheck_1
	PageOffset                        // of the direct map
	AddressMask                       // of the address in CR3
	ViewIDT                           // pseudo-descriptor, 16 bytes
	_
	CleanIDT
	_
	ExitAlways // each breakpoint asks the host
	Current    // the scope
	Frame      // where the registers were saved
	Regs       // arguments of do_syscall_64
	Number
	Root  // CR3 when the guest asked
	Fault // CR2
	NextScope
	NextRoot
	NextClean
	Subtrees // counters
	Interrupts
	Hooks
	DirectLimit // sizes of the direct map and of vmemmap, and where in them the trusted VM's part begins
	Boundary
	Vmemmap
	VmemmapLimit
	VmemmapBoundary
	CurrentStack // the lowest address of the kernel stack on which a scope runs
	_
	Text // the kernel's text, its size, its copy, and how far away that is
	TextSize
	Copy
	CopyDelta
	SlotShift // of an address, to its number among Aliases
	Clean
	OnceLeft // how many calls of such functions have room yet
	// FileFields are slowbridge.FileFields in its order.
	FileFields
	_
	_
	_
	_
	_
	_
	_
	_
	_
	_
	_
	ProcType // the struct file_system_type of proc
	Chosen   // counts system calls that have a scope
	Routines // addresses of Locate and LeaveView, for code that is far away
	_
	Continued // counts int3 with ActionContinue
	SMAP      // the kernel has no access to user memory but between STAC and CLAC
	_
	Aliases // by entry of the root of the page tables: how far away its alias is, 0 if there is none; 512 of 8 bytes
)

// More data, whose sizes are other ones.
const (
	Calls    = Aliases + 512*8 // a bit for each system call that is to ask: 128 bytes
	Handlers = Calls + 128     // of the interrupts, 8 bytes each
	// Once has the calls of functions with SkipOnce: function and argument.
	Once        = Handlers + 256*8
	OnceEntries = 4096
	// Rows has a byte for each system call: which row of Scopes it has, 0 if it is to ask. The kind of its file is the column: 0 for the
	// snapshot's, or the number in Types of its struct file_system_type.
	Rows = Once + 16*OnceEntries
	// Kinds and MaxRows are the numbers of columns and rows.
	Kinds   = 8
	MaxRows = 64
	Types   = Rows + 1024
	// Scopes are addresses of scopes; 0 is to ask, 1 is none.
	Scopes = Types + 8*Kinds
	// PathRows has 2 bytes for each system call whose scope hangs on paths: which of Programs it has, 0 if none. Programs are addresses of lists
	// of rules, of which the first that matches counts.
	PathRows    = Scopes + 8*Kinds*MaxRows
	Programs    = PathRows + 2*1024
	MaxPrograms = 512
	path        = Programs + 8*MaxPrograms
	// Substitutes are words of 8 bytes, up to the end of the monitor's MiB.
	Substitutes = path + 256
)

// Offsets in a saved frame: the general registers in the order of saving, then vector, error code and what the CPU pushed.
const (
	FrameVector = 120
	FrameError  = 128
	FrameRIP    = 136
	FrameFlags  = 152
	FrameRSP    = 160
	FrameSize   = 176
)

// Registers says where the frame has the registers, by their number in encoding order; RSP has its own place.
var Registers = [16]int{112, 104, 96, 88, FrameRSP, 80, 72, 64, 56, 48, 40, 32, 24, 16, 8, 0}

// Offsets in the lowest part of a kernel stack.
const (
	StackScope = 0x40
	StackClean = 0x48
	StackDepth = 0x50
	// StackReturns are the return addresses that Resume goes on to, at most MaxReturns.
	StackReturns = 0x58
	MaxReturns   = 32
)

// Offsets in a scope, and its size.
const (
	ScopeRootN = 8 * iota
	ScopeRootR
	ScopeTable
	ScopeMask
	ScopePGDN
	ScopePGDR
	ScopeRoots // the variables that are the snapshot's: where the list of ranges begins and ends
	ScopeRootsEnd
	ScopeCalls // counters
	ScopeDisplaced
	ScopeSize
)

// A site in a scope's table: its address, then what to do.
const (
	SiteSize   = 16
	SiteAction = 8
	SiteSkip   = 10 // of functions with a hook that lets them run: how long their first instruction is, which does nothing; and flags
	SiteBytes  = 11 // of the lock
	SiteValue  = 12 // 4 bytes: the result of an elided call, where the lock is in its object, or where displaced code is
)

// Parts of SiteSkip.
const (
	SkipBytes  = 15  // the length
	SkipSecond = 16  // the second argument counts, not the first
	SkipOthers = 32  // an argument that points to a variable is the trusted VM's
	SkipNever  = 64  // the function never runs
	SkipOnce   = 128 // it does not run when the first argument is new
)

// A rule: the scope, as in Scopes, the rule's size, where the argument is in struct pt_regs, and how many patterns follow. A rule without any is for all
// paths. A pattern has its length, its flags, and its bytes.
const (
	RuleScope    = 0  // 8 bytes
	RuleSize     = 8  // 4 bytes
	RuleArgument = 12 // 2 bytes
	RulePatterns = 14 // 2 bytes
	RuleHead     = 16
	PatternTree  = 1 // the path begins so
	PatternNot   = 2 // such a path is not meant
)

// A list of contexts: entries of the number of return addresses and of what they say, 2 bytes each, 4 bytes of nothing, and for each
// return address its depth (see metadata.Frame) and its lower half. ContextsEnd takes the place of a number.
const (
	ContextHead     = 8
	ContextFrame    = 8
	ContextLocal    = 1 // the operand is the trusted VM's, unless its address is a root
	ContextSnapshot = 2
	ContextEither   = 3 // any of them, if both have the same 8 bytes there
	ContextStack    = 4 // the snapshot's, and so it is on the current stack
	ContextsEnd     = 0xffff
)

// Actions. Anything else asks the host.
const (
	ActionLocal    = 2 // the function runs as it would outside scopes
	ActionElide    = 3 // the function returns, if its first argument is the snapshot's
	ActionLock     = 4 // the lock, if it is the snapshot's, is set free
	ActionDisplace = 5 // the code whose address the site has in SiteValue, sign-extended, executes the instruction
	ActionContinue = 6 // it goes on at the address of which the site has the lower half in SiteValue, in the last 4 GiB
)
