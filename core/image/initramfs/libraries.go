package initramfs

import (
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// always are libraries that programs load by name while they run.
var always = []string{"libgcc_s.so.1"}

// Prune drops the libraries of dependencies that nothing in the tree needs, and plugins that lack a library. An error names a program that lacks one.
func (t *Tree) Prune() error {
	at := map[string][]string{} // where files of that name are
	var todo []string
	for name, n := range t.nodes {
		at[path.Base(name)] = append(at[path.Base(name)], name)
		if !n.dependency {
			todo = append(todo, name)
		}
	}
	keep := map[string]bool{}
	need := func(soname string) bool {
		for _, name := range at[soname] {
			if isLibrary(name) || !t.nodes[name].dependency {
				if !keep[name] {
					keep[name] = true
					todo = append(todo, name)
				}
			}
		}
		return len(at[soname]) > 0
	}
	for _, l := range always {
		need(l)
	}
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := t.nodes[name]
		if n.mode&^0o7777 == cpio.TypeSymlink {
			need(path.Base(string(n.data)))
			continue
		}
		if !bytes.HasPrefix(n.data, []byte(elf.ELFMAG)) {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(n.data))
		if err != nil {
			return fmt.Errorf("initramfs: %s: %w", name, err)
		}
		wanted, err := f.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("initramfs: %s: %w", name, err)
		}
		linker := interpreter(f)
		if linker != "" {
			wanted = append(wanted, path.Base(linker))
		}
		for _, w := range wanted {
			switch {
			case need(w):
			case linker == "": // a plugin for what the package only recommends
				delete(t.nodes, name)
			default:
				return fmt.Errorf("initramfs: %s needs the library %s, which no package has; add the one that does to the tools", name, w)
			}
		}
	}
	for name, n := range t.nodes {
		if n.dependency && !keep[name] {
			delete(t.nodes, name)
		}
	}
	return nil
}

// interpreter returns the dynamic linker that a program names.
func interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err == nil {
				return strings.TrimRight(string(b), "\x00")
			}
		}
	}
	return ""
}
