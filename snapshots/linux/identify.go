package linux

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/linux/kallsyms"
)

// Addresses that x86-64 kernels fix at compile time (Documentation/arch/x86/x86_64/mm.rst).
const (
	kernelMap    = 0xffff_ffff_8000_0000 // __START_KERNEL_map
	kernelMapEnd = 0xffff_ffff_c000_0000 // modules follow, at least with KASLR
	linkedText   = 0xffff_ffff_8100_0000 // _text without KASLR: CONFIG_PHYSICAL_START of 16 MiB
	linkedText32 = 0xc100_0000           // on i386
	cpuEntryArea = 0xffff_fe00_0000_0000
	pageOffset32 = 0xc000_0000
)

// ErrNotFound is wrapped by the error for a snapshot in which no Linux kernel was found.
var ErrNotFound = errors.New("no Linux kernel found in the snapshot")

// Kernel is what a snapshot says about its kernel. Addresses are virtual unless named otherwise; 0 stands for unknown.
type Kernel struct {
	// Banner is the kernel's "Linux version ..." line, without the newline.
	Banner string
	// BannerAddress is where linux_banner is; 0 if the banner was found by a search.
	BannerAddress uint64
	// Release is what uname -r prints.
	Release string
	// BTFHash is the SHA-256 of the .BTF section in hexadecimal, "" if there is none.
	BTFHash string
	BTFSize uint64
	// BuildID is that of the kernel's notes in memory; the one in VMCOREINFO is a hint only.
	BuildID string

	Form Form
	// PTI says that page tables come in pairs, for kernel and user (64-bit kernels only).
	PTI bool
	// Root is the physical address of the kernel's own page tables, swapper_pg_dir.
	Root uint64
	// RootSource says where Root came from: "VMCOREINFO", "CR3" or "search".
	RootSource string

	// Text is the address of _text, and TextPhysical where that is in memory.
	Text, TextPhysical uint64
	// TextShift is by how much KASLR moved the text.
	TextShift uint64
	// PhysBase is the kernel's phys_base, what is added to an address in the kernel map after subtracting that map's base;
	// it may be negative.
	PhysBase int64
	// PageOffset, VmallocBase and VmemmapBase are the starts of the regions that KASLR moves.
	PageOffset, VmallocBase, VmemmapBase uint64

	// CPUsOnline and CPUsPossible are the kernel's own counts.
	CPUsOnline, CPUsPossible int

	// Symbols are the kernel's, where it runs; without modules.
	Symbols []kallsyms.Symbol `json:"-"`
	// VMCoreInfo is nil if none was found that holds.
	VMCoreInfo *VMCoreInfo `json:"-"`
	// Space translates by Root.
	Space AddressSpace `json:"-"`
	// Warnings say what does not fit together: a damaged snapshot, or a guest that lies.
	Warnings []string

	image []byte // of the kernel, as kernelImage reads it; nil before it is needed
}

func (k *Kernel) readImage() []byte {
	if k.image == nil {
		k.image, _ = kernelImage(k.Space, k.Text)
	}
	return k.image
}

// Symbol returns the address of a symbol, the first of that name.
func (k *Kernel) Symbol(name string) (addr uint64, ok bool) {
	// A search of all takes less than sorting them for the few names that are asked for.
	i := slices.IndexFunc(k.Symbols, func(s kallsyms.Symbol) bool { return s.Name == name })
	if i < 0 {
		return 0, false
	}
	return k.Symbols[i].Address, true
}

func (k *Kernel) warn(format string, args ...any) {
	k.Warnings = append(k.Warnings, fmt.Sprintf(format, args...))
}

