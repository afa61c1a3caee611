// Package avml reads the compressed memory dumps of AVML (Microsoft's acquisition tool), format version 2. What avml writes without
// --compress is LiME. Start at New.
//
//	"AVML" version start end reserved   4+4+8+8+8 bytes, little-endian; end is inclusive
//	snappy stream in frames             of end-start+1 bytes of memory, at most 16 MiB
//	length of the stream                8 bytes
//
// Blocks of zeroes are left out, so memory that is in no block reads as not there. The lengths let the blocks be found from
// the end of the file backwards; the frames, of 64 KiB, are found when a block is first read.
package avml

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sort"
	"sync"

	"github.com/klauspost/compress/snappy"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/cache"
)

const (
	magic      = 0x4c4d5641
	version    = 2
	headerSize = 32
	maxFrame   = 65536 // bytes of memory in a frame
	maxBlocks  = 4 << 20
	// maxMemory bounds a block; AVML's own have at most 16 MiB.
	maxMemory = 1 << 30
)

// block is a range of memory with its compressed stream.
type block struct {
	base, size  uint64
	offset, end int64
	once        sync.Once
	frames      []frame
	err         error
}

// frame is a chunk of the snappy framing format with memory in it.
type frame struct {
	memory uint64 // offset in the block
	size   int
	offset int64 // of the checksum, in the file
	length int   // of checksum and data
	raw    bool
}

// File is an open AVML file.
type File struct {
	r      io.ReaderAt
	blocks []*block
	ranges []snapshots.Range
	cache  *cache.Cache
}

var _ snapshots.Snapshot = (*File)(nil)

// Is says whether a file that starts with head is an AVML file of version 2.
func Is(head []byte) bool {
	return len(head) >= 8 && binary.LittleEndian.Uint32(head) == magic && binary.LittleEndian.Uint32(head[4:]) == version
}

// New finds the blocks of an AVML file of size bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, cache: cache.New(256)}
	var h [headerSize]byte
	if err := snapshots.ReadFull(r, h[:], 0); err != nil {
		return nil, err
	}
	if !Is(h[:]) {
		return nil, fmt.Errorf("AVML dump: %w", snapshots.ErrFormat)
	}
	for end := size; end > 0; {
		var n [8]byte
		if end < headerSize+8 {
			return nil, fmt.Errorf("%w: AVML block that ends at %#x", snapshots.ErrTruncated, end)
		}
		if err := snapshots.ReadFull(r, n[:], end-8); err != nil {
			return nil, err
		}
		length := binary.LittleEndian.Uint64(n[:])
		if length > uint64(end-8-headerSize) {
			return nil, fmt.Errorf("%w: AVML block that ends at %#x should have %#x bytes", snapshots.ErrTruncated, end, length)
		}
		b := &block{end: end - 8, offset: end - 8 - int64(length)}
		if err := snapshots.ReadFull(r, h[:], b.offset-headerSize); err != nil {
			return nil, err
		}
		start, last := binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint64(h[16:])
		if !Is(h[:]) {
			return nil, fmt.Errorf("%w: no AVML header at %#x (cut off?)", snapshots.ErrTruncated, b.offset-headerSize)
		}
		b.base, b.size = start, last-start+1
		if last < start || b.size > maxMemory || len(f.blocks) >= maxBlocks {
			return nil, fmt.Errorf("%w: AVML range %#x-%#x", snapshots.ErrCorrupt, start, last)
		}
		f.blocks = append(f.blocks, b)
		end = b.offset - headerSize
	}
	slices.SortFunc(f.blocks, func(a, b *block) int {
		if a.base < b.base {
			return -1
		}
		return 1
	})
	for i, b := range f.blocks {
		if i > 0 && b.base < f.blocks[i-1].base+f.blocks[i-1].size {
			return nil, fmt.Errorf("%w: AVML ranges overlap at %#x", snapshots.ErrCorrupt, b.base)
		}
		f.ranges = snapshots.AppendRange(f.ranges, b.base, b.size)
	}
	return f, nil
}

