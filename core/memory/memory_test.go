package memory

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t testing.TB, layout []Range) *Memory {
	t.Helper()
	m, err := New(layout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestAccess(t *testing.T) {
	m := open(t, []Range{{0, 0x2000, RAM}, {0x2000, 0x1000, ROM}, {0x3000, 0x1000, RAM}, {0x10000, 0x1000, RAM}})
	var hooked [][2]uint64
	m.OnWrite(func(pa uint64, n int) { hooked = append(hooked, [2]uint64{pa, uint64(n)}) })
	data := bytes.Repeat([]byte{1, 2, 3}, 100)
	if !m.WriteAt(data, 0xfc0) {
		t.Fatal("write across pages")
	}
	got := make([]byte, len(data))
	if !m.ReadAt(got, 0xfc0) || !bytes.Equal(got, data) {
		t.Fatal("read back")
	}
	if len(hooked) != 1 || hooked[0] != [2]uint64{0xfc0, 300} {
		t.Fatal(hooked)
	}
	for _, c := range []struct {
		pa uint64
		n  int
		rd bool
		wr bool
	}{
		{0x1fff, 1, true, true},
		{0x1fff, 2, true, false},
		{0x1fff, 0x1002, true, false},
		{0x3fff, 1, true, true},
		{0x3fff, 2, false, false},
		{0x4000, 1, false, false},
		{0xffff, 2, false, false},
		{0x10fff, 1, true, true},
		{0x11000, 1, false, false},
		{^uint64(0), 1, false, false},
		{^uint64(0), 2, false, false},
		{0, 0, true, true},
	} {
		p := make([]byte, c.n)
		if m.ReadAt(p, c.pa) != c.rd || m.WriteAt(p, c.pa) != c.wr {
			t.Errorf("%#x+%d: want read %v, write %v", c.pa, c.n, c.rd, c.wr)
		}
	}
	if m.Page(0x2000) != nil || m.ReadPage(0x2000) == nil || m.Page(0x4000) != nil || m.Page(^uint64(0)) != nil {
		t.Error("Page")
	}
	if err := m.SetROM([]byte{9}, 0x2fff); err != nil || m.ReadPage(0x2fff)[0xfff] != 9 {
		t.Error("SetROM", err)
	}
	m.Page(0x10123)[0x123] = 7
	if r := m.Regions()[3]; m.Bytes()[r.Offset+0x123] != 7 {
		t.Error("Regions offsets")
	}
}

func TestLayouts(t *testing.T) {
	total := func(l []Range, err error) (sum uint64) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		m := open(t, l)
		for _, r := range m.Ranges() {
			if r.Base < PCIHoleEnd && r.End() > PCIHole {
				t.Errorf("%#x+%#x is in the hole", r.Base, r.Size)
			}
		}
		return m.Usable()
	}
	if n := total(Flat(512<<20, Options{})); n != 511<<20+LowEnd {
		t.Errorf("%#x", n)
	}
	if n := total(Flat(5<<30, Options{VGARAM: true})); n != 5<<30-1<<20+LowEnd {
		t.Errorf("%#x", n)
	}
	l, err := Disjoint(1<<30, 0xb000_0001, Options{})
	if n := total(l, err); n != 1<<30+LowEnd {
		t.Errorf("%#x", n)
	}
	for _, r := range l {
		if r.Kind == RAM && r.Base >= HighBase && r.Base < 0xb020_0000 {
			t.Errorf("%#x is usable", r.Base)
		}
	}
	if l, _ := Disjoint(1<<30, 0xd000_0000, Options{}); l[len(l)-1].Base != PCIHoleEnd {
		t.Error("RAM in the hole")
	}
	for _, f := range []func() ([]Range, error){
		func() ([]Range, error) { return Flat(1<<20, Options{}) },
		func() ([]Range, error) { return Flat(1<<60, Options{}) },
		func() ([]Range, error) { return Disjoint(1<<20, 1<<30, Options{}) },
		func() ([]Range, error) { return Disjoint(1<<30, ^uint64(0), Options{}) },
		func() ([]Range, error) { return Disjoint(1<<30, 0, Options{}) },
	} {
		if _, err := f(); err == nil {
			t.Error("no error")
		}
	}
	for _, l := range [][]Range{nil, {{1, 4096, RAM}}, {{0, 0, RAM}}, {{0, 8192, RAM}, {4096, 4096, RAM}}, {{1 << 45, 1 << 60, RAM}}} {
		if _, err := New(l); err == nil {
			t.Error("no error for", l)
		}
	}
}

func BenchmarkPage(b *testing.B) {
	l, _ := Flat(512<<20, Options{})
	m := open(b, l)
	var sum byte
	for i := range b.N {
		sum += m.Page(HighBase + uint64(i)*4096%(500<<20))[0]
	}
	_ = sum
}

func TestMapPrivate(t *testing.T) {
	ranges := []Range{{Base: 0, Size: 4 * PageSize, Kind: RAM}, {Base: 4 * PageSize, Size: 2 * PageSize, Kind: ROM}}
	m, err := New(ranges)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := bytes.Repeat([]byte("memory "), 3*PageSize/7+1)[:3*PageSize]
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	told := 0
	m.OnWrite(func(_ uint64, n int) { told += n })
	if !m.WriteAt([]byte("before"), 2*PageSize) {
		t.Fatal("memory cannot be written")
	}
	told = 0
	if err := m.MapPrivate(f, PageSize, 3*PageSize, 2*PageSize); err != nil { // across RAM and ROM
		t.Fatal(err)
	}
	p := make([]byte, 2*PageSize)
	if !m.ReadAt(p, 3*PageSize) || !bytes.Equal(p, content[PageSize:]) || told != 2*PageSize {
		t.Errorf("other memory than the file's, or %d bytes told", told)
	}
	if !m.WriteAt([]byte("after"), 3*PageSize) || !m.ReadAt(p[:6], 2*PageSize) || string(p[:6]) != "before" {
		t.Error("the page before was replaced")
	}
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, content) {
		t.Error("the file has been written to")
	}
	for _, bad := range [][3]uint64{{1, 0, PageSize}, {0, 1, PageSize}, {0, 0, 1}, {0, 6 * PageSize, PageSize}, {0, 5 * PageSize, 2 * PageSize}} {
		if err := m.MapPrivate(f, int64(bad[0]), bad[1], bad[2]); err == nil {
			t.Errorf("%v is mapped", bad)
		}
	}
}

