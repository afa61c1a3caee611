package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hybridbridge/emu/core/image"
	"github.com/hybridbridge/emu/core/inspect"
	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/formats"
	"github.com/hybridbridge/emu/snapshots/linux"
)

func newSnapshotCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "snapshot",
		Short: "Look at memory snapshots and convert them",
	}
	c.AddCommand(newSnapshotInfoCommand(), newSnapshotConvertCommand())
	return c
}

// holeFlag adds --hole to a command and returns what reads it.
func holeFlag(c *cobra.Command) func() (snapshots.Range, error) {
	var s string
	c.Flags().StringVar(&s, "hole", "", "START:END of the gap below 4 GiB that a raw file has no bytes for, such as 0xc0000000:0x100000000")
	return func() (snapshots.Range, error) {
		if s == "" {
			return snapshots.Range{}, nil
		}
		from, to, ok := strings.Cut(s, ":")
		a, err := strconv.ParseUint(from, 0, 64)
		b, err2 := strconv.ParseUint(to, 0, 64)
		if !ok || err != nil || err2 != nil || b <= a || (a|b)%4096 != 0 {
			return snapshots.Range{}, usageError("--hole %q is not START:END, two addresses of pages", s)
		}
		return snapshots.Range{Base: a, Size: b - a}, nil
	}
}

// openSnapshot opens a file and identifies its kernel, trying the usual holes for raw files in which none is found.
func openSnapshot(path string, hole snapshots.Range) (snapshots.Snapshot, *linux.Kernel, error) {
	s, err := formats.Open(path, formats.Options{Hole: hole})
	if err != nil {
		return nil, nil, err
	}
	k, kerr := linux.Identify(s)
	if kerr == nil || hole.Size > 0 || s.Format() != "raw" {
		return s, k, kerr
	}
	for _, h := range formats.RawHoles(s) {
		t, err := formats.Open(path, formats.Options{Hole: h})
		if err != nil {
			continue
		}
		if k, err := linux.Identify(t); err == nil {
			s.Close()
			return t, k, nil
		}
		t.Close()
	}
	return s, nil, kerr
}

// hexNumber is a number that JSON output shows as a hexadecimal string, for readers without 64-bit integers.
type hexNumber uint64

func (n hexNumber) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint64(n)), nil }

type snapshotInfo struct {
	File   string      `json:"file"`
	Format string      `json:"format"`
	Size   uint64      `json:"memory_bytes"`
	Ranges []rangeInfo `json:"ranges"`
	CPUs   []cpuInfo   `json:"cpus"`
	Kernel *kernelInfo `json:"kernel"`
	// Image is the trusted image that fits; if there is none, BuildImage is the command that makes it.
	Image       string         `json:"image,omitempty"`
	BuildImage  string         `json:"build_image,omitempty"`
	KernelError string         `json:"kernel_error,omitempty"`
	Notes       map[string]int `json:"notes,omitempty"`
}

type rangeInfo struct {
	Base hexNumber `json:"base"`
	Size hexNumber `json:"size"`
}

type cpuInfo struct {
	RIP    hexNumber  `json:"rip"`
	RSP    hexNumber  `json:"rsp"`
	CR0    *hexNumber `json:"cr0,omitempty"`
	CR3    *hexNumber `json:"cr3,omitempty"`
	CR4    *hexNumber `json:"cr4,omitempty"`
	GSBase *hexNumber `json:"gs_base,omitempty"`
	IDT    *hexNumber `json:"idt,omitempty"`
}

type kernelInfo struct {
	Banner       string     `json:"banner"`
	Release      string     `json:"release"`
	BTFHash      string     `json:"btf_sha256,omitempty"`
	BuildID      string     `json:"build_id,omitempty"`
	Paging       linux.Form `json:"paging"`
	PTI          bool       `json:"pti"`
	Root         hexNumber  `json:"root"`
	RootSource   string     `json:"root_source"`
	Text         hexNumber  `json:"text"`
	TextShift    hexNumber  `json:"text_shift"`
	PhysBase     int64      `json:"phys_base"`
	PageOffset   hexNumber  `json:"page_offset"`
	VmallocBase  hexNumber  `json:"vmalloc"`
	VmemmapBase  hexNumber  `json:"vmemmap"`
	CPUsOnline   int        `json:"cpus_online,omitempty"`
	CPUsPossible int        `json:"cpus_possible,omitempty"`
	Symbols      int        `json:"symbols"`
	Warnings     []string   `json:"warnings,omitempty"`
}

