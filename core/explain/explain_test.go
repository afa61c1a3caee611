package explain_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hybridbridge/emu/core/explain"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

var update = flag.Bool("update", false, "write the golden files")

// assembler lays out hand-made sites one after the other.
type assembler struct {
	t        *testing.T
	set      *metadata.Set
	scope    metadata.ScopeID
	function string
	module   string
	start    uint64
	at       uint64
	bits     uint8
}

func (a *assembler) begin(function string, at uint64) { a.function, a.start, a.at = function, at, at }

func (a *assembler) skip(n uint64) { a.at += n }

// emit adds an instruction. Every context has the routes of all operands.
func (a *assembler) emit(code string, category policy.Category, ops []policy.Operand, contexts ...metadata.Context) {
	a.t.Helper()
	if len(ops) > 0 && len(contexts) == 0 {
		var routes []policy.Route
		for _, o := range ops {
			routes = append(routes, o.Route)
		}
		contexts = []metadata.Context{{Path: a.path(0), Decision: metadata.Decision{Routes: routes}}}
	}
	// All addresses but those on the stack and in user space are such as both machines have.
	for i := range contexts {
		for j, o := range ops {
			if route := contexts[i].Routes[j]; o.Reason != policy.ByStack && o.Reason != policy.ByUser {
				contexts[i].Marks |= metadata.NeedsLocal << (route - policy.Local)
			}
		}
	}
	l := metadata.Location{Module: a.module, Offset: a.at}
	site := metadata.Site{
		Location: l, Bytes: []byte(code), Bits: a.bits, Category: category,
		Operands: metadata.OperandsOf(ops), Contexts: contexts,
	}
	if err := a.set.Add(a.scope, site); err != nil {
		a.t.Fatal(err)
	}
	a.set.AddSymbol(l, metadata.Symbol{Function: a.function, Offset: a.at - a.start})
	a.at += uint64(len(code))
}

// path is a call from one of do_syscall_64's two places.
func (a *assembler) path(caller uint64) []metadata.Frame {
	l := metadata.Location{Offset: 0x900000 + caller}
	a.set.AddSymbol(l, metadata.Symbol{Function: "do_syscall_64", Offset: 0x35 + caller})
	return []metadata.Frame{{Return: l, Depth: 0xc0}}
}

func (a *assembler) context(caller uint64, plan policy.Plan, routes ...policy.Route) metadata.Context {
	return metadata.Context{Path: a.path(caller), Decision: metadata.Decision{Routes: routes, Plan: plan}}
}

func operand(text string, size int, route policy.Route, reason policy.Reason) policy.Operand {
	return policy.Operand{Text: text, Size: size, Read: true, Route: route, Reason: reason}
}

const (
	local    = policy.Local
	snapshot = policy.Snapshot
)

var stack = []policy.Operand{operand("stack", 8, local, policy.ByStack)}

// getpid is like the paper's figure, in 64 bits.
func getpid(t *testing.T) *metadata.Set {
	set := &metadata.Set{}
	a := &assembler{t: t, set: set, scope: metadata.ScopeID{Name: "identity", Syscall: "getpid"}}
	a.begin("__x64_sys_getpid", 0x583e0)
	a.emit("\x55", policy.NonRedirectable, stack)
	a.emit("\x48\x89\xe5", policy.Neutral, nil)
	a.emit("\x65\x48\x8b\x04\x25\x00\xad\x01\x00", policy.Redirectable, []policy.Operand{operand("gs:[0x1ad00]", 8, snapshot, policy.ByRoot)})
	a.emit("\x48\x8b\xb8\x20\x02\x00\x00", policy.Redirectable, []policy.Operand{operand("[rax+0x220]", 8, snapshot, policy.ByTaint)})
	a.emit("\xff\xb7\x3c\x02\x00\x00", policy.SemiRedirectable,
		[]policy.Operand{operand("[rdi+0x23c]", 8, snapshot, policy.ByTaint), stack[0]})
	a.emit("\xe8\x08\x00\x00\x00", policy.NonRedirectable, stack)
	a.skip(2)
	a.emit("\xc3", policy.NonRedirectable, stack)
	a.begin("strlen", 0x58407)
	a.emit("\x80\x3f\x00", policy.Unknown, []policy.Operand{operand("[rdi]", 1, snapshot, policy.ByTaint)},
		a.context(0, policy.Plan{}, local), a.context(8, policy.Plan{}, snapshot))
	a.emit("\xf3\xa4", policy.SemiRedirectable,
		[]policy.Operand{operand("[rsi]", 1, snapshot, policy.ByTaint), operand("[rdi]", 1, local, policy.ByUser)})
	a.emit("\xf0\xff\x07", policy.Redirectable, []policy.Operand{operand("[rdi]", 4, snapshot, policy.ByTaint)},
		a.context(0, policy.Plan{Elide: true}, snapshot))
	a.emit("\x8b\x07", policy.Unknown, []policy.Operand{operand("[rdi]", 4, snapshot, policy.ByTaint)},
		a.context(0, policy.Plan{}, snapshot), a.context(0, policy.Plan{}, local))
	frozen := uint64(0x1234)
	a.emit("\x0f\x31", policy.Neutral, nil, a.context(0, policy.Plan{Frozen: &frozen}))
	a.module = "virtio_net"
	a.begin("virtnet_poll", 0x100)
	a.emit("\x48\x8b\x03", policy.NonRedirectable, []policy.Operand{operand("[rbx]", 8, local, policy.ByDefault)})
	a.emit("\x74\xfb", policy.Neutral, nil)
	set.AddTraining(metadata.Training{Snapshot: "web", Command: []string{"/bin/ps", "aux"}, Instructions: 9, Scopes: set.Scopes()})
	return set
}

