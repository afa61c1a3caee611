package slowbridge

import (
	"testing"

	"github.com/hybridbridge/emu/cpu"
)

func TestReferee(t *testing.T) {
	const direct, pages, above = 0xffff888000000000, 0xffffea0000000000, 64 << 30
	r := &referee{
		Owners: &Owners{direct, pages, 64, above}, sites: map[judged]*verdict{},
		context: func() []cpu.Frame { return []cpu.Frame{{Return: 7}, {Return: 8}} },
	}
	for _, c := range []struct {
		la              uint64
		why             cpu.Reasons
		snapshot, local uint64 // counted so
		wrong           bool
	}{
		{direct + 1<<20 - 1, cpu.ByTaint, 0, 0, false}, // in both machines
		{direct + 1<<20, cpu.ByTaint, 1, 0, false},
		{direct + 1<<20, cpu.ByDefault, 1, 0, true},
		{direct + above - 1, cpu.BySubtree, 1, 0, true},
		{direct + above - 1, cpu.ByRoot, 1, 0, false},
		{direct + above, cpu.ByDefault, 0, 1, false},
		{direct + above, cpu.ByStack, 0, 1, false},
		{direct + above, cpu.ByTaint, 0, 1, true},
		{direct + 1<<40, cpu.ByTaint, 0, 0, false}, // beyond all memory
		{direct - 1, cpu.ByTaint, 0, 0, false},
		{pages + 255*64, cpu.ByTaint, 0, 0, false},
		{pages + 256*64, cpu.ByTaint, 1, 0, false},
		{pages + above/4096*64 - 1, cpu.ByDefault, 1, 0, true},
		{pages + above/4096*64, cpu.ByDefault, 0, 1, false},
		{pages + above/4096*64, cpu.ByTaint, 0, 1, true},
		{0xffffc90000000000, cpu.ByDefault, 0, 0, false}, // vmalloc
		{0xffffffff82000000, cpu.ByTaint, 0, 0, false},
	} {
		before := r.layout
		r.check(c.la, c.la, c.why)
		l := r.layout
		if l.Snapshot-before.Snapshot != c.snapshot || l.Local-before.Local != c.local || l.Wrong-before.Wrong != 1 == c.wrong {
			t.Errorf("%#x, %v: %+v after %+v", c.la, c.why, l, before)
		}
		if v := r.sites[judged{c.la, c.why}]; (v != nil) != c.wrong || c.wrong && *v != (verdict{c.la, 7, 1}) {
			t.Errorf("%#x, %v: %+v", c.la, c.why, v)
		}
	}
}
