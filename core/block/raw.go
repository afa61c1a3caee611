package block

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// raw is a file whose bytes are the disk's.
type raw struct {
	f        *os.File
	size     uint64
	readOnly bool
	probed   bool // the format was guessed
}

// newRaw takes over f. A size that is not a multiple of SectorSize is rounded up; the rest reads as zeroes.
func newRaw(f *os.File, readOnly, probed bool) (*raw, error) {
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("the file is empty: a raw disk image is as large as the disk")
	}
	return &raw{f: f, size: (uint64(n) + SectorSize - 1) / SectorSize * SectorSize, readOnly: readOnly, probed: probed}, nil
}

func (r *raw) Size() uint64   { return r.size }
func (r *raw) ReadOnly() bool { return r.readOnly }

func (r *raw) ReadAt(p []byte, off uint64) error {
	if err := inside(len(p), off, r.size); err != nil {
		return err
	}
	return readFull(r.f, p, off)
}

func (r *raw) WriteAt(p []byte, off uint64) error {
	if r.readOnly {
		return ErrReadOnly
	}
	if err := inside(len(p), off, r.size); err != nil {
		return err
	}
	// A guest must not be able to turn its disk into something that names other files of the host.
	if r.probed && off == 0 && strings.HasPrefix(string(p[:min(len(p), 4)]), qcow2Magic) {
		return fmt.Errorf("guest writes a qcow2 header to a disk whose format was guessed: open it with format=raw to allow that")
	}
	_, err := r.f.WriteAt(p, int64(off))
	return err
}

func (r *raw) Flush() error {
	if r.readOnly {
		return nil
	}
	return r.f.Sync()
}

func (r *raw) Close() error { return errors.Join(r.Flush(), r.f.Close()) }
