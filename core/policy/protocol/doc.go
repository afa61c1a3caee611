// Package protocol is how emu and its policy programs speak: hashicorp/go-plugin with gRPC, a versioned handshake, and the
// messages of policy.proto behind the types of package policy. Package core/policy/host is the one side, plugins/sdk the
// other. Start at KernelPolicy and Handler.
package protocol
