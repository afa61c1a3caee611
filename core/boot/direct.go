package boot

import (
	"encoding/binary"
	"fmt"

	"github.com/hybridbridge/emu/core/memory"
)

// Direct returns the kernel inside a bzImage as an image that is entered without its decompressing stub: what the stub
// does (arch/x86/boot/compressed), Load then does on the host. An image that is no bzImage returns itself.
func (im *Image) Direct() (*Image, error) {
	if im.Format != BzImage {
		return im, nil
	}
	b, err := im.Unpack()
	if err != nil {
		return nil, err
	}
	d, err := parseELF(b)
	if err != nil {
		return nil, fmt.Errorf("bzImage: its payload: %w", err)
	}
	end, err := elfEnd(b)
	if err != nil {
		return nil, fmt.Errorf("bzImage: its payload: %w", err)
	}
	if d.relocs, err = parseRelocations(b[end:], d.Bits == 64); err != nil {
		return nil, fmt.Errorf("bzImage: its payload: %w", err)
	}
	d.setup, d.Version = im.setup, im.Version
	return d, nil
}

// elfEnd returns where an ELF file that parseELF has read ends, and where something may be appended to it.
func elfEnd(b []byte) (uint64, error) {
	le := binary.LittleEndian
	u16 := func(o uint64) uint64 { return uint64(le.Uint16(b[o:])) }
	u32 := func(o uint64) uint64 { return uint64(le.Uint32(b[o:])) }
	type table struct {
		name           string
		off, each, num uint64
		// Where an entry has its kind, and the offset and the size of its contents; the number that contents have
		// no bytes for.
		typeAt, offAt, sizeAt, least uint64
		empty                        uint64
	}
	const never, nobits = 1 << 32, 8
	word := u32
	tables := []table{
		{"program", u32(28), u16(42), u16(44), 0, 4, 16, 32, never},
		{"section", u32(32), u16(46), u16(48), 4, 16, 20, 40, nobits},
	}
	if b[4] == 2 {
		word = le64(b)
		tables = []table{
			{"program", word(32), u16(54), u16(56), 0, 8, 32, 56, never},
			{"section", word(40), u16(58), u16(60), 4, 24, 32, 64, nobits},
		}
	}
	size, end := uint64(len(b)), uint64(0)
	for _, t := range tables {
		if t.num == 0 {
			continue
		}
		if t.each < t.least || t.off > size || t.num*t.each > size-t.off {
			return 0, fmt.Errorf("ELF: %d %s headers at %#x are past the end of the file (%#x): %w", t.num, t.name, t.off, size, ErrTruncated)
		}
		end = max(end, t.off+t.num*t.each)
		for i := range t.num {
			h := t.off + i*t.each
			if u32(h+t.typeAt) == t.empty {
				continue
			}
			off, n := word(h+t.offAt), word(h+t.sizeAt)
			if off > size || n > size-off {
				return 0, fmt.Errorf("ELF: %s %d (%#x+%#x) is past the end of the file (%#x): %w", t.name, i, off, n, size, ErrTruncated)
			}
			end = max(end, off+n)
		}
	}
	return end, nil
}

func le64(b []byte) func(o uint64) uint64 {
	return func(o uint64) uint64 { return binary.LittleEndian.Uint64(b[o:]) }
}

// relocations are the tables that the kernel's build appends to vmlinux (arch/x86/tools/relocs.c). Each entry is
// the linked virtual address, its low 32 bits, of a place to which the shift is added.
type relocations struct {
	add32, sub32, add64 []byte
}

func (r *relocations) none() bool { return len(r.add32)+len(r.sub32)+len(r.add64) == 0 }

// parseRelocations splits the tables, each of which begins with a zero: for a 64-bit kernel the 64-bit, the inverse
// 32-bit (no longer since 6.15) and the 32-bit entries, for a 32-bit kernel only the last. There are none if the
// kernel cannot be relocated.
func parseRelocations(b []byte, wide bool) (relocations, error) {
	var r relocations
	if len(b) == 0 {
		return r, nil
	}
	le := binary.LittleEndian
	if len(b)%4 != 0 || le.Uint32(b) != 0 {
		return r, fmt.Errorf("relocations: %d bytes follow the kernel that are no table: %w", len(b), ErrNotKernel)
	}
	var tables [][]byte
	for i := len(b); i > 0; {
		j := i - 4
		for le.Uint32(b[j:]) != 0 {
			j -= 4
		}
		tables = append(tables, b[j+4:i])
		i = j
	}
	switch {
	case !wide && len(tables) == 1:
		r.add32 = tables[0]
	case wide && len(tables) == 2:
		r.add32, r.add64 = tables[0], tables[1]
	case wide && len(tables) == 3:
		r.add32, r.sub32, r.add64 = tables[0], tables[1], tables[2]
	default:
		return r, fmt.Errorf("relocations: %d tables: %w", len(tables), ErrNotKernel)
	}
	return r, nil
}

// relocate adds delta to all places of an image that was linked to run at virt and now lies at [base, end).
func (r *relocations) relocate(m *memory.Memory, virt, base, end, delta uint64) error {
	if delta == 0 {
		return nil
	}
	for _, t := range []struct {
		entries []byte
		size    uint64
		delta   uint64
	}{{r.add32, 4, delta}, {r.sub32, 4, -delta}, {r.add64, 8, delta}} {
		for i := 0; i < len(t.entries); i += 4 {
			v := uint64(int64(int32(binary.LittleEndian.Uint32(t.entries[i:]))))
			off := v - virt
			if virt <= 0xffffffff {
				off = uint64(uint32(off))
			}
			if off > end-base || t.size > end-base-off {
				return fmt.Errorf("relocation of %#x, outside of the kernel: %w", v, ErrNotKernel)
			}
			if !add(m, base+off, t.size, t.delta) {
				return fmt.Errorf("relocation of %#x, outside of RAM", base+off)
			}
		}
	}
	return nil
}

// add adds delta to the number of size bytes at pa. Nobody has looked at the place yet, so nobody is told.
func add(m *memory.Memory, pa, size, delta uint64) bool {
	le := binary.LittleEndian
	var b [8]byte
	if off := pa % memory.PageSize; off+size <= memory.PageSize {
		page := m.Page(pa)
		if page == nil {
			return false
		}
		if p := page[off:]; size == 4 {
			le.PutUint32(p, le.Uint32(p)+uint32(delta))
		} else {
			le.PutUint64(p, le.Uint64(p)+delta)
		}
		return true
	}
	if !m.ReadAt(b[:size], pa) {
		return false
	}
	le.PutUint64(b[:], le.Uint64(b[:])+delta) // what overflows the lower 4 bytes is not written
	return m.WriteAt(b[:size], pa)
}
