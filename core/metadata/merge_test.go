package metadata_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

var testKey = metadata.Key{
	Banner:  "Linux version 6.1.0-18-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP",
	BTFHash: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
	Policy:  "abcdef0123456789",
}

func encode(t rapid.TB, s *metadata.Set) []byte {
	t.Helper()
	b, err := metadata.Encode(map[metadata.Key]*metadata.Set{testKey: s})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(t rapid.TB, b []byte) *metadata.Set {
	t.Helper()
	sets, err := metadata.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return sets[testKey]
}

// genLocation is from few values, so that sets overlap.
var genLocation = rapid.Custom(func(t *rapid.T) metadata.Location {
	return metadata.Location{
		Module: rapid.SampledFrom([]string{"", "virtio"}).Draw(t, "module"),
		Offset: rapid.Uint64Range(0x1000, 0x1002).Draw(t, "offset"),
	}
})

// genPath is innermost first. Calls from one function push at one depth, as real ones do mostly.
var genPath = rapid.Custom(func(t *rapid.T) []metadata.Frame {
	var path []metadata.Frame
	depth := uint32(0)
	for range rapid.IntRange(0, 3).Draw(t, "length") {
		depth += rapid.SampledFrom([]uint32{0x40, 0x40, 0x48}).Draw(t, "size")
		path = append(path, metadata.Frame{Return: genLocation.Draw(t, "return"), Depth: depth})
	}
	slices.Reverse(path)
	return path
})

var genSite = rapid.Custom(func(t *rapid.T) metadata.Site {
	s := metadata.Site{Location: genLocation.Draw(t, "at"), Bytes: []byte{byte(rapid.IntRange(0x50, 0x51).Draw(t, "opcode"))}}
	n := rapid.IntRange(0, 2).Draw(t, "operands")
	if n == 0 {
		s.Category = rapid.SampledFrom([]policy.Category{policy.Unknown, policy.Neutral}).Draw(t, "category")
		return s
	}
	route := rapid.SampledFrom([]policy.Route{policy.Local, policy.Snapshot})
	for range n {
		s.Operands = append(s.Operands, metadata.Operand{
			Text: rapid.SampledFrom([]string{"[rax]", "stack"}).Draw(t, "text"), Size: 8, Read: rapid.Bool().Draw(t, "read"),
			Seen: metadata.SeenAs(route.Draw(t, "seen"), policy.ByTaint),
		})
	}
	for range rapid.IntRange(1, 3).Draw(t, "contexts") {
		c := metadata.Context{Path: genPath.Draw(t, "path")}
		for range n {
			c.Routes = append(c.Routes, route.Draw(t, "route"))
		}
		if rapid.Bool().Draw(t, "planned") {
			c.Plan.Frozen = new(rapid.Uint64Range(0, 1).Draw(t, "frozen"))
		}
		c.Marks = metadata.Marks(rapid.Uint8Range(0, 31).Draw(t, "marks"))
		s.Contexts = append(s.Contexts, c)
	}
	return s
})

var genSet = rapid.Custom(func(t *rapid.T) *metadata.Set {
	s := &metadata.Set{}
	for _, name := range []string{"", "procfs"} {
		if err := s.Add(metadata.ScopeID{Name: name, Syscall: "read"}, rapid.SliceOfN(genSite, 0, 4).Draw(t, "sites")...); err != nil {
			t.Fatal(err)
		}
	}
	s.AddSymbol(genLocation.Draw(t, "symbol"), metadata.Symbol{Function: rapid.SampledFrom([]string{"f", "g"}).Draw(t, "function")})
	s.AddTraining(metadata.Training{
		Snapshot: "s", Command: rapid.SampledFrom([][]string{{"ps"}, {"ps", "aux"}}).Draw(t, "command"),
		Instructions: rapid.Uint64Range(1, 3).Draw(t, "instructions"), Scopes: s.Scopes(), Partial: rapid.Bool().Draw(t, "partial"),
	})
	return s
})

func merged(sets ...*metadata.Set) *metadata.Set {
	all := &metadata.Set{}
	for _, s := range sets {
		all.Merge(s)
	}
	return all
}

func TestMergeIsASemilattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := genSet.Draw(t, "a"), genSet.Draw(t, "b"), genSet.Draw(t, "c")
		before := encode(t, b)
		for name, pair := range map[string][2]*metadata.Set{
			"commutative": {merged(a, b), merged(b, a)},
			"associative": {merged(merged(a, b), c), merged(a, merged(b, c))},
			"idempotent":  {merged(a, b, a, b), merged(a, b)},
		} {
			if !bytes.Equal(encode(t, pair[0]), encode(t, pair[1])) {
				t.Errorf("merging is not %s", name)
			}
		}
		if !bytes.Equal(before, encode(t, b)) {
			t.Error("merging changed what was merged")
		}
		known := len(a.Conflicts())
		if fresh := a.Merge(b); len(a.Conflicts()) < known || len(fresh) > len(a.Conflicts()) {
			t.Error("merging lost conflicts")
		}
	})
}

func TestEncodingIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSet.Draw(t, "set")
		b := encode(t, s)
		back := decode(t, b)
		if !bytes.Equal(b, encode(t, back)) {
			t.Error("the set changed")
		}
		j, err := metadata.EncodeJSON(map[metadata.Key]*metadata.Set{testKey: s})
		if err != nil {
			t.Fatal(err)
		}
		sets, err := metadata.DecodeJSON(j)
		if err != nil || !bytes.Equal(b, encode(t, sets[testKey])) {
			t.Error("the set changed by way of JSON:", err)
		}
	})
}

func site(category policy.Category, contexts ...metadata.Context) metadata.Site {
	s := metadata.Site{Location: metadata.Location{Offset: 0x100}, Bytes: []byte{0x8b, 0x00}, Category: category, Contexts: contexts}
	if category != policy.Neutral {
		s.Operands = []metadata.Operand{{Text: "[rax]", Size: 4, Read: true}}
	}
	return s
}

func from(route policy.Route, returns ...uint64) metadata.Context {
	c := metadata.Context{Decision: metadata.Decision{Routes: []policy.Route{route}}}
	for i, r := range returns {
		c.Path = append(c.Path, metadata.Frame{Return: metadata.Location{Offset: r}, Depth: uint32(0x40 * (len(returns) - i))})
	}
	return c
}

func setOf(t rapid.TB, s metadata.Site) *metadata.Set {
	t.Helper()
	var set metadata.Set
	if err := set.Add(scope, s); err != nil {
		t.Fatal(err)
	}
	return &set
}

var scope = metadata.ScopeID{Name: "identity", Syscall: "getpid"}

func TestCategoriesJoin(t *testing.T) {
	const u, r, nr, semi, bi, n = policy.Unknown, policy.Redirectable, policy.NonRedirectable, policy.SemiRedirectable,
		policy.BiRedirectable, policy.Neutral
	for _, c := range [][3]policy.Category{
		{r, nr, bi}, {r, r, r}, {n, n, n}, {u, n, n}, {u, r, r}, {u, u, u}, {semi, r, bi}, {bi, nr, bi}, {n, r, r}, {n, bi, bi},
	} {
		if got := metadata.JoinCategories(c[0], c[1]); got != c[2] {
			t.Errorf("%s + %s is %s, not %s", c[0], c[1], got, c[2])
		}
	}
}

func TestTwoRunsMakeASiteBi(t *testing.T) {
	a, b := setOf(t, site(policy.Redirectable, from(policy.Snapshot, 0x10))), setOf(t, site(policy.NonRedirectable, from(policy.Local, 0x20)))
	if conflicts := a.Merge(b); len(conflicts) != 0 {
		t.Error("two contexts that differ conflict:", conflicts)
	}
	got := a.Sites(scope)
	if len(got) != 1 || got[0].Category != policy.BiRedirectable || len(got[0].Contexts) != 2 {
		t.Fatalf("%+v", got)
	}
	e := metadata.NewIndex(a).Scope(scope).Site(got[0].Location, got[0].Bytes)
	for returns, want := range map[uint64]policy.Route{0x10: policy.Snapshot, 0x20: policy.Local} {
		at := func(uint32) metadata.Location { return metadata.Location{Offset: returns} }
		if d := e.Decide(at); d == nil || d.Routes[0] != want {
			t.Errorf("from %#x: %+v", returns, d)
		}
		if d := e.Exact(from(want, returns).Path); d == nil || d.Routes[0] != want {
			t.Errorf("exactly from %#x: %+v", returns, d)
		}
	}
	if d := e.Decide(func(uint32) metadata.Location { return metadata.Location{Offset: 0x30} }); d != nil {
		t.Errorf("an unknown context is decided: %+v", d)
	}
}

