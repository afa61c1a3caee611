// Package irq joins interrupt lines: Fan drives several inputs from one output (an ISA interrupt reaches the PIC and
// the I/O APIC), Or drives one input from several outputs (PCI devices share their INTx lines).
package irq
