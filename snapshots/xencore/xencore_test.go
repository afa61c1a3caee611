package xencore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
)

// write makes a file to docs/misc/dump-core-format.txt. Pages are in reverse order, after one that is nobody's.
func write(m *snaptest.Memory, pv bool) []byte {
	le := binary.LittleEndian
	var pages, table, strtab []byte
	pages = append(pages, make([]byte, 4096)...)
	entry := func(pfn uint64) {
		table = le.AppendUint64(table, pfn)
		if pv {
			table = le.AppendUint64(table, pfn^0x5555)
		}
	}
	entry(invalidFrame)
	n := uint64(1)
	for i := len(m.Pieces) - 1; i >= 0; i-- {
		for off := 0; off < len(m.Pieces[i].Data); off += 4096 {
			pages = append(pages, m.Pieces[i].Data[off:off+4096]...)
			entry(m.Pieces[i].Base/4096 + uint64(off/4096))
			n++
		}
	}
	desc := le.AppendUint64(nil, magicHVM)
	if pv {
		desc = le.AppendUint64(nil, magicPV)
	}
	for _, v := range []uint64{1, n, 4096} {
		desc = le.AppendUint64(desc, v)
	}
	notes := snapshots.AppendNote(nil, snapshots.Note{Name: "Xen", Type: 0x2000000})
	notes = snapshots.AppendNote(notes, snapshots.Note{Name: "Xen", Type: noteHeader, Data: desc})
	context := make([]byte, contextSize)
	for i := range contextSize / 8 {
		le.PutUint64(context[8*i:], uint64(i)<<8)
	}
	frames := ".xen_pfn"
	if pv {
		frames = ".xen_p2m"
	}
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], etCore)
	le.PutUint16(b[18:], emX86_64)
	le.PutUint16(b[58:], 64)
	sh := make([]byte, 64)
	strtab = []byte{0}
	add := func(name string, data []byte) {
		s := make([]byte, 64)
		le.PutUint32(s, uint32(len(strtab)))
		strtab = append(append(strtab, name...), 0)
		if name == ".shstrtab" {
			data = strtab
		}
		le.PutUint64(s[24:], uint64(len(b)))
		le.PutUint64(s[32:], uint64(len(data)))
		b = append(b, data...)
		sh = append(sh, s...)
	}
	add(".note.Xen", notes)
	add(".xen_prstatus", context)
	add(".xen_shared_info", make([]byte, 4096))
	add(".xen_pages", pages)
	add(frames, table)
	add(".shstrtab", nil)
	le.PutUint64(b[40:], uint64(len(b)))
	le.PutUint16(b[60:], 7)
	le.PutUint16(b[62:], 6)
	return append(b, sh...)
}

func TestRead(t *testing.T) {
	m := snaptest.Sample()
	for _, pv := range []bool{false, true} {
		b := write(m, pv)
		f, err := New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		snaptest.Same(t, f, m)
		if want := map[bool]string{false: "xen", true: "xen-pv"}[pv]; f.Format() != want {
			t.Error(f.Format())
		}
		if pa, ok := f.Machine((0x100^0x5555)<<12 | 0x123); ok != pv || pv && pa != 0x100123 {
			t.Errorf("machine frame: %#x %v", pa, ok)
		}
		// Words of struct vcpu_guest_context.
		if len(f.CPUs()) != 1 {
			t.Fatal("no processor")
		}
		c, w := f.CPUs()[0], func(i uint64) uint64 { return i << 8 }
		for i, v := range []struct{ got, want uint64 }{
			{c.GPR[snapshots.R15], w(65)},
			{c.GPR[snapshots.RDI], w(79)},
			{c.RIP, w(81)},
			{c.RFLAGS, w(83)},
			{c.GPR[snapshots.RSP], w(84)},
			{c.CR0, w(623)},
			{c.CR3, w(626)},
			{c.CR4, w(627)},
			{c.Seg[snapshots.FS].Base, w(643)},
		} {
			if v.got != v.want {
				t.Errorf("%d: %#x, want %#x", i, v.got, v.want)
			}
		}
	}
}

func TestDamage(t *testing.T) {
	snaptest.Damage(t, write(snaptest.Sample(), false), snaptest.Open(New))
	if _, err := New(bytes.NewReader(make([]byte, 100)), 100); !errors.Is(err, snapshots.ErrFormat) {
		t.Error(err)
	}
}

func FuzzNew(f *testing.F) {
	m := &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 4096, Data: snaptest.Pages(2, 1)}}}
	f.Add(write(m, true))
	snaptest.Fuzz(f, write(m, false), snaptest.Open(New))
}