// getpid32 is the paper's figure itself.
func getpid32(t *testing.T) *metadata.Set {
	set := &metadata.Set{}
	a := &assembler{t: t, set: set, scope: metadata.ScopeID{Syscall: "getpid"}, bits: 32}
	a.begin("sys_getpid", 0x583e0)
	a.emit("\x55", policy.NonRedirectable, stack)
	a.emit("\x89\xe5", policy.Neutral, nil)
	a.emit("\x53", policy.NonRedirectable, stack)
	a.emit("\x83\xec\x14", policy.Neutral, nil)
	a.emit("\x64\x8b\x1d\xcc\x34\x7f\xc1", policy.Redirectable, []policy.Operand{operand("fs:[0xc17f34cc]", 4, snapshot, policy.ByRoot)})
	a.skip(0x583fe - a.at)
	a.emit("\x8b\x83\x20\x02\x00\x00", policy.Redirectable, []policy.Operand{operand("[ebx+0x220]", 4, snapshot, policy.ByTaint)})
	a.emit("\x8b\x80\x3c\x02\x00\x00", policy.Redirectable, []policy.Operand{operand("[eax+0x23c]", 4, snapshot, policy.ByTaint)})
	a.emit("\xe8\x51\xd2\x00\x00", policy.NonRedirectable, stack)
	a.emit("\x83\xc4\x14", policy.Neutral, nil)
	return set
}

func TestListing(t *testing.T) {
	for name, set := range map[string]*metadata.Set{"getpid": getpid(t), "getpid32": getpid32(t)} {
		var out bytes.Buffer
		for _, id := range set.Scopes() {
			if err := explain.New(set, id).Print(&out); err != nil {
				t.Fatal(err)
			}
		}
		golden(t, name+".txt", out.Bytes())
	}
	var out bytes.Buffer
	key := metadata.Key{Banner: "Linux version 6.1.0 (builder)", BTFHash: "00", Policy: "11"}
	if err := explain.Show(&out, key, getpid(t)); err != nil {
		t.Fatal(err)
	}
	golden(t, "show.txt", out.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: -update shows the difference; got\n%s", path, got)
	}
}

func TestFindTool(t *testing.T) {
	set := getpid(t)
	for _, c := range []struct {
		command []string
		found   bool
	}{
		{[]string{"ps"}, true},
		{[]string{"/usr/bin/ps"}, true},
		{[]string{"ps", "aux"}, true},
		{[]string{"ps", "ax"}, false},
		{[]string{"lsmod"}, false},
		{nil, false},
	} {
		if ids := explain.FindTool(set, c.command); (len(ids) == 1) != c.found {
			t.Errorf("%q: %v", c.command, ids)
		}
	}
	if ids := explain.Find(set, "getpid"); !slices.Equal(ids, set.Scopes()) {
		t.Error(ids)
	}
	if ids := explain.Find(set, "read"); len(ids) != 0 {
		t.Error(ids)
	}
}
