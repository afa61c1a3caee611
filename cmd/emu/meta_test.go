package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

var metaKey = metadata.Key{
	Banner:  "Linux version 6.1.0-18-cloud-amd64 (debian-kernel@lists.debian.org)",
	BTFHash: strings.Repeat("0f", 32), Policy: "abcdef0123456789",
}

// trainedStore returns a store in which one load of getpid is known.
func trainedStore(t *testing.T, key metadata.Key, route policy.Route, caller uint64) string {
	t.Helper()
	at := metadata.Location{Offset: 0x583e0}
	id := metadata.ScopeID{Name: "identity", Syscall: "getpid"}
	var set metadata.Set
	err := set.Add(id, metadata.Site{
		Location: at, Bytes: []byte{0x48, 0x8b, 0x07},
		Operands: []metadata.Operand{{Text: "[rdi]", Size: 8, Read: true, Seen: metadata.SeenAs(route, policy.ByTaint)}},
		Contexts: []metadata.Context{{
			Path:     []metadata.Frame{{Return: metadata.Location{Offset: caller}, Depth: 0xc0}},
			Decision: metadata.Decision{Routes: []policy.Route{route}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	set.AddSymbol(at, metadata.Symbol{Function: "__x64_sys_getpid"})
	path := filepath.Join(t.TempDir(), "metadata.db")
	s := metadata.Store{Path: path}
	training := metadata.Training{Snapshot: "web", Command: []string{"/bin/ps", "aux"}, Scopes: set.Scopes()}
	if _, err := s.Merge(key, &set, training); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustEmu runs emu and returns what it printed.
func mustEmu(t *testing.T, args ...string) string {
	t.Helper()
	text, err := emuOut(args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return text
}

func TestMetaCommands(t *testing.T) {
	db := trainedStore(t, metaKey, policy.Snapshot, 0x900000)
	if text := mustEmu(t, "meta", "ls", "--meta", db); text !=
		metaKey.ID()+"  kernel 6.1.0-18-cloud-amd64  policy abcdef012345  1 scopes  sites: 1 R  trainings: 1\n" {
		t.Error(text)
	}
	var list []keySummary
	if err := json.Unmarshal([]byte(mustEmu(t, "meta", "ls", "--json", "--meta", db)), &list); err != nil ||
		len(list) != 1 || list[0].ID != metaKey.ID() || list[0].Sites["R"] != 1 {
		t.Error(list, err)
	}
	const line = "ffffffff810583e0  R     mov rax, qword ptr [rdi]                  [rdi]: snapshot by taint"
	if text := mustEmu(t, "meta", "show", metaKey.ID()[:4], "--category", "r", "--meta", db); !strings.Contains(text, line) {
		t.Error(text)
	}
	for _, filter := range [][2]string{{"--category", "NR"}, {"--function", "f"}, {"--scope", "s"}, {"--syscall", "read"}} {
		if text := mustEmu(t, "meta", "show", filter[0], filter[1], "--meta", db); strings.Contains(text, "rdi") {
			t.Error(filter, text)
		}
	}
	const pages = "mov rax, qword ptr [rdi]  int 3                       mov rax, qword ptr [rdi]"
	for _, args := range [][]string{{"getpid"}, {"sys_getpid"}, {"ps"}, {"ps", "aux"}, {"--tool", "ps"}} {
		text := mustEmu(t, append([]string{"explain", "--meta", db}, args...)...)
		if !strings.Contains(text, pages) {
			t.Errorf("%q: %s", args, text)
		}
	}
	if text := mustEmu(t, "explain", "getpid", "--json", "--meta", db); !strings.Contains(text, `"non_redirectable": "int 3"`) {
		t.Error(text)
	}
}

func TestMetaFiles(t *testing.T) {
	a, b := trainedStore(t, metaKey, policy.Snapshot, 0x900000), trainedStore(t, metaKey, policy.Local, 0x900000)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	mustEmu(t, "meta", "export", "--meta", a, "-o", file("a"))
	mustEmu(t, "meta", "export", "--meta", b, "-o", file("b.json"), "--json")
	for name, args := range map[string][]string{
		"ab": {file("a"), file("b.json")}, "ba": {b, a},
	} {
		cmd := append([]string{"meta", "merge", "-o", file(name)}, args...)
		if text := mustEmu(t, cmd...); !strings.Contains(text, "conflict") {
			t.Errorf("%s: %q", name, text)
		}
	}
	ab, err := os.ReadFile(file("ab"))
	ba, err2 := os.ReadFile(file("ba"))
	if err != nil || err2 != nil || !bytes.Equal(ab, ba) {
		t.Error("the order of merging shows", err, err2)
	}
	db := file("new.db")
	mustEmu(t, "meta", "import", file("ab"), "--meta", db)
	if text := mustEmu(t, "meta", "export", "--meta", db); text != string(ab) {
		t.Error("what is imported is not what is exported")
	}
	if text := mustEmu(t, "meta", "ls", "--meta", db); !strings.Contains(text, "1 Bi") || !strings.Contains(text, "conflicts: 1") {
		t.Error(text)
	}
	if text := mustEmu(t, "meta", "import", file("a"), "--meta", db); text != "" {
		t.Error("what is known already is reported:", text)
	}
	mustEmu(t, "meta", "rm", metaKey.ID(), "--meta", db)
	if text := mustEmu(t, "meta", "ls", "--meta", db); !strings.Contains(text, "no Meta-Data") {
		t.Error(text)
	}
}

func TestMetaMisuse(t *testing.T) {
	db := trainedStore(t, metaKey, policy.Snapshot, 0x900000)
	other := metaKey
	other.Policy = "ff"
	dir := t.TempDir()
	text, none := filepath.Join(dir, "text"), filepath.Join(dir, "none")
	if err := os.WriteFile(text, []byte("not Meta-Data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"meta", "show", "ffff", "--meta", db}, metaKey.ID()},
		{[]string{"meta", "show", "--category", "X", "--meta", db}, "R, NR, Semi, Bi, N and U"},
		{[]string{"meta", "show", "--meta", none}, "import"},
		{[]string{"meta", "show", "--meta", text}, "not Meta-Data"},
		{[]string{"meta", "export", "--meta", none}, "to export"},
		{[]string{"meta", "export", "--meta", db, "-o", db}, "is a Meta-Data store"},
		{[]string{"meta", "import", text, "--meta", none}, "not Meta-Data"},
		{[]string{"meta", "import", none, "--meta", db}, "no such file"},
		{[]string{"meta", "import", db, "--meta", filepath.Join(text, "m.db")}, "--meta"},
		{[]string{"meta", "merge", db, db}, "-o"},
		{[]string{"meta", "merge", db, text, "-o", filepath.Join(dir, "out")}, text},
		{[]string{"meta", "rm", "ffff", "--meta", db}, metaKey.ID()},
		{[]string{"meta", "rm", "", "--meta", db}, "empty"},
		{[]string{"meta", "rm", metaKey.ID(), "--meta", none}, "no Meta-Data"},
		{[]string{"explain", "read", "--meta", db}, "system calls: getpid; tools: /bin/ps aux"},
		{[]string{"explain", "getpid", "--scope", "procfs", "--meta", db}, "getpid"},
		{[]string{"explain", "--tool", "getpid", "--meta", db}, "tools: /bin/ps aux"},
		{[]string{"explain", "--meta", db}, "arg"},
	} {
		out, err := emuOut(c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %s%v", c.args, out, err)
		}
	}
	set := &metadata.Set{}
	if _, err := (&metadata.Store{Path: db}).Merge(other, set, metadata.Training{}); err != nil {
		t.Fatal(err)
	}
	if _, err := emuOut("explain", "getpid", "--meta", db); err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), other.ID()) {
		t.Error("several keys and none said:", err)
	}
	mustEmu(t, "explain", "getpid", "--key", metaKey.ID(), "--meta", db)
}