func TestOneContextTwoRoutesIsAConflict(t *testing.T) {
	a, b := setOf(t, site(policy.Redirectable, from(policy.Snapshot, 0x10))), setOf(t, site(policy.NonRedirectable, from(policy.Local, 0x10)))
	conflicts := a.Merge(b)
	if len(conflicts) != 1 || !conflicts[0].SamePath() || len(conflicts[0].Contexts) != 2 {
		t.Fatalf("%+v", conflicts)
	}
	if again := a.Merge(b); len(again) != 0 || len(a.Conflicts()) != 1 {
		t.Errorf("an old conflict is new again: %v; kept: %v", again, a.Conflicts())
	}
	s := a.Sites(scope)[0]
	e := metadata.NewIndex(a).Scope(scope).Site(s.Location, s.Bytes)
	if d := e.Exact(s.Contexts[0].Path); d != nil {
		t.Errorf("a conflict is decided: %+v", d)
	}
	if d := e.Decide(func(uint32) metadata.Location { return metadata.Location{Offset: 0x10} }); d != nil {
		t.Errorf("a conflict is decided: %+v", d)
	}
}

func TestFilterKeepsWhatItsSitesNeed(t *testing.T) {
	set := setOf(t, site(policy.Redirectable, from(policy.Snapshot, 0x10)))
	other := metadata.ScopeID{Syscall: "read"}
	if err := set.Add(other, site(policy.NonRedirectable, from(policy.Local, 0x20))); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []uint64{0x10, 0x20, 0x100} {
		set.AddSymbol(metadata.Location{Offset: offset}, metadata.Symbol{Function: "f", Offset: offset})
	}
	got := set.Filter(func(id metadata.ScopeID, s *metadata.Site) bool { return s.Category == policy.Redirectable })
	if ids := got.Scopes(); len(ids) != 1 || ids[0] != scope {
		t.Error(ids)
	}
	for offset, want := range map[uint64]bool{0x10: true, 0x20: false, 0x100: true} {
		if _, ok := got.Symbol(metadata.Location{Offset: offset}); ok != want {
			t.Errorf("symbol at %#x: %v", offset, ok)
		}
	}
}

func TestBytesTellSitesApart(t *testing.T) {
	patched := site(policy.Redirectable, from(policy.Snapshot, 0x10))
	patched.Bytes = []byte{0x0f, 0x1f, 0x00}
	a := merged(setOf(t, site(policy.NonRedirectable, from(policy.Local, 0x10))), setOf(t, patched))
	if len(a.Sites(scope)) != 2 || len(a.Conflicts()) != 0 {
		t.Fatalf("%+v", a.Sites(scope))
	}
	x := metadata.NewIndex(a).Scope(scope)
	if c := x.Site(patched.Location, patched.Bytes).Category(); c != policy.Redirectable {
		t.Error("the patched site is", c)
	}
	if c := x.Site(patched.Location, []byte{0xcc}).Category(); c != policy.Unknown {
		t.Error("bytes that were never seen are", c)
	}
}

