// Package snapshots defines what a memory snapshot of a virtual machine is to emu, whatever file holds it: ranges of
// guest physical memory that can be read at random, and processor registers and notes where the container has them. One
// package a format implements Snapshot; package formats recognises a file by its content and opens it; package linux
// says which kernel is inside. A snapshot is made by a machine that is not trusted: readers bound every number that
// they take from a file. Start at Snapshot.
package snapshots
