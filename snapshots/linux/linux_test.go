package linux_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/formats"
	"github.com/hybridbridge/emu/snapshots/internal/snaptest"
	"github.com/hybridbridge/emu/snapshots/linux"
)

var le = binary.LittleEndian

// tables builds page tables of any form in a small memory.
type tables struct {
	mem  []byte
	next uint64
	form linux.Form
}

func newTables(form linux.Form) *tables {
	return &tables{mem: make([]byte, 1<<20), next: 0x2000, form: form}
}

func (b *tables) memory() *snaptest.Memory {
	return &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 0, Data: b.mem}}}
}

// mapPage maps va to pa by a page of 1<<shift bytes with the flags.
func (b *tables) mapPage(va, pa uint64, shift uint, flags uint64) {
	level, bits, size := uint(12), uint(9), uint64(8)
	top := map[linux.Form]uint{linux.Level5: 48, linux.Level4: 39, linux.PAE: 30, linux.Paging32: 22}[b.form]
	if b.form == linux.Paging32 {
		bits, size = 10, 4
	}
	table := uint64(0x1000)
	for level = top; ; level -= bits {
		at := table + va>>level&(1<<bits-1)*size
		if level == shift {
			e := pa | flags | 1
			if shift > 12 {
				e |= 0x80
				if b.form == linux.Paging32 { // PSE-36
					e = e&0xffffffff | pa>>32<<13
				}
			}
			copy(b.mem[at:at+size], le.AppendUint64(nil, e))
			return
		}
		e := le.Uint64(append(bytes.Clone(b.mem[at:at+size]), make([]byte, 8)...))
		if e == 0 {
			e = b.next | 7
			b.next += 0x1000
			copy(b.mem[at:at+size], le.AppendUint64(nil, e))
		}
		table = e &^ 0xfff
	}
}

func TestTranslate(t *testing.T) {
	pages := map[linux.Form][]uint{
		linux.Level5: {12, 21, 30}, linux.Level4: {12, 21, 30}, linux.PAE: {12, 21}, linux.Paging32: {12, 22},
	}
	for form, sizes := range pages {
		t.Run(form.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				b := newTables(form)
				shift := rapid.SampledFrom(sizes).Draw(t, "shift")
				page := uint64(1) << shift
				va := rapid.Uint64().Draw(t, "va")
				pa := rapid.Uint64Range(0, 1<<40-1).Draw(t, "pa") &^ (page - 1)
				switch form {
				case linux.Level4:
					va = uint64(int64(va<<16) >> 16)
				case linux.Level5:
					va = uint64(int64(va<<7) >> 7)
				default:
					va &= 0xffffffff
				}
				if form == linux.Paging32 && shift == 12 {
					pa &= 0xffffffff
				}
				flags := rapid.SampledFrom([]uint64{0, 2, 4, 6}).Draw(t, "flags")
				b.mapPage(va&^(page-1), pa, shift, flags)
				a := linux.AddressSpace{Memory: b.memory(), Form: form, Root: 0x1000}
				got, err := a.Translate(va)
				want := linux.Page{Physical: pa | va&(page-1), Size: page, Write: flags&2 != 0, User: flags&4 != 0, Execute: true}
				if err != nil || got != want {
					t.Fatalf("%#x: %+v, %v; want %+v", va, got, err, want)
				}
				other := va ^ 1<<rapid.UintRange(shift, 31).Draw(t, "bit")
				if _, err := a.Translate(other); !errors.Is(err, linux.ErrNotMapped) {
					t.Fatalf("%#x: %v", other, err)
				}
			})
		})
	}
	a := linux.AddressSpace{Memory: newTables(linux.Level4).memory(), Form: linux.Level4, Root: 0x1000}
	for _, va := range []uint64{1 << 47, 0xffff_7fff_ffff_ffff} {
		if _, err := a.Translate(va); !errors.Is(err, linux.ErrNotMapped) {
			t.Errorf("%#x: %v", va, err)
		}
	}
	a.Root = 1 << 40
	if _, err := a.Translate(0); !errors.Is(err, snapshots.ErrNoMemory) {
		t.Error(err)
	}
}

