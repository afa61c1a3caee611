// Package kdump reads kdump-compressed dumps (makedumpfile, QEMU's dump-guest-memory with format kdump-*, Xen's dom0):
// pages compressed one by one with zlib, LZO, snappy or zstd. The flattened form is put in order by package flat. Start
// at New.
//
//	block 0     "KDUMP   ", version, utsname, sizes
//	block 1...  sub-header: physical base, dump level, where notes and VMCOREINFO are
//	            two bitmaps, a bit for each page frame: those that exist, those that are in the file
//	            a descriptor for each page in the file: offset, size, flags
//
// The layout is that of diskdump_mod.h in makedumpfile's sources.
package kdump

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sync"

	lzo "github.com/anchore/go-lzo"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/cache"
)

const (
	signature    = "KDUMP   "
	oldSignature = "DISKDUMP"
	maxVersion   = 6
	maxBitmap    = 64 << 20 // bytes: 2 TiB of memory
	descSize     = 24
	rankPages    = 4096 // pages between two entries of the rank table
)

// Flags of a page descriptor.
const (
	flagZlib   = 1
	flagLZO    = 2
	flagSnappy = 4
	flagZstd   = 0x20
	compressed = flagZlib | flagLZO | flagSnappy | flagZstd
)

// File is an open kdump file.
type File struct {
	r    io.ReaderAt
	size int64

	block      uint64 // bytes a page
	exist      []byte // bitmap of pages that the machine has
	dumped     []byte // bitmap of pages that are in the file
	rank       []uint32
	start, end uint64 // page frames that this file of a split dump holds
	descs      int64  // offset of the descriptors
	dumpLevel  uint32
	release    string

	ranges []snapshots.Range
	notes  []snapshots.Note
	cpus   []snapshots.CPU
	cache  *cache.Cache
	zstd   *zstd.Decoder
	zlib   sync.Pool
}

var _ snapshots.Snapshot = (*File)(nil)

// Is says whether a file that starts with head is a kdump file.
func Is(head []byte) bool {
	return len(head) >= 8 && (string(head[:8]) == signature || string(head[:8]) == oldSignature)
}

// subHeader has the offsets in the sub-header that differ between 64- and 32-bit writers.
type subHeader struct {
	word                                           int
	split, startPFN, endPFN                        int
	vmcoreinfo, note, start64, end64, max64, total int
}

var (
	sub64 = subHeader{8, 12, 16, 24, 32, 48, 80, 88, 96, 104}
	sub32 = subHeader{4, 8, 12, 16, 20, 32, 56, 64, 72, 80}
)

// New reads the headers and bitmaps of a kdump file of size bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size, cache: cache.New(1024)}
	var h [464]byte
	if err := snapshots.ReadFull(r, h[:], 0); err != nil {
		return nil, fmt.Errorf("kdump header: %w", err)
	}
	if !Is(h[:]) {
		return nil, fmt.Errorf("kdump: %w", snapshots.ErrFormat)
	}
	le := binary.LittleEndian
	u32 := func(at int) uint32 { return le.Uint32(h[at:]) }
	version := u32(8)
	f.release = cString(h[12+2*65 : 12+3*65])
	// utsname is 390 bytes; a timestamp of two words follows, aligned to a word, and then status and sizes.
	at, sub := 424, sub64
	if !plausible(u32(at+4), u32(at+8), u32(at+12)) {
		at, sub = 412, sub32
	}
	block, subBlocks, bitmapBlocks, max32 := u32(at+4), u32(at+8), u32(at+12), u32(at+16)
	if !plausible(block, subBlocks, bitmapBlocks) || version > maxVersion {
		return nil, fmt.Errorf("%w: kdump header of version %d with blocks of %d bytes, %d of sub-header and %d of bitmap (or of a big-endian machine)",
			snapshots.ErrCorrupt, version, block, subBlocks, bitmapBlocks)
	}
	f.block = uint64(block)
	sh := make([]byte, sub.total)
	if err := snapshots.ReadFull(r, sh, int64(f.block)); err != nil {
		return nil, fmt.Errorf("kdump sub-header: %w", err)
	}
	word := func(at int) uint64 {
		if sub.word == 4 {
			return uint64(le.Uint32(sh[at:]))
		}
		return le.Uint64(sh[at:])
	}
	if version >= 1 {
		f.dumpLevel = le.Uint32(sh[sub.word:])
	}
	frames := uint64(max32)
	if version >= 6 {
		frames = le.Uint64(sh[sub.max64:])
	}
	half := uint64(bitmapBlocks) * f.block / 2
	if half > maxBitmap {
		return nil, fmt.Errorf("%w: a bitmap of %d bytes", snapshots.ErrCorrupt, half)
	}
	if frames == 0 || frames > half*8 {
		frames = half * 8
	}
	f.end = frames
	if version >= 2 && le.Uint32(sh[sub.split:]) != 0 {
		f.start, f.end = word(sub.startPFN), word(sub.endPFN)
		if version >= 6 {
			f.start, f.end = le.Uint64(sh[sub.start64:]), le.Uint64(sh[sub.end64:])
		}
		f.end = min(f.end, frames)
		f.start = min(f.start, f.end)
	}
	bitmapAt := int64(1+uint64(subBlocks)) * int64(f.block)
	f.descs = bitmapAt + int64(uint64(bitmapBlocks)*f.block)
	if bitmapAt > size || f.descs > size {
		return nil, fmt.Errorf("%w: the kdump bitmaps end at %#x of %#x bytes", snapshots.ErrTruncated, f.descs, size)
	}
	f.exist, f.dumped = make([]byte, half), make([]byte, half)
	if err := snapshots.ReadFull(r, f.exist, bitmapAt); err != nil {
		return nil, fmt.Errorf("kdump bitmap: %w", err)
	}
	if err := snapshots.ReadFull(r, f.dumped, bitmapAt+int64(half)); err != nil {
		return nil, fmt.Errorf("kdump bitmap: %w", err)
	}
	n := f.count()
	if room := uint64(size-f.descs) / descSize; n > room {
		return nil, fmt.Errorf("%w: descriptors of %d pages, where %d fit", snapshots.ErrTruncated, n, room)
	}
	f.ranges = runs(f.exist, frames, f.block)
	if len(f.ranges) == 0 {
		return nil, fmt.Errorf("%w: a kdump file without memory", snapshots.ErrCorrupt)
	}
	if err := f.readNotes(version, sh, sub, word); err != nil {
		return nil, err
	}
	var err error
	f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<20), zstd.WithDecoderMaxWindow(1<<20))
	return f, err
}

