package pci

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/hybridbridge/emu/core/device"
)

// Registers of the configuration space header (PCI 3.0, figure 6-1).
const (
	regCommand  = 0x04
	regStatus   = 0x06
	regRevision = 0x08
	regCache    = 0x0c
	regLatency  = 0x0d
	regBAR      = 0x10
	regSubsys   = 0x2c
	regCapPtr   = 0x34
	regIntLine  = 0x3c
	regIntPin   = 0x3d
	firstCap    = 0x40

	cmdIO     = 1 << 0
	cmdMemory = 1 << 1
	cmdMaster = 1 << 2
	cmdBits   = 0x0547 // I/O, memory, master, parity, SERR, INTx disable
	cmdNoINTx = 1 << 10

	statusINTx = 1 << 3
	statusCaps = 1 << 4
)

// FunctionConfig identifies a function.
type FunctionConfig struct {
	Vendor, Device       uint16
	SubVendor, SubDevice uint16
	Class                uint32 // class, subclass, programming interface: 24 bits
	Revision             uint8
	INTx                 bool // it uses INTA
}

// BARKind says what address space a BAR is in.
type BARKind uint8

// Kinds of BAR (PCI 3.0, 6.2.5.1).
const (
	Memory32 BARKind = iota
	Memory64         // takes two registers
	IO
)

// BAR is a range of addresses that a function answers to.
type BAR struct {
	Kind         BARKind
	Prefetchable bool
	Size         uint64 // a power of 2; at least 16 for memory, 4 for I/O
	Handler      device.MMIO
}

type bar struct {
	BAR
	index  int
	at     uint64 // where it is mapped
	mapped bool
	want   uint64
	wanted bool
}

// Function is the configuration space of a device. The device adds its BARs and capabilities before it is plugged in.
type Function struct {
	host *Host
	slot int
	data [256]uint8
	mask [256]uint8 // writable bits
	bars [6]*bar
	end  int // of the last capability
	tail int // offset of its next pointer
	msix *MSIX
	intx bool
	line device.Line

	onRead, onWrite func(off, size int)
}

// NewFunction returns a function without BARs and capabilities.
func NewFunction(c FunctionConfig) *Function {
	f := &Function{end: firstCap, tail: regCapPtr}
	le := binary.LittleEndian
	le.PutUint16(f.data[0:], c.Vendor)
	le.PutUint16(f.data[2:], c.Device)
	le.PutUint32(f.data[regRevision:], c.Class<<8|uint32(c.Revision))
	le.PutUint16(f.data[regSubsys:], c.SubVendor)
	le.PutUint16(f.data[regSubsys+2:], c.SubDevice)
	le.PutUint16(f.mask[regCommand:], cmdBits)
	f.mask[regCache], f.mask[regLatency], f.mask[regIntLine] = 0xff, 0xff, 0xff
	if c.INTx {
		f.data[regIntPin] = 1
	}
	return f
}

// AddBAR adds a BAR as number i (0-5).
func (f *Function) AddBAR(i int, b BAR) error {
	least := uint64(16)
	if b.Kind == IO {
		least = 4
	}
	wide := b.Kind == Memory64
	switch {
	case b.Size < least || bits.OnesCount64(b.Size) != 1 || b.Kind == IO && b.Size > 256 || !wide && b.Size > 1<<31:
		return fmt.Errorf("pci: BAR %d can't have %d bytes", i, b.Size)
	case b.Handler == nil:
		return fmt.Errorf("pci: BAR %d has no handler", i)
	case i < 0 || i > 5 || wide && i > 4 || !f.free(i) || wide && !f.free(i+1):
		return fmt.Errorf("pci: no free BAR %d", i)
	}
	f.bars[i] = &bar{BAR: b, index: i}
	m := ^(b.Size - 1)
	reg := regBAR + 4*i
	binary.LittleEndian.PutUint32(f.mask[reg:], uint32(m))
	switch b.Kind {
	case IO:
		f.data[reg] = 1
	case Memory64:
		f.data[reg] = 4
		binary.LittleEndian.PutUint32(f.mask[reg+4:], uint32(m>>32))
	}
	if b.Prefetchable && b.Kind != IO {
		f.data[reg] |= 8
	}
	return nil
}

func (f *Function) free(i int) bool {
	return f.bars[i] == nil && (i == 0 || f.bars[i-1] == nil || f.bars[i-1].Kind != Memory64)
}

