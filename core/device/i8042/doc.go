// Package i8042 is a keyboard controller without a keyboard or mouse, with system control port A (0x92). Start at
// Controller. The FADT says that there is none, which stock kernels accept without probing; the stub is for kernels
// that run with acpi=off, for guests that reset the machine by it and for those that switch the A20 gate (which has
// no effect here). Source: IBM PS/2 Hardware Interface Technical Reference, keyboard/auxiliary device controller.
package i8042
