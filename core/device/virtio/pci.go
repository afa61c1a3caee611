package virtio

import (
	"fmt"

	"github.com/hybridbridge/emu/core/device/pci"
)

// Virtio over PCI (virtio 1.2, section 4.1): a modern device, without the transitional I/O BAR.
const (
	vendorID     = 0x1af4
	firstModern  = 0x1040 // plus the device type
	capVendor    = 0x09
	structureBAR = 0
	msixBAR      = 1

	capCommon, capNotify, capISR, capDevice, capPCI = 1, 2, 3, 4, 5
)

// pciFunction is a device's PCI function.
type pciFunction struct {
	*pci.Function
	d      *Device
	msix   *pci.MSIX
	n      int // vectors
	window int // offset of the capability through which the BAR is reached from configuration space
}

func (p *pciFunction) MSIX(n uint16) bool { return p.msix.Notify(int(n)) }
func (p *pciFunction) Vectors() int       { return p.n }

// Function makes the PCI function of a device; it is called once, and the result plugged into a pci.Host.
func (d *Device) Function() (*pci.Function, error) {
	kind, class := d.model.identity()
	p := &pciFunction{d: d, n: len(d.queues) + 1, Function: pci.NewFunction(pci.FunctionConfig{
		Vendor: vendorID, Device: firstModern + kind, SubVendor: vendorID, SubDevice: firstModern + kind,
		Class: class, Revision: 1, INTx: true,
	})}
	err := p.AddBAR(structureBAR, pci.BAR{Kind: pci.Memory32, Size: barSize, Handler: d})
	if err == nil {
		p.msix, err = p.AddMSIX(msixBAR, p.n)
	}
	for _, c := range []struct {
		kind           byte
		offset, length uint32
	}{{capCommon, barCommon, commonSize}, {capISR, barISR, 1}, {capDevice, barConfig, 0x1000}, {capNotify, barNotify, 0x1000}, {capPCI, 0, 0}} {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
		// After identifier and link: length, type, BAR, id, padding, offset, length; then what the type adds.
		body := []byte{16, c.kind, structureBAR, 0, 0, 0}
		body = le.AppendUint32(le.AppendUint32(body, c.offset), c.length)
		var mask []byte
		switch c.kind {
		case capNotify:
			body[0] = 20
			body = le.AppendUint32(body, notifyStep)
		case capPCI:
			body[0] = 20
			body = le.AppendUint32(body, 0)
			mask = []byte{0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		}
		p.window, err = p.AddCapability(capVendor, body, mask)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	p.OnConfig(p.readWindow, p.writeWindow)
	d.connect(p)
	return p.Function, nil
}

// windowAccess returns the access that the window capability describes (section 4.1.4.9), if [off, off+size) touches
// its data and it describes one.
func (p *pciFunction) windowAccess(off, size int) (at uint64, n int, ok bool) {
	data := p.window + 16
	if off+size <= data || off >= data+4 {
		return 0, 0, false
	}
	c := p.Config(p.window, 16)
	at, length := uint64(le.Uint32(c[8:])), le.Uint32(c[12:])
	if c[4] != structureBAR || length != 1 && length != 2 && length != 4 || at%uint64(length) != 0 || at >= barSize {
		return 0, 0, false
	}
	return at, int(length), true
}

func (p *pciFunction) readWindow(off, size int) {
	if at, n, ok := p.windowAccess(off, size); ok {
		p.SetConfig(p.window+16, le.AppendUint64(nil, p.d.ReadMMIO(at, n))[:n])
	}
}

func (p *pciFunction) writeWindow(off, size int) {
	if at, n, ok := p.windowAccess(off, size); ok {
		var b [4]byte
		copy(b[:], p.Config(p.window+16, n))
		p.d.WriteMMIO(at, n, uint64(le.Uint32(b[:])))
	}
}
