package boot

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/core/memory"
)

// Params is what a kernel is started with.
type Params struct {
	CommandLine string
	Initrd      []byte         // initial RAM file system, or the first multiboot module; nil for none
	RSDP        uint64         // physical address of the ACPI root pointer, 0 if the kernel is to search for it
	Reserved    []memory.Range // address ranges without memory that the E820 map is to list as reserved (MMCONFIG, APICs)
	Force32     bool           // enter a 64-bit Linux kernel through its 32-bit entry point, which its stub has

	// Stub enters a bzImage through its own decompressing stub, which then unpacks, relocates and randomises the kernel.
	// Otherwise all that is done here, unless the payload is of a kind that only the stub can unpack.
	Stub bool
	// Shifts places the kernel exactly; nil leaves it to Seed and to "nokaslr" on the command line.
	Shifts *Shifts
	// Seed chooses random addresses.
	Seed uint64
	// LA57 says that the processor has 5-level paging, so that a kernel that knows it is entered with it.
	LA57 bool
}

// Loaded says where things went and how the processor starts. Ends are exclusive; what is absent is 0.
type Loaded struct {
	Entry                 EntryState
	KernelBase, KernelEnd uint64 // including the room that it unpacks and starts in
	InitrdBase, InitrdEnd uint64
	// Stub says that the kernel is entered through its own stub. Where it will lie is not known then.
	Stub bool
	// Shifts says where the kernel lies. Regions are those asked for, which the kernel does not know of.
	Shifts Shifts
}

// ErrNoRoom is wrapped by errors about a kernel or an initrd that memory is too small for.
var ErrNoRoom = errors.New("not enough memory")

// ErrCommandLine is wrapped by errors about a command line that is too long.
var ErrCommandLine = errors.New("command line too long")

// loader is one Load call.
type loader struct {
	im *Image
	m  *memory.Memory
	p  Params
	s  *space
	Loaded
	phys  uint64 // where a kernel without a stub goes
	kaslr bool   // it is told that it was randomised
}

// Load writes the kernel, its initrd and the protocol's data structures into m and returns the entry state.
func (im *Image) Load(m *memory.Memory, p Params) (*Loaded, error) {
	l := &loader{im: im, m: m, p: p, s: newSpace(m)}
	err := l.load()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", im.Format, err)
	}
	return &l.Loaded, nil
}

func (l *loader) load() error {
	if l.im.Format == BzImage && !l.p.Stub && !l.p.Force32 {
		d, err := l.im.Direct()
		switch {
		case err == nil:
			l.im = d
		case !errors.Is(err, ErrPacking):
			return err
		}
	}
	l.Stub = l.im.Format == BzImage
	if l.p.Shifts != nil && (l.Stub || l.im.Format == Multiboot) {
		return fmt.Errorf("%w: only a Linux kernel that emu unpacks can be placed", ErrShifts)
	}
	if l.im.Format == Multiboot {
		return l.multiboot()
	}
	return l.linux()
}

func (l *loader) write(pa uint64, b []byte) error {
	if !l.m.WriteAt(b, pa) {
		return fmt.Errorf("write of %d bytes to %#x is outside of RAM", len(b), pa)
	}
	return nil
}

// zero clears what is not zero already, so that untouched pages of a fresh memory stay untouched.
func (l *loader) zero(pa, n uint64) error {
	var none [memory.PageSize]byte
	for n > 0 {
		k := min(n, memory.PageSize-pa%memory.PageSize)
		pg := l.m.Page(pa)
		if pg == nil {
			return fmt.Errorf("%#x is outside of RAM", pa)
		}
		if part := pg[pa%memory.PageSize:][:k]; string(part) != string(none[:k]) {
			if err := l.write(pa, none[:k]); err != nil {
				return err
			}
		}
		pa, n = pa+k, n-k
	}
	return nil
}

func (l *loader) segments() error {
	base, end := l.im.Window()
	move := l.phys - base
	for _, s := range l.im.segments {
		to := s.base + move
		if !l.s.take(to, s.memSize) {
			return l.noRoom("the kernel", to, s.memSize)
		}
		if err := l.write(to, s.data); err != nil {
			return err
		}
		if err := l.zero(to+uint64(len(s.data)), s.memSize-uint64(len(s.data))); err != nil {
			return err
		}
	}
	l.KernelBase, l.KernelEnd = l.phys, end+move
	first := l.im.segments[0]
	return l.im.relocs.relocate(l.m, first.vaddr, first.base+move, l.KernelEnd, l.Shifts.Text)
}

