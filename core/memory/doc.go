// Package memory is the guest's physical address space: RAM in regions of one shared memory file, read-only memory,
// and holes in which devices live. Start at Memory for access and at layout.go for where RAM is placed.
package memory
