// Package debuginfo reads what the compiler said about a kernel that says little about itself: Debian's 686 kernels have neither
// a .BTF section nor data symbols in kallsyms. From a vmlinux with DWARF it makes the BTF that the kernel would have had, so that
// nothing else needs to know where types came from. Start at Read.
package debuginfo
