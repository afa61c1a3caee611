// Package symbols names addresses of a kernel: from the kallsyms tables inside an unpacked kernel image, from an ELF
// symbol table or from the text of /proc/kallsyms. Start at Table and FromKernel.
package symbols
