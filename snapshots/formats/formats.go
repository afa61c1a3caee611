// Package formats opens a memory snapshot of any format, which it recognises by content, and writes those formats that
// emu writes. Start at Open.
package formats

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/avml"
	"github.com/hybridbridge/emu/snapshots/elfcore"
	"github.com/hybridbridge/emu/snapshots/flat"
	"github.com/hybridbridge/emu/snapshots/kdump"
	"github.com/hybridbridge/emu/snapshots/lime"
	"github.com/hybridbridge/emu/snapshots/native"
	"github.com/hybridbridge/emu/snapshots/raw"
	"github.com/hybridbridge/emu/snapshots/xencore"
)

// Options say what a file does not.
type Options struct {
	// Hole is the range below 4 GiB without memory, and without bytes in a raw file; none if its size is 0.
	Hole snapshots.Range
}

// ErrUnknown is wrapped by the error for a file that is no memory snapshot.
var ErrUnknown = errors.New("not a memory snapshot that emu knows (ELF core, kdump, LiME, AVML, Xen core, emu's own, or raw memory in whole pages)")

// Open opens the snapshot at path for reading.
func Open(path string, o Options) (snapshots.Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := open(f, o)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func open(f *os.File, o Options) (snapshots.Snapshot, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := st.Size()
	if st.Mode()&os.ModeDevice != 0 {
		if size, err = f.Seek(0, io.SeekEnd); err != nil {
			return nil, err
		}
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("not a file (%s)", st.Mode().Type())
	}
	s, err := New(f, size, o)
	if err != nil {
		return nil, err
	}
	return closing(s, f), nil
}

// opened closes the file together with the snapshot.
type opened struct {
	snapshots.Snapshot
	file io.Closer
}

func (s *opened) Close() error { return errors.Join(s.Snapshot.Close(), s.file.Close()) }

// Unwrap returns the format's own type.
func (s *opened) Unwrap() snapshots.Snapshot { return s.Snapshot }

type openedMapper struct {
	*opened
	snapshots.Mapper
}

func closing(s snapshots.Snapshot, f io.Closer) snapshots.Snapshot {
	o := &opened{s, f}
	if m, ok := s.(snapshots.Mapper); ok {
		return &openedMapper{o, m}
	}
	return o
}

// As returns the format's own type of a snapshot that Open returned, such as *native.File.
func As[T snapshots.Snapshot](s snapshots.Snapshot) (T, bool) {
	if u, ok := s.(interface{ Unwrap() snapshots.Snapshot }); ok {
		s = u.Unwrap()
	}
	t, ok := s.(T)
	return t, ok
}

// notMemory are files that would be taken for raw memory otherwise.
var notMemory = []struct {
	at            int
	magic, advice string
}{
	{0, "\x1f\x8b", "a gzip file: unpack it first (gunzip)"},
	{0, "\x28\xb5\x2f\xfd", "a zstd file: unpack it first (unzstd)"},
	{0, "\xfd7zXZ\x00", "an xz file: unpack it first (unxz)"},
	{0, "BZh", "a bzip2 file: unpack it first (bunzip2)"},
	{0, "PK\x03\x04", "a zip file: unpack it first"},
	{0, "\x04\x22\x4d\x18", "an lz4 file: unpack it first (unlz4)"},
	{0, "QFI\xfb", "a qcow2 disk image, not a memory dump"},
	{0, "QEVM", "a QEMU migration stream, which emu does not read yet: use dump-guest-memory"},
	{0, "LibvirtQemud", "a libvirt save file, which emu does not read yet: use virsh dump --memory-only"},
	{0, "\xd0\xbe\xd2\xbe", "a VMware state file: the memory is in the .vmem file beside it"},
	{0, "\xd1\xba\xd1\xba", "a VMware state file: the memory is in the .vmem file beside it"},
	{0, "\xd2\xbe\xd2\xbe", "a VMware state file: the memory is in the .vmem file beside it"},
	{0, "\xd3\xbe\xd3\xbe", "a VMware state file: the memory is in the .vmem file beside it"},
	{0, "\x00\x00\x64\x48\x98\x01\x10\x07", "a Firecracker state file: the memory is in its memory file"},
	{0, "!<arch>\n", "an archive, not a memory dump"},
	{0, "070701", "a cpio archive, not a memory dump"},
	{257, "ustar", "a tar archive, not a memory dump"},
}

// New opens a snapshot of size bytes in r.
func New(r io.ReaderAt, size int64, o Options) (snapshots.Snapshot, error) {
	head := make([]byte, min(size, 512))
	if err := snapshots.ReadFull(r, head, 0); err != nil {
		return nil, err
	}
	if o.Hole.Size > 0 {
		return raw.New(r, size, o.Hole)
	}
	if flat.Is(head) {
		f, err := flat.New(r, size)
		if err != nil {
			return nil, err
		}
		r, size = f, f.Size()
		head = make([]byte, min(size, 512))
		if err := snapshots.ReadFull(r, head, 0); err != nil {
			return nil, err
		}
		if flat.Is(head) {
			return nil, fmt.Errorf("%w: flattened twice", snapshots.ErrCorrupt)
		}
		s, err := detect(r, size, head)
		if _, ok := s.(snapshots.Mapper); ok {
			s = unmappable{s} // offsets are those of the file that was flattened
		}
		return s, err
	}
	return detect(r, size, head)
}

// unmappable hides a format's Mapping.
type unmappable struct{ snapshots.Snapshot }

func detect(r io.ReaderAt, size int64, head []byte) (snapshots.Snapshot, error) {
	// An interface that holds a nil pointer is not nil: only a reader without error is returned.
	if strings.HasPrefix(string(head), "EMUSNAP") {
		return checked(native.NewFile(r, size))
	}
	switch {
	case kdump.Is(head):
		return checked(kdump.New(r, size))
	case lime.Is(head):
		return checked(lime.New(r, size))
	case avml.Is(head):
		return checked(avml.New(r, size))
	case xencore.Is(head):
		return checked(xencore.New(r, size))
	case elfcore.Is(head):
		return checked(elfcore.New(r, size))
	}
	for _, m := range notMemory {
		if len(head) >= m.at+len(m.magic) && string(head[m.at:][:len(m.magic)]) == m.magic {
			return nil, fmt.Errorf("this is %s: %w", m.advice, ErrUnknown)
		}
	}
	if strings.HasPrefix(string(head), "\x7fELF") {
		return nil, fmt.Errorf("an ELF file that is not a core dump: %w", ErrUnknown)
	}
	if len(head) > 2 && head[0] == 0x78 && (head[1] == 0x01 || head[1] == 0x9c || head[1] == 0xda) && size%4096 != 0 {
		return nil, fmt.Errorf("a zlib stream, as LiME writes when told to compress: unpack it first (zlib-flate -uncompress): %w", ErrUnknown)
	}
	if size == 0 || size%4096 != 0 {
		return nil, ErrUnknown
	}
	return checked(raw.New(r, size, snapshots.Range{}))
}

func checked[T snapshots.Snapshot](s T, err error) (snapshots.Snapshot, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// RawHoles returns the holes that a raw snapshot may have on known machines, for Options.Hole; none if it is of another
// format, or too small to have one.
func RawHoles(s snapshots.Snapshot) []snapshots.Range {
	f, ok := As[*raw.File](s)
	if !ok || f.Hole().Size > 0 {
		return nil
	}
	ranges := f.Ranges()
	end := ranges[len(ranges)-1].Base + ranges[len(ranges)-1].Size
	var holes []snapshots.Range
	for _, start := range raw.HoleStarts {
		if end > start {
			holes = append(holes, snapshots.Range{Base: start, Size: raw.HoleEnd - start})
		}
	}
	return holes
}

// Writable are the formats that Write writes.
var Writable = []string{"native", "elf", "lime", "raw"}

// FormatOf guesses the format to write from a file's name.
func FormatOf(path string) string {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".elf", ".core", ".vmcore", ".dump":
		return "elf"
	case ".lime":
		return "lime"
	case ".raw", ".mem", ".vmem", ".img", ".bin":
		return "raw"
	}
	return "native"
}

// Write writes a snapshot under path in one of the formats of Writable. The file appears complete or not at all. notes
// replaces those of s that are not about processors. progress, unless nil, is told how many bytes of memory are done.
func Write(path, format string, s snapshots.Snapshot, notes []snapshots.Note, progress func(done uint64) error) (err error) {
	if !slices.Contains(Writable, format) {
		return fmt.Errorf("cannot write format %q (can: %s)", format, strings.Join(Writable, ", "))
	}
	if format == "native" {
		return native.FromSnapshot(path, s, notes, progress)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	switch format {
	case "elf":
		err = elfcore.Write(w, s, notes, progress)
	case "lime":
		err = lime.Write(w, s, progress)
	case "raw":
		err = raw.Write(f, s, progress)
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// OtherNotes returns the notes of s that are not about single processors.
func OtherNotes(s snapshots.Snapshot) []snapshots.Note {
	var out []snapshots.Note
	for _, n := range s.Notes() {
		switch n.Name {
		case "CORE", "QEMU", "VBCORE", "VBCPU", "Xen":
		default:
			out = append(out, n)
		}
	}
	return out
}
