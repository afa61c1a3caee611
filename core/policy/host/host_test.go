package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/protocol"
	"github.com/hybridbridge/emu/plugins/linux/tables"
)

// built has the programs that the tests run.
var built string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if built, err = os.MkdirTemp("", "emu-policies-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(built)
		cmd := exec.Command("go", "build", "-o", built, "./testdata/broken", "../../../plugins/linux", "../../../plugins/unknown",
			"../../../plugins/redirectable", "../../../plugins/nonredirectable", "../../../plugins/example")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n%s", cmd, err, out)
			return 1
		}
		return m.Run()
	}())
}

// directory makes a directory of policies: names of programs in it, and which program each is. What is not said is emu's own.
func directory(t *testing.T, handlers map[string]string, programs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"linux": "linux", "redirectable": "redirectable", "nonredirectable": "nonredirectable", "unknown": "unknown",
		"semiredirectable": "redirectable", "biredirectable": "redirectable", "neutral": "redirectable",
	}
	for name, program := range programs {
		all[name] = program
	}
	for name, program := range all {
		if program == "" {
			continue
		}
		if err := os.Link(filepath.Join(built, program), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Scan(dir, handlers)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, dir string, o ...Option) *Host {
	t.Helper()
	h, err := Open(dir, hclog.New(&hclog.LoggerOptions{Output: io.Discard}), o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

var kernel64 = policy.Kernel{Banner: "Linux version 6.1.0-50-amd64", Release: "6.1.0-50-amd64", Bits: 64}

func site(c policy.Category) policy.Site {
	return policy.Site{
		Scope: "procfs", Address: 0xffffffff81000000, Symbol: "proc_pid_status", Offset: 4, Bytes: []byte{0x48, 0x8b, 0x00},
		Disassembly: "mov rax, qword ptr [rax]", Category: c,
		Operands: []policy.Operand{{Text: "[rax]", Size: 8, Read: true, Route: policy.Snapshot, Reason: policy.ByTaint}},
		Context:  []string{"seq_read+0x10"},
	}
}

// emu's own policy says over the connection what its tables say.
func TestLinux(t *testing.T) {
	h := open(t, directory(t, nil, nil))
	for _, bits := range []int{64, 32} {
		k := kernel64
		k.Bits = bits
		got, err := h.Policy(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		want, err := merge([]statement{{policy: tables.Policy(k)}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Scopes) == 0 || len(got.Scopes[0].Roots) == 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%d bits: got %d scopes, %d local", bits, len(got.Scopes), len(got.Local))
		}
	}
}

// Each handler is asked once about all sites of its category; nobody is started who is not asked; plans are in the sites' order.
func TestPlans(t *testing.T) {
	h := open(t, directory(t, nil, nil))
	sites := []policy.Site{site(policy.Redirectable), site(policy.Unknown), site(policy.NonRedirectable), site(policy.Redirectable)}
	plans, err := h.Plans(t.Context(), sites)
	if err != nil {
		t.Fatal(err)
	}
	for i := range plans {
		if plans[i].Default() == (sites[i].Category == policy.Unknown) {
			t.Errorf("%v: %+v", sites[i].Category, plans[i])
		}
	}
	if trap := plans[1].Trap; !strings.HasPrefix(trap, "unknown: ") || !strings.Contains(trap, "mov rax") {
		t.Errorf("trap %q", trap)
	}
	want := map[string][2]int{"redirectable": {1, 2}, "unknown": {1, 1}, "nonredirectable": {1, 1}}
	for _, s := range h.Stats() {
		if got := [2]int{s.Calls, s.Sites}; got != want[s.Plugin] || (s.Start > 0) != (s.Calls > 0) {
			t.Errorf("%+v", s)
		}
	}
}

// All handlers are asked what they want to be asked about; one that says nothing about it, as an older program, is asked about everything.
func TestInterests(t *testing.T) {
	h := open(t, directory(t, map[string]string{"N": "some", "NR": "older"}, map[string]string{"some": "broken", "older": "broken"}))
	got, err := h.Interests(t.Context())
	want := policy.Interests{
		policy.Unknown: {{}}, policy.NonRedirectable: {{}}, policy.Neutral: {{Functions: []string{"seq_*"}, Scopes: []string{"procfs"}}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, s := range h.Stats() {
		calls := 1
		if s.Plugin == "linux" || s.Plugin == "neutral" || s.Plugin == "nonredirectable" {
			calls = 0 // it is no handler, or another is in its place
		}
		if s.Calls != calls || s.Sites != 0 {
			t.Errorf("%+v", s)
		}
	}
	for name, is := range map[string]error{"hangs-at-once": ErrHang, "panics-at-once": ErrCrash, "wants-nonsense": ErrNonsense} {
		h := open(t, directory(t, map[string]string{"Semi": name}, map[string]string{name: "broken"}), WithDeadline(3*time.Second))
		_, err := h.Interests(t.Context())
		var named *Error
		if !errors.As(err, &named) || named.Plugin != name || !errors.Is(err, is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever a program does wrong is named, soon, and stays an error.
func TestBroken(t *testing.T) {
	const deadline = 3 * time.Second
	for _, c := range []struct {
		name string
		is   error
		says string
	}{
		{"exits", ErrStart, "no licence found"},
		{"slow-start", ErrStart, "timeout"},
		{"chatty", ErrStart, "hello, this is no handshake"},
		{"old-version", ErrStart, "version: 2"},
		{"panics", ErrCrash, "divided by zero"},
		{"killed", ErrCrash, ""},
		{"hangs", ErrHang, "3s"},
		{"stopped", ErrHang, "3s"},
		{"routes", ErrNonsense, "5 routes for 1 operands"},
		{"enums", ErrNonsense, "WriteRule 77"},
		{"freezes", ErrNonsense, "no operand is read"},
		{"sends-stack", ErrNonsense, "the snapshot has no [rax], where the stack is"},
		{"linux", ErrNonsense, "no handler"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			programs := map[string]string{c.name: "broken"}
			if c.name == "linux" {
				programs = map[string]string{"linux": "linux", "another": "linux"}
			}
			h := open(t, directory(t, map[string]string{"R": c.name}, programs), WithDeadline(deadline))
			s := site(policy.Redirectable)
			switch c.name {
			case "freezes":
				s.Operands[0].Read = false
			case "sends-stack":
				s.Operands[0].Route, s.Operands[0].Reason = policy.Local, policy.ByStack
			}
			since := time.Now()
			for range 2 {
				_, err := h.Plans(t.Context(), []policy.Site{s})
				var named *Error
				if !errors.As(err, &named) || named.Plugin != c.name || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v", err)
				}
			}
			if took := time.Since(since); took > 3*deadline {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestBrokenPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		is   error
		says string
	}{
		"panics-policy":  {ErrCrash, "what kernel is this"},
		"bad-policy":     {ErrNonsense, "lock mutex_lock: size 0"},
		"lost-extension": {ErrNonsense, `scope "nowhere"`},
	} {
		h := open(t, directory(t, nil, map[string]string{name: "broken"}))
		_, err := h.Policy(t.Context(), kernel64)
		var named *Error
		if !errors.As(err, &named) || named.Plugin != name || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A program that is not the one of the manifest is never started.
func TestChecksum(t *testing.T) {
	dir := directory(t, nil, nil)
	mark := filepath.Join(dir, "started")
	path := filepath.Join(dir, "redirectable")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\ntouch "+mark+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, dir).Plans(t.Context(), []policy.Site{site(policy.Redirectable)})
	if !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), "plugin redirectable") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("it was started")
	}
}

// What a plugin logs is in emu's log by its level; a crash is an error, and not in the log as well.
func TestLog(t *testing.T) {
	for name, want := range map[string]string{"logs": "[ERROR] emu.logs: the cat is on the keyboard: paws=4", "panics": ""} {
		var out bytes.Buffer
		log := hclog.New(&hclog.LoggerOptions{Name: "emu", Level: hclog.Warn, Output: &out})
		h, err := Open(directory(t, map[string]string{"R": name}, map[string]string{name: "broken"}), log)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Plans(t.Context(), []policy.Site{site(policy.Redirectable)}); (err != nil) != (name == "panics") {
			t.Errorf("%v", err)
		}
		h.Close()
		if got := out.String(); !strings.Contains(got, want) || strings.Count(got, "\n") != min(len(want), 1) {
			t.Errorf("%s: logged %q", name, got)
		}
	}
}

// Programs end with emu, also if it has no time to end them.
func TestOrphan(t *testing.T) {
	// The child is this test, which starts a program, says its process number, and waits to be killed.
	const child = "EMU_TEST_ORPHAN"
	if dir := os.Getenv(child); dir != "" {
		h := open(t, dir)
		if _, err := h.Plans(t.Context(), []policy.Site{site(policy.Redirectable)}); err != nil {
			t.Fatal(err)
		}
		for _, p := range h.Plugins() {
			if p.cmd != nil {
				fmt.Printf("started %d\n", p.cmd.Process.Pid)
			}
		}
		time.Sleep(time.Minute)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestOrphan$")
	cmd.Env = append(os.Environ(), child+"="+directory(t, nil, nil))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, err = fmt.Fscanf(out, "started %d\n", &pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for since := time.Now(); !gone(pid); time.Sleep(50 * time.Millisecond) {
		if time.Since(since) > 10*time.Second {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

// gone reports whether a process has ended; nobody may have waited for it yet.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(b, []byte(") Z "))
}

// An end that the caller wants is no fault of the plugin's.
func TestCancel(t *testing.T) {
	h := open(t, directory(t, map[string]string{"R": "hangs"}, map[string]string{"hangs": "broken"}))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	time.AfterFunc(500*time.Millisecond, func() { cancel(why) })
	if _, err := h.Plans(ctx, []policy.Site{site(policy.Redirectable)}); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// Close leaves no process behind, not even a stopped one.
func TestClose(t *testing.T) {
	h := open(t, directory(t, nil, nil))
	if _, err := h.Plans(t.Context(), []policy.Site{site(policy.Redirectable), site(policy.NonRedirectable)}); err != nil {
		t.Fatal(err)
	}
	var started []int
	for _, p := range h.Plugins() {
		if p.cmd != nil {
			started = append(started, p.cmd.Process.Pid)
		}
	}
	if len(started) != 2 {
		t.Fatalf("%d programs were started", len(started))
	}
	if err := syscall.Kill(started[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.Close()
	for _, pid := range started {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if _, err := h.Plans(t.Context(), []policy.Site{site(policy.Redirectable)}); err == nil {
		t.Error("a closed host answers")
	}
}

// The example of docs/policies.md gives a scope of emu's own policy a root that it lacks, and changes nothing else.
func TestExample(t *testing.T) {
	before, err := open(t, directory(t, nil, nil)).Policy(t.Context(), kernel64)
	if err != nil {
		t.Fatal(err)
	}
	after, err := open(t, directory(t, nil, map[string]string{"example": "example"})).Policy(t.Context(), kernel64)
	if err != nil {
		t.Fatal(err)
	}
	added := 0
	for i := range after.Scopes {
		a, b := &after.Scopes[i], before.Scopes[i]
		for _, r := range a.Roots {
			if !slices.Contains(b.Roots, r) {
				added++
			}
		}
		b.Roots, a.Roots = nil, nil
		if !reflect.DeepEqual(*a, b) {
			t.Errorf("scope %s: %+v, was %+v", a.Name, *a, b)
		}
	}
	if added != 1 {
		t.Errorf("%d roots were added", added)
	}
}

// Every fault of a manifest is named.
func TestManifest(t *testing.T) {
	good, err := readManifest(directory(t, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Manifest){
		"is there twice":            func(m *Manifest) { m.Plugins = append(m.Plugins, m.Plugins[0]) },
		"beside the manifest":       func(m *Manifest) { m.Plugins[0].Name = "../linux" },
		"is no SHA-256":             func(m *Manifest) { m.Plugins[0].SHA256 = "00" },
		"neither kernel":            func(m *Manifest) { m.Plugins[0].Kind = "other" },
		"has no category":           func(m *Manifest) { m.Plugins[0].Category = "R" },
		"the categories are":        func(m *Manifest) { m.Plugins[1].Category = "X" },
		"are both handlers":         func(m *Manifest) { m.Plugins[1].Category = m.Plugins[2].Category },
		"no handler of category":    func(m *Manifest) { m.Plugins = m.Plugins[:len(m.Plugins)-1] },
		"there is no kernel policy": func(m *Manifest) { m.Plugins = m.Plugins[1:] },
	} {
		m := Manifest{slices.Clone(good.Plugins)}
		change(&m)
		dir := t.TempDir()
		if err := m.Write(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := Open(t.TempDir(), hclog.NewNullLogger()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no manifest: %v", err)
	}
}

// The digest is that of the programs, not of where they are.
func TestDigest(t *testing.T) {
	a, b := open(t, directory(t, nil, nil)), open(t, directory(t, nil, nil))
	other := open(t, directory(t, nil, map[string]string{"neutral": "nonredirectable"}))
	if a.Digest() != b.Digest() || a.Digest() == other.Digest() {
		t.Errorf("%s %s %s", a.Digest(), b.Digest(), other.Digest())
	}
}

func TestMerge(t *testing.T) {
	scope := func(name string, calls, files []string, roots ...string) policy.Scope {
		s := policy.Scope{Name: name, Syscalls: calls, Files: files}
		for _, r := range roots {
			s.Roots = append(s.Roots, policy.Root{Symbol: r})
		}
		return s
	}
	l := func(s ...string) []string { return s }
	say := func(name string, scopes ...policy.Scope) statement {
		return statement{&Plugin{Entry: Entry{Name: name, Kind: protocol.Kernel}}, policy.Policy{Scopes: scopes, Local: l("kfree"), Budget: 5}}
	}
	got, err := merge([]statement{
		say("first", scope("b", nil, nil, "extra"), scope("c", l("open"), nil, "x")),
		say("second", scope("a", l("read"), l("proc"), "r"), scope("b", l("stat"), l("proc"), "s"), scope("c", l("open", "close"), l("proc"), "x", "y")),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Policy{Local: l("kfree"), Budget: 5, Scopes: []policy.Scope{
		scope("c", l("open", "close"), nil, "x", "y"), scope("a", l("read"), l("proc"), "r"), scope("b", l("stat"), l("proc"), "extra", "s"),
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	other := scope("a", l("read"), l("proc"), "r")
	other.FileArgument = 1
	if _, err := merge([]statement{say("first", scope("a", l("read"), l("proc"), "r")), say("second", other)}); err == nil ||
		!strings.Contains(err.Error(), "plugin second") {
		t.Errorf("%v", err)
	}
}
