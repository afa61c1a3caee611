// Package snaptest has what the tests of the snapshot formats share: a snapshot in memory, damage, and the cache of real dumps.
package snaptest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"testing"

	"github.com/hybridbridge/emu/snapshots"
)

// Memory is a snapshot made of byte slices, in ascending order.
type Memory struct {
	Pieces []Piece
	CPU    []snapshots.CPU
	Note   []snapshots.Note
}

// Piece is a range of memory with its content.
type Piece struct {
	Base uint64
	Data []byte
}

// Format implements snapshots.Snapshot.
func (m *Memory) Format() string { return "memory" }

// Ranges implements snapshots.Snapshot.
func (m *Memory) Ranges() []snapshots.Range {
	var out []snapshots.Range
	for _, p := range m.Pieces {
		out = snapshots.AppendRange(out, p.Base, uint64(len(p.Data)))
	}
	return out
}

// CPUs implements snapshots.Snapshot.
func (m *Memory) CPUs() []snapshots.CPU { return m.CPU }

// Notes implements snapshots.Snapshot.
func (m *Memory) Notes() []snapshots.Note { return m.Note }

// Close implements snapshots.Snapshot.
func (m *Memory) Close() error { return nil }

// ReadPhysical implements snapshots.Reader.
func (m *Memory) ReadPhysical(p []byte, pa uint64) error {
	for len(p) > 0 {
		i := sort.Search(len(m.Pieces), func(i int) bool { return m.Pieces[i].Base+uint64(len(m.Pieces[i].Data)) > pa })
		if i == len(m.Pieces) || pa < m.Pieces[i].Base {
			return snapshots.ErrNoMemory
		}
		n := copy(p, m.Pieces[i].Data[pa-m.Pieces[i].Base:])
		p, pa = p[n:], pa+uint64(n)
	}
	return nil
}

// Pages returns n pages, of which some are zero, some repetitive and some random.
func Pages(n int, seed uint64) []byte {
	b := make([]byte, n*4096)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for p := b; len(p) > 0; p = p[4096:] {
		switch rnd.IntN(3) {
		case 1:
			for i := range 4096 {
				p[i] = byte(i >> 3)
			}
		case 2:
			for i := range 4096 {
				p[i] = byte(rnd.Uint32())
			}
		}
	}
	return b
}

// Sample is a machine with memory in three places and a processor.
func Sample() *Memory {
	c := snapshots.CPU{
		Has: snapshots.HasGeneral | snapshots.HasControl | snapshots.HasSegments | snapshots.HasKernelGSBase,
		RIP: 0xffffffff81000123, RFLAGS: 0x246, CR0: 0x80050033, CR2: 7, CR3: 0x2974000, CR4: 0x6b0, KernelGSBase: 0xffff888000000000,
		GDTR: snapshots.Table{Base: 0xfffffe0000001000, Limit: 127}, IDTR: snapshots.Table{Base: 0xfffffe0000000000, Limit: 4095},
	}
	for i := range c.GPR {
		c.GPR[i] = 0x1111_0000_0000_0000 + uint64(i)
	}
	for i := range c.Seg {
		c.Seg[i] = snapshots.Segment{Selector: uint16(8 * i), Base: uint64(i) << 40, Limit: 0xffffffff, Attributes: 0xa09b00}
	}
	c.TR = snapshots.Segment{Selector: 0x40, Base: 0xfffffe0000003000, Limit: 0x206f}
	return &Memory{
		Pieces: []Piece{{0, Pages(8, 1)}, {0x100000, Pages(40, 2)}, {1 << 32, Pages(5, 3)}},
		CPU:    []snapshots.CPU{c},
		Note:   []snapshots.Note{{Name: "VMCOREINFO", Data: []byte("OSRELEASE=6.1.0\n")}},
	}
}

// Same fails the test unless both have the same ranges and memory.
func Same(t testing.TB, got, want snapshots.Snapshot) {
	t.Helper()
	a, b := got.Ranges(), want.Ranges()
	if len(a) != len(b) {
		t.Fatalf("ranges %v, want %v", a, b)
	}
	for i, r := range b {
		if a[i] != r {
			t.Fatalf("ranges %v, want %v", a, b)
		}
		SameMemory(t, got, want, r)
	}
}

