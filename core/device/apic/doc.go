// Package apic holds what local and I/O APICs and message-signalled interrupts say to each other: the interrupt
// message (SDM vol. 3A, 11.6 and 11.11).
package apic
