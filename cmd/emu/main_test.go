package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/hybridbridge/emu/core/boot/tiny"
	"github.com/hybridbridge/emu/core/machine"
)

// The test binary is emu itself if this variable is set: the tests run what a user runs.
const asEmu = "EMU_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asEmu) == "" {
		os.Exit(m.Run())
	}
	os.Exit(run(os.Args[1:]))
}

// emu returns a command that runs emu, for at most a minute.
func emu(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asEmu+"=1")
	return cmd
}

// result is what a run of emu came to.
type result struct {
	code           int
	stdout, stderr string
}

func finished(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if !cmd.ProcessState.Exited() {
		t.Fatalf("emu was killed: %v\n%s", cmd.ProcessState, stderr.String())
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// kernel writes a tiny guest to a file.
func kernel(t *testing.T, pieces ...tiny.Code) string {
	t.Helper()
	return file(t, "kernel", tiny.Image(pieces...))
}

func file(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// runArgs are flags that make a run of a tiny guest fast.
func runArgs(kernel string, more ...string) []string {
	return append([]string{"run", "--memory", "4M", "--kernel", kernel}, more...)
}

// Every way in which a guest can end has its exit code and says what happened.
func TestEnds(t *testing.T) {
	hello := tiny.Print("hello")
	for _, c := range []struct {
		name   string
		guest  []tiny.Code
		args   []string
		code   int
		stderr []string
	}{
		{"power-off", []tiny.Code{hello, tiny.PowerOff()}, nil, 0, nil},
		{"debug exit", []tiny.Code{hello, tiny.Exit}, []string{"--debug-exit"}, 7, nil},
		{"no debug exit", []tiny.Code{hello, tiny.Exit, tiny.Halt}, nil, exitHalted, []string{"halted for good"}},
		{
			"reset",
			[]tiny.Code{hello, tiny.Reset},
			[]string{"--no-reboot"},
			exitReset,
			[]string{"emu: reset", "RIP 000000000010", "last branches"},
		},
		{"triple fault", []tiny.Code{hello, tiny.UD2}, nil, exitTripleFault, []string{"triple fault at 0x100043: #UD", "RSP"}},
		{"budget", []tiny.Code{hello, tiny.Spin}, []string{"--budget", "12345"}, exitBudget, []string{"budget spent", "instructions 12345,"}},
		{"never prints", []tiny.Code{tiny.Spin}, []string{"--budget", "1000"}, exitBudget, []string{"budget spent"}},
		{"halted", []tiny.Code{hello, tiny.Halt}, nil, exitHalted, []string{"interrupts disabled"}},
		{"idle", []tiny.Code{hello, tiny.Idle}, nil, exitHalted, []string{"no input can come"}},
		{"stray", []tiny.Code{hello, tiny.Stray}, nil, exitUnsupported, []string{"no memory", "0xd0000000", "RIP 00000000d0000000"}},
		{"stats", []tiny.Code{hello, tiny.PowerOff()}, []string{"--stats"}, 0, []string{"instructions ", "MIPS", "TLB", "exits uart0", "blocks"}},
		{"debug console", []tiny.Code{hello, tiny.Out(0xe9, 'D'), tiny.PowerOff()}, []string{"--debug-console"}, 0, []string{"D"}},
		{"missed save", []tiny.Code{hello, tiny.PowerOff()}, []string{"--save", "SAVE", "--save-when", "bye"}, exitError, []string{`"bye" was never printed`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for i, a := range c.args {
				if a == "SAVE" {
					c.args[i] = filepath.Join(t.TempDir(), "snapshot")
				}
			}
			r := finished(t, emu(t, runArgs(kernel(t, c.guest...), c.args...)...))
			if r.code != c.code {
				t.Errorf("exit code %d, want %d", r.code, c.code)
			}
			if want := strings.TrimPrefix("hello", map[bool]string{true: "hello"}[c.name == "never prints"]); r.stdout != want {
				t.Errorf("console %q", r.stdout)
			}
			if c.stderr == nil && r.stderr != "" {
				t.Errorf("stderr is not empty")
			}
			for _, s := range c.stderr {
				if !strings.Contains(r.stderr, s) {
					t.Errorf("stderr lacks %q", s)
				}
			}
			if t.Failed() {
				t.Logf("stderr:\n%s", r.stderr)
			}
		})
	}
}

// Without --no-reboot, a reset starts the guest anew. This one resets once: memory is fresh, so the disk remembers.
func TestReboot(t *testing.T) {
	r := finished(t, emu(t, runArgs(kernel(t, tiny.Print("x"), tiny.Count(100), tiny.Reset), "--budget", "100000", "--serial", "file:/dev/full")...))
	if r.code != exitError || !strings.Contains(r.stderr, "console") {
		t.Errorf("%+v", r)
	}
	cmd := emu(t, runArgs(kernel(t, tiny.Print("x"), tiny.Reset))...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(out, b); err != nil || string(b) != "xxx" {
		t.Errorf("%q %v", b, err)
	}
	out.Close() // nobody reads: emu ends
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitError {
		t.Errorf("exit code %d", code)
	}
}

// Bad input is a clear error and exit code 1, or 2 for bad usage.
func TestBadInput(t *testing.T) {
	good := kernel(t, tiny.PowerOff())
	dir := t.TempDir()
	snapshot := filepath.Join(dir, "snapshot")
	if r := finished(t, emu(t, runArgs(kernel(t, tiny.Scramble(0x200000, 1<<18), tiny.Print("x"), tiny.PowerOff()), "--save", snapshot, "--save-when", "x")...)); r.code != 0 {
		t.Fatal(r)
	}
	saved, err := os.ReadFile(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(saved)
	flipped[1000] ^= 1
	flippedIndex := bytes.Clone(saved)
	flippedIndex[len(saved)-40] ^= 1
	otherVersion := bytes.Clone(saved)
	otherVersion[7]++
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 100<<20); err != nil {
		t.Fatal(err)
	}
	elf := make([]byte, 64)
	copy(elf, "\x7fELF\x02\x01\x01")
	elf[16], elf[18] = 2, 62
	k := func(b []byte) []string { return runArgs(file(t, "k", b)) }
	load := func(b []byte) []string { return []string{"run", "--load", file(t, "s", b)} }
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"no command flag", []string{"run"}, 2, "needs --kernel FILE or --load FILE"},
		{"both", runArgs(good, "--load", "x"), 2, "exclude each other"},
		{"unknown flag", runArgs(good, "--nonsense"), 2, "unknown flag"},
		{"unknown command", []string{"walk"}, 2, "unknown command"},
		{"argument", runArgs(good, "stray"), 2, "stray"},
		{"memory", runArgs(good, "--memory", "much"), 2, "not a size"},
		{"no memory", runArgs(good, "--memory", "0"), 2, "not a size"},
		{"huge memory", runArgs(good, "--memory", "8000000T"), 1, "must be between"},
		{"more memory than addresses", runArgs(good, "--memory", "1000000G"), 1, "memory"},
		{"little memory", runArgs(good, "--memory", "4K"), 1, "memory"},
		{"serial", runArgs(good, "--serial", "carrier-pigeon"), 2, "stdio, file:FILE"},
		{"serial socket", runArgs(good, "--serial", "unix:"+dir+"/none"), 1, "no such file"},
		{"serial file", runArgs(good, "--serial", "file:"+dir+"/none/f"), 1, "no such file"},
		{"log level", runArgs(good, "--log", "loud"), 2, "the levels are"},
		{"save-when", runArgs(good, "--save-when", "x"), 2, "needs --save"},
		{"save nowhere", runArgs(good, "--save", dir+"/none/s"), 1, "no such file"},
		{"save to a directory", runArgs(good, "--save", dir), 1, "is a directory"},
		{"drive option", runArgs(good, "--drive", big+",color=red"), 2, "color=red"},
		{"drive without a name", runArgs(good, "--drive", ",readonly"), 2, "names no file"},
		{"drive format", runArgs(good, "--drive", big+",format=vmdk"), 1, "vmdk"},
		{"no drive", runArgs(good, "--drive", dir+"/none"), 1, "no such file"},
		{"directory as drive", runArgs(good, "--drive", dir), 1, "directory"},
		{"damaged qcow2", runArgs(good, "--drive", file(t, "d", []byte("QFI\xfb\x00\x00\x00\x03"))), 1, "qcow2"},
		{"gdb address", runArgs(good, "--gdb", "localhost:no"), 1, "gdb"},
		{"gdb socket", runArgs(good, "--gdb", "unix:"+dir+"/none/g"), 1, "gdb"},

		{"no kernel", runArgs(dir + "/none"), 1, "no such file"},
		{"directory as kernel", runArgs(dir), 1, "is a directory"},
		{"empty kernel", k(nil), 1, "empty"},
		{"text", k([]byte("hello")), 1, "kernel"},
		{"gzip", k([]byte("\x1f\x8bxxxxxxxx")), 1, "gzip"},
		{"truncated ELF", k(elf[:20]), 1, "truncated"},
		{"ELF without segments", k(elf), 1, "no program headers"},
		{"truncated multiboot", k(tiny.Image()[:24]), 1, "truncated"},
		{"no initrd", runArgs(good, "--initrd", dir+"/none"), 1, "no such file"},
		{"initrd too large", runArgs(good, "--initrd", big), 1, "no room for the initrd of 104857600 bytes"},

		{"no snapshot", []string{"run", "--load", dir + "/none"}, 1, "no such file"},
		{"not a snapshot", load([]byte("hello")), 1, "not an emu snapshot"},
		{"truncated snapshot", load(saved[:len(saved)/2]), 1, "truncated"},
		{"flipped bit in memory", load(flipped), 1, "corrupt"},
		{"flipped bit in state", load(flippedIndex), 1, "corrupt"},
		{"other version", load(otherVersion), 1, "another version"},
		{"drives differ", append(load(saved), "--drive", big), 1, "0 drives and 1"},

		{"disasm nothing", []string{"disasm"}, 2, "needs a FILE"},
		{"disasm both", []string{"disasm", good, "--snapshot", snapshot}, 2, "exclude each other"},
		{"disasm two", []string{"disasm", good, good}, 2, "one file"},
		{"disasm bits", []string{"disasm", good, "--bits", "8"}, 2, "16, 32 and 64"},
		{"disasm syntax", []string{"disasm", good, "--syntax", "masm"}, 2, "gnu and intel"},
		{"disasm base", []string{"disasm", good, "--base", "x"}, 2, "not a number"},
		{"disasm count", []string{"disasm", good, "--count", "-1"}, 2, "negative"},
		{"disasm no file", []string{"disasm", dir + "/none"}, 1, "no such file"},
		{"disasm address", []string{"disasm", good, "--address", "0x1000000"}, 1, "no memory at 0x1000000"},
		{"disasm symbol", []string{"disasm", good, "--address", "main"}, 1, "no symbols"},
		{"disasm damaged", []string{"disasm", "--snapshot", file(t, "s", flippedIndex)}, 1, "corrupt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := finished(t, emu(t, c.args...))
			if r.code != c.code || !strings.Contains(r.stderr, c.stderr) || !strings.HasPrefix(r.stderr, "emu: ") || r.stdout != "" {
				t.Errorf("%+v, want code %d and %q", r, c.code, c.stderr)
			}
			if strings.Contains(r.stderr, "goroutine") || strings.Count(r.stderr, "\n") > 3 {
				t.Errorf("not one clear error: %s", r.stderr)
			}
		})
	}
}

// A full disk while saving: a clear error, and no file.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	scramble := tiny.Scramble(0x200000, 1<<20)
	cmd := emu(t, runArgs(kernel(t, scramble, tiny.Print("ready"), tiny.Echo, tiny.PowerOff()),
		"--save", filepath.Join(dir, "snapshot"), "--save-when", "q")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r := whenReady(t, cmd, "ready", func() {
		// Not from the start, since guest memory is a file too.
		if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100000, Max: 100000}, nil); err != nil {
			t.Error(err)
		}
		if _, err := io.WriteString(in, "q"); err != nil {
			t.Error(err)
		}
	})
	if r.code != exitError || !strings.Contains(r.stderr, "save snapshot") || !strings.Contains(r.stderr, "file too large") {
		t.Errorf("%+v", r)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	// A small file system, where that can be mounted.
	small := t.TempDir()
	if err := unix.Mount("none", small, "tmpfs", 0, "size=200k"); err != nil {
		t.Skipf("the part with a small tmpfs: mount: %v", err)
	}
	defer func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	}()
	guest := kernel(t, scramble, tiny.Print("now"), tiny.PowerOff())
	path := filepath.Join(small, "snapshot")
	if err := os.WriteFile(path, []byte("the one before"), 0o644); err != nil {
		t.Fatal(err)
	}
	r = finished(t, emu(t, runArgs(guest, "--save", path, "--save-when", "now")...))
	if r.code != exitError || !strings.Contains(r.stderr, "no space left on device") {
		t.Errorf("%+v", r)
	}
	if b, err := os.ReadFile(path); string(b) != "the one before" {
		t.Errorf("the snapshot that was there is %q, %v", b, err)
	}
}