// Identify finds the kernel in a snapshot. It tries, in this order: the VMCOREINFO that the container names, the processors'
// CR3, VMCOREINFO found in memory, and a search for page tables. What it returns has been checked as far as
// Kernel's fields say; an error wraps ErrNotFound if nothing holds.
func Identify(s snapshots.Snapshot) (*Kernel, error) {
	if s.Format() == "xen-pv" {
		return nil, fmt.Errorf("page tables of a Xen PV guest hold machine frames, which emu does not follow: %w", snapshots.ErrUnsupported)
	}
	tried := map[string]bool{}
	var k *Kernel
	attempt := func(v *VMCoreInfo) bool {
		if tried[string(v.Text)] {
			return false
		}
		tried[string(v.Text)] = true
		k = fromVMCoreInfo(s, v)
		return k != nil
	}
	if text := snapshots.FindNote(s.Notes(), snapshots.NoteVMCoreInfo); text != nil {
		if v, ok := ParseVMCoreInfo(text); ok {
			attempt(v)
		}
	}
	if k == nil {
		if err := FindVMCoreInfo(s, attempt); err != nil {
			return nil, err
		}
	}
	if k == nil {
		k = fromCR3(s)
	}
	if k == nil {
		var err error
		if k, err = search(s); err != nil {
			return nil, err
		}
	}
	if k == nil {
		return nil, ErrNotFound
	}
	k.complete(s)
	if k.Banner == "" {
		return nil, fmt.Errorf("a kernel without a banner: %w", ErrNotFound)
	}
	return k, nil
}

// Recall connects a Kernel that Identify returned earlier, and of which only what JSON keeps is left, with its snapshot again, if
// that still has this kernel in the same place. Symbols and VMCoreInfo stay nil.
func (k *Kernel) Recall(s snapshots.Snapshot) bool {
	k.Space = AddressSpace{s, k.Form, k.Root}
	text, err := k.Space.Translate(k.Text)
	banner := make([]byte, len(k.Banner)+1)
	if err != nil || text.Physical != k.TextPhysical || k.Banner == "" || k.BannerAddress == 0 || k.Space.Read(banner, k.BannerAddress) != nil {
		return false
	}
	if last := banner[len(k.Banner)]; string(banner[:len(k.Banner)]) != k.Banner || last != '\n' && last != 0 {
		return false
	}
	if k.Form.Wide() {
		// The direct map shows the kernel's own page tables where they are.
		root, err := k.Space.Translate(k.PageOffset + k.Root)
		return err == nil && root.Physical == k.Root
	}
	return true
}

