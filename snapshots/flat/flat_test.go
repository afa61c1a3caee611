package flat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/snapshots"
)

type piece struct {
	at   int
	data []byte
}

func flatten(pieces []piece) []byte {
	be := binary.BigEndian
	b := make([]byte, headerSize)
	copy(b, signature)
	be.PutUint64(b[16:], 1)
	be.PutUint64(b[24:], 1)
	for _, p := range pieces {
		b = be.AppendUint64(b, uint64(p.at))
		b = be.AppendUint64(b, uint64(len(p.data)))
		b = append(b, p.data...)
	}
	return be.AppendUint64(be.AppendUint64(b, ^uint64(0)), ^uint64(0))
}

func TestReadAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) piece {
			return piece{
				rapid.IntRange(0, 500).Draw(t, "at"),
				rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
			}
		}), 1, 20).Draw(t, "pieces")
		var want []byte
		for _, p := range pieces {
			if n := p.at + len(p.data); n > len(want) {
				want = append(want, make([]byte, n-len(want))...)
			}
			copy(want[p.at:], p.data)
		}
		b := flatten(pieces)
		f, err := New(bytes.NewReader(b), int64(len(b)))
		if err != nil || f.Size() != int64(len(want)) {
			t.Fatal(err, f.Size(), len(want))
		}
		got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v\n% x\n% x", err, got, want)
		}
		if off := rapid.IntRange(0, len(want)).Draw(t, "off"); off < len(want) {
			p := make([]byte, rapid.IntRange(0, len(want)-off).Draw(t, "n"))
			if _, err := f.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, want[off:][:len(p)]) {
				t.Fatal(err)
			}
		}
	})
}

func TestDamage(t *testing.T) {
	b := flatten([]piece{{0, make([]byte, 100)}, {50, make([]byte, 100)}})
	for n := range len(b) {
		if _, err := New(bytes.NewReader(b[:n]), int64(n)); !errors.Is(err, snapshots.ErrTruncated) && !errors.Is(err, snapshots.ErrFormat) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func FuzzNew(f *testing.F) {
	f.Add(flatten([]piece{{0, make([]byte, 100)}, {50, make([]byte, 100)}}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if f, err := New(bytes.NewReader(b), int64(len(b))); err == nil {
			_, _ = f.ReadAt(make([]byte, 1000), f.Size()/2)
		}
	})
}
