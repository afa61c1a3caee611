//go:build boot

package inspecttest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/hybridbridge/emu/core/image"
	"github.com/hybridbridge/emu/core/inspect"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy/host"
	"github.com/hybridbridge/emu/core/session"
	"github.com/hybridbridge/emu/core/slowbridge"
	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/formats"
	"github.com/hybridbridge/emu/snapshots/linux"
)

var (
	guests    = flag.String("guests", os.Getenv("GUESTS"), "the guests that `make guests` made")
	plugins   = flag.String("plugins", "", "the policies that `make build` made")
	mutations = flag.Int("mutations", 10, "hostile versions of the snapshot to try")
	seed      = flag.Uint64("seed", 1, "of the mutations")
	emulator  = flag.String("emu", "", "the emu that `make build` made, its policies beside it, for FAST-BRIDGE under KVM")
	lab       = flag.String("kvmlab", "", "the kvmlab that `make bin/kvmlab` made, for FAST-BRIDGE under KVM")
)

// What the untrusted VM does before it is saved.
const typed = `hostname web; ip link set lo up; ip addr add 192.0.2.80/24 dev lo
busybox httpd -p 8080 -h /; sleep 86400 &
sleep 1; echo "the server "is up
`

// untrusted boots a VM at random addresses and saves it.
func untrusted(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(*guests, "kernels", "cloud-6.1")
	kernel, err := os.ReadFile(filepath.Join(dir, "vmlinuz"))
	if err != nil {
		t.Fatalf("no guests, run make guests first: %v", err)
	}
	initrd, err := os.ReadFile(filepath.Join(dir, "initrd.cpio"))
	if err != nil {
		t.Fatal(err)
	}
	var console bytes.Buffer
	m, err := machine.New(machine.Config{
		MemorySize: 512 << 20, Kernel: kernel, Initrd: initrd, Console: &console, Seed: 4711,
		CommandLine: "console=ttyS0 quiet emu.run=shell",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Input([]byte(typed))
	m.WaitFor("the server is up")
	if out := m.Run(context.Background(), 20_000_000_000); out.Reason != machine.Text {
		t.Fatalf("the untrusted VM ended with %v; its console:\n%s", out.Reason, console.String())
	}
	path := filepath.Join(t.TempDir(), "web.snapshot")
	if err := m.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// images returns a store with the trusted image of the kernel.
func images(t *testing.T) *image.Store {
	t.Helper()
	name, err := os.ReadFile(filepath.Join(*guests, "kernels", "cloud-6.1", "package"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := image.DefaultStore()
	if err != nil {
		t.Fatal(err)
	}
	s.Dir = filepath.Join(t.TempDir(), "emu", "images")
	if _, err := s.Build(context.Background(), image.Options{
		Kernel: filepath.Join(*guests, "debs", strings.TrimSpace(string(name))),
	}, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

type tool struct {
	options        inspect.Options
	stdout, stderr bytes.Buffer
}

func run(o inspect.Options, command string) (*tool, inspect.Result, error) {
	x := &tool{options: o}
	x.options.Argv = []string{"sh", "-c", command}
	x.options.Stdout, x.options.Stderr = &x.stdout, &x.stderr
	res, err := inspect.Run(context.Background(), x.options)
	return x, res, err
}

func TestInspect(t *testing.T) {
	policies, err := host.Open(*plugins, hclog.NewNullLogger())
	if err != nil {
		t.Fatalf("run make build first: %v", err)
	}
	defer policies.Close()
	o := inspect.Options{Snapshot: untrusted(t), Images: images(t), Policies: policies}
	for _, c := range []struct {
		command string
		want    []string
		not     []string
		code    int
	}{
		{"uname -n; hostname", []string{"web\nweb\n"}, nil, 0},
		{"ps -eo pid,tty,args", []string{"busybox httpd -p 8080 -h /", "sleep 86400", "[kthreadd]", "    1 ?"}, []string{"trusted", "ps -eo"}, 0},
		{"cat /proc/1/cmdline | tr '\\0' ' '", []string{"/init"}, []string{"agent"}, 0},
		{"netstat -tln", []string{":::8080"}, nil, 0},
		{"ss -tlnH", []string{"*:8080"}, nil, 0},
		{"ip -o addr show lo", []string{"192.0.2.80/24"}, nil, 0},
		{"lsmod", []string{"Module"}, []string{"inet_diag"}, 0},
		{"cat /proc/cmdline", []string{"emu.run=shell"}, nil, 0},
		{"ps -C httpd; exit 7", nil, nil, 7},
		{"echo out; echo err >&2; exit 3", []string{"out\n"}, nil, 3},
	} {
		t.Run(c.command, func(t *testing.T) {
			x, res, err := run(o, c.command)
			if err != nil {
				t.Fatal(err)
			}
			if res.ExitCode != c.code {
				t.Errorf("exit code %d, want %d; stderr: %s", res.ExitCode, c.code, &x.stderr)
			}
			for _, w := range c.want {
				if !strings.Contains(x.stdout.String(), w) {
					t.Errorf("%q is missing in:\n%s%s", w, &x.stdout, &x.stderr)
				}
			}
			for _, w := range c.not {
				if strings.Contains(x.stdout.String(), w) {
					t.Errorf("%q is of the trusted VM, in:\n%s", w, &x.stdout)
				}
			}
		})
	}
	t.Run("fast", func(t *testing.T) { fast(t, o) })
	t.Run("input", func(t *testing.T) { input(t, o) })
	t.Run("endless", func(t *testing.T) { endless(t, o) })
	t.Run("plans", func(t *testing.T) { plans(t, o) })
	t.Run("unseen", func(t *testing.T) { unseen(t, o) })
	t.Run("hooks", func(t *testing.T) { hooks(t, o) })
	t.Run("repeats", func(t *testing.T) { repeats(t, o) })
	t.Run("reliable", func(t *testing.T) { reliable(t, o) })
	t.Run("hostile", func(t *testing.T) { hostile(t, o) })
}

// repeats: the same image, snapshot and command give the same bytes and the same Meta-Data, and what is known is not asked
// again.
func repeats(t *testing.T, o inspect.Options) {
	var outputs, exports []string
	for range 2 {
		o.MetaData = &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
		for warm := range 2 {
			x, res, err := run(o, "ps aux; uptime")
			if err != nil {
				t.Fatal(err)
			}
			outputs = append(outputs, x.stdout.String()+x.stderr.String())
			if warm == 1 && (res.Stats.Asked != 0 || res.Stats.Recorded != 0) {
				t.Errorf("a warm run asked about %d instructions and recorded %d", res.Stats.Asked, res.Stats.Recorded)
			}
		}
		keys, err := o.MetaData.Keys()
		if err != nil || len(keys) != 1 {
			t.Fatalf("keys %v, %v", keys, err)
		}
		set, err := o.MetaData.Load(keys[0])
		if err != nil {
			t.Fatal(err)
		}
		b, err := metadata.Encode(map[metadata.Key]*metadata.Set{keys[0]: set})
		if err != nil {
			t.Fatal(err)
		}
		exports = append(exports, string(b))
	}
	for _, s := range outputs[1:] {
		if s != outputs[0] {
			t.Errorf("outputs differ:\n%s\n%s", outputs[0], s)
		}
	}
	if exports[0] != exports[1] {
		t.Error("Meta-Data differs")
	}
}

// hostile: whatever is in the snapshot, there is an answer or a clear error in bounded time.
func hostile(t *testing.T, o inspect.Options) {
	snap, err := formats.Open(o.Snapshot, formats.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	var original bytes.Buffer
	if err := snapshots.Copy(snap, nil, func(p []byte, pa uint64, _, _ bool) error {
		original.Write(make([]byte, int(pa)-original.Len()))
		original.Write(p)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	k, err := linux.Identify(snap)
	if err != nil {
		t.Fatal(err)
	}
	commands := []string{"ps aux", "lsmod", "ss -tln", "cat /proc/[0-9]*/maps", "ip addr", "lsof -nP"}
	// Only what a tool looks at can lead it astray.
	o.MetaData = &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
	pointers := make([][]int, len(commands))
	answers := make([]string, len(commands))
	for i, command := range commands {
		x, res, err := run(o, command)
		if err != nil {
			t.Fatal(err)
		}
		answers[i] = x.stdout.String()
		if pointers[i] = findPointers(original.Bytes(), res.Stats.Pages, k.PageOffset); len(pointers[i]) < 100 {
			t.Fatalf("%s: only %d words of the pages that it reads are pointers", command, len(pointers[i]))
		}
	}
	path := filepath.Join(t.TempDir(), "hostile.raw")
	o.Budget = 1_000_000_000
	o.Snapshot = path
	effective := 0
	for i := range *mutations {
		r := rand.New(rand.NewPCG(*seed, uint64(i)))
		b := bytes.Clone(original.Bytes())
		n := i % len(commands)
		what := mutate(b, pointers[n], r)
		if r.IntN(8) == 0 {
			b = b[:r.IntN(len(b)/4096)*4096]
			what += ", truncated"
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		command := commands[n]
		for _, o.Fast = range []inspect.FastMode{inspect.FastOff, inspect.FastEmulated} {
			answer := attack(t, o, fmt.Sprintf("%d: %s, %s, views %q", i, what, command, o.Fast), command)
			if answer != answers[n] && o.Fast == inspect.FastOff {
				effective++
			}
		}
	}
	t.Logf("%d of %d mutations made a difference", effective, *mutations)
	if effective < *mutations/4 {
		t.Error("the mutations are too tame to show anything")
	}
}

// attack runs a command on a hostile snapshot and returns its answer, if there is one.
func attack(t *testing.T, o inspect.Options, what, command string) (answer string) {
	start, before := time.Now(), processorTime(t)
	x, res, err := run(o, command)
	var end *session.EndError
	switch {
	case err == nil:
		t.Logf("%s: exit code %d in %v", what, res.ExitCode, time.Since(start))
		answer = x.stdout.String()
	case errors.As(err, &end):
		t.Errorf("%s: the trusted VM ended: %v", what, err)
	case errors.Is(err, slowbridge.ErrFinding), errors.Is(err, session.ErrBudget), errors.Is(err, linux.ErrNotFound), errors.Is(err, formats.ErrUnknown),
		errors.As(err, new(*inspect.NoImageError)):
		t.Logf("%s: %.120s in %v", what, err.Error(), time.Since(start))
	default:
		t.Errorf("%s: an error of no known kind: %v", what, err)
	}
	if d := processorTime(t) - before; d > 5*time.Minute {
		t.Errorf("%s: took %v of processor time", what, d)
	}
	return answer
}

// processorTime is how long this process has run, which a busy machine does not lengthen.
func processorTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// findPointers returns the offsets of words of some pages that point into the direct map.
func findPointers(b []byte, pages []uint64, base uint64) []int {
	var p []int
	for _, page := range pages {
		for i := int(page << 12); i+8 <= min(len(b), int(page+1)<<12); i += 8 {
			if v := binary.LittleEndian.Uint64(b[i:]); v-base < uint64(len(b)) && v != base {
				p = append(p, i)
			}
		}
	}
	return p
}

// mutate changes some pointers.
func mutate(b []byte, pointers []int, r *rand.Rand) string {
	n := 4 << r.IntN(8)
	kind := r.IntN(5)
	for range n {
		at := pointers[r.IntN(len(pointers))]
		v := binary.LittleEndian.Uint64(b[at:])
		switch kind {
		case 0:
			v ^= 1 << r.IntN(64)
		case 1:
			v = binary.LittleEndian.Uint64(b[pointers[r.IntN(len(pointers))]:])
		case 2: // a loop
			v = v&^0xfff | uint64(at)&0xfff
		case 3:
			v = 0
		default:
			v = r.Uint64()
		}
		binary.LittleEndian.PutUint64(b[at:], v)
	}
	return fmt.Sprintf("%d pointers changed (kind %d)", n, kind)
}
