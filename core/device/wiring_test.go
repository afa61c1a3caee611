package device_test

import (
	"bytes"
	"testing"

	"github.com/hybridbridge/emu/core/acpi"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/acpipm"
	"github.com/hybridbridge/emu/core/device/apic"
	"github.com/hybridbridge/emu/core/device/devicetest"
	"github.com/hybridbridge/emu/core/device/ioapic"
	"github.com/hybridbridge/emu/core/device/irq"
	"github.com/hybridbridge/emu/core/device/lapic"
	"github.com/hybridbridge/emu/core/device/pci"
	"github.com/hybridbridge/emu/core/device/pic"
	"github.com/hybridbridge/emu/core/device/pit"
	"github.com/hybridbridge/emu/core/device/rtc"
	"github.com/hybridbridge/emu/core/device/uart"
)

// board is the platform wired as a machine wires it.
type board struct {
	clk   *devicetest.Clock
	lapic *lapic.APIC
	io    *ioapic.IOAPIC
	pic   *pic.PIC
	pit   *pit.PIT
	rtc   *rtc.RTC
	com1  *uart.UART
	pm    *acpipm.PM
	pci   *pci.Host
	fn    *pci.Function
	msix  *pci.MSIX
	out   bytes.Buffer
	intr  bool
}

func newBoard(t *testing.T) *board {
	b := &board{clk: devicetest.NewClock()}
	b.lapic = lapic.New(lapic.Config{
		Clock:  b.clk.Queue,
		INTR:   func(l bool) { b.intr = l },
		ExtINT: func() uint8 { return b.pic.Ack() },
		EOI:    func(v uint8) { b.io.EOI(v) },
	})
	b.pic = pic.New(pic.Config{INTR: b.lapic.LINT0()})
	b.io = ioapic.New(ioapic.Config{Target: b.lapic, ID: acpi.IOAPICID})
	isa := func(n int) device.Line {
		pin := n
		if n == 0 {
			pin = 2 // MADT override
		}
		return irq.Fan(b.pic.Line(n), b.io.Line(pin))
	}
	b.pit = pit.New(pit.Config{Clock: b.clk.Queue, IRQ0: isa(0)})
	b.rtc = rtc.New(rtc.Config{Clock: b.clk.Queue, IRQ8: isa(8)})
	b.com1 = uart.New(uart.Config{IRQ: isa(4), Out: &b.out})
	b.pm = acpipm.New(acpipm.Config{Clock: b.clk.Queue, SCI: isa(acpi.SCI)})
	b.pci = pci.New(pci.Config{
		INTx: pci.Wire(b.io.Line, isa),
		MSI: func(addr uint64, data uint32) {
			if m, ok := apic.DecodeMSI(addr, data); ok {
				b.lapic.Deliver(m)
			}
		},
	})
	b.fn = pci.NewFunction(pci.FunctionConfig{Vendor: 0x1af4, Device: 0x1042, INTx: true})
	var err error
	if b.msix, err = b.fn.AddMSIX(1, 2); err != nil {
		t.Fatal(err)
	}
	if err := b.pci.Plug(1, b.fn); err != nil {
		t.Fatal(err)
	}
	// Firmware's part.
	if err := b.pci.AssignBARs(); err != nil {
		t.Fatal(err)
	}
	b.pic.SetLevelTriggered(1<<acpi.SCI | 1<<10 | 1<<11)
	b.lapic.VirtualWire()
	return b
}

func (b *board) wantVector(t *testing.T, what string, want uint8) {
	t.Helper()
	if !b.intr {
		t.Fatalf("%s: INTR is low", what)
	}
	if got := b.lapic.Ack(); got != want {
		t.Fatalf("%s: vector %#x, want %#x", what, got, want)
	}
}

// startPIT lets channel 0 interrupt after about a millisecond.
func (b *board) startPIT() {
	b.pit.WritePort(0x43, 1, 0x30)
	b.pit.WritePort(0x40, 1, 0xa9)
	b.pit.WritePort(0x40, 1, 0x04)
	b.clk.Advance(1_100_000)
}

func (b *board) startPIC() {
	for _, w := range [][2]uint16{
		{0x20, 0x11}, {0x21, 0x30}, {0x21, 4}, {0x21, 1}, {0xa0, 0x11}, {0xa1, 0x38}, {0xa1, 2}, {0xa1, 1}, {0x21, 0}, {0xa1, 0},
	} {
		b.pic.WritePort(w[0], 1, uint32(w[1]))
	}
}

