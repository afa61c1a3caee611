//go:build boot

package inspecttest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/creack/pty"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/term"

	"github.com/hybridbridge/emu/core/boot/tiny"
	"github.com/hybridbridge/emu/core/image"
	"github.com/hybridbridge/emu/core/inspect"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy/host"
	"github.com/hybridbridge/emu/core/session"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/kvmaccel"
	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/formats"
	"github.com/hybridbridge/emu/snapshots/linux"
)

var (
	runs     = flag.Int("runs", 5, "runs back to back that must leave nothing behind")
	kills    = flag.Int("kills", 4, "rounds in which emu is killed while it trains")
	existing = flag.String("snapshot", "", "for TestReliable: a snapshot, made earlier; the images are in $XDG_DATA_HOME")
	hanging  = flag.String("looped", "", "for TestReliable: the snapshot as the function looped changes it")
	known    = flag.String("meta", "", "for TestReliable: Meta-Data about both")
	views    = flag.String("mode", "emu", "for TestReliable: FAST-BRIDGE's vCPU, emu or kvm")
)

// reliableCommands are those that the tests of reliability run; the first is short.
func reliableCommands() []string { return []string{"uname -a", "cat /proc/meminfo", "lsmod"} }

// Tools that never end, the second on the looped snapshot only. What is unknown of them is learned before: FALLBACK would have them run for
// the whole of SLOW-BRIDGE's budget.
const (
	toolLoops   = "echo Linux; while :; do :; done"
	kernelLoops = "cat /proc/1/stat"
)

// TestReliable runs the tests of reliability alone, on what TestInspect or somebody else has made: in the lab, for one.
func TestReliable(t *testing.T) {
	if *existing == "" {
		t.Skip("no -snapshot: TestInspect runs this on its own")
	}
	images, err := image.DefaultStore()
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{snapshot: *existing, looped: *hanging, meta: *known, mode: inspect.FastMode(*views), images: images}
	if s.looped == "" { // somebody else made the snapshot, and nothing more
		o := inspect.Options{Snapshot: s.snapshot, Images: images}
		s.meta, s.looped = prepare(t, o)
	}
	s.run(t)
}

