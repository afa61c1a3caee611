package memory

import (
	"fmt"

	"github.com/hybridbridge/emu/core/device"
)

var _ device.Memory = (*Memory)(nil)

// Ranges returns the layout, sorted by address.
func (m *Memory) Ranges() []Range {
	out := make([]Range, len(m.regions))
	for i, r := range m.regions {
		out[i] = r.Range
	}
	return out
}

// Regions returns the layout with the place of each range in the memory file, sorted by address.
func (m *Memory) Regions() []Region { return append([]Region(nil), m.regions...) }

// Usable returns the sum of the sizes of RAM ranges, in bytes.
func (m *Memory) Usable() uint64 {
	var n uint64
	for _, r := range m.regions {
		if r.Kind == RAM {
			n += r.Size
		}
	}
	return n
}

// OnWrite adds a function that is called after every WriteAt with what was written, so that the CPU can drop decoded
// code and shadow state. Stores of the CPU itself (through Page) are not reported.
func (m *Memory) OnWrite(f func(pa uint64, n int)) { m.hooks = append(m.hooks, f) }

// ReadAt implements device.Memory. ROM can be read.
func (m *Memory) ReadAt(p []byte, pa uint64) bool {
	if !m.backed(pa, len(p), true) {
		return false
	}
	for len(p) > 0 {
		n := copy(p, m.ReadPage(pa)[pa%PageSize:])
		p, pa = p[n:], pa+uint64(n)
	}
	return true
}

// WriteAt implements device.Memory. Writes that touch ROM report false and change nothing.
func (m *Memory) WriteAt(p []byte, pa uint64) bool {
	if !m.backed(pa, len(p), false) {
		return false
	}
	m.store(p, pa)
	return true
}

// SetROM fills read-only memory (or any other backed memory), as the machine does before it runs.
func (m *Memory) SetROM(p []byte, pa uint64) error {
	if !m.backed(pa, len(p), true) {
		return fmt.Errorf("memory: %d bytes at %#x are not all backed", len(p), pa)
	}
	m.store(p, pa)
	return nil
}

func (m *Memory) store(p []byte, pa uint64) {
	first, total := pa, len(p)
	for len(p) > 0 {
		n := copy(m.ReadPage(pa)[pa%PageSize:], p)
		p, pa = p[n:], pa+uint64(n)
	}
	for _, f := range m.hooks {
		f(first, total)
	}
}

func (m *Memory) backed(pa uint64, n int, rom bool) bool {
	end := pa + uint64(n)
	if end < pa {
		return false
	}
	for i := range m.regions {
		r := &m.regions[i]
		if pa >= end {
			break
		}
		if pa < r.Base {
			return false
		}
		if pa < r.End() && (rom || r.Kind != ROM) {
			pa = r.End()
		}
	}
	return pa >= end
}
