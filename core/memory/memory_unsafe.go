package memory

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Memory is the backed part of guest physical memory. Its pages are one shared mapping of one memory file, so that
// KVM and the emulator can take turns on the same bytes. Methods may be called from any goroutine as far as they
// don't race on guest bytes; OnWrite and Close may not run beside others.
type Memory struct {
	fd      int
	mapping []byte
	regions []Region // by address
	ram     []fast   // what the guest may write, by size, largest first
	all     []fast   // everything backed, by size, largest first
	hooks   []func(pa uint64, n int)
	beside  [][]byte
	private []private
}

// Region is a range and where it lies in the memory file.
type Region struct {
	Range
	Offset uint64 // in the memory file and in Bytes
}

// fast is what Page needs of a region, kept small so that a scan stays in one cache line.
type fast struct {
	base, size uint64
	host       unsafe.Pointer
}

// New makes the memory that layout describes, all zeroes. Pages take host memory when they are first written.
func New(layout []Range) (*Memory, error) {
	ranges, err := check(layout)
	if err != nil {
		return nil, err
	}
	m := &Memory{fd: -1}
	var total uint64
	for _, r := range ranges {
		m.regions = append(m.regions, Region{Range: r, Offset: total})
		total += r.Size
	}
	m.fd, err = unix.MemfdCreate("emu-guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory: create memory file: %w", err)
	}
	if err = unix.Ftruncate(m.fd, int64(total)); err == nil {
		m.mapping, err = unix.Mmap(m.fd, 0, int(total), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("memory: map %d MiB of guest memory: %w", total>>20, err), m.Close())
	}
	// Advice only: few kernels give huge pages to memory files, and nothing depends on it.
	_ = unix.Madvise(m.mapping, unix.MADV_HUGEPAGE)
	for _, r := range m.regions {
		f := fast{base: r.Base, size: r.Size, host: unsafe.Pointer(&m.mapping[r.Offset])}
		m.all = append(m.all, f)
		if r.Kind != ROM {
			m.ram = append(m.ram, f)
		}
	}
	bySize := func(a, b fast) int {
		if a.size != b.size {
			if a.size > b.size {
				return -1
			}
			return 1
		}
		return 0
	}
	slices.SortStableFunc(m.ram, bySize)
	slices.SortStableFunc(m.all, bySize)
	return m, nil
}

// MapPrivate puts size bytes of a file, from offset on, in place of the memory at pa, without reading them: what the guest writes
// goes to copies, and the file never changes. It must not shrink while it is mapped. pa, offset and size are multiples of
// PageSize, and the memory is all backed. The pages are then no longer those of the memory file, see FD.
func (m *Memory) MapPrivate(f *os.File, offset int64, pa, size uint64) error {
	for size > 0 {
		i := slices.IndexFunc(m.regions, func(r Region) bool { return pa >= r.Base && pa < r.End() })
		if i < 0 || (uint64(offset)|pa|size)%PageSize != 0 {
			return fmt.Errorf("memory: %d bytes at %#x cannot be mapped", size, pa)
		}
		r := &m.regions[i]
		n := min(size, r.End()-pa)
		at := unsafe.Pointer(&m.mapping[r.Offset+pa-r.Base])
		if _, err := unix.MmapPtr(int(f.Fd()), offset, at, uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE); err != nil {
			return fmt.Errorf("memory: map %d bytes of %s at %#x: %w", n, f.Name(), pa, err)
		}
		m.private = append(m.private, private{pa, r.Offset + pa - r.Base, n})
		for _, h := range m.hooks {
			h(pa, int(n))
		}
		offset, pa, size = offset+int64(n), pa+n, size-n
	}
	return nil
}

// Add puts size bytes of anonymous memory at pa, beside the layout and the memory file: it is not the machine's, is told to no
// guest and never saved. Nothing must be there yet. The bytes stay valid until Close. sparse says that little of it will be used.
func (m *Memory) Add(pa, size uint64, sparse bool) ([]byte, error) {
	for _, f := range m.all {
		if pa < f.base+f.size && f.base < pa+size {
			return nil, fmt.Errorf("memory: %#x is in use already", pa)
		}
	}
	// Where the host's and the guest's address agree in a large page, both can map it at once.
	const large = 1 << 21
	b, err := unix.Mmap(-1, 0, int(size+large), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("memory: map %d MiB beside guest memory: %w", size>>20, err)
	}
	m.beside = append(m.beside, b)
	b = b[(uintptr(pa)-uintptr(unsafe.Pointer(&b[0])))&(large-1):][:size]
	advice := unix.MADV_HUGEPAGE
	if sparse {
		advice = unix.MADV_NOHUGEPAGE
	}
	_ = unix.Madvise(b, advice) // without it, it is slower
	f := fast{base: pa, size: size, host: unsafe.Pointer(&b[0])}
	m.all, m.ram = append(m.all, f), append(m.ram, f)
	return b, nil
}

// Written tells that bytes at pa were changed through a slice.
func (m *Memory) Written(pa uint64, n int) {
	for _, h := range m.hooks {
		h(pa, n)
	}
}

// Close unmaps the memory. Pages handed out by Page must not be used afterwards.
func (m *Memory) Close() error {
	var errs []error
	if m.mapping != nil {
		errs = append(errs, unix.Munmap(m.mapping))
	}
	for _, b := range m.beside {
		errs = append(errs, unix.Munmap(b))
	}
	if m.fd >= 0 {
		errs = append(errs, unix.Close(m.fd))
	}
	*m = Memory{fd: -1}
	return errors.Join(errs...)
}

// Page returns the page of writable memory that holds pa, or nil if there is none.
func (m *Memory) Page(pa uint64) *[PageSize]byte {
	for i := range m.ram {
		r := &m.ram[i]
		if off := pa - r.base; off < r.size {
			return (*[PageSize]byte)(unsafe.Add(r.host, off&^(PageSize-1)))
		}
	}
	return nil
}

// ReadPage is Page for reading: it returns pages of ROM too. They must not be written.
func (m *Memory) ReadPage(pa uint64) *[PageSize]byte {
	for i := range m.all {
		r := &m.all[i]
		if off := pa - r.base; off < r.size {
			return (*[PageSize]byte)(unsafe.Add(r.host, off&^(PageSize-1)))
		}
	}
	return nil
}

// FD returns the memory file. It stays owned by m. It does not have what MapPrivate mapped; Bytes has.
func (m *Memory) FD() int { return m.fd }

// Bytes returns the whole memory file as mapped; Region.Offset indexes it. It is valid until Close.
func (m *Memory) Bytes() []byte { return m.mapping }
