//go:build crossview

package crossviewtest

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/crossview"
)

var (
	modes = flag.String("modes", "inguest exit", "the ways of FAST-BRIDGE that TestSame compares with SLOW-BRIDGE, blanks between: inguest, exit, kvm, kvm-exit")
	meta  = flag.String("meta", "", "Meta-Data for FAST-BRIDGE, of which each tool gets a copy of its own; without it, what SLOW-BRIDGE has just learned on the same snapshot")
	slow  = flag.String("slow", "", "a folder that an earlier TestSame kept: compare with SLOW-BRIDGE's outputs there, instead of running it")
)

// fastBridge is emu's flags for a way of FAST-BRIDGE.
var fastBridge = map[string][]string{
	"inguest":  {"--views=emu"},
	"exit":     {"--views=emu", "--switch=exit"},
	"kvm":      {"--accel=kvm"},
	"kvm-exit": {"--accel=kvm", "--switch=exit"},
}

// TestSame runs every tool with SLOW-BRIDGE, which is judged as in TestTools, and with FAST-BRIDGE, whose output, error output and
// exit status must be SLOW-BRIDGE's, right or wrong. With -keep, what SLOW-BRIDGE learned stays there as SNAPSHOT/metadata.db.
func TestSame(t *testing.T) {
	selected, must, ways := pattern(t, *tools), pattern(t, *required), strings.Fields(*modes)
	for _, way := range ways {
		if fastBridge[way] == nil {
			t.Fatalf("-modes: FAST-BRIDGE has no mode %q", way)
		}
	}
	for _, snapshot := range strings.Fields(*snapshots) {
		t.Run(snapshot, func(t *testing.T) {
			r := runner(snapshot)
			flags := r.Flags
			index, err := crossview.ReadIndex(r.Directory)
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			if *keep != "" {
				folder = filepath.Join(*keep, snapshot)
			}
			learned := filepath.Join(folder, "metadata.db")
			count := map[string]int{}
			for _, tool := range index {
				if !selected.MatchString(tool.Name) {
					continue
				}
				row := func(way, verdict string, p crossview.Printed, why string) {
					count[way+" "+verdict]++
					fmt.Printf("%-12s %-20s %-8s %-9s %6.1f s  %s\n", snapshot, tool.Name, way, verdict, p.Took.Seconds(), why)
					if must.MatchString(tool.Name) && verdict != "ok" && verdict != "same" && verdict != "skipped" {
						t.Errorf("%s: %s %s: %s", tool.Name, way, verdict, why)
					}
				}
				var want crossview.Printed
				if *slow != "" {
					if want, err = readPrinted(*slow, snapshot, tool.Name, "slow"); os.IsNotExist(err) {
						continue
					} else if err != nil {
						t.Fatal(err)
					}
				} else {
					r.Flags = append(flags[:len(flags):len(flags)], "--meta", learned)
					result := r.Run(t.Context(), tool)
					row("slow", result.Verdict.String(), result.Printed, result.String())
					if want = result.Printed; want.Took == 0 {
						continue
					}
					keepPrinted(t, snapshot, tool.Name, "slow", want)
				}
				for _, way := range ways {
					store := learned
					if *meta != "" {
						store = filepath.Join(t.TempDir(), "metadata.db")
						copyFile(t, store, *meta)
					}
					r.Flags = append(append(flags[:len(flags):len(flags)], "--meta", store), fastBridge[way]...)
					got, err := r.Execute(t.Context(), tool)
					why, verdict := got.Difference(want), "same"
					if err != nil {
						why = err.Error()
					}
					if why != "" {
						verdict = "different"
					}
					row(way, verdict, got, why)
					keepPrinted(t, snapshot, tool.Name, way, got)
					if store != learned {
						os.Remove(store)
					}
				}
			}
			if len(count) == 0 {
				t.Fatalf("no tool of %s matches %q", r.Directory, *tools)
			}
			var counts []string
			if *slow == "" {
				counts = append(counts, fmt.Sprintf("slow %d ok, %d wrong, %d error, %d skipped", count["slow ok"], count["slow wrong"], count["slow error"], count["slow skipped"]))
			}
			for _, way := range ways {
				counts = append(counts, fmt.Sprintf("%s %d same, %d different", way, count[way+" same"], count[way+" different"]))
			}
			fmt.Printf("%s: %s\n", snapshot, strings.Join(counts, "; "))
		})
	}
}

// keepPrinted keeps what a tool printed as SNAPSHOT/TOOL.WAY.json, for -slow and for people.
func keepPrinted(t *testing.T, snapshot, tool, way string, p crossview.Printed) {
	t.Helper()
	if *keep == "" {
		return
	}
	path := filepath.Join(*keep, snapshot, tool+"."+way)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, text := range map[string][]byte{".json": text, ".txt": p.Output} {
		if err := os.WriteFile(path+suffix, text, 0o666); err != nil {
			t.Error(err)
		}
	}
}

func readPrinted(dir, snapshot, tool, way string) (p crossview.Printed, err error) {
	text, err := os.ReadFile(filepath.Join(dir, snapshot, tool+"."+way+".json"))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(text, &p)
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o666); err != nil {
		t.Fatal(err)
	}
}
