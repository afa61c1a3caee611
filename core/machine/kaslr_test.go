package machine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/internal/guests"
	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
)

// started runs a kernel until it prints text.
func started(t *testing.T, cfg Config, text string) *Machine {
	t.Helper()
	m, _ := startedWithConsole(t, cfg, text)
	return m
}

func startedWithConsole(t *testing.T, cfg Config, text string) (*Machine, string) {
	t.Helper()
	var console bytes.Buffer
	cfg.Console = &console
	if cfg.MemorySize == 0 {
		cfg.MemorySize = 160 << 20
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	await(t, m, &console, text)
	return m, console.String()
}

func await(t *testing.T, m *Machine, console *bytes.Buffer, text string) {
	t.Helper()
	m.WaitFor(text)
	if o := m.Run(context.Background(), 8_000_000_000); o.Reason != Text {
		t.Fatalf("%v %s\n%s\n%s", o.Reason, o.Detail, m.Describe(nil), console)
	}
}

// earlyConsole makes a kernel print from its first lines on, and late enough for its memory to be in use stop it.
const (
	earlyConsole = "earlyprintk=serial,ttyS0 console=ttyS0"
	memoryInUse  = "SLUB: HWalign"
)

// where reads a randomised kernel's variables.
func where(t *testing.T, m *Machine, syms *symbols.Table) boot.Shifts {
	t.Helper()
	s := boot.Shifts{Text: m.boot.Shifts.Text}
	read := func(name string) uint64 {
		a, ok := syms.Shift(s.Text).Address(name)
		var b [8]byte
		if !ok || m.cpu.ReadLinear(a, b[:]) != len(b) {
			t.Fatalf("no %s at %#x", name, a)
		}
		return binary.LittleEndian.Uint64(b[:])
	}
	s.PhysBase = read("phys_base")
	s.Regions = boot.Regions{PageOffset: read("page_offset_base"), Vmalloc: read("vmalloc_base"), Vmemmap: read("vmemmap_base")}
	// The kernel's page tables agree: the first page is mapped where the direct map begins, and the image where it says.
	for _, c := range []struct{ la, want uint64 }{
		{s.Regions.PageOffset, 0},
		{0xffffffff81000000 + s.Text, 0x1000000 + s.Text + s.PhysBase},
	} {
		if pa, ok := m.cpu.TranslateLinear(c.la); !ok || pa != c.want {
			t.Errorf("%#x is mapped to %#x, %v, want %#x", c.la, pa, ok, c.want)
		}
	}
	return s
}

var (
	linked4 = boot.Regions{PageOffset: 0xffff888000000000, Vmalloc: 0xffffc90000000000, Vmemmap: 0xffffea0000000000}
	linked5 = boot.Regions{PageOffset: 0xff11000000000000, Vmalloc: 0xffa0000000000000, Vmemmap: 0xffd4000000000000}
)

func TestKernelAddresses(t *testing.T) {
	base := Config{Kernel: guests.Read(t, "cloud-6.1"), CommandLine: earlyConsole}
	syms := Symbols(base.Kernel)
	t.Run("nokaslr", func(t *testing.T) {
		cfg := base
		cfg.CommandLine += " nokaslr"
		if got := where(t, started(t, cfg, memoryInUse), syms); got != (boot.Shifts{Regions: linked4}) {
			t.Errorf("%#x", got)
		}
	})
	t.Run("seeds", func(t *testing.T) {
		var seen [3]boot.Shifts
		var count [3]uint64
		for i, seed := range []uint64{1, 2, 1} {
			cfg := base
			cfg.Seed = seed
			m := started(t, cfg, memoryInUse)
			seen[i], count[i] = where(t, m, syms), m.cpu.Instructions()
		}
		a, b := seen[0], seen[1]
		if a != seen[2] || count[0] != count[2] {
			t.Errorf("one seed, two runs: %#x and %#x, %d and %d instructions", a, seen[2], count[0], count[2])
		}
		if a.Text == b.Text || a.PhysBase == b.PhysBase || a.Regions.PageOffset == b.Regions.PageOffset || a.Regions == linked4 {
			t.Errorf("%#x and %#x", a, b)
		}
	})
	t.Run("5-level", func(t *testing.T) {
		cfg := base
		cfg.CPU.Model = cpu.DefaultModel | cpu.ModelLA57
		cfg.CommandLine += " nokaslr"
		if got := where(t, started(t, cfg, memoryInUse), syms); got != (boot.Shifts{Regions: linked5}) {
			t.Errorf("%#x", got)
		}
		if !guests.Long() {
			return
		}
		cfg.CommandLine += " no5lvl"
		if got := where(t, started(t, cfg, memoryInUse), syms); got != (boot.Shifts{Regions: linked4}) {
			t.Errorf("no5lvl: %#x", got)
		}
	})
	t.Run("wanted", func(t *testing.T) {
		// What a snapshot had, of the same kernel in a machine of 512 MiB; a 5-level one moved by hand.
		for _, c := range []struct {
			want  boot.Shifts
			model cpu.Model
		}{
			{boot.Shifts{
				Text: 0x1e600000, PhysBase: minus(0x1e600000 - 0x3000000),
				Regions: boot.Regions{PageOffset: 0xffff9c3980000000, Vmalloc: 0xffffaf3b40000000, Vmemmap: 0xffffdd8f40000000},
			}, 0},
			{boot.Shifts{
				Text:    0x200000,
				Regions: boot.Regions{PageOffset: 0xff23456780000000, Vmalloc: 0xffa0123440000000, Vmemmap: 0xffd5432100000000},
			}, cpu.DefaultModel | cpu.ModelLA57},
		} {
			if c.model != 0 && !guests.Long() {
				continue
			}
			cfg := base
			cfg.Shifts, cfg.CPU.Model = &c.want, c.model
			if got := where(t, started(t, cfg, memoryInUse), syms); got != c.want {
				t.Errorf("%#x, want %#x", got, c.want)
			}
		}
	})
	t.Run("saved before", func(t *testing.T) {
		// A snapshot from before the regions are placed goes on to place them.
		cfg := base
		cfg.Shifts = &boot.Shifts{Text: 0x4000000, PhysBase: minus(0x3e00000), Regions: linked4}
		cfg.Shifts.Regions.Vmalloc += 1 << 40
		m := started(t, cfg, "Linux version")
		path := filepath.Join(t.TempDir(), "early")
		if err := m.Save(path); err != nil {
			t.Fatal(err)
		}
		var console bytes.Buffer
		n, err := Load(path, Config{Console: &console})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		await(t, n, &console, memoryInUse)
		n.cfg.Kernel, n.boot = cfg.Kernel, m.boot
		if got := where(t, n, syms); got != *cfg.Shifts {
			t.Errorf("%#x, want %#x", got, *cfg.Shifts)
		}
	})
	t.Run("above 4 GiB", func(t *testing.T) {
		if !guests.Long() {
			t.Skip("EMU_LONG is not set")
		}
		cfg := base
		cfg.Shifts = &boot.Shifts{Text: 0x200000, PhysBase: 6 << 30}
		cfg.MemorySize = 10 << 30
		got := where(t, started(t, cfg, memoryInUse), syms)
		if got.Regions = (boot.Regions{}); got != *cfg.Shifts {
			t.Errorf("%#x, want %#x", got, *cfg.Shifts)
		}
	})
	t.Run("disjoint", func(t *testing.T) {
		const above = 64 << 30
		layout, err := memory.Disjoint(256<<20, above, memory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"", " nokaslr"} {
			cfg := base
			cfg.Layout, cfg.CommandLine = layout, cfg.CommandLine+line
			got := where(t, started(t, cfg, memoryInUse), syms)
			if at := 0x1000000 + got.Text + got.PhysBase; at < above || at >= above+256<<20 || (got.Text == 0) != (line != "") {
				t.Errorf("%q: %#x", line, got)
			}
			if !guests.Long() {
				break
			}
		}
	})
	t.Run("stub", func(t *testing.T) {
		if !guests.Long() {
			t.Skip("takes the time to unpack in the guest; EMU_LONG is not set")
		}
		cfg := base
		cfg.CommandLine += " nokaslr"
		direct, said := startedWithConsole(t, cfg, memoryInUse)
		cfg.KernelStub = true
		stub, stubSaid := startedWithConsole(t, cfg, memoryInUse)
		if direct.boot.Stub || !stub.boot.Stub {
			t.Error("not what was asked for")
		}
		if a, b := where(t, direct, syms), where(t, stub, syms); a != b {
			t.Errorf("%#x, stub %#x", a, b)
		}
		if a, b := untimed(said), untimed(stubSaid); a != b {
			t.Errorf("consoles differ:\n%s\n--- with the stub\n%s", a, b)
		}
	})
}

// untimed is the kernel's part of a console without what depends on the time.
func untimed(console string) string {
	_, console, _ = strings.Cut(console, "Linux version")
	return regexp.MustCompile(`(?m)^\[ *\d+\.\d+\] |^tsc: .*`).ReplaceAllString(console, "")
}

func TestImpossibleShifts(t *testing.T) {
	base := Config{Kernel: guests.Read(t, "cloud-6.1"), MemorySize: 128 << 20}
	wrong := linked4
	wrong.Vmemmap = wrong.Vmalloc + 1<<30
	for name, s := range map[string]boot.Shifts{
		"alignment": {Text: 0x1000},
		"range":     {Text: 0x3f000000},
		"low":       {PhysBase: minus(0x1000000)},
		"RAM":       {PhysBase: 1 << 30},
		"regions":   {Regions: wrong},
		"5 levels":  {Regions: linked5},
	} {
		cfg := base
		cfg.Shifts = &s
		m, err := New(cfg)
		if err == nil {
			_ = m.Close()
		}
		if !errors.Is(err, boot.ErrShifts) && !errors.Is(err, boot.ErrNoRoom) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := base
	cfg.Shifts, cfg.KernelStub = &boot.Shifts{Text: 0x200000}, true
	if _, err := New(cfg); !errors.Is(err, boot.ErrShifts) {
		t.Error(err)
	}
}

func minus(n uint64) uint64 { return -n }

// TestMemMap: a 32-bit kernel has its array of struct page where it is told, or the machine says why not.
func TestMemMap(t *testing.T) {
	for _, name := range []string{"686-pae", "686"} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Kernel: guests.Read(t, name), CommandLine: earlyConsole, MemorySize: 160 << 20}
			cfg.Shifts = &boot.Shifts{Text: 0x2000000, Regions: boot.Regions{Vmemmap: 0xc7654000}}
			m := started(t, cfg, memoryInUse)
			var first [8]byte
			if m.regions != nil || m.cpu.ReadLinear(cfg.Shifts.Regions.Vmemmap, first[:]) != len(first) || first == [8]byte{} {
				t.Errorf("the first struct page begins with %x", first)
			}
			for where, at := range map[string]uint64{"beyond RAM": 0xca000000, "user space": 0x7654000, "not aligned": 0xc7654010} {
				cfg.Shifts.Regions.Vmemmap = at
				if n, err := New(cfg); !errors.Is(err, boot.ErrShifts) {
					_ = n.Close()
					t.Errorf("%s: %v", where, err)
				}
			}
			cfg.Shifts.Regions.Vmemmap = 0xc3000000 // in the kernel's image
			n, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			if o := n.Run(context.Background(), 8_000_000_000); o.Reason != Unsupported || !strings.Contains(o.Detail, "mem_map at") {
				t.Errorf("%v %s", o.Reason, o.Detail)
			}
		})
	}
}
