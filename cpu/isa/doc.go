// Package isa is the table of x86 instructions and the decoder that it drives.
//
// Each Row states facts in the Intel manual's own terms: opcode, operands and how they are used, flags read,
// written and left undefined, the feature that brings it, whether it ends a basic block, and the verb by which
// taint flows through it. The decoder, the CPU's dispatch, the taint engine and the generator of test programs
// all read this one table. Start at rows.go; Decode turns bytes into an Inst.
package isa