func (l *loader) noRoom(what string, base, size uint64) error {
	return fmt.Errorf("%w: %s needs RAM at %#x-%#x, but there is none or it is in use; %d MiB of memory would do", ErrNoRoom, what, base, base+size, l.enough(base+size))
}

// enough says, in MiB, how much memory would hold everything in an ordinary layout: the kernel's end, the initrd, and what
// a kernel needs to unpack both.
func (l *loader) enough(end uint64) uint64 {
	_, kernel := l.im.Window()
	n := max(end, kernel) + 4*uint64(len(l.p.Initrd)) + 32<<20
	return (n + 1<<26 - 1) >> 26 << 6
}

// initrd places the initial RAM file system as high as possible under the kernel's limit, so that the kernel has room
// to unpack, and above 4 GiB only if there is no room below and the kernel can read it there.
func (l *loader) initrd(limit uint64, above4G bool) error {
	n := uint64(len(l.p.Initrd))
	if n == 0 {
		return nil
	}
	base, ok := l.s.high(n, memory.PageSize, 0x100000, limit)
	if !ok && above4G {
		base, ok = l.s.high(n, memory.PageSize, 0x100000, memory.MaxPhysical)
	}
	if !ok {
		return fmt.Errorf("%w: no room for the initrd of %d bytes (%d MiB) beside the kernel in %d MiB of RAM; %d MiB of memory would do",
			ErrNoRoom, n, n>>20, l.m.Usable()>>20, l.enough(0))
	}
	l.InitrdBase, l.InitrdEnd = base, base+n
	return l.write(base, l.p.Initrd)
}

// A loader's own structures, all below 1 MiB where a kernel does not expect to find itself: at fixed addresses, as
// firmware would, so that two boots of one kernel are alike.
const (
	gdtPlace       = 0x0500
	paramsPlace    = 0x7000
	stackPlace     = 0x9000 // top
	tablesPlace    = 0x9000
	cmdLinePlace   = 0x20000
	cmdLineRoom    = 0x10000
	biosEBDA       = 0x040e // BIOS data area: segment of the extended BIOS data area
	biosMemory     = 0x0413 // BIOS data area: KiB of conventional memory
	defaultCmdLine = 2047
)

// lowPlaces reserves the fixed places or says that the image is in the way.
func (l *loader) lowPlaces() error {
	for _, p := range []span{{0, 0x1000}, {paramsPlace, stackPlace}, {tablesPlace, tablesPlace + identityPages*4096}, {cmdLinePlace, cmdLinePlace + cmdLineRoom}} {
		if !l.s.take(p.base, p.end-p.base) {
			return fmt.Errorf("no RAM at %#x-%#x for the boot parameters, or the kernel image is linked there", p.base, p.end)
		}
	}
	var w [2]byte
	binary.LittleEndian.PutUint16(w[:], uint16(memory.EBDA>>4))
	if err := l.write(biosEBDA, w[:]); err != nil {
		return err
	}
	binary.LittleEndian.PutUint16(w[:], uint16(memory.LowEnd>>10))
	return l.write(biosMemory, w[:])
}

func (l *loader) commandLine(limit uint64) error {
	n := uint64(len(l.p.CommandLine))
	if limit = min(limit, cmdLineRoom-1); n > limit {
		return fmt.Errorf("%w: it has %d bytes, this kernel takes %d", ErrCommandLine, n, limit)
	}
	for i := range l.p.CommandLine {
		if l.p.CommandLine[i] == 0 {
			return errors.New("the command line holds a zero byte")
		}
	}
	return l.write(cmdLinePlace, append([]byte(l.p.CommandLine), 0))
}

// e820 is one entry of the memory map.
type e820 struct {
	base, size uint64
	kind       uint32
}

func (l *loader) memoryMap() []e820 {
	var out []e820
	for _, r := range l.m.Ranges() {
		if n := len(out); n > 0 && out[n-1].kind == r.Kind.E820() && out[n-1].base+out[n-1].size == r.Base {
			out[n-1].size += r.Size
			continue
		}
		out = append(out, e820{r.Base, r.Size, r.Kind.E820()})
	}
	for _, r := range l.p.Reserved {
		out = append(out, e820{r.Base, r.Size, memory.Reserved.E820()})
	}
	return out
}

