package kdump

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
)

// options of the files that write makes.
type options struct {
	flags      uint32
	wide       bool
	version    uint32
	exclude    map[uint64]bool // page frames that exist and are left out
	start, end uint64          // split
}

// literals is a page in LZO1X without any compression: one run of literals and the end mark.
func literals(p []byte) []byte {
	out := []byte{0}
	n := len(p) - 18
	for ; n > 255; n -= 255 {
		out = append(out, 0)
	}
	return append(append(append(out, byte(n)), p...), 0x11, 0, 0)
}

func pack(t testing.TB, flags uint32, p []byte) []byte {
	switch flags {
	case flagZlib:
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	case flagLZO:
		return literals(p)
	case flagSnappy:
		return snappy.Encode(nil, p)
	case flagZstd:
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		return w.EncodeAll(p, nil)
	}
	return p
}

// write makes a file to diskdump_mod.h.
func write(t testing.TB, m *snaptest.Memory, o options) []byte {
	le := binary.LittleEndian
	const block = 4096
	top := uint64(0)
	for _, p := range m.Pieces {
		top = max(top, (p.Base+uint64(len(p.Data)))/block)
	}
	half := (top/8 + block) / block * block
	exist, dumped := make([]byte, half), make([]byte, half)
	var descs, data []byte
	var pages [][]byte
	for _, p := range m.Pieces {
		for off := 0; off < len(p.Data); off += block {
			pfn := p.Base/block + uint64(off/block)
			exist[pfn/8] |= 1 << (pfn % 8)
			if !o.exclude[pfn] {
				dumped[pfn/8] |= 1 << (pfn % 8)
				if o.end == 0 || pfn >= o.start && pfn < o.end {
					pages = append(pages, p.Data[off:off+block])
				}
			}
		}
	}
	var notes []byte
	for i, c := range m.CPU {
		for _, n := range snapshots.NotesOfCPU(c, i+1) {
			notes = snapshots.AppendNote(notes, n)
		}
	}
	h := make([]byte, block)
	copy(h, signature)
	le.PutUint32(h[8:], o.version)
	copy(h[12+130:], "6.1.0-test")
	at, sub := 424, sub64
	if !o.wide {
		at, sub = 412, sub32
	}
	for i, v := range []uint32{o.flags, block, 1, uint32(2 * half / block), uint32(top)} {
		le.PutUint32(h[at+4*i:], v)
	}
	sh := make([]byte, block)
	word := func(at int, v uint64) {
		if o.wide {
			le.PutUint64(sh[at:], v)
		} else {
			le.PutUint32(sh[at:], uint32(v))
		}
	}
	if o.end > 0 {
		le.PutUint32(sh[sub.split:], 1)
		word(sub.startPFN, o.start)
		word(sub.endPFN, o.end)
		le.PutUint64(sh[sub.start64:], o.start)
		le.PutUint64(sh[sub.end64:], o.end)
	}
	le.PutUint64(sh[sub.max64:], top)
	copy(sh[512:], notes)
	le.PutUint64(sh[sub.note:], block+512)
	word(sub.note+8, uint64(len(notes)))
	copy(sh[3000:], m.Note[0].Data)
	le.PutUint64(sh[sub.vmcoreinfo:], block+3000)
	word(sub.vmcoreinfo+8, uint64(len(m.Note[0].Data)))
	base := uint64(2*block) + 2*half + uint64(len(pages)*descSize)
	for _, p := range pages {
		packed, flags := pack(t, o.flags, p), o.flags
		if len(packed) >= block && o.flags != flagLZO {
			packed, flags = p, 0
		}
		descs = le.AppendUint64(descs, base+uint64(len(data)))
		descs = le.AppendUint32(descs, uint32(len(packed)))
		descs = le.AppendUint32(descs, flags)
		descs = le.AppendUint64(descs, 0)
		data = append(data, packed...)
	}
	return bytes.Join([][]byte{h, sh, exist, dumped, descs, data}, nil)
}

