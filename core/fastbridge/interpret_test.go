package fastbridge

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

// TestInTable: the entries of the kernel's tables belong to the machine that its variables belong to, and what lies behind pointers does not.
func TestInTable(t *testing.T) {
	for code, want := range map[string]bool{
		"488b3cc5e068838b":   true,  // mov rdi, [8*rax-0x747c9720]: node_data
		"488b3cc5e0688300":   false, // the same far below the kernel
		"488b80e068838b":     false, // mov rax, [rax-0x747c9720]
		"488b84c1e068838b":   false, // mov rax, [rcx+8*rax-0x747c9720]
		"65488b3cc5e068838b": false, // mov rdi, gs:[8*rax-0x747c9720]
		"488b05e068838b":     false, // mov rax, [rip-0x747c9720]
		"4889c7":             false, // mov rdi, rax
	} {
		in, err := isa.Decode(unhex(t, code), isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatal(err)
		}
		if got := inTable(&in, 0xffffffff81000000); got != want {
			t.Errorf("%s: %v", code, got)
		}
	}
}
