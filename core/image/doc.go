// Package image keeps trusted images: for a kernel, a saved machine in which that kernel has booted with a toolbox and waits
// for a command, and what the kernel itself said about its symbols and types.
//
// The RAM of a 64-bit machine lies above all physical addresses of a snapshot, the kernel with it, so that a physical address tells
// whose it is.
//
// A kernel whose addresses are random needs a machine for each place at which a snapshot has it: Image.State boots one when it
// is first asked for. Start at Store.
package image
