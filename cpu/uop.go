package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// handler executes one instruction. It returns true if the block may go on; else c.stop says why not. Until it is sure
// that it will finish, it changes no architectural state.
type handler func(c *CPU, u *uop) bool

// uop is a decoded instruction in a block with its handler.
type uop struct {
	exec handler
	// What fast handlers use beside Inst (see fast.go): the mask of linear addresses, the target of a branch from the start
	// of the block, and the register slot that holds the segment's base.
	mask   uint64
	target uint64
	isa.Inst
	// end is the offset of the next instruction from the start of the block.
	end uint32
	// index is the number of instructions before it in the block.
	index   uint16
	segBase uint8
	// fused says that exec executes the conditional branch that follows too (see fuse.go).
	fused bool
}

// next returns RIP of the instruction after u.
func (c *CPU) next(u *uop) uint64 {
	return c.wrapIP(c.r[isa.RegRIP] + uint64(u.end))
}

// start returns RIP of u itself.
func (c *CPU) start(u *uop) uint64 {
	return c.wrapIP(c.r[isa.RegRIP] + uint64(u.end) - uint64(u.Len))
}

// wrapIP truncates an instruction pointer to what the code segment's width keeps in EIP. (A 16-bit segment keeps the
// upper half of EIP as it was after a plain increment, so only branches with 16-bit operand size truncate to 16 bits.)
func (c *CPU) wrapIP(ip uint64) uint64 {
	if c.mode == isa.Mode64 {
		return ip
	}
	return ip & 0xffffffff
}