// prepare makes the Meta-Data and the looped snapshot.
func prepare(t *testing.T, o inspect.Options) (meta, hanging string) {
	t.Helper()
	policies, err := host.Open(*plugins, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer policies.Close()
	meta = filepath.Join(t.TempDir(), "metadata.db")
	o.Policies, o.MetaData, o.Fast = policies, &metadata.Store{Path: meta}, inspect.FastOff
	for _, command := range reliableCommands() {
		if _, _, err := run(o, command); err != nil {
			t.Fatal(err)
		}
	}
	hanging = looped(t, o)
	o.Budget = 300_000_000
	for command, snapshot := range map[string]string{toolLoops: o.Snapshot, kernelLoops: hanging} {
		o.Snapshot = snapshot
		if _, _, err := run(o, command); !errors.Is(err, session.ErrBudget) {
			t.Errorf("SLOW-BRIDGE: %s: %v", command, err)
		}
	}
	return meta, hanging
}

// reliable runs the tests of reliability with the emulator's vCPU here, and with KVM's on this machine or in the lab.
func reliable(t *testing.T, o inspect.Options) {
	if *emulator == "" {
		t.Skip("no -emu: make test-inspect has it")
	}
	meta, hanging := prepare(t, o)
	t.Run("emu", func(t *testing.T) {
		(&suite{snapshot: o.Snapshot, looped: hanging, meta: meta, mode: inspect.FastEmulated, images: o.Images}).run(t)
	})
	t.Run("kvm", func(t *testing.T) {
		if *lab == "" {
			t.Skip("no -kvmlab: make test-inspect has it")
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		data := filepath.Dir(filepath.Dir(o.Images.Dir))
		argv := func(self, emu, snapshot, looped, meta string) []string {
			return []string{
				self, "-test.v", "-test.run", "^TestReliable$", "-mode", "kvm", "-emu", emu, "-plugins", filepath.Join(filepath.Dir(emu), "plugins"),
				"-snapshot", snapshot, "-looped", looped, "-meta", meta, "-runs", strconv.Itoa(*runs), "-kills", strconv.Itoa(*kills),
			}
		}
		var cmd *exec.Cmd
		if exec.Command(*lab, "usable").Run() == nil {
			a := argv(self, *emulator, o.Snapshot, hanging, meta)
			cmd = exec.Command(a[0], a[1:]...)
			cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+data)
		} else {
			a := []string{
				"run", "--memory", "3072", "--timeout", "1h", "--env", "XDG_DATA_HOME=/data", "--dir", filepath.Dir(*emulator) + ":/emu",
				"--dir", data + ":/data", "--dir", o.Snapshot + ":/web.snapshot", "--dir", hanging + ":/looped.raw", "--dir", meta + ":/metadata.db",
				"--dir", self + ":/test", "--",
			}
			cmd = exec.Command(*lab, append(a, argv("/test", "/emu/emu", "/web.snapshot", "/looped.raw", "/metadata.db")...)...)
			cmd.Env = append(os.Environ(), "GUESTS="+*guests)
		}
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
	})
}

// suite is the tests of reliability for one vCPU.
type suite struct {
	snapshot, looped, meta string
	mode                   inspect.FastMode
	images                 *image.Store
	cache                  string // $XDG_CACHE_HOME
	want                   map[string]string
	before                 []string // programs that are not the suite's
}

// patience is how long anything may take, in the lab too.
const patience = 2 * time.Minute

func (s *suite) run(t *testing.T) {
	s.cache, s.want, s.before = t.TempDir(), map[string]string{}, programs(t)
	for _, command := range reliableCommands() {
		out, errors, code := s.emu(t, nil, s.flags(), command)
		if code != 0 || out == "" {
			t.Fatalf("%s: exit code %d, %q, %s", command, code, out, errors)
		}
		s.want[command] = out
	}
	t.Run("back to back", s.backToBack)
	t.Run("processes", s.processes)
	t.Run("signals", s.signals)
	t.Run("terminal", s.terminal)
	t.Run("budget", s.budget)
	t.Run("kill", s.kill)
	t.Run("share", s.share)
}

// flags are emu's for a run with what is known.
func (s *suite) flags() []string { return []string{"--meta", s.meta} }

// command is emu, run on the snapshot in the suite's way.
func (s *suite) command(t *testing.T, flags []string, command string) *exec.Cmd {
	t.Helper()
	way := "--views=emu"
	if s.mode == inspect.FastKVM {
		way = "--accel=kvm"
	}
	argv := append([]string{way, "--snapshot", s.snapshot}, flags...)
	cmd := exec.Command(*emulator, append(argv, "--", "sh", "-c", command)...)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+filepath.Dir(filepath.Dir(s.images.Dir)), "XDG_CACHE_HOME="+s.cache, "TMPDIR="+t.TempDir())
	return cmd
}

