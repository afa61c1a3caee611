package cpu

import (
	"errors"

	"github.com/hybridbridge/emu/cpu/isa"
)

// table gives each operation its handler.
type table [isa.NumOps]handler

// newTable joins the tables of all topics. It is built when a CPU is made, not as a package variable, since handlers
// reach the block builder and that reaches the table.
func newTable() *table {
	t := new(table)
	for _, topic := range []map[isa.Op]handler{
		aluHandlers(), shiftHandlers(), multiplyHandlers(), bitHandlers(), moveHandlers(), stackHandlers(),
		branchHandlers(), stringHandlers(), decimalHandlers(), portHandlers(),
		segmentHandlers(), farHandlers(), systemHandlers(), debugHandlers(),
		x87Handlers(), mmxHandlers(), sseHandlers(), stateHandlers(),
	} {
		for op, h := range topic {
			if t[op] != nil {
				panic("cpu: two handlers for " + op.String())
			}
			t[op] = h
		}
	}
	return t
}

// handlerFor chooses the handler of a decoded instruction: one made for its operand form where there is one (fast.go),
// else the general one of its operation.
// off is the offset of the block in its page.
func (c *CPU) handlerFor(u *uop, off uint64) handler {
	if h := fastHandler(u, off, c.key&keyFlat != 0); h != nil {
		return h
	}
	if h := c.table[u.Op]; h != nil {
		return h
	}
	return unimplemented
}

// unimplemented stops the run at an instruction of the table that has no handler.
func unimplemented(c *CPU, u *uop) bool {
	la := c.start(u)
	if c.mode != isa.Mode64 {
		la = (la + c.seg[isa.CS].Base) & 0xffffffff
	}
	b := make([]byte, u.Len)
	b = b[:c.ReadLinear(la, b)]
	return c.notImplemented("instruction %v (%s), bytes % x, at %#x is not implemented", u.Op, u.Row.Enc, b, c.start(u))
}

// invalidOpcode returns the handler of bytes that do not decode.
func invalidOpcode(err error) handler {
	if errors.Is(err, isa.ErrTooLong) {
		return func(c *CPU, u *uop) bool { return c.gp(0) }
	}
	return func(c *CPU, u *uop) bool {
		if c.cutByLimit(c.start(u)) {
			return c.gp(0)
		}
		return c.raise(VectorUD)
	}
}

// cutByLimit reports whether the limit of the code segment ends before the bytes at ip tell that they are no instruction:
// fetching comes before decoding (SDM vol. 3A, table 6-2).
func (c *CPU) cutByLimit(ip uint64) bool {
	if c.mode == isa.Mode64 {
		return false
	}
	var code [15]byte
	n := min(uint64(len(code)), uint64(c.seg[isa.CS].Limit)-ip+1)
	if n == uint64(len(code)) {
		return false
	}
	for i := range n {
		pa, ok := c.translate(c.wrapLinear(c.seg[isa.CS].Base+ip+i), accessFetch)
		if !ok {
			return false
		}
		host, _ := c.mem.Page(pa &^ pageMask)
		if host == nil {
			return false
		}
		code[i] = host[pa&pageMask]
	}
	_, err := isa.Decode(code[:n], c.mode, c.feat)
	return errors.Is(err, isa.ErrTruncated)
}

// endsBlock reports whether nothing after the instruction may be in its block.
func endsBlock(in *isa.Inst) bool { return in.Row.Attr&isa.EndsBlock != 0 }

// runsAlone reports whether the instruction must be a block of its own, since it reads the instruction count or the
// clock, may call a device, or counts as many instructions.
func (c *CPU) runsAlone(in *isa.Inst) bool {
	if in.Prefix&(isa.PrefixRep|isa.PrefixRepne) != 0 && in.Row.Attr&(isa.Rep|isa.Repe) != 0 {
		return true
	}
	switch in.Op {
	case isa.IN, isa.OUT, isa.INS, isa.OUTS, isa.RDTSC, isa.RDTSCP, isa.RDMSR, isa.WRMSR, isa.HLT, isa.MWAIT,
		isa.MOV_TO_CR, isa.MOV_FROM_CR, isa.STI, isa.CPUID:
		return true
	}
	return false
}
