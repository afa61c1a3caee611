package native

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// sample makes memory with empty, repetitive and random chunks.
func sample(size int, seed uint64) []byte {
	m := make([]byte, size)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for off := 0; off < size; off += 4096 {
		p := m[off:min(off+4096, size)]
		switch rnd.IntN(3) {
		case 1:
			for i := range p {
				p[i] = byte(i)
			}
		case 2:
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
		}
	}
	return m
}

func writeSample(t testing.TB, path string) (Header, []byte) {
	h := Header{
		Arch:     "x86",
		Ranges:   []Range{{0, 0x9f000, "ram"}, {0x100000, 3<<20 + 4096, "ram"}, {1 << 32, 1 << 20, "ram"}},
		Sections: []Section{{"cpu", json.RawMessage(`{"RIP":4096}`)}, {"pic", json.RawMessage(`[1,2]`)}},
	}
	mem := sample(1<<22, 7)
	if err := Write(path, h, func(p []byte, pa uint64) error { copy(p, mem[pa%(1<<22):]); return nil }); err != nil {
		t.Fatal(err)
	}
	return h, mem
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.emu")
	h, mem := writeSample(t, path)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := string(f.Header.Section("cpu")); got != `{"RIP":4096}` {
		t.Errorf("cpu section %s", got)
	}
	if f.Header.Section("none") != nil {
		t.Error("a section that is not there")
	}
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.SampledFrom(h.Ranges).Draw(t, "range")
		off := rapid.Uint64Range(0, r.Size-1).Draw(t, "off")
		p := make([]byte, rapid.Uint64Range(0, min(200000, r.Size-off)).Draw(t, "n"))
		if err := f.ReadPhysical(p, r.Base+off); err != nil {
			t.Fatal(err)
		}
		if pa := (r.Base + off) % (1 << 22); !bytes.Equal(p, mem[pa:][:len(p)]) {
			t.Fatal("memory differs")
		}
	})
	if err := f.ReadPhysical(make([]byte, 8), 0x9effc); !errors.Is(err, ErrNoMemory) {
		t.Errorf("reading into a hole: %v", err)
	}
}

// TestEveryTruncationIsRefused cuts the file at many lengths, and flips bytes all over.
func TestDamageIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.emu")
	_, _ = writeSample(t, path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(good); n += 1 + len(good)/300 {
		if _, err := NewFile(bytes.NewReader(good[:n]), int64(n)); err == nil {
			t.Fatalf("%d of %d bytes load", n, len(good))
		}
	}
	want, err := readAll(good)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		bad := bytes.Clone(good)
		at := rnd.IntN(len(bad))
		bad[at] ^= 1 << rnd.IntN(8)
		// There are bits in compressed data on which nothing hangs.
		if got, err := readAll(bad); err == nil && !bytes.Equal(got, want) {
			t.Fatalf("a flipped bit at %d goes unnoticed", at)
		}
	}
}

func readAll(b []byte) (mem []byte, err error) {
	f, err := NewFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, r := range f.Header.Ranges {
		p := make([]byte, r.Size)
		for off := uint64(0); off < r.Size; off += ChunkSize {
			if err := f.ReadPhysical(p[off:min(off+ChunkSize, r.Size)], r.Base+off); err != nil {
				return nil, err
			}
		}
		mem = append(mem, p...)
	}
	return mem, nil
}

func TestAFailedSaveLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.emu")
	h := Header{Arch: "x86", Ranges: []Range{{0, 1 << 20, "ram"}}}
	boom := errors.New("boom")
	if err := Write(path, h, func([]byte, uint64) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("err = %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := Write(filepath.Join(dir, "no", "dir"), h, nil); err == nil {
		t.Error("no error for a missing folder")
	}
}

func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "s.emu")
	h := Header{Arch: "x86", Ranges: []Range{{0, 8192, "ram"}}}
	if err := Write(path, h, func(p []byte, _ uint64) error { p[5] = 1; return nil }); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := NewFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer s.Close()
		p := make([]byte, 4096)
		for _, r := range s.Header.Ranges[:min(4, len(s.Header.Ranges))] {
			_ = s.ReadPhysical(p, r.Base)
		}
	})
}

func TestPlainRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.emu")
	h, mem := writeSample(t, path)
	if f, err := Open(path); err != nil {
		t.Fatal(err)
	} else {
		if file, _ := f.Extents(); file != nil {
			t.Error("a compressed snapshot can be mapped")
		}
		f.Close()
	}
	if err := WritePlain(path, h, func(p []byte, pa uint64) error { copy(p, mem[pa%(1<<22):]); return nil }); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, extents := f.Extents()
	if file == nil {
		t.Fatal("a plain snapshot cannot be mapped")
	}
	for _, r := range h.Ranges {
		want, got := make([]byte, r.Size), make([]byte, r.Size) // zero where no extent is
		for off := range want {
			want[off] = mem[(r.Base+uint64(off))%(1<<22)]
		}
		for _, e := range extents {
			if e.Offset%4096 != 0 {
				t.Fatalf("an extent at %#x", e.Offset)
			}
			if e.Base >= r.Base && e.Base < r.Base+r.Size {
				if _, err := file.ReadAt(got[e.Base-r.Base:][:e.Size], e.Offset); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !bytes.Equal(want, got) {
			t.Errorf("what is mapped at %#x differs", r.Base)
		}
		p := make([]byte, r.Size)
		if err := f.ReadPhysical(p, r.Base); err != nil || !bytes.Equal(want, p) {
			t.Errorf("what is read at %#x differs: %v", r.Base, err)
		}
	}
}

// TestVersion1: a file whose index has the chunks in JSON is read.
func TestVersion1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.emu")
	writeSample(t, path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := binary.LittleEndian.Uint64(b[len(b)-trailerSize:])
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.NewBuffer(b[:at])
	ix := index{Header: f.Header, Chunks: f.chunks}
	ix.Header.Version = 1
	if err := writeIndex(old, enc, ix, int64(at)); err != nil {
		t.Fatal(err)
	}
	g, err := NewFile(bytes.NewReader(old.Bytes()), int64(old.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.chunks, f.chunks) {
		t.Errorf("%v, want %v", g.chunks, f.chunks)
	}
	want, err := readAll(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(old.Bytes()); err != nil || !bytes.Equal(got, want) {
		t.Error("other memory", err)
	}
}

// TestCutPlaces: an index without its places is the rest of it, and other text stays as it is.
func TestCutPlaces(t *testing.T) {
	for _, c := range []struct{ j, rest, places string }{
		{`{"Header":{},"Places":"AAEC"}`, `{"Header":{}}`, "\x00\x01\x02"},
		{`{"Header":{"a":",\"Places\":\"AAEC\"}"},"Places":"AAEC"}`, `{"Header":{"a":",\"Places\":\"AAEC\"}"}}`, "\x00\x01\x02"},
		{`{"Header":{},"Places":"AAEC"} `, `{"Header":{},"Places":"AAEC"} `, ""},
		{`{"Header":{},"Places":"AAE"}`, `{"Header":{},"Places":"AAE"}`, ""},
		{`{"Header":{},"Places":"AAEC","Chunks":[{"a":"b"}]}`, `{"Header":{},"Places":"AAEC","Chunks":[{"a":"b"}]}`, ""},
		{`{"Header":{}}`, `{"Header":{}}`, ""},
		{``, ``, ""},
	} {
		rest, places := cutPlaces([]byte(c.j))
		if string(rest) != c.rest || string(places) != c.places {
			t.Errorf("%s: %s and %q", c.j, rest, places)
		}
	}
	var b bytes.Buffer
	if err := writePlainTo(&b, Header{Version: Version, Ranges: []Range{{Size: 3 * ChunkSize}}}, func(p []byte, pa uint64) error { p[0] = byte(pa>>16) + 1; return nil }); err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || len(f.chunks) != 3 {
		t.Fatalf("%v with %+v", err, f)
	}
}