// fromVMCoreInfo follows a VMCOREINFO text and returns nil if what it says does not hold: its addresses must translate, and
// the release be that of the kernel's uname.
func fromVMCoreInfo(s snapshots.Snapshot, v *VMCoreInfo) *Kernel {
	swapper, stext := v.Symbols["swapper_pg_dir"], v.Symbols["_stext"]
	k := &Kernel{VMCoreInfo: v, RootSource: "VMCOREINFO", Release: v.Release}
	forms := []Form{Level4}
	if swapper >= kernelMap {
		k.PhysBase = v.Numbers["phys_base"]
		k.Root = swapper - kernelMap + uint64(k.PhysBase)
		if v.Numbers["pgtable_l5_enabled"] != 0 {
			forms = []Form{Level5}
		}
	} else {
		k.Root = swapper - pageOffset32
		forms = []Form{Paging32}
		if v.Config["CONFIG_X86_PAE"] == "y" {
			forms = []Form{PAE}
		}
	}
	if k.Root%4096 != 0 {
		return nil
	}
	for _, f := range forms {
		k.Form = f
		k.Space = AddressSpace{s, f, k.Root}
		if p, err := k.Space.Translate(swapper); err != nil || p.Physical != k.Root {
			return nil
		}
		if _, err := k.Space.Translate(stext); err != nil {
			return nil
		}
		uts := v.Symbols["init_uts_ns"] + v.Offsets["uts_namespace.name"]
		var name [390]byte
		if err := k.Space.Read(name[:], uts); err != nil || cString(name[130:195]) != v.Release || cString(name[:65]) != "Linux" {
			return nil
		}
	}
	k.Text = stext
	return k
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// formOf returns the paging form that control registers select. EFER, where unknown, is taken to be that of the
// address that the processor is at.
func formOf(c snapshots.CPU) Form {
	const cr0PG, cr4PAE, cr4LA57, eferLMA = 1 << 31, 1 << 5, 1 << 12, 1 << 10
	long := c.RIP>>32 != 0 || c.IDTR.Base>>32 != 0 || c.GPR[snapshots.RSP]>>32 != 0
	if c.Has&snapshots.HasSyscall != 0 {
		long = c.EFER&eferLMA != 0
	}
	switch {
	case c.Has&snapshots.HasControl == 0 || c.CR0&cr0PG == 0:
		return Unknown
	case c.CR4&cr4PAE == 0:
		return Paging32
	case !long:
		return PAE
	case c.CR4&cr4LA57 != 0:
		return Level5
	}
	return Level4
}

// fromCR3 looks for the kernel map in each processor's page tables.
func fromCR3(s snapshots.Snapshot) *Kernel {
	for _, c := range s.CPUs() {
		form := formOf(c)
		if form == Unknown {
			continue
		}
		if k := fromRoot(FromCR3(s, form, c.CR3, true)); k != nil {
			k.RootSource = "CR3"
			return k
		}
		if k := fromRoot(FromCR3(s, form, c.CR3, false)); k != nil {
			k.RootSource = "CR3"
			return k
		}
	}
	return nil
}

// fromRoot returns a kernel if the address space maps one.
func fromRoot(a AddressSpace) *Kernel {
	image, base := kernelImage(a, 0)
	if image == nil || !bytes.Contains(image, []byte("Linux version ")) {
		return nil
	}
	return &Kernel{Form: a.Form, Root: a.Root, Space: a, Text: base, image: image}
}

// Bounds of the kernel's image. Real ones have less than 100 MiB. On i386 the rest of memory follows it in the same map.
const (
	maxImage   = 128 << 20
	maxImage32 = 64 << 20
)

// kernelImage reads the kernel map: from text on, or from the first address that is mapped and executable, as far as it
// goes without a gap of more than 2 MiB. Pages that are not there read as zero.
func kernelImage(a AddressSpace, text uint64) (image []byte, base uint64) {
	limit := maxImage
	start, end, step := uint64(kernelMap), uint64(kernelMapEnd), uint64(2<<20)
	if !a.Form.Wide() {
		// The kernel sits in the direct map; RANDOMIZE_BASE moves it within the first 512 MiB.
		start, end = pageOffset32+0x100000, pageOffset32+512<<20
		step, limit = 0x100000, maxImage32
	}
	if text >= start && text < end {
		start = text &^ 4095
	}
	for va := start; va < end; va += step {
		if p, err := a.Translate(va); err == nil && (p.Execute && !p.User || !a.Form.Wide()) {
			base = va
			break
		}
	}
	if base == 0 {
		return nil, 0
	}
	gap := uint64(0)
	image = make([]byte, 0, limit+2<<20)
	for va := base; va < end && len(image) < limit && gap <= 2<<20; {
		p, err := a.Translate(va)
		n := uint64(4096)
		if err == nil {
			n = p.Size - va&(p.Size-1)
		}
		n = min(n, 2<<20)
		at := len(image)
		image = image[:at+int(n)]
		if err == nil {
			err = snapshots.ReadZeroed(a.Memory, image[at:], p.Physical)
		}
		if err != nil {
			gap += n
		} else {
			gap = 0
		}
		va += n
	}
	return image, base
}

// maxRoots bounds how many different tables search follows: a real machine has one or two, and each may cost reading an image.
const maxRoots = 16

// search looks for the page tables of a 64-bit kernel in all memory: a page whose last entry leads to a table whose entry
// 510 leads to the kernel map.
func search(s snapshots.Snapshot) (*Kernel, error) {
	seen := map[uint64]*Kernel{} // by the table that the last entry leads to
	var found *Kernel
	roots := 0
	entry := func(table, i uint64) (uint64, bool) {
		var b [8]byte
		if s.ReadPhysical(b[:], table+8*i) != nil {
			return 0, false
		}
		e := binary.LittleEndian.Uint64(b[:])
		return e, e&ptePresent != 0
	}
	buf := make([]byte, 1<<20)
	for _, r := range s.Ranges() {
		for off := (4096 - r.Base%4096) % 4096; off+4096 <= r.Size; {
			pa := r.Base + off
			b := buf[:min(uint64(len(buf))-pa%uint64(len(buf)), (r.Size-off)&^4095)]
			if err := snapshots.ReadZeroed(s, b, pa); err != nil {
				return nil, err
			}
			for at := 0; at < len(b); at += 4096 {
				e := binary.LittleEndian.Uint64(b[at+8*511:])
				// Present, writable, accessed, not large; nothing in the bits that are zero in Linux' tables.
				if e&(ptePresent|pteWrite|pteLarge) != ptePresent|pteWrite || e&0x7ff0_0000_0000_0e00&^0x200 != 0 {
					continue
				}
				root, next := pa+uint64(at), e&pteFrameMask
				if next == root {
					continue
				}
				if k, ok := seen[next]; ok {
					if k != nil {
						// Several processes share the kernel's tables; a table above the kernel's is a fifth level.
						found = better(found, k)
					}
					continue
				}
				seen[next] = nil
				for _, form := range []Form{Level4, Level5} {
					table := next
					if form == Level5 {
						e, ok := entry(table, 511)
						if !ok || e&pteLarge != 0 {
							continue
						}
						table = e & pteFrameMask
					}
					if e, ok := entry(table, 510); !ok || e&pteLarge != 0 {
						continue
					}
					if roots++; roots > maxRoots {
						return found, nil
					}
					if k := fromRoot(AddressSpace{s, form, root}); k != nil {
						k.RootSource = "search"
						seen[next] = k
						found = better(found, k)
						break
					}
				}
			}
			off += uint64(len(b))
		}
	}
	return found, nil
}

// better chooses between two roots that map a kernel: one of five levels, whose tables look like one of four too.
func better(a, b *Kernel) *Kernel {
	if a == nil || b.Form > a.Form {
		return b
	}
	return a
}

// complete fills in what a kernel's symbols lead to, and compares the sources.
func (k *Kernel) complete(s snapshots.Snapshot) {
	k.readSymbols()
	if root, ok := k.Symbol("swapper_pg_dir"); ok || k.Form.Wide() {
		if !ok {
			root, ok = k.Symbol("init_top_pgt")
		}
		if p, err := k.Space.Translate(root); ok && err == nil && p.Physical%4096 == 0 && p.Physical != k.Root {
			// A process' tables were found; the kernel's own are the same above, and stay.
			if own := (AddressSpace{s, k.Form, p.Physical}); own.maps(k.Text) {
				k.Root, k.Space = p.Physical, own
			}
		}
	}
	if a, ok := k.Symbol("_text"); ok {
		k.Text = a
	} else if a, ok := k.Symbol("_stext"); ok {
		k.Text = a
	}
	if p, err := k.Space.Translate(k.Text); err == nil {
		k.TextPhysical = p.Physical
	}
	if k.Form.Wide() {
		k.TextShift = k.Text - linkedText
		base := int64(k.TextPhysical - (k.Text - kernelMap))
		if k.VMCoreInfo != nil && base != k.PhysBase {
			k.warn("VMCOREINFO says phys_base %#x, the page tables say %#x", k.PhysBase, base)
		}
		k.PhysBase = base
		if v := k.VMCoreInfo; v != nil && v.HasOffset && v.KernelOffset != k.TextShift {
			k.warn("VMCOREINFO says KERNELOFFSET %#x, the symbols say %#x", v.KernelOffset, k.TextShift)
		}
		k.readRegions()
		half := k.Space
		half.Root |= 0x1000
		k.PTI = half.maps(cpuEntryArea)
	} else {
		k.PageOffset = pageOffset32
		k.TextShift = k.Text - linkedText32
	}
	k.readBanner()
	k.readBTF()
	k.readBuildID()
	k.countCPUs()
	k.checkCPUs(s)
	k.image = nil
}

func (a AddressSpace) maps(va uint64) bool {
	_, err := a.Translate(va)
	return err == nil
}

func (k *Kernel) word() int {
	if k.Form.Wide() {
		return 8
	}
	return 4
}

// readSymbols decodes kallsyms: by VMCOREINFO's pointers, or by searching the kernel's image.
func (k *Kernel) readSymbols() {
	var err error
	if v := k.VMCoreInfo; v != nil && v.Symbols["kallsyms_names"] != 0 {
		k.Symbols, err = kallsyms.Tables{
			Names: v.Symbols["kallsyms_names"], NumSyms: v.Symbols["kallsyms_num_syms"],
			TokenTable: v.Symbols["kallsyms_token_table"], TokenIndex: v.Symbols["kallsyms_token_index"],
			Offsets: v.Symbols["kallsyms_offsets"], RelativeBase: v.Symbols["kallsyms_relative_base"],
			Word: k.word(),
		}.Read(k.Space.Read)
		if err != nil {
			k.warn("the symbol tables that VMCOREINFO names can't be read: %v", err)
		}
	}
	if k.Symbols == nil {
		if k.Symbols, err = kallsyms.FindInMemory(k.readImage(), k.word()); err != nil {
			k.warn("no symbols: %v", err)
		}
	}
	if v := k.VMCoreInfo; v != nil {
		for _, name := range []string{"_stext", "swapper_pg_dir", "init_uts_ns"} {
			if a, ok := k.Symbol(name); ok && v.Symbols[name] != 0 && a != v.Symbols[name] {
				k.warn("VMCOREINFO has %s at %#x, the symbols have it at %#x", name, v.Symbols[name], a)
			}
		}
	}
}

// readRegions reads the bases of the regions that CONFIG_RANDOMIZE_MEMORY moves; without it they are fixed.
func (k *Kernel) readRegions() {
	k.PageOffset, k.VmallocBase, k.VmemmapBase = 0xffff_8880_0000_0000, 0xffff_c900_0000_0000, 0xffff_ea00_0000_0000
	if k.Form == Level5 {
		k.PageOffset, k.VmallocBase, k.VmemmapBase = 0xff11_0000_0000_0000, 0xffa0_0000_0000_0000, 0xffd4_0000_0000_0000
	}
	for name, to := range map[string]*uint64{"page_offset_base": &k.PageOffset, "vmalloc_base": &k.VmallocBase, "vmemmap_base": &k.VmemmapBase} {
		if a, ok := k.Symbol(name); ok {
			if v, err := k.Space.Uint64(a); err == nil {
				*to = v
			}
		}
	}
	// The direct map must show the kernel's own page tables where they are.
	if p, err := k.Space.Translate(k.PageOffset + k.Root); err != nil || p.Physical != k.Root {
		k.warn("page_offset_base %#x does not lead to the page tables at %#x", k.PageOffset, k.Root)
	}
}

func (k *Kernel) readBanner() {
	if a, ok := k.Symbol("linux_banner"); ok {
		var b [512]byte
		if err := readSome(k.Space, b[:], a); err == nil {
			k.Banner, k.BannerAddress = strings.TrimSuffix(cString(b[:]), "\n"), a
		}
	}
	if !strings.HasPrefix(k.Banner, "Linux version ") {
		k.BannerAddress = 0
		k.Banner = bannerIn(k.readImage())
	}
	if f := strings.Fields(k.Banner); len(f) > 2 {
		if k.Release != "" && k.Release != f[2] {
			k.warn("uname says release %q, the banner says %q", k.Release, f[2])
		}
		k.Release = f[2]
	}
}

// readSome reads up to the first byte that is not there, and fails only if that is the first.
func readSome(a AddressSpace, p []byte, va uint64) error {
	n := min(uint64(len(p)), 4096-va%4096)
	if err := a.Read(p[:n], va); err != nil {
		return err
	}
	if a.Read(p[n:], va+n) != nil {
		clear(p[n:])
	}
	return nil
}

// bannerIn returns the banner in a kernel's image. It holds several lines that start alike: a format, one from before
// the build was numbered, and the one that it prints at boot, which has "#" and a number.
func bannerIn(image []byte) string {
	const mark = "Linux version "
	for b := image; ; {
		i := bytes.Index(b, []byte(mark))
		if i < 0 {
			return ""
		}
		b = b[i:]
		line := b[:min(len(b), 512)]
		b = b[len(mark):]
		j := bytes.IndexAny(line, "\n\x00")
		if j < 0 || bytes.IndexByte(line[:j], '%') >= 0 {
			continue
		}
		line = line[:j]
		if n := bytes.IndexByte(line, '#'); n >= 0 && n+1 < len(line) && line[n+1] >= '0' && line[n+1] <= '9' {
			return string(line)
		}
	}
}

// maxBTF bounds the .BTF section; those of distribution kernels have 4 to 8 MiB.
const maxBTF = 64 << 20

func (k *Kernel) readBTF() {
	start, ok := k.Symbol("__start_BTF")
	stop, ok2 := k.Symbol("__stop_BTF")
	if !ok || !ok2 || stop <= start {
		return
	}
	if stop-start > maxBTF {
		k.warn("a .BTF section of %d bytes is not believable", stop-start)
		return
	}
	b := make([]byte, stop-start)
	if err := k.Space.Read(b, start); err != nil {
		k.warn("the .BTF section can't be read: %v", err)
		return
	}
	if len(b) < 24 || binary.LittleEndian.Uint16(b) != 0xeb9f {
		k.warn("the .BTF section does not start as one")
		return
	}
	k.BTFHash, k.BTFSize = fmt.Sprintf("%x", sha256.Sum256(b)), uint64(len(b))
}

// readBuildID reads the kernel's notes, in memory, for that of the linker.
func (k *Kernel) readBuildID() {
	start, ok := k.Symbol("__start_notes")
	stop, ok2 := k.Symbol("__stop_notes")
	if ok && ok2 && stop > start && stop-start <= 1<<20 {
		b := make([]byte, stop-start)
		if k.Space.Read(b, start) == nil {
			notes, _ := snapshots.ParseNotes(b, 4)
			for _, n := range notes {
				if n.Name == "GNU" && n.Type == 3 && len(n.Data) >= 8 && len(n.Data) <= 64 {
					k.BuildID = hex.EncodeToString(n.Data)
				}
			}
		}
	}
	if v := k.VMCoreInfo; v != nil && v.BuildID != "" {
		switch {
		case !v.SaneBuildID():
		case k.BuildID == "":
			k.BuildID = v.BuildID
		case k.BuildID != v.BuildID:
			k.warn("VMCOREINFO has build id %s, the kernel's notes have %s (known of some stable kernels)", v.BuildID, k.BuildID)
		}
	}
}

func (k *Kernel) countCPUs() {
	read := func(name string) int {
		if a, ok := k.Symbol(name); ok {
			if n, err := k.Space.Uint32(a); err == nil && n > 0 && n <= 8192 {
				return int(n)
			}
		}
		return 0
	}
	k.CPUsPossible = read("nr_cpu_ids")
	if k.CPUsOnline = read("__num_online_cpus"); k.CPUsOnline == 0 {
		if a, ok := k.Symbol("__cpu_online_mask"); ok {
			if n, err := k.Space.Uint64(a); err == nil {
				k.CPUsOnline = bits.OnesCount64(n)
			}
		}
	}
}

// checkCPUs compares with the processors' registers, which a guest can't forge in a container that the hypervisor wrote.
func (k *Kernel) checkCPUs(s snapshots.Snapshot) {
	cpus := s.CPUs()
	for i, c := range cpus {
		form := formOf(c)
		if form == Unknown {
			continue
		}
		if form != k.Form {
			k.warn("processor %d has %s paging, the kernel's tables are %s", i, form, k.Form)
			continue
		}
		p, err := FromCR3(s, form, c.CR3, k.PTI).Translate(k.Text)
		if err != nil || p.Physical != k.TextPhysical {
			k.warn("processor %d, with CR3 %#x, does not have this kernel at %#x", i, c.CR3, k.Text)
		}
		if c.Has&snapshots.HasSegments == 0 || !k.Form.Wide() {
			continue
		}
		want, ok := k.Symbol("asm_exc_divide_error")
		if !ok {
			want, ok = k.Symbol("divide_error")
		}
		var gate [16]byte
		if ok && k.Space.Read(gate[:], c.IDTR.Base) == nil {
			le := binary.LittleEndian
			if h := uint64(le.Uint16(gate[:])) | uint64(le.Uint16(gate[6:]))<<16 | uint64(le.Uint32(gate[8:]))<<32; h != want {
				k.warn("processor %d: vector 0 leads to %#x, the kernel's handler is at %#x", i, h, want)
			}
		}
	}
	if n := len(cpus); n > 0 && k.CPUsOnline > 0 && n != k.CPUsOnline {
		k.warn("the file has %d processors, the kernel has %d online", n, k.CPUsOnline)
	}
}