func plausible(block, sub, bitmap uint32) bool {
	return block >= 4096 && block <= 65536 && block&(block-1) == 0 && sub > 0 && sub < 1<<16 && bitmap > 0 && bitmap%2 == 0
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func (f *File) readNotes(version uint32, sh []byte, sub subHeader, word func(int) uint64) error {
	le := binary.LittleEndian
	read := func(at int, what string) ([]byte, error) {
		off, n := le.Uint64(sh[at:]), word(at+8)
		if n == 0 {
			return nil, nil
		}
		if off > uint64(f.size) || n > uint64(f.size)-off || n > snapshots.MaxNotes {
			return nil, fmt.Errorf("%w: %s at %#x-%#x of %#x bytes", snapshots.ErrCorrupt, what, off, off+n, f.size)
		}
		b := make([]byte, n)
		return b, snapshots.ReadFull(f.r, b, int64(off))
	}
	if version >= 4 {
		b, err := read(sub.note, "notes")
		if err != nil {
			return err
		}
		if f.notes, err = snapshots.ParseNotes(b, 4); err != nil {
			return err
		}
		f.cpus = snapshots.CPUsFromNotes(f.notes)
	}
	if version >= 3 && snapshots.FindNote(f.notes, snapshots.NoteVMCoreInfo) == nil {
		b, err := read(sub.vmcoreinfo, snapshots.NoteVMCoreInfo)
		if err != nil {
			return err
		}
		if b != nil {
			f.notes = append(f.notes, snapshots.Note{Name: snapshots.NoteVMCoreInfo, Data: b})
		}
	}
	return nil
}

// count fills the rank table: how many pages are in the file before every rankPages-th one.
func (f *File) count() uint64 {
	n := uint64(0)
	f.rank = make([]uint32, 0, len(f.dumped)*8/rankPages+1)
	for at := 0; at < len(f.dumped); at += rankPages / 8 {
		f.rank = append(f.rank, uint32(n))
		first := uint64(at) * 8
		if first >= f.end || first+rankPages <= f.start {
			continue
		}
		for pfn := first; pfn < first+rankPages && pfn/8 < uint64(len(f.dumped)); pfn += 8 {
			n += uint64(bits.OnesCount8(f.byteOf(pfn)))
		}
	}
	return n
}

// byteOf returns the byte of the bitmap that has pfn, without the pages that this part of a split dump does not hold.
func (f *File) byteOf(pfn uint64) byte {
	pfn &^= 7
	b := f.dumped[pfn/8]
	if pfn < f.start {
		if f.start-pfn >= 8 {
			return 0
		}
		b &= 0xff << (f.start - pfn)
	}
	if pfn+8 > f.end {
		if pfn >= f.end {
			return 0
		}
		b &= 1<<(f.end-pfn) - 1
	}
	return b
}

// index returns the number of a page's descriptor.
func (f *File) index(pfn uint64) (int64, error) {
	if pfn/8 >= uint64(len(f.exist)) || f.exist[pfn/8]>>(pfn%8)&1 == 0 {
		return 0, snapshots.ErrNoMemory
	}
	if f.byteOf(pfn)>>(pfn%8)&1 == 0 {
		return 0, snapshots.ErrNotSaved
	}
	n := int64(f.rank[pfn/rankPages])
	for p := pfn &^ (rankPages - 1); p < pfn&^7; p += 8 {
		n += int64(bits.OnesCount8(f.byteOf(p)))
	}
	return n + int64(bits.OnesCount8(f.byteOf(pfn)&(1<<(pfn%8)-1))), nil
}

// runs returns the ranges of set bits.
func runs(bitmap []byte, frames, block uint64) []snapshots.Range {
	var out []snapshots.Range
	for pfn := uint64(0); pfn < frames; {
		switch b := bitmap[pfn/8]; {
		case b == 0 && pfn%8 == 0:
			pfn += 8
			continue
		case b == 0xff && pfn%8 == 0 && pfn+8 <= frames:
			out = snapshots.AppendRange(out, pfn*block, 8*block)
			pfn += 8
			continue
		case b>>(pfn%8)&1 != 0:
			out = snapshots.AppendRange(out, pfn*block, block)
		}
		pfn++
	}
	return out
}

// Release returns the kernel release that the header names, or "". QEMU leaves it empty.
func (f *File) Release() string { return f.release }

// DumpLevel returns makedumpfile's dump level: which kinds of pages were left out.
func (f *File) DumpLevel() uint32 { return f.dumpLevel }

// Format returns "kdump".
func (f *File) Format() string { return "kdump" }

// ReadPhysical implements snapshots.Reader.
func (f *File) ReadPhysical(p []byte, pa uint64) error {
	for len(p) > 0 {
		b, err := f.cache.Get(pa/f.block, func() ([]byte, error) { return f.page(pa / f.block) })
		if err != nil {
			return fmt.Errorf("physical address %#x: %w", pa, err)
		}
		n := copy(p, b[pa%f.block:])
		p, pa = p[n:], pa+uint64(n)
	}
	return nil
}

func (f *File) page(pfn uint64) ([]byte, error) {
	i, err := f.index(pfn)
	if err != nil {
		return nil, err
	}
	var d [descSize]byte
	if err := snapshots.ReadFull(f.r, d[:], f.descs+descSize*i); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	off, size, flags := le.Uint64(d[:]), le.Uint32(d[8:]), le.Uint32(d[12:])
	// Every compressor's worst case is a little more than the page, and such pages are stored.
	if off > uint64(f.size) || uint64(size) > 2*f.block {
		return nil, fmt.Errorf("%w: page of %d bytes at %#x of %#x", snapshots.ErrCorrupt, size, off, f.size)
	}
	in := make([]byte, size)
	if err := snapshots.ReadFull(f.r, in, int64(off)); err != nil {
		return nil, err
	}
	if flags&compressed == 0 {
		if uint64(size) != f.block {
			return nil, fmt.Errorf("%w: a stored page of %d bytes", snapshots.ErrCorrupt, size)
		}
		return in, nil
	}
	out, err := f.unpack(in, flags&compressed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", snapshots.ErrCorrupt, err)
	}
	if uint64(len(out)) != f.block {
		return nil, fmt.Errorf("%w: a page unpacks to %d bytes", snapshots.ErrCorrupt, len(out))
	}
	return out, nil
}

func (f *File) unpack(in []byte, method uint32) ([]byte, error) {
	switch method {
	case flagZlib:
		z, _ := f.zlib.Get().(io.ReadCloser)
		var err error
		if z == nil {
			z, err = zlib.NewReader(bytes.NewReader(in))
		} else {
			err = z.(zlib.Resetter).Reset(bytes.NewReader(in), nil)
		}
		if err != nil {
			return nil, err
		}
		defer f.zlib.Put(z)
		out := make([]byte, f.block)
		if _, err := io.ReadFull(z, out); err != nil {
			return nil, err
		}
		// The end, with the checksum.
		if n, err := z.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			return nil, fmt.Errorf("zlib: no end after %d bytes (%v)", f.block, err)
		}
		return out, nil
	case flagLZO:
		out := make([]byte, f.block)
		n, err := lzo.Decompress(in, out)
		return out[:n], err
	case flagSnappy:
		n, err := snappy.DecodedLen(in)
		if err != nil || uint64(n) != f.block {
			return nil, fmt.Errorf("snappy: %d bytes (%v)", n, err)
		}
		return snappy.Decode(nil, in)
	case flagZstd:
		return f.zstd.DecodeAll(in, make([]byte, 0, f.block))
	}
	return nil, fmt.Errorf("flags %#x of several compressions", method)
}

// Ranges implements snapshots.Snapshot: the pages that the machine has.
func (f *File) Ranges() []snapshots.Range { return f.ranges }

// CPUs implements snapshots.Snapshot.
func (f *File) CPUs() []snapshots.CPU { return f.cpus }

// Notes implements snapshots.Snapshot.
func (f *File) Notes() []snapshots.Note { return f.notes }

// Close frees the decompressor; the file belongs to the caller.
func (f *File) Close() error {
	f.zstd.Close()
	return nil
}
