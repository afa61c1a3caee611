// Package policy is the contract between emu and its policies: which instructions of the trusted kernel see the
// snapshot and which see the trusted VM itself.
//
// There are two kinds of policy. A kernel policy says, once for a kernel, where redirection begins and what it must leave
// alone: scopes, roots, subtrees that stay local, calls that are elided (Policy). A handler, one for each of the paper's
// six categories (III-B), is asked what to do at the instructions that it wants to be asked about (Interest), once for each site and context
// (Site, Plan). Both are programs of their own, see package core/policy/host for how they are started and package plugins/sdk for how
// they are written. Start at Policy and Plan.
package policy