// index finds the frames of a block (the snappy framing format's section 4).
func (f *File) index(b *block) {
	memory := uint64(0)
	for at := b.offset; at < b.end; {
		var h [4 + 4 + binary.MaxVarintLen32]byte
		n := min(int64(len(h)), b.end-at)
		if n < 4 {
			b.err = fmt.Errorf("%w: snappy frame at %#x", snapshots.ErrCorrupt, at)
			return
		}
		if b.err = snapshots.ReadFull(f.r, h[:n], at); b.err != nil {
			return
		}
		kind, length := h[0], int64(h[1])|int64(h[2])<<8|int64(h[3])<<16
		at += 4
		if length > b.end-at {
			b.err = fmt.Errorf("%w: snappy frame at %#x has %#x bytes", snapshots.ErrCorrupt, at-4, length)
			return
		}
		switch {
		case kind <= 1 && length > 4:
			fr := frame{memory: memory, size: int(length - 4), offset: at, length: int(length), raw: kind == 1}
			if kind == 0 {
				size, k := binary.Uvarint(h[8:n])
				if k <= 0 || size > maxFrame {
					b.err = fmt.Errorf("%w: snappy frame at %#x", snapshots.ErrCorrupt, at-4)
					return
				}
				fr.size = int(size)
			}
			if fr.size > maxFrame || fr.length > maxFrame+maxFrame/6+64 {
				b.err = fmt.Errorf("%w: snappy frame at %#x has too many bytes", snapshots.ErrCorrupt, at-4)
				return
			}
			if fr.size > 0 {
				b.frames = append(b.frames, fr)
			}
			memory += uint64(fr.size)
		case kind >= 0x80: // the stream identifier, padding
		default:
			b.err = fmt.Errorf("%w: snappy frame of type %#x at %#x", snapshots.ErrCorrupt, kind, at-4)
			return
		}
		at += length
	}
	if memory != b.size {
		b.err = fmt.Errorf("%w: AVML block at %#x has %#x bytes of memory instead of %#x", snapshots.ErrCorrupt, b.base, memory, b.size)
	}
}

func (f *File) unpack(fr frame) ([]byte, error) {
	p := make([]byte, fr.length)
	if err := snapshots.ReadFull(f.r, p, fr.offset); err != nil {
		return nil, err
	}
	sum := binary.LittleEndian.Uint32(p)
	p = p[4:]
	if !fr.raw {
		var err error
		if p, err = snappy.Decode(nil, p); err != nil {
			return nil, fmt.Errorf("%w: snappy frame at %#x: %w", snapshots.ErrCorrupt, fr.offset, err)
		}
	}
	// The framing format masks its CRC-32C.
	c := crc32.Checksum(p, castagnoli)
	if sum != (c>>15|c<<17)+0xa282ead8 || len(p) != fr.size {
		return nil, fmt.Errorf("%w: snappy frame at %#x has a wrong checksum", snapshots.ErrCorrupt, fr.offset)
	}
	return p, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Format returns "avml".
func (f *File) Format() string { return "avml" }

// ReadPhysical implements snapshots.Reader.
func (f *File) ReadPhysical(p []byte, pa uint64) error {
	for len(p) > 0 {
		i := sort.Search(len(f.blocks), func(i int) bool { return f.blocks[i].base+f.blocks[i].size > pa })
		if i == len(f.blocks) || f.blocks[i].base > pa {
			return fmt.Errorf("physical address %#x: %w", pa, snapshots.ErrNoMemory)
		}
		b := f.blocks[i]
		b.once.Do(func() { f.index(b) })
		if b.err != nil {
			return fmt.Errorf("physical address %#x: %w", pa, b.err)
		}
		off := pa - b.base
		fr := b.frames[sort.Search(len(b.frames), func(i int) bool { return b.frames[i].memory+uint64(b.frames[i].size) > off })]
		data, err := f.cache.Get(uint64(fr.offset), func() ([]byte, error) { return f.unpack(fr) })
		if err != nil {
			return fmt.Errorf("physical address %#x: %w", pa, err)
		}
		n := copy(p, data[off-fr.memory:])
		p, pa = p[n:], pa+uint64(n)
	}
	return nil
}

// Ranges implements snapshots.Snapshot.
func (f *File) Ranges() []snapshots.Range { return f.ranges }

// CPUs implements snapshots.Snapshot: there are none.
func (f *File) CPUs() []snapshots.CPU { return nil }

// Notes implements snapshots.Snapshot: there are none.
func (f *File) Notes() []snapshots.Note { return nil }

// Close does nothing: the file belongs to the caller.
func (f *File) Close() error { return nil }
