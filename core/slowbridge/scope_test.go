package slowbridge

import (
	"encoding/binary"
	"testing"
)

// words are the trusted VM's memory, of which the words at addresses in theirs came out of the snapshot.
type words struct {
	at     map[uint64]uint64
	theirs map[uint64]bool
}

func (w words) ReadLinear(la uint64, p []byte) int {
	v, ok := w.at[la]
	if !ok {
		return 0
	}
	return copy(p, binary.LittleEndian.AppendUint64(nil, v))
}
func (w words) PerCPUBase() uint64          { return 0 }
func (w words) FromSnapshot(la uint64) bool { return w.theirs[la] }

// TestDescriptor: a file is the snapshot's if its inode is, or the filesystem of an inode that the trusted kernel has made.
func TestDescriptor(t *testing.T) {
	const (
		task, table, fdt, array, file, inode, super, fsType = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000, 0x8000
		fd                                                  = 3
	)
	b := &Bridge{types: &Types{word: 8}, files: files{
		task: 0x10, files: 0x20, fdt: 0x30, maxFDs: 0x8, fd: 0x10, inode: 0x18, super: 0x28, mode: 0x30, fsType: 0x40, procInode: 0x100, procPID: 0x50,
	}}
	for name, c := range map[string]struct {
		theirs   uint64
		fd       uint64
		snapshot bool
		ok       bool
	}{
		"the trusted VM's":         {0, fd, false, true},
		"an inode of the snapshot": {file + 0x18, fd, true, true},
		"a filesystem of its":      {inode + 0x28, fd, true, true},
		"no file":                  {inode + 0x28, fd + 1, false, false},
		"beyond the table":         {0, 64, false, false},
	} {
		b.guest = words{map[uint64]uint64{
			0x10: task, task + 0x20: table, table + 0x30: fdt, fdt + 0x8: 64, fdt + 0x10: array, array + 8*fd: file, file + 0x18: inode,
			inode + 0x28: super, inode + 0x30: 0x81a4, super + 0x40: fsType, inode - 0x100 + 0x50: 0,
		}, map[uint64]bool{c.theirs: true}}
		o, ok := b.descriptor(c.fd)
		if ok != c.ok || o.snapshot != c.snapshot {
			t.Errorf("%s: %+v, %v", name, o, ok)
		}
		if ok && !c.snapshot && (o.fsType != fsType || o.mode != 0x8000) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}
