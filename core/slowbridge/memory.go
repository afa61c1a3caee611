package slowbridge

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/linux"
	"github.com/hybridbridge/emu/taint"
)

// Base is the physical address at which the CPU sees physical address 0 of the snapshot.
const Base = machine.BeyondBase

// Memory is the snapshot's physical memory as private copies: a page is read when it is first touched, and stores change
// the copy. It is not safe for concurrent use.
type Memory struct {
	snap   snapshots.Snapshot
	pages  map[uint64]*[4096]byte // by physical page number
	shadow *taint.Shadow
	// extra are pages that the snapshot does not have: values that substitutes point to.
	extra []*[4096]byte
	err   error
	flat  []byte
}

// NewFlatMemory is NewMemory with the copies where their physical addresses say in flat, which has room for all of them.
func NewFlatMemory(s snapshots.Snapshot, flat []byte) *Memory {
	m := NewMemory(s)
	m.flat = flat
	return m
}

// NewMemory returns the memory of a snapshot.
func NewMemory(s snapshots.Snapshot) *Memory {
	return &Memory{snap: s, pages: map[uint64]*[4096]byte{}}
}

// extraBase is where extra pages begin.
const extraBase = Base << 1

// Page returns the page at pa, from Base up, or nil.
func (m *Memory) Page(pa uint64) *[4096]byte {
	if pa >= extraBase {
		if i := (pa - extraBase) >> 12; i < uint64(len(m.extra)) {
			return m.extra[i]
		}
		return nil
	}
	pfn := (pa - Base) >> 12
	if p, ok := m.pages[pfn]; ok {
		return p
	}
	var p *[4096]byte
	if m.flat == nil {
		p = new([4096]byte)
	} else if pfn < uint64(len(m.flat))>>12 {
		p = (*[4096]byte)(m.flat[pfn<<12:])
	} else {
		return nil
	}
	if m.flat != nil && m.readAhead(pfn) {
		return m.pages[pfn]
	}
	switch err := m.snap.ReadPhysical(p[:], pfn<<12); {
	case errors.Is(err, snapshots.ErrNoMemory), errors.Is(err, snapshots.ErrNotSaved):
		p = nil
	case err != nil:
		m.err = err
		p = nil
	}
	m.pages[pfn] = p
	if p != nil && m.shadow != nil {
		m.shadow.Mark(pa&^0xfff, 4096)
	}
	return p
}

// readAhead reads the pages around one at once, if none of them was read and the snapshot has them all.
func (m *Memory) readAhead(pfn uint64) bool {
	const pages = 16
	first := pfn &^ (pages - 1)
	if first+pages > uint64(len(m.flat))>>12 {
		return false
	}
	for i := range uint64(pages) {
		if _, ok := m.pages[first+i]; ok {
			return false
		}
	}
	if m.snap.ReadPhysical(m.flat[first<<12:(first+pages)<<12], first<<12) != nil {
		return false
	}
	for i := range uint64(pages) {
		m.pages[first+i] = (*[4096]byte)(m.flat[(first+i)<<12:])
	}
	return true
}

// Err is the first error of reading the snapshot.
func (m *Memory) Err() error { return m.err }

// Touched returns the numbers of the physical pages that have been read, in order, with those that came along.
func (m *Memory) Touched() []uint64 { return slices.Sorted(maps.Keys(m.pages)) }

// value makes an extra page that begins with the bytes of p, all tainted, and returns its physical address.
func (m *Memory) value(p []byte) uint64 {
	page := new([4096]byte)
	copy(page[:], p)
	pa := extraBase + uint64(len(m.extra))<<12
	m.extra = append(m.extra, page)
	if m.shadow != nil {
		m.shadow.Mark(pa, uint64(len(p)))
	}
	return pa
}

// space translates the snapshot's kernel addresses, by its own page tables as they were.
type space struct {
	tables linux.AddressSpace
	mem    *Memory
	pages  map[uint64]uint64 // by linear page number: physical address at Base, 0 if not mapped
}

func newSpace(k *linux.Kernel, m *Memory) *space {
	tables := k.Space
	tables.Memory = tablePages{tables.Memory, map[uint64]*[4096]byte{}}
	return &space{tables: tables, mem: m, pages: map[uint64]uint64{}}
}

// tablePages keeps the pages of page tables that were read, by physical page number.
type tablePages struct {
	memory snapshots.Reader
	pages  map[uint64]*[4096]byte
}

// ReadPhysical implements snapshots.Reader for entries of page tables.
func (t tablePages) ReadPhysical(p []byte, pa uint64) error {
	page := t.pages[pa>>12]
	if page == nil {
		page = new([4096]byte)
		if err := t.memory.ReadPhysical(page[:], pa&^0xfff); err != nil {
			return t.memory.ReadPhysical(p, pa) // a page that is there in part
		}
		t.pages[pa>>12] = page
	}
	copy(p, page[pa&0xfff:])
	return nil
}

// translate returns where the CPU sees linear address la of the snapshot.
func (s *space) translate(la uint64) (pa uint64, ok bool) {
	page, known := s.pages[la>>12]
	if !known {
		if p, err := s.tables.Translate(la &^ 0xfff); err == nil && s.mem.Page(Base+p.Physical) != nil {
			page = Base + p.Physical
		}
		s.pages[la>>12] = page
	}
	return page | la&0xfff, page != 0
}

// read copies memory at a linear address of the snapshot, as the run sees it now.
func (s *space) read(la uint64, p []byte) bool {
	for len(p) > 0 {
		pa, ok := s.translate(la)
		if !ok {
			return false
		}
		n := copy(p, s.mem.Page(pa &^ 0xfff)[pa&0xfff:])
		p, la = p[n:], la+uint64(n)
	}
	return true
}

// reader copies memory at a linear address; it reports whether all of it is there.
type reader func(la uint64, p []byte) bool

// number reads a little-endian number of at most 8 bytes.
func (r reader) number(la, size uint64) (uint64, bool) {
	var p [8]byte
	ok := r(la, p[:size])
	return binary.LittleEndian.Uint64(p[:]), ok
}

// word reads a pointer-sized number of the snapshot.
func (b *Bridge) word(la uint64) (uint64, bool) { return reader(b.space.read).number(la, b.types.word) }

// localWord reads a pointer-sized number of the trusted VM.
func (b *Bridge) localWord(la uint64) (uint64, bool) {
	return reader(b.localRead).number(la, b.types.word)
}

// localRead copies memory of the trusted VM.
func (b *Bridge) localRead(la uint64, p []byte) bool {
	return b.guest.ReadLinear(la, p) == len(p)
}
