package pci

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/devicetest"
)

// bus records what is mapped where.
type bus struct {
	ports map[uint16]device.Ports
	mmio  map[uint64]device.MMIO
	log   *devicetest.Log
}

func newBus(log *devicetest.Log) *bus {
	return &bus{map[uint16]device.Ports{}, map[uint64]device.MMIO{}, log}
}

func (b *bus) MapPorts(first uint16, n int, d device.Ports) {
	b.log.Add("ports %#x+%d %v", first, n, d != nil)
	delete(b.ports, first)
	if d != nil {
		b.ports[first] = d
	}
}

func (b *bus) MapMMIO(base, size uint64, d device.MMIO) {
	b.log.Add("mmio %#x+%#x %v", base, size, d != nil)
	delete(b.mmio, base)
	if d != nil {
		b.mmio[base] = d
	}
}

// reg is a BAR that returns the offset.
type reg struct{ log *devicetest.Log }

func (reg) ReadMMIO(off uint64, _ int) uint64          { return off }
func (r reg) WriteMMIO(off uint64, size int, v uint64) { r.log.Add("bar %d %d %#x", off, size, v) }
func must[T any](v T, err error) T                     { check(err); return v }
func check(err error) {
	if err != nil {
		panic(err)
	}
}

type fixture struct {
	*Host
	log  *devicetest.Log
	bus  *bus
	f    *Function
	msix *MSIX
}

func newFixture() *fixture {
	x := &fixture{log: &devicetest.Log{}}
	x.bus = newBus(x.log)
	c := Config{Bus: x.bus, MSI: func(a uint64, d uint32) { x.log.Add("msi %#x %#x", a, d) }}
	for i := range c.INTx {
		c.INTx[i] = x.log.Line(fmt.Sprintf("int%c", 'A'+i))
	}
	x.Host = New(c)
	x.f = NewFunction(FunctionConfig{Vendor: 0x1af4, Device: 0x1042, Class: 0x010000, Revision: 1, SubVendor: 0x1af4, SubDevice: 2, INTx: true})
	check(x.f.AddBAR(0, BAR{Kind: IO, Size: 64, Handler: reg{x.log}}))
	x.msix = must(x.f.AddMSIX(1, 3))
	check(x.f.AddBAR(4, BAR{Kind: Memory64, Prefetchable: true, Size: 0x4000, Handler: reg{x.log}}))
	must(x.f.AddCapability(9, []byte{1, 2, 3}, []byte{0, 0xff}))
	check(x.Plug(3, x.f))
	return x
}