// emu runs a command to its end.
func (s *suite) emu(t *testing.T, before func(*exec.Cmd), flags []string, command string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := s.command(t, flags, command)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	if before != nil {
		before(cmd)
	}
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// held is what this process has of the system, by kind.
func held(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{"goroutines": runtime.NumGoroutine()}
	for kind, dir := range map[string]string{"descriptors": "/proc/self/fd", "threads": "/proc/self/task"} {
		e, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		n[kind] = len(e)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if len(strings.Fields(line)) > 5 { // of a file, of KVM's, or the stack; Go's own have no name
			n["mappings"]++
		}
	}
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range children {
		b, _ := os.ReadFile(c) // the thread may be gone
		n["children"] += len(strings.Fields(string(b)))
	}
	return n
}

// backToBack: runs in one process leave nothing of the system's behind. Go keeps threads for later, so only many more are a leak.
func (s *suite) backToBack(t *testing.T) {
	policies, err := host.Open(*plugins, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer policies.Close()
	o := inspect.Options{Snapshot: s.snapshot, Images: s.images, Policies: policies, MetaData: &metadata.Store{Path: s.meta}, Fast: s.mode}
	if s.mode == inspect.FastKVM {
		o.Accel = func(model *cpu.CPU, platform vcpu.Platform) (vcpu.Accelerated, error) {
			v, err := kvmaccel.New(kvmaccel.Config{Model: model, Platform: platform})
			if err != nil {
				return nil, err
			}
			return v, nil
		}
	}
	command := reliableCommands()[0]
	var before map[string]int
	const warm = 2
	for n := range warm + *runs {
		if n == warm {
			before = held(t)
		}
		x, _, err := run(o, command)
		if err != nil {
			t.Fatalf("run %d: %v", n, err)
		}
		if x.stdout.String() != s.want[command] {
			t.Fatalf("run %d prints %q, and not %q", n, &x.stdout, s.want[command])
		}
	}
	const spare = 8
	for kind := range before {
		room := 0
		if kind == "threads" {
			room = spare
		}
		if !s.soon(func() bool { return held(t)[kind] <= before[kind]+room }) {
			t.Errorf("%s: %d after %d runs, %d before", kind, held(t)[kind], *runs, before[kind])
		}
	}
	t.Logf("before %d runs %v, after them %v", *runs, before, held(t))
}

// soon waits until something is so.
func (s *suite) soon(is func() bool) bool {
	for range 100 {
		if is() {
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

// programs are the processes whose program lies beside emu: emu itself and policies.
func programs(t *testing.T) (pids []string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(filepath.Dir(*emulator))
	if err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if exe, err := os.Readlink(l); err == nil && strings.HasPrefix(exe, dir+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(l))+" "+exe)
		}
	}
	return pids
}

// nothing checks that no program is left and no file half written.
func (s *suite) nothing(t *testing.T) {
	t.Helper()
	running := func() []string {
		return slices.DeleteFunc(programs(t), func(p string) bool { return slices.Contains(s.before, p) })
	}
	if !s.soon(func() bool { return len(running()) == 0 }) {
		t.Errorf("still running: %q", running())
	}
	for _, pattern := range []string{filepath.Join(s.images.Dir, "*", ".*"), filepath.Join(s.images.Dir, "*", "states", ".*"), filepath.Join(s.cache, "emu", "*", ".*")} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// processes: so do runs in processes of their own.
func (s *suite) processes(t *testing.T) {
	command := reliableCommands()[0]
	tmp := t.TempDir()
	for n := range *runs {
		out, errors, code := s.emu(t, func(c *exec.Cmd) { c.Env = append(c.Env, "TMPDIR="+tmp) }, s.flags(), command)
		if out != s.want[command] || code != 0 {
			t.Fatalf("run %d: exit code %d, %q; %s", n, code, out, errors)
		}
	}
	s.nothing(t)
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("temporary files: %v, %v", left, err)
	}
}

// screen is a pseudo-terminal with emu on it.
type screen struct {
	tty    *os.File
	cmd    *exec.Cmd
	before term.State
	mu     sync.Mutex
	text   strings.Builder
}

func onScreen(t *testing.T, cmd *exec.Cmd) *screen {
	t.Helper()
	p, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); tty.Close() })
	x := &screen{tty: tty, cmd: cmd, before: terminalState(t, tty)}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := p.Read(b)
			if err != nil {
				return
			}
			x.mu.Lock()
			x.text.Write(b[:n])
			x.mu.Unlock()
		}
	}()
	return x
}

