package image

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/image/initramfs"
)

// listModules writes the list of modules for init, by their paths.
func listModules(t *initramfs.Tree, order []string) {
	t.AddFile("etc/trusted-modules", 0o644, []byte(strings.Join(append(slices.Clone(order), ""), "\n")))
}

// keepModules writes the modules of a release into an archive.
func keepModules(dir fs.FS, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := zip.NewWriter(f)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	err = fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !initramfs.IsModule(name) && name != "modules.builtin" {
			return err
		}
		from, err := dir.Open(name)
		if err != nil {
			return err
		}
		defer from.Close()
		to, err := z.Create(name)
		if err == nil {
			_, err = io.Copy(to, from)
		}
		return err
	})
	return errors.Join(err, z.Close())
}

// FindModules sorts names of modules, which may come from a snapshot, into those that a Placement can name and those that
// the kernel's package does not have. Those which the image loads anyway are left out.
func (i *Image) FindModules(names []string) (have, missing []string, err error) {
	all, err := i.moduleNames()
	if err != nil {
		return nil, nil, fmt.Errorf("trusted image %s: %w", i.ID, err)
	}
	for _, n := range names {
		switch {
		case slices.Contains(i.Modules, n) || slices.Contains(have, n):
		case moduleName(n) && bytes.Contains(all, []byte("\n"+n+"\n")):
			have = append(have, n)
		default:
			missing = append(missing, n)
		}
	}
	return have, missing, nil
}

// moduleNames returns the names of the modules that the kernel's package has, each between two newlines. They are kept, because the archive's
// directory is long.
func (i *Image) moduleNames() ([]byte, error) {
	const name, version = "modules", 2
	if b := i.Cached(name, version); b != nil {
		return b, nil
	}
	m, done, err := i.openModules()
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without modules
	}
	if err != nil {
		return nil, err
	}
	defer done()
	all := []byte("\n" + strings.Join(m.Names(), "\n") + "\n")
	i.Keep(name, version, all)
	return all, nil
}

// openModules opens the modules of the kernel's package, which can be read until done is called.
func (i *Image) openModules() (m *initramfs.Modules, done func() error, err error) {
	z, err := zip.OpenReader(filepath.Join(i.Dir, fileModules))
	if err != nil {
		return nil, nil, err
	}
	if m, err = initramfs.OpenModules(z); err != nil {
		return nil, nil, errors.Join(err, z.Close())
	}
	return m, z.Close, nil
}

// moduleName reports whether name is one that the kernel gives to modules.
func moduleName(name string) bool {
	return name != "" && len(name) < 56 && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// moreModules makes an archive that, after the initramfs, adds modules to those that init loads.
func (i *Image) moreModules(names []string) ([]byte, error) {
	m, done, err := i.openModules()
	if err != nil {
		return nil, err
	}
	defer done()
	var t initramfs.Tree
	order, err := t.AddModules(m, i.Release, slices.Concat(i.Modules, names))
	if err != nil {
		return nil, err
	}
	listModules(&t, order)
	var b bytes.Buffer
	err = t.Write(&b)
	return b.Bytes(), err
}
