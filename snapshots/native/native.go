package native

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/hybridbridge/emu/snapshots"
)

const (
	magic        = "EMUSNAP\x01"
	trailerMagic = "EMUSNAPE"
	trailerSize  = 8 + 8 + 4 + 8
	// ChunkSize is the unit of compression, in bytes of memory.
	ChunkSize = 64 << 10
	// maxIndex bounds the unpacked index, so that a forged file cannot exhaust memory.
	maxIndex = 256 << 20
	// maxMemory bounds a range, in bytes: what x86 can address.
	maxMemory = 1 << 52
	// page is the unit in which files can be mapped.
	page = 4 << 10
	// Version is the version of the format that Write writes. Version 1, which had chunks in JSON, is read too.
	Version = 2
)

// Errors that Open wraps. The first three wrap those of package snapshots.
var (
	ErrFormat    = fmt.Errorf("not an emu snapshot: %w", snapshots.ErrFormat)
	ErrTruncated = fmt.Errorf("the snapshot is truncated or was never finished: %w", snapshots.ErrTruncated)
	ErrCorrupt   = fmt.Errorf("the snapshot is corrupt: %w", snapshots.ErrCorrupt)
	ErrVersion   = errors.New("the snapshot was written by another version of emu")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Range is a range of guest physical memory, in bytes.
type Range struct {
	Base, Size uint64
	// Kind is the machine's word for what backs it: "ram", "rom", ...
	Kind string
}

// Section is the state of one part of the machine.
type Section struct {
	Name string
	Data json.RawMessage
}

// Header is all of a snapshot but its memory.
type Header struct {
	Version  int
	Arch     string // "x86"
	Ranges   []Range
	Sections []Section
}

// Section returns the section of that name, or nil.
func (h *Header) Section(name string) json.RawMessage {
	for _, s := range h.Sections {
		if s.Name == name {
			return s.Data
		}
	}
	return nil
}

// chunk is the place of one chunk of memory in the file; Length 0 stands for zeroes.
type chunk struct {
	Offset int64
	Length uint32
	Raw    bool
	CRC    uint32 // of the unpacked bytes
}

// chunkSize is the size of a chunk in the index: its fields, little-endian, in their order.
const chunkSize = 17

type index struct {
	Header Header
	// Places are the chunks, of chunkSize bytes each. There are thousands, which take long to read from JSON.
	Places []byte  `json:",omitempty"`
	Chunks []chunk `json:",omitempty"` // in version 1
}

// add appends a chunk.
func (ix *index) add(c chunk) {
	raw := byte(0)
	if c.Raw {
		raw = 1
	}
	ix.Places = binary.LittleEndian.AppendUint64(ix.Places, uint64(c.Offset))
	ix.Places = binary.LittleEndian.AppendUint32(ix.Places, c.Length)
	ix.Places = append(ix.Places, raw)
	ix.Places = binary.LittleEndian.AppendUint32(ix.Places, c.CRC)
}

// cutPlaces takes the places out of an index in JSON, of which they are most, if they are where index has them: at the end. Package json would look at
// each letter several times.
func cutPlaces(j []byte) (rest, places []byte) {
	at := bytes.LastIndex(j, []byte(`,"Places":"`))
	if at < 0 {
		return j, nil
	}
	text, ok := bytes.CutSuffix(j[at+len(`,"Places":"`):], []byte(`"}`))
	if !ok {
		return j, nil
	}
	places, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return j, nil
	}
	return append(j[:at:at], '}'), places
}

// chunks returns the chunks.
func (ix *index) chunks() ([]chunk, error) {
	if len(ix.Places)%chunkSize != 0 || len(ix.Chunks) != 0 && len(ix.Places) != 0 {
		return nil, fmt.Errorf("%w: an index of %d bytes and %d chunks", ErrCorrupt, len(ix.Places), len(ix.Chunks))
	}
	for p := range slices.Chunk(ix.Places, chunkSize) {
		le := binary.LittleEndian
		ix.Chunks = append(ix.Chunks, chunk{int64(le.Uint64(p)), le.Uint32(p[8:]), p[12] != 0, le.Uint32(p[13:])})
	}
	return ix.Chunks, nil
}

