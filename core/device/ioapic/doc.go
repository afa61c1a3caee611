// Package ioapic is the I/O APIC of the chip set: 24 inputs, version 0x20 with an EOI register. Start at IOAPIC.
// Source: Intel 82093AA data sheet (290566-001); EOI register: ICH9 data sheet, 13.5. Input levels are logical
// (high means asserted), so the polarity bit of a redirection entry is stored and otherwise has no effect.
package ioapic
