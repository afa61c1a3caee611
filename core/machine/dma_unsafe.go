package machine

import (
	"unsafe"

	"github.com/hybridbridge/emu/core/block"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/taint"
)

// dmaTaint carries taint through devices that hold data: from guest memory into a device's buffer, on to a disk, and
// back. Buffers are known by the addresses of their bytes in the host; they stay where they are, since Go moves no heap
// objects and a device keeps its buffers for good.
type dmaTaint struct {
	memory  device.Memory
	shadow  *taint.Shadow // of guest memory
	buffers *taint.Shadow // of devices' buffers, by host address
}

func newDMATaint(memory device.Memory, shadow *taint.Shadow) *dmaTaint {
	return &dmaTaint{memory: memory, shadow: shadow, buffers: taint.NewShadow(nil)}
}

// ReadAt implements device.Memory.
func (d *dmaTaint) ReadAt(p []byte, pa uint64) bool {
	if !d.memory.ReadAt(p, pa) {
		return false
	}
	copyTaint(d.buffers, hostAddress(p), d.shadow, pa, len(p))
	return true
}

// WriteAt implements device.Memory. The memory itself tells the CPU that what was written is clean; taint comes after.
func (d *dmaTaint) WriteAt(p []byte, pa uint64) bool {
	if !d.memory.WriteAt(p, pa) {
		return false
	}
	copyTaint(d.shadow, pa, d.buffers, hostAddress(p), len(p))
	return true
}

// disk returns disk with the taint of what is on it.
func (d *dmaTaint) disk(disk block.Disk) *taintedDisk {
	return &taintedDisk{Disk: disk, dma: d, sectors: taint.NewShadow(nil)}
}

// taintedDisk is a disk that remembers which of its bytes were written tainted.
type taintedDisk struct {
	block.Disk
	dma     *dmaTaint
	sectors *taint.Shadow // by offset on the disk
}

// Unwrap returns the disk itself.
func (t *taintedDisk) Unwrap() block.Disk { return t.Disk }

// ReadAt implements block.Disk.
func (t *taintedDisk) ReadAt(p []byte, off uint64) error {
	err := t.Disk.ReadAt(p, off)
	if err == nil {
		copyTaint(t.dma.buffers, hostAddress(p), t.sectors, off, len(p))
	}
	return err
}

// WriteAt implements block.Disk.
func (t *taintedDisk) WriteAt(p []byte, off uint64) error {
	err := t.Disk.WriteAt(p, off)
	if err == nil {
		copyTaint(t.sectors, off, t.dma.buffers, hostAddress(p), len(p))
	}
	return err
}

func hostAddress(p []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))
}

// copyTaint gives n bytes of dst the taint of n bytes of src.
func copyTaint(dst *taint.Shadow, to uint64, src *taint.Shadow, from uint64, n int) {
	for done := 0; done < n; {
		step := min(64, n-done)
		dst.Set(to+uint64(done), step, src.Get(from+uint64(done), step))
		done += step
	}
}
