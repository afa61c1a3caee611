// Package cpu is the x86 processor: it decodes, executes, translates addresses and raises exceptions, bit for bit as
// silicon does, and counts time in instructions.
//
// The way of one instruction: Run finds the block at RIP (block.go), whose bytes package isa has decoded; the table in
// dispatch.go has given each a handler, which reads operands (operand.go, tlb_unsafe.go), computes, sets flags
// (flags.go) and writes back. A handler that cannot finish raises a fault (fault.go) before it has changed anything,
// and Run delivers it (interrupt.go).
//
// Files are named by topic: alu.go, shift.go, string.go, stack.go, branch.go for integer code; segment.go, paging.go,
// interrupt.go, task.go, system.go for the rest of volume 3 of the SDM; x87.go and x87env.go; simd.go, which joins
// mmx.go and sse*.go, with the meaning of packed operations in packed.go; state.go for FXSAVE and XSAVE.
package cpu