func TestReadAcrossPages(t *testing.T) {
	b := newTables(linux.Level4)
	b.mapPage(0x400000, 0x80000, 12, 7)
	b.mapPage(0x401000, 0x70000, 12, 7)
	copy(b.mem[0x80ffe:], "ab")
	copy(b.mem[0x70000:], "cd")
	a := linux.AddressSpace{Memory: b.memory(), Form: linux.Level4, Root: 0x1000}
	if v, err := a.Uint32(0x400ffe); err != nil || v != le.Uint32([]byte("abcd")) {
		t.Error(v, err)
	}
	if err := a.Read(make([]byte, 8192), 0x400ffe); !errors.Is(err, linux.ErrNotMapped) {
		t.Error(err)
	}
	if got := linux.FromCR3(a.Memory, linux.Level4, 0x1234<<12|0x18|0x1000, true); got.Root != 0x1234<<12 {
		t.Errorf("%#x", got.Root)
	}
}

// truth is what the guest said of itself (testdata/snapshots/dump.sh).
type truth struct {
	words   map[string]string
	symbols map[string]uint64
}

func readTruth(t testing.TB, dir string) truth {
	b, err := os.ReadFile(filepath.Join(dir, "truth"))
	if err != nil {
		t.Skip("no truth beside the dump: ", err)
	}
	tr := truth{map[string]string{}, map[string]uint64{}}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		tr.words[key] = value
		if f := strings.Fields(value); key == "sym" && len(f) == 3 {
			if _, ok := tr.symbols[f[0]]; !ok {
				tr.symbols[f[0]], _ = strconv.ParseUint(f[1], 16, 64)
			}
		}
	}
	return tr
}

func open(t testing.TB, path string) snapshots.Snapshot {
	var o formats.Options
	if filepath.Base(path) == "mem.block" {
		o.Hole = snapshots.Range{Base: 128 << 20, Size: 4<<30 - 128<<20}
	}
	s, err := formats.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func compare(t *testing.T, k *linux.Kernel, dir string, tr truth) {
	t.Helper()
	if k.Banner != tr.words["version"] {
		t.Errorf("banner %q\nwant   %q", k.Banner, tr.words["version"])
	}
	if n, _ := strconv.Atoi(tr.words["symbols"]); n != len(k.Symbols) {
		t.Errorf("%d symbols, want %d", len(k.Symbols), n)
	}
	for name, want := range tr.symbols {
		if a, ok := k.Symbol(name); !ok || a != want {
			t.Errorf("%s is at %#x, want %#x", name, a, want)
		}
	}
	if text := tr.symbols["_text"]; k.Text != text {
		t.Errorf("text at %#x, want %#x", k.Text, text)
	}
	var base uint64
	if _, err := fmt.Sscanf(tr.words["kernelcode"], "%x-", &base); err == nil && base != k.TextPhysical {
		t.Errorf("text at physical %#x, want %#x", k.TextPhysical, base)
	}
	if k.Form.Wide() { // i386 kernels lack the data symbols
		if k.BTFHash != tr.words["btf"] || strconv.FormatUint(k.BTFSize, 10) != tr.words["btfsize"] {
			t.Errorf("BTF %s %d", k.BTFHash, k.BTFSize)
		}
		if n, _ := strconv.Atoi(tr.words["cpus"]); n != k.CPUsOnline {
			t.Errorf("%d CPUs online, want %d", k.CPUsOnline, n)
		}
		if want := strings.Contains(tr.words["pti"], "PTI"); k.PTI != want {
			t.Errorf("PTI %v, want %v", k.PTI, want)
		}
	}
	if k.BuildID == "" || !strings.Contains(tr.words["notes"], "474e5500"+k.BuildID) {
		t.Errorf("build id %s", k.BuildID)
	}
	// QEMU's own walk of the page tables.
	f, err := os.Open(filepath.Join(dir, "gva2gpa.txt"))
	if err != nil {
		return
	}
	defer f.Close()
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var va, pa uint64
		if _, err := fmt.Sscanf(sc.Text(), "%x gpa: 0x%x", &va, &pa); err != nil {
			continue
		}
		if p, err := k.Space.Translate(va); err != nil || p.Physical != pa {
			t.Errorf("%#x is at %#x (%v), QEMU says %#x", va, p.Physical, err, pa)
		}
		n++
	}
	if n == 0 {
		t.Error("nothing compared with QEMU's page walk")
	}
}

