package fastbridge

import (
	"encoding/binary"
	"errors"
	"maps"
)

// Bits of page-table entries (SDM vol. 3A, 4.5).
const (
	present   = 1 << 0
	writable  = 1 << 1
	accessed  = 1 << 5
	dirty     = 1 << 6
	large     = 1 << 7
	global    = 1 << 8
	noExecute = 1 << 63
	addresses = 0x000ffffffffff000

	tableFlags = present | writable | accessed
	dataFlags  = present | writable | accessed | dirty | noExecute
	codeFlags  = present | accessed
)

// physical returns the page at a guest-physical address, nil if there is none.
type physical func(pa uint64) *[4096]byte

// walk translates a linear address by the tables at root; leaf is the entry that maps it.
func (mem physical) walk(root uint64, levels int, la uint64) (pa, leaf uint64, ok bool) {
	at := root & addresses
	for l := levels; l > 0; l-- {
		page := mem(at)
		if page == nil {
			return 0, 0, false
		}
		e := binary.LittleEndian.Uint64(page[8*index(la, l):])
		if e&present == 0 {
			return 0, 0, false
		}
		if l == 1 || e&large != 0 {
			mask := uint64(1)<<(12+9*(l-1)) - 1
			return e&addresses&^mask | la&mask, e, true
		}
		at = e & addresses
	}
	return 0, 0, false
}

// directory returns the entry for la in the table of level 2: of a page table or of a large page.
func (mem physical) directory(root uint64, levels int, la uint64) (entry uint64, ok bool) {
	at := root & addresses
	for l := levels; l >= 2; l-- {
		page := mem(at)
		if page == nil {
			return 0, false
		}
		entry = binary.LittleEndian.Uint64(page[8*index(la, l):])
		if entry&present == 0 || l > 2 && entry&large != 0 {
			return 0, false
		}
		at = entry & addresses
	}
	return entry, true
}

// index is which entry of a table of a level, 1 for the page table, is for la.
func index(la uint64, level int) int { return int(la>>(12+9*(level-1))) & 511 }

// size is how many bytes an entry of a table of a level maps.
func size(level int) uint64 { return 1 << (12 + 9*(level-1)) }

// pool hands out guest-physical pages.
type pool struct {
	base uint64
	mem  []byte
	used uint64
	next *pool // taken from when this one has no room, or nil
}

var errFull = errors.New("fastbridge: the memory for views is used up")

// take returns n pages that lie together.
func (p *pool) take(n uint64) (pa uint64, b []byte, err error) {
	if p.used+n*4096 > uint64(len(p.mem)) {
		if p.next != nil {
			*p = *p.next
			return p.take(n)
		}
		return 0, nil, errFull
	}
	pa, b = p.base+p.used, p.mem[p.used:p.used+n*4096]
	p.used += n * 4096
	return pa, b, nil
}

// table is a page table of a view. Several roots can share one: owner is the root for which it was made.
type table struct {
	pa    uint64
	page  []byte
	level int
	owner *table
	child map[int]*table
}

func (t *table) get(i int) uint64    { return binary.LittleEndian.Uint64(t.page[8*i:]) }
func (t *table) set(i int, v uint64) { binary.LittleEndian.PutUint64(t.page[8*i:], v) }

// tables makes them.
type tables struct {
	pool   *pool
	mem    physical
	levels int
}

func (ts *tables) table(level int, owner *table) (*table, error) {
	pa, page, err := ts.pool.take(1)
	if err != nil {
		return nil, err
	}
	t := &table{pa: pa, page: page, level: level, owner: owner, child: map[int]*table{}}
	if owner == nil {
		t.owner = t
	}
	return t, nil
}

// copyTo makes a root in a page that shares all that is below r.
func (r *table) copyTo(at pages) *table {
	t := &table{pa: at.pa, page: at.mem, level: r.level, child: maps.Clone(r.child)}
	t.owner = t
	copy(t.page, r.page)
	return t
}

// fill gives t what another entry of its parent says: the entries of a table, or the pieces of a large page.
func (ts *tables) fill(t *table, entry uint64) {
	switch {
	case entry&present == 0:
	case entry&large != 0:
		step := size(t.level)
		flags := entry &^ (addresses | global)
		if t.level == 1 {
			flags &^= large
		}
		for i := range 512 {
			t.set(i, entry&addresses&^(size(t.level+1)-1)+uint64(i)*step|flags)
		}
	default:
		if p := ts.mem(entry & addresses); p != nil {
			copy(t.page, p[:])
		}
	}
}

// reach returns the table of a level that maps la under root. Where there is none it is made, with what the entry in its place
// said. If own is set, it and those above it are root's own afterwards.
func (ts *tables) reach(root *table, la uint64, level int, own bool) (*table, error) {
	t := root
	for t.level > level {
		i := index(la, t.level)
		c := t.child[i]
		if c == nil || own && c.owner != root {
			n, err := ts.table(t.level-1, t.owner)
			if err != nil {
				return nil, err
			}
			if c == nil {
				ts.fill(n, t.get(i))
			} else {
				copy(n.page, c.page)
				n.child = maps.Clone(c.child)
			}
			t.child[i] = n
			t.set(i, n.pa|tableFlags)
			c = n
		}
		t = c
	}
	return t, nil
}

// put maps the page at la under root.
func (ts *tables) put(root *table, la, entry uint64, own bool) error {
	t, err := ts.reach(root, la, 1, own)
	if err == nil {
		t.set(index(la, 1), entry)
	}
	return err
}

// clear unmaps [lo, hi), which are multiples of a page, under root, where anything is mapped.
func (ts *tables) clear(root *table, lo, hi uint64) error {
	return ts.clearIn(root, root, 0, lo, hi)
}

func (ts *tables) clearIn(root, t *table, base, lo, hi uint64) error {
	step := size(t.level)
	for i := range 512 {
		from := base + uint64(i)*step
		if t == root {
			if from = uint64(i) * step; i >= 256 {
				from |= ^uint64(0) << (12 + 9*t.level)
			}
		}
		last := from + step - 1
		if last < lo || from >= hi || t.get(i)&present == 0 {
			continue
		}
		if from >= lo && last < hi {
			t.set(i, 0)
			delete(t.child, i)
			continue
		}
		c, err := ts.reach(root, from, t.level-1, true)
		if err != nil {
			return err
		}
		if c.level == 0 {
			continue
		}
		if err := ts.clearIn(root, c, from, lo, hi); err != nil {
			return err
		}
	}
	return nil
}

// entry is what root says about the page at la.
func (ts *tables) entry(root *table, la uint64) uint64 {
	_, leaf, _ := ts.mem.walk(root.pa, ts.levels, la)
	return leaf
}
