//go:build crossview

package crossviewtest

import (
	"regexp"
	"slices"
	"testing"

	"github.com/hybridbridge/emu/core/crossview"
)

// TestRootkit inspects a VM whose kernel hides a process and a module: the tools inside do not show them, through emu
// they do, and that is all that they show beyond the truths.
func TestRootkit(t *testing.T) {
	r := runner("rootkit")
	facts, err := crossview.ReadManifest(r.Directory)
	if err != nil {
		t.Fatal("run make untrusted-rootkit: ", err)
	}
	pid, command, module := facts["hidden_pid"], facts["hidden_command"], facts["hidden_module"]
	if pid == "" || command == "" || module == "" {
		t.Fatalf("%s/manifest.txt names no hidden process and module; the console is in serial.log", r.Directory)
	}
	process := regexp.MustCompile(`(?m)^\S+ +` + pid + ` .*` + regexp.QuoteMeta(command) + `$`)
	loaded := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(module) + ` +\d+ `)
	hidden := map[string]*regexp.Regexp{
		"ps-aux": process, "ps-ef": process,
		"proc-list": regexp.MustCompile(`(?m)(^| )` + pid + `( |$)`),
		"lsmod":     loaded, "proc-modules": loaded,
	}
	index, err := crossview.ReadIndex(r.Directory)
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range hidden {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(index, func(tool crossview.Tool) bool { return tool.Name == name })
			if i < 0 {
				t.Fatalf("no truth of %s", name)
			}
			truth, err := crossview.ReadTruth(r.Directory, name)
			if err != nil {
				t.Fatal(err)
			}
			if line.MatchString(truth.Before) || line.MatchString(truth.After) {
				t.Fatalf("%s inside the VM shows what should be hidden: %v", name, line)
			}
			result := r.Run(t.Context(), index[i])
			if result.Verdict == crossview.Failed {
				t.Fatal(result)
			}
			if found := line.Find(result.Output); found == nil {
				t.Errorf("%s through emu does not show what is hidden inside (%v):\n%s", name, line, result.Output)
			} else {
				t.Logf("hidden inside, shown by emu: %s", found)
			}
			for _, p := range result.Problems {
				if !(p.Kind == crossview.Foreign && (line.MatchString(p.Got) || p.Got == pid)) {
					t.Errorf("beyond what is hidden: %v", p)
				}
			}
		})
	}
}
