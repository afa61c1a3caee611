package fastbridge

import (
	"testing"

	"pgregory.net/rapid"
)

// rig is tables over a little memory, with a kernel's own tables in it.
func rig(levels int) (*tables, *table) {
	p := &pool{base: 1 << 30, mem: make([]byte, 8<<20)}
	mem := func(pa uint64) *[4096]byte {
		if pa < p.base || pa >= p.base+uint64(len(p.mem)) {
			return nil
		}
		return (*[4096]byte)(p.mem[pa-p.base&^0xfff:])
	}
	ts := &tables{p, mem, levels}
	root, _ := ts.table(levels, nil)
	return ts, root
}

// TestTables: a root maps what was put into it and not cleared since; what it shares with the root that it came from stays
// as it was there unless both are meant.
func TestTables(t *testing.T) {
	lines := rapid.Custom(func(t *rapid.T) uint64 {
		base := rapid.SampledFrom([]uint64{0xffff888000000000, 0xffffffff81000000, 0xffffc90000000000}).Draw(t, "region")
		return base + rapid.Uint64Range(0, 1200).Draw(t, "page")<<12
	})
	rapid.Check(t, func(t *rapid.T) {
		ts, base := rig(rapid.SampledFrom([]int{4, 5}).Draw(t, "levels"))
		// The base has a large page, as kernels do.
		pmd, err := ts.reach(base, 0xffffffff81000000, 2, false)
		if err != nil {
			t.Fatal(err)
		}
		pmd.set(index(0xffffffff81000000, 2), 0x40000000|present|writable|large|global)
		want := map[uint64]uint64{}
		for i := range uint64(512) {
			want[0xffffffff81000000+i<<12] = 0x40000000 + i<<12
		}
		pa, page, err := ts.pool.take(1)
		if err != nil {
			t.Fatal(err)
		}
		own := base.copyTo(pages{pa, page})
		baseWant := map[uint64]uint64{}
		for la, pa := range want {
			baseWant[la] = pa
		}
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			la := lines.Draw(t, "la")
			if rapid.Bool().Draw(t, "clear") {
				hi := la + rapid.Uint64Range(1, 700).Draw(t, "pages")<<12
				if err := ts.clear(own, la, hi); err != nil {
					t.Fatal(err)
				}
				for at := range want {
					if at >= la && at < hi {
						delete(want, at)
					}
				}
				continue
			}
			pa := rapid.Uint64Range(1, 1<<20).Draw(t, "pa") << 12
			if err := ts.put(own, la, pa|present, true); err != nil {
				t.Fatal(err)
			}
			want[la] = pa
		}
		for root, want := range map[*table]map[uint64]uint64{own: want, base: baseWant} {
			for range 200 {
				la := lines.Draw(t, "look")
				check(t, ts, root, want, la)
			}
			for la := range want {
				check(t, ts, root, want, la)
			}
		}
	})
}

func check(t *rapid.T, ts *tables, root *table, want map[uint64]uint64, la uint64) {
	pa, leaf, ok := ts.mem.walk(root.pa, ts.levels, la|0x123)
	if w, mapped := want[la]; ok != mapped || ok && pa != w|0x123 {
		t.Fatalf("%#x leads to %#x (%v), want %#x (%v)", la, pa, ok, w, mapped)
	}
	if ok && leaf&global != 0 && leaf&large == 0 {
		t.Fatalf("the piece of a large page at %#x is global", la)
	}
}

func TestPoolEnds(t *testing.T) {
	p := &pool{mem: make([]byte, 3*4096)}
	if _, _, err := p.take(4); err == nil {
		t.Error("more than there is")
	}
	if _, b, err := p.take(3); err != nil || len(b) != 3*4096 {
		t.Error(err)
	}
	if _, _, err := p.take(1); err == nil {
		t.Error("a page of nothing")
	}
}
