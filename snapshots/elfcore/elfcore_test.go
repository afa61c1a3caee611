package elfcore

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
)

func sample(t testing.TB) (*snaptest.Memory, []byte) {
	m := snaptest.Sample()
	var b bytes.Buffer
	if err := Write(&b, m, m.Note, nil); err != nil {
		t.Fatal(err)
	}
	return m, b.Bytes()
}

func open(r io.ReaderAt, size int64) (snapshots.Snapshot, error) { return snaptest.Open(New)(r, size) }

func TestRoundTrip(t *testing.T) {
	m, b := sample(t)
	f, err := New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	snaptest.Same(t, f, m)
	if got := f.CPUs(); len(got) != 1 || got[0] != m.CPU[0] || f.Format() != "elf" {
		t.Errorf("%+v", got)
	}
	if string(snapshots.FindNote(f.Notes(), snapshots.NoteVMCoreInfo)) != string(m.Note[0].Data) {
		t.Error("note")
	}
	for _, r := range f.Ranges() {
		if off, n, ok := f.Mapping(r.Base); !ok || off%page != int64(r.Base%page) || n != r.Size {
			t.Errorf("mapping of %#x: %#x %#x", r.Base, off, n)
		}
	}
	// The standard library agrees.
	e, err := elf.NewFile(bytes.NewReader(b))
	if err != nil || e.Type != elf.ET_CORE || len(e.Progs) != 4 {
		t.Error(err)
	}
	if err := f.ReadPhysical(make([]byte, 8), 8*4096-4); !errors.Is(err, snapshots.ErrNoMemory) {
		t.Error(err)
	}
}

func TestDamage(t *testing.T) {
	_, b := sample(t)
	snaptest.Damage(t, b, open)
}

func FuzzNew(f *testing.F) {
	_, b := sample(f)
	snaptest.Fuzz(f, b, open)
}

// header4M keeps the start of what is written to it, and counts the rest.
type header4M struct {
	bytes.Buffer
	n int64
}

func (h *header4M) Write(p []byte) (int, error) {
	h.n += int64(len(p))
	if h.Len() < 5<<20 {
		h.Buffer.Write(p)
	}
	return len(p), nil
}

// TestManySegments has a file whose number of segments is in section 0.
func TestManySegments(t *testing.T) {
	m := &snaptest.Memory{}
	for i := range 70000 {
		m.Pieces = append(m.Pieces, snaptest.Piece{Base: uint64(i) * 8192, Data: []byte{byte(i)}})
	}
	var b header4M
	if err := Write(&b, m, nil, nil); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint16(b.Bytes()[56:]); n != pnXNum {
		t.Fatalf("e_phnum %#x", n)
	}
	f, err := New(bytes.NewReader(b.Bytes()), b.n)
	if err != nil || len(f.Ranges()) != 70000 {
		t.Fatal(err)
	}
	var p [1]byte
	if err := f.ReadPhysical(p[:], 100*8192); err != nil || p[0] != 100 {
		t.Error(err, p)
	}
}

// TestELF32 has a 32-bit file with overlapping segments, one that was not saved, and one that was saved in part.
func TestELF32(t *testing.T) {
	le := binary.LittleEndian
	h := make([]byte, 52)
	copy(h, "\x7fELF\x01\x01\x01")
	le.PutUint16(h[16:], etCore)
	le.PutUint16(h[18:], em386)
	le.PutUint32(h[28:], 52)
	le.PutUint16(h[42:], 32)
	le.PutUint16(h[44:], 4)
	data := uint32(52 + 4*32)
	for _, s := range [][4]uint32{ // offset, paddr, filesz, memsz
		{data, 0x1000, 16, 16}, {data + 8, 0x1008, 16, 16}, {0xffffffff, 0x9000, 16, 16}, {data + 24, 0x5000, 4, 16},
	} {
		for _, v := range []uint32{ptLoad, s[0], 0xc0000000 + s[1], s[1], s[2], s[3], 7, 0} {
			h = le.AppendUint32(h, v)
		}
	}
	for i := range byte(32) {
		h = append(h, i)
	}
	f, err := New(bytes.NewReader(h), int64(len(h)))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 24)
	if err := f.ReadPhysical(p, 0x1000); err != nil || p[23] != 23 || p[9] != 9 {
		t.Error(err, p)
	}
	if err := f.ReadPhysical(p[:1], 0x9000); !errors.Is(err, snapshots.ErrNotSaved) {
		t.Error(err)
	}
	if err := f.ReadPhysical(p[:8], 0x5000); !errors.Is(err, snapshots.ErrNotSaved) {
		t.Error(err)
	}
	if err := f.ReadPhysical(p[:4], 0x5000); err != nil || p[3] != 27 {
		t.Error(err, p)
	}
}