func TestVirtualWire(t *testing.T) {
	b := newBoard(t)
	b.startPIC()
	b.startPIT()
	b.wantVector(t, "PIT", 0x30)
	b.pic.WritePort(0x20, 1, 0x20)
	b.fn.SetINTx(true) // slot 1 pin A: line B, IRQ 11
	b.wantVector(t, "INTx", 0x3b)
	b.fn.SetINTx(false)
	b.pic.WritePort(0xa0, 1, 0x20)
	b.pic.WritePort(0x20, 1, 0x20)
	if b.intr {
		t.Error("INTR stays high")
	}
}

func TestNoLocalAPIC(t *testing.T) {
	b := newBoard(t)
	b.startPIC()
	if !b.lapic.SetAPICBase(0xfee00100) {
		t.Fatal("APIC can't be disabled")
	}
	b.startPIT()
	b.wantVector(t, "PIT", 0x30)
}

func TestIOAPIC(t *testing.T) {
	b := newBoard(t)
	b.lapic.WriteMMIO(0x350, 4, 0x10700) // LINT0 masked, as Linux does
	b.pic.WritePort(0x21, 1, 0xff)
	for pin, rte := range map[int]uint64{2: 0x30, 4: 0x34, acpi.SCI: 0x8039, 17: 0xa041} {
		b.io.WriteMMIO(0, 4, uint64(0x10+2*pin))
		b.io.WriteMMIO(0x10, 4, rte)
	}
	eoi := func() { b.lapic.WriteMMIO(0xb0, 4, 0) }
	b.startPIT()
	b.wantVector(t, "PIT", 0x30)
	eoi()
	b.com1.WritePort(uart.COM1+4, 1, 0x0b)
	b.com1.WritePort(uart.COM1+1, 1, 2)
	b.wantVector(t, "UART", 0x34)
	eoi()
	b.pm.WritePort(acpipm.PortEvent+2, 2, 1<<8)
	b.pm.PressPowerButton()
	b.wantVector(t, "SCI", 0x39)
	b.pm.WritePort(acpipm.PortEvent, 2, 1<<8)
	eoi()
	if b.intr {
		t.Fatal("the SCI stays")
	}
	b.fn.SetINTx(true)
	b.wantVector(t, "INTx", 0x41)
	eoi()
	b.wantVector(t, "INTx still asserted", 0x41)
	b.fn.SetINTx(false)
	eoi()
	b.pci.WritePort(pci.PortAddress, 4, 1<<31|1<<11|4)
	b.pci.WritePort(pci.PortData, 2, 6)
	b.pci.WritePort(pci.PortAddress, 4, 1<<31|1<<11|0x40)
	b.pci.WritePort(pci.PortData+2, 2, 0x8000)
	b.msix.WriteMMIO(0, 8, 0xfee00000)
	b.msix.WriteMMIO(8, 8, 0x4051)
	b.msix.Notify(0)
	b.wantVector(t, "MSI-X", 0x51)
	eoi()
	if b.intr {
		t.Error("INTR stays high")
	}
}

// TestSnapshot saves a board in the middle of things and checks that another goes on with the same interrupts.
func TestSnapshot(t *testing.T) {
	a := newBoard(t)
	a.startPIC()
	a.startPIT()
	a.fn.SetINTx(true)
	b := newBoard(t)
	b.clk.Jump(a.clk.Now())
	devices := func(x *board) []device.Stateful { // controllers last, nearest to the processor at the end
		return []device.Stateful{x.com1, x.rtc, x.pm, x.pit, x.pci, x.pic, x.io, x.lapic}
	}
	for i, d := range devices(a) {
		if err := devicetest.Load(devices(b)[i], devicetest.Save(t, d)); err != nil {
			t.Fatalf("%s: %v", d.Name(), err)
		}
	}
	for _, x := range []*board{a, b} {
		x.wantVector(t, "PIT", 0x30)
		x.pic.WritePort(0x20, 1, 0x20)
		x.wantVector(t, "INTx", 0x3b)
		x.fn.SetINTx(false)
		x.pic.WritePort(0xa0, 1, 0x20)
		x.pic.WritePort(0x20, 1, 0x20)
		if x.intr {
			t.Error("INTR stays high")
		}
	}
	for i, d := range devices(a) {
		if sa, sb := devicetest.Save(t, d), devicetest.Save(t, devices(b)[i]); !bytes.Equal(sa, sb) {
			t.Errorf("%s:\n%s\n%s", d.Name(), sa, sb)
		}
	}
}