// linux loads a bzImage or an ELF kernel and fills boot_params (boot.rst, "64-bit Boot Protocol" and "32-bit Boot
// Protocol").
func (l *loader) linux() error {
	im := l.im
	if im.Format == ELF {
		if err := l.place(); err != nil {
			return err
		}
		if err := l.segments(); err != nil {
			return err
		}
	}
	if err := l.lowPlaces(); err != nil {
		return err
	}
	h := im.setup
	if h == nil {
		h = plainHeader()
	}
	long := im.Bits == 64 && !(l.p.Force32 && im.Format == BzImage)
	base, _ := im.Window()
	entry := im.entry + l.phys - base
	if im.Format == BzImage {
		base, err := l.placeBzImage(h)
		if err != nil {
			return err
		}
		entry = base
		if long {
			entry += entry64Offset
		}
	} else if base, end := l.KernelBase, l.KernelEnd; end > base {
		// The room behind the image that the kernel grows into (brk, early page tables): keep the initrd out of it.
		l.s.taken = append(l.s.taken, span{base, end})
	}
	if at := l.Shifts.Regions.Vmemmap; im.Bits == 32 && at != 0 {
		n := l.m.Usable() / memory.PageSize * structPage
		l.s.taken = append(l.s.taken, span{at - pageOffset32, at - pageOffset32 + n})
	}
	if err := l.commandLine(h.cmdLineSize); err != nil {
		return err
	}
	if err := l.initrd(h.initrdMax+1, h.xloadflags&xlfAbove4G != 0); err != nil {
		return err
	}
	bp, err := l.bootParams(h)
	if err != nil {
		return err
	}
	if err := errors.Join(l.write(paramsPlace, bp), l.write(gdtPlace, gdt(long))); err != nil {
		return err
	}
	l.Entry = flat(gdtPlace, long)
	if long {
		// The stub switches to 5-level paging by itself, the kernel proper wants to be entered with it.
		la57 := l.p.LA57 && !l.Stub && h.xloadflags&xlf5Level == xlf5Level && !l.option("no5lvl")
		if la57 {
			l.Entry.CR4 |= cr4LA57
		}
		if err := l.checkRegions(la57); err != nil {
			return err
		}
		if err := l.write(tablesPlace, identityTables(tablesPlace, l.KernelBase, l.KernelEnd, la57)); err != nil {
			return err
		}
		l.Entry.CR3 = tablesPlace
	}
	l.Entry.RIP = entry
	l.Entry.GPR[regSI] = paramsPlace
	l.Entry.GPR[regSP] = stackPlace - 16
	return nil
}

// plainHeader stands in for the header of an ELF image that came without a bzImage.
func plainHeader() *setupHeader {
	raw := make([]byte, hdrEnd-hdrStart)
	at := func(o int) []byte { return raw[o-hdrStart:] }
	le := binary.LittleEndian
	le.PutUint16(at(hdrBootFlag), 0xaa55)
	le.PutUint16(at(hdrJump), 0x66eb)
	copy(at(hdrMagic), "HdrS")
	le.PutUint16(at(hdrVersion), 0x20c)
	le.PutUint32(at(hdrAlignment), 0x1000000)
	le.PutUint32(at(hdrCmdLineSize), defaultCmdLine)
	le.PutUint32(at(hdrInitrdMax), 0x7fffffff)
	return &setupHeader{raw: raw, initrdMax: 0x7fffffff, cmdLineSize: defaultCmdLine, xloadflags: xlfAbove4G}
}

// placeBzImage copies the protected-mode code to where it is to run, or as near above it as there is room, and reserves
// all that it needs to unpack.
func (l *loader) placeBzImage(h *setupHeader) (uint64, error) {
	base, end := h.window()
	size := end - base
	if !l.s.take(base, size) {
		ok := false
		if want := base; h.relocatable {
			base, ok = l.s.low(size, max(h.alignment, memory.PageSize), want, 4<<30)
			if !ok {
				base = want
			}
		}
		if !ok {
			return 0, l.noRoom("the kernel", base, size)
		}
	}
	l.KernelBase, l.KernelEnd = base, base+size
	return base, l.write(base, l.im.data[h.system:][:h.systemSize])
}

