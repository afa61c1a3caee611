// Package boot puts a kernel into guest memory and says in which state the processor enters it. It reads Linux bzImages
// (Documentation/arch/x86/boot.rst), ELF executables and multiboot-1 images. Start at Parse.
package boot
