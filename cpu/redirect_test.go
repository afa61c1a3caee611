package cpu

import (
	"errors"
	"slices"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/taint"
)

// The other machine of a redirectRig has address a at physical address other+a; its memory there is tainted. Addresses from
// atData on are the kernel's, those below userEnd the user's.
const (
	other    = 0x100000
	userEnd  = 0x1000
	atList   = atData + 0x100 // where the other machine's root points to
	stack    = 0x8000
	atFunc   = atCode + 0x400
	atBranch = atCode + 0x600
)

type redirectRig struct {
	*sysRig
	r Redirection
	s Scope
}

func newRedirectRig(t *testing.T) *redirectRig {
	b := newSysRig(t, Config{})
	b.long()
	b.c.EnableTaint(&TaintOptions{PointerPart: true, Space: taint.Space{Lo: atData, Hi: other, Width: 8}})
	b.put64(atData, atData+0x800) // the local root points elsewhere
	b.put64(atList+8, 0x10ca1)
	b.put64(other+atData, atList)
	b.put64(other+atList+8, 0x77)
	b.c.Shadow().Mark(other, 0x20000)
	return &redirectRig{
		sysRig: b,
		r: Redirection{
			Translate: func(la uint64) (uint64, bool) { return other + la, la < 0x20000 },
			Hooks:     map[uint64]Hook{}, StackSize: 0x1000, User: userEnd,
		},
		s: Scope{ID: 1, Roots: []Range{{Lo: atData, Hi: atData + 8}}},
	}
}

// run executes code in the scope, up to a HLT behind it.
func (b *redirectRig) run(code string) vcpu.Exit {
	b.t.Helper()
	b.c.EnableRedirection(&b.r)
	b.setState(func(s *vcpu.State) { s.GPR[isa.RSP] = stack + 0xf00 })
	b.c.EnterScope(b.s)
	copy(b.ram[atCode:], append(unhex(code), 0xf4))
	b.c.MemoryWritten(atCode, 256)
	return b.c.Run(b.c.Instructions() + 1000)
}

const (
	loadRoot = "488b0425 00e00000" // mov rax, [atData]
	loadNext = "488b5808"          // mov rbx, [rax+8]
)

func TestRedirectedOperands(t *testing.T) {
	b := newRedirectRig(t)
	b.run(loadRoot + loadNext +
		"48895c24f8" + // mov [rsp-8], rbx
		"488b4c24f8" + // mov rcx, [rsp-8]
		"48894810" + // mov [rax+16], rcx: into the private copy
		"488b1425 08e10000" + // mov rdx, [atList+8]: untainted, local
		"48891c25 00080000" + // mov [0x800], rbx: to user space
		"90")
	b.wantReg(isa.RBX, 0x77)
	b.wantReg(isa.RCX, 0x77)
	b.wantReg(isa.RDX, 0x10ca1)
	if got := b.get64(other + atList + 16); got != 0x77 {
		t.Errorf("the store through the tainted pointer went elsewhere: %#x", got)
	}
	if got := b.get64(atList + 16); got != 0 {
		t.Errorf("the store touched local memory: %#x", got)
	}
	if m := b.c.Shadow().Get(0x800, 8); m != 0 || b.get64(0x800) != 0x77 {
		t.Errorf("user space has %#x with taint %#x, want 0x77, clean", b.get64(0x800), m)
	}
	if m := b.c.Shadow().Get(stack+0xef8, 8); m != 0xff {
		t.Errorf("the stack has taint %#x", m)
	}
}

