package initramfs

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/hybridbridge/emu/core/image/debian"
)

// Tree is a file tree in memory. The zero value is empty. Names have no slash at the start.
type Tree struct {
	nodes map[string]node
}

type node struct {
	mode cpio.FileMode // with the type
	data []byte        // of a file, or a symbolic link's target
	// dependency marks a library that stays only if something needs it.
	dependency bool
}

func (t *Tree) set(name string, n node) {
	if t.nodes == nil {
		t.nodes = map[string]node{}
	}
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if _, ok := t.nodes[dir]; !ok {
			t.nodes[dir] = node{mode: cpio.TypeDir | 0o755}
		}
	}
	t.nodes[name] = n
}

// AddDir adds an empty folder.
func (t *Tree) AddDir(name string, perm uint32) {
	t.set(name, node{mode: cpio.TypeDir | cpio.FileMode(perm)})
}

// AddFile adds a file, in place of what has its name.
func (t *Tree) AddFile(name string, perm uint32, data []byte) {
	t.set(name, node{mode: cpio.TypeReg | cpio.FileMode(perm), data: data})
}

// AddLink adds a symbolic link.
func (t *Tree) AddLink(name, target string) {
	t.set(name, node{mode: cpio.TypeSymlink | 0o777, data: []byte(target)})
}

// Has reports whether there is something of that name.
func (t *Tree) Has(name string) bool {
	_, ok := t.nodes[name]
	return ok
}

// Size is the sum of the sizes of files, in bytes.
func (t *Tree) Size() uint64 {
	n := uint64(0)
	for _, f := range t.nodes {
		n += uint64(len(f.data))
	}
	return n
}

// left are folders of packages that tools don't need.
var left = []string{"usr/share", "var", "usr/lib/debug", "usr/lib/locale", "lib/systemd", "usr/lib/systemd", "lib/udev", "usr/include", "etc/init.d", "etc/cron.d", "etc/cron.daily"}

func leftOut(name string) bool {
	for _, l := range left {
		if name == l || strings.HasPrefix(name, l+"/") {
			return true
		}
	}
	return strings.Contains(name, "/gconv/")
}

// AddPackage adds the files of a Debian package, without documentation and the like. Of one that is there as a dependency
// only, libraries are added, and Prune drops those that nothing needs.
func (t *Tree) AddPackage(file string, dependency bool) error {
	return debian.Walk(file, func(e debian.Entry, r io.Reader) error {
		if leftOut(e.Name) || dependency && !isLibrary(e.Name) {
			return nil
		}
		switch e.Typeflag {
		case tar.TypeReg:
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			t.set(e.Name, node{mode: cpio.TypeReg | cpio.FileMode(e.Mode&0o7777), data: b, dependency: dependency})
		case tar.TypeLink:
			if n, ok := t.nodes[e.Linkname]; ok {
				t.set(e.Name, n)
			}
		case tar.TypeSymlink:
			t.set(e.Name, node{mode: cpio.TypeSymlink | 0o777, data: []byte(e.Linkname), dependency: dependency})
		case tar.TypeDir:
			if e.Name != "" {
				t.AddDir(e.Name, uint32(e.Mode&0o7777))
			}
		}
		return nil
	})
}

// isLibrary reports whether a file is a shared library where the dynamic linker looks, or the linker.
func isLibrary(name string) bool {
	dir, base := path.Split(name)
	dir = strings.TrimPrefix(dir, "usr/")
	return strings.HasPrefix(dir, "lib") && strings.Count(dir, "/") <= 2 && (strings.Contains(base, ".so.") || strings.HasSuffix(base, ".so"))
}

// AddTree adds a folder of the host with all that is in it, but for devices and sockets.
func (t *Tree) AddTree(root string) error {
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch mode := info.Mode(); mode.Type() {
		case 0:
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			perm := uint32(mode.Perm())
			if mode&fs.ModeSetuid != 0 {
				perm |= cpio.ModeSetuid
			}
			if mode&fs.ModeSetgid != 0 {
				perm |= cpio.ModeSetgid
			}
			t.AddFile(name, perm, b)
		case fs.ModeDir:
			t.AddDir(name, uint32(mode.Perm()))
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			t.AddLink(name, target)
		}
		return nil
	})
}

// Write writes the tree as a cpio archive of the form that kernels unpack. All files belong to root.
func (t *Tree) Write(w io.Writer) error {
	names := make([]string, 0, len(t.nodes))
	for n := range t.nodes {
		names = append(names, n)
	}
	slices.Sort(names)
	c := cpio.NewWriter(w)
	for i, name := range names {
		n := t.nodes[name]
		h := &cpio.Header{
			Name: name, Mode: n.mode, Size: int64(len(n.data)), Links: 1, ModTime: time.Unix(0, 0), Inode: int64(i + 1),
		}
		if err := c.WriteHeader(h); err != nil {
			return fmt.Errorf("initramfs: %s: %w", name, err)
		}
		if _, err := c.Write(n.data); err != nil {
			return fmt.Errorf("initramfs: %s: %w", name, err)
		}
	}
	return c.Close()
}
