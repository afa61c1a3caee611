package acpi

import (
	"encoding/binary"
	"fmt"

	"github.com/hybridbridge/emu/core/device/acpipm"
	"github.com/hybridbridge/emu/core/device/ioapic"
	"github.com/hybridbridge/emu/core/device/lapic"
	"github.com/hybridbridge/emu/core/device/pci"
	"github.com/hybridbridge/emu/core/device/rtc"
	"github.com/hybridbridge/emu/core/device/uart"
)

// DefaultBase is where the tables are unless the configuration says otherwise: in the area that guests search for
// the RSDP.
const DefaultBase uint64 = 0xe0000

// Facts that the tables state and the machine must keep.
const (
	SCI      = 9 // interrupt of the fixed hardware, level triggered
	IOAPICID = 1
)

// Serial is a serial port for the DSDT.
type Serial struct {
	Port uint16
	IRQ  int
}

// Config describes the machine. The zero value is the usual one.
type Config struct {
	// Base is the physical address of the tables, a multiple of 64 below 4 GiB; 0 means DefaultBase. The RSDP is first.
	Base   uint64
	Serial []Serial // nil means COM1
	// The host bridge's memory window; a zero size means that of package pci. It lies below 4 GiB.
	MMIOBase, MMIOSize uint64
	// What identifies the tables, 6 and 8 characters; empty means EMU and EMUPC.
	OEMID, OEMTableID string
}

// Tables is the result of Build.
type Tables struct {
	Base uint64 // where Data goes; the RSDP is at its start
	Data []byte
}

// RSDP returns the physical address of the root pointer, for boot_params.acpi_rsdp_addr.
func (t Tables) RSDP() uint64 { return t.Base }

// Build returns the tables. Their memory must be RAM that the guest does not use otherwise (E820 type 2): the FACS is
// written to.
func Build(c Config) (Tables, error) {
	if c.Base == 0 {
		c.Base = DefaultBase
	}
	if c.Serial == nil {
		c.Serial = []Serial{{uart.COM1, 4}}
	}
	if c.MMIOSize == 0 {
		c.MMIOBase, c.MMIOSize = pci.DefaultMMIOBase, pci.DefaultMMIOSize
	}
	if c.OEMID == "" {
		c.OEMID = "EMU"
	}
	if c.OEMTableID == "" {
		c.OEMTableID = "EMUPC"
	}
	if c.Base%64 != 0 || c.Base >= 1<<32-1<<16 {
		return Tables{}, fmt.Errorf("acpi: tables can't be at %#x", c.Base)
	}
	if c.MMIOBase+c.MMIOSize > 1<<32 || c.MMIOBase+c.MMIOSize < c.MMIOBase {
		return Tables{}, fmt.Errorf("acpi: PCI window %#x+%#x is not below 4 GiB", c.MMIOBase, c.MMIOSize)
	}
	b := builder{c: c, data: make([]byte, rsdpSize)}
	facs := b.place(facs())
	dsdt := b.place(b.table("DSDT", 2, b.dsdt()))
	fadt := b.place(b.table("FACP", 6, fadt(facs, dsdt)))
	madt := b.place(b.table("APIC", 4, madt()))
	var entries32, entries64 []byte
	for _, a := range []uint64{fadt, madt} {
		entries32 = binary.LittleEndian.AppendUint32(entries32, uint32(a))
		entries64 = binary.LittleEndian.AppendUint64(entries64, a)
	}
	rsdt := b.place(b.table("RSDT", 1, entries32))
	xsdt := b.place(b.table("XSDT", 1, entries64))
	copy(b.data, b.rsdp(rsdt, xsdt))
	return Tables{Base: c.Base, Data: b.data}, nil
}

const (
	headerSize = 36
	rsdpSize   = 36
)

// builder lays tables out one after the other.
type builder struct {
	c    Config
	data []byte
}