// TestStackOfTheOtherMachine follows a pointer to a stack of the other machine that lies where the current one does: alone, and as an instruction of
// which the other side knows it.
func TestStackOfTheOtherMachine(t *testing.T) {
	b := newRedirectRig(t)
	b.put64(other+atData, stack+0xe00)
	b.put64(other+stack+0xe08, 0x77)
	b.put64(stack+0xe08, 0x10ca1)
	b.run(loadRoot + loadNext + "488b5c2408") // mov rbx, [rsp+8]
	marks := map[uint64]Marks{}
	for o := range b.c.Observations {
		marks[o.RIP] = o.Marks
	}
	if marks[atCode+8] != MarkOther|MarkStack || marks[atCode+12] != 0 {
		t.Errorf("marks by instruction: %v", marks)
	}
	for _, theirs := range []bool{true, false} {
		b := newRedirectRig(t)
		b.put64(other+stack+0xe08, 0x77)
		b.put64(stack+0xe08, 0x10ca1)
		b.run("48c7c0 008e0000") // mov rax, stack+0xe00
		b.setState(func(s *vcpu.State) { s.RIP, s.Halted = atCode+7, false })
		copy(b.ram[atCode+7:], append(unhex(loadNext), 0xf4))
		b.c.MemoryWritten(atCode, 256)
		if exit := b.c.StepScoped(b.s, [2]bool{theirs}, nil); exit.Reason != vcpu.ExitDeadline {
			t.Fatalf("%+v", exit)
		}
		b.wantReg(isa.RBX, map[bool]uint64{true: 0x77, false: 0x10ca1}[theirs])
	}
}

func TestRedirectionStopsForEvents(t *testing.T) {
	b := newRedirectRig(t)
	handler := unhex("4c8b0425 00e00000" + "48cf") // mov r8, [atData]; iretq
	copy(b.ram[atFunc:], handler)
	b.gate64(0x80, selCode64, atFunc, 0xee, 0)
	b.run("cd80" + loadRoot + "cd80" + loadNext)
	b.wantReg(isa.R8, atData+0x800)
	b.wantReg(isa.RBX, 0x77)
}

func TestRedirectionEndsWithTheScope(t *testing.T) {
	b := newRedirectRig(t)
	b.put64(stack+0xf00, atBranch)
	copy(b.ram[atBranch:], unhex(loadRoot+"f4"))
	b.run(loadRoot + "c3") // ret
	b.wantReg(isa.RAX, atData+0x800)
	if b.c.InScope() || b.c.RegisterTaint().Tainted() {
		t.Error("after the return there is still a scope, or taint")
	}
}

func TestHooks(t *testing.T) {
	call := "e8 " + le(uint64(atFunc-(atCode+8+3+5)), 4) // behind loadRoot and a move
	for _, c := range []struct {
		name  string
		hook  Hook
		want  uint64 // in R9
		after uint64 // in RBX
	}{
		{"local subtree", Hook{Kind: HookLocal}, 0x10ca1, 0x77},
		{"elided", Hook{Kind: HookElide, Return: 5}, 0, 0x77},
		{"elided if the argument is another's", Hook{Kind: HookElide, Argument: 2}, 0x77, 0x77},
		{"lock", Hook{Kind: HookLock, Offset: 8, Size: 1}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRedirectRig(t)
			b.r.Hooks[atFunc] = c.hook
			copy(b.ram[atFunc:], unhex("4c8b4f08 c3")) // mov r9, [rdi+8]; ret
			b.run(loadRoot + "4889c7" + call + "488b5f08")
			b.wantReg(isa.R9, c.want)
			b.wantReg(isa.RBX, c.after)
			if c.name == "elided" {
				b.wantReg(isa.RAX, 5)
			}
		})
	}
}

func TestSubstitute(t *testing.T) {
	b := newRedirectRig(t)
	b.put64(0x180000, atList)
	b.c.Shadow().Mark(0x180000, 8)
	b.s.Roots = nil
	b.s.Substitutes = []Substitute{{Range: Range{Lo: atData, Hi: atData + 8}, Code: []Range{{Lo: atCode, Hi: atCode + 0x100}}, PA: 0x180000}}
	b.run(loadRoot + loadNext)
	b.wantReg(isa.RBX, 0x77)
}

// TestStacks: the other machine can have a stack at the address of the one in use. What points to it is tainted; an offset from
// the stack pointer is not a pointer.
func TestStacks(t *testing.T) {
	b := newRedirectRig(t)
	b.c.SetTaintSpace(taint.Space{Lo: stack, Hi: other, Width: 8})
	b.put64(other+atData, stack+0xe00)
	b.put64(other+stack+0xe08, 0x77)
	b.put64(stack+0xe08, 0x10ca1)
	b.put64(other+stack+0xe00, 8)
	b.run(loadRoot + loadNext +
		"488b00" + // mov rax, [rax]: 8, tainted
		"488b8c0400ffffff" + // mov rcx, [rsp+rax-0x100]
		"488d1404" + // lea rdx, [rsp+rax]
		"488b9200ffffff") // mov rdx, [rdx-0x100]
	b.wantReg(isa.RBX, 0x77)
	b.wantReg(isa.RCX, 0x10ca1)
	b.wantReg(isa.RDX, 0x10ca1)
}