func TestRealKernels(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(snaptest.Real(t, ""), "*", "mem.*"))
	for _, p := range files {
		dir, name := filepath.Split(p)
		t.Run(filepath.Base(dir)+"/"+name, func(t *testing.T) {
			tr := readTruth(t, dir)
			k, err := linux.Identify(open(t, p))
			if err != nil {
				t.Fatal(err)
			}
			if len(k.Warnings) > 0 {
				t.Error(k.Warnings)
			}
			compare(t, k, dir, tr)
			recalled(t, k, p)
			t.Logf("%s, text shift %#x, root %#x by %s", k.Form, k.TextShift, k.Root, k.RootSource)
		})
	}
}

// recalled: a kernel that was kept as JSON is that of the same snapshot, and of none where its banner or its tables are not there.
func recalled(t *testing.T, k *linux.Kernel, path string) {
	t.Helper()
	kept, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var again linux.Kernel
	if err := json.Unmarshal(kept, &again); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if again.Recall(s) != (k.BannerAddress != 0) {
		t.Errorf("the kernel is recalled, or not: %s", kept)
	}
	if k.BannerAddress == 0 { // i386: kallsyms has no data
		return
	}
	for _, pa := range []uint64{k.Root, mustTranslate(t, k, k.BannerAddress)} {
		if again.Recall(&doctored{Snapshot: s, pages: map[uint64][]byte{pa / 4096: nil}}) {
			t.Errorf("a kernel is recalled without its page at %#x", pa)
		}
	}
}

func mustTranslate(t *testing.T, k *linux.Kernel, va uint64) uint64 {
	t.Helper()
	p, err := k.Space.Translate(va)
	if err != nil {
		t.Fatal(err)
	}
	return p.Physical
}

// doctored is a snapshot without the help of its container, and with other memory.
type doctored struct {
	snapshots.Snapshot
	cpus  []snapshots.CPU
	pages map[uint64][]byte // by page frame; nil for zeroes
}

func (d *doctored) CPUs() []snapshots.CPU   { return d.cpus }
func (d *doctored) Notes() []snapshots.Note { return nil }
func (d *doctored) ReadPhysical(p []byte, pa uint64) error {
	if err := d.Snapshot.ReadPhysical(p, pa); err != nil {
		return err
	}
	for pfn, b := range d.pages {
		for i := max(pa, pfn*4096); i < min(pa+uint64(len(p)), (pfn+1)*4096); i++ {
			p[i-pa] = 0
			if b != nil {
				p[i-pa] = b[i-pfn*4096]
			}
		}
	}
	return nil
}

// blind hides every VMCOREINFO in memory.
func blind(t testing.TB, s snapshots.Snapshot) *doctored {
	d := &doctored{Snapshot: s, pages: map[uint64][]byte{}}
	if err := linux.FindVMCoreInfo(s, func(v *linux.VMCoreInfo) bool {
		d.pages[v.Address/4096] = nil
		return false
	}); err != nil {
		t.Fatal(err)
	}
	if len(d.pages) == 0 {
		t.Fatal("no VMCOREINFO in memory")
	}
	return d
}

func TestWithoutVMCoreInfo(t *testing.T) {
	for _, name := range []string{"nokaslr", "kaslr", "kaslr-smp", "pti", "la57", "split", "cloud-6.12", "generic-6.1"} {
		t.Run(name, func(t *testing.T) {
			dir := snaptest.Real(t, name)
			tr := readTruth(t, dir)
			d := blind(t, open(t, filepath.Join(dir, "mem.elf")))
			for _, source := range []string{"CR3", "search"} {
				d.cpus = nil
				if source == "CR3" {
					d.cpus = d.Snapshot.CPUs()
				}
				k, err := linux.Identify(d)
				if err != nil {
					t.Fatalf("%s: %v", source, err)
				}
				if k.RootSource != source || len(k.Warnings) > 0 {
					t.Errorf("%s: by %s, %v", source, k.RootSource, k.Warnings)
				}
				if want := map[bool]linux.Form{true: linux.Level5, false: linux.Level4}[name == "la57"]; k.Form != want {
					t.Errorf("%s: %s", source, k.Form)
				}
				compare(t, k, dir, tr)
			}
		})
	}
}

