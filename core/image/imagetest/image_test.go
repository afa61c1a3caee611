//go:build boot

package imagetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/image"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/session"
)

var (
	guests  = flag.String("guests", os.Getenv("GUESTS"), "the guests that `make guests` made")
	kernels = flag.String("kernels", "cloud-6.1", "the kernels to make images of, comma-separated")
)

// build makes the image of one of the guests' kernels.
func build(t *testing.T, kernel string) *image.Image {
	t.Helper()
	name, err := os.ReadFile(filepath.Join(*guests, "kernels", kernel, "package"))
	if err != nil {
		t.Fatalf("no guests, run make guests first: %v", err)
	}
	s, err := image.DefaultStore()
	if err != nil {
		t.Fatal(err)
	}
	s.Dir = t.TempDir()
	i, err := s.Build(context.Background(), image.Options{
		Kernel: filepath.Join(*guests, "debs", strings.TrimSpace(string(name))),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := s.Find(i.Identity); err != nil || found.ID != i.ID {
		t.Errorf("the image is not found by its kernel: %v", err)
	}
	return i
}

// result is what a command left.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, state string, c session.Command) result {
	t.Helper()
	s, err := session.Open(state, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return runIn(t, s, c)
}

func runIn(t *testing.T, s *session.Session, c session.Command) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	code, err := s.Run(context.Background(), c)
	if err != nil {
		t.Fatalf("%q: %v", c.Argv, err)
	}
	return result{code, stdout.String(), stderr.String()}
}

func TestImage(t *testing.T) {
	for kernel := range strings.SplitSeq(*kernels, ",") {
		t.Run(kernel, func(t *testing.T) {
			i := build(t, kernel)
			state, err := i.State(context.Background(), image.Placement{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Run("commands", func(t *testing.T) { commands(t, i, state) })
			t.Run("bytes", func(t *testing.T) { everyByte(t, state) })
			t.Run("repeats", func(t *testing.T) { repeats(t, state) })
			t.Run("hooks", func(t *testing.T) { hooks(t, state) })
			t.Run("ends", func(t *testing.T) { ends(t, state) })
			t.Run("placements", func(t *testing.T) { placements(t, i, state) })
		})
	}
}

func commands(t *testing.T, i *image.Image, state string) {
	for _, c := range []struct {
		argv   []string
		code   int
		stdout string // a regular expression
		stderr string
	}{
		{[]string{"cat", "/proc/version"}, 0, "^" + regexp.QuoteMeta(i.Banner) + "\n$", "^$"},
		{[]string{"ps", "aux"}, 0, `(?m)^USER +PID .*(\n.*)*\nroot +1 .*(\n.*)* ps aux$`, "^$"},
		{[]string{"lsmod"}, 0, `(?m)^tcp_diag `, "^$"},
		{[]string{"ss", "-a"}, 0, `rtnl:kernel`, "^$"},
		{[]string{"bash", "-c", "echo out; echo err >&2; exit 3"}, 3, "^out\n$", "^err\n$"},
		{[]string{"bash", "-c", "kill -9 $$"}, 137, "^$", "^(Killed\n)?$"},
		{
			[]string{"bash", "-c", `readlink /proc/self/fd/{0,1,2}; [ -t 1 ] || echo none; pwd; ls /proc/$$/fd | tr '\n' ' '`},
			0,
			`^/dev/null\npipe:\[\d+\]\npipe:\[\d+\]\nnone\n/\n0 1 2 (255 )?$`, "^$",
		},
		{[]string{"env"}, 0, `^((HOME=/root|LANG=C|TERM=vt100|PATH=[^\n]*|PWD=/)\n)+$`, "^$"},
		{[]string{"no-such-program"}, 127, "^$", "^no-such-program: command not found\n$"},
		{[]string{"/etc/passwd"}, 126, "^$", "ermission denied"},
	} {
		r := run(t, state, session.Command{Argv: c.argv})
		if r.code != c.code || !regexp.MustCompile(c.stdout).MatchString(r.stdout) || !regexp.MustCompile(c.stderr).MatchString(r.stderr) {
			t.Errorf("%q: exit code %d\n%s\n%s", c.argv, r.code, r.stdout, r.stderr)
		}
	}
}

// everyByte passes all bytes both ways, in arguments, the environment and the output, few and many.
func everyByte(t *testing.T, state string) {
	var all []byte
	for c := 1; c < 256; c++ {
		all = append(all, byte(c))
	}
	r := run(t, state, session.Command{Argv: []string{"printf", "%s", string(all)}})
	if r != (result{0, string(all), ""}) {
		t.Errorf("exit code %d, %+q, %+q", r.code, r.stdout, r.stderr)
	}
	r = run(t, state, session.Command{Argv: []string{"bash", "-c", `printf %s "$ALL" >&2`}, Env: []string{"ALL=" + string(all)}})
	if r != (result{0, "", string(all)}) {
		t.Errorf("exit code %d, %+q, %+q", r.code, r.stdout, r.stderr)
	}
	var lines strings.Builder
	for n := 1; n <= 300_000; n++ {
		fmt.Fprintln(&lines, n)
	}
	s, err := session.Open(state, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r = runIn(t, s, session.Command{Argv: []string{"bash", "-c", "seq 1 300000 & seq 1 1000 >&2; wait"}})
	if r.code != 0 || r.stdout != lines.String() || r.stderr != lines.String()[:len(r.stderr)] || !strings.HasSuffix(r.stderr, "\n1000\n") {
		t.Errorf("exit code %d, %d bytes of %d, %d bytes", r.code, len(r.stdout), lines.Len(), len(r.stderr))
	}
	// A session runs one command after the other.
	long := strings.Repeat("x", 50_000)
	if r = runIn(t, s, session.Command{Argv: []string{"printf", "%s", long}}); r != (result{0, long, ""}) {
		t.Errorf("a long argument: exit code %d, %d bytes, %q", r.code, len(r.stdout), r.stderr)
	}
}

// repeats runs one command twice: nothing differs, not even the number of instructions.
func repeats(t *testing.T, state string) {
	var first result
	var instructions uint64
	for n := range 2 {
		s, err := session.Open(state, session.Config{})
		if err != nil {
			t.Fatal(err)
		}
		r := runIn(t, s, session.Command{Argv: []string{"bash", "-c", "cat /proc/uptime /proc/self/stat /proc/interrupts; echo $RANDOM; head -c 8 /dev/urandom"}})
		count := s.Machine().CPU().Instructions()
		s.Close()
		if n == 0 {
			first, instructions = r, count
		} else if r != first || count != instructions {
			t.Errorf("%d and %d instructions; %+v\n%+v", instructions, count, first, r)
		}
	}
}

func hooks(t *testing.T, state string) {
	var s *session.Session
	started, hits := 0, 0
	s, err := session.Open(state, session.Config{
		OnStart: func(pid int) error {
			started = pid
			s.Machine().CPU().AddBreakpoint(s.Machine().CPU().State().MSR.LSTAR)
			return nil
		},
		OnOutcome: func(o machine.Outcome) (bool, error) {
			if o.Reason != machine.Breakpoint {
				return false, nil
			}
			if hits++; hits == 100 {
				s.Machine().CPU().RemoveBreakpoint(s.Machine().CPU().State().RIP)
			}
			return true, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := runIn(t, s, session.Command{Argv: []string{"bash", "-c", "echo $$; seq 1 1000 | tail -1"}})
	if r.stdout != fmt.Sprintf("%d\n1000\n", started) || started == 0 {
		t.Errorf("process %d; %+v", started, r)
	}
	if s.Machine().CPU().State().MSR.LSTAR != 0 && hits != 100 {
		t.Errorf("%d breakpoints were hit", hits)
	}
}

func ends(t *testing.T, state string) {
	s, err := session.Open(state, session.Config{Budget: 100_000_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Run(context.Background(), session.Command{Argv: []string{"bash", "-c", "while :; do :; done"}})
	if err == nil || !strings.Contains(err.Error(), "budget") {
		t.Errorf("an endless loop: %v", err)
	}
	s2, err := session.Open(state, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s2.Close()
	_, err = s2.Run(context.Background(), session.Command{Argv: []string{"/bin/busybox", "poweroff", "-f"}})
	if err == nil || !strings.Contains(err.Error(), "power-off") {
		t.Errorf("a power-off: %v", err)
	}
}

func placements(t *testing.T, i *image.Image, state string) {
	if i.Bits == 32 {
		p := image.Placement{Shifts: &boot.Shifts{Text: 0x5000000}}
		lies(t, i, p, "c6000000 T _text")
		return
	}
	random := rand.New(rand.NewPCG(1, 2))
	shift := random.Uint64N(200) << 21
	disjoint(t, state, image.DefaultMemoryAbove)
	lies(t, i, image.Placement{PTI: true, MemoryAbove: 256 << 30, Shifts: &boot.Shifts{
		Text: shift, Regions: boot.Regions{
			PageOffset: 0xffff8dc380000000, Vmalloc: 0xffffd2d880000000, Vmemmap: 0xfffffcd0c0000000,
		},
	}}, fmt.Sprintf("%x T _text", 0xffffffff81000000+shift))
	lies(t, i, image.Placement{LA57: true, Shifts: &boot.Shifts{Text: 2 << 20, Regions: boot.Regions{
		PageOffset: 0xff486c0e40000000, Vmalloc: 0xff5e8a4000000000, Vmemmap: 0xffba2257c0000000,
	}}}, "ffffffff81200000 T _text")
}

// lies boots a placement, twice at the same time, and looks where the kernel is.
func lies(t *testing.T, i *image.Image, p image.Placement, text string) {
	t.Helper()
	var waiting sync.WaitGroup
	var mu sync.Mutex
	boots := 0
	for range 2 {
		waiting.Go(func() {
			_, err := i.State(context.Background(), p, func(what string) {
				if strings.HasPrefix(what, "booting") {
					mu.Lock()
					boots++
					mu.Unlock()
				}
			})
			if err != nil {
				t.Errorf("%+v: %v", p, err)
			}
		})
	}
	waiting.Wait()
	if boots != 1 {
		t.Errorf("%d boots", boots)
	}
	begin := time.Now()
	state, err := i.State(context.Background(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, state, session.Command{Argv: []string{"grep", "-E", " _text$", "/proc/kallsyms"}})
	if strings.TrimSpace(r.stdout) != text {
		t.Errorf("%+v: %+v", p, r)
	}
	t.Logf("a state that is there, and a command: %v", time.Since(begin))
	if i.Bits == 64 {
		disjoint(t, state, max(p.MemoryAbove, image.DefaultMemoryAbove))
	}
}

// disjoint looks at where a machine has its memory: nothing but the first MiB, of which nobody makes use, is below.
func disjoint(t *testing.T, state string, above uint64) {
	t.Helper()
	s, err := session.Open(state, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := s.Machine()
	c := m.CPU().State()
	if c.CR4&(1<<7|1<<17) != 0 {
		t.Errorf("CR4 %#x: global pages or PCIDs", c.CR4)
	}
	word := func(name string) (v uint64) {
		var b [8]byte
		if a, ok := m.KernelSymbols().Address(name); !ok || m.CPU().ReadLinear(a, b[:]) != len(b) {
			t.Fatalf("the kernel has no %s", name)
		}
		return binary.LittleEndian.Uint64(b[:])
	}
	levels := 4
	if c.CR4&(1<<12) != 0 {
		levels = 5
	}
	direct, pages := word("page_offset_base"), word("vmemmap_base")
	var high, low int
	walk(t, m, c.CR3&^0xfff, levels, 0, func(la, size, pa uint64) {
		switch d := la - direct; {
		case d < above && d+size > 1<<20:
			t.Errorf("the direct map has %#x (%#x bytes, %#x)", d, size, pa)
		case d >= above && d < 2*above:
			high++
		}
		const each, section = 64, 128 << 20
		switch d := (la - pages) / each * 4096; {
		case la >= pages && d < above && d+size/each*4096 > section:
			t.Errorf("the page array has %#x (%#x bytes, %#x)", d, size, pa)
		case la >= pages && d < 2*above && pa < above:
			low++
		}
	})
	if high == 0 || low != 0 {
		t.Errorf("%d pages of the direct map, and %d pages below of the page array", high, low)
	}
	r := runIn(t, s, session.Command{Argv: []string{"sh", "-c", "cat /proc/iomem; sed -n '/zone *DMA/,/managed/p' /proc/zoneinfo"}})
	for _, bad := range []string{`(?m)^00[1-9a-f][0-9a-f]*-\w+ : System RAM`, `managed +[1-9]`, `(?m)^ +0[0-9a-f]*-\w+ : Kernel`} {
		if regexp.MustCompile(bad).MatchString(r.stdout) {
			t.Errorf("%q in:\n%s", bad, r.stdout)
		}
	}
	if !strings.Contains(r.stdout, fmt.Sprintf("\n%08x-", above)) {
		t.Errorf("no memory at %#x:\n%s", above, r.stdout)
	}
}

// walk visits the pages that a table of page tables of a level and those below it map, in the upper half.
func walk(t *testing.T, m *machine.Machine, table uint64, level int, la uint64, visit func(la, size, pa uint64)) {
	var b [4096]byte
	if !m.Memory().ReadAt(b[:], table) {
		t.Fatalf("no page table at %#x", table)
	}
	shift := 12 + 9*(level-1)
	for n := range uint64(512) {
		e := binary.LittleEndian.Uint64(b[8*n:])
		at := la | n<<shift
		if la == 0 && n >= 256 {
			at |= ^uint64(0) << (shift + 9)
		}
		switch pa := e & 0xff_ffff_f000; {
		case e&1 == 0 || la == 0 && n < 256:
		case level == 1 || e&0x80 != 0:
			visit(at, 1<<shift, pa&^0xfff)
		default:
			walk(t, m, pa, level-1, at, visit)
		}
	}
}
