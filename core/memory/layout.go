package memory

import (
	"fmt"
	"slices"
)

// PageSize is the granularity of the address space.
const PageSize = 4096

// Addresses of the PC's memory map.
const (
	LowEnd      uint64 = 0x9f000       // end of usable conventional memory; the extended BIOS data area follows
	EBDA        uint64 = 0x9f000       // extended BIOS data area, reserved
	VGAHole     uint64 = 0xa0000       // first address of video memory
	BIOSBase    uint64 = 0xe0000       // backed, reserved: firmware tables (ACPI, SMBIOS) go here
	HighBase    uint64 = 0x100000      // end of the first MiB
	PCIHole     uint64 = 0xc000_0000   // first address of the hole below 4 GiB: PCI windows, APICs
	PCIHoleEnd  uint64 = 0x1_0000_0000 // end of that hole
	MaxPhysical uint64 = 1 << 46       // addresses above this are refused
)

// Kind says how a range is backed and what the guest is told about it.
type Kind uint8

// Kinds of a range.
const (
	RAM      Kind = iota // usable memory
	Reserved             // backed like RAM, but the guest is told to keep off (firmware tables)
	ACPI                 // backed like RAM, told to the guest as reclaimable ACPI tables
	ROM                  // backed, but not writable by the guest
)

// String returns the name of the kind.
func (k Kind) String() string {
	switch k {
	case RAM:
		return "RAM"
	case Reserved:
		return "reserved"
	case ACPI:
		return "ACPI"
	case ROM:
		return "ROM"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// E820 returns the type under which the range is listed in the E820 map (ACPI specification 6.5, table 15.4).
func (k Kind) E820() uint32 {
	switch k {
	case RAM:
		return 1
	case ACPI:
		return 3
	}
	return 2
}

// Range is a backed range of physical addresses, in bytes, both ends on page boundaries.
type Range struct {
	Base, Size uint64
	Kind       Kind
}

// End returns the address after the range.
func (r Range) End() uint64 { return r.Base + r.Size }

// Options changes what the layout functions make.
type Options struct {
	// VGARAM backs the video hole from VGAHole to BIOSBase with reserved memory instead of leaving it to devices.
	VGARAM bool
}

func firstMiB(o Options) []Range {
	r := []Range{{0, LowEnd, RAM}, {EBDA, VGAHole - EBDA, Reserved}}
	if o.VGARAM {
		r = append(r, Range{VGAHole, BIOSBase - VGAHole, Reserved})
	}
	return append(r, Range{BIOSBase, HighBase - BIOSBase, Reserved})
}

// appendRAM adds size bytes of RAM from base up, stepping over the hole below 4 GiB.
func appendRAM(r []Range, base, size uint64) []Range {
	if base >= PCIHole && base < PCIHoleEnd {
		base = PCIHoleEnd
	}
	if base < PCIHole && size > PCIHole-base {
		n := PCIHole - base
		return append(r, Range{base, n, RAM}, Range{PCIHoleEnd, size - n, RAM})
	}
	return append(r, Range{base, size, RAM})
}

// Flat is the ordinary layout: size bytes of memory from address 0 (the first MiB counted with it), with the part
// that does not fit below PCIHole placed from 4 GiB up. size is rounded up to a page and must be at least 2 MiB.
func Flat(size uint64, o Options) ([]Range, error) {
	if size < 2<<20 || size > MaxPhysical/2 {
		return nil, fmt.Errorf("memory of %d bytes: must be between 2 MiB and %d GiB", size, MaxPhysical/2>>30)
	}
	size = roundUp(size)
	return appendRAM(firstMiB(o), HighBase, size-HighBase), nil
}

// Disjoint is the layout of a machine whose memory lies above the last address that a snapshot uses: the first MiB, which Linux
// keeps to itself since 5.13, and size bytes of RAM from above. So a physical address tells by its value which machine owns
// it. Size is rounded up to a page, above to 2 MiB.
func Disjoint(size, above uint64, o Options) ([]Range, error) {
	switch {
	case size < 2<<20 || size > MaxPhysical/2:
		return nil, fmt.Errorf("memory of %d bytes: must be between 2 MiB and %d GiB", size, MaxPhysical/2>>30)
	case above < HighBase || above > MaxPhysical/2:
		return nil, fmt.Errorf("memory above %#x: must be between %#x and %#x", above, HighBase, MaxPhysical/2)
	}
	return appendRAM(firstMiB(o), (above+2<<20-1)&^(2<<20-1), roundUp(size)), nil
}

func roundUp(n uint64) uint64 { return (n + PageSize - 1) &^ (PageSize - 1) }

// check returns the layout sorted by address, or says what is wrong with it.
func check(layout []Range) ([]Range, error) {
	if len(layout) == 0 {
		return nil, fmt.Errorf("memory: empty layout")
	}
	s := slices.Clone(layout)
	slices.SortFunc(s, func(a, b Range) int {
		switch {
		case a.Base < b.Base:
			return -1
		case a.Base > b.Base:
			return 1
		}
		return 0
	})
	for i, r := range s {
		switch {
		case r.Base%PageSize != 0 || r.Size%PageSize != 0 || r.Size == 0:
			return nil, fmt.Errorf("memory: range %#x+%#x is empty or not on page boundaries", r.Base, r.Size)
		case r.Base > MaxPhysical || r.Size > MaxPhysical-r.Base:
			return nil, fmt.Errorf("memory: range %#x+%#x ends above %#x", r.Base, r.Size, MaxPhysical)
		case i > 0 && r.Base < s[i-1].End():
			return nil, fmt.Errorf("memory: ranges %#x+%#x and %#x+%#x overlap", s[i-1].Base, s[i-1].Size, r.Base, r.Size)
		case r.Kind > ROM:
			return nil, fmt.Errorf("memory: range %#x+%#x is of unknown kind %d", r.Base, r.Size, r.Kind)
		}
	}
	return s, nil
}