func TestSignals(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGHUP: 129} {
		for name, guest := range map[string]tiny.Code{"spin": tiny.Spin, "idle": tiny.Idle} {
			t.Run(fmt.Sprint(name, int(sig)), func(t *testing.T) {
				t.Parallel()
				cmd := emu(t, runArgs(kernel(t, tiny.Print("ready"), guest))...)
				in, err := cmd.StdinPipe() // open: an idle guest waits for input
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				r := whenReady(t, cmd, "ready", func() {
					if err := cmd.Process.Signal(sig); err != nil {
						t.Error(err)
					}
				})
				if r.code != code || !strings.Contains(r.stderr, "ended by signal") || !strings.Contains(r.stderr, "RIP 000000000010") {
					t.Errorf("%+v, want %d", r, code)
				}
			})
		}
	}
}

// whenReady starts emu, calls do once text is on its console, and waits for its end.
func whenReady(t *testing.T, cmd *exec.Cmd, text string, do func()) result {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len(text))); err != nil {
		t.Error(err)
	}
	do()
	_ = cmd.Wait()
	return result{code: cmd.ProcessState.ExitCode(), stderr: stderr.String()}
}

// A guest that waits on a pipe gets what is typed, and is given up once the pipe is closed.
func TestPipe(t *testing.T) {
	cmd := emu(t, runArgs(kernel(t, tiny.Echo, tiny.PowerOff()))...)
	cmd.Stdin = strings.NewReader("abcq")
	if r := finished(t, cmd); r.code != 0 || r.stdout != "abcq" {
		t.Errorf("%+v", r)
	}
	cmd = emu(t, runArgs(kernel(t, tiny.Idle))...)
	cmd.Stdin = strings.NewReader("abc")
	if r := finished(t, cmd); r.code != exitHalted {
		t.Errorf("%+v", r)
	}
}

