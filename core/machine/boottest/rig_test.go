//go:build boot

package boottest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	guests   = flag.String("guests", os.Getenv("GUESTS"), "the guests that `make guests` made")
	emulator = flag.String("emu", "", "the emu program (default: it is built)")
	keep     = flag.String("keep", "", "keep the consoles in this folder")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := prepare(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "boottest:", err)
		code = 1
	}
	os.Exit(code)
}

func prepare(m *testing.M) (int, error) {
	if _, err := os.Stat(filepath.Join(*guests, "kernels")); err != nil {
		return 0, fmt.Errorf("no guests, run make guests first: %w", err)
	}
	if *emulator == "" {
		dir, err := os.MkdirTemp("", "boottest")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		*emulator = filepath.Join(dir, "emu")
		build := exec.Command("go", "build", "-o", *emulator, "github.com/hybridbridge/emu/cmd/emu")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build emu: %w\n%s", err, out)
		}
	}
	code := m.Run()
	printTable()
	return code, nil
}

// result is what one run of emu left.
type result struct {
	code         int
	console      []byte
	stderr       string
	instructions uint64
	took         time.Duration // processor time
	rss          uint64        // bytes, at most
}

var instructionCount = regexp.MustCompile(`(?m)^instructions +(\d+)\b`)

// slots bounds the guests that run at a time: one a core, two on the machines that this is made for.
var slots = make(chan struct{}, 2)

// runEmu runs emu run with --stats and the arguments.
func runEmu(t *testing.T, args ...string) result {
	t.Helper()
	slots <- struct{}{}
	defer func() { <-slots }()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(*emulator, append([]string{"run", "--stats", "--no-reboot", "--budget", "40000000000"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{code: cmd.ProcessState.ExitCode(), console: stdout.Bytes(), stderr: stderr.String()}
	r.took = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	r.rss = uint64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) << 10
	m := instructionCount.FindStringSubmatch(r.stderr)
	if m == nil {
		t.Fatalf("--stats printed no count of instructions:\n%s", r.stderr)
	}
	if r.instructions, err = strconv.ParseUint(m[1], 10, 64); err != nil || r.instructions == 0 {
		t.Fatalf("--stats printed %q: %v", m[0], err)
	}
	if *keep != "" {
		name := strings.NewReplacer("/", ".", " ", "_").Replace(t.Name())
		if err := os.WriteFile(filepath.Join(*keep, name+".log"), r.console, 0o666); err != nil {
			t.Error(err)
		}
	}
	return r
}

// kernelArgs are emu's arguments that boot a kernel with its initial RAM disk and words on its command line.
func kernelArgs(kernel, words string) []string {
	dir := filepath.Join(*guests, "kernels", kernel)
	return []string{
		"--kernel", filepath.Join(dir, "vmlinuz"), "--initrd", filepath.Join(dir, "initrd.cpio"),
		"--append", strings.TrimSpace("console=ttyS0 panic=-1 " + words),
	}
}

// complaints are what a console never shows when all is well.
var complaints = regexp.MustCompile(`(?m)^.*(CHECK .* FAIL|BENCH .* WRONG|WARNING:|BUG:|Oops|Call Trace|unchecked MSR access|` +
	`ACPI (BIOS )?(Error|Warning)|ACPI: .*(rror|arning|nvalid)|\[Firmware (Bug|Warn)\]|init: .* not loaded|Kernel panic|general protection).*$`)

// clean reports every complaint on the console.
func (r result) clean(t *testing.T) {
	t.Helper()
	for i, line := range complaints.FindAll(r.console, -1) {
		if i == 10 {
			t.Error("and more")
			break
		}
		t.Errorf("the console has: %s", bytes.TrimSpace(line))
	}
}

// has reports texts that the console lacks.
func (r result) has(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !bytes.Contains(r.console, []byte(s)) {
			t.Errorf("the console lacks %q; it ends:\n%s", s, tail(r.console))
		}
	}
}

// exits reports another exit code than want.
func (r result) exits(t *testing.T, want int) {
	t.Helper()
	if r.code != want {
		t.Errorf("emu exits with %d, want %d:\n%s\nthe console ends:\n%s", r.code, want, r.stderr, tail(r.console))
	}
}

// within reports that emu took more memory than guest RAM of size bytes plus what is promised.
func (r result) within(t *testing.T, ram uint64) {
	t.Helper()
	if promised := ram + 256<<20; r.rss > promised {
		t.Errorf("emu took %d MiB for a guest of %d MiB, want at most %d", r.rss>>20, ram>>20, promised>>20)
	}
}

func tail(p []byte) []byte { return p[max(0, len(p)-1500):] }

// same compares two consoles, of which the first is right.
func same(t *testing.T, what string, want, got []byte) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	n := 0
	for n < min(len(want), len(got)) && want[n] == got[n] {
		n++
	}
	start := max(0, n-200)
	t.Errorf("%s: the consoles differ from byte %d on (of %d and %d):\nwant ...%q\ngot  ...%q", what, n, len(want), len(got),
		want[start:min(len(want), n+200)], got[start:min(len(got), n+200)])
}

// The table of all runs.
var (
	tableMu sync.Mutex
	table   []string
)

// note adds a run to the table.
func note(guest, setting string, r result) {
	tableMu.Lock()
	defer tableMu.Unlock()
	table = append(table, fmt.Sprintf("%s\t%s\t%d\t%.1f\t%.0f\t%d\t", guest, setting, r.instructions, r.took.Seconds(),
		float64(r.instructions)/1e6/r.took.Seconds(), r.rss>>20))
}

func printTable() {
	if len(table) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "guest\tsetting\tinstructions\tCPU s\tMIPS\tRSS MiB\t")
	for _, line := range table {
		fmt.Fprintln(w, line)
	}
	w.Flush()
}
