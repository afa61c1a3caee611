package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/hybridbridge/emu/core/debuginfo"
	"github.com/hybridbridge/emu/core/image/debian"
	"github.com/hybridbridge/emu/core/symbols"
)

// errFound ends a walk through a package.
var errFound = errors.New("found")

// debugInfo reads the kernel's debugging information, from Options.Debug or Debian's package.
func (b *builder) debugInfo(ctx context.Context) (*debuginfo.Info, error) {
	file, source := b.options.Debug, filepath.Base(b.options.Debug)
	if file == "" {
		source = "linux-image-" + b.image.Release + "-dbg"
		b.progress.say("fetching %s, some hundred MB: the kernel does not say its types", source)
		err := b.withApt(ctx, b.architecture(), func(a *debian.Apt) (err error) {
			file, err = a.Download(ctx, source, b.work)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("the kernel has no type information (.BTF); Debian's package %s:%s, from which emu would take it, "+
				"is not to be had; give the package's file or a vmlinux with --debug: %w", source, b.architecture(), err)
		}
		defer os.Remove(file)
	}
	if strings.HasSuffix(file, ".deb") {
		control, err := debian.ReadControl(file)
		if err != nil {
			return nil, err
		}
		source = fmt.Sprintf("%s %s %s", control.Package, control.Version, control.Architecture)
		b.progress.say("unpacking %s", filepath.Base(file))
		if file, err = b.unpackDebug(file); err != nil {
			return nil, err
		}
		defer os.Remove(file)
	}
	b.progress.say("reading types and symbols of %s", source)
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i, err := debuginfo.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	b.image.Debug = source
	return i, nil
}

// unpackDebug takes the vmlinux out of a package and returns its file.
func (b *builder) unpackDebug(file string) (string, error) {
	to := filepath.Join(b.work, "vmlinux")
	err := debian.Walk(file, func(e debian.Entry, r io.Reader) error {
		if !e.FileInfo().Mode().IsRegular() || !strings.HasPrefix(path.Base(e.Name), "vmlinux") {
			return nil
		}
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err = errors.Join(err, f.Close()); err == nil {
			err = errFound // modules, which are larger by far, follow
		}
		return err
	})
	if err == nil {
		return "", fmt.Errorf("%s: there is no vmlinux in this package", file)
	}
	if errors.Is(err, errFound) {
		err = nil
	}
	return to, err
}

// addDebugInfo replaces what the kernel said about its types and adds to what it said about its symbols.
func (b *builder) addDebugInfo(ctx context.Context) error {
	i, err := b.debugInfo(ctx)
	if err != nil {
		return err
	}
	notes, err := os.ReadFile(b.image.NotesPath())
	if err != nil {
		return err
	}
	if id := debuginfo.BuildID(notes); id == "" || id != i.BuildID {
		return fmt.Errorf("%s is of another kernel: its build ID is %q, the kernel's is %q", b.image.Debug, i.BuildID, id)
	}
	own, err := os.ReadFile(b.image.KallsymsPath())
	if err != nil {
		return err
	}
	all, err := mergeSymbols(own, i.Symbols)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(b.image.BTFPath(), i.BTF, 0o644), os.WriteFile(b.image.KallsymsPath(), all, 0o644))
}

// mergeSymbols adds to the text of kallsyms what only the linker knew.
func mergeSymbols(kallsyms []byte, more *symbols.Table) ([]byte, error) {
	own, err := symbols.ParseProc(bytes.NewReader(kallsyms))
	if err != nil {
		return nil, err
	}
	type place struct {
		name    string
		address uint64
	}
	known := map[place]bool{}
	for s := range own.All {
		known[place{s.Name, s.Address}] = true
	}
	out := bytes.NewBuffer(kallsyms)
	for s := range more.All {
		if !known[place{s.Name, s.Address}] && !strings.HasPrefix(s.Name, ".L") {
			fmt.Fprintf(out, "%016x %c %s\n", s.Address, s.Type, s.Name)
		}
	}
	return out.Bytes(), nil
}