func newRig() *devicetest.Rig {
	x := newFixture()
	check(x.AssignBARs())
	return &devicetest.Rig{
		Clock: devicetest.NewClock(), Log: x.log, Device: x.Host, Ports: x.Host,
		PortList: []uint16{0xcf8, 0xcf9, 0xcfc, 0xcfd, 0xcfe, 0xcff}, MMIO: x.msix, MMIOSize: 0x1000,
		Actions: []func(uint32) string{
			func(v uint32) string { x.w(3, int(v>>8&0xfc), 4, v&^0xff|7); return "config" },
			func(v uint32) string { return fmt.Sprint(x.msix.Notify(int(v % 4))) },
			func(v uint32) string { x.f.SetINTx(v&1 != 0); return "intx" },
			func(v uint32) string { return fmt.Sprintf("%#x", x.r(int(v&3), int(v>>8&0xfc), 4)) },
		},
	}
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzPCI(f *testing.F)       { devicetest.Fuzz(f, newRig) }

func (x *fixture) r(slot, off, size int) uint32 {
	x.WritePort(0xcf8, 4, 1<<31|uint32(slot)<<11|uint32(off)&0xfc)
	return x.ReadPort(0xcfc+uint16(off&3), size)
}

func (x *fixture) w(slot, off, size int, v uint32) {
	x.WritePort(0xcf8, 4, 1<<31|uint32(slot)<<11|uint32(off)&0xfc)
	x.WritePort(0xcfc+uint16(off&3), size, v)
}

// Linux 6.1, arch/x86/pci/direct.c, pci_check_type1.
func TestMechanism1(t *testing.T) {
	x := newFixture()
	x.WritePort(0xcfb, 1, 1)
	x.WritePort(0xcf8, 4, 0x80000000)
	if got := x.ReadPort(0xcf8, 4); got != 0x80000000 {
		t.Errorf("CONFIG_ADDRESS %#x", got)
	}
	for _, tt := range []struct {
		slot, off, size int
		want            uint32
	}{
		{0, 0, 4, 0x00081b36},
		{0, 0x0a, 2, 0x0600}, // pci_sanity_check looks for this class
		{0, 0x0e, 1, 0},
		{1, 0, 4, 0xffffffff},
		{1, 2, 2, 0xffff},
		{3, 0, 4, 0x10421af4},
		{3, 8, 4, 0x01000001},
		{3, 0x2c, 4, 0x00021af4},
		{3, 0x06, 2, statusCaps},
		{3, 0x3c, 4, 0x0100 | 11}, // slot 3 pin A: line D
		{3, 0x34, 1, 0x40},
		{3, 0x40, 4, 0x00024c11},
		{3, 0x44, 4, 0x00000001},
		{3, 0x48, 4, 0x00000801},
		{3, 0x4c, 4, 0x02010009},
	} {
		if got := x.r(tt.slot, tt.off, tt.size); got != tt.want {
			t.Errorf("slot %d register %#x: %#x, want %#x", tt.slot, tt.off, got, tt.want)
		}
	}
	x.w(3, 0, 4, 0)
	x.w(3, 0x4c, 4, 0xffffffff)
	if x.r(3, 0, 4) != 0x10421af4 || x.r(3, 0x4c, 4) != 0xff010009 {
		t.Errorf("read-only registers changed: %#x %#x", x.r(3, 0, 4), x.r(3, 0x4c, 4))
	}
	x.WritePort(0xcf8, 4, 1<<31|1<<16)
	if got := x.ReadPort(0xcfc, 4); got != 0xffffffff {
		t.Errorf("bus 1 answers %#x", got)
	}
	x.WritePort(0xcf8, 4, 0)
	if got := x.ReadPort(0xcfc, 4); got != 0xffffffff {
		t.Errorf("answers %#x without the enable bit", got)
	}
}

func TestSizing(t *testing.T) {
	x := newFixture()
	for reg, want := range map[int]uint32{
		0x10: 0xffffffc1, 0x14: 0xfffff000, 0x18: 0, 0x1c: 0, 0x20: 0xffffc00c, 0x24: 0xffffffff, 0x30: 0,
	} {
		x.w(3, reg, 4, 0xffffffff)
		if got := x.r(3, reg, 4); got != want {
			t.Errorf("BAR register %#x: %#x, want %#x", reg, got, want)
		}
	}
}

func TestMapping(t *testing.T) {
	x := newFixture()
	check(x.AssignBARs())
	if len(x.bus.ports) != 1 || len(x.bus.mmio) != 2 || x.bus.mmio[0xe0000000] == nil {
		t.Fatalf("ports %v, memory %v", x.bus.ports, x.bus.mmio)
	}
	if got := x.bus.ports[0xc000].ReadPort(0xc012, 1); got != 0x12 {
		t.Errorf("I/O BAR read at offset %#x", got)
	}
	x.w(3, 0x10, 4, 0xd000)
	if x.bus.ports[0xc000] != nil || x.bus.ports[0xd000].ReadPort(0xd004, 1) != 4 {
		t.Errorf("ports %v", x.bus.ports)
	}
	x.w(3, 0x20, 4, 0x80000000) // outside the window: RAM may be there
	if a, ok := x.f.BARAddress(4); ok {
		t.Errorf("BAR mapped at %#x", a)
	}
	x.w(3, 0x20, 4, 0xe0400000)
	x.w(3, 0x14, 4, 0xe0400000) // on top of the other
	x.w(3, 0x14, 4, 0xe0500000)
	if _, ok := x.bus.mmio[0xe0400000].(reg); !ok {
		t.Error("the BAR that stayed is gone")
	}
	x.w(3, 0x04, 2, 0)
	if len(x.bus.ports)+len(x.bus.mmio) != 0 {
		t.Errorf("mapped without decoding: %v %v", x.bus.ports, x.bus.mmio)
	}
}

func TestINTx(t *testing.T) {
	x := newFixture()
	x.f.SetINTx(true)
	x.w(3, 4, 2, cmdNoINTx)
	if x.r(3, 6, 2)&statusINTx == 0 {
		t.Error("status does not show the interrupt")
	}
	x.w(3, 4, 2, 0)
	x.f.SetINTx(false)
	if want := []string{"intD=true", "intD=false", "intD=true", "intD=false"}; !slices.Equal(x.log.Events, want) {
		t.Errorf("events %v", x.log.Events)
	}
}

func TestMSIX(t *testing.T) {
	x := newFixture()
	if x.msix.Notify(0) {
		t.Error("sent while disabled")
	}
	for i, v := range []uint64{0xfee00003, 0, 0x4141} {
		x.msix.WriteMMIO(uint64(16+4*i), 4, v)
	}
	x.w(3, 4, 2, cmdMaster)
	x.w(3, 0x42, 2, msixEnable)
	x.log.Events = nil
	x.msix.Notify(1)
	x.msix.Notify(7)
	if got := x.msix.ReadMMIO(msixPBA, 8); got != 2 || len(x.log.Events) != 0 {
		t.Fatalf("pending %#x, events %v", got, x.log.Events)
	}
	x.msix.WriteMMIO(28, 4, 0)
	x.w(3, 0x42, 2, msixEnable|msixMask)
	x.msix.Notify(1)
	x.w(3, 0x42, 2, msixEnable)
	x.f.SetINTx(true)
	if want := []string{"msi 0xfee00000 0x4141", "msi 0xfee00000 0x4141"}; !slices.Equal(x.log.Events, want) {
		t.Errorf("events %v", x.log.Events)
	}
}

func TestSharedPICLines(t *testing.T) {
	log := &devicetest.Log{}
	l := Wire(func(n int) device.Line { return log.Line(fmt.Sprint("gsi", n)) }, func(n int) device.Line { return log.Line(fmt.Sprint("irq", n)) })
	l[0].Set(true)
	l[2].Set(true)
	l[0].Set(false)
	l[2].Set(false)
	want := []string{"gsi16=true", "irq10=true", "gsi18=true", "gsi16=false", "gsi18=false", "irq10=false"}
	if !slices.Equal(log.Events, want) {
		t.Errorf("events %v", log.Events)
	}
}

func TestBadFunctions(t *testing.T) {
	f := NewFunction(FunctionConfig{})
	h := reg{}
	for _, tt := range []struct {
		i int
		b BAR
	}{
		{0, BAR{Size: 24, Handler: h}},
		{0, BAR{Size: 8, Handler: h}},
		{0, BAR{Kind: IO, Size: 512, Handler: h}},
		{0, BAR{Size: 1 << 32, Handler: h}},
		{0, BAR{Size: 16}},
		{6, BAR{Size: 16, Handler: h}},
		{5, BAR{Kind: Memory64, Size: 16, Handler: h}},
	} {
		if f.AddBAR(tt.i, tt.b) == nil {
			t.Errorf("BAR %d %+v accepted", tt.i, tt.b)
		}
	}
	check(f.AddBAR(1, BAR{Kind: Memory64, Size: 1 << 40, Handler: h}))
	if f.AddBAR(2, BAR{Size: 16, Handler: h}) == nil {
		t.Error("BAR in the upper half of another")
	}
	x := New(Config{})
	check(x.Plug(1, f))
	if x.Plug(1, f) == nil || x.Plug(32, f) == nil || x.Plug(0, f) == nil {
		t.Error("plugged into a slot that is not free")
	}
	if x.AssignBARs() == nil {
		t.Error("found room for a terabyte")
	}
	if _, err := f.AddCapability(9, make([]byte, 300), nil); err == nil {
		t.Error("capability larger than the space")
	}
}
