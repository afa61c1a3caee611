package machine

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hybridbridge/emu/core/acpi"
	"github.com/hybridbridge/emu/core/block"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/acpipm"
	"github.com/hybridbridge/emu/core/device/apic"
	"github.com/hybridbridge/emu/core/device/debugport"
	"github.com/hybridbridge/emu/core/device/i8042"
	"github.com/hybridbridge/emu/core/device/ioapic"
	"github.com/hybridbridge/emu/core/device/irq"
	"github.com/hybridbridge/emu/core/device/lapic"
	"github.com/hybridbridge/emu/core/device/pci"
	"github.com/hybridbridge/emu/core/device/pic"
	"github.com/hybridbridge/emu/core/device/pit"
	"github.com/hybridbridge/emu/core/device/rtc"
	"github.com/hybridbridge/emu/core/device/uart"
	"github.com/hybridbridge/emu/core/device/virtio"
	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/cpu"
)

// ISA interrupts of the board.
const (
	irqTimer    = 0
	irqKeyboard = 1
	irqRTC      = 8
)

const serialPorts = 4

// serial are the PC's serial ports. The third and the fourth have interrupts of their own, which the ACPI tables tell: on
// a PC they share those of the first two, whose edges would then hide each other.
var serial = [serialPorts]acpi.Serial{{Port: 0x3f8, IRQ: 4}, {Port: 0x2f8, IRQ: 3}, {Port: 0x3e8, IRQ: 5}, {Port: 0x2e8, IRQ: 7}}

// board is the set of devices.
type board struct {
	lapic    *lapic.APIC
	ioapic   *ioapic.IOAPIC
	pic      *pic.PIC
	serial   []*uart.UART
	pci      *pci.Host
	console  *virtio.Console // nil if there is none
	virtio   []device.Stateful
	stateful []device.Stateful
	disks    []block.Disk
	tainted  []*taintedDisk // with taint on: the disks that remember it
	budget   uint64
}

// Drive is a disk of the machine.
type Drive struct {
	Path     string
	Format   string // "raw", "qcow2" or "" to look
	ReadOnly bool
	// Overlay keeps writes in memory: the file never changes.
	Overlay bool
}

// isa returns the line of an ISA interrupt: it reaches the PIC and the I/O APIC, where the timer has input 2 (as the
// MADT's override says).
func (m *Machine) isa(n int) device.Line {
	pin := n
	if n == irqTimer {
		pin = 2
	}
	return irq.Fan(m.board.pic.Line(n), m.board.ioapic.Line(pin))
}

// wire makes the devices and connects them.
func (m *Machine) wire() error {
	b := &m.board
	// The PIC's output reaches the local APIC, which is made with a way to acknowledge the PIC.
	b.lapic = lapic.New(lapic.Config{
		Clock: m.queue, Bus: m.bus, TSCDeadline: m.cpu.Model().Has(cpu.ModelTSCDeadline), TSC: m.cpu.TSC,
		INTR: func(level bool) { m.vcpu.SetINTR(level) }, NMI: func() { m.vcpu.SetNMI() },
		ExtINT: func() uint8 { return b.pic.Ack() },
		EOI:    func(vector uint8) { b.ioapic.EOI(vector) },
	})
	b.ioapic = ioapic.New(ioapic.Config{Target: b.lapic, ID: acpi.IOAPICID})
	b.ioapic.Attach(m.bus)
	b.pic = pic.New(pic.Config{INTR: b.lapic.LINT0()})
	b.pic.Attach(m.bus)
	b.lapic.VirtualWire()

	timer := pit.New(pit.Config{Clock: m.queue, IRQ0: m.isa(irqTimer)})
	timer.Attach(m.bus)
	cmos := rtc.New(rtc.Config{Clock: m.queue, IRQ8: m.isa(irqRTC)})
	cmos.Attach(m.bus)
	keyboard := i8042.New(i8042.Config{IRQ1: m.isa(irqKeyboard), Reset: m.reset})
	keyboard.Attach(m.bus)
	if err := m.wireSerial(); err != nil {
		return err
	}
	pm := acpipm.New(acpipm.Config{
		Clock: m.queue, SCI: m.isa(acpi.SCI), Reset: m.reset,
		PowerOff: func() { m.end(Outcome{Reason: PowerOff}) },
	})
	pm.Attach(m.bus)
	b.pic.SetLevelTriggered(1<<acpi.SCI | 1<<pci.PICIRQ[0] | 1<<pci.PICIRQ[1])
	b.pci = pci.New(pci.Config{Bus: m.bus, INTx: pci.Wire(m.ioapicLine, m.picLine), MSI: m.msi})
	b.pci.Attach(m.bus)
	if err := m.wireVirtio(); err != nil {
		return err
	}
	debug := debugport.Config{Console: m.cfg.DebugConsole}
	if m.cfg.DebugExit {
		debug.Exit = func(code uint32) { m.end(Outcome{Reason: DebugExit, Code: code}) }
	}
	debugport.New(debug).Attach(m.bus)
	// State is loaded in this order: a bus before what is on it, and interrupt controllers last, since devices drive
	// their lines again.
	b.stateful = append(b.stateful, b.pci)
	b.stateful = append(b.stateful, b.virtio...)
	b.stateful = append(b.stateful, timer, cmos, keyboard)
	for _, u := range b.serial {
		b.stateful = append(b.stateful, u)
	}
	b.stateful = append(b.stateful, pm, b.pic, b.ioapic, b.lapic)
	return nil
}