// instructions finds the count that --stats prints.
func instructions(t *testing.T, stderr string) string {
	t.Helper()
	m := regexp.MustCompile(`instructions +(\d+)`).FindStringSubmatch(stderr)
	if m == nil {
		t.Fatalf("no statistics in %q", stderr)
	}
	return m[1]
}

// A run that is saved and goes on, and one that is loaded, are the same as one that was never stopped.
func TestSaveAndLoad(t *testing.T) {
	guest := kernel(t, tiny.Scramble(0x200000, 1<<20), tiny.Print("one;"), tiny.Count(12345), tiny.Print("two;"),
		tiny.Count(777), tiny.Print("three"), tiny.PowerOff())
	path := filepath.Join(t.TempDir(), "snapshot")
	whole := finished(t, emu(t, runArgs(guest, "--stats")...))
	saved := finished(t, emu(t, runArgs(guest, "--stats", "--save", path, "--save-when", "two")...))
	loaded := finished(t, emu(t, "run", "--load", path, "--stats"))
	for _, r := range []result{whole, saved, loaded} {
		if r.code != 0 || instructions(t, r.stderr) != instructions(t, whole.stderr) {
			t.Errorf("%+v", r)
		}
	}
	if whole.stdout != "one;two;three" || saved.stdout != whole.stdout || loaded.stdout != ";three" {
		t.Errorf("%q %q %q", whole.stdout, saved.stdout, loaded.stdout)
	}
	r := finished(t, emu(t, "disasm", "--snapshot", path, "--address", fmt.Sprintf("%#x", tiny.Entry), "--count", "2"))
	if r.code != 0 || !strings.Contains(r.stdout, "00100020  bf 00 00 20 00                  mov $0x200000,%edi\n") {
		t.Errorf("%+v", r)
	}
	r = finished(t, emu(t, "disasm", kernel(t), "--base", "0x100000", "--bits", "32", "--syntax", "intel"))
	if r.code != 0 || !strings.HasPrefix(r.stdout, "00100000  ") {
		t.Errorf("%+v", r)
	}
}

