// Package tables is the policy for Linux on x86, as data: where redirection begins and what it leaves alone, one file a
// topic. It names symbols of all kernels that emu knows; those that a kernel does not have do not matter.
//
// Start at Policy. docs/policies.md says how to find out what a tool needs.
package tables
