package raw

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
)

func TestRoundTrip(t *testing.T) {
	m := snaptest.Sample()
	w, err := os.Create(filepath.Join(t.TempDir(), "m.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := Write(w, m, nil); err != nil {
		t.Fatal(err)
	}
	st, err := w.Stat()
	if err != nil || st.Size() != 1<<32+5*4096 {
		t.Fatal(err, st.Size())
	}
	f, err := New(w, st.Size(), snapshots.Range{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range m.Ranges() {
		snaptest.SameMemory(t, f, m, r)
	}
	b := []byte{1}
	if err := f.ReadPhysical(b, 0x9000); err != nil || b[0] != 0 {
		t.Error("a gap does not read as zero")
	}
	high := &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 1 << 60, Data: make([]byte, 4096)}}}
	if err := Write(w, high, nil); err == nil {
		t.Error("no error for memory at 2^60")
	}
}

func TestHole(t *testing.T) {
	b := snaptest.Pages(16, 4)
	m := &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 0, Data: b[:8*4096]}, {Base: HoleEnd, Data: b[8*4096:]}}}
	name := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := New(r, int64(len(b)), snapshots.Range{Base: 8 * 4096, Size: HoleEnd - 8*4096})
	if err != nil {
		t.Fatal(err)
	}
	snaptest.Same(t, f, m)
	if err := f.ReadPhysical(make([]byte, 1), 8*4096); !errors.Is(err, snapshots.ErrNoMemory) {
		t.Error(err)
	}
	// A hole past the end changes nothing.
	if f, err = New(r, int64(len(b)), snapshots.Range{Base: 1 << 30, Size: 4096}); err != nil || len(f.Ranges()) != 1 {
		t.Error(err)
	}
	for _, bad := range []snapshots.Range{{Base: 1, Size: 4096}, {Base: 4096, Size: ^uint64(4095)}} {
		if _, err := New(r, int64(len(b)), bad); err == nil {
			t.Errorf("no error for hole %v", bad)
		}
	}
	if _, err := New(r, 100, snapshots.Range{}); !errors.Is(err, snapshots.ErrFormat) {
		t.Error(err)
	}
}