func TestImmediates(t *testing.T) {
	b := newRedirectRig(t)
	b.s.Immediates = map[uint64]uint64{atCode: atList}
	b.run("48b8 00e8000000000000" + loadNext + // mov rax, atData+0x800; mov rbx, [rax+8]
		"b9 10000000" + // mov ecx, 16: not replaced
		"c1e904" + "89ca" + "c1ea01") // shr ecx, 4; mov edx, ecx; shr edx, 1
	b.wantReg(isa.RBX, 0x77)
	b.wantReg(isa.RCX, 1)
	b.wantReg(isa.RDX, 0)
	if m := b.c.RegisterTaint().GPR; m[isa.RAX] != taint.All(8) || m[isa.RCX] != taint.Clean {
		t.Errorf("taint of RAX %#x and RCX %#x", m[isa.RAX], m[isa.RCX])
	}
	b = newRedirectRig(t)
	b.s.Immediates = map[uint64]uint64{atCode + 5: 2}
	b.run("b9 10000000" + "c1e904") // mov ecx, 16; shr ecx, 4 (2)
	b.wantReg(isa.RCX, 4)
}

// TestCheckedRoutes looks at what is told of routes: of a memory operand, of both of a string instruction, and of a per-CPU
// variable of the other machine.
func TestCheckedRoutes(t *testing.T) {
	type seen struct {
		site, la uint64
		why      Reasons
	}
	var got []seen
	b := newRedirectRig(t)
	b.r.Check = func(site, la uint64, why Reasons) { got = append(got, seen{site, la, why}) }
	b.r.PerCPU = atList
	b.s.PerCPURoots = []Range{{Lo: 8, Hi: 16}}
	b.run(loadRoot + loadNext +
		"48895c24f8" + // mov [rsp-8], rbx
		"488b1425 00080000" + // mov rdx, [0x800]: user space
		"4889c6" + "48c7c7 00f00000" + "a4" + // movsb
		"65488b1c25 08000000") // mov rbx, gs:[8]
	want := []seen{
		{atCode, atData, ByRoot},
		{atCode + 8, atList + 8, ByTaint},
		{atCode + 12, stack + 0xef8, ByStack},
		{atCode + 35, atList, ByTaint},
		{atCode + 35, 0xf000, ByDefault},
		{atCode + 36, atList + 8, ByRoot},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	b.wantReg(isa.RBX, 0x77)
}

func TestFrozenClock(t *testing.T) {
	b := newRedirectRig(t)
	b.s.Frozen, b.s.TSC = true, 0x5_0000_0007
	b.run("0f31")
	b.wantReg(isa.RAX, 7)
	b.wantReg(isa.RDX, 5)
}

func TestRedirectedStrings(t *testing.T) {
	b := newRedirectRig(t)
	copy(b.ram[other+atList:], "from the other machine")
	b.run(loadRoot +
		"4889c6" + "48c7c7 00f00000" + "48c7c1 16000000" + "f3a4" + // rep movsb to 0xf000
		"48c7c6 00f00000" + "48c7c7 00090000" + "48c7c1 16000000" + "f3a4") // and on to user space
	for _, at := range []int{0xf000, 0x900} {
		if got := string(b.ram[at : at+22]); got != "from the other machine" {
			t.Errorf("%#x has %q", at, got)
		}
	}
	if m := b.c.Shadow().Get(0xf000, 8); m != 0xff {
		t.Errorf("the local copy has taint %#x", m)
	}
	if m := b.c.Shadow().Get(0x900, 8); m != 0 {
		t.Errorf("user space has taint %#x", m)
	}
}

func TestBranchesOfTheOtherMachine(t *testing.T) {
	b := newRedirectRig(t)
	asked := uint64(0)
	b.r.Branch = func(site, target uint64) (uint64, error) {
		asked = target
		return 0, errors.New("not there")
	}
	exit := b.run(loadRoot + "ffe0") // jmp rax
	if exit.Reason != vcpu.ExitRedirection || exit.Detail != "not there" || asked != atList {
		t.Errorf("exit %+v, asked about %#x", exit, asked)
	}
	b = newRedirectRig(t)
	b.r.Branch = func(site, target uint64) (uint64, error) { return atBranch, nil }
	copy(b.ram[atBranch:], unhex("48c7c3 09000000 f4")) // mov rbx, 9
	b.run(loadRoot + "ff6008")                          // jmp [rax+8]
	b.wantReg(isa.RBX, 9)
}

func TestUnmappedInTheOtherMachine(t *testing.T) {
	b := newRedirectRig(t)
	b.put64(other+atData, 0x30000)
	b.r.Unmapped = func(site, la uint64) error { return errors.New("unmapped") }
	if exit := b.run(loadRoot + loadNext); exit.Reason != vcpu.ExitRedirection || exit.Detail != "unmapped" {
		t.Errorf("exit %+v", exit)
	}
}

func TestPlans(t *testing.T) {
	touch := loadRoot + "48c7c1 05000000" + "48894808" + loadNext // mov [rax+8], rcx (5), and look
	for _, c := range []struct {
		name string
		at   uint64 // of the instruction that has the plan
		plan Plan
		want uint64 // in RBX
	}{
		{"none", 0, Plan{}, 5},
		{"discard", atCode + 15, Plan{Discard: true}, 0x77},
		{"elide", atCode + 15, Plan{Elide: true}, 0x77},
		{"frozen", atCode + 19, Plan{Frozen: true, Value: 42}, 42},
		{"local", atCode + 19, Plan{Local: [2]bool{true}}, 0x10ca1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRedirectRig(t)
			b.r.Scratch, b.r.Constant = 0x1f0000, 0x1f1000
			b.r.Plan = func(at Touch) (Plan, error) {
				if at.RIP == c.at {
					return c.plan, nil
				}
				return Plan{}, nil
			}
			b.run(touch)
			b.wantReg(isa.RBX, c.want)
		})
	}
	t.Run("an elided comparison leaves its branch", func(t *testing.T) {
		b := newRedirectRig(t)
		b.r.Plan = func(at Touch) (Plan, error) { return Plan{Elide: at.RIP != atCode}, nil }
		// xor ecx, ecx sets ZF, cmp [rax+8], 1 would clear it; je over mov ecx, 9.
		b.run(loadRoot + "31c9" + "4883780801" + "7405" + "b909000000")
		b.wantReg(isa.RCX, 0)
	})
	for _, c := range []struct{ name, code string }{
		{"destination local, source the other's", loadRoot + "4889c6" + "488d7840" + "48a5"},    // movsq from [rax] to [rax+0x40]
		{"destination local, source local", loadRoot + "48c7c6 00f00000" + "488d7840" + "48a5"}, // from 0xf000
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRedirectRig(t)
			b.put64(other+atList, 0x1234)
			b.put64(0xf000, 0x1234)
			b.r.Plan = func(at Touch) (Plan, error) { return Plan{Local: [2]bool{false, at.Inst.Op == isa.MOVS}}, nil }
			b.run(c.code)
			if local, there := b.get64(atList+0x40), b.get64(other+atList+0x40); local != 0x1234 || there != 0 {
				t.Errorf("local memory has %#x, the other machine %#x", local, there)
			}
		})
	}
	b := newRedirectRig(t)
	b.r.Plan = func(Touch) (Plan, error) { return Plan{}, errors.New("trap") }
	if exit := b.run(touch); exit.Reason != vcpu.ExitRedirection || exit.Address != atCode {
		t.Errorf("a plan that is an error: %+v", exit)
	}
}

