package boot

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/hybridbridge/emu/core/memory"
)

// Shifts says where a randomised Linux kernel lies, in the kernel's own terms, as a snapshot of it tells them. The zero
// value is a kernel that lies where it was linked.
type Shifts struct {
	// Text is added to the addresses that the kernel was linked for (KERNELOFFSET of VMCOREINFO).
	Text uint64
	// PhysBase is the kernel's phys_base, as a two's complement number: the image starts at the physical address for
	// which it was linked plus Text plus PhysBase. 0 in a 32-bit kernel.
	PhysBase uint64
	// Regions are the bases of the memory regions; the zero value leaves them to the kernel. A 32-bit kernel has Vmemmap
	// alone: its mem_map, which it allocates.
	Regions Regions
}

// Regions are the kernel's page_offset_base, vmalloc_base and vmemmap_base.
type Regions struct {
	PageOffset, Vmalloc, Vmemmap uint64
}

// ErrShifts is wrapped by errors about shifts that a kernel cannot have.
var ErrShifts = errors.New("impossible kernel shifts")

// Limits of a kernel that can be randomised.
const (
	kernelMap   = 0xffffffff80000000 // __START_KERNEL_map
	imageSize64 = 1 << 30            // KERNEL_IMAGE_SIZE with RANDOMIZE_BASE
	imageSize32 = 512 << 20
	align64     = 2 << 20  // PMD_SIZE
	regionAlign = 1 << 30  // PUD_SIZE
	vmalloc4    = 32 << 40 // VMALLOC_SIZE_TB with 4-level paging
	vmalloc5    = 12800 << 40
	lowest4     = 0xffff8000_00000000
	lowest5     = 0xff000000_00000000
	maxMinimum  = 512 << 20 // from where the stub searches at most

	pageOffset32 = 0xc0000000 // PAGE_OFFSET of i386
	structPage   = 64         // bytes, at most
)

// place decides where the kernel goes, as choose_random_location() of arch/x86/boot/compressed/kaslr.c does: at
// l.phys, with l.Shifts.
func (l *loader) place() error {
	im := l.im
	base, end := im.Window()
	l.phys = base
	h := im.setup
	switch {
	case l.p.Shifts != nil:
		return l.exact(*l.p.Shifts, base, end)
	case h != nil && h.relocatable && l.randomises():
		l.kaslr = true
		l.randomPhysical(base, end)
		if im.Bits == 64 {
			slots := (imageSize64-(end-base)-(im.virt()-kernelMap))/l.align() + 1
			l.Shifts.Text = l.random("virtual").Uint64N(slots) * l.align()
		}
	case l.movable() && !l.s.isFree(base, end):
		if b, ok := newSpace(l.m).low(end-base, l.align(), base, l.highest()); ok {
			l.phys = b
		}
	}
	if im.Bits == 32 {
		l.Shifts.Text = l.phys - base
		if im.relocs.none() {
			l.phys, l.Shifts.Text = base, 0
		}
		return nil
	}
	l.Shifts.PhysBase = l.phys - base - l.Shifts.Text
	return nil
}

// movable reports whether the kernel can lie at another physical address: a 64-bit Linux needs no relocations for that.
func (l *loader) movable() bool {
	return l.im.setup != nil && l.im.setup.relocatable || l.im.Bits == 64 && l.im.virt() >= kernelMap
}

// align is what the kernel's addresses must be multiples of (CONFIG_PHYSICAL_ALIGN).
func (l *loader) align() uint64 {
	if l.im.setup == nil {
		return align64
	}
	return max(l.im.setup.alignment, align64)
}

// virt is the virtual address for which the image's first byte was linked.
func (im *Image) virt() uint64 { return im.segments[0].vaddr }

// randomises reports whether the kernel is to lie at random addresses. A kernel that can has relocations, and the command
// line may forbid it.
func (l *loader) randomises() bool {
	base, end := l.im.Window()
	if l.im.relocs.none() || l.im.Bits == 64 && (l.im.virt() < kernelMap || l.im.virt()-kernelMap+end-base > imageSize64) {
		return false
	}
	return !l.option("nokaslr")
}

// option reports whether a word is on the command line.
func (l *loader) option(word string) bool {
	for f := range strings.FieldsSeq(l.p.CommandLine) {
		if f == word {
			return true
		}
	}
	return false
}

// random is the generator for one purpose.
func (l *loader) random(purpose string) *rand.Rand {
	n := uint64(0)
	for _, c := range purpose {
		n = n<<8 | uint64(c)
	}
	return rand.New(rand.NewPCG(l.p.Seed, n))
}

// highest is the address at which the kernel must end.
func (l *loader) highest() uint64 {
	if l.im.Bits == 32 {
		return imageSize32
	}
	return memory.MaxPhysical
}

