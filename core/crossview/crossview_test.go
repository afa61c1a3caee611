package crossview

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var snapshots = flag.String("untrusted", os.Getenv("UNTRUSTED"), "the snapshots that `make untrusted` made")

// eachTruth runs f for every tool of every snapshot that is there.
func eachTruth(t *testing.T, f func(t *testing.T, tool Tool, spec Spec, truth Truth)) {
	t.Helper()
	indexes, err := filepath.Glob(filepath.Join(*snapshots, "*", "truth", "before", "INDEX"))
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
	eachTruth(t, func(t *testing.T, tool Tool, spec Spec, truth Truth) {
		passes(t, "before", spec, truth, truth.Before, nil)
		passes(t, "after", spec, truth, truth.After, nil)
	})
}