// Write saves a snapshot under path, replacing what is there. read copies len(p) bytes of memory from physical address
// pa. The file appears under its name complete, or not at all.
func Write(path string, h Header, read func(p []byte, pa uint64) error) error {
	return write(path, h, read, writeTo)
}

// WritePlain is Write with memory as it is in place of compressed, for a file that is to be loaded often: Extents tells where
// memory can be mapped from.
func WritePlain(path string, h Header, read func(p []byte, pa uint64) error) error {
	return write(path, h, read, writePlainTo)
}

func write(path string, h Header, read reader, writeTo func(io.Writer, Header, reader) error) (err error) {
	h.Version = Version
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("save snapshot %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("save snapshot %s: %w", path, err)
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := writeTo(w, h, read); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// reader copies memory from a physical address.
type reader = func(p []byte, pa uint64) error

func writeTo(w io.Writer, h Header, read reader) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer enc.Close()
	if _, err := io.WriteString(w, magic); err != nil {
		return err
	}
	at := int64(len(magic))
	ix := index{Header: h}
	buf := make([]byte, ChunkSize)
	zero := make([]byte, ChunkSize)
	var packed []byte
	for _, r := range h.Ranges {
		for off := uint64(0); off < r.Size; off += ChunkSize {
			p := buf[:min(ChunkSize, r.Size-off)]
			if err := read(p, r.Base+off); err != nil {
				return err
			}
			if bytes.Equal(p, zero[:len(p)]) {
				ix.add(chunk{})
				continue
			}
			c := chunk{Offset: at, CRC: crc32.Checksum(p, castagnoli)}
			packed = enc.EncodeAll(p, packed[:0])
			if len(packed) >= len(p) {
				packed, c.Raw = append(packed[:0], p...), true
			}
			c.Length = uint32(len(packed))
			if _, err := w.Write(packed); err != nil {
				return err
			}
			at += int64(len(packed))
			ix.add(c)
		}
	}
	return writeIndex(w, enc, ix, at)
}

// writePlainTo is writeTo that writes chunks as they are, each at a multiple of a page.
func writePlainTo(w io.Writer, h Header, read reader) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer enc.Close()
	head := make([]byte, page)
	copy(head, magic)
	if _, err := w.Write(head); err != nil {
		return err
	}
	at := int64(page)
	ix := index{Header: h}
	buf := make([]byte, ChunkSize)
	zero := make([]byte, ChunkSize)
	for _, r := range h.Ranges {
		for off := uint64(0); off < r.Size; off += ChunkSize {
			n := min(ChunkSize, r.Size-off)
			if err := read(buf[:n], r.Base+off); err != nil {
				return err
			}
			if bytes.Equal(buf[:n], zero[:n]) {
				ix.add(chunk{})
				continue
			}
			ix.add(chunk{Offset: at, Length: uint32(n), Raw: true, CRC: crc32.Checksum(buf[:n], castagnoli)})
			padded := (n + page - 1) &^ (page - 1)
			clear(buf[n:padded])
			if _, err := w.Write(buf[:padded]); err != nil {
				return err
			}
			at += int64(padded)
		}
	}
	return writeIndex(w, enc, ix, at)
}

// writeIndex writes index and trailer at the end of the file, which is at.
func writeIndex(w io.Writer, enc *zstd.Encoder, ix index, at int64) error {
	j, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	packed := enc.EncodeAll(j, nil)
	if _, err := w.Write(packed); err != nil {
		return err
	}
	t := binary.LittleEndian.AppendUint64(nil, uint64(at))
	t = binary.LittleEndian.AppendUint64(t, uint64(len(packed)))
	t = binary.LittleEndian.AppendUint32(t, crc32.Checksum(packed, castagnoli))
	_, err = w.Write(append(t, trailerMagic...))
	return err
}

