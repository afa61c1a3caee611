package crossview

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var snapshots = flag.String("untrusted", os.Getenv("UNTRUSTED"), "the snapshots that `make untrusted` made")

// eachTruth runs f for every tool of the snapshots that are there and match the pattern.
func eachTruth(t *testing.T, pattern string, f func(t *testing.T, tool Tool, spec Spec, truth Truth)) {
	t.Helper()
	indexes, err := filepath.Glob(filepath.Join(*snapshots, pattern, "truth", "before", "INDEX"))
	if err != nil {
		t.Fatal(err)
	}
	if *snapshots == "" || len(indexes) == 0 {
		t.Skip("no snapshots with truth: run make untrusted and set UNTRUSTED")
	}
	for _, index := range indexes {
		dir := filepath.Join(index, "..", "..", "..")
		tools, err := ReadIndex(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, tool := range tools {
			truth, err := ReadTruth(dir, tool.Name)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(filepath.Base(dir)+"/"+tool.Name, func(t *testing.T) { f(t, tool, SpecFor(tool.Name), truth) })
		}
	}
}

func passes(t *testing.T, what string, spec Spec, truth Truth, output string, names []string) {
	t.Helper()
	for i, p := range Compare(spec, truth, output, Options{Names: names}) {
		if i == 5 {
			t.Errorf("%s: and more", what)
			return
		}
		t.Errorf("%s: %v", what, p)
	}
}

// TestTruths: what the VM itself said, before or after, is right.
func TestTruths(t *testing.T) {
	eachTruth(t, "*", func(t *testing.T, tool Tool, spec Spec, truth Truth) {
		passes(t, "before", spec, truth, truth.Before, nil)
		passes(t, "after", spec, truth, truth.After, nil)
	})
}

// TestBetween: values half way between the truths are right.
func TestBetween(t *testing.T) {
	eachTruth(t, "[kn]*", func(t *testing.T, _ Tool, spec Spec, truth Truth) {
		var rows []string
		for _, e := range entriesOf(spec, truth) {
			rows = append(rows, between(e, 0.5, nil))
		}
		passes(t, "between", spec, truth, strings.Join(rows, "\n")+"\n", nil)
	})
}

// TestChanged: of what both truths have nothing may be taken away, moved, or set beyond them, and nothing may be added.
func TestChanged(t *testing.T) {
	eachTruth(t, "kaslr-smp", func(t *testing.T, tool Tool, spec Spec, truth Truth) {
		if spec.Split {
			return // words, not lines: TestProcList
		}
		entries := entriesOf(spec, truth)
		random := rand.New(rand.NewPCG(1, 2))
		rows := make([]string, len(entries))
		var required []int
		for i, e := range entries {
			rows[i] = e.line().raw
			if e.required && !spec.excuses(e.line()) {
				required = append(required, i)
			}
		}
		fails := func(what string, rows []string) {
			t.Helper()
			if Compare(spec, truth, strings.Join(rows, "\n")+"\n", Options{Names: OwnNames(tool.Command)}) == nil {
				t.Errorf("%s, and the comparison passes", what)
			}
		}
		for range min(4, len(required)) {
			i := required[random.IntN(len(required))]
			e := entries[i]
			fails(fmt.Sprintf("line taken away: %q", rows[i]), slices.Delete(slices.Clone(rows), i, i+1))
			if masked := e.line().masked; strings.ContainsFunc(masked, unicode.IsLetter) {
				broken := slices.Clone(rows)
				broken[i] = strings.Map(func(r rune) rune {
					if unicode.IsLetter(r) {
						return 'ж'
					}
					return r
				}, masked)
				fails(fmt.Sprintf("other words: %q", broken[i]), broken)
			}
			for k, n := range e.line().values {
				l, h := n.value, n.value
				if e.after != nil && e.after.shape == e.line().shape {
					h = e.after.values[k].value
				}
				top := max(l, h)
				beyond := top + spec.slack(e.line(), n.field, top)*1.01 + 2
				if strings.Contains(n.text, ":") || beyond > 1e15 {
					continue
				}
				broken := slices.Clone(rows)
				broken[i] = between(e, 0, map[int]string{k: strconv.FormatFloat(beyond, 'f', 0, 64)})
				fails(fmt.Sprintf("number %d beyond: %q for %q", k, broken[i], rows[i]), broken)
			}
		}
		fails("a foreign line", append(slices.Clone(rows), "root 31337 1 intruder"))
		for i, row := range rows {
			if slices.Contains(required, i) && strings.Contains(entries[i].line().masked, "untrusted-vm") {
				broken := slices.Clone(rows)
				broken[i] = strings.ReplaceAll(row, "untrusted-vm", "trusted-vm")
				fails("another host name", broken)
				if Compare(spec, truth, strings.Join(broken, "\n"), Options{Marks: map[string]string{" trusted-vm": "its name"}}) == nil {
					t.Error("a mark of the trusted VM, and the comparison passes")
				}
			}
		}
	})
}

// TestOwnProcess: the tool's own process may show, under a number that no truth has, and no other process may.
func TestOwnProcess(t *testing.T) {
	eachTruth(t, "*", func(t *testing.T, tool Tool, spec Spec, truth Truth) {
		switch tool.Name {
		case "ps-aux", "ps-ef", "ps-threads", "ps-long", "top", "proc-stat-all", "proc-cmdline-all":
		default:
			return
		}
		before := parse(spec, truth.Before)
		after := pids(parse(spec, truth.After))
		var lines, own []string
		for _, l := range before {
			// The process that waits for the dump runs at times between the truths.
			if l.pid != "" && !after[l.pid] && !strings.Contains(l.raw, "SNAPSHOT-MARKER") {
				own = append(own, l.raw)
			} else {
				lines = append(lines, l.raw)
			}
		}
		if len(own) != 1 {
			t.Fatalf("own process: %q, want one line", own)
		}
		passes(t, "without the tool's process", spec, truth, strings.Join(lines, "\n"), OwnNames(tool.Command))
		pid := spec.PID.FindStringSubmatch(normalize(own[0]))[1]
		mine := strings.ReplaceAll(own[0], pid, "99999")
		passes(t, "with it", spec, truth, strings.Join(append(lines, mine), "\n"), OwnNames(tool.Command))
		var intruder string
		for _, l := range before {
			if strings.Contains(l.raw, "aardvark") {
				intruder = strings.ReplaceAll(l.raw, l.pid, "99998")
			}
		}
		if intruder == "" {
			t.Fatal("no process aardvark in the truth")
		}
		if Compare(spec, truth, strings.Join(append(lines, intruder), "\n"), Options{Names: OwnNames(tool.Command)}) == nil {
			t.Errorf("a foreign process passes: %q", intruder)
		}
	})
}

func TestCompare(t *testing.T) {
	ps := Truth{
		Before: "PID %CPU COMMAND\n1 0.5 init\n 2 0.0 kthreadd\n7 0.1 kworker/0:1-events\n20 5.0 burner\n30 9.0 ps aux\n",
		After:  "PID %CPU COMMAND\n1 0.4 init\n 2 0.0 kthreadd\n7 0.1 kworker/0:1-rcu_gp\n20 9.0 burner\n44 9.0 ps aux\n",
	}
	spec := Spec{PID: re(`^(\d+) `)}
	for _, test := range []struct {
		name, output string
		want         []Kind
	}{
		{"before", ps.Before, nil},
		{"after", ps.After, nil},
		{"between", "PID %CPU COMMAND\n1 0.4 init\n2 0.0 kthreadd\n7 0.1 kworker/0:1\n20 7.5 burner\n60 0.0 ps aux\n", nil},
		{"a process is missing", "PID %CPU COMMAND\n1 0.5 init\n2 0.0 kthreadd\n7 0.1 kworker/0:1\n", []Kind{Missing}},
		{"a value", "PID %CPU COMMAND\n1 0.5 init\n2 0.0 kthreadd\n7 0.1 kworker/0:1\n20 9.1 burner\n", []Kind{Wrong}},
		{"a foreign process", ps.After + "61 0.0 sshd\n", []Kind{Foreign}},
		{"order", "PID %CPU COMMAND\n2 0.0 kthreadd\n1 0.5 init\n7 0.1 kworker/0:1\n20 7.5 burner\n", []Kind{OutOfOrder}},
		{"the trusted VM", "PID %CPU COMMAND\n1 0.5 init\n2 0.0 kthreadd\n7 0.1 kworker/0:1\n20 7.5 burner\n60 0.0 ps aux --trusted\n", []Kind{Trusted}},
		{"a flood", strings.Repeat("1 0.5 init\n", 2000), []Kind{Foreign}},
		{"nothing", "", []Kind{Missing, Missing, Missing, Missing, Missing}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []Kind
			for _, p := range Compare(spec, ps, test.output, Options{Names: []string{"ps"}, Marks: map[string]string{"--trusted": "a word"}}) {
				got = append(got, p.Kind)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("problems: %v, want %v", got, test.want)
			}
		})
	}
}

