// Package gdb lets gdb debug the guest: it speaks the GDB Remote Serial Protocol (GDB manual, appendix E) on a TCP or Unix
// socket, and drives a machine with breakpoints, watchpoints and single steps.
//
// Addresses are linear addresses of the guest's present address space. Memory is read without side effects: nothing but
// RAM and ROM can be seen, and no accessed bit changes.
//
// packet.go frames and unframes, session.go answers one packet, server.go decides when the guest runs, registers.go
// says which registers there are and in which order.
package gdb