// AddCapability adds a capability whose bytes after identifier and next pointer are body. The guest can write the bits
// that are set in mask, which may be shorter than body. It returns the capability's offset.
func (f *Function) AddCapability(id uint8, body, mask []byte) (int, error) {
	off := f.end
	end := (off + 2 + len(body) + 3) &^ 3
	if end > len(f.data) || len(mask) > len(body) {
		return 0, fmt.Errorf("pci: no room for capability %#x", id)
	}
	f.data[off] = id
	copy(f.data[off+2:], body)
	copy(f.mask[off+2:], mask)
	f.data[f.tail] = uint8(off)
	f.tail, f.end = off+1, end
	f.data[regStatus] |= statusCaps
	return off, nil
}

// OnConfig sets functions that are called before the guest reads, and after it wrote, size bytes of configuration
// space. Either may be nil.
func (f *Function) OnConfig(read, write func(off, size int)) { f.onRead, f.onWrite = read, write }

// Config returns a copy of n bytes of configuration space at off.
func (f *Function) Config(off, n int) []byte {
	p := make([]byte, n)
	if off >= 0 && off < len(f.data) {
		copy(p, f.data[off:])
	}
	return p
}

// SetConfig changes bytes of configuration space as the device itself does, writable or not.
func (f *Function) SetConfig(off int, p []byte) {
	if off >= 0 && off < len(f.data) {
		copy(f.data[off:], p)
	}
}

// BusMaster reports whether the guest lets the device access memory.
func (f *Function) BusMaster() bool { return f.command()&cmdMaster != 0 }

// BARAddress returns where BAR i is mapped, or false if it is not.
func (f *Function) BARAddress(i int) (uint64, bool) {
	if i < 0 || i > 5 || f.bars[i] == nil {
		return 0, false
	}
	return f.bars[i].at, f.bars[i].mapped
}

// SetINTx drives the function's interrupt pin. While MSI-X is enabled the pin stays low.
func (f *Function) SetINTx(level bool) {
	f.intx = level
	f.config()
}

func (f *Function) command() uint16 { return binary.LittleEndian.Uint16(f.data[regCommand:]) }

// config follows the registers that govern the interrupt pin.
func (f *Function) config() {
	f.data[regStatus] &^= statusINTx
	if f.intx {
		f.data[regStatus] |= statusINTx
	}
	if f.line != nil {
		f.line.Set(f.intx && f.command()&cmdNoINTx == 0 && !f.msix.Enabled())
	}
}

func (f *Function) address(b *bar) uint64 {
	reg := regBAR + 4*b.index
	v := uint64(binary.LittleEndian.Uint32(f.data[reg:]))
	if b.Kind == Memory64 {
		v |= uint64(binary.LittleEndian.Uint32(f.data[reg+4:])) << 32
	}
	return v &^ (b.Size - 1)
}

func (f *Function) setBAR(b *bar, addr uint64) {
	reg := regBAR + 4*b.index
	low := uint32(f.data[reg] & 0xf)
	binary.LittleEndian.PutUint32(f.data[reg:], uint32(addr)|low)
	if b.Kind == Memory64 {
		binary.LittleEndian.PutUint32(f.data[reg+4:], uint32(addr>>32))
	}
}

// mapping returns where a BAR should be mapped: where its register says, if decoding is on and the bridge forwards
// that address.
func (f *Function) mapping(b *bar) (uint64, bool) {
	enable := uint16(cmdMemory)
	if b.Kind == IO {
		enable = cmdIO
	}
	addr := f.address(b)
	return addr, f.command()&enable != 0 && f.host.inWindow(b.Kind == IO, addr, b.Size)
}

func (f *Function) readConfig(off, size int) uint32 {
	if f.onRead != nil {
		f.onRead(off, size)
	}
	var v uint32
	for i := range size {
		v |= uint32(f.data[off+i]) << (8 * i)
	}
	return v
}

func (f *Function) writeConfig(off, size int, v uint32) {
	for i := range size {
		m := f.mask[off+i]
		f.data[off+i] = f.data[off+i]&^m | uint8(v>>(8*i))&m
	}
	if off < regBAR+24 {
		f.host.remap()
	}
	f.msix.update()
	f.config()
	if f.onWrite != nil {
		f.onWrite(off, size)
	}
}
