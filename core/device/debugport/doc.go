// Package debugport has the two debugging ports of emulated PCs, both present only when asked for: the console at
// 0xe9 (Bochs) and the exit port at 0xf4 (QEMU's isa-debug-exit).
package debugport