// emu killed while it saves leaves the file that was there, or the whole new one, or none: never one that loads as less.
func TestKilledSave(t *testing.T) {
	// The guest saves when it prints and goes on printing, so the save is somewhere behind the signal.
	guest := kernel(t, tiny.Scramble(0x200000, 8<<20), tiny.Print("now"), tiny.Print("then"), tiny.Spin)
	seen := map[string]int{}
	for i := range 8 {
		dir := t.TempDir()
		path := filepath.Join(dir, "snapshot")
		cmd := emu(t, "run", "--memory", "16M", "--kernel", guest, "--save", path, "--save-when", "now")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i*i*10+rand.Intn(10)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			full := filepath.Join(dir, f.Name())
			r := finished(t, emu(t, "run", "--load", full, "--budget", "30000000"))
			switch {
			case full == path && r.code == exitBudget && r.stdout == "then":
				seen["complete"]++
			case full != path && r.code == exitError:
				seen["partial, refused"]++
			case full != path && r.code == exitBudget && r.stdout == "then":
				seen["complete, not renamed"]++
			default:
				t.Errorf("%s: %+v", f.Name(), r)
			}
		}
	}
	t.Log(seen)
}

// terminal runs emu on a pseudo-terminal.
type terminal struct {
	t    *testing.T
	pty  *os.File
	tty  *os.File
	cmd  *exec.Cmd
	got  chan string
	text string
}

func openTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	p, tty, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { p.Close(); tty.Close() })
	x := &terminal{t: t, pty: p, tty: tty, cmd: emu(t, args...), got: make(chan string, 100)}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = tty, tty, tty
	x.cmd.Dir = t.TempDir()
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := p.Read(b)
			if err != nil {
				close(x.got)
				return
			}
			x.got <- string(b[:n])
		}
	}()
	return x
}

// wait waits until text is on the screen, and forgets what is before it.
func (x *terminal) wait(text string) {
	x.t.Helper()
	timeout := time.After(30 * time.Second)
	for !strings.Contains(x.text, text) {
		select {
		case s, ok := <-x.got:
			if !ok {
				x.t.Fatalf("no %q, but the end, after %q", text, x.text)
			}
			x.text += s
		case <-timeout:
			x.t.Fatalf("no %q on the terminal, but %q", text, x.text)
		}
	}
	_, x.text, _ = strings.Cut(x.text, text)
}

func (x *terminal) send(s string) {
	if _, err := x.pty.WriteString(s); err != nil {
		x.t.Error(err)
	}
}

// end waits for emu and checks its exit code, and that the terminal is as it was.
func (x *terminal) end(before *term.State, code int) {
	x.t.Helper()
	_ = x.cmd.Wait()
	if got := x.cmd.ProcessState.ExitCode(); got != code {
		x.t.Errorf("exit code %d, want %d; %q", got, code, x.text)
	}
	after, err := term.GetState(int(x.tty.Fd()))
	if err != nil {
		x.t.Fatal(err)
	}
	if *after != *before {
		x.t.Errorf("the terminal is not restored: %+v, was %+v", after, before)
	}
}

