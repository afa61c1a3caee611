package pci

import (
	"fmt"
	"slices"

	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/irq"
)

// Ports of configuration mechanism 1 (PCI 3.0, 3.2.2.3.2).
const (
	PortAddress = 0xcf8
	PortData    = 0xcfc // 4 ports
)

// The windows through which the bus is reached unless the configuration says otherwise. They must agree with the
// host bridge's resources in the DSDT.
const (
	DefaultMMIOBase uint64 = 0xe0000000
	DefaultMMIOSize uint64 = 0x1ec00000 // to 0xfec00000
	DefaultIOBase   uint64 = 0xc000
	DefaultIOSize   uint64 = 0x4000
)

// Slots is the number of slots on the bus. The host bridge is in slot 0.
const Slots = 32

// Where the four interrupt lines of the bus go: an input of the I/O APIC each, and an ISA interrupt for guests that
// use the PIC, level triggered.
var (
	GSI    = [4]int{16, 17, 18, 19}
	PICIRQ = [4]int{10, 11, 10, 11}
)

// Swizzle returns which of the bus's four lines pin (0 for INTA) of a slot is wired to.
func Swizzle(slot, pin int) int { return (slot + pin) & 3 }

// Wire returns the four lines of the bus, wired to inputs of the I/O APIC and of the PIC.
func Wire(gsi, isa func(n int) device.Line) [4]device.Line {
	shared := map[int]*irq.Or{}
	var l [4]device.Line
	for i := range l {
		n := PICIRQ[i]
		if shared[n] == nil {
			shared[n] = irq.NewOr(isa(n))
		}
		l[i] = irq.Fan(gsi(GSI[i]), shared[n].Input())
	}
	return l
}

// Config is what a host bridge is connected to.
type Config struct {
	Bus  device.Bus     // where BARs are mapped
	INTx [4]device.Line // see Wire; nil lines are left out
	// MSI carries a message-signalled interrupt to the local APIC.
	MSI func(addr uint64, data uint32)
	// The windows; a zero size means the default.
	MMIOBase, MMIOSize uint64
	IOBase, IOSize     uint64
}

// Host is a host bridge and the bus behind it. It implements device.Ports and device.Stateful; its state includes the
// configuration space, BARs and MSI-X tables of all functions.
type Host struct {
	c       Config
	address uint32
	slot    [Slots]*Function
	intx    [4]*irq.Or
}

// New returns a host bridge with an empty bus.
func New(c Config) *Host {
	if c.MMIOSize == 0 {
		c.MMIOBase, c.MMIOSize = DefaultMMIOBase, DefaultMMIOSize
	}
	if c.IOSize == 0 {
		c.IOBase, c.IOSize = DefaultIOBase, DefaultIOSize
	}
	h := &Host{c: c}
	for i := range h.intx {
		h.intx[i] = irq.NewOr(c.INTx[i])
	}
	// A generic host bridge, for which no kernel has a quirk.
	h.plug(0, NewFunction(FunctionConfig{Vendor: 0x1b36, Device: 0x0008, Class: 0x060000}))
	return h
}

// Attach maps the configuration ports. Only aligned 32-bit accesses reach 0xcf8, so the ports after it are free.
func (h *Host) Attach(bus device.Bus) {
	bus.MapPorts(PortAddress, 1, h)
	bus.MapPorts(PortData, 4, h)
}

// Plug puts f into a slot from 1 to 31.
func (h *Host) Plug(slot int, f *Function) error {
	if slot < 1 || slot >= Slots || h.slot[slot] != nil {
		return fmt.Errorf("pci: no free slot %d", slot)
	}
	h.plug(slot, f)
	return nil
}

func (h *Host) plug(slot int, f *Function) {
	h.slot[slot] = f
	f.host, f.slot = h, slot
	if f.data[regIntPin] != 0 {
		n := Swizzle(slot, int(f.data[regIntPin])-1)
		f.line = h.intx[n].Input()
		f.data[regIntLine] = uint8(PICIRQ[n])
	}
	f.config()
}