// vbox makes a file as VirtualBox does (DBGFCoreWrite.cpp): EI_VERSION 0, notes padded to 8 bytes.
func vbox() []byte {
	le := binary.LittleEndian
	note := func(b []byte, name string, typ uint32, data []byte) []byte {
		b = le.AppendUint32(b, uint32(len(name)))
		b = le.AppendUint32(b, uint32(len(data)))
		b = le.AppendUint32(b, typ)
		b = append(b, name...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		b = append(b, data...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		return b
	}
	var core []byte
	for _, v := range []uint32{vboxMagic, 0x00010006, 24, 7<<24 | 1, 150000, 1} {
		core = le.AppendUint32(core, v)
	}
	cpu := make([]byte, 1000)
	for i := range len(cpu) / 8 {
		le.PutUint64(cpu[8*i:], uint64(i)<<32|uint64(i))
	}
	notes := note(note(nil, vboxNoteCore, 0xb00, core), vboxNoteCPU, 0xb01, cpu)
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x00")
	le.PutUint16(h[16:], etCore)
	le.PutUint16(h[18:], emX86_64)
	le.PutUint64(h[32:], 64)
	le.PutUint16(h[54:], 56)
	le.PutUint16(h[56:], 2)
	at := uint64(64 + 2*56)
	ph := func(typ uint32, off, pa, n uint64) {
		h = le.AppendUint32(le.AppendUint32(h, typ), 0)
		for _, v := range []uint64{off, 0, pa, n, n, 0} {
			h = le.AppendUint64(h, v)
		}
	}
	ph(ptNote, at, 0, uint64(len(notes)))
	ph(ptLoad, at+uint64(len(notes)), 0, 8192)
	return append(append(h, notes...), snaptest.Pages(2, 5)...)
}

func TestVirtualBox(t *testing.T) {
	b := vbox()
	if _, err := elf.NewFile(bytes.NewReader(b)); err == nil {
		t.Error("the standard library reads it now")
	}
	f, err := New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if f.Format() != "vbox" || len(f.CPUs()) != 1 {
		t.Fatal(f.Format(), f.CPUs())
	}
	// Words of DBGFCORECPU: 18 registers, 6*3 of segments, 4 control, 8 debug, gdtr, idtr, ldtr, tr, sysenter, MSRs.
	c, w := f.CPUs()[0], func(i uint64) uint64 { return i<<32 | i }
	for i, v := range []struct{ got, want uint64 }{
		{c.GPR[snapshots.RAX], w(0)},
		{c.GPR[snapshots.R15], w(13)},
		{c.RIP, w(14)},
		{c.GPR[snapshots.RSP], w(15)},
		{c.RFLAGS, w(17)},
		{c.Seg[snapshots.CS].Base, w(18)},
		{c.Seg[snapshots.GS].Base, w(30)},
		{c.Seg[snapshots.SS].Base, w(33)},
		{c.CR0, w(36)},
		{c.CR2, w(37)},
		{c.CR3, w(38)},
		{c.CR4, w(39)},
		{c.GDTR.Base, w(48)},
		{c.IDTR.Base, w(50)},
		{c.LDTR.Base, w(52)},
		{c.TR.Base, w(55)},
		{c.EFER, w(61)},
		{c.STAR, w(62)},
		{c.LSTAR, w(64)},
		{c.CSTAR, w(65)},
		{c.SFMASK, w(66)},
		{c.KernelGSBase, w(67)},
	} {
		if v.got != v.want {
			t.Errorf("%d: %#x, want %#x", i, v.got, v.want)
		}
	}
	snaptest.Damage(t, b, open)
}

func FuzzVirtualBox(f *testing.F) { snaptest.Fuzz(f, vbox(), open) }