// TestFrozenLoads: whatever an instruction does with what it loads, it does with the frozen value; what it stores goes where it would.
func TestFrozenLoads(t *testing.T) {
	const behind = atCode + 8 // loadRoot
	for _, c := range []struct {
		name, code  string
		rbx, stored uint64 // RBX, and what the other machine has at [rax+8] then
	}{
		{"add to a register", "bb05000000" + "48035808", 5 + 0x8042, 0x77},
		{"add to memory", "4883400801", 0, 0x8043},
		{"sign-extended byte", "480fbe5808", 0x42, 0x77},
		{"sign-extended word", "480fbf5808", 0xffffffff_ffff8042, 0x77},
		{"compared", "4881780842800000" + "0f94c3", 1, 0x77},
		{"across pages", "4805f70e0000" + "488b5808", 0x8042, 0x77}, // rax ends in ff7
		{"pushed", "ff7008" + "5b", 0x8042, 0x77},
		{"exchanged", "bb01000000" + "48875808", 0x8042, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRedirectRig(t)
			b.r.Scratch, b.r.Constant = 0x1f0000, 0x1f1000
			b.r.Plan = func(at Touch) (Plan, error) {
				return Plan{Frozen: at.RIP >= behind, Value: 0x8042}, nil
			}
			b.run(loadRoot + c.code)
			b.wantReg(isa.RBX, c.rbx)
			if got := b.get64(other + atList + 8); got != c.stored {
				t.Errorf("the other machine has %#x, want %#x", got, c.stored)
			}
			if m := b.c.RegisterTaint().GPR[isa.RBX]; m != taint.Clean {
				t.Errorf("the value has taint %#x", m)
			}
		})
	}
	b := newRedirectRig(t)
	b.r.Constant = 0x1f1000
	b.r.Plan = func(at Touch) (Plan, error) { return Plan{Frozen: at.Inst.Op == isa.MOVS, Value: 0x34}, nil }
	b.run(loadRoot + "488d7003" + "48c7c7 00f00000" + "48c7c1 05000000" + "f366a5") // rep movsw from [rax+3]
	if got := b.ram[0xf000:0xf00b]; string(got) != "4\x004\x004\x004\x004\x00\x00" {
		t.Errorf("% x", got)
	}
}

