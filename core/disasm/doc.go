// Package disasm prints machine code as assembly with symbols: of kernel images, ELF files, flat binaries and snapshots.
// Start at Source and Print.
package disasm
