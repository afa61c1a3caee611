package pci

import (
	"encoding/binary"
	"fmt"
)

// MSI-X capability (PCI 3.0, 6.8.2).
const (
	capMSIX        = 0x11
	msixEnable     = 1 << 15
	msixMask       = 1 << 14
	msixEntry      = 16
	msixVectors    = 128 // what fits below the PBA
	msixPBA        = 0x800
	msixBARSize    = 0x1000
	msixVectorMask = 1 << 0
)

// MSIX is a function's message-signalled interrupts. Table and pending bits fill a BAR of their own. A nil *MSIX is
// one that is not there.
type MSIX struct {
	f       *Function
	off     int // of the capability
	vectors int
	table   []uint8
	pending [msixVectors / 64]uint64
}

// AddMSIX gives the function MSI-X with a number of vectors, in BAR i.
func (f *Function) AddMSIX(i, vectors int) (*MSIX, error) {
	if vectors < 1 || vectors > msixVectors || f.msix != nil {
		return nil, fmt.Errorf("pci: no MSI-X with %d vectors", vectors)
	}
	m := &MSIX{f: f, vectors: vectors, table: make([]uint8, vectors*msixEntry)}
	for v := range vectors {
		m.table[v*msixEntry+12] = msixVectorMask
	}
	if err := f.AddBAR(i, BAR{Kind: Memory32, Size: msixBARSize, Handler: m}); err != nil {
		return nil, err
	}
	body := make([]byte, 10)
	binary.LittleEndian.PutUint16(body, uint16(vectors-1))
	binary.LittleEndian.PutUint32(body[2:], uint32(i))
	binary.LittleEndian.PutUint32(body[6:], msixPBA|uint32(i))
	off, err := f.AddCapability(capMSIX, body, []byte{0, (msixEnable | msixMask) >> 8})
	if err != nil {
		return nil, err
	}
	m.off, f.msix = off, m
	return m, nil
}

func (m *MSIX) control() uint16 { return binary.LittleEndian.Uint16(m.f.data[m.off+2:]) }

// Enabled reports whether the guest has switched from INTx to MSI-X.
func (m *MSIX) Enabled() bool { return m != nil && m.control()&msixEnable != 0 }

// Notify sends vector v, or makes it pending while it is masked. It reports false if MSI-X is not enabled or has no
// such vector; then the device has to use its pin.
func (m *MSIX) Notify(v int) bool {
	if !m.Enabled() {
		return false
	}
	if v < 0 || v >= m.vectors {
		return true // the guest assigned none: no interrupt
	}
	m.pending[v>>6] |= 1 << (v & 63)
	m.update()
	return true
}

// update sends what is pending and not masked.
func (m *MSIX) update() {
	if !m.Enabled() || m.control()&msixMask != 0 || !m.f.BusMaster() {
		return
	}
	for v := range m.vectors {
		if m.pending[v>>6]>>(v&63)&1 == 0 {
			continue
		}
		e := m.table[v*msixEntry:]
		if e[12]&msixVectorMask != 0 {
			continue
		}
		m.pending[v>>6] &^= 1 << (v & 63)
		if h := m.f.host; h != nil && h.c.MSI != nil {
			h.c.MSI(binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint32(e[8:]))
		}
	}
}

// ReadMMIO implements device.MMIO.
func (m *MSIX) ReadMMIO(off uint64, size int) uint64 {
	var v uint64
	for i := range size {
		v |= uint64(m.byteAt(off+uint64(i))) << (8 * i)
	}
	return v
}

func (m *MSIX) byteAt(off uint64) uint8 {
	switch {
	case off < uint64(len(m.table)):
		return m.table[off]
	case off >= msixPBA && off < msixPBA+msixVectors/8:
		n := off - msixPBA
		return uint8(m.pending[n/8] >> (8 * (n % 8)))
	}
	return 0
}

// WriteMMIO implements device.MMIO. The pending bits can't be written.
func (m *MSIX) WriteMMIO(off uint64, size int, v uint64) {
	for i := range size {
		at := off + uint64(i)
		if at >= uint64(len(m.table)) {
			break
		}
		b := uint8(v >> (8 * i))
		switch at % msixEntry {
		case 0:
			b &^= 3 // a message address is a multiple of 4
		case 12:
			b &= msixVectorMask
		case 13, 14, 15:
			b = 0
		}
		m.table[at] = b
	}
	m.update()
}