// A kernel that KASLR has moved has other displacements and immediates, and a module's calls lead elsewhere.
func TestRelocationDoesNotMakeAnotherSite(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []byte
		bits uint8
		same bool
	}{
		{"mov rdi, imm32", []byte{0x48, 0xc7, 0xc7, 0x00, 0x10, 0x20, 0x82}, []byte{0x48, 0xc7, 0xc7, 0x00, 0x10, 0x20, 0xa2}, 64, true},
		{"mov rax, [rax*8+disp32]", []byte{0x48, 0x8b, 0x04, 0xc5, 0, 0, 0x10, 0x82}, []byte{0x48, 0x8b, 0x04, 0xc5, 0, 0, 0x10, 0x92}, 64, true},
		{"movabs rax, imm64", []byte{0x48, 0xb8, 0, 0, 0, 0x82, 0xff, 0xff, 0xff, 0xff}, []byte{0x48, 0xb8, 0, 0, 0, 0x83, 0xff, 0xff, 0xff, 0xff}, 64, true},
		{"call rel32", []byte{0xe8, 1, 0, 0, 0}, []byte{0xe8, 2, 0, 0, 0}, 64, true},
		{"mov eax, [disp32] of 32 bits", []byte{0xa1, 0, 0, 0, 0xc1}, []byte{0xa1, 0, 0, 0, 0xc2}, 32, true},
		{"another register", []byte{0x48, 0xc7, 0xc7, 0, 0, 0, 0}, []byte{0x48, 0xc7, 0xc6, 0, 0, 0, 0}, 64, false},
		{"imm8 after disp32", []byte{0x80, 0x3d, 1, 2, 3, 4, 0}, []byte{0x80, 0x3d, 1, 2, 3, 4, 1}, 64, false},
		{"disp32 before imm8", []byte{0x80, 0x3d, 0, 0, 0, 0, 0}, []byte{0x80, 0x3d, 1, 2, 3, 4, 0}, 64, true},
		{"disp8 before imm32", []byte{0xc7, 0x40, 0x10, 0, 0, 0, 0}, []byte{0xc7, 0x40, 0x18, 0, 0, 0, 0}, 64, false},
		{"nop for call", []byte{0xe8, 1, 0, 0, 0}, []byte{0x0f, 0x1f, 0x44, 0, 0}, 64, false},
	} {
		a, b := site(policy.Redirectable, from(policy.Snapshot, 0x10)), site(policy.Redirectable, from(policy.Snapshot, 0x10))
		a.Bytes, a.Bits, b.Bytes, b.Bits = c.a, c.bits, c.b, c.bits
		set := merged(setOf(t, a), setOf(t, b))
		if n := len(set.Sites(scope)); (n == 1) != c.same {
			t.Errorf("%s: %d sites", c.name, n)
		}
		if e := metadata.NewIndex(setOf(t, a)).Scope(scope).Site(b.Location, b.Bytes); (e != nil) != c.same {
			t.Errorf("%s: found %v", c.name, e)
		}
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	good := func() metadata.Site { return site(policy.Redirectable, from(policy.Snapshot, 0x20, 0x10)) }
	for name, spoil := range map[string]func(s *metadata.Site){
		"no bytes":         func(s *metadata.Site) { s.Bytes = nil },
		"too many bytes":   func(s *metadata.Site) { s.Bytes = make([]byte, 16) },
		"bits":             func(s *metadata.Site) { s.Bits = 16 },
		"category":         func(s *metadata.Site) { s.Category = 9 },
		"contradiction":    func(s *metadata.Site) { s.Category = policy.NonRedirectable },
		"routes":           func(s *metadata.Site) { s.Contexts[0].Routes = append(s.Contexts[0].Routes, policy.Local) },
		"route":            func(s *metadata.Site) { s.Contexts[0].Routes[0] = 2 },
		"routes of a plan": func(s *metadata.Site) { s.Contexts[0].Plan.Routes = make([]policy.Route, 3) },
		"write rule":       func(s *metadata.Site) { s.Contexts[0].Plan.Writes = 3 },
		"depths":           func(s *metadata.Site) { slices.Reverse(s.Contexts[0].Path) },
		"depth":            func(s *metadata.Site) { s.Contexts[0].Path[0].Depth = 1 << 30 },
	} {
		s := good()
		spoil(&s)
		var set metadata.Set
		if err := set.Add(scope, s); err == nil || len(set.Scopes()) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
