package machine

import (
	"slices"

	"github.com/hybridbridge/emu/core/device"
)

// bus dispatches port and memory-mapped accesses to devices. It implements device.Bus.
type bus struct {
	ports   []device.Ports // by port
	regions []region       // sorted by base
	exits   map[any]uint64 // accesses by device, for statistics
}

type region struct {
	base, size uint64
	dev        device.MMIO
}

func newBus() *bus {
	return &bus{ports: make([]device.Ports, 1<<16), exits: make(map[any]uint64)}
}

// MapPorts implements device.Bus.
func (b *bus) MapPorts(first uint16, count int, d device.Ports) {
	for i := range count {
		if p := int(first) + i; p < len(b.ports) {
			b.ports[p] = d
		}
	}
}

// MapMMIO implements device.Bus. A region that begins where another does replaces it.
func (b *bus) MapMMIO(base, size uint64, d device.MMIO) {
	b.regions = slices.DeleteFunc(b.regions, func(r region) bool { return r.base == base })
	if d == nil {
		return
	}
	i, _ := slices.BinarySearchFunc(b.regions, base, func(r region, base uint64) int {
		if r.base < base {
			return -1
		}
		return 1
	})
	b.regions = slices.Insert(b.regions, i, region{base, size, d})
}

func (b *bus) find(pa uint64) *region {
	for i := len(b.regions) - 1; i >= 0; i-- {
		if r := &b.regions[i]; pa >= r.base && pa-r.base < r.size {
			return r
		}
	}
	return nil
}

func (b *bus) readMMIO(pa uint64, size int) uint64 {
	if r := b.find(pa); r != nil {
		b.exits[r.dev]++
		return r.dev.ReadMMIO(pa-r.base, size)
	}
	return ^uint64(0) >> (64 - 8*size)
}

func (b *bus) writeMMIO(pa uint64, size int, v uint64) {
	if r := b.find(pa); r != nil {
		b.exits[r.dev]++
		r.dev.WriteMMIO(pa-r.base, size, v)
	}
}

func (b *bus) readPort(port uint16, size int) uint32 {
	if d := b.ports[port]; d != nil {
		b.exits[d]++
		return d.ReadPort(port, size)
	}
	return ^uint32(0) >> (32 - 8*size)
}

func (b *bus) writePort(port uint16, size int, v uint32) {
	if d := b.ports[port]; d != nil {
		b.exits[d]++
		d.WritePort(port, size, v)
	}
}
