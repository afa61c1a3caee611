// Package raw reads and writes memory without a container: QEMU's pmemsave, VMware's .vmem, and the memory files of
// Firecracker and cloud-hypervisor. A padded file has each byte at the offset that is its address. A file of a
// hypervisor's RAM block has no gap for the hole below 4 GiB, and nothing in it says where the hole is: it must be given,
// or found by trying HoleStarts. Start at New.
package raw

import (
	"fmt"
	"io"

	"github.com/hybridbridge/emu/snapshots"
)

const page = 4096

// File is raw memory.
type File struct {
	r       io.ReaderAt
	extents snapshots.Extents
	hole    snapshots.Range
}

var (
	_ snapshots.Snapshot = (*File)(nil)
	_ snapshots.Mapper   = (*File)(nil)
)

// HoleEnd is where RAM goes on above the hole on every known machine.
const HoleEnd = 1 << 32

// HoleStarts are the starts of the hole below 4 GiB on known machines, the most frequent first: QEMU's pc, microvm and
// Firecracker; q35; q35 with little memory; older pc; Xen.
var HoleStarts = []uint64{0xc0000000, 0x80000000, 0xb0000000, 0xe0000000, 0xf0000000}

// New makes a snapshot of a file of size bytes. The hole, if its size is not 0, has no bytes in the file.
func New(r io.ReaderAt, size int64, hole snapshots.Range) (*File, error) {
	if size < page {
		return nil, fmt.Errorf("%d bytes are no memory of a machine: %w", size, snapshots.ErrFormat)
	}
	if hole.Base+hole.Size < hole.Base || (hole.Base|hole.Size)%page != 0 {
		return nil, fmt.Errorf("hole of %#x bytes at %#x: it must start and end at a page", hole.Size, hole.Base)
	}
	f := &File{r: r, hole: hole}
	n := uint64(size)
	e := []snapshots.Extent{{Size: n}}
	if hole.Size > 0 && hole.Base < n {
		e = []snapshots.Extent{{Size: hole.Base}, {Base: hole.Base + hole.Size, Size: n - hole.Base, Offset: int64(hole.Base)}}
	}
	var err error
	f.extents, err = snapshots.NewExtents(e)
	return f, err
}

// Hole returns the hole that New was given.
func (f *File) Hole() snapshots.Range { return f.hole }

// Format returns "raw".
func (f *File) Format() string { return "raw" }

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

// Target is a file that Write can leave holes in.
type Target interface {
	io.WriterAt
	Truncate(size int64) error
}

// Write writes a snapshot padded, so that offsets are addresses. Zero pages are left out, and read as zero. progress,
// unless nil, is told how many bytes of memory are done.
func Write(w Target, s snapshots.Snapshot, progress func(done uint64) error) error {
	end := uint64(0)
	for _, r := range s.Ranges() {
		end = max(end, r.Base+r.Size)
	}
	if end > 1<<52 {
		return fmt.Errorf("memory up to %#x does not fit into a raw file; choose another format", end)
	}
	if err := w.Truncate(int64(end)); err != nil {
		return err
	}
	var zero [page]byte
	return snapshots.Copy(s, progress, func(p []byte, pa uint64, _, _ bool) error {
		// Runs of pages that are not zero are written at once.
		for len(p) > 0 {
			n := 0
			for n < len(p) && string(p[n:min(n+page, len(p))]) != string(zero[:min(page, len(p)-n)]) {
				n = min(n+page, len(p))
			}
			if n > 0 {
				if _, err := w.WriteAt(p[:n], int64(pa)); err != nil {
					return err
				}
			} else {
				n = min(page, len(p))
			}
			p, pa = p[n:], pa+uint64(n)
		}
		return nil
	})
}