func (l *loader) bootParams(h *setupHeader) ([]byte, error) {
	b := make([]byte, bpSize)
	le := binary.LittleEndian
	copy(b[hdrStart:bpE820], h.raw)
	le.PutUint64(b[bpACPIRSDP:], l.p.RSDP)
	le.PutUint16(b[hdrVidMode:], 0xffff) // normal
	b[hdrLoader] = 0xff                  // not a registered loader
	b[hdrLoadFlags] |= loadedHigh
	if !l.Stub {
		b[hdrLoadFlags] &^= kaslrFlag
		if l.kaslr {
			b[hdrLoadFlags] |= kaslrFlag
		}
	}
	le.PutUint32(b[hdrCode32:], uint32(l.KernelBase))
	le.PutUint32(b[hdrCmdLine:], cmdLinePlace)
	if n := l.InitrdEnd - l.InitrdBase; n > 0 {
		le.PutUint32(b[hdrRamdisk:], uint32(l.InitrdBase))
		le.PutUint32(b[hdrRamdiskLen:], uint32(n))
		le.PutUint32(b[bpExtRamdisk:], uint32(l.InitrdBase>>32))
		le.PutUint32(b[bpExtRamdiskLen:], uint32(n>>32))
	}
	mm := l.memoryMap()
	if len(mm) > maxE820 {
		return nil, fmt.Errorf("the memory map has %d ranges, boot_params holds %d", len(mm), maxE820)
	}
	b[bpE820Entries] = byte(len(mm))
	for i, e := range mm {
		p := b[bpE820+20*i:]
		le.PutUint64(p, e.base)
		le.PutUint64(p[8:], e.size)
		le.PutUint32(p[16:], e.kind)
	}
	if _, upper := l.pcMemory(); upper > 0 {
		le.PutUint32(b[bpAltMemK:], uint32(upper>>10))
	}
	return b, nil
}

// pcMemory returns the sizes, in bytes, of conventional memory and of the RAM that starts at 1 MiB.
func (l *loader) pcMemory() (lower, upper uint64) {
	for _, r := range l.s.ram {
		switch r.base {
		case 0:
			lower = min(r.end, memory.LowEnd)
		case memory.HighBase:
			upper = min(r.end, memory.PCIHole) - r.base
		}
	}
	return lower, upper
}

// multiboot loads a multiboot-1 image and its information structure (specification, section 3.3).
func (l *loader) multiboot() error {
	l.phys, _ = l.im.Window()
	if err := l.segments(); err != nil {
		return err
	}
	if l.s.isFree(0, 0x1000) {
		l.s.take(0, 0x1000)
	}
	mm := l.memoryMap()
	const name = "emu\x00"
	cmd := append([]byte(l.p.CommandLine), 0)
	size := uint64(mbInfoSize + 16 + len(name) + len(cmd) + 24*len(mm) + 48 + 32) // gdt, and padding
	base, ok := l.s.high(size, 16, 0x1000, memory.LowEnd)
	if !ok {
		return l.noRoom("the information structure", 0x1000, size)
	}
	if err := l.initrd(memory.PCIHole, false); err != nil {
		return err
	}
	b := make([]byte, mbInfoSize, size)
	le := binary.LittleEndian
	put := func(p []byte) uint32 {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		at := uint32(base) + uint32(len(b))
		b = append(b, p...)
		return at
	}
	flags := uint32(mbInfoMem | mbInfoCmd | mbInfoMap | mbInfoLoader)
	lower, upper := l.pcMemory()
	le.PutUint32(b[4:], uint32(lower>>10))
	le.PutUint32(b[8:], uint32(upper>>10))
	le.PutUint32(b[16:], put(cmd))
	if l.InitrdEnd > 0 {
		flags |= mbInfoMods
		var mod [16]byte
		le.PutUint32(mod[:], uint32(l.InitrdBase))
		le.PutUint32(mod[4:], uint32(l.InitrdEnd))
		le.PutUint32(mod[8:], le.Uint32(b[16:]))
		le.PutUint32(b[20:], 1)
		le.PutUint32(b[24:], put(mod[:]))
	}
	var entries []byte
	for _, e := range mm {
		entries = le.AppendUint32(entries, 20)
		entries = le.AppendUint64(entries, e.base)
		entries = le.AppendUint64(entries, e.size)
		entries = le.AppendUint32(entries, e.kind)
	}
	le.PutUint32(b[44:], uint32(len(entries)))
	le.PutUint32(b[48:], put(entries))
	le.PutUint32(b[64:], put([]byte(name)))
	table := put(gdt(false))
	le.PutUint32(b[0:], flags)
	if err := l.write(base, b); err != nil {
		return err
	}
	l.Entry = flat(uint64(table), false)
	l.Entry.RIP = l.im.entry
	l.Entry.GPR[regAX] = mbBootMagic
	l.Entry.GPR[regBX] = base
	return nil
}