// randomPhysical chooses one of the places where the kernel fits beside the initrd. Where the command line takes memory
// away, the kernel stays at its place: the stub would look for the rest.
func (l *loader) randomPhysical(base, end uint64) {
	if strings.Contains(l.p.CommandLine, "mem=") || strings.Contains(l.p.CommandLine, "memmap=") {
		return
	}
	align := l.align()
	s := newSpace(l.m)
	s.take(0, memory.HighBase)
	// The initrd goes where it would with the kernel at its place.
	if n := uint64(len(l.p.Initrd)); n > 0 {
		s.taken = append(s.taken, span{base, end})
		b, ok := s.high(n, memory.PageSize, memory.HighBase, l.im.setup.initrdMax+1)
		s.taken = s.taken[:0]
		s.take(0, memory.HighBase)
		if ok {
			s.taken = append(s.taken, span{b, b + n})
		}
	}
	from := (min(base, maxMinimum) + align - 1) &^ (align - 1)
	slots := s.slots(end-base, align, from, l.highest())
	total := uint64(0)
	for _, a := range slots {
		total += (a.end-a.base)/align + 1
	}
	if total == 0 {
		return
	}
	k := l.random("physical").Uint64N(total)
	for _, a := range slots {
		if n := (a.end-a.base)/align + 1; k >= n {
			k -= n
			continue
		}
		l.phys = a.base + k*align
		return
	}
}

// exact places the kernel where the caller wants it.
func (l *loader) exact(want Shifts, base, end uint64) error {
	im := l.im
	if want == (Shifts{}) {
		return nil
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrShifts, fmt.Sprintf(format, args...))
	}
	align := l.align()
	phys := base + want.Text + want.PhysBase
	r := want.Regions
	switch {
	case want.Text != 0 && im.relocs.none():
		return bad("this kernel image has no relocations")
	case want.Text%align != 0 || want.PhysBase%align != 0:
		return bad("text %#x and phys_base %#x must be multiples of %#x", want.Text, want.PhysBase, align)
	case im.Bits == 32 && (want.PhysBase != 0 || r.PageOffset != 0 || r.Vmalloc != 0):
		return bad("a 32-bit kernel has neither phys_base nor memory regions but vmemmap")
	case im.Bits == 32 && r.Vmemmap != 0 && (r.Vmemmap < pageOffset32 || r.Vmemmap-pageOffset32 >= l.m.Usable() || r.Vmemmap%64 != 0):
		return bad("vmemmap %#x is not in the direct map of the %d MiB of RAM", r.Vmemmap, l.m.Usable()>>20)
	case im.Bits == 32 && (want.Text > imageSize32 || phys+end-base > imageSize32),
		im.Bits == 64 && (want.Text > imageSize64 || im.virt()-kernelMap+want.Text+end-base > imageSize64):
		return bad("text %#x moves the kernel beyond the place for it", want.Text)
	case phys < memory.HighBase || phys > memory.MaxPhysical:
		return bad("text %#x and phys_base %#x put the kernel at the physical address %#x", want.Text, want.PhysBase, phys)
	case im.Bits == 64 && r != Regions{} && (r.PageOffset%regionAlign != 0 || r.Vmalloc%regionAlign != 0 || r.Vmemmap%regionAlign != 0):
		return bad("the bases of memory regions must be multiples of %#x", uint64(regionAlign))
	}
	l.kaslr, l.phys, l.Shifts = want.Text != 0 || r != Regions{}, phys, want
	return nil
}

// checkRegions says whether the kernel's memory regions have room where they are wanted.
func (l *loader) checkRegions(la57 bool) error {
	r := l.Shifts.Regions
	if r == (Regions{}) {
		return nil
	}
	levels, lowest, vmalloc := 4, uint64(lowest4), uint64(vmalloc4)
	if la57 {
		levels, lowest, vmalloc = 5, lowest5, vmalloc5
	}
	ranges := l.m.Ranges()
	top := ranges[len(ranges)-1].End()
	if r.PageOffset < lowest || r.Vmalloc < r.PageOffset || r.Vmalloc-r.PageOffset < top ||
		r.Vmemmap < r.Vmalloc || r.Vmemmap-r.Vmalloc < vmalloc || r.Vmemmap > kernelMap {
		return fmt.Errorf("%w: page_offset %#x, vmalloc %#x and vmemmap %#x with %d-level paging and RAM up to %#x",
			ErrShifts, r.PageOffset, r.Vmalloc, r.Vmemmap, levels, top)
	}
	return nil
}

// At returns s with the PhysBase that puts a 64-bit kernel's image at the physical address phys.
func (im *Image) At(s Shifts, phys uint64) Shifts {
	base, _ := im.Window()
	s.PhysBase = phys - base - s.Text
	return s
}
