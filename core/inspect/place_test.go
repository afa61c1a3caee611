package inspect

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/snapshots/linux"
)

// flatMemory is physical memory from 0 on.
type flatMemory []byte

func (m flatMemory) ReadPhysical(p []byte, pa uint64) error {
	_, err := bytes.NewReader(m).ReadAt(p, int64(pa))
	return err
}

// TestPlace32: a 32-bit trusted VM has the snapshot's low memory and its array of struct page, and does not believe everything.
func TestPlace32(t *testing.T) {
	for _, c := range []struct{ pages, memMap, memory uint64 }{
		{0x20000, 0xdce54000, 512 << 20},
		{0xffffffff, 0xdce54000, 1 << 30},
		{0, 0, 0},
	} {
		m := make(flatMemory, 0x3000)
		// A page of 4 MiB at 0xc0000000, and the two variables in it.
		binary.LittleEndian.PutUint32(m[0xc00:], 0x83)
		binary.LittleEndian.PutUint32(m[0x2000:], uint32(c.memMap))
		binary.LittleEndian.PutUint32(m[0x2004:], uint32(c.pages))
		k := &linux.Kernel{Form: linux.Paging32, TextShift: 0x2000000, Space: linux.AddressSpace{Memory: m, Form: linux.Paging32}}
		p := Place(k, symbols.NewTable([]symbols.Symbol{
			{Name: "mem_map", Address: 0xc0002000, Type: 'B'}, {Name: "max_low_pfn", Address: 0xc0002004, Type: 'B'},
		}))
		if want := (boot.Shifts{Text: 0x2000000, Regions: boot.Regions{Vmemmap: c.memMap}}); p.Shifts == nil || *p.Shifts != want || p.Memory != c.memory {
			t.Errorf("%+v: %+v and %d MiB", c, p.Shifts, p.Memory>>20)
		}
	}
}
