package initramfs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"bin/tool": 0o755 | os.ModeSetuid, "etc/conf": 0o640} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("tool", filepath.Join(dir, "bin/link")); err != nil {
		t.Fatal(err)
	}
	var tree Tree
	if err := tree.AddTree(dir); err != nil {
		t.Fatal(err)
	}
	tree.AddFile("deep/in/it", 0o644, []byte("x"))
	tree.AddFile("etc/conf", 0o600, []byte("another"))
	var first, second bytes.Buffer
	if err := tree.Write(&first); err != nil {
		t.Fatal(err)
	}
	if err := tree.Write(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same tree makes other bytes")
	}
	var got []string
	r := cpio.NewReader(&first)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		kind := map[cpio.FileMode]string{cpio.TypeDir: "d", cpio.TypeReg: "-", cpio.TypeSymlink: "l"}[h.Mode&^0o7777]
		got = append(got, kind+" "+h.Name+" "+string(b)+h.Linkname)
		if h.Name == "bin/tool" && h.Mode&0o7777 != 0o4755 || h.Name == "etc/conf" && h.Mode&0o7777 != 0o600 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
	}
	want := []string{"d bin ", "l bin/link tool", "- bin/tool bin/tool", "d deep ", "d deep/in ", "- deep/in/it x", "d etc ", "- etc/conf another"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestPrune uses a program of this host: of libraries that came as dependencies, those that it needs stay.
func TestPrune(t *testing.T) {
	program, err := os.ReadFile("/bin/ls")
	if err != nil {
		t.Skip("no /bin/ls on this host")
	}
	dependency := func(t *Tree, name string) { t.set(name, node{mode: cpio.TypeReg | 0o644, dependency: true}) }
	var tree Tree
	tree.AddFile("bin/ls", 0o755, program)
	err = tree.Prune()
	if err == nil || !strings.Contains(err.Error(), "bin/ls needs the library") {
		t.Fatalf("a program without libraries: %v", err)
	}
	for range 10 { // the error names one at a time
		_, name, ok := strings.Cut(err.Error(), "library ")
		if !ok {
			t.Fatal(err)
		}
		name, _, _ = strings.Cut(name, ",")
		dependency(&tree, "lib/x/"+name)
		dependency(&tree, "lib/x/unused-"+name)
		if err = tree.Prune(); err == nil {
			break
		}
	}
	for name := range tree.nodes {
		if strings.Contains(name, "unused") {
			t.Errorf("%s is still there", name)
		}
	}
	if err != nil || !tree.Has("lib/x/libc.so.6") {
		t.Errorf("libc is gone, or %v", err)
	}
}

func TestIsLibrary(t *testing.T) {
	for name, want := range map[string]bool{
		"lib/x86_64-linux-gnu/libc.so.6": true, "usr/lib/x86_64-linux-gnu/libz.so.1.2": true, "lib64/ld-linux-x86-64.so.2": true,
		"lib/ld-linux.so.2": true, "usr/lib/libx.so": true, "bin/ls": false, "usr/lib/x/y/plugin.so": false, "usr/bin/a.so.1": false,
	} {
		if isLibrary(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
