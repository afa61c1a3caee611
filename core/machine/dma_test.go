package machine

import (
	"testing"

	"github.com/hybridbridge/emu/core/block"
	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/taint"
)

// TestTaintGoesThroughADisk writes tainted memory to a disk and reads it back to another place.
func TestTaintGoesThroughADisk(t *testing.T) {
	layout, err := memory.Flat(4<<20, memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mem, err := memory.New(layout)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	shadow := taint.NewShadow(nil)
	dma := newDMATaint(mem, shadow)
	disk := dma.disk(block.NewMemory(1 << 20))
	buf := make([]byte, 1024)
	transfer := func(from, to uint64) {
		t.Helper()
		if !dma.ReadAt(buf, from) {
			t.Fatal("memory cannot be read")
		}
		if err := disk.WriteAt(buf, 512); err != nil {
			t.Fatal(err)
		}
		clear(buf)
		if err := disk.ReadAt(buf[:512], 1024); err != nil {
			t.Fatal(err)
		}
		if !dma.WriteAt(buf[:512], to) {
			t.Fatal("memory cannot be written")
		}
	}
	shadow.Mark(0x200000+512+100, 7)
	transfer(0x200000, 0x300000)
	if first, found := shadow.Any(0x300000, 512); !found || first != 0x300000+100 || shadow.Get(first, 16) != 0x7f {
		t.Errorf("taint came back at %#x (%v)", first, found)
	}
	shadow.Clear(0x200000, 4096)
	transfer(0x200000, 0x300000)
	if first, found := shadow.Any(0x300000, 512); found {
		t.Errorf("clean data came back tainted at %#x", first)
	}
}