// File is an open snapshot. ReadPhysical is safe for concurrent use.
type File struct {
	Header Header

	mu     sync.Mutex // guards the cache
	r      io.ReaderAt
	closer io.Closer
	chunks []chunk
	first  []int // first chunk of each range
	dec    *zstd.Decoder
	cached int // number of the chunk in cache, or -1
	cache  []byte
}

// Open opens the snapshot at path for reading.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil {
		var s *File
		if s, err = NewFile(f, st.Size()); err == nil {
			s.closer = f
			return s, nil
		}
	}
	f.Close()
	return nil, fmt.Errorf("%s: %w", path, err)
}

// NewFile reads a snapshot of size bytes from r.
func NewFile(r io.ReaderAt, size int64) (*File, error) {
	var head [len(magic)]byte
	if size < int64(len(magic)) {
		return nil, ErrFormat
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	switch {
	case string(head[:]) == magic:
	case string(head[:7]) == magic[:7]:
		return nil, fmt.Errorf("%w (format %d; this one reads %d)", ErrVersion, head[7], Version)
	default:
		return nil, ErrFormat
	}
	if size < int64(len(magic)+trailerSize) {
		return nil, ErrTruncated
	}
	var t [trailerSize]byte
	if _, err := r.ReadAt(t[:], size-trailerSize); err != nil {
		return nil, err
	}
	if string(t[20:]) != trailerMagic {
		return nil, ErrTruncated
	}
	at, n := binary.LittleEndian.Uint64(t[:]), binary.LittleEndian.Uint64(t[8:])
	if at < uint64(len(magic)) || at > uint64(size) || n != uint64(size)-trailerSize-at {
		return nil, fmt.Errorf("%w: the index is not where the trailer says", ErrCorrupt)
	}
	if n > maxIndex {
		return nil, fmt.Errorf("%w: an index of %d bytes", ErrCorrupt, n)
	}
	packed := make([]byte, n)
	if _, err := r.ReadAt(packed, int64(at)); err != nil {
		return nil, err
	}
	if crc32.Checksum(packed, castagnoli) != binary.LittleEndian.Uint32(t[16:]) {
		return nil, fmt.Errorf("%w: the index has a wrong checksum", ErrCorrupt)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxIndex), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	j, err := dec.DecodeAll(packed, nil)
	dec.Close()
	if err != nil {
		return nil, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
	}
	var ix index
	j, places := cutPlaces(j)
	if err := json.Unmarshal(j, &ix); err != nil {
		return nil, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
	}
	if places != nil {
		ix.Places = places
	}
	chunks, err := ix.chunks()
	if err != nil {
		return nil, err
	}
	s := &File{Header: ix.Header, r: r, chunks: chunks, cached: -1}
	if err := s.check(at); err != nil {
		return nil, err
	}
	s.dec, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(ChunkSize), zstd.WithDecoderConcurrency(1))
	return s, err
}

// check makes sure that the chunks are those of the ranges and lie before the index.
func (s *File) check(end uint64) error {
	if v := s.Header.Version; v < 1 || v > Version {
		return fmt.Errorf("%w (version %d; this one reads %d)", ErrVersion, s.Header.Version, Version)
	}
	n := uint64(0)
	for i, r := range s.Header.Ranges {
		if r.Size > maxMemory || r.Base > maxMemory || i > 0 && r.Base < s.Header.Ranges[i-1].Base+s.Header.Ranges[i-1].Size {
			return fmt.Errorf("%w: memory ranges overlap or are out of order", ErrCorrupt)
		}
		s.first = append(s.first, int(n))
		if n += (r.Size + ChunkSize - 1) / ChunkSize; n > uint64(len(s.chunks)) {
			break
		}
	}
	if n != uint64(len(s.chunks)) {
		return fmt.Errorf("%w: %d chunks of memory, where the ranges need %d", ErrCorrupt, len(s.chunks), n)
	}
	for _, c := range s.chunks {
		if c.Offset < 0 || uint64(c.Offset)+uint64(c.Length) > end || c.Length > ChunkSize {
			return fmt.Errorf("%w: a chunk lies outside the file", ErrCorrupt)
		}
	}
	return nil
}