func TestTerminal(t *testing.T) {
	state := func(x *terminal) *term.State {
		p, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		defer tty.Close()
		s, err := term.GetState(int(tty.Fd())) // that of a fresh one
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	guest := kernel(t, tiny.Print("ready"), tiny.Echo, tiny.PowerOff())
	t.Run("power-off", func(t *testing.T) {
		x := openTerminal(t, runArgs(guest)...)
		x.wait("ready")
		now, err := term.GetState(int(x.tty.Fd()))
		if err != nil || *now == *state(x) {
			t.Errorf("the terminal is not in raw mode: %v", err)
		}
		x.send("a\x03\x1a\rb") // Ctrl-C and Ctrl-Z are the guest's
		x.wait("a\x03\x1a\rb")
		x.send("q")
		x.end(state(x), 0)
	})
	t.Run("quit", func(t *testing.T) {
		x := openTerminal(t, runArgs(guest)...)
		x.wait("ready")
		x.send("\x01h")
		x.wait("Ctrl-A x quit")
		x.send("\x01\x01.")
		x.wait("\x01.")
		x.send("\x01z..") // no command: nothing reaches the guest
		x.wait("..")
		x.send("\x01x")
		x.end(state(x), 0)
	})
	t.Run("save", func(t *testing.T) {
		x := openTerminal(t, runArgs(guest)...)
		x.wait("ready")
		x.send("\x01s")
		x.wait("saved emu-")
		name, _, _ := strings.Cut("emu-"+x.text, "\r")
		x.send("fine")
		x.wait("fine")
		x.send("q")
		x.end(state(x), 0)
		load := emu(t, "run", "--load", filepath.Join(x.cmd.Dir, name))
		load.Stdin = strings.NewReader("againq")
		if r := finished(t, load); r.code != 0 || r.stdout != "againq" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("save fails", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "gone")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		x := openTerminal(t, runArgs(guest, "--save", filepath.Join(dir, "s"))...)
		x.wait("ready")
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		x.send("\x01s")
		x.wait("no such file")
		x.send("fine")
		x.wait("fine") // the guest goes on
		x.send("q")
		x.end(state(x), 0)
	})
	t.Run("signal", func(t *testing.T) {
		x := openTerminal(t, runArgs(guest)...)
		x.wait("ready")
		if err := x.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		x.end(state(x), 143)
	})
	t.Run("triple fault", func(t *testing.T) {
		x := openTerminal(t, runArgs(kernel(t, tiny.Print("ready"), tiny.UD2))...)
		x.wait("triple fault")
		x.end(state(x), exitTripleFault)
	})
	t.Run("bad kernel", func(t *testing.T) {
		x := openTerminal(t, runArgs(file(t, "k", nil))...)
		x.wait("emu: ")
		x.end(state(x), exitError)
	})
}

func TestParse(t *testing.T) {
	for s, want := range map[string]uint64{"512": 512 << 20, "512M": 512 << 20, "1g": 1 << 30, "4096B": 4096, "64K": 64 << 10, "1T": 1 << 40} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "M", "1X", "1.5G", "99999999999T"} {
		if _, err := parseSize(s); err == nil {
			t.Errorf("%q is a size", s)
		}
	}
	d, err := parseDrive("a,,b,format=raw,readonly,snapshot")
	if want := (machine.Drive{Path: "a,b", Format: "raw", ReadOnly: true, Overlay: true}); err != nil || d != want {
		t.Errorf("%+v %v", d, err)
	}
}
