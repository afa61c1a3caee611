package metadata

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/policy"
)

// TestStoredOutline: a store has an outline of its own for a scope, which need not be made of the scope, and has its deciding sites.
func TestStoredOutline(t *testing.T) {
	id := ScopeID{Name: "procfs", Syscall: "read"}
	site := Site{
		Location: Location{Offset: 16}, Bits: 64, Bytes: []byte{0x48, 0x8b, 0x03}, Category: policy.BiRedirectable,
		Operands: []Operand{{Text: "[rbx]", Size: 8, Read: true, Seen: SeenAs(policy.Snapshot, policy.ByRoot)}},
		Contexts: []Context{{Decision: Decision{Routes: []policy.Route{policy.Snapshot}}, Marks: Adjusted}},
	}
	key := Key{Banner: "Linux version 6.1.0", BTFHash: strings.Repeat("0a", 32), Policy: "0a"}
	s := &Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
	if _, err := s.Merge(key, &Set{scopes: map[ScopeID][]Site{id: {site}}}, Training{Scopes: []ScopeID{id}}); err != nil {
		t.Fatal(err)
	}
	set, err := s.LoadLazily(key)
	if err != nil {
		t.Fatal(err)
	}
	p := set.stored.scopes[id]
	if p == nil {
		t.Fatal("the scope is not apart")
	}
	o := p.outlined(id, func() []Site { return nil })
	if o == nil || len(o.Modules) != 1 || o.read == nil {
		t.Fatalf("the store's outline is %+v", o)
	}
	if full := o.Site(o.Modules[0].Name, o.Modules[0].Sites[0]); full == nil || len(full.Contexts) != 1 {
		t.Errorf("the deciding site is %+v", full)
	}
}
