package slowbridge

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

const plansText = 0xffffffff81000000

// asker is a bridge of which only what asks handlers is used: its kernel has the code of two functions, f and, 0x20 bytes behind, g.
type asker struct {
	*Bridge
	code  []byte
	asked [][]policy.Site
	say   func(policy.Site) policy.Plan
}

func (a *asker) ReadLinear(la uint64, p []byte) int {
	if la-plansText >= uint64(len(a.code)) {
		return 0
	}
	return copy(p, a.code[la-plansText:])
}
func (a *asker) PerCPUBase() uint64       { return 0 }
func (a *asker) FromSnapshot(uint64) bool { return false }

func newAsker(t *testing.T, interests policy.Interests, known *metadata.Set) *asker {
	t.Helper()
	// f: xor eax, eax; mov rbx, [rdi]; mov [rdi+8], rbx; lea rcx, [rbx]; jz f; ret, and nothing up to g: nop; ret
	code, err := hex.DecodeString("31c0" + "488b1f" + "48895f08" + "488d0b" + "74f2" + "c3")
	if err != nil {
		t.Fatal(err)
	}
	a := &asker{code: append(append(code, make([]byte, 0x20-len(code))...), 0x90, 0xc3), say: func(policy.Site) policy.Plan { return policy.Plan{} }}
	for i := len(code); i < 0x20; i++ {
		a.code[i] = 0xcc
	}
	plans := func(sites []policy.Site) ([]policy.Plan, error) {
		a.asked = append(a.asked, sites)
		var out []policy.Plan
		for _, s := range sites {
			out = append(out, a.say(s))
		}
		return out, nil
	}
	if known == nil {
		known = &metadata.Set{}
	}
	a.Bridge = &Bridge{
		guest: a, types: &Types{word: 8}, code: cpu.Range{Lo: plansText, Hi: plansText + 0x1000}, known: metadata.NewIndex(known),
		symbols:  symbols.NewTable([]symbols.Symbol{{Name: "f", Address: plansText, Type: 't'}, {Name: "g", Address: plansText + 0x20, Type: 't'}}),
		scopeIDs: []metadata.ScopeID{{Name: "procfs", Syscall: "read"}}, questions: newQuestions(plans, interests),
		moduleBases: map[string]uint64{}, locations: map[uint64]metadata.Location{}, texts: map[uint64]disassembled{},
	}
	return a
}

func (a *asker) touch(t *testing.T, off uint64, why cpu.Reasons, callers ...uint64) *cpu.Touch {
	t.Helper()
	in, err := isa.Decode(a.code[off:], isa.Mode64, isa.AllFeatures)
	if err != nil {
		t.Fatal(err)
	}
	touch := &cpu.Touch{RIP: plansText + off, Inst: &in, Operands: [2]cpu.Reasons{why}}
	for i, c := range callers {
		touch.Context = append(touch.Context, cpu.Frame{Return: plansText + c, Depth: uint32(0x100 - 8*i)})
	}
	return touch
}

func everything(of ...policy.Category) policy.Interests {
	x := policy.Interests{}
	for _, c := range of {
		x[c] = []policy.Interest{{}}
	}
	return x
}

