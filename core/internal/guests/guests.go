// Package guests finds, for tests, the guests that make guests made: Debian's kernels and their initial RAM disks.
package guests

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var folder = flag.String("guests", os.Getenv("GUESTS"), "the guests that make guests made (default: $GUESTS, else those in the user's cache)")

// Long reports whether tests shall take their time: EMU_LONG is set.
func Long() bool { return os.Getenv("EMU_LONG") != "" }

// Dir returns the folder of the guests, or skips the test.
func Dir(t testing.TB) string {
	t.Helper()
	if *folder != "" {
		return *folder
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no guests: neither -guests nor $GUESTS, and %v", err)
	}
	p := filepath.Join(cache, "emu", "guests")
	if _, err := os.Stat(filepath.Join(p, "kernels")); err != nil {
		t.Skip("no guests: neither -guests, nor $GUESTS, nor emu/guests in the user's cache (make guests fetches them)")
	}
	return p
}

// Kernel is one of the kernels.
type Kernel struct{ Name, Image, Initrd string }

// Kernels returns the kernels that are there, or skips the test if there are none.
func Kernels(t testing.TB) []Kernel {
	t.Helper()
	dir := Dir(t)
	files, _ := filepath.Glob(filepath.Join(dir, "kernels/*/vmlinuz"))
	if len(files) == 0 {
		t.Skipf("no Debian kernels: %s has no kernels/*/vmlinuz (make guests fetches them)", dir)
	}
	var out []Kernel
	for _, f := range files {
		d := filepath.Dir(f)
		out = append(out, Kernel{filepath.Base(d), f, filepath.Join(d, "initrd.cpio")})
	}
	return out
}

// Read returns the image of a kernel, or skips the test if it is not there.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	p := filepath.Join(Dir(t), "kernels", name, "vmlinuz")
	b, err := os.ReadFile(p)
	if err != nil {
		t.Skipf("no kernel %s: %v (make guests fetches it)", name, err)
	}
	return b
}
