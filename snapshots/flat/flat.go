// Package flat puts makedumpfile's flattened form (makedumpfile -F, and every kdump that QEMU writes) back into order: a
// file for a pipe, in which each piece says where in the real file it belongs. Start at New.
//
//	"makedumpfile" type version         4096 bytes, padded; numbers are big-endian, 64 bits
//	offset size, then size bytes        any number of times, in any order; a later piece wins
//	-1 -1                               the end
package flat

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/hybridbridge/emu/snapshots"
)

const (
	signature  = "makedumpfile\x00"
	headerSize = 4096
	recordSize = 16
)

// File is the file that was flattened, as an io.ReaderAt. What no piece covers reads as zero.
type File struct {
	r       io.ReaderAt
	extents snapshots.Extents
	size    int64
}

// Is says whether a file that starts with head is a flattened one.
func Is(head []byte) bool {
	return len(head) >= len(signature) && string(head[:len(signature)]) == signature
}

// New indexes a flattened file of size bytes. It reads the header of each piece, about one for 16 KiB.
func New(r io.ReaderAt, size int64) (*File, error) {
	var h [32]byte
	if err := snapshots.ReadFull(r, h[:], 0); err != nil {
		return nil, fmt.Errorf("flattened header: %w", err)
	}
	if !Is(h[:]) {
		return nil, fmt.Errorf("flattened dump: %w", snapshots.ErrFormat)
	}
	be := binary.BigEndian
	if t, v := be.Uint64(h[16:]), be.Uint64(h[24:]); t != 1 || v != 1 {
		return nil, fmt.Errorf("flattened dump of type %d, version %d: %w", t, v, snapshots.ErrUnsupported)
	}
	f := &File{r: r}
	var extents []snapshots.Extent
	// Headers are far apart or near each other: a window serves both.
	win := make([]byte, 32<<10)
	var winAt, winLen int64
	for at := int64(headerSize); ; {
		if at < winAt || at+recordSize > winAt+winLen {
			n := min(int64(len(win)), size-at)
			if n < recordSize {
				return nil, fmt.Errorf("%w: the flattened form has no end mark", snapshots.ErrTruncated)
			}
			if err := snapshots.ReadFull(r, win[:n], at); err != nil {
				return nil, err
			}
			winAt, winLen = at, n
		}
		p := win[at-winAt:]
		off, n := int64(be.Uint64(p)), int64(be.Uint64(p[8:]))
		at += recordSize
		if off == -1 && n == -1 {
			break
		}
		if off < 0 || n < 0 || off+n < off {
			return nil, fmt.Errorf("%w: a piece of %d bytes for offset %d", snapshots.ErrCorrupt, n, off)
		}
		if n > size-at {
			return nil, fmt.Errorf("%w: a piece of %d bytes at %#x of %#x", snapshots.ErrTruncated, n, at, size)
		}
		if k := len(extents); k > 0 && extents[k-1].Base+extents[k-1].Size == uint64(off) && extents[k-1].Offset+int64(extents[k-1].Size) == at {
			extents[k-1].Size += uint64(n)
		} else {
			if k >= snapshots.MaxExtents {
				return nil, fmt.Errorf("%w: too many pieces", snapshots.ErrCorrupt)
			}
			extents = append(extents, snapshots.Extent{Base: uint64(off), Size: uint64(n), Offset: at})
		}
		f.size = max(f.size, off+n)
		at += n
	}
	slices.Reverse(extents) // the first counts in Extents, the last here
	var err error
	f.extents, err = snapshots.NewExtents(extents)
	return f, err
}

// Size returns the size of the file that was flattened, in bytes.
func (f *File) Size() int64 { return f.size }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	if int64(len(p)) > f.size-off {
		p, err = p[:f.size-off], io.EOF
	}
	for n < len(p) {
		at := uint64(off) + uint64(n)
		i, ok := f.extents.Find(at)
		if !ok {
			gap := uint64(len(p) - n)
			if i < len(f.extents) {
				gap = min(gap, f.extents[i].Base-at)
			}
			clear(p[n:][:gap])
			n += int(gap)
			continue
		}
		x := f.extents[i]
		k := int(min(uint64(len(p)-n), x.Base+x.Size-at))
		if err := snapshots.ReadFull(f.r, p[n:][:k], x.Offset+int64(at-x.Base)); err != nil {
			return n, err
		}
		n += k
	}
	return n, err
}
