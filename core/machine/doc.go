// Package machine is a PC: one vCPU, memory, the devices around it and a kernel to start, wired as a stock Linux kernel
// expects. It keeps guest time, runs the vCPU from timer to timer, and saves and restores the whole.
//
// Start at New and Run. wiring.go is the board's layout: which device is where, on which interrupt.
package machine
