//go:build boot

package inspecttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/hybridbridge/emu/core/inspect"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/host"
	"github.com/hybridbridge/emu/core/slowbridge"
)

// planned is what a handler of testdata/planner changes in a command's answer.
type planned struct {
	name     string
	category string
	command  string
	want     string // in what the command prints
	finding  string // in the error that ends the run, if there is one
}

// plans: what a handler says happens in SLOW-BRIDGE and in FAST-BRIDGE, and is asked once.
func plans(t *testing.T, o inspect.Options) {
	for _, c := range []planned{
		{"freezes", "R", "cat /proc/loadavg", "3.00 3.00 3.00 ", ""},
		{"elides", "R", "cat /proc/loadavg", " 0/", ""},
		{"keeps", "Semi", "uname -n", "trusted\n", ""},
		{"discards", "R", "cut -d' ' -f14,15 /proc/1/stat", "", ""},
		{"refuses", "R", "ps -eo pid,args", "", "a handler refuses the store into the snapshot at "},
		{"traps", "R", "cat /proc/loadavg", "", "traps: no load average"},
		{"freezes-locals", "NR", "cat /proc/loadavg", "3.00 3.00 3.00 ", ""},
		{"redirects", "NR", "cat /proc/misc", "cpu_dma_latency", ""},
		{"skips", "N", "cat /proc/loadavg", "/", ""},
		{"stops", "N", "cat /proc/loadavg", "", "stops: no load average is returned"},
	} {
		t.Run(c.name+" "+c.category, func(t *testing.T) {
			policies, err := host.Open(planner(t, c), hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			defer policies.Close()
			o := o
			usual := ""
			if c.finding == "" {
				x, res, err := run(o, c.command)
				if err != nil {
					t.Fatal(err)
				}
				usual = said(x, res)
			}
			o.Policies = policies
			o.MetaData = &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
			c.try(t, o, usual)
		})
	}
}

// unseen: where Meta-Data has lost what SLOW-BRIDGE learned, FAST-BRIDGE asks the handlers itself, once, and does what it would have done.
func unseen(t *testing.T, o inspect.Options) {
	for _, c := range []struct {
		planned
		function string
		lost     policy.Category
	}{
		{planned{"decides", "U", "cat /proc/1/syscall", "", ""}, "collect_syscall", policy.Redirectable},
		{planned{"skips", "N", "cat /proc/loadavg", "", ""}, "loadavg_proc_show", policy.Neutral},
		{planned{"freezes-locals", "NR", "cat /proc/loadavg", "", ""}, "loadavg_proc_show", policy.NonRedirectable},
		{planned{"nobody", "", "cat /proc/1/syscall", "", "install a handler of category U"}, "collect_syscall", policy.Redirectable},
	} {
		t.Run(c.name+" "+c.category, func(t *testing.T) {
			policies, err := host.Open(planner(t, c.planned), hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			defer policies.Close()
			o := o
			o.Policies = policies
			o.MetaData = &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
			slow, _, err := run(o, c.command)
			if err != nil {
				t.Fatal(err)
			}
			o.MetaData = without(t, o.MetaData, c.function, c.lost)
			o.Fast = inspect.FastEmulated
			for warm := range 2 {
				fast, res, err := run(o, c.command)
				if c.finding != "" {
					if !errors.Is(err, slowbridge.ErrFinding) || !strings.Contains(err.Error(), c.finding) {
						t.Errorf("%v", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if fast.stdout.String() != slow.stdout.String() {
					t.Errorf("FAST-BRIDGE prints\n%s, SLOW-BRIDGE\n%s", &fast.stdout, &slow.stdout)
				}
				if asked := res.Stats.Asked; (asked == 0) != (warm == 1) || res.Stats.Fast.Trainings != 0 {
					t.Errorf("run %d asked about %d instructions: %+v", warm, asked, res.Stats.Fast)
				}
			}
		})
	}
}

// without returns a store that lacks the instructions of a function that are of a category.
func without(t *testing.T, s *metadata.Store, function string, c policy.Category) *metadata.Store {
	t.Helper()
	keys, err := s.Keys()
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	set, err := s.Load(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	set = set.Filter(func(_ metadata.ScopeID, site *metadata.Site) bool {
		y, _ := set.Symbol(site.Location)
		if y.Function != function || site.Category != c {
			return true
		}
		lost++
		return false
	})
	if lost == 0 {
		t.Fatalf("%s has no %v", function, c)
	}
	out := &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
	if _, err := out.MergeAll(map[metadata.Key]*metadata.Set{keys[0]: set}); err != nil {
		t.Fatal(err)
	}
	return out
}

// try runs a command cold and warm in SLOW-BRIDGE, and warm in FAST-BRIDGE. usual is what it prints without the handler.
func (c planned) try(t *testing.T, o inspect.Options, usual string) {
	answer := ""
	for i, mode := range []struct {
		what  string
		fast  inspect.FastMode
		exits bool
	}{{"cold", inspect.FastOff, false}, {"warm", inspect.FastOff, false}, {"in FAST-BRIDGE", inspect.FastEmulated, false}, {"with exits", inspect.FastEmulated, true}} {
		o.Fast, o.ExitSwitching = mode.fast, mode.exits
		x, res, err := run(o, c.command)
		if c.finding != "" {
			if !errors.Is(err, slowbridge.ErrFinding) || !strings.Contains(err.Error(), c.finding) {
				t.Errorf("%s: %v", mode.what, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", mode.what, err)
		}
		if i == 0 {
			if answer = x.stdout.String(); said(x, res) == usual {
				t.Errorf("the handler changes nothing: %s", usual)
			}
		}
		if x.stdout.String() != answer || !strings.Contains(answer, c.want) {
			t.Errorf("%s it prints\n%s, cold\n%s, and %q was to be there; stderr: %s", mode.what, &x.stdout, answer, c.want, &x.stderr)
		}
		if asked := res.Stats.Asked; (asked == 0) != (i > 0) {
			t.Errorf("%s it asked about %d instructions", mode.what, asked)
		}
		if s := res.Stats.Fast; s != nil && s.Trainings != 0 {
			t.Errorf("%s: %+v", mode.what, s)
		}
	}
}

// said is what a tool has printed, and how much of the snapshot it has seen: what a handler changes of that need not change the answer.
func said(x *tool, res inspect.Result) string {
	return fmt.Sprintf("%s(%d redirected)", &x.stdout, res.Stats.Redirection.Routed)
}

// planner makes a directory of policies in which a program of testdata/planner is the handler of a category.
func planner(t *testing.T, c planned) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(*plugins)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, c.name), "./testdata/planner")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	handlers := map[string]string{}
	if c.category != "" {
		handlers[c.category] = c.name
	} else if err := os.Remove(filepath.Join(dir, c.name)); err != nil {
		t.Fatal(err)
	}
	m, err := host.Scan(dir, handlers)
	if err == nil {
		err = m.Write(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