// TestAsks: what Asks says is asked about is, once in a context, and what the plan says happens.
func TestAsks(t *testing.T) {
	all := TouchOther | TouchLocal | TouchNone
	call := "e8 " + le(uint64(atFunc-(atCode+5+5)), 4) // behind a move
	for _, c := range []struct {
		name, code string
		asks       Touches
		at         uint64 // of the instruction that has the plan, behind atCode
		plan       Plan
		rbx        uint64
		asked      int // the instructions before HLT, and it
	}{
		{"nothing", loadRoot + loadNext, 0, 8, Plan{Elide: true}, 0x77, 0},
		{"what touches the other machine", loadRoot + loadNext + "90", TouchOther, 8, Plan{Elide: true}, 0, 2},
		{"a local load", "bb01000000" + "488b1c2508e10000", TouchLocal, 5, Plan{Frozen: true, Value: 9}, 9, 1},
		{"a local load elsewhere", "488b1c2508e10000", TouchLocal, 0, Plan{Other: [2]bool{true}}, 0x77, 1},
		{"and what comes of it", "488b042500e10000" + "488b1c2508e10000", TouchOther, 0, Plan{Other: [2]bool{true}}, 0x10ca1, 0},
		{"the stack stays", "6a05" + "488b1c24", TouchLocal, 2, Plan{Other: [2]bool{true}}, 5, 1},
		{"user space stays", "488b1c2500080000", TouchLocal, 0, Plan{Other: [2]bool{true}}, 0, 1},
		{"a string", "be08e10000" + "bf00f00000" + "48a5" + "488b1c2500f00000", TouchLocal, 10, Plan{Other: [2]bool{true}}, 0x77, 2},
		{"a move", "bb01000000" + "bb02000000", TouchNone, 5, Plan{Elide: true}, 1, 3},
		{"LEA", "bb01000000" + "488d5b08", TouchNone, 5, Plan{Elide: true}, 1, 3},
		{"a call", "bb01000000" + call, TouchNone, 5, Plan{Elide: true}, 1, 3},
		{"no call", "bb01000000" + call, TouchNone, 0, Plan{}, 4, 5},
		{"a return", "bb01000000" + call, TouchNone, atFunc + 5 - atCode, Plan{Elide: true}, 4, 5}, // HLT is behind it as well
		{"a branch", "31db" + "83fb00" + "7405" + "bb05000000", TouchNone, 5, Plan{Elide: true}, 5, 5},
		{"no branch", "31db" + "83fb00" + "7405" + "bb05000000", TouchNone, 0, Plan{}, 0, 4},
		{"a comparison", "31db" + "83fb01" + "7405" + "bb05000000", TouchNone, 2, Plan{Elide: true}, 0, 4},
		{"a compared operand", "31db" + "833c250080000000" + "7505" + "bb05000000", all, 2, Plan{Frozen: true, Value: 7}, 0, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRedirectRig(t)
			b.r.Scratch, b.r.Constant = 0x1f0000, 0x1f1000
			copy(b.ram[atFunc:], unhex("bb04000000 c3 f4"))
			b.r.Asks = func(scope int, rip uint64) Touches {
				if scope != b.s.ID {
					t.Errorf("scope %d", scope)
				}
				return c.asks
			}
			asked := 0
			b.r.Plan = func(at Touch) (Plan, error) {
				asked++
				if at.RIP == atCode+c.at && at.RIP-atCode < 0x1000 {
					return c.plan, nil
				}
				return Plan{}, nil
			}
			b.run(c.code)
			b.wantReg(isa.RBX, c.rbx)
			if asked != c.asked {
				t.Errorf("asked %d times, want %d", asked, c.asked)
			}
		})
	}
	t.Run("a local subtree", func(t *testing.T) {
		b := newRedirectRig(t)
		b.r.Hooks[atFunc] = Hook{Kind: HookLocal}
		copy(b.ram[atFunc:], unhex("488b1c2508e10000 c3"))
		b.r.Asks = func(int, uint64) Touches { return all }
		b.r.Plan = func(at Touch) (Plan, error) {
			if at.RIP >= atFunc {
				t.Errorf("asked about %#x", at.RIP)
			}
			return Plan{}, nil
		}
		b.run("bb01000000" + call)
		b.wantReg(isa.RBX, 0x10ca1)
	})
	t.Run("once", func(t *testing.T) {
		b := newRedirectRig(t)
		asked := 0
		b.r.Asks = func(int, uint64) Touches { return all }
		b.r.Plan = func(at Touch) (Plan, error) { asked++; return Plan{}, nil }
		b.run("b905000000" + "488b1c2508e10000" + "ffc9" + "75f4") // five times
		if asked != 4+3+1 {                                        // by block, and the loop is one of its own
			t.Errorf("asked about %d instructions", asked)
		}
	})
}

