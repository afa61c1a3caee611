package machine

import (
	"encoding/binary"
	"fmt"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// regions places a kernel's memory regions: once kernel_randomize_memory() has chosen bases for them and before anything
// uses those, they are replaced. See docs/decisions/kaslr-of-the-trusted-kernel.md.
type regions struct {
	// Stop is the linear address at which the guest is stopped: first the function's beginning, then its return address.
	Stop    uint64
	Entered bool
	Bases   []regionBase
	// Alloc is the function that allocates for Stop, and MemMap what it is to return, in a 32-bit kernel.
	Alloc, MemMap uint64
}

// regionBase is a variable of the kernel and what it is to hold.
type regionBase struct{ Address, Value uint64 }

// findRegions finds what is needed of a kernel that was loaded with shifts s.
func findRegions(image *boot.Image, s boot.Shifts) (*regions, error) {
	vmlinux, err := image.Unpack()
	if err != nil {
		return nil, err
	}
	t, err := symbols.FromKernel(vmlinux)
	if err != nil {
		return nil, fmt.Errorf("%w: memory regions: %w", boot.ErrShifts, err)
	}
	t = t.Shift(s.Text)
	find := func(name string) (a uint64) {
		a, ok := t.Address(name)
		if !ok && err == nil {
			err = fmt.Errorf("%w: this kernel has no %s, so its memory regions cannot be placed", boot.ErrShifts, name)
		}
		return a
	}
	if image.Bits == 32 {
		r := &regions{Stop: find("memmap_alloc"), Alloc: find("memblock_alloc_try_nid_raw"), MemMap: s.Regions.Vmemmap}
		return r, err
	}
	r := &regions{Stop: find("kernel_randomize_memory"), Bases: []regionBase{
		{find("page_offset_base"), s.Regions.PageOffset},
		{find("vmalloc_base"), s.Regions.Vmalloc},
		{find("vmemmap_base"), s.Regions.Vmemmap},
	}}
	return r, err
}

// linear32 is where a 32-bit kernel has physical address 0 (PAGE_OFFSET).
const linear32 = 0xc0000000

// armRegions makes the guest stop where its regions are to be placed.
func (m *Machine) armRegions() error {
	if m.accel != nil {
		return fmt.Errorf("%w: the memory regions of a kernel that starts are placed by the emulator: boot it there, save, and load that", ErrConfig)
	}
	m.cpu.AddBreakpoint(m.regions.Stop)
	return nil
}

// placeRegions handles the exit at a breakpoint that arm has set.
func (m *Machine) placeRegions(exit vcpu.Exit) (handled bool, err error) {
	r := m.regions
	if r == nil || exit.Reason != vcpu.ExitBreakpoint || exit.Address != r.Stop {
		return false, nil
	}
	m.cpu.RemoveBreakpoint(r.Stop)
	if r.MemMap != 0 {
		return true, m.placeMemMap()
	}
	var b [8]byte
	if !r.Entered {
		sp := m.cpu.State().GPR[4]
		if m.cpu.ReadLinear(sp, b[:]) != len(b) {
			return false, fmt.Errorf("%w: kernel_randomize_memory() has no return address at %#x", boot.ErrShifts, sp)
		}
		r.Entered, r.Stop = true, binary.LittleEndian.Uint64(b[:])
		return true, m.armRegions()
	}
	for _, v := range r.Bases {
		binary.LittleEndian.PutUint64(b[:], v.Value)
		if m.cpu.WriteLinear(v.Address, b[:]) != len(b) {
			return false, fmt.Errorf("%w: cannot write to %#x", boot.ErrShifts, v.Address)
		}
	}
	m.regions = nil
	return true, nil
}

// placeMemMap has the kernel allocate the array of struct page where it is to be: the first call of the allocator by
// memmap_alloc() gets that place as its bounds (mm/memblock.c; regparm(3): what does not fit into registers is on the stack).
func (m *Machine) placeMemMap() error {
	const pae, eax, ecx = 1 << 5, 0, 1
	r, s := m.regions, m.cpu.State()
	switch {
	case r.Alloc != 0:
		r.Stop, r.Alloc = r.Alloc, 0
	case !r.Entered:
		// size, align, min_addr, max_addr, nid; the first two are of 64 bits too with PAE.
		var stack [28]byte
		if m.cpu.ReadLinear(s.GPR[4], stack[:]) != len(stack) {
			return fmt.Errorf("%w: no arguments at %#x", boot.ErrShifts, s.GPR[4])
		}
		low := r.MemMap - linear32
		high := low + s.GPR[eax]
		if s.CR4&pae != 0 {
			binary.LittleEndian.PutUint64(stack[12:], low)
			binary.LittleEndian.PutUint64(stack[20:], high)
		} else {
			s.GPR[ecx] = low
			binary.LittleEndian.PutUint32(stack[4:], uint32(high))
		}
		if m.cpu.WriteLinear(s.GPR[4], stack[:]) != len(stack) {
			return fmt.Errorf("%w: cannot write to %#x", boot.ErrShifts, s.GPR[4])
		}
		if err := m.cpu.SetState(s); err != nil {
			return err
		}
		r.Entered, r.Stop = true, uint64(binary.LittleEndian.Uint32(stack[:]))
	default:
		m.regions = nil
		if s.GPR[eax] != r.MemMap {
			return fmt.Errorf("%w: the kernel puts mem_map at %#x and not at %#x, where something else is", boot.ErrShifts, s.GPR[eax], r.MemMap)
		}
		return nil
	}
	return m.armRegions()
}