// SameMemory fails the test unless both have the same memory in a range.
func SameMemory(t testing.TB, got, want snapshots.Reader, r snapshots.Range) {
	t.Helper()
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := uint64(0); off < r.Size; off += uint64(len(p)) {
		n := min(uint64(len(p)), r.Size-off)
		if err := errors.Join(got.ReadPhysical(p[:n], r.Base+off), want.ReadPhysical(q[:n], r.Base+off)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p[:n], q[:n]) {
			for i := range n {
				if p[i] != q[i] {
					t.Fatalf("memory differs at %#x: %#x, want %#x", r.Base+off+i, p[i], q[i])
				}
			}
		}
	}
}

// Opener opens a file that is in memory.
type Opener func(r io.ReaderAt, size int64) (snapshots.Snapshot, error)

// Exercise opens a file and uses it; errors are fine, panics and hangs are not. It returns the first error.
func Exercise(b []byte, open Opener) error {
	s, err := open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	defer s.Close()
	_, _ = s.CPUs(), s.Notes()
	p := make([]byte, 5000)
	for i, r := range s.Ranges() {
		if i > 200 {
			break
		}
		step := max(4096, r.Size/64&^4095)
		for off, n := uint64(0), 0; off < r.Size && n < 70; off, n = off+step, n+1 {
			err = errors.Join(err, s.ReadPhysical(p[:min(uint64(len(p)), r.Size-off)], r.Base+off))
		}
		if m, ok := s.(snapshots.Mapper); ok {
			if off, n, ok := m.Mapping(r.Base); ok && (off < 0 || n == 0 || uint64(off)+n > uint64(len(b))) {
				return errors.New("mapping leads out of the file")
			}
		}
	}
	_ = s.ReadPhysical(p, ^uint64(0)-100)
	return err
}

// Damage cuts a file short in many places, and flips bits, mostly near its start and end, where headers are. Every cut must be
// noticed when the file is opened or read; flips must only not be fatal.
func Damage(t *testing.T, good []byte, open Opener) {
	t.Helper()
	if err := Exercise(good, open); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(good); n += 1 + len(good)/200 {
		if err := Exercise(good[:n], open); err == nil {
			t.Fatalf("%d of %d bytes are taken for a whole file", n, len(good))
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		bad := bytes.Clone(good)
		for range 1 + rnd.IntN(3) {
			at := rnd.IntN(len(bad))
			switch rnd.IntN(4) {
			case 0, 1:
				at = rnd.IntN(min(len(bad), 1024))
			case 2:
				at = len(bad) - 1 - rnd.IntN(min(len(bad), 512))
			}
			switch rnd.IntN(3) {
			case 0:
				bad[at] ^= 1 << rnd.IntN(8)
			case 1:
				bad[at] = 0xff
			case 2:
				for i := at; i < min(len(bad), at+8); i++ {
					bad[i] = 0xff * byte(rnd.IntN(2))
				}
			}
		}
		_ = Exercise(bad, open)
	}
}

// Fuzz runs a fuzzer with a good file as its seed.
func Fuzz(f *testing.F, good []byte, open Opener) {
	f.Add(good)
	f.Add(good[:min(len(good), 4096)])
	f.Fuzz(func(_ *testing.T, b []byte) { _ = Exercise(b, open) })
}

// Open makes an Opener of a format's New.
func Open[T snapshots.Snapshot](newFile func(io.ReaderAt, int64) (T, error)) Opener {
	return func(r io.ReaderAt, size int64) (snapshots.Snapshot, error) {
		s, err := newFile(r, size)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// Real returns the folder of real dumps that a test needs, or skips it.
func Real(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("SNAPSHOTS")
	if cache, err := os.UserCacheDir(); dir == "" && err == nil {
		if d := filepath.Join(cache, "emu", "snapshots"); exists(d) {
			dir = d
		}
	}
	if dir == "" {
		t.Skip("no real dumps: neither $SNAPSHOTS nor emu/snapshots in the user's cache (make snapshots makes them)")
	}
	if name != "" && !exists(filepath.Join(dir, name, "manifest.txt")) {
		t.Skipf("no real dump %s in %s (make snapshot-%s makes it)", name, dir, name)
	}
	return filepath.Join(dir, name)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
