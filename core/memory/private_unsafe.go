package memory

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// private is a part of Bytes that MapPrivate has mapped from a file.
type private struct{ pa, offset, size uint64 }

// host returns the address of the part.
func (m *Memory) host(p private) uintptr { return uintptr(unsafe.Pointer(&m.mapping[p.offset])) }

// Copied returns the pages of what MapPrivate mapped that were written since, and so are copies of the file's.
func (m *Memory) Copied() ([]Range, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	defer f.Close()
	// Documentation/admin-guide/mm/pagemap.rst
	const present, ofFile = 1 << 63, 1 << 61
	var all []Range
	for _, p := range m.private {
		entries := make([]byte, p.size/PageSize*8)
		if _, err := f.ReadAt(entries, int64(m.host(p)/PageSize*8)); err != nil {
			return nil, fmt.Errorf("memory: which pages were written: %w", err)
		}
		for i := uint64(0); i < p.size/PageSize; i++ {
			if binary.LittleEndian.Uint64(entries[8*i:])&(present|ofFile) != present {
				continue
			}
			pa := p.pa + i*PageSize
			if n := len(all); n > 0 && all[n-1].End() == pa {
				all[n-1].Size += PageSize
			} else {
				all = append(all, Range{Base: pa, Size: PageSize})
			}
		}
	}
	return all, nil
}

// Copy makes the copies of pages that MapPrivate mapped before they are written, which is cheaper than one by one. Their contents stay the same.
// What MapPrivate has not mapped is left out.
func (m *Memory) Copy(pages []Range) error {
	for _, r := range pages {
		for _, p := range m.private {
			lo, hi := max(r.Base, p.pa), min(r.End(), p.pa+p.size)
			if lo >= hi || (lo|hi)%PageSize != 0 {
				continue
			}
			if err := unix.Madvise(m.mapping[p.offset+lo-p.pa:][:hi-lo], unix.MADV_POPULATE_WRITE); err != nil {
				return fmt.Errorf("memory: copy %d bytes at %#x: %w", hi-lo, lo, err)
			}
		}
	}
	return nil
}
