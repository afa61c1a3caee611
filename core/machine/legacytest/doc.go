// Package legacytest judges the 16- and 32-bit side of the CPU, which the host cannot: hosts like CI's run no 32-bit code at
// all (DESIGN.md, section 4). Guest programs run in emu, in QEMU and in Bochs, and what they say is compared.
//
// The programs are multiboot-1 images: guest/*.asm, assembled by go generate. cases.asm is a monitor that runs generated
// instructions in real, virtual-8086, 16- and 32-bit protected and compatibility mode, and reports the state after each.
// Start at generate.go, which makes cases from the rows of cpu/isa; layout.go has what the monitor and this package
// agree on, allow.go the differences that are the references' own, with the source.
package legacytest
