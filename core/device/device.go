package device

// Ports is a device, or a part of one, that answers to I/O ports. size is 1, 2 or 4 bytes; port is absolute.
// All calls come from the goroutine that runs the machine.
type Ports interface {
	ReadPort(port uint16, size int) uint32
	WritePort(port uint16, size int, v uint32)
}

// MMIO is a device that answers to a range of guest physical addresses. off counts from the start of the range;
// size is 1, 2, 4 or 8 bytes. All calls come from the goroutine that runs the machine.
type MMIO interface {
	ReadMMIO(off uint64, size int) uint64
	WriteMMIO(off uint64, size int, v uint64)
}

// Bus is where devices are plugged in. Ranges must not overlap; the last registration of a range replaces an
// earlier one (PCI BARs move), and a nil device removes it.
type Bus interface {
	MapPorts(first uint16, count int, d Ports)
	MapMMIO(base, size uint64, d MMIO)
}

// Line is an interrupt input of a controller. Set raises or lowers it; repeated calls with one level change nothing.
type Line interface {
	Set(level bool)
}

// LineFunc makes a function a Line.
type LineFunc func(level bool)

// Set calls f.
func (f LineFunc) Set(level bool) { f(level) }

// Memory is guest physical memory as a bus master sees it. Reads and writes outside RAM report false and change
// nothing. Writes drop decoded code and carry no taint.
type Memory interface {
	ReadAt(p []byte, pa uint64) bool
	WriteAt(p []byte, pa uint64) bool
}

// Stateful is a device whose state is part of a machine snapshot.
type Stateful interface {
	// Name is unique within a machine and stable across versions: "pic", "uart0", "virtio-blk0".
	Name() string
	// SaveState returns a plain struct (exported fields, encodable as JSON) that is separate from the live state.
	SaveState() any
	// LoadState fills such a struct by calling decode with a pointer to it, then takes it over. It reports what does
	// not fit; the device is unusable after an error.
	LoadState(decode func(any) error) error
}
