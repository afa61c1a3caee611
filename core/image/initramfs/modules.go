package initramfs

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// AddModules adds kernel modules, by name, and all that they depend on from a folder with a release's modules
// (lib/modules/RELEASE), unpacked, and returns their paths in the tree in the order in which they must be loaded. A module that is
// built into the kernel is left out; one that the folder has not is an error unless builtin says that it is.
func (t *Tree) AddModules(dir string, names []string, builtin func(name string) bool) ([]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if base, _, ok := strings.Cut(filepath.Base(file), ".ko"); ok && err == nil && d.Type().IsRegular() {
			files[moduleName(base)] = file
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var order []string
	done := map[string]bool{}
	var add func(name, from string) error
	add = func(name, from string) error {
		name = moduleName(name)
		if done[name] || builtin(name) {
			return nil
		}
		done[name] = true
		file := files[name]
		if file == "" {
			return fmt.Errorf("%s has no kernel module %s%s", dir, name, from)
		}
		b, err := readModule(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		depends, err := moduleDepends(b)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, d := range depends {
			if err := add(d, ", which "+name+" needs"); err != nil {
				return err
			}
		}
		at := "lib/modules/" + filepath.Base(dir) + "/" + name + ".ko"
		t.AddFile(at, 0o644, b)
		order = append(order, at)
		return nil
	}
	for _, n := range names {
		if err := add(n, ""); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleName is the kernel's form of a module's name.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// readModule reads a module, unpacked.
func readModule(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(file) {
	case ".xz":
		r, err = xz.NewReader(f, xz.DefaultDictMax)
	case ".zst":
		r, err = zstd.NewReader(f)
	case ".gz":
		r, err = gzip.NewReader(f)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// moduleDepends reads which modules one needs (the field "depends" of its .modinfo section).
func moduleDepends(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("it has no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}