// TestAskedInBatches: all neutral instructions of a function are asked about at once, and what a function has touched in one context is
// asked about at once in another; nothing twice.
func TestAskedInBatches(t *testing.T) {
	a := newAsker(t, everything(policy.Neutral, policy.Redirectable, policy.NonRedirectable), nil)
	a.say = func(s policy.Site) policy.Plan { return policy.Plan{Trap: s.Category.String() + " " + s.Disassembly} }
	ask := func(want string, touch *cpu.Touch) {
		t.Helper()
		p, err := a.Ask(touch)
		if err != nil || p.Trap != want {
			t.Errorf("%+v, %v; want %q", p, err, want)
		}
	}
	for range 2 {
		ask("N xor eax, eax", a.touch(t, 0, 0, 0x100))
		ask("N ret", a.touch(t, 14, 0, 0x200))
	}
	if len(a.asked) != 1 || len(a.asked[0]) != 4 || a.asked[0][1].Context != nil {
		t.Fatalf("%+v", a.asked)
	}
	a.asked = nil
	ask("R mov rbx, qword ptr [rdi]", a.touch(t, 2, cpu.ByTaint, 0x100))
	ask("NR mov qword ptr [rdi+0x8], rbx", a.touch(t, 5, cpu.ByDefault, 0x100))
	ask("R mov rbx, qword ptr [rdi]", a.touch(t, 2, cpu.ByTaint, 0x200)) // and the other one with it
	ask("NR mov qword ptr [rdi+0x8], rbx", a.touch(t, 5, cpu.ByDefault, 0x200))
	ask("R mov rbx, qword ptr [rdi]", a.touch(t, 2, cpu.ByTaint, 0x300))
	ask("", a.touch(t, 5, cpu.ByTaint, 0x300)) // not what it was thought to be, but Bi, whose handler wants nothing
	var sizes []int
	for _, q := range a.asked {
		sizes = append(sizes, len(q))
	}
	if want := []int{1, 1, 2, 2}; !reflect.DeepEqual(sizes, want) {
		t.Errorf("questions about %v sites, want %v", sizes, want)
	}
}

// TestInterestsAreKept: what no handler wants to be asked about it is not.
func TestInterestsAreKept(t *testing.T) {
	a := newAsker(t, policy.Interests{
		policy.Neutral:         {{Functions: []string{"g"}}},
		policy.NonRedirectable: {{Functions: []string{"f"}, Scopes: []string{"uname"}}},
		policy.BiRedirectable:  {{Functions: []string{"f*"}}},
	}, nil)
	for rip, want := range map[uint64]cpu.Touches{plansText: cpu.TouchOther, plansText + 0x1f: cpu.TouchOther, plansText + 0x20: cpu.TouchNone} {
		if got := a.Asks(0, rip); got != want {
			t.Errorf("at %#x: %v, want %v", rip, got, want)
		}
	}
	if _, err := a.Ask(a.touch(t, 2, cpu.ByTaint)); err != nil || len(a.asked) != 0 {
		t.Errorf("asked about R: %+v, %v", a.asked, err)
	}
}

// TestKnownIsNotAsked: a site that Meta-Data has, whatever it says, was asked about by who saw it first.
func TestKnownIsNotAsked(t *testing.T) {
	a := newAsker(t, everything(policy.Neutral, policy.Redirectable), nil)
	id := metadata.ScopeID{Name: "procfs", Syscall: "read"}
	set := &metadata.Set{}
	elided := metadata.Context{Decision: metadata.Decision{Plan: policy.Plan{Elide: true}}}
	path := a.frames(a.touch(t, 0, 0, 0x100).Context)
	read := metadata.Context{Path: path, Decision: metadata.Decision{Routes: []policy.Route{policy.Snapshot}, Plan: policy.Plan{Elide: true}}}
	if err := set.Add(id,
		metadata.Site{Location: metadata.Location{Offset: 0}, Bytes: a.code[:2], Category: policy.Neutral},
		metadata.Site{Location: metadata.Location{Offset: 14}, Bytes: a.code[14:15], Category: policy.Neutral, Contexts: []metadata.Context{elided}},
		metadata.Site{Location: metadata.Location{Offset: 2}, Bytes: a.code[2:5], Operands: []metadata.Operand{{Text: "[rdi]"}}, Contexts: []metadata.Context{read}},
	); err != nil {
		t.Fatal(err)
	}
	a = newAsker(t, everything(policy.Neutral, policy.Redirectable), set)
	for off, want := range map[uint64]bool{0: false, 14: true, 2: true} {
		why := cpu.ByTaint
		if off != 2 {
			why = 0
		}
		if p, err := a.Ask(a.touch(t, off, why, 0x100)); err != nil || p.Elide != want {
			t.Errorf("at %d: %+v, %v", off, p, err)
		}
	}
	if len(a.asked) != 0 {
		t.Errorf("asked %+v", a.asked)
	}
	if _, err := a.Ask(a.touch(t, 2, cpu.ByTaint, 0x200)); err != nil || len(a.asked) != 1 {
		t.Errorf("another context: %+v, %v", a.asked, err)
	}
}