// Close closes the file.
func (s *File) Close() error {
	s.dec.Close()
	if s.closer != nil {
		return s.closer.Close()
	}
	return nil
}

// ErrNoMemory is returned for addresses that the snapshot does not hold.
var ErrNoMemory = snapshots.ErrNoMemory

// ReadPhysical copies memory from physical address pa.
func (s *File) ReadPhysical(p []byte, pa uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		i, ok := s.rangeOf(pa)
		if !ok {
			return fmt.Errorf("physical address %#x: %w", pa, ErrNoMemory)
		}
		r := s.Header.Ranges[i]
		off := pa - r.Base
		c, err := s.chunk(s.first[i]+int(off/ChunkSize), int(min(ChunkSize, r.Size-off/ChunkSize*ChunkSize)))
		if err != nil {
			return fmt.Errorf("physical address %#x: %w", pa, err)
		}
		n := copy(p, c[off%ChunkSize:])
		p, pa = p[n:], pa+uint64(n)
	}
	return nil
}

// Extent is a piece of memory that lies in the file as it is.
type Extent struct {
	Base   uint64 // physical address
	Offset int64  // in the file, a multiple of 4096
	Size   uint64
}

// Extents returns the file and the pieces of memory that can be mapped from it, by address; what is in none of them is zero.
// The file stays the snapshot's. It is nil if memory cannot be mapped, because it is compressed or because the snapshot is not a
// file. What is mapped is not compared with its checksum.
func (s *File) Extents() (*os.File, []Extent) {
	f, ok := s.closer.(*os.File)
	if !ok {
		return nil, nil
	}
	var out []Extent
	n := 0
	for _, r := range s.Header.Ranges {
		for off := uint64(0); off < r.Size; off, n = off+ChunkSize, n+1 {
			c, size := s.chunks[n], min(ChunkSize, r.Size-off)
			if c.Length == 0 {
				continue
			}
			if !c.Raw || c.Offset%page != 0 || uint64(c.Length) != size || (r.Base|r.Size)%page != 0 {
				return nil, nil
			}
			if k := len(out) - 1; k >= 0 && out[k].Base+out[k].Size == r.Base+off && out[k].Offset+int64(out[k].Size) == c.Offset {
				out[k].Size += size
				continue
			}
			out = append(out, Extent{Base: r.Base + off, Offset: c.Offset, Size: size})
		}
	}
	return f, out
}

func (s *File) rangeOf(pa uint64) (int, bool) {
	for i, r := range s.Header.Ranges {
		if pa >= r.Base && pa-r.Base < r.Size {
			return i, true
		}
	}
	return 0, false
}

// chunk returns the unpacked chunk i of size bytes, valid until the next call.
func (s *File) chunk(i, size int) ([]byte, error) {
	if s.cached == i {
		return s.cache, nil
	}
	s.cached = -1
	c := s.chunks[i]
	if c.Length == 0 {
		s.cache = append(s.cache[:0], make([]byte, size)...)
		s.cached = i
		return s.cache, nil
	}
	packed := make([]byte, c.Length)
	if _, err := s.r.ReadAt(packed, c.Offset); err != nil {
		return nil, err
	}
	if c.Raw {
		s.cache = append(s.cache[:0], packed...)
	} else {
		var err error
		if s.cache, err = s.dec.DecodeAll(packed, s.cache[:0]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	if len(s.cache) != size || crc32.Checksum(s.cache, castagnoli) != c.CRC {
		return nil, fmt.Errorf("%w: a chunk of memory has a wrong checksum", ErrCorrupt)
	}
	s.cached = i
	return s.cache, nil
}
