package debian

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/blakesmith/ar"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// ErrFormat is wrapped by errors about a file that is no Debian package.
var ErrFormat = errors.New("not a Debian package")

// Control are the fields of a package's control file that matter here.
type Control struct {
	Package, Version, Architecture string
}

// Entry is a file in a package.
type Entry struct {
	Name string // without a slash at the start
	tar.Header
}

// Walk calls visit for each file of the package at path, in its order. The reader is valid during the call.
func Walk(file string, visit func(Entry, io.Reader) error) error {
	return member(file, "data.tar", func(t *tar.Reader) error {
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			name := path.Clean("/" + h.Name)[1:]
			if h.Typeflag == tar.TypeLink {
				h.Linkname = path.Clean("/" + h.Linkname)[1:]
			}
			if err := visit(Entry{Name: name, Header: *h}, t); err != nil {
				return err
			}
		}
	})
}

// ReadControl reads the control file of the package at path.
func ReadControl(file string) (Control, error) {
	var c Control
	err := member(file, "control.tar", func(t *tar.Reader) error {
		for {
			h, err := t.Next()
			if err != nil {
				return fmt.Errorf("%w: it has no control file: %w", ErrFormat, err)
			}
			if path.Clean("/"+h.Name) == "/control" {
				break
			}
		}
		s := bufio.NewScanner(t)
		for s.Scan() {
			name, value, _ := strings.Cut(s.Text(), ":")
			switch name {
			case "Package":
				c.Package = strings.TrimSpace(value)
			case "Version":
				c.Version = strings.TrimSpace(value)
			case "Architecture":
				c.Architecture = strings.TrimSpace(value)
			}
		}
		return s.Err()
	})
	return c, err
}

// member calls use with the tar archive of that name, whatever it is compressed with.
func member(file, name string, use func(*tar.Reader) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r := ar.NewReader(f)
	for {
		h, err := r.Next()
		if err != nil {
			return fmt.Errorf("%s: %w: it has no %s: %w", file, ErrFormat, name, err)
		}
		suffix, ok := strings.CutPrefix(strings.TrimSuffix(h.Name, "/"), name)
		if !ok {
			continue
		}
		u, err := unpacker(suffix, r)
		if err == nil {
			err = use(tar.NewReader(u))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	}
}

// unpacker unpacks what a file name's suffix says.
func unpacker(suffix string, r io.Reader) (io.Reader, error) {
	switch suffix {
	case "":
		return r, nil
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		return xz.NewReader(r, xz.DefaultDictMax)
	case ".zst":
		return zstd.NewReader(r)
	}
	return nil, fmt.Errorf("%w: compressed as %q", ErrFormat, suffix)
}
