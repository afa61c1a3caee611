//go:build crossview

package crossviewtest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hybridbridge/emu/core/crossview"
)

var (
	untrusted = flag.String("untrusted", os.Getenv("UNTRUSTED"), "the snapshots that `make untrusted` made")
	emulator  = flag.String("emu", "", "the emu program that `make build` made, its policies beside it")
	emuFlags  = flag.String("emu-flags", "", "flags of emu beyond --snapshot, blanks between")
	snapshots = flag.String("snapshots", "nokaslr", "the snapshots to inspect, blanks between")
	tools     = flag.String("tools", ".*", "a pattern of the tools to run")
	required  = flag.String("required", ".*", "a pattern of the tools that must be right")
	timeout   = flag.Duration("tool-timeout", 5*time.Minute, "limit for one tool")
	keep      = flag.String("keep", "", "keep the outputs in this folder, as SNAPSHOT/TOOL.txt")
	marks     = flag.String("marks", " trusted ,(trusted),trusted-agent", "texts that only the trusted VM has, commas between")
)

func TestMain(m *testing.M) {
	flag.Parse()
	for path, target := range map[string]string{*untrusted: "untrusted", *emulator: "build"} {
		if _, err := os.Stat(path); err != nil {
			fmt.Fprintf(os.Stderr, "crossviewtest: run make %s first: %v\n", target, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func runner(snapshot string) crossview.Runner {
	r := crossview.Runner{
		Emu: *emulator, Flags: strings.Fields(*emuFlags), Timeout: *timeout,
		Directory: filepath.Join(*untrusted, snapshot), Marks: map[string]string{},
	}
	for mark := range strings.SplitSeq(*marks, ",") {
		if mark != "" {
			r.Marks[mark] = fmt.Sprintf("it shows %q", mark)
		}
	}
	return r
}

// TestTools runs every tool on every snapshot and prints the table.
func TestTools(t *testing.T) {
	selected, must := pattern(t, *tools), pattern(t, *required)
	for _, snapshot := range strings.Fields(*snapshots) {
		t.Run(snapshot, func(t *testing.T) {
			r := runner(snapshot)
			index, err := crossview.ReadIndex(r.Directory)
			if err != nil {
				t.Fatal(err)
			}
			count := map[crossview.Verdict]int{}
			failed := 0
			for _, tool := range index {
				if !selected.MatchString(tool.Name) {
					continue
				}
				result := r.Run(t.Context(), tool)
				count[result.Verdict]++
				fmt.Printf("%-12s %-20s %-7s %6.1f s  %s\n", snapshot, tool.Name, result.Verdict, result.Took.Seconds(), result)
				keepOutput(t, snapshot, result)
				if must.MatchString(tool.Name) && (result.Verdict == crossview.Differ || result.Verdict == crossview.Failed) {
					failed++
				}
			}
			fmt.Printf("%s: %d ok, %d wrong, %d error, %d skipped\n", snapshot, count[crossview.OK], count[crossview.Differ],
				count[crossview.Failed], count[crossview.Skipped])
			if len(count) == 0 {
				t.Errorf("no tool of %s matches %q", r.Directory, *tools)
			}
			if failed > 0 {
				t.Errorf("%s: %d of the required tools are not right", snapshot, failed)
			}
		})
	}
}

func pattern(t *testing.T, s string) *regexp.Regexp {
	t.Helper()
	p, err := regexp.Compile("^(?:" + s + ")$")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func keepOutput(t *testing.T, snapshot string, result crossview.Result) {
	t.Helper()
	if *keep == "" {
		return
	}
	path := filepath.Join(*keep, snapshot, result.Tool.Name+".txt")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, result.Output, 0o666); err != nil {
		t.Error(err)
	}
}