func terminalState(t *testing.T, tty *os.File) term.State {
	t.Helper()
	s, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// shown is what the screen shows, and whether that has text.
func (x *screen) shown(text string) (string, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.text.String(), strings.Contains(x.text.String(), text)
}

// signal sends one once a text is on the screen, and checks the exit code and the terminal.
func (x *screen) signal(t *testing.T, text string, sig syscall.Signal) {
	t.Helper()
	begin := time.Now()
	for {
		all, ok := x.shown(text)
		if ok {
			break
		}
		if time.Since(begin) > patience {
			t.Fatalf("no %q but %q", text, all)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := x.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	stuck := time.AfterFunc(patience, func() { _ = x.cmd.Process.Kill() })
	defer stuck.Stop()
	_ = x.cmd.Wait()
	all, _ := x.shown("")
	if code := x.cmd.ProcessState.ExitCode(); code != 128+int(sig) {
		t.Errorf("%v: exit code %d after %v; %q", sig, code, time.Since(sent), all)
	}
	if after := terminalState(t, x.tty); after != x.before {
		t.Errorf("%v: the terminal is not restored: %+v, was %+v", sig, after, x.before)
	}
	t.Logf("%v ends emu in %v", sig, time.Since(sent))
}

// signals: SIGINT and SIGTERM end a run, and one in which FALLBACK trains.
func (s *suite) signals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		trace := filepath.Join(t.TempDir(), "trace")
		x := onScreen(t, s.command(t, append(s.flags(), "--trace", trace), toolLoops))
		x.signal(t, "Linux", sig)
		if b, err := os.ReadFile(trace); err != nil || !bytes.HasSuffix(b, []byte("\n")) {
			t.Errorf("the trace ends with half a line, or there is none: %.200q, %v", b[max(0, len(b)-200):], err)
		}
		s.nothing(t)

		fresh := filepath.Join(t.TempDir(), "fresh.db")
		x = onScreen(t, s.command(t, []string{"--meta", fresh}, "lsmod"))
		x.signal(t, "training", sig)
		s.nothing(t)
		if _, err := (&metadata.Store{Path: fresh}).Keys(); err != nil {
			t.Errorf("the store after %v: %v", sig, err)
		}
	}
	if out, errors, code := s.emu(t, nil, s.flags(), "lsmod"); out != s.want["lsmod"] || code != 0 {
		t.Errorf("the run after: exit code %d, %q; %s", code, out, errors)
	}
}

// terminal: emu run has it in raw mode, also when the vCPU never comes out by itself.
func (s *suite) terminal(t *testing.T) {
	dir := t.TempDir()
	kernel := filepath.Join(dir, "kernel")
	if err := os.WriteFile(kernel, tiny.Image(tiny.Print("ready"), tiny.Spin), 0o600); err != nil {
		t.Fatal(err)
	}
	accel := "soft"
	if s.mode == inspect.FastKVM {
		accel = "kvm"
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		saved := filepath.Join(dir, "saved")
		cmd := exec.Command(*emulator, "run", "--accel="+accel, "--memory", "4M", "--kernel", kernel, "--save", saved, "--save-when", "never printed")
		x := onScreen(t, cmd)
		x.signal(t, "ready", sig)
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Errorf("%v: left behind: %v, %v", sig, files, err)
		}
	}
}

// budget: it stops a vCPU that is stuck in the tool's code or in the kernel's.
func (s *suite) budget(t *testing.T) {
	budget := "1000000000"
	if s.mode == inspect.FastKVM {
		budget = "8000000000" // the tool must have started until then
	}
	end := func(name, snapshot, command string, names ...string) {
		t.Helper()
		begin := time.Now()
		out, errors, code := s.emu(t, func(c *exec.Cmd) {
			for i, a := range c.Args {
				if a == "--snapshot" {
					c.Args[i+1] = snapshot
				}
			}
		}, append(s.flags(), "--budget", budget), command)
		const exitBudget = 124
		if code != exitBudget || !strings.Contains(errors, "budget is spent") || time.Since(begin) > patience {
			t.Errorf("%s: exit code %d in %v: %.100q %s", name, code, time.Since(begin), out, errors)
		}
		for _, n := range names {
			if !strings.Contains(errors, n) {
				t.Errorf("%s: no %q in %s", name, n, errors)
			}
		}
		t.Logf("%s: %s, in %v", name, strings.TrimSpace(errors), time.Since(begin))
		s.nothing(t)
	}
	end("the tool loops", s.snapshot, toolLoops, budget)
	end("the kernel loops", s.looped, kernelLoops, budget)
}

