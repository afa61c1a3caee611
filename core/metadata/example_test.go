package metadata_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// SLOW-BRIDGE records what it saw and merges it into the store at the end of a run; FAST-BRIDGE loads it and asks.
func Example() {
	dir, err := os.MkdirTemp("", "emu")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store := metadata.Store{Path: filepath.Join(dir, "metadata.db")}

	scope := metadata.ScopeID{Name: "identity", Syscall: "getpid"}
	at := metadata.Location{Offset: 0x583e7} // from _text
	code := []byte{0x48, 0x8b, 0x80, 0x20, 0x02, 0, 0}
	path := []metadata.Frame{{Return: metadata.Location{Offset: 0x900035}, Depth: 0xc0}}
	var set metadata.Set
	err = set.Add(scope, metadata.Site{
		Location: at, Bytes: code,
		Operands: metadata.OperandsOf([]policy.Operand{
			{Text: "[rax+0x220]", Size: 8, Read: true, Route: policy.Snapshot, Reason: policy.ByTaint},
		}),
		Contexts: []metadata.Context{{Path: path, Decision: metadata.Decision{Routes: []policy.Route{policy.Snapshot}}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	set.AddSymbol(at, metadata.Symbol{Function: "__x64_sys_getpid", Offset: 7})
	training := metadata.Training{Snapshot: "web.elf", Command: []string{"ps"}, Instructions: 1_000_000, Scopes: set.Scopes()}
	if _, err := store.Merge(testKey, &set, training); err != nil {
		fmt.Println(err)
		return
	}

	known, err := store.Load(testKey)
	if err != nil {
		fmt.Println(err)
		return
	}
	entry := metadata.NewIndex(known).Scope(scope).Site(at, code)
	fmt.Println(entry.Category(), entry.Exact(path) != nil, entry.Site.Operands[0].Seen)
	// Output: R true snapshot by taint
}
