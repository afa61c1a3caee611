package ioapic

import (
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/apic"
)

// The usual place of the registers and the number of inputs.
const (
	DefaultBase = 0xfec00000
	Size        = 0x1000
	Pins        = 24
)

// Bits of a redirection entry (82093AA, 3.2.4).
const (
	rteLogical   = 1 << 11
	rteRemoteIRR = 1 << 14
	rteLevel     = 1 << 15
	rteMask      = 1 << 16
	rteWritable  = 0xff<<56 | 0x1afff
)

// Config is what an I/O APIC is connected to.
type Config struct {
	Target apic.Target // the local APIC
	Base   uint64      // physical address; 0 means DefaultBase
	ID     uint8       // APIC ID after reset
}

// IOAPIC is an I/O APIC. It implements device.MMIO and device.Stateful.
type IOAPIC struct {
	c     Config
	index uint8
	id    uint32
	lines uint32 // levels of the inputs
	rte   [Pins]uint64
}

// New returns an I/O APIC with all inputs masked.
func New(c Config) *IOAPIC {
	if c.Base == 0 {
		c.Base = DefaultBase
	}
	a := &IOAPIC{c: c}
	a.Reset()
	return a
}

// Reset is the state after RESET. The levels of the inputs stay.
func (a *IOAPIC) Reset() {
	*a = IOAPIC{c: a.c, id: uint32(a.c.ID&0xf) << 24, lines: a.lines}
	for i := range a.rte {
		a.rte[i] = rteMask
	}
}

// Attach maps the registers.
func (a *IOAPIC) Attach(bus device.Bus) { bus.MapMMIO(a.c.Base, Size, a) }

// Line returns input pin (0-23).
func (a *IOAPIC) Line(pin int) device.Line {
	if pin < 0 || pin >= Pins {
		return device.LineFunc(func(bool) {})
	}
	return device.LineFunc(func(level bool) {
		rise := level && a.lines>>pin&1 == 0
		if level {
			a.lines |= 1 << pin
		} else {
			a.lines &^= 1 << pin
		}
		a.service(pin, rise)
	})
}

// service sends the message of a pin that has risen or whose level must be looked at again. An edge on a masked pin
// is lost (82093AA, 3.2.4, interrupt mask).
func (a *IOAPIC) service(pin int, rise bool) {
	e := a.rte[pin]
	level := e&rteLevel != 0
	if e&rteMask != 0 || !level && !rise || level && (a.lines>>pin&1 == 0 || e&rteRemoteIRR != 0) {
		return
	}
	ok := a.c.Target != nil && a.c.Target.Deliver(apic.Message{
		Dest:    uint8(e >> 56),
		Logical: e&rteLogical != 0,
		Mode:    apic.Mode(e >> 8 & 7),
		Vector:  uint8(e),
		Level:   level,
	})
	if ok && level {
		a.rte[pin] |= rteRemoteIRR
	}
}

// EOI ends the level-triggered interrupts with a vector. Those that are still asserted are sent again.
func (a *IOAPIC) EOI(vector uint8) {
	for pin, e := range a.rte {
		if uint8(e) == vector && e&rteRemoteIRR != 0 {
			a.rte[pin] &^= rteRemoteIRR
			a.service(pin, false)
		}
	}
}

// ReadMMIO implements device.MMIO: IOREGSEL at 0, IOWIN at 0x10.
func (a *IOAPIC) ReadMMIO(off uint64, size int) uint64 {
	var v uint32
	switch off &^ 3 {
	case 0x00:
		v = uint32(a.index)
	case 0x10:
		v = a.read(a.index)
	}
	r := uint64(v) >> (8 * (off & 3))
	if size < 4 {
		r &= 1<<(8*size) - 1
	}
	return r
}

// WriteMMIO implements device.MMIO. Only IOREGSEL takes writes narrower than 32 bits.
func (a *IOAPIC) WriteMMIO(off uint64, size int, v uint64) {
	switch {
	case off == 0x00:
		a.index = uint8(v)
	case size < 4:
	case off == 0x10:
		a.write(a.index, uint32(v))
	case off == 0x40:
		a.EOI(uint8(v))
	}
}

func (a *IOAPIC) read(index uint8) uint32 {
	switch {
	case index == 0, index == 2: // ID, arbitration ID
		return a.id
	case index == 1:
		return 0x20 | (Pins-1)<<16
	case index >= 0x10 && index < 0x10+2*Pins:
		return uint32(a.rte[(index-0x10)>>1] >> (32 * (index & 1)))
	}
	return 0
}

func (a *IOAPIC) write(index uint8, v uint32) {
	switch {
	case index == 0:
		a.id = v & 0x0f000000
	case index >= 0x10 && index < 0x10+2*Pins:
		pin := int(index-0x10) >> 1
		shift := 32 * (index & 1)
		old := a.rte[pin]
		e := old&^(0xffffffff<<shift) | uint64(v)<<shift
		e = e&rteWritable | old&rteRemoteIRR
		if e&rteLevel == 0 {
			e &^= rteRemoteIRR // an entry switched to edge forgets; Linux relies on it for old versions
		}
		a.rte[pin] = e
		a.service(pin, false)
	}
}