func newSnapshotInfo(path string, s snapshots.Snapshot, k *linux.Kernel, kerr error) *snapshotInfo {
	i := &snapshotInfo{File: path, Format: s.Format(), Ranges: []rangeInfo{}, CPUs: []cpuInfo{}}
	for _, r := range s.Ranges() {
		i.Size += r.Size
		i.Ranges = append(i.Ranges, rangeInfo{hexNumber(r.Base), hexNumber(r.Size)})
	}
	for _, c := range s.CPUs() {
		info := cpuInfo{RIP: hexNumber(c.RIP), RSP: hexNumber(c.GPR[snapshots.RSP])}
		hex := func(v uint64) *hexNumber { n := hexNumber(v); return &n }
		if c.Has&snapshots.HasControl != 0 {
			info.CR0, info.CR3, info.CR4 = hex(c.CR0), hex(c.CR3), hex(c.CR4)
		}
		if c.Has&snapshots.HasSegments != 0 {
			info.GSBase, info.IDT = hex(c.Seg[snapshots.GS].Base), hex(c.IDTR.Base)
		}
		i.CPUs = append(i.CPUs, info)
	}
	if notes := formats.OtherNotes(s); len(notes) > 0 {
		i.Notes = map[string]int{}
		for _, n := range notes {
			i.Notes[n.Name] = len(n.Data)
		}
	}
	if k == nil {
		i.KernelError = kerr.Error()
		return i
	}
	i.Kernel = &kernelInfo{
		Banner: k.Banner, Release: k.Release, BTFHash: k.BTFHash, BuildID: k.BuildID, Paging: k.Form, PTI: k.PTI,
		Root: hexNumber(k.Root), RootSource: k.RootSource, Text: hexNumber(k.Text), TextShift: hexNumber(k.TextShift),
		PhysBase: k.PhysBase, PageOffset: hexNumber(k.PageOffset), VmallocBase: hexNumber(k.VmallocBase),
		VmemmapBase: hexNumber(k.VmemmapBase), CPUsOnline: k.CPUsOnline, CPUsPossible: k.CPUsPossible,
		Symbols: len(k.Symbols), Warnings: k.Warnings,
	}
	return i
}

// findImage looks for the trusted image of the kernel.
func (i *snapshotInfo) findImage(k *linux.Kernel) error {
	store, err := image.DefaultStore()
	if err != nil {
		return err
	}
	switch found, err := store.Find(image.Identity{Banner: k.Banner, BTFHash: k.BTFHash}); {
	case err == nil:
		i.Image = found.ID
	case errors.Is(err, image.ErrNotFound):
		i.BuildImage = inspect.BuildCommand(k)
	default:
		return err
	}
	return nil
}

// maxShown bounds the ranges that are listed for people.
const maxShown = 20

func (i *snapshotInfo) print(w io.Writer) {
	fmt.Fprintf(w, "format       %s\n", i.Format)
	fmt.Fprintf(w, "memory       %d MiB in %d ranges\n", i.Size>>20, len(i.Ranges))
	for _, r := range i.Ranges[:min(len(i.Ranges), maxShown)] {
		fmt.Fprintf(w, "             %#011x-%#011x  %d KiB\n", uint64(r.Base), uint64(r.Base+r.Size), r.Size>>10)
	}
	if n := len(i.Ranges) - maxShown; n > 0 {
		fmt.Fprintf(w, "             and %d more (--json has all)\n", n)
	}
	if len(i.CPUs) == 0 {
		fmt.Fprintf(w, "processors   none in the file\n")
	}
	for n, c := range i.CPUs {
		fmt.Fprintf(w, "processor %-2d rip %#x rsp %#x", n, uint64(c.RIP), uint64(c.RSP))
		if c.CR3 != nil {
			fmt.Fprintf(w, " cr0 %#x cr3 %#x cr4 %#x", uint64(*c.CR0), uint64(*c.CR3), uint64(*c.CR4))
		}
		fmt.Fprintln(w)
	}
	k := i.Kernel
	if k == nil {
		fmt.Fprintf(w, "kernel       %s\n", i.KernelError)
		return
	}
	fmt.Fprintf(w, "kernel       %s\n", k.Banner)
	if k.BTFHash != "" {
		fmt.Fprintf(w, "BTF sha256   %s\n", k.BTFHash)
	}
	if k.BuildID != "" {
		fmt.Fprintf(w, "build id     %s\n", k.BuildID)
	}
	pti := ""
	if k.PTI {
		pti = ", page-table isolation"
	}
	fmt.Fprintf(w, "paging       %s%s, root %#x (from %s)\n", k.Paging, pti, uint64(k.Root), k.RootSource)
	fmt.Fprintf(w, "text         %#x, shifted by %#x; phys_base %d\n", uint64(k.Text), uint64(k.TextShift), k.PhysBase)
	if k.Paging.Wide() {
		fmt.Fprintf(w, "regions      page_offset %#x, vmalloc %#x, vmemmap %#x\n", uint64(k.PageOffset), uint64(k.VmallocBase), uint64(k.VmemmapBase))
	}
	fmt.Fprintf(w, "symbols      %d\n", k.Symbols)
	if k.CPUsOnline > 0 {
		fmt.Fprintf(w, "CPUs online  %d\n", k.CPUsOnline)
	}
	if i.Image != "" {
		fmt.Fprintf(w, "image        %s\n", i.Image)
	} else if i.BuildImage != "" {
		fmt.Fprintf(w, "image        none; this makes it: %s\n", i.BuildImage)
	}
	for _, m := range k.Warnings {
		fmt.Fprintf(w, "warning      %s\n", m)
	}
}

func newSnapshotInfoCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "info FILE",
		Short: "Say what is in a memory snapshot: format, memory, processors, kernel, KASLR shifts",
		Args:  cobra.ExactArgs(1),
	}
	hole := holeFlag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		h, err := hole()
		if err != nil {
			return err
		}
		s, k, err := openSnapshot(args[0], h)
		if s == nil {
			return err
		}
		defer s.Close()
		i := newSnapshotInfo(args[0], s, k, err)
		if k != nil {
			if err := i.findImage(k); err != nil {
				return err
			}
		}
		if asJSON {
			e := json.NewEncoder(c.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(i)
		}
		i.print(c.OutOrStdout())
		return nil
	}
	return c
}

func newSnapshotConvertCommand() *cobra.Command {
	var format string
	var vmcoreinfo bool
	c := &cobra.Command{
		Use:   "convert IN OUT",
		Short: "Write a memory snapshot in another format",
		Long: "Write the memory, and where the format has a place for them the registers and notes, of a snapshot in another\n" +
			"format. IN is never changed. Without --format, OUT's ending decides: .elf, .core, .vmcore, .dump; .lime; .raw, .mem,\n" +
			".vmem, .img, .bin; emu's own else. Pages that IN does not hold are written as zeroes.",
		Args: cobra.ExactArgs(2),
	}
	hole := holeFlag(c)
	c.Flags().StringVar(&format, "format", "", "format to write: "+strings.Join(formats.Writable, ", "))
	c.Flags().BoolVar(&vmcoreinfo, "vmcoreinfo", false, "add the kernel's VMCOREINFO, found in memory, as a note (crash, drgn and makedumpfile want it)")
	c.RunE = func(c *cobra.Command, args []string) error {
		h, err := hole()
		if err != nil {
			return err
		}
		in, out := args[0], args[1]
		if format == "" {
			format = formats.FormatOf(out)
		}
		if a, err := os.Stat(in); err == nil {
			if b, err := os.Stat(out); err == nil && os.SameFile(a, b) {
				return usageError("%s and %s are the same file", in, out)
			}
		}
		s, err := formats.Open(in, formats.Options{Hole: h})
		if err != nil {
			return err
		}
		defer s.Close()
		notes := formats.OtherNotes(s)
		if vmcoreinfo && snapshots.FindNote(notes, snapshots.NoteVMCoreInfo) == nil {
			k, err := linux.Identify(s)
			if err != nil {
				return fmt.Errorf("%s: --vmcoreinfo: %w", in, err)
			}
			if k.VMCoreInfo == nil {
				return fmt.Errorf("%s: --vmcoreinfo: none in memory", in)
			}
			notes = append(notes, snapshots.Note{Name: snapshots.NoteVMCoreInfo, Data: k.VMCoreInfo.Text})
		}
		total := uint64(0)
		for _, r := range s.Ranges() {
			total += r.Size
		}
		progress, done := progressLine(c.ErrOrStderr(), "converting", total)
		err = formats.Write(out, format, s, notes, func(n uint64) error {
			progress(n)
			return c.Context().Err()
		})
		done()
		return err
	}
	return c
}

// progressLine returns a function that shows how much of total is done on one line, if w is a terminal, and one that removes
// the line.
func progressLine(w io.Writer, what string, total uint64) (progress func(uint64), done func()) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || total == 0 {
		return func(uint64) {}, func() {}
	}
	start, last := time.Now(), time.Time{}
	return func(n uint64) {
			if now := time.Now(); now.Sub(last) >= 100*time.Millisecond {
				last = now
				fmt.Fprintf(w, "\r%s: %3d %%, %d of %d MiB, %.0f MiB/s\x1b[K", what, n*100/total, n>>20, total>>20,
					float64(n>>20)/max(now.Sub(start).Seconds(), 0.001))
			}
		}, func() {
			if !last.IsZero() {
				fmt.Fprint(w, "\r\x1b[K")
			}
		}
}
