package inspect

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/formats"
	"github.com/hybridbridge/emu/snapshots/linux"
)

// A snapshot that is changed, replaced or read in another way is another one, and one that was just written may change unseen.
func TestRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	o := Options{Snapshot: path, Kernels: t.TempDir()}
	if name, keep := remembered(&o); name != "" || keep {
		t.Errorf("a file that is not there is %q, %v", name, keep)
	}
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	seen := map[string]string{}
	different := func(what string) {
		t.Helper()
		name, keep := remembered(&o)
		if keep {
			t.Errorf("%s: what is known of a file that was just written is kept", what)
		}
		if was, ok := seen[name]; ok || name == "" {
			t.Errorf("%s: %q is known, as %s", what, name, was)
		}
		seen[name] = what
	}
	different("new")
	if name, _ := remembered(&o); seen[name] != "new" {
		t.Error("the same file is another")
	}
	write("ab")
	different("longer")
	if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	different("older")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("ab")
	different("another file of that name")
	o.Open = formats.Options{Hole: snapshots.Range{Base: 1 << 30, Size: 1 << 30}}
	different("with a hole")
	o.Snapshot = filepath.Dir(path)
	if name, _ := remembered(&o); name != "" {
		t.Error("a folder is known")
	}
	o.Snapshot, o.Kernels = path, ""
	if name, _ := remembered(&o); name != "" {
		t.Error("nothing is to be kept")
	}
}

// What is kept is bounded, and the oldest goes.
func TestForget(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kernels")
	for i := range keptKernels + 5 {
		path := filepath.Join(dir, fmt.Sprintf("%d.json", i))
		remember(path, &linux.Kernel{Banner: "Linux"})
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(path, at, at); err != nil && i >= keptKernels {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != keptKernels {
		t.Fatalf("%d files, %v", len(left), err)
	}
	for i := range 5 {
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%d.json", i))); err == nil {
			t.Errorf("file %d is still there", i)
		}
	}
}
