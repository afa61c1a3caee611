// Package acpipm is the fixed ACPI hardware: the PM1a event and control blocks, the PM timer and the reset register.
// Start at PM. There is no SMI command port, so ACPI mode is always on and there are no general-purpose events.
// Source: ACPI specification 6.4, 4.8.3; reset control register: PIIX3 data sheet, 4.2.5.3.
package acpipm
