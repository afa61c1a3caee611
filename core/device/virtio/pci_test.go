package virtio

import (
	"encoding/json"
	"testing"

	"github.com/hybridbridge/emu/core/block"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/pci"
)

// mmio is a bus with memory only.
type mmio map[uint64]device.MMIO

func (m mmio) MapPorts(uint16, int, device.Ports) {}
func (m mmio) MapMMIO(base, _ uint64, d device.MMIO) {
	if m[base] = d; d == nil {
		delete(m, base)
	}
}

// TestPCI finds the structures as a driver does, by walking capabilities, and does a request with MSI-X.
func TestPCI(t *testing.T) {
	m := guestRAM(t)
	bus := mmio{}
	var sent []uint32
	machine := func() (*pci.Host, *Blk) {
		clear(bus)
		h := pci.New(pci.Config{Bus: bus, MSI: func(_ uint64, data uint32) { sent = append(sent, data) }})
		b := NewBlk("blk0", m, block.NewMemory(1<<20), "")
		f, err := b.Function()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Plug(3, f); err != nil {
			t.Fatal(err)
		}
		if err := h.AssignBARs(); err != nil {
			t.Fatal(err)
		}
		return h, b
	}
	h, b := machine()
	conf := func(off int) uint32 {
		h.WritePort(pci.PortAddress, 4, 0x80000000|3<<11|uint32(off&^3))
		return h.ReadPort(pci.PortData, 4)
	}
	set := func(off int, v uint32) {
		h.WritePort(pci.PortAddress, 4, 0x80000000|3<<11|uint32(off&^3))
		h.WritePort(pci.PortData, 4, v)
	}
	if conf(0) != 0x10421af4 || conf(8) != 0x01000001 {
		t.Errorf("%#x %#x", conf(0), conf(8))
	}
	found := map[uint32]uint32{}
	window, msix := 0, 0
	for off := int(conf(0x34) & 0xff); off != 0; off = int(conf(off) >> 8 & 0xff) {
		switch w := conf(off); w & 0xff {
		case capVendor:
			found[w>>24] = conf(off + 8)
			if w>>24 == capPCI {
				window = off
			}
		case 0x11:
			msix = off
		}
	}
	if len(found) != 5 || found[capNotify] != barNotify || found[capCommon] != barCommon || window == 0 || msix == 0 {
		t.Fatal(found)
	}
	// The window: read the number of queues, write the queue selector.
	set(window+8, regNumQueues)
	set(window+12, 2)
	if got := conf(window+16) & 0xffff; got != 1 {
		t.Error("queues through the window:", got)
	}
	set(window+8, regQueueSelect)
	set(window+16, 7)
	if b.ReadMMIO(regQueueSelect, 2) != 7 {
		t.Error("write through the window")
	}
	set(window+8, 0xfffffffc)
	set(window+12, 4)
	_ = conf(window + 16)

	set(4, 6) // memory, bus master
	set(msix, 1<<31)
	table := bus[uint64(conf(0x14)&^0xf)]
	for v := range uint64(2) {
		table.WriteMMIO(v*16, 8, 0xfee00000)
		table.WriteMMIO(v*16+8, 4, 0x40+v)
		table.WriteMMIO(v*16+12, 4, 0)
	}
	v := start(t, &b.Device, m, featVersion1, 8)
	if s, _ := v.blkIO(false, blkOut, 3, make([]byte, 512)); s != blkOK || len(sent) != 1 || sent[0] != 0x41 {
		t.Error(s, sent)
	}
	set(4, 2) // no bus master, no access to memory
	v.add(0, false, [][]byte{blkHead(blkIn, 0)}, 512, 1)
	if v.kick(0); len(v.done(0)) != 0 {
		t.Error("memory was accessed")
	}
	set(4, 6)
	if v.kick(0); len(v.done(0)) != 1 {
		t.Error("the request is gone")
	}
	var saved [][]byte
	for _, d := range []device.Stateful{h, b} {
		s, err := json.Marshal(d.SaveState())
		if err != nil {
			t.Fatal(err)
		}
		saved = append(saved, s)
	}
	h, b = machine()
	for i, d := range []device.Stateful{h, b} {
		if err := d.LoadState(func(x any) error { return json.Unmarshal(saved[i], x) }); err != nil {
			t.Fatal(err)
		}
	}
	v.d = &b.Device
	n := len(sent)
	if s, _ := v.blkIO(false, blkIn, 3, nil, 512); s != blkOK || len(sent) != n+1 || sent[n] != 0x41 {
		t.Error("after loading", s, sent)
	}
}