// place appends a table at a multiple of 64, which the FACS needs, and returns its address.
func (b *builder) place(t []byte) uint64 {
	for len(b.data)%64 != 0 {
		b.data = append(b.data, 0)
	}
	a := b.c.Base + uint64(len(b.data))
	b.data = append(b.data, t...)
	return a
}

// table puts the header before a table's body (5.2.6).
func (b *builder) table(signature string, revision byte, body []byte) []byte {
	t := make([]byte, headerSize, headerSize+len(body))
	t = append(t, body...)
	copy(t, signature)
	binary.LittleEndian.PutUint32(t[4:], uint32(len(t)))
	t[8] = revision
	copy(t[10:16], fmt.Sprintf("%-6.6s", b.c.OEMID))
	copy(t[16:24], fmt.Sprintf("%-8.8s", b.c.OEMTableID))
	binary.LittleEndian.PutUint32(t[24:], 1)
	copy(t[28:], "EMU ")
	binary.LittleEndian.PutUint32(t[32:], 1)
	t[9] = checksum(t)
	return t
}

// checksum returns the byte that makes the sum of p zero.
func checksum(p []byte) byte {
	var s byte
	for _, v := range p {
		s += v
	}
	return -s
}

// rsdp is the root system description pointer (5.2.5.3).
func (b *builder) rsdp(rsdt, xsdt uint64) []byte {
	t := make([]byte, rsdpSize)
	copy(t, "RSD PTR ")
	copy(t[9:15], fmt.Sprintf("%-6.6s", b.c.OEMID))
	t[15] = 2
	binary.LittleEndian.PutUint32(t[16:], uint32(rsdt))
	binary.LittleEndian.PutUint32(t[20:], rsdpSize)
	binary.LittleEndian.PutUint64(t[24:], xsdt)
	t[8] = checksum(t[:20])
	t[32] = checksum(t)
	return t
}

// facs is the firmware ACPI control structure (5.2.10).
func facs() []byte {
	t := make([]byte, 64)
	copy(t, "FACS")
	t[4] = 64
	t[32] = 2 // version
	return t
}

// FADT fields (5.2.9): boot architecture and feature flags.
const (
	bootLegacyDevices = 1 << 0
	bootNoVGA         = 1 << 2 // and no 8042: bit 1 is clear

	flagWBINVD      = 1 << 0
	flagC1          = 1 << 2
	flagSleepButton = 1 << 5 // is no fixed one; bit 4 clear: the power button is
	flagFixedRTC    = 1 << 6 // RTC wake status is not in the fixed registers
	flagTimer32     = 1 << 8
	flagReset       = 1 << 10
)

// fadt is the body of the fixed ACPI description table.
func fadt(facs, dsdt uint64) []byte {
	t := make([]byte, 276)
	le := binary.LittleEndian
	le.PutUint32(t[36:], uint32(facs))
	le.PutUint32(t[40:], uint32(dsdt))
	le.PutUint64(t[140:], dsdt)
	le.PutUint16(t[46:], SCI)
	block := func(at, gas, length int, port uint16, access byte) {
		le.PutUint32(t[at:], uint32(port))
		copy(t[gas:], portGAS(port, length, access))
	}
	block(56, 148, 4, acpipm.PortEvent, 2)
	block(64, 172, 2, acpipm.PortControl, 2)
	block(76, 208, 4, acpipm.PortTimer, 3)
	t[88], t[89], t[91] = 4, 2, 4 // lengths of the three
	le.PutUint16(t[96:], 0xfff)   // no C2
	le.PutUint16(t[98:], 0xfff)   // no C3
	t[108] = rtc.RegCentury       // index of the century in CMOS
	le.PutUint16(t[109:], bootLegacyDevices|bootNoVGA)
	le.PutUint32(t[112:], flagWBINVD|flagC1|flagSleepButton|flagFixedRTC|flagTimer32|flagReset)
	copy(t[116:], portGAS(acpipm.PortReset, 1, 1))
	t[128] = acpipm.ResetValue
	return t[headerSize:]
}

