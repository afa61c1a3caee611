// Package elfcore reads and writes memory snapshots that are ELF core files with one PT_LOAD segment a range of physical
// memory: QEMU's and libvirt's dump-guest-memory (with or without paging, 64- and 32-bit), VirtualBox' dumpvmcore, and
// the kernel's own /proc/vmcore. It has its own parser, because the standard library's refuses VirtualBox' files, does
// not know of more than 65534 segments and trusts sizes. Start at New.
package elfcore
