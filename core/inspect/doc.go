// Package inspect runs an inspection tool against a snapshot: it says which kernel is in the snapshot, finds the trusted
// image of that kernel, restores it at the snapshot's addresses, and runs the tool in it with SLOW-BRIDGE or FAST-BRIDGE between
// the tool's system calls and the snapshot. fast.go is FALLBACK, which has SLOW-BRIDGE train FAST-BRIDGE; recall.go keeps what
// is known of a snapshot's kernel. Start at Run.
package inspect