// TestElidedCall: a call that is skipped is none, neither for what follows nor for its context.
func TestElidedCall(t *testing.T) {
	b := newRedirectRig(t)
	b.r.Plan = func(at Touch) (Plan, error) { return Plan{Elide: at.Inst.Op == isa.CALL_IND}, nil }
	b.run(loadRoot + "ff5008" + loadNext) // call [rax+8]
	b.wantReg(isa.RBX, 0x77)
	b.wantReg(isa.RSP, stack+0xf00)
	for o := range b.c.Observations {
		if len(o.Context) != 0 {
			t.Errorf("the instruction at %#x has the context %+v", o.RIP, o.Context)
		}
	}
}

// TestPlansOfSteps: StepScoped does with a plan what a run does.
func TestPlansOfSteps(t *testing.T) {
	codes := []string{"488b5808", "48895808", "48015808", "4801 58 08", "f0480fc15808", "ff7008", "8f4008", "480f4b5808", "48a5"}
	for _, code := range codes {
		for _, plan := range []Plan{
			{},
			{Elide: true},
			{Discard: true},
			{Frozen: true, Value: 3},
			{Local: [2]bool{true}},
			{Local: [2]bool{false, true}},
			{Discard: true, Frozen: true, Value: 3},
			{Discard: true, Local: [2]bool{true}},
		} {
			var rigs [2]*redirectRig
			for i := range rigs {
				b := newRedirectRig(t)
				rigs[i] = b
				b.r.Scratch, b.r.Constant = 0x1f0000, 0x1f1000
				b.r.Plan = func(at Touch) (Plan, error) {
					if at.RIP == atCode {
						return Plan{}, nil
					}
					return plan, nil
				}
				before := loadRoot + "4889c6" + "488d7840" + "bb09000000"
				length := 8 + 3 + 4 + 5
				if i == 0 {
					b.run(before + code)
					continue
				}
				b.run(before)
				b.setState(func(s *vcpu.State) { s.RIP, s.Halted = uint64(atCode+length), false })
				copy(b.ram[atCode+length:], append(unhex(code), 0xf4))
				b.c.MemoryWritten(atCode, 256)
				other := [2]bool{!plan.Local[0], !plan.Local[1]}
				if exit := b.c.StepScoped(b.s, other, &plan); exit.Reason != vcpu.ExitDeadline {
					t.Fatalf("%s: %+v", code, exit)
				}
			}
			x, y := rigs[0].c.State(), rigs[1].c.State()
			if x.GPR != y.GPR || x.RFLAGS != y.RFLAGS || !slices.Equal(rigs[0].ram[:0x1f0000], rigs[1].ram[:0x1f0000]) {
				t.Errorf("%s with %+v: a run leaves %x, a step %x", code, plan, x.GPR, y.GPR)
			}
		}
	}
}

