// Package sdk makes a policy program of a function: a handler, which says what happens at an instruction, or a kernel
// policy, which says where redirection begins in a kernel. docs/policies.md has an example to copy. Start at ServeHandler
// and ServePolicy.
package sdk