// sample has no memory above 4 GiB: bitmaps of zeroes would be most of the file.
func sample() *snaptest.Memory {
	m := snaptest.Sample()
	m.Pieces = m.Pieces[:2]
	return m
}

func TestRead(t *testing.T) {
	m := snaptest.Sample()
	for _, flags := range []uint32{0, flagZlib, flagLZO, flagSnappy, flagZstd} {
		for _, wide := range []bool{false, true} {
			for _, version := range []uint32{4, 6} {
				t.Run(fmt.Sprintf("flags=%#x/wide=%v/version=%d", flags, wide, version), func(t *testing.T) {
					b := write(t, m, options{flags: flags, wide: wide, version: version})
					f, err := New(bytes.NewReader(b), int64(len(b)))
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					snaptest.Same(t, f, m)
					if got := f.CPUs(); len(got) != 1 || got[0] != m.CPU[0] || f.Release() != "6.1.0-test" {
						t.Errorf("%+v", got)
					}
					if string(snapshots.FindNote(f.Notes(), snapshots.NoteVMCoreInfo)) != string(m.Note[0].Data) {
						t.Error("VMCOREINFO")
					}
				})
			}
		}
	}
}

func TestExcludedPages(t *testing.T) {
	m := sample()
	o := options{flags: flagZlib, wide: true, version: 6, exclude: map[uint64]bool{}}
	for pfn := range uint64(300) {
		if pfn%3 == 1 {
			o.exclude[pfn] = true
		}
	}
	for _, split := range [][2]uint64{{0, 0}, {3, 0x10b}, {0x105, 0x106}} {
		o.start, o.end = split[0], split[1]
		b := write(t, m, o)
		f, err := New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range m.Ranges() {
			for pa := r.Base; pa < r.Base+r.Size; pa += 4096 {
				var got, want [4096]byte
				_ = m.ReadPhysical(want[:], pa)
				err := f.ReadPhysical(got[:], pa)
				pfn := pa / 4096
				if left := o.exclude[pfn] || o.end > 0 && (pfn < o.start || pfn >= o.end); left {
					if !errors.Is(err, snapshots.ErrNotSaved) {
						t.Errorf("%#x: %v", pa, err)
					}
				} else if err != nil || got != want {
					t.Errorf("%#x: %v", pa, err)
				}
			}
		}
		if err := f.ReadPhysical(make([]byte, 1), 0x50000); !errors.Is(err, snapshots.ErrNoMemory) {
			t.Error(err)
		}
		f.Close()
	}
}

func TestDamage(t *testing.T) {
	for _, flags := range []uint32{flagZlib, flagLZO, flagSnappy, flagZstd} {
		snaptest.Damage(t, write(t, sample(), options{flags: flags, wide: true, version: 6}), snaptest.Open(New))
	}
}

func FuzzNew(f *testing.F) {
	m := sample()
	m.Pieces = []snaptest.Piece{{Base: 4096, Data: snaptest.Pages(4, 1)}}
	for _, flags := range []uint32{flagLZO, flagSnappy, flagZstd} {
		f.Add(write(f, m, options{flags: flags, version: 6}))
	}
	snaptest.Fuzz(f, write(f, m, options{flags: flagZlib, wide: true, version: 6}), snaptest.Open(New))
}

// FuzzUnpack gives the decompressors anything.
func FuzzUnpack(f *testing.F) {
	k := &File{block: 4096}
	var err error
	if k.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<20)); err != nil {
		f.Fatal(err)
	}
	for _, flags := range []uint32{flagZlib, flagLZO, flagSnappy, flagZstd} {
		f.Add(pack(f, flags, snaptest.Pages(1, 3)), flags)
	}
	f.Fuzz(func(t *testing.T, b []byte, flags uint32) {
		if len(b) > 8192 {
			return
		}
		if out, err := k.unpack(b, flags&compressed); err == nil && len(out) > 1<<20 {
			t.Errorf("%d bytes", len(out))
		}
	})
}
