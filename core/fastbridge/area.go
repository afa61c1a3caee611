package fastbridge

import "encoding/binary"

// area is linear memory for code that jumps in the kernel's text lead to. A jump takes five bytes, in which several instructions may begin; where one
// does, the jump must have int3, so that who comes there by another way is not lost. These bytes are parts of the jump's distance. So a
// jump's code can only lie at some distances from it: the area is as long as the text and some more, as far below it as makes the highest byte int3.
// Linux leaves that alone (the hole of 2 GiB in Documentation/arch/x86/x86_64/mm.rst, below the kernel's image).
type area struct {
	lo, hi uint64
	tables []*table // of 2 MiB each; nil where something else is
	pages  map[uint64]*areaPage
	pool   *pool
	next   map[uint64]uint64 // where a search went on behind the last find, by where it begins, in units of 64 KiB
}

// areaPage is one that is used: its bits say which units of areaUnit bytes.
type areaPage struct {
	pages
	used [4096 / areaUnit / 64]uint64
}

const (
	areaUnit = 16
	// The distances of jumps whose highest byte is int3, and of those with the number below, which take what these leave.
	areaBelow = 0x35000000
	areaAbove = 0x33000000
)

// makeArea maps nothing yet, but makes the tables, since address spaces copy what is above them.
func (b *Bridge) makeArea() error {
	const step = 1 << 21
	ar := &b.area
	ar.lo, ar.hi = (b.text.Lo-areaBelow)&^(step-1), (b.text.Hi-areaAbove+2*step)&^(step-1)
	ar.pages, ar.next, ar.pool = map[uint64]*areaPage{}, map[uint64]uint64{}, b.tables.pool
	ar.tables = make([]*table, (ar.hi-ar.lo)/step)
	if b.cfg.ExitSwitching {
		return nil
	}
	for i := range ar.tables {
		la, at := ar.lo+uint64(i)*step, b.clean
		for l := b.levels; l > 1; l-- {
			page := b.mem(at & addresses)
			if page == nil {
				break
			}
			entry := page[8*index(la, l):][:8]
			at = binary.LittleEndian.Uint64(entry)
			if at&present != 0 && l > 2 && at&large == 0 {
				continue
			}
			if at != 0 || l > 3 {
				break // not what it should be
			}
			t, err := b.tables.table(l-1, b.last)
			if err != nil {
				return err
			}
			at = t.pa | tableFlags
			binary.LittleEndian.PutUint64(entry, at)
			if l == 2 {
				ar.tables[i] = t
			}
		}
	}
	return nil
}

// find takes n bytes that begin at a distance from next, the address behind a jump, whose bytes are int3 where it is said.
func (ar *area) find(next uint64, traps [jumpSize - 1]bool, n int) (at uint64, ok bool) {
	for _, top := range [...]uint64{int3, int3 - 1} {
		if top != int3 && traps[3] {
			break
		}
		far := next - (0x100-top)<<24
		switch {
		case traps[0]:
			return 0, false
		case traps[1]:
			for third := range uint64(256) {
				if traps[2] && third != int3 {
					continue
				}
				if at, ok = ar.within(far+third<<16+int3<<8, 1<<8, n); ok {
					return at, true
				}
			}
		case traps[2]:
			at, ok = ar.within(far+int3<<16, 1<<16, n)
		default:
			at, ok = ar.within(far, 1<<24, n)
		}
		if ok {
			return at, true
		}
	}
	return 0, false
}

// within takes n bytes that begin within [lo, lo+size).
func (ar *area) within(lo, size uint64, n int) (uint64, bool) {
	const wide = 1 << 16
	from := (lo + areaUnit - 1) &^ (areaUnit - 1)
	hint := lo &^ (wide - 1)
	if size >= wide {
		if next := ar.next[hint]; next > from && next < lo+size {
			from = next
		}
	}
	units := (n + areaUnit - 1) / areaUnit
	for at := from; at < lo+size; {
		free := 0
		for free < units && !ar.isUsed(at+uint64(free)*areaUnit) {
			free++
		}
		if free == units {
			if size >= wide {
				ar.next[hint] = at + uint64(units)*areaUnit
			}
			return at, true
		}
		at += uint64(free+1) * areaUnit
	}
	return 0, false
}

// isUsed reports whether the unit at an address is not to be had.
func (ar *area) isUsed(at uint64) bool {
	if at < ar.lo || at >= ar.hi || ar.tables[(at-ar.lo)>>21] == nil {
		return true
	}
	p := ar.pages[at&^0xfff]
	unit := at & 0xfff / areaUnit
	return p != nil && p.used[unit/64]>>(unit%64)&1 != 0
}

// put puts code at an address that find has returned, and calls written for the physical memory that changes.
func (ar *area) put(at uint64, code []byte, written func(pa uint64, n int)) (err error) {
	for len(code) > 0 {
		p := ar.pages[at&^0xfff]
		if p == nil {
			p = &areaPage{}
			if p.pa, p.mem, err = ar.pool.take(1); err != nil {
				return err
			}
			ar.pages[at&^0xfff] = p
			ar.tables[(at-ar.lo)>>21].set(index(at, 1), p.pa|codeFlags)
		}
		off := at & 0xfff
		n := copy(p.mem[off:], code)
		for u := off / areaUnit; u*areaUnit < off+uint64(n); u++ {
			p.used[u/64] |= 1 << (u % 64)
		}
		written(p.pa+off, n)
		at, code = at+uint64(n), code[n:]
	}
	return nil
}