// looped is the snapshot with lists of threads, of its first process, that never come back: what sums up their times does not end,
// whichever of them it follows (fs/proc/array.c, do_task_stat: thread_group until it changed to thread_node in stable kernels too).
func looped(t *testing.T, o inspect.Options) string {
	t.Helper()
	snap, err := formats.Open(o.Snapshot, formats.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	k, err := linux.Identify(snap)
	if err != nil {
		t.Fatal(err)
	}
	i, err := o.Images.Find(image.Identity{Banner: k.Banner, BTFHash: k.BTFHash})
	if err != nil {
		t.Fatal(err)
	}
	types, err := os.Open(i.BTFPath())
	if err != nil {
		t.Fatal(err)
	}
	defer types.Close()
	spec, err := btf.LoadSpecFromReader(types)
	if err != nil {
		t.Fatal(err)
	}
	var task *btf.Struct
	if err := spec.TypeByName("task_struct", &task); err != nil {
		t.Fatal(err)
	}
	offset := func(name string) uint64 {
		for _, m := range task.Members {
			if m.Name == name {
				return uint64(m.Offset.Bytes())
			}
		}
		t.Fatalf("task_struct has no %s", name)
		return 0
	}
	word := func(la uint64) uint64 {
		v, err := k.Space.Uint64(la)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	idle, ok := k.Symbol("init_task")
	if !ok {
		t.Fatal("no init_task")
	}
	first := word(idle+offset("tasks")) - offset("tasks")
	second := word(first+offset("tasks")) - offset("tasks")
	changes := map[uint64]uint64{ // by physical address
		physical(t, k, first+offset("thread_group")): second + offset("thread_group"),
		physical(t, k, first+offset("thread_node")):  first + offset("thread_node"),
	}
	path := filepath.Join(t.TempDir(), "looped.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const firmware = 3 << 30
	err = snapshots.Copy(snap, nil, func(p []byte, pa uint64, _, _ bool) error {
		if pa >= firmware {
			return nil // below 4 GiB, which would make a file of that size
		}
		for at, v := range changes {
			if pa <= at && at < pa+uint64(len(p)) {
				binary.LittleEndian.PutUint64(p[at-pa:], v)
			}
		}
		_, err := f.WriteAt(p, int64(pa))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func physical(t *testing.T, k *linux.Kernel, la uint64) uint64 {
	t.Helper()
	p, err := k.Space.Translate(la)
	if err != nil {
		t.Fatal(err)
	}
	return p.Physical
}

// kill: emu is killed while FALLBACK trains or stores. The store opens afterwards, and the next run is right.
func (s *suite) kill(t *testing.T) {
	store := filepath.Join(t.TempDir(), "killed.db")
	random := rand.New(rand.NewPCG(1, uint64(*kills)))
	commands := reliableCommands()
	// How long a run takes that trains.
	begin := time.Now()
	if out, errors, code := s.emu(t, nil, []string{"--meta", filepath.Join(t.TempDir(), "other.db")}, commands[0]); out != s.want[commands[0]] || code != 0 {
		t.Fatalf("exit code %d, %q; %s", code, out, errors)
	}
	whole := time.Since(begin)
	ended := 0
	for n := range *kills {
		command := commands[n%len(commands)]
		cmd := s.command(t, []string{"--meta", store}, command)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(whole/8 + time.Duration(random.Int64N(int64(whole))))
		_ = cmd.Process.Kill() // it may have ended
		if cmd.Wait() == nil {
			ended++
		}
		m := &metadata.Store{Path: store}
		keys, err := m.Keys()
		if err != nil {
			t.Fatalf("round %d: %v", n, err)
		}
		for _, k := range keys {
			if _, err := m.Load(k); err != nil {
				t.Fatalf("round %d: %v", n, err)
			}
		}
	}
	for _, command := range commands {
		if out, errors, code := s.emu(t, nil, []string{"--meta", store}, command); out != s.want[command] || code != 0 {
			t.Errorf("%s after %d kills: exit code %d, %q; %s", command, *kills, code, out, errors)
		}
	}
	t.Logf("a run that trains takes %v; %d of %d came to their end before they were killed", whole, ended, *kills)
	s.nothing(t)
}

// share: several emus use one store at the same time, and learn.
func (s *suite) share(t *testing.T) {
	store := filepath.Join(t.TempDir(), "shared.db")
	var all sync.WaitGroup
	for _, command := range append(reliableCommands(), reliableCommands()[0]) {
		all.Go(func() {
			if out, errors, code := s.emu(t, nil, []string{"--meta", store}, command); out != s.want[command] || code != 0 {
				t.Errorf("%s: exit code %d, %q; %s", command, code, out, errors)
			}
		})
	}
	all.Wait()
	for _, command := range reliableCommands() {
		out, errors, code := s.emu(t, nil, []string{"--meta", store, "--stats"}, command)
		if out != s.want[command] || code != 0 || !strings.Contains(errors, " 0 trainings") {
			t.Errorf("%s afterwards: exit code %d, %q; %s", command, code, out, errors)
		}
	}
	s.nothing(t)
}
