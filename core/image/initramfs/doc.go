// Package initramfs puts the file tree of a trusted VM together from Debian packages and folders, and writes it as a cpio
// archive: same tree, same bytes. Start at Tree.
package initramfs