// wireSerial makes the serial ports, of which the first is the console's.
func (m *Machine) wireSerial() error {
	if n := len(m.cfg.Serial); n >= serialPorts {
		return fmt.Errorf("%w: %d serial ports beside COM1, where there is room for %d", ErrConfig, n, serialPorts-1)
	}
	for i, out := range slices.Concat([]io.Writer{m.console}, m.cfg.Serial) {
		u := uart.New(uart.Config{Name: fmt.Sprintf("uart%d", i), Base: serial[i].Port, IRQ: m.isa(serial[i].IRQ), Out: out})
		u.Attach(m.bus)
		m.board.serial = append(m.board.serial, u)
	}
	return nil
}

// reset ends the run as the guest asked for a reset.
func (m *Machine) reset() { m.end(Outcome{Reason: Reset}) }

// reserved are the address ranges of registers, for the E820 map.
func (m *Machine) reserved() []memory.Range {
	return []memory.Range{
		{Base: ioapic.DefaultBase, Size: ioapic.Size, Kind: memory.Reserved},
		{Base: lapic.DefaultBase, Size: lapic.Size, Kind: memory.Reserved},
	}
}

// flush makes what the guest wrote to its disks durable.
func (b *board) flush() error {
	var err error
	for _, d := range b.disks {
		err = errors.Join(err, d.Flush())
	}
	return err
}

func (b *board) close() error {
	var err error
	for _, d := range b.disks {
		err = errors.Join(err, d.Close())
	}
	return err
}

// placeTables writes the ACPI tables into memory and returns the address of the root pointer.
func (m *Machine) placeTables() (uint64, error) {
	t, err := acpi.Build(acpi.Config{Serial: serial[:len(m.board.serial)]})
	if err != nil {
		return 0, fmt.Errorf("ACPI tables: %w", err)
	}
	if err := m.mem.SetROM(t.Data, t.Base); err != nil {
		return 0, fmt.Errorf("ACPI tables: %w", err)
	}
	return t.RSDP(), nil
}

func (m *Machine) ioapicLine(n int) device.Line { return m.board.ioapic.Line(n) }
func (m *Machine) picLine(n int) device.Line    { return m.board.pic.Line(n) }

// msi carries a message-signalled interrupt to the local APIC.
func (m *Machine) msi(addr uint64, data uint32) {
	if msg, ok := apic.DecodeMSI(addr, data); ok {
		m.board.lapic.Deliver(msg)
	}
}

// Slots of the PCI bus: the host bridge has 0, drives follow firstDriveSlot.
const (
	rngSlot        = 1
	consoleSlot    = 2
	firstDriveSlot = 3
	maxDrives      = pci.Slots - firstDriveSlot
)

// wireVirtio makes the virtio devices and plugs them into the PCI bus.
func (m *Machine) wireVirtio() error {
	b := &m.board
	var ram device.Memory = m.mem
	follow := func(d block.Disk) block.Disk { return d }
	if shadow := m.cpu.Shadow(); shadow != nil {
		dma := newDMATaint(m.mem, shadow)
		ram = dma
		follow = func(d block.Disk) block.Disk {
			t := dma.disk(d)
			b.tainted = append(b.tainted, t)
			return t
		}
	}
	if m.cfg.RNG {
		if err := m.plug(rngSlot, virtio.NewRNG("virtio-rng0", ram, m.cfg.Seed)); err != nil {
			return err
		}
	}
	if m.cfg.VirtioConsole != nil {
		b.console = virtio.NewConsole("virtio-console0", ram, m.cfg.VirtioConsole)
		if err := m.plug(consoleSlot, b.console); err != nil {
			return err
		}
	}
	if len(m.cfg.Drives) > maxDrives {
		return fmt.Errorf("%w: %d drives, where there are %d slots", ErrConfig, len(m.cfg.Drives), maxDrives)
	}
	for i, d := range m.cfg.Drives {
		disk, err := block.Open(d.Path, block.Options{Format: d.Format, ReadOnly: d.ReadOnly, Snapshot: d.Overlay})
		if err != nil {
			return err
		}
		b.disks = append(b.disks, disk)
		name := fmt.Sprintf("virtio-blk%d", i)
		if err := m.plug(firstDriveSlot+i, virtio.NewBlk(name, ram, follow(disk), fmt.Sprintf("emu%d", i))); err != nil {
			return err
		}
	}
	return b.pci.AssignBARs()
}

// virtioDevice is what all virtio devices are to the board.
type virtioDevice interface {
	device.Stateful
	Function() (*pci.Function, error)
}

func (m *Machine) plug(slot int, d virtioDevice) error {
	f, err := d.Function()
	if err != nil {
		return err
	}
	m.board.virtio = append(m.board.virtio, d)
	return m.board.pci.Plug(slot, f)
}