// Pages that are copied before they are written have the file's contents, and are those of which is known that they are copies.
func TestCopied(t *testing.T) {
	m := open(t, []Range{{0, 16 * PageSize, RAM}, {1 << 20, 4 * PageSize, RAM}})
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := bytes.Repeat([]byte{7}, 14*PageSize)
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.MapPrivate(f, 0, 2*PageSize, 12*PageSize), m.MapPrivate(f, 12*PageSize, 1<<20, 2*PageSize)); err != nil {
		t.Fatal(err)
	}
	check := func(want ...Range) {
		t.Helper()
		if got, err := m.Copied(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, not %v: %v", got, want, err)
		}
	}
	p := make([]byte, 12*PageSize)
	if !m.ReadAt(p, 2*PageSize) || !m.WriteAt([]byte{1}, 0) {
		t.Fatal("no memory")
	}
	check()
	for _, pa := range []uint64{3 * PageSize, 5*PageSize - 1, 1<<20 + 1} {
		if !m.WriteAt([]byte{8}, pa) {
			t.Fatal("no memory")
		}
	}
	written := []Range{{Base: 3 * PageSize, Size: 2 * PageSize}, {Base: 1 << 20, Size: PageSize}}
	check(written...)
	// What is not of the file is left out, whoever says it.
	more := []Range{{Base: 0, Size: 3 * PageSize}, {Base: 8 * PageSize, Size: PageSize}, {Base: 1 << 30, Size: PageSize}, {Base: 9*PageSize + 1, Size: 8}}
	switch err := m.Copy(more); {
	case errors.Is(err, unix.EINVAL):
		t.Skip("MADV_POPULATE_WRITE needs Linux 5.14")
	case err != nil:
		t.Fatal(err)
	}
	check(Range{Base: 2 * PageSize, Size: 3 * PageSize}, Range{Base: 8 * PageSize, Size: PageSize}, written[1])
	want := bytes.Clone(content[:12*PageSize])
	want[PageSize], want[3*PageSize-1] = 8, 8
	if !m.ReadAt(p, 2*PageSize) || !bytes.Equal(p, want) {
		t.Error("a copy has another content")
	}
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, content) {
		t.Error("the file has been written to")
	}
}
