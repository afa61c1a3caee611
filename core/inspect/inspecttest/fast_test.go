//go:build boot

package inspecttest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/inspect"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/session"
)

// fast: FAST-BRIDGE prints what SLOW-BRIDGE prints, trained by FALLBACK and by SLOW-BRIDGE, on the emulator's vCPU in both ways of
// switching, and under KVM.
func fast(t *testing.T, o inspect.Options) {
	o.MetaData = &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
	commands := []string{"uname -a", "cat /proc/meminfo /proc/1/stat", "lsmod", "ps aux"}
	var want bytes.Buffer
	for i, command := range commands {
		f := o
		f.Fast = inspect.FastEmulated
		if i == 0 { // what is unknown is learned on the way
			x, res, err := run(f, command)
			if err != nil {
				t.Fatal(err)
			}
			if s := res.Stats.Fast; s.Trainings != 1 || s.Scopes == 0 || s.Displaced == 0 {
				t.Errorf("%s without Meta-Data: %+v", command, s)
			}
			want.Reset()
			want.WriteString(x.stdout.String())
		}
		slow, _, err := run(o, command)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && slow.stdout.String() != want.String() {
			t.Errorf("%s: FAST-BRIDGE prints %q after training, SLOW-BRIDGE %q", command, &want, &slow.stdout)
		}
		for _, f.ExitSwitching = range []bool{false, true} {
			x, res, err := run(f, command)
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			if x.stdout.String() != slow.stdout.String() || x.stderr.String() != slow.stderr.String() {
				t.Errorf("%s: FAST-BRIDGE prints\n%s%s\nand SLOW-BRIDGE\n%s%s", command, &x.stdout, &x.stderr, &slow.stdout, &slow.stderr)
			}
			if s := res.Stats.Fast; s.Trainings != 0 || f.ExitSwitching == (s.Switches == 0) || f.ExitSwitching == (s.Displaced != 0) {
				t.Errorf("%s: %+v", command, s)
			}
		}
		if command == "lsmod" {
			want.Reset()
			want.WriteString(slow.stdout.String())
		}
	}
	if *lab == "" {
		t.Log("no -kvmlab: not run under KVM")
		return
	}
	underKVM(t, o, "lsmod", want.String())
}

// hooks: of a function with a hook to which no training of the scope came only SLOW-BRIDGE knows whose its argument is, where the address does not tell.
func hooks(t *testing.T, o inspect.Options) {
	o.MetaData = &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
	slow, _, err := run(o, "uname -n")
	if err != nil {
		t.Fatal(err)
	}
	// uname takes uts_sem, a variable. What is neutral of down_read the rules decide by themselves.
	for store, trainings := range map[*metadata.Store]uint64{o.MetaData: 0, without(t, o.MetaData, "down_read", policy.Neutral): 1} {
		f := o
		f.MetaData, f.Fast = store, inspect.FastEmulated
		x, res, err := run(f, "uname -n ") // a command that was not trained
		if err != nil {
			t.Fatal(err)
		}
		if s := res.Stats.Fast; s.Trainings != trainings || x.stdout.String() != slow.stdout.String() {
			t.Errorf("FAST-BRIDGE prints %q and trains %d times, want %q and %d", &x.stdout, s.Trainings, &slow.stdout, trainings)
		}
	}
}

// endless: FALLBACK stops a tool that never ends, some time after it has learned what was asked; FAST-BRIDGE goes on then.
func endless(t *testing.T, o inspect.Options) {
	o.MetaData = &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
	o.Fast, o.Budget = inspect.FastEmulated, 600_000_000
	const command = "while :; do uname -n; done"
	x, _, err := run(o, command)
	if !errors.Is(err, session.ErrBudget) || !strings.HasPrefix(x.stdout.String(), "web\nweb\n") {
		t.Errorf("FAST-BRIDGE prints %.20q: %v", x.stdout.String(), err)
	}
	keys, err := o.MetaData.Keys()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	set, err := o.MetaData.Load(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Trainings(); len(got) != 1 || !got[0].Partial {
		t.Errorf("%+v", got)
	}
}

// underKVM runs a command on this machine's KVM or in the lab's.
func underKVM(t *testing.T, o inspect.Options, command, want string) {
	data := filepath.Dir(filepath.Dir(o.Images.Dir))
	argv := func(emu, snapshot, meta string) []string {
		return []string{
			emu, "--accel=kvm", "--snapshot", snapshot, "--meta", meta, "--budget", "300000000000", "--", "sh", "-c", command,
		}
	}
	var cmd *exec.Cmd
	if exec.Command(*lab, "usable").Run() == nil {
		a := argv(*emulator, o.Snapshot, o.MetaData.Path)
		cmd = exec.Command(a[0], a[1:]...)
		cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+data)
	} else {
		a := []string{
			"run", "--memory", "3072", "--timeout", "15m", "--env", "XDG_DATA_HOME=/data", "--dir", filepath.Dir(*emulator) + ":/emu",
			"--dir", data + ":/data", "--dir", o.Snapshot + ":/web.snapshot", "--dir", o.MetaData.Path + ":/metadata.db", "--",
		}
		cmd = exec.Command(*lab, append(a, argv("/emu/emu", "/web.snapshot", "/metadata.db")...)...)
		cmd.Env = append(os.Environ(), "GUESTS="+*guests)
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if stdout.String() != want {
		t.Errorf("under KVM %s prints\n%s\nand in SLOW-BRIDGE\n%s", command, &stdout, want)
	}
}
