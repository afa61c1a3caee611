package avml

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/klauspost/compress/snappy"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
)

// write makes a file as avml --compress does: blocks of at most block bytes, each a snappy stream of frames.
func write(t testing.TB, m *snaptest.Memory, block int) []byte {
	le := binary.LittleEndian
	var out []byte
	for _, p := range m.Pieces {
		for off := 0; off < len(p.Data); off += block {
			d := p.Data[off:min(off+block, len(p.Data))]
			out = le.AppendUint32(le.AppendUint32(out, magic), version)
			for _, v := range []uint64{p.Base + uint64(off), p.Base + uint64(off+len(d)) - 1, 0} {
				out = le.AppendUint64(out, v)
			}
			var b bytes.Buffer
			w := snappy.NewBufferedWriter(&b)
			if _, err := w.Write(d); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			out = append(out, b.Bytes()...)
			out = le.AppendUint64(out, uint64(b.Len()))
		}
	}
	return out
}

func TestRead(t *testing.T) {
	m := snaptest.Sample()
	for _, block := range []int{4096, 100 << 10, 16 << 20} {
		b := write(t, m, block)
		f, err := New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		snaptest.Same(t, f, m)
		p := make([]byte, 3)
		if err := f.ReadPhysical(p, 0x100000-1); !errors.Is(err, snapshots.ErrNoMemory) {
			t.Error(err)
		}
	}
}

func TestDamage(t *testing.T) {
	b := write(t, snaptest.Sample(), 100<<10)
	snaptest.Damage(t, b, snaptest.Open(New))
	// Every flipped bit of the content is noticed, by the frames' checksums.
	b[200] ^= 4
	if err := snaptest.Exercise(b, snaptest.Open(New)); !errors.Is(err, snapshots.ErrCorrupt) {
		t.Error(err)
	}
}

func FuzzNew(f *testing.F) {
	m := &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 4096, Data: snaptest.Pages(3, 1)}}}
	snaptest.Fuzz(f, write(f, m, 8192), snaptest.Open(New))
}
