package lime

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
)

func sample(t testing.TB) (*snaptest.Memory, []byte) {
	m := snaptest.Sample()
	var b bytes.Buffer
	if err := Write(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return m, b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	m, b := sample(t)
	f, err := New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	snaptest.Same(t, f, m)
	// The header's last address is inclusive.
	if b[16] != 0xff || b[17] != 0x7f || b[18] != 0x00 {
		t.Errorf("% x", b[:32])
	}
	if off, n, ok := f.Mapping(0x100010); !ok || off != 32+8*4096+32+16 || n != 40*4096-16 {
		t.Error(off, n)
	}
}

func TestRangesInAnyOrder(t *testing.T) {
	m, b := sample(t)
	first := 32 + 8*4096
	swapped := append(bytes.Clone(b[first:]), b[:first]...)
	f, err := New(bytes.NewReader(swapped), int64(len(swapped)))
	if err != nil {
		t.Fatal(err)
	}
	snaptest.Same(t, f, m)
}

func TestDamage(t *testing.T) {
	_, b := sample(t)
	open := snaptest.Open(New)
	for n := 1; n < len(b); n += 999 {
		err := snaptest.Exercise(b[:n], open)
		first := 32 + 8*4096
		if whole := n == first || n == first+32+40*4096; err == nil != whole {
			t.Fatalf("%d bytes: %v", n, err)
		} else if err != nil && !errors.Is(err, snapshots.ErrTruncated) {
			t.Fatal(err)
		}
	}
	snaptest.Damage(t, b, open)
}

func FuzzNew(f *testing.F) {
	_, b := sample(f)
	snaptest.Fuzz(f, b, snaptest.Open(New))
}
