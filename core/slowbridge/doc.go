// Package slowbridge is SLOW-BRIDGE: it lets a restored trusted VM answer out of a snapshot. At every system call it chooses
// the scope by the kernel policy, the CPU redirects by taint and roots (cpu.Redirection), and what was seen of every kernel
// instruction becomes Meta-Data.
//
// Start at Bridge. memory.go is the snapshot as a second memory of the machine, types.go what the trusted kernel says about
// its structures, resolve.go makes addresses of the policy's names, constants.go finds those in its code, scope.go is the
// system-call entry, plans.go asks the handlers, in batches, and makes the CPU's plans of theirs. owner.go says whose memory an address means, by which referee.go judges what is redirected. highmem.go is for
// 32-bit kernels. Resolve is the part that FAST-BRIDGE needs too: all but the emulated CPU.
package slowbridge
