// Package snapshots is the parent of the readers and writers of memory-image formats, one package each. package native
// is emu's own format, in which a machine saves itself.
package snapshots