// AssignBARs gives every BAR an address and enables decoding, as firmware does, largest first.
func (h *Host) AssignBARs() error {
	type request struct {
		f *Function
		b *bar
	}
	var all []request
	for _, f := range h.slot {
		if f == nil {
			continue
		}
		for _, b := range f.bars {
			if b != nil {
				all = append(all, request{f, b})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b request) int {
		switch {
		case a.b.Size > b.b.Size:
			return -1
		case a.b.Size < b.b.Size:
			return 1
		}
		return 0
	})
	next := map[bool]uint64{true: h.c.IOBase, false: h.c.MMIOBase}
	for _, r := range all {
		io := r.b.Kind == IO
		addr := (next[io] + r.b.Size - 1) &^ (r.b.Size - 1)
		if !h.inWindow(io, addr, r.b.Size) {
			return fmt.Errorf("pci: no room for BAR %d of slot %d, %d bytes", r.b.index, r.f.slot, r.b.Size)
		}
		next[io] = addr + r.b.Size
		r.f.setBAR(r.b, addr)
		if io {
			r.f.data[regCommand] |= cmdIO
		} else {
			r.f.data[regCommand] |= cmdMemory
		}
	}
	h.remap()
	return nil
}

func (h *Host) inWindow(io bool, addr, size uint64) bool {
	base, length := h.c.MMIOBase, h.c.MMIOSize
	if io {
		base, length = h.c.IOBase, h.c.IOSize
	}
	return addr >= base && size <= length && addr-base <= length-size
}

// remap maps the BARs where the configuration spaces say. BARs that stay are mapped again after others moved away,
// because a guest may have had two in one place.
func (h *Host) remap() {
	moved := false
	for _, f := range h.slot {
		if f == nil {
			continue
		}
		for _, b := range f.bars {
			if b == nil {
				continue
			}
			b.want, b.wanted = f.mapping(b)
			if b.mapped && (!b.wanted || b.want != b.at) {
				h.mapBAR(b, b.at, false)
				b.mapped, moved = false, true
			}
		}
	}
	for _, f := range h.slot {
		if f == nil {
			continue
		}
		for _, b := range f.bars {
			if b != nil && b.wanted && (moved || !b.mapped) {
				b.at, b.mapped = b.want, true
				h.mapBAR(b, b.at, true)
			}
		}
	}
}

func (h *Host) mapBAR(b *bar, at uint64, on bool) {
	if h.c.Bus == nil {
		return
	}
	if b.Kind == IO {
		var p device.Ports
		if on {
			p = barPorts{b}
		}
		h.c.Bus.MapPorts(uint16(at), int(b.Size), p)
		return
	}
	var m device.MMIO
	if on {
		m = b.Handler
	}
	h.c.Bus.MapMMIO(at, b.Size, m)
}

// barPorts makes an I/O BAR's handler a device.Ports.
type barPorts struct{ b *bar }

func (p barPorts) ReadPort(port uint16, size int) uint32 {
	return uint32(p.b.Handler.ReadMMIO(uint64(port)-p.b.at, size))
}

func (p barPorts) WritePort(port uint16, size int, v uint32) {
	p.b.Handler.WriteMMIO(uint64(port)-p.b.at, size, uint64(v))
}

// target returns the function and register that CONFIG_ADDRESS selects, if there is such a function.
func (h *Host) target() (*Function, int) {
	a := h.address
	if a>>31 == 0 || a>>16&0xff != 0 || a>>8&7 != 0 {
		return nil, 0
	}
	return h.slot[a>>11&0x1f], int(a & 0xfc)
}

// ReadPort implements device.Ports.
func (h *Host) ReadPort(port uint16, size int) uint32 {
	ones := ^uint32(0) >> (32 - 8*min(max(size, 1), 4))
	if port == PortAddress && size == 4 {
		return h.address
	}
	n := int(port) - PortData
	f, reg := h.target()
	if n < 0 || n+size > 4 || f == nil {
		return ones
	}
	return f.readConfig(reg+n, size) & ones
}

// WritePort implements device.Ports.
func (h *Host) WritePort(port uint16, size int, v uint32) {
	if port == PortAddress && size == 4 {
		h.address = v & 0x80fffffc
		return
	}
	n := int(port) - PortData
	f, reg := h.target()
	if n < 0 || n+size > 4 || f == nil {
		return
	}
	f.writeConfig(reg+n, size, v)
}