// TestObservations: each instruction once for each context, with the routes that it took.
func TestObservations(t *testing.T) {
	b := newRedirectRig(t)
	copy(b.ram[atFunc:], unhex("4c8b4f08 c3")) // mov r9, [rdi+8]; ret
	call := func(at uint64) string { return "e8 " + le(atFunc-(at+5), 4) }
	b.run(loadRoot + "4889c7" + call(atCode+11) + "48c7c7 00e10000" + call(atCode+23) + "90")
	routes := map[uint64]Reasons{}
	for o := range b.c.Observations {
		if o.RIP == atFunc {
			if len(o.Context) != 1 || o.Context[0].Depth == 0 {
				t.Fatalf("context %+v", o.Context)
			}
			routes[o.Context[0].Return] = o.Operands[0]
		}
	}
	if len(routes) != 2 || routes[atCode+16] != ByTaint || routes[atCode+28] != ByDefault {
		t.Errorf("routes by return address: %v", routes)
	}
}

// TestRedirection32: per-CPU variables of a 32-bit kernel are where they were linked plus a base, and the sum wraps around.
func TestRedirection32(t *testing.T) {
	const variable, offsets, local = 0xce000000, atData + 0x20, atData + 0x40
	perCPU := func(at uint64) uint64 { return (at - variable) & 0xffffffff }
	b := &redirectRig{sysRig: newSysRig(t, Config{})}
	b.protected32()
	b.setState(func(s *vcpu.State) { s.Seg[isa.FS].Base = perCPU(local) })
	b.c.EnableTaint(&TaintOptions{PointerPart: true, Space: taint.Space{
		Lo: userEnd, Hi: 0xffff0000, Width: 4, OffsetsLo: variable, OffsetsHi: variable + 0x1000,
	}})
	b.put32(local, 0x10ca1)
	b.put32(other+atList, atList)
	b.put32(other+atList+8, 0x77)
	b.put32(other+offsets, perCPU(atList))
	b.c.Shadow().Mark(other, 0x20000)
	b.r = Redirection{
		Translate: func(la uint64) (uint64, bool) { return other + la, la < 0x20000 }, StackSize: 0x1000, User: userEnd,
		PerCPU: perCPU(atList),
		Hooks: map[uint64]Hook{
			atFunc:   {Kind: HookElide, Always: true, Return: 0x5_0000_0007},
			atBranch: {Kind: HookAnswer, Answer: func(v uint64) (uint64, bool) { return v + 8, v == atList }},
		},
	}
	b.s = Scope{Roots: []Range{{Lo: offsets, Hi: offsets + 4}}, PerCPURoots: []Range{{Lo: variable, Hi: variable + 4}}}
	call := func(at, target uint64) string { return "e8" + le(target-at-5, 4) }
	b.run("64a1" + le(variable, 4) + // mov eax, fs:[variable]
		"8b5808" + // mov ebx, [eax+8]
		"b9" + le(variable, 4) + "030d" + le(offsets, 4) + // mov ecx, variable; add ecx, [offsets]
		"8b31" + // mov esi, [ecx]
		"64a1" + le(variable, 4) + call(atCode+28, atBranch) + // the answer is a pointer into the other machine
		"8b38" + // mov edi, [eax]
		call(atCode+35, atFunc))
	b.wantReg(isa.RBX, 0x77)
	b.wantReg(isa.RSI, atList)
	b.wantReg(isa.RDI, 0x77)
	b.wantReg(isa.RAX, 7)
	b.wantReg(isa.RDX, 5)
}
