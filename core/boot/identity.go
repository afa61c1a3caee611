package boot

import "encoding/binary"

const (
	identityGiB = 4 // how much memory the 64-bit entry state maps from 0

	// Two top levels, three page-directory-pointer tables, and a directory for each GiB: from 0, and two for a kernel above.
	identityPages = 2 + 3 + identityGiB + 2
)

// identity makes the page tables of the 64-bit entry.
type identity struct {
	base uint64
	b    []byte
}

// identityTables returns page tables, to be placed at base, that map the first identityGiB and the kernel at
// [kernel, kernelEnd) one to one, with 2 MiB pages.
func identityTables(base, kernel, kernelEnd uint64, la57 bool) []byte {
	t := &identity{base: base}
	levels := 4
	if la57 {
		levels = 5
	}
	t.table()
	for g := range uint64(identityGiB) {
		t.gib(g, levels)
	}
	for g := max(kernel>>30, identityGiB); g<<30 < kernelEnd; g++ {
		t.gib(g, levels)
	}
	return t.b
}

// table appends an empty table and returns its index.
func (t *identity) table() int {
	t.b = append(t.b, make([]byte, 4096)...)
	return len(t.b)/4096 - 1
}

// gib maps the GiB number g.
func (t *identity) gib(g uint64, levels int) {
	const rw, large = 3, 0x83
	table := 0
	for shift := 9 * (levels - 2); shift >= 9; shift -= 9 {
		// Entries of the top level are 512 GiB (4 levels) or 256 TiB (5 levels) each.
		table = t.next(table, int(g>>(shift-9)&511), rw)
	}
	for i := range uint64(512) {
		binary.LittleEndian.PutUint64(t.b[table*4096+int(i)*8:], g<<30|i<<21|large)
	}
}

// next returns the table that an entry of a table points to, which it makes if there is none.
func (t *identity) next(table, index int, flags uint64) int {
	at := table*4096 + index*8
	if e := binary.LittleEndian.Uint64(t.b[at:]); e != 0 {
		return int(e&^0xfff-t.base) / 4096
	}
	n := t.table()
	binary.LittleEndian.PutUint64(t.b[at:], t.base+uint64(n)*4096|flags)
	return n
}
