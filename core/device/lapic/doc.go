// Package lapic is the local APIC of the processor, in xAPIC mode. Start at APIC. Source: Intel SDM vol. 3A, chapter
// "Advanced Programmable Interrupt Controller (APIC)" (section numbers here are those of the 2023 edition, chapter
// 11). There is one processor, so messages to others go nowhere and lowest priority delivery is fixed delivery.
// There is no x2APIC mode.
package lapic
