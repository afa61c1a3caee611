// Package taint keeps track of where bytes came from. It holds one bit for each byte of guest memory and of each
// register, and the rules by which instructions pass those bits on. "Tainted" means: this value came out of a source
// that somebody marked. The package knows nothing of snapshots, kernels or redirection: it offers marks, questions and
// notices (Shadow), and pure functions on masks (rules.go). The CPU applies them; see cpu/track.go.
//
// Start at Mask, then Verb for the rules, Shadow for memory, and pointer.go for the one rule that looks at values.
package taint
