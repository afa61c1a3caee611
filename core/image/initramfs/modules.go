package initramfs

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Modules are the kernel modules of a release.
type Modules struct {
	dir     fs.FS
	files   map[string]string // by name
	builtin map[string]bool
}

// OpenModules finds the modules in a folder with those of a release (lib/modules/RELEASE).
func OpenModules(dir fs.FS) (*Modules, error) {
	m := &Modules{dir: dir, files: map[string]string{}, builtin: map[string]bool{}}
	err := fs.WalkDir(dir, ".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && IsModule(file) && d.Type().IsRegular() {
			base, _, _ := strings.Cut(path.Base(file), ".ko")
			m.files[moduleName(base)] = file
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	list, err := fs.ReadFile(dir, "modules.builtin")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(list)) {
		m.builtin[moduleName(strings.TrimSuffix(path.Base(strings.TrimSpace(line)), ".ko"))] = true
	}
	return m, nil
}

// IsModule reports whether a file is a module, by its name.
func IsModule(file string) bool {
	_, packed, ok := strings.Cut(path.Base(file), ".ko")
	return ok && slices.Contains([]string{"", ".xz", ".zst", ".gz"}, packed)
}

// Names returns the modules' names in the kernel's form, sorted.
func (m *Modules) Names() []string { return slices.Sorted(maps.Keys(m.files)) }

// AddModules adds kernel modules, by name, and all that they depend on, unpacked, and returns their paths in the tree in the
// order in which they must be loaded. A module that is built into the kernel is left out; another that is not there is an
// error.
func (t *Tree) AddModules(m *Modules, release string, names []string) ([]string, error) {
	var order []string
	done := map[string]bool{}
	var add func(name, from string) error
	add = func(name, from string) error {
		name = moduleName(name)
		if done[name] || m.builtin[name] {
			return nil
		}
		done[name] = true
		file := m.files[name]
		if file == "" {
			return fmt.Errorf("there is no kernel module %s%s for %s", name, from, release)
		}
		b, err := readModule(m.dir, file)
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
		at := "lib/modules/" + release + "/" + name + ".ko"
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
func readModule(dir fs.FS, file string) ([]byte, error) {
	f, err := dir.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch path.Ext(file) {
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
