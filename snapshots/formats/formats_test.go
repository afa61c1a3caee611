package formats_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/formats"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
	"github.com/hybridbridge/emu/snapshots/kdump"
	"github.com/hybridbridge/emu/snapshots/native"
)

// TestConvert goes from each format that can be written to each other.
func TestConvert(t *testing.T) {
	m := snaptest.Sample()
	m.Pieces = m.Pieces[:2] // what is padded stays small
	dir := t.TempDir()
	for _, a := range formats.Writable {
		for _, b := range formats.Writable {
			p, q := filepath.Join(dir, "a."+a), filepath.Join(dir, "b."+a+"."+b)
			calls := 0
			if err := formats.Write(p, a, m, m.Note, func(uint64) error { calls++; return nil }); err != nil || calls == 0 {
				t.Fatal(err, calls)
			}
			s, err := formats.Open(p, formats.Options{})
			if err != nil || s.Format() != a {
				t.Fatal(a, err)
			}
			if err := formats.Write(q, b, s, formats.OtherNotes(s), nil); err != nil {
				t.Fatal(err)
			}
			s.Close()
			if s, err = formats.Open(q, formats.Options{}); err != nil || s.Format() != b {
				t.Fatal(b, err)
			}
			for _, r := range m.Ranges() {
				snaptest.SameMemory(t, s, m, r)
			}
			keeps := func(f string) bool { return f == "elf" || f == "native" }
			if keeps(a) && keeps(b) {
				if len(s.CPUs()) != 1 || s.CPUs()[0] != m.CPU[0] || string(snapshots.FindNote(s.Notes(), "VMCOREINFO")) != string(m.Note[0].Data) {
					t.Errorf("%s to %s: registers or notes are lost", a, b)
				}
			}
			if _, ok := s.(snapshots.Mapper); ok != (b != "native") {
				t.Errorf("%s: Mapper %v", b, ok)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	s, err := formats.Open(filepath.Join(dir, "a.native"), formats.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if f, ok := formats.As[*native.File](s); !ok || f.Complete() == nil {
		t.Error("a converted snapshot passes for a machine's own")
	}
	if _, ok := formats.As[*kdump.File](s); ok {
		t.Error("As")
	}
}

// TestRoundTrip writes memory of any shape in each format.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		m := &snaptest.Memory{}
		at := uint64(0)
		for range rapid.IntRange(1, 5).Draw(t, "pieces") {
			at += 4096 * rapid.Uint64Range(1, 300).Draw(t, "gap")
			data := snaptest.Pages(rapid.IntRange(1, 40).Draw(t, "pages"), rapid.Uint64().Draw(t, "seed"))
			m.Pieces = append(m.Pieces, snaptest.Piece{Base: at, Data: data})
			at += uint64(len(data))
		}
		format := rapid.SampledFrom(formats.Writable).Draw(t, "format")
		p := filepath.Join(dir, "m")
		if err := formats.Write(p, format, m, nil, nil); err != nil {
			t.Fatal(err)
		}
		s, err := formats.Open(p, formats.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, r := range m.Ranges() {
			off := rapid.Uint64Range(0, r.Size-1).Draw(t, "off")
			a := make([]byte, rapid.Uint64Range(0, r.Size-off).Draw(t, "n"))
			b := make([]byte, len(a))
			if err := errors.Join(s.ReadPhysical(a, r.Base+off), m.ReadPhysical(b, r.Base+off)); err != nil || !bytes.Equal(a, b) {
				t.Fatal(err)
			}
		}
		if format == "raw" {
			return
		}
		if a, b := fmt.Sprint(s.Ranges()), fmt.Sprint(m.Ranges()); a != b {
			t.Fatalf("%s, want %s", a, b)
		}
	})
}

func TestWriteFails(t *testing.T) {
	m := snaptest.Sample()
	dir := t.TempDir()
	stop := errors.New("stop")
	for _, f := range formats.Writable {
		if err := formats.Write(filepath.Join(dir, "x"), f, m, nil, func(uint64) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("%s: %v", f, err)
		}
	}
	if err := formats.Write(filepath.Join(dir, "x"), "kdump", m, nil, nil); err == nil {
		t.Error("kdump was written")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNotASnapshot(t *testing.T) {
	for content, want := range map[string]string{
		"":                               "not a memory snapshot",
		"hello":                          "not a memory snapshot",
		"\x1f\x8b" + pad(8190):           "gunzip",
		"\x7fELF\x02\x01\x01" + pad(500): "not a core dump",
		"QEVM" + pad(4092):               "dump-guest-memory",
		"\xd2\xbe\xd2\xbe" + pad(4092):   ".vmem",
		pad(257) + "ustar" + pad(3834):   "tar archive",
		"EMUSNAP\x07" + pad(100):         "another version",
		"KDUMP   " + pad(4096):           "corrupt",
		"EMiL\x01\x00\x00\x00":           "truncated",
	} {
		_, err := formats.New(strings.NewReader(content), int64(len(content)), formats.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", content, err, want)
		}
	}
	if _, err := formats.Open(t.TempDir(), formats.Options{}); err == nil {
		t.Error("a folder opens")
	}
	if _, err := formats.Open("/nonexistent/x", formats.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func pad(n int) string { return strings.Repeat("\x00", n) }

// TestLargeFiles opens sparse files of 64 GiB.
func TestLargeFiles(t *testing.T) {
	m := &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 0, Data: snaptest.Pages(4, 1)}}}
	for _, format := range []string{"raw", "elf", "lime"} {
		p := filepath.Join(t.TempDir(), "big")
		if err := formats.Write(p, format, m, nil, nil); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		const size = 64 << 30
		var h [8]byte
		for i := range h {
			h[i] = byte(uint64(size) >> (8 * i))
		}
		switch format {
		case "elf": // p_filesz and p_memsz of the second segment
			_, err = f.WriteAt(append(h[:], h[:]...), 64+56+32)
		case "lime":
			for i := range h {
				h[i] = byte(uint64(size-1) >> (8 * i))
			}
			_, err = f.WriteAt(h[:], 16)
		}
		if err := errors.Join(err, f.Truncate(size+map[string]int64{"elf": 8192, "lime": 32}[format])); err != nil {
			t.Skip("this file system holds no sparse file of 64 GiB:", err)
		}
		f.Close()
		start := time.Now()
		s, err := formats.Open(p, formats.Options{})
		if err != nil {
			t.Fatal(format, err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("%s: opened in %v", format, d)
		}
		if r := s.Ranges(); len(r) != 1 || r[0].Size < size {
			t.Errorf("%s: %v", format, r)
		}
		s.Close()
	}
}

// TestRealDumps compares every real dump of one machine with the others, and registers with what QEMU said.
func TestRealDumps(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(snaptest.Real(t, ""), "*", "mem.*"))
	if len(files) == 0 {
		t.Skip("no real dumps in the cache (make snapshots makes them)")
	}
	for _, p := range files {
		dir, name := filepath.Split(p)
		t.Run(filepath.Base(dir)+"/"+name, func(t *testing.T) {
			start := time.Now()
			var o formats.Options
			if name == "mem.block" {
				o.Hole = snapshots.Range{Base: 128 << 20, Size: 4<<30 - 128<<20}
			}
			s, err := formats.Open(p, o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("opened in %v", d)
			}
			compareRegisters(t, s, filepath.Join(dir, "registers.txt"))
			refName := filepath.Join(dir, "mem.elf")
			if name == "mem.elf" {
				refName = filepath.Join(dir, "mem.raw")
			}
			ref, err := formats.Open(refName, formats.Options{})
			if err != nil {
				return // nothing to compare with
			}
			defer ref.Close()
			partial := strings.HasSuffix(name, "-flat") || strings.Contains(name, "paging")
			a, b := make([]byte, 4096), make([]byte, 4096)
			same, missing := 0, 0
			for pa := uint64(0); pa < 256<<20; pa += 4096 * 5 { // every fifth page
				if ref.ReadPhysical(a, pa) != nil {
					continue
				}
				switch err := s.ReadPhysical(b, pa); {
				case partial && (errors.Is(err, snapshots.ErrNotSaved) || errors.Is(err, snapshots.ErrNoMemory)):
					missing++
				case err != nil:
					t.Fatal(err)
				case !bytes.Equal(a, b):
					t.Fatalf("page %#x differs", pa)
				default:
					same++
				}
			}
			if same == 0 || !partial && missing > 0 {
				t.Errorf("%d pages are equal, %d are missing", same, missing)
			}
		})
	}
}

// compareRegisters reads QEMU's "info registers -a".
func compareRegisters(t *testing.T, s snapshots.Snapshot, path string) {
	cpus := s.CPUs()
	f, err := os.Open(path)
	if err != nil || len(cpus) == 0 {
		return
	}
	defer f.Close()
	n := -1
	seen := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		if strings.HasPrefix(line, "CPU#") {
			n++
		}
		if n < 0 || n >= len(cpus) {
			continue
		}
		c := cpus[n]
		for _, word := range strings.Fields(strings.ReplaceAll(line, "= ", "=")) {
			name, value, ok := strings.Cut(word, "=")
			want, known := map[string]uint64{
				"RIP": c.RIP, "EIP": c.RIP, "RSP": c.GPR[snapshots.RSP], "R15": c.GPR[snapshots.R15], "RDI": c.GPR[snapshots.RDI],
				"CR0": c.CR0, "CR2": c.CR2, "CR3": c.CR3, "CR4": c.CR4, "RFL": c.RFLAGS, "EFL": c.RFLAGS,
			}[name]
			var v uint64
			if _, err := fmt.Sscanf(value, "%x", &v); !ok || !known || err != nil {
				continue
			}
			if seen++; v != want {
				t.Errorf("processor %d: %s is %#x, QEMU said %#x", n, name, want, v)
			}
		}
		if strings.HasPrefix(line, "IDT=") || strings.HasPrefix(line, "GDT=") {
			var base, limit uint64
			want := map[byte]snapshots.Table{'I': c.IDTR, 'G': c.GDTR}[line[0]]
			if _, err := fmt.Sscanf(line[4:], "%x %x", &base, &limit); err != nil || base != want.Base || uint32(limit) != want.Limit {
				t.Errorf("%s: %+v (%v)", line, want, err)
			}
			seen++
		}
	}
	if n+1 != len(cpus) || seen < 8*len(cpus) {
		t.Errorf("%d registers of %d processors compared; the file has %d", seen, n+1, len(cpus))
	}
}

func FuzzNew(f *testing.F) {
	dir := f.TempDir()
	m := &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 4096, Data: snaptest.Pages(2, 1)}}}
	for _, format := range formats.Writable {
		p := filepath.Join(dir, format)
		if err := formats.Write(p, format, m, nil, nil); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("makedumpfile\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if s, err := formats.New(bytes.NewReader(b), int64(len(b)), formats.Options{}); err == nil {
			for _, r := range s.Ranges()[:min(4, len(s.Ranges()))] {
				_ = s.ReadPhysical(make([]byte, 100), r.Base)
			}
			s.Close()
		}
	})
}