// TestCarry: a plan's routes are in the order of the operands that an instruction has, and Refuse is about stores into the snapshot.
func TestCarry(t *testing.T) {
	a := newAsker(t, nil, nil)
	local, snapshot := []policy.Route{policy.Local}, []policy.Route{policy.Snapshot}
	for _, c := range []struct {
		name, code string
		other      [2]bool
		plan       policy.Plan
		want       cpu.Plan
		refused    bool
	}{
		{"a load", "488b1f", [2]bool{true}, policy.Plan{Routes: local}, cpu.Plan{Local: [2]bool{true}}, false},
		{"a local load", "488b1f", [2]bool{}, policy.Plan{Routes: snapshot}, cpu.Plan{Other: [2]bool{true}}, false},
		{"STOS", "48ab", [2]bool{false, true}, policy.Plan{Routes: local}, cpu.Plan{Local: [2]bool{false, true}}, false},
		{"a refused store", "48895f08", [2]bool{true}, policy.Plan{Writes: policy.Refuse}, cpu.Plan{}, true},
		{"a local store", "48895f08", [2]bool{}, policy.Plan{Writes: policy.Refuse}, cpu.Plan{}, false},
		{"a store kept local", "48895f08", [2]bool{true}, policy.Plan{Writes: policy.Refuse, Routes: local}, cpu.Plan{Local: [2]bool{true}}, false},
		{"a store sent there", "48895f08", [2]bool{}, policy.Plan{Writes: policy.Refuse, Routes: snapshot}, cpu.Plan{}, true},
		{"a copy from the snapshot", "48a5", [2]bool{true, false}, policy.Plan{Writes: policy.Refuse}, cpu.Plan{}, false},
		{"a trap", "488b1f", [2]bool{true}, policy.Plan{Trap: "no"}, cpu.Plan{}, true},
	} {
		code, err := hex.DecodeString(c.code)
		if err != nil {
			t.Fatal(err)
		}
		copy(a.code, code)
		in, err := isa.Decode(code, isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Carry(plansText, &in, c.other, &c.plan)
		if (err != nil) != c.refused || err == nil && got != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

// TestUnseen: U's handler is told which addresses tell; others, what the rules make of it.
func TestUnseen(t *testing.T) {
	a := newAsker(t, everything(policy.Unknown, policy.Redirectable), nil)
	in := a.touch(t, 2, cpu.ByTaint).Inst
	seen := [2]cpu.Reasons{cpu.ByTaint}
	for range 2 {
		if _, routes, err := a.AskUnseen(0, plansText+2, in, seen, &[2]bool{true}); err != nil || !reflect.DeepEqual(routes, []policy.Route{policy.Snapshot}) {
			t.Errorf("%v, %v", routes, err)
		}
		if _, _, err := a.AskUnseen(0, plansText+2, in, seen, nil); err != nil {
			t.Error(err)
		}
	}
	if len(a.asked) != 2 {
		t.Fatalf("%+v", a.asked)
	}
	for i, want := range []struct {
		policy.Category
		policy.Reason
	}{{policy.Unknown, policy.ByAddress}, {policy.Redirectable, policy.ByTaint}} {
		if s := a.asked[i][0]; s.Category != want.Category || s.Operands[0].Reason != want.Reason {
			t.Errorf("%+v, want %v", s, want)
		}
	}
	a.questions.plans = func([]policy.Site) ([]policy.Plan, error) { return nil, errors.New("it is gone") }
	if _, _, err := a.AskUnseen(0, plansText+5, in, seen, nil); err == nil {
		t.Error("a handler's error is lost")
	}
}
