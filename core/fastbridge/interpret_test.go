package fastbridge

import (
	"testing"

	"github.com/hybridbridge/emu/cpu"
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

// TestCountsTheirs: a variable by processor that only the snapshot has is its own, one that both have is up to its context.
func TestCountsTheirs(t *testing.T) {
	const perCPU, theirPerCPU, both, allocated = 0xffff888100000000, 0xffff888200000000, 0x1000, 0x5000
	ts, root := rig(4)
	if err := ts.put(root, perCPU+both, present|writable, false); err != nil {
		t.Fatal(err)
	}
	b := &Bridge{mem: ts.mem, levels: 4, clean: root.pa, perCPU: perCPU, redirect: &cpu.Redirection{
		PerCPU: theirPerCPU,
		Translate: func(la uint64) (uint64, bool) {
			return 0, la&^0xfff == theirPerCPU+both || la&^0xfff == theirPerCPU+allocated
		},
	}}
	for _, c := range []struct {
		code string
		rax  uint64
		want bool
	}{
		{"65ff00", allocated + 8, true},  // inc dword gs:[rax]
		{"65ff00", both + 8, false},      // the trusted VM has it too
		{"65ff00", 0x9000, false},        // nobody has it
		{"ff00", theirPerCPU + 8, false}, // inc dword [rax]
		{"ffc0", allocated, false},       // inc eax
	} {
		in, err := isa.Decode(unhex(t, c.code), isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatal(err)
		}
		f := &frame{b: b}
		f.gpr[isa.RAX] = c.rax
		if got := f.countsTheirs(&in); got != c.want {
			t.Errorf("%s with %#x: %v", c.code, c.rax, got)
		}
	}
}