// TestForgedVMCoreInfo lets the guest lie.
func TestForgedVMCoreInfo(t *testing.T) {
	dir := snaptest.Real(t, "kaslr")
	tr := readTruth(t, dir)
	s := open(t, filepath.Join(dir, "mem.elf"))
	lie := func(from, to string) *linux.Kernel {
		t.Helper()
		d := &doctored{Snapshot: s, cpus: s.CPUs(), pages: map[uint64][]byte{}}
		if err := linux.FindVMCoreInfo(s, func(v *linux.VMCoreInfo) bool {
			b := make([]byte, 4096)
			if err := s.ReadPhysical(b, v.Address&^4095); err != nil {
				t.Fatal(err)
			}
			i := bytes.Index(b, []byte(from))
			if i < 0 {
				t.Fatalf("no %s", from)
			}
			end := i + bytes.IndexByte(b[i:], '\n')
			forged := append(append(bytes.Clone(b[:i]), to...), b[end:]...)
			d.pages[v.Address/4096] = append(forged, make([]byte, 4096)...)[:4096]
			return false
		}); err != nil {
			t.Fatal(err)
		}
		k, err := linux.Identify(d)
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		compare(t, k, dir, tr)
		return k
	}
	// What does not hold is not used.
	for from, to := range map[string]string{
		"NUMBER(phys_base)=":      "NUMBER(phys_base)=4096",
		"SYMBOL(swapper_pg_dir)=": "SYMBOL(swapper_pg_dir)=ffffffff80001000",
		"OSRELEASE=":              "OSRELEASE=6.1.0-1-evil",
		"SYMBOL(init_uts_ns)=":    "SYMBOL(init_uts_ns)=0",
	} {
		if k := lie(from, to); k.RootSource != "CR3" {
			t.Errorf("%s: by %s", to, k.RootSource)
		}
	}
	// What can be checked later is a warning.
	for from, to := range map[string]string{
		"KERNELOFFSET=":          "KERNELOFFSET=12345000",
		"SYMBOL(kallsyms_names)": "SYMBOL(kallsyms_names)=ffffffff80000000",
	} {
		if k := lie(from, to); len(k.Warnings) == 0 {
			t.Errorf("%s: no warning", to)
		}
	}
	// Registers of another machine.
	d := &doctored{Snapshot: s, cpus: []snapshots.CPU{s.CPUs()[0], s.CPUs()[0]}}
	d.cpus[1].CR3 = 0x1000
	if k, err := linux.Identify(d); err != nil || len(k.Warnings) < 2 {
		t.Error(err, k)
	}
}

func TestNoKernel(t *testing.T) {
	m := &snaptest.Memory{Pieces: []snaptest.Piece{{Base: 0, Data: snaptest.Pages(600, 9)}}}
	if _, err := linux.Identify(m); !errors.Is(err, linux.ErrNotFound) {
		t.Error(err)
	}
	// Tables that lead to themselves.
	b := newTables(linux.Level4)
	for i := uint64(0); i < 4096; i += 8 {
		le.PutUint64(b.mem[0x1000+i:], 0x1063)
		le.PutUint64(b.mem[0x2000+i:], 0x1063)
	}
	m = b.memory()
	m.CPU = []snapshots.CPU{{Has: snapshots.HasControl, CR0: 1 << 31, CR3: 0x1000, CR4: 1 << 5, RIP: 1 << 63}}
	if _, err := linux.Identify(m); !errors.Is(err, linux.ErrNotFound) {
		t.Error(err)
	}
}

func FuzzParseVMCoreInfo(f *testing.F) {
	f.Add([]byte("OSRELEASE=6.1\nSYMBOL(swapper_pg_dir)=ffffffff82a10000\nNUMBER(phys_base)=-5\nKERNELOFFSET=0\nLENGTH(x)=2\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		v, _ := linux.ParseVMCoreInfo(b)
		v.SaneBuildID()
	})
}

// FuzzIdentify makes memory and registers of anything.
func FuzzIdentify(f *testing.F) {
	b := newTables(linux.Level4)
	b.mapPage(0xffffffff81000000, 0x10000, 12, 3)
	copy(b.mem[0x10000:], "Linux version 1 #1 x\n")
	copy(b.mem[0x20000:], "OSRELEASE=1\nSYMBOL(swapper_pg_dir)=ffffffff81000000\nNUMBER(phys_base)=-16777216\n")
	f.Add(b.mem[:0x30000], uint64(0x1000), uint64(0x20))
	f.Fuzz(func(_ *testing.T, mem []byte, cr3, cr4 uint64) {
		m := &snaptest.Memory{
			Pieces: []snaptest.Piece{{Base: 0, Data: append(bytes.Clone(mem), 0)}},
			CPU:    []snapshots.CPU{{Has: snapshots.HasControl, CR0: 1 << 31, CR3: cr3, CR4: cr4, RIP: cr3 << 32}},
		}
		_, _ = linux.Identify(m)
	})
}
