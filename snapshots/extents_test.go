package snapshots_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
)

// TestExtents compares with a map of single bytes.
func TestExtents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		file := make([]byte, 256)
		for i := range file {
			file[i] = byte(i)
		}
		in := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) snapshots.Extent {
			n := rapid.Uint64Range(0, 40).Draw(t, "size")
			return snapshots.Extent{
				Base: rapid.Uint64Range(0, 100).Draw(t, "base"), Size: n,
				Offset: rapid.Int64Range(-1, 256-int64(n)).Draw(t, "offset"),
			}
		}), 0, 12).Draw(t, "extents")
		want := map[uint64]int64{}
		for _, x := range slices.Backward(in) {
			for i := range x.Size {
				want[x.Base+i] = x.Offset + int64(i)
				if x.Offset < 0 {
					want[x.Base+i] = -1
				}
			}
		}
		e, err := snapshots.NewExtents(slices.Clone(in))
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(file)
		for pa := range uint64(150) {
			var b [1]byte
			err := e.ReadFrom(r, b[:], pa)
			off, ok := want[pa]
			switch {
			case !ok && !errors.Is(err, snapshots.ErrNoMemory), ok && off < 0 && !errors.Is(err, snapshots.ErrNotSaved):
				t.Fatalf("%#x: %v", pa, err)
			case ok && off >= 0 && (err != nil || int64(b[0]) != off):
				t.Fatalf("%#x: %d, %v; want %d", pa, b[0], err, off)
			}
			at, n, ok := e.Mapping(pa)
			if ok != (off >= 0 && want[pa] == off && err == nil) || ok && (at != off || n == 0) {
				t.Fatalf("%#x: mapping %d %d %v", pa, at, n, ok)
			}
		}
		for i := 1; i < len(e); i++ {
			if e[i-1].Base+e[i-1].Size > e[i].Base {
				t.Fatalf("overlap: %v", e)
			}
		}
		ranges := e.Ranges()
		for i := 1; i < len(ranges); i++ {
			if ranges[i-1].Base+ranges[i-1].Size >= ranges[i].Base {
				t.Fatalf("ranges touch: %v", ranges)
			}
		}
	})
	for _, bad := range []snapshots.Extent{{Base: 1, Size: ^uint64(0)}, {Size: 1 << 62, Offset: 1<<63 - 1}} {
		if _, err := snapshots.NewExtents([]snapshots.Extent{bad}); !errors.Is(err, snapshots.ErrCorrupt) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	e, err := snapshots.NewExtents([]snapshots.Extent{{Size: 100, Offset: 50}})
	if err != nil || e.Check(150) != nil || !errors.Is(e.Check(149), snapshots.ErrTruncated) {
		t.Error("Check")
	}
}

func TestNotesOfCPUs(t *testing.T) {
	m := snaptest.Sample()
	var b []byte
	for i, c := range m.CPU {
		for _, n := range snapshots.NotesOfCPU(c, i+1) {
			b = snapshots.AppendNote(b, n)
		}
	}
	b = snapshots.AppendNote(b, m.Note[0])
	notes, err := snapshots.ParseNotes(b, 4)
	if err != nil || string(snapshots.FindNote(notes, "VMCOREINFO")) != string(m.Note[0].Data) {
		t.Fatal(err, notes)
	}
	if got := snapshots.CPUsFromNotes(notes); len(got) != 1 || got[0] != m.CPU[0] {
		t.Errorf("%+v\nwant\n%+v", got, m.CPU)
	}
	// Without QEMU's note, general registers are left.
	c := m.CPU[0]
	c.Has = snapshots.HasGeneral
	notes = snapshots.NotesOfCPU(c, 1)
	got := snapshots.CPUsFromNotes(notes)
	if len(got) != 1 || got[0].GPR != c.GPR || got[0].RIP != c.RIP || got[0].Has != snapshots.HasGeneral || got[0].Seg[snapshots.GS].Base != c.Seg[snapshots.GS].Base {
		t.Errorf("%+v", got)
	}
}

func TestCopyFillsWithZeroes(t *testing.T) {
	m := &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 0, Data: bytes.Repeat([]byte{1}, 4096)}, {Base: 8192, Data: bytes.Repeat([]byte{2}, 4096)}}}
	p := bytes.Repeat([]byte{9}, 12288)
	if err := snapshots.ReadZeroed(m, p, 0); err != nil || p[0] != 1 || p[4096] != 0 || p[8191] != 0 || p[8192] != 2 {
		t.Error(err)
	}
	stop := errors.New("stop")
	if err := snapshots.Copy(m, func(uint64) error { return stop }, func([]byte, uint64, bool, bool) error { return nil }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func FuzzNotes(f *testing.F) {
	for _, n := range snapshots.NotesOfCPU(snaptest.Sample().CPU[0], 1) {
		f.Add(snapshots.AppendNote(nil, n), true)
	}
	f.Fuzz(func(_ *testing.T, b []byte, wide bool) {
		align := 4
		if wide {
			align = 8
		}
		notes, _ := snapshots.ParseNotes(b, align)
		snapshots.CPUsFromNotes(notes)
	})
}
