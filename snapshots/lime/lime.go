// Package lime reads and writes memory dumps of LiME, the Linux memory extractor, format version 1: each range of
// memory behind a header of 32 bytes. Start at New.
//
//	"EMiL" version start end reserved   4+4+8+8+8 bytes, little-endian; end is inclusive
//	end-start+1 bytes of memory
package lime

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hybridbridge/emu/snapshots"
)

const (
	magic      = 0x4c694d45
	version    = 1
	headerSize = 32
	maxRanges  = 1 << 20
)

// File is an open LiME file.
type File struct {
	r       io.ReaderAt
	extents snapshots.Extents
}

var (
	_ snapshots.Snapshot = (*File)(nil)
	_ snapshots.Mapper   = (*File)(nil)
)

// Is says whether a file that starts with head is a LiME file.
func Is(head []byte) bool {
	return len(head) >= 8 && binary.LittleEndian.Uint32(head) == magic && binary.LittleEndian.Uint32(head[4:]) == version
}

// New reads the headers of a LiME file of size bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r}
	var e []snapshots.Extent
	for at := int64(0); at < size; {
		var h [headerSize]byte
		if err := snapshots.ReadFull(r, h[:], at); err != nil {
			return nil, fmt.Errorf("header at %#x: %w", at, err)
		}
		if !Is(h[:]) {
			if at == 0 {
				return nil, fmt.Errorf("LiME dump: %w", snapshots.ErrFormat)
			}
			return nil, fmt.Errorf("%w: no LiME header at %#x", snapshots.ErrCorrupt, at)
		}
		start, end := binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint64(h[16:])
		at += headerSize
		n := end - start + 1
		if end < start || n == 0 {
			return nil, fmt.Errorf("%w: LiME range %#x-%#x", snapshots.ErrCorrupt, start, end)
		}
		if n > uint64(size-at) {
			return nil, fmt.Errorf("%w: LiME range %#x-%#x, of which %#x bytes are there", snapshots.ErrTruncated, start, end, size-at)
		}
		if len(e) >= maxRanges {
			return nil, fmt.Errorf("%w: too many LiME ranges", snapshots.ErrCorrupt)
		}
		e = append(e, snapshots.Extent{Base: start, Size: n, Offset: at})
		at += int64(n)
	}
	var err error
	if f.extents, err = snapshots.NewExtents(e); err == nil && len(f.extents) == 0 {
		err = fmt.Errorf("LiME dump: %w", snapshots.ErrTruncated)
	}
	return f, err
}

// Format returns "lime".
func (f *File) Format() string { return "lime" }

// ReadPhysical implements snapshots.Reader.
func (f *File) ReadPhysical(p []byte, pa uint64) error { return f.extents.ReadFrom(f.r, p, pa) }

// Ranges implements snapshots.Snapshot.
func (f *File) Ranges() []snapshots.Range { return f.extents.Ranges() }

// CPUs implements snapshots.Snapshot: there are none.
func (f *File) CPUs() []snapshots.CPU { return nil }

// Notes implements snapshots.Snapshot: there are none.
func (f *File) Notes() []snapshots.Note { return nil }

// Mapping implements snapshots.Mapper.
func (f *File) Mapping(pa uint64) (offset int64, length uint64, ok bool) {
	return f.extents.Mapping(pa)
}

// Close does nothing: the file belongs to the caller.
func (f *File) Close() error { return nil }

// Write writes the memory of a snapshot. progress, unless nil, is told how many bytes are done.
func Write(w io.Writer, s snapshots.Snapshot, progress func(done uint64) error) error {
	ranges := s.Ranges()
	return snapshots.Copy(s, progress, func(p []byte, _ uint64, first, _ bool) error {
		if first {
			r := ranges[0]
			ranges = ranges[1:]
			h := binary.LittleEndian.AppendUint32(nil, magic)
			h = binary.LittleEndian.AppendUint32(h, version)
			for _, v := range []uint64{r.Base, r.Base + r.Size - 1, 0} {
				h = binary.LittleEndian.AppendUint64(h, v)
			}
			if _, err := w.Write(h); err != nil {
				return err
			}
		}
		_, err := w.Write(p)
		return err
	})
}
