package machine

import (
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/core/acpi"
	"github.com/hybridbridge/emu/core/block"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/acpipm"
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
	"github.com/hybridbridge/emu/core/memory"
)

// ISA interrupts of the board.
const (
	irqTimer    = 0
	irqKeyboard = 1
	irqSerial   = 4
	irqSCI      = 9
	irqRTC      = 8
)

// board is the set of devices.
type board struct {
	lapic    *lapic.APIC
	ioapic   *ioapic.IOAPIC
	pic      *pic.PIC
	uart     *uart.UART
	pci      *pci.Bus
	stateful []device.Stateful
	disks    []block.Disk
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
		Clock: m.queue, Bus: m.bus, TSCDeadline: true, TSC: m.cpu.TSC,
		INTR: m.cpu.SetINTR, NMI: m.cpu.SetNMI,
		ExtINT: func() uint8 { return b.pic.Ack() },
		EOI:    func(vector uint8) { b.ioapic.EOI(vector) },
	})
	b.ioapic = ioapic.New(ioapic.Config{Target: b.lapic, ID: 1})
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
	b.uart = uart.New(uart.Config{IRQ: m.isa(irqSerial), Out: m.console})
	b.uart.Attach(m.bus)
	pm := acpipm.New(acpipm.Config{
		Clock: m.queue, SCI: m.isa(irqSCI), Reset: m.reset,
		PowerOff: func() { m.end(Outcome{Reason: PowerOff}) },
	})
	pm.Attach(m.bus)
	if err := m.wirePCI(); err != nil {
		return err
	}
	debug := debugport.Config{Console: m.cfg.DebugConsole}
	if m.cfg.DebugExit {
		debug.Exit = func(code uint32) { m.end(Outcome{Reason: DebugExit, Code: code}) }
	}
	debugport.New(debug).Attach(m.bus)
	b.stateful = append(b.stateful, b.lapic, b.ioapic, b.pic, timer, cmos, keyboard, b.uart, pm)
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
	tables, err := acpi.Build(acpi.Config{})
	if err != nil {
		return 0, fmt.Errorf("ACPI tables: %w", err)
	}
	_ = tables
	return 0, nil
}
