// Package oracle compares the emulator's CPU with the processor that it runs on.
//
// This is x86 on x86: any user-level instruction can be executed natively. A generator, driven by the instruction table
// of package isa, makes cases: one to four instructions, registers, flags, vector and x87 state, memory. Each case runs
// in a child process on the host's CPU (Native) and in package cpu (Machine); registers, flags, both floating-point
// states, memory and faults are compared (Compare). What the manual leaves undefined is masked by the facts of the
// instruction's row; where the host's silicon and the emulator's model differ on purpose, the table in allow.go says so and why.
//
// A case is named by a seed and a number and can be made again from them. A difference is minimised and printed as one
// line: bytes, disassembly, inputs, outputs of the host. Such lines, kept in testdata, are the regression list;
// they need no host of a certain kind, since they hold what silicon answered.
//
// TaintCampaign uses the same cases for a property of the taint engine: a byte that it calls clean does not change when
// tainted input bytes do.
//
// Start at Campaign. One case goes: generate.go, native_linux.go, machine.go, compare.go, and, if it fails, minimize.go and
// line.go. docs/decisions/oracle.md says why it is built so.
package oracle
