package oracle

// The linear address space of a test case, the same in the native child and in the emulator. Everything that a case
// touches lies below 2 GiB, so that absolute addresses and 32-bit address arithmetic reach it; the data pages are mapped
// a second time high up, where they need all 64 bits.
const (
	pageSize = 4096

	// codeBase is where the slots for code begin. They lie in groups of three pages: two that are executable and one
	// that is not mapped.
	codeBase   = 0x1000_0000
	codeGroups = 10
	groupSize  = 3 * pageSize

	// dataBase is the first of two pages that can be written; a read-only page follows. The pages around them are not
	// mapped.
	dataBase = 0x2000_0000
	// highBase is where the same pages are mapped again.
	highBase = 0x5a5a_7000_0000
	dataSize = 2 * pageSize
	roSize   = pageSize

	// defaultFS and defaultGS are the bases of FS and GS.
	defaultFS = dataBase - 0x1238
	defaultGS = highBase - 0x123_4568

	// blobBase is where the child's own program is; endAddress is where cases jump to when they are done.
	blobBase      = 0x5d3b_6000
	endAddress    = blobBase + 0xf00
	signalAddress = blobBase + 0xf10
	// ctlBase is a page of words that the child shares with its parent, sharedBase the rest: stacks and records. The page
	// must lie where absolute addresses reach, the rest is out of the way of addresses that cases come by.
	ctlBase    = 0x5d4c_b000
	sharedBase = 0x6b6b_1c9c_5000
)

// Memory that the child shares with its parent. All that the child's program knows is here; go_asm.h hands the numbers
// to the assembler.
const (
	ctlSetup   = ctlBase         // system calls to make at the start: number, six arguments; ends with -1
	ctlWord    = ctlBase + 0xf80 // buffer of the doorbell pipes
	ctlCurrent = ctlBase + 0xf88 // record of the running case
	ctlEnd     = ctlBase + 0xf90 // end of the records to run
	ctlSP      = ctlBase + 0xf98 // RSP at the end of a case
	ctlTarget  = ctlBase + 0xfa0 // where the case begins
	ctlBases   = ctlBase + 0xfa8 // not 0 if the bases of FS and GS are part of a case

	shAux      = sharedBase          // structures that the system calls of the setup point to
	shTemplate = sharedBase + 0x1000 // what the data pages hold before a case's patches
	shAltStack = sharedBase + 0x8000
	shStack    = sharedBase + 0x20000 // end of the signal stack
	shRecords  = sharedBase + 0x20000

	batchSize  = 256 // records, and so cases that run at a time
	recordSize = 0x4000
	sharedSize = 0x20000 + batchSize*recordSize

	// The shared file: the control page, shared memory, the pages of the code groups, the data pages.
	shmShared = pageSize
	shmCode   = shmShared + sharedSize
	shmData   = shmCode + codeGroups*2*pageSize
	shmSize   = shmData + dataSize + roSize
)

// Offsets in a record.
const (
	recFlags   = 0x000 // RFLAGS, then RAX RCX RDX RBX RBP RSI RDI R8-R15 RSP
	recTarget  = 0x088
	recPatches = 0x090 // number of patches
	recFS      = 0x098
	recGS      = 0x0a0
	recFX      = 0x100 // FXSAVE image
	recPatch   = 0x300 // patches: linear address, length, bytes padded to 8

	recOutFlags = 0x1000 // as recFlags
	recSignal   = 0x1088 // signal number, 0 if the case came to its end
	recOutFS    = 0x1090
	recOutGS    = 0x1098
	recInfo     = 0x10a0 // siginfo: 48 bytes
	recContext  = 0x10d0 // 23 words of mcontext
	recOutFX    = 0x1200
	recData     = 0x2000
)

// slotKind says where a case's code lies.
type slotKind uint8

const (
	slotPlain    slotKind = iota // inside a page
	slotCrossing                 // over the boundary of two pages
	slotGuard                    // at the end of the last page before one that is not mapped
)

// slot is a place for the code of one case.
type slot struct {
	kind slotKind
	// addr is the first byte, end the one after the last; for slotCrossing and slotGuard, edge is the page boundary.
	addr, end, edge uint64
}

const slotSize = 256

// slots are the places of the cases of a batch, by number in the batch.
var slots = func() (list [batchSize]slot) {
	n := 0
	put := func(s slot) {
		if n < batchSize {
			list[n] = s
			n++
		}
	}
	for g := range uint64(codeGroups) {
		a := uint64(codeBase + g*groupSize)
		for i := range uint64(14) {
			put(slot{addr: a + i*slotSize, end: a + (i+1)*slotSize})
		}
		b := a + pageSize
		put(slot{kind: slotCrossing, addr: b - slotSize, edge: b, end: b + slotSize})
		for i := range uint64(13) {
			put(slot{addr: b + (i+1)*slotSize, end: b + (i+2)*slotSize})
		}
		c := b + pageSize
		put(slot{kind: slotGuard, addr: c - slotSize, edge: c, end: c})
	}
	if n < batchSize {
		panic("oracle: too few slots")
	}
	return list
}()

// codeOffset gives the place of a linear address of code among the code pages of the shared file or of the machine.
func codeOffset(la uint64) uint64 {
	off := la - codeBase
	return off/groupSize*2*pageSize + off%groupSize
}