// TestCarried: what a line about a process has from the line before says nothing about the process.
func TestCarried(t *testing.T) {
	truth := Truth{Before: "4 HOME=/\n42 HOME=/root\n5 HOME=/root\n", After: "4 HOME=/\n5 HOME=/\n51 HOME=/root\n6 HOME=/root\n"}
	for output, right := range map[string]bool{
		"4 HOME=/\n5 HOME=/\n":           true,
		"4 HOME=/\n5 HOME=/\n6 HOME=/\n": true,
		"4 HOME=/\n5 HOME=/other\n":      false,
		"4 HOME=/other\n5 HOME=/\n":      false,
	} {
		if problems := Compare(Spec{PID: re(`^(\d+) `), Carried: true}, truth, output, Options{}); (problems == nil) != right {
			t.Errorf("%q: %v", output, problems)
		}
	}
}

// TestTimers: timers of several processors are told apart by what they do.
func TestTimers(t *testing.T) {
	list := func(first, second string) string {
		return "active timers:\n" + first + second + "cpu: 1\n"
	}
	timer := func(n int, function string, at uint64) string {
		return fmt.Sprintf(" #%d: <0000%d>, %s, S:01\n # expires at %d-%d nsecs [in 1 to 1 nsecs]\n", n, n, function, at, at)
	}
	const tick, sleep = "tick_sched_timer", "hrtimer_wakeup"
	truth := Truth{Before: list(timer(0, tick, 44e9), timer(1, sleep, 74e9)), After: list(timer(0, tick, 78e9), timer(1, sleep, 108e9))}
	for _, c := range []struct {
		output string
		right  bool
	}{
		{list(timer(0, tick, 51e9), timer(1, sleep, 81e9)), true},
		{list(timer(0, sleep, 81e9), timer(1, tick, 56e9)), true},
		{list(timer(0, sleep, 56e9), timer(1, tick, 81e9)), false},
	} {
		if problems := Compare(SpecFor("proc-timer_list"), truth, c.output, Options{}); (problems == nil) != c.right {
			t.Errorf("%q: %v", c.output, problems)
		}
	}
}

