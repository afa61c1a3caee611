package block

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// SectorSize is the unit in which disks are sized, in bytes.
const SectorSize = 512

// Disk is the contents of a disk. It is not safe for concurrent use.
type Disk interface {
	// Size is in bytes, a multiple of SectorSize.
	Size() uint64
	// ReadAt fills p from off. Both must lie inside the disk.
	ReadAt(p []byte, off uint64) error
	// WriteAt stores p at off. Both must lie inside the disk. What was written is durable after Flush.
	WriteAt(p []byte, off uint64) error
	// Flush makes all earlier writes durable.
	Flush() error
	// ReadOnly reports whether WriteAt always fails with ErrReadOnly.
	ReadOnly() bool
	// Close flushes and releases what the disk holds.
	Close() error
}

// Errors that disks wrap.
var (
	ErrReadOnly = errors.New("disk is read-only")
	ErrBounds   = errors.New("access outside of the disk")
	ErrCorrupt  = errors.New("disk image is corrupt")
	ErrInUse    = errors.New("disk image is in use by another process")
)

// Options says how to open a disk.
type Options struct {
	// Format is "raw", "qcow2" or "" to look at the file.
	Format string
	// ReadOnly refuses writes.
	ReadOnly bool
	// Snapshot keeps writes in memory: the file is opened read-only and never changes, the guest may write, and what it
	// wrote is gone when the disk is closed (or saved with the machine: the Disk is an *Overlay).
	Snapshot bool
}

// Open opens a disk image.
func Open(path string, o Options) (Disk, error) {
	readOnly := o.ReadOnly || o.Snapshot
	f, err := openFile(path, readOnly)
	if err != nil {
		return nil, err
	}
	d, err := openFormat(f, path, o.Format, readOnly)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	if o.Snapshot && !o.ReadOnly {
		return NewOverlay(d), nil
	}
	return d, nil
}

func openFormat(f *os.File, path, format string, readOnly bool) (Disk, error) {
	isQcow2, err := hasMagic(f)
	if err != nil {
		return nil, err
	}
	switch {
	case format == "qcow2" && !isQcow2:
		return nil, errors.New("not a qcow2 image: it does not start with QFI\\xfb")
	case format == "qcow2" || format == "" && isQcow2:
		return openQcow2(f, path, readOnly, &chain{})
	case format == "raw" || format == "":
		return newRaw(f, readOnly, format == "")
	}
	return nil, fmt.Errorf("unknown disk format %q: want raw or qcow2", format)
}

func hasMagic(f *os.File) (bool, error) {
	var b [4]byte
	if n, err := f.ReadAt(b[:], 0); err != nil && err != io.EOF || n < 4 {
		if err == io.EOF {
			err = nil
		}
		return false, err
	}
	return string(b[:]) == qcow2Magic, nil
}

// openFile opens a regular file or block device and locks it against other emulators.
func openFile(path string, readOnly bool) (*os.File, error) {
	flag, lock := os.O_RDWR, unix.LOCK_EX
	if readOnly {
		flag, lock = os.O_RDONLY, unix.LOCK_SH
	}
	// O_NONBLOCK: opening a FIFO must not wait for its other end.
	f, err := os.OpenFile(path, flag|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open disk image: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() && (st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0) {
		err = fmt.Errorf("%s: a disk image must be a file or a block device", path)
	}
	if err == nil {
		if err = unix.Flock(int(f.Fd()), lock|unix.LOCK_NB); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = fmt.Errorf("%s: %w", path, ErrInUse)
			} else { // a file system without locks
				err = nil
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func inside(n int, off, size uint64) error {
	if off > size || uint64(n) > size-off {
		return fmt.Errorf("%w: %d bytes at %#x of %#x", ErrBounds, n, off, size)
	}
	return nil
}

// readFull reads what the file holds and zeroes past its end.
func readFull(f io.ReaderAt, p []byte, off uint64) error {
	n, err := f.ReadAt(p, int64(off))
	if err == io.EOF {
		clear(p[n:])
		return nil
	}
	return err
}
