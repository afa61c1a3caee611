package cpu

import "fmt"

// Exception vectors (SDM vol. 3A, table 6-1).
const (
	VectorDE  = 0
	VectorDB  = 1
	VectorNMI = 2
	VectorBP  = 3
	VectorOF  = 4
	VectorBR  = 5
	VectorUD  = 6
	VectorNM  = 7
	VectorDF  = 8
	VectorTS  = 10
	VectorNP  = 11
	VectorSS  = 12
	VectorGP  = 13
	VectorPF  = 14
	VectorMF  = 16
	VectorAC  = 17
	VectorMC  = 18
	VectorXM  = 19
)

// stopReason says why a handler returned false.
type stopReason uint8

const (
	stopNone stopReason = iota
	// stopFault: c.exc is to be delivered; the instruction has changed nothing.
	stopFault
	// stopAlone: the instruction must be executed again, alone, with c.alone set, since it touches a device, decoded
	// code, a data breakpoint or (in checking mode) tainted bytes. It has changed nothing.
	stopAlone
	// stopDone: the instruction is complete, but what follows in the block must not run (HLT, a debugger's stop).
	stopDone
	// stopTaint: the instruction reads tainted bytes in checking mode; it is executed again in tracking mode.
	stopTaint
	// stopRedirection: redirection cannot go on, see c.detail.
	stopRedirection
	// stopUnsupported: c.unsupported says what the emulator does not implement.
	stopUnsupported
)

// exception is a fault or trap that waits for delivery.
type exception struct {
	vector uint8
	// hasCode says that the vector pushes code; trap says that RIP is that of the next instruction.
	hasCode, trap bool
	// software is set for INT n, INT3, INTO (they check the gate's DPL) and INT1 (it does not).
	software bool
	external bool
	// intN is set for INT n (CD), which checks the gate whatever its vector.
	intN bool
	// committed says that c.rip is already right: the fault belongs to the new task of a task switch.
	committed bool
	// start is RIP of a software interrupt's instruction.
	start uint64
	// notCanonical marks a #GP that stackFault may have to turn into #SS; cr2 holds the address.
	notCanonical bool
	code         uint32
	cr2          uint64
	dr6          uint64 // bits to set in DR6 for #DB
}

// raise makes a fault without error code pending. Handlers end with `return c.raise(VectorUD)`.
func (c *CPU) raise(vector uint8) bool {
	c.exc = exception{vector: vector}
	c.stop = stopFault
	return false
}

// raiseCode makes a fault with an error code pending.
func (c *CPU) raiseCode(vector uint8, code uint32) bool {
	c.exc = exception{vector: vector, hasCode: true, code: code}
	c.stop = stopFault
	return false
}

// gp is a general-protection fault; code is 0 or a selector.
func (c *CPU) gp(code uint32) bool { return c.raiseCode(VectorGP, code) }

// pageFault raises #PF for a linear address.
func (c *CPU) pageFault(la uint64, code uint32) bool {
	c.exc = exception{vector: VectorPF, hasCode: true, code: code, cr2: la}
	c.stop = stopFault
	return false
}

// unsupported ends the run: the emulator does not implement what the guest asks for.
func (c *CPU) notImplemented(format string, args ...any) bool {
	c.detail = fmt.Sprintf(format, args...)
	c.stop = stopUnsupported
	return false
}