func TestProcList(t *testing.T) {
	truth := Truth{Before: "1 10 2 30\n", After: "1 10 2 44\n"}
	for output, right := range map[string]bool{"1 10 2 99\n": true, "1 10 2": true, "1 2": false, "1 10 2 5 6 7 8": false} {
		if got := Compare(SpecFor("proc-list"), truth, output, Options{}); (got == nil) != right {
			t.Errorf("%q: %v", output, got)
		}
	}
}

func entriesOf(spec Spec, truth Truth) []entry {
	return merge(parse(spec, truth.Before), parse(spec, truth.After))
}

// between writes an entry with numbers that part of the way from before to after, or as they are given.
func between(e entry, part float64, given map[int]string) string {
	first := e.line()
	var second []token
	if e.after != nil && e.after.shape == first.shape {
		second = e.after.values
	}
	var b strings.Builder
	k := 0
	for _, n := range first.tokens {
		if !n.number {
			b.WriteString(n.text)
			continue
		}
		text := n.text
		if s, ok := given[k]; ok {
			text = s
		} else if second != nil && second[k].text != text && !strings.Contains(text, ":") && part > 0 {
			decimals := 0
			if _, fraction, ok := strings.Cut(text, "."); ok {
				decimals = len(fraction)
			}
			text = strconv.FormatFloat(n.value+(second[k].value-n.value)*part, 'f', decimals, 64)
		}
		b.WriteString(text)
		k++
	}
	return b.String()
}