// portGAS is a generic address structure for an I/O port; access is 1, 2 or 3 for 8, 16 or 32 bits (5.2.3.2).
func portGAS(port uint16, length int, access byte) []byte {
	return binary.LittleEndian.AppendUint64([]byte{1, byte(8 * length), 0, access}, uint64(port))
}

// Interrupt flags of MADT entries (table 5.28).
const (
	activeHigh     = 1
	levelTriggered = 3 << 2
)

// madt is the body of the multiple APIC description table (5.2.12).
func madt() []byte {
	le := binary.LittleEndian
	t := le.AppendUint32(nil, uint32(lapic.DefaultBase))
	t = le.AppendUint32(t, 1)             // there are 8259s
	t = append(t, 0, 8, 0, 0, 1, 0, 0, 0) // local APIC: processor 0, ID 0, enabled
	t = append(t, 1, 12, IOAPICID, 0)     // I/O APIC
	t = le.AppendUint32(t, uint32(ioapic.DefaultBase))
	t = le.AppendUint32(t, 0)
	t = append(t, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0)                             // the PIT is on input 2
	t = append(t, 2, 10, 0, SCI, SCI, 0, 0, 0, activeHigh|levelTriggered, 0) // the SCI
	return append(t, 4, 6, 0xff, 0, 0, 1)                                    // NMI is on LINT1
}

// dsdt is the body of the differentiated system description table.
func (b *builder) dsdt() []byte {
	isa := [][]byte{
		object("RTC", named("_HID", eisaID("PNP0B00")), named("_CRS", resources(ports(rtc.Port, 2), edge(8)))),
		// The fixed hardware's ports, so that no PCI device is put there.
		object("MBRD", named("_HID", eisaID("PNP0C02")), named("_CRS", resources(ports(acpipm.PortEvent, 0x10)))),
	}
	for i, s := range b.c.Serial {
		isa = append(isa, object(fmt.Sprintf("COM%d", i+1),
			named("_HID", eisaID("PNP0501")),
			named("_UID", integer(uint64(i+1))),
			named("_CRS", resources(ports(s.Port, 8), edge(s.IRQ)))))
	}
	routeAPIC, routePIC := routes(pci.GSI), routes(pci.PICIRQ)
	bus := [][]byte{
		named("_HID", eisaID("PNP0A03")),
		named("_UID", integer(0)),
		named("_BBN", integer(0)),
		named("_CRS", resources(
			wordRange(spaceBus, 0, 0, 0xff),
			ports(pci.PortAddress, 8),
			wordRange(spaceIO, 3, 0x0000, pci.PortAddress-1),
			wordRange(spaceIO, 3, pci.PortAddress+8, 0xffff),
			dwordRange(spaceMemory, 1, uint32(b.c.MMIOBase), uint32(b.c.MMIOBase+b.c.MMIOSize-1)),
		)),
		named("RAPI", routeAPIC),
		named("RPIC", routePIC),
		method("_PRT", 0, when(path(`\PICM`), give(path("RAPI"))), give(path("RPIC"))),
	}
	return cat(
		// \_PIC tells which interrupt controller the guest uses (5.8.1).
		named(`\PICM`, integer(0)),
		method(`\_PIC`, 1, store(arg0, path(`\PICM`))),
		named(`\_S5`, tuple(integer(acpipm.SleepTypeS5), integer(0), integer(0), integer(0))),
		scope(`\_SB`,
			object("CPU0", named("_HID", text("ACPI0007")), named("_UID", integer(0))),
			object("PCI0", cat(bus...), cat(isa...)),
		),
	)
}

// routes is a _PRT package: the interrupt of each pin of each slot (6.2.13).
func routes(lines [4]int) []byte {
	var all [][]byte
	for slot := 1; slot < pci.Slots; slot++ {
		for pin := range 4 {
			all = append(all, tuple(integer(uint64(slot)<<16|0xffff), integer(uint64(pin)), integer(0),
				integer(uint64(lines[pci.Swizzle(slot, pin)]))))
		}
	}
	return tuple(all...)
}
