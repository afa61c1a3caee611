package virtio

import (
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/core/block"
	"github.com/hybridbridge/emu/core/device"
)

// Block device (virtio 1.2, section 5.2).
const (
	blkSegMax  uint64 = 1 << 2
	blkRO      uint64 = 1 << 5
	blkBlkSize uint64 = 1 << 6
	blkFlush   uint64 = 1 << 9

	blkIn, blkOut, blkFlushReq, blkGetID = 0, 1, 4, 8
	blkOK, blkIOErr, blkUnsupported      = 0, 1, 2

	blkQueue  = 256
	blkHeader = 16
	blkIDSize = 20
	blkChunk  = 128 << 10
)

// Blk is a virtio block device.
type Blk struct {
	Device
	disk   block.Disk
	serial string
	buf    []byte
}

// NewBlk returns a block device with the given contents. serial is what the guest sees as the disk's serial number, at most
// 20 bytes. The disk stays owned by the caller.
func NewBlk(name string, mem device.Memory, disk block.Disk, serial string) *Blk {
	b := &Blk{disk: disk, serial: serial, buf: make([]byte, blkChunk)}
	b.init(name, mem, b, blkQueue)
	return b
}

func (b *Blk) identity() (kind uint16, class uint32) { return 2, 0x010000 }

func (b *Blk) features() uint64 {
	f := blkSegMax | blkBlkSize | blkFlush
	if b.disk.ReadOnly() {
		f |= blkRO
	}
	return f
}

func (b *Blk) config() []byte {
	c := make([]byte, 60)
	le.PutUint64(c, b.disk.Size()/block.SectorSize)
	le.PutUint32(c[12:], blkQueue-2) // seg_max: the queue without header and status
	le.PutUint32(c[20:], block.SectorSize)
	return c
}

func (b *Blk) reset() {}

func (b *Blk) serve(int) error {
	q := b.queues[0]
	for {
		c, err := q.pop()
		if err != nil || c == nil {
			return err
		}
		written, err := b.request(q, c)
		if err != nil {
			return err
		}
		if err := q.push(c, written); err != nil {
			return err
		}
	}
}

// request serves one request: a header, data, and one byte of status at the end of the writable part.
func (b *Blk) request(q *queue, c *chain) (uint32, error) {
	if c.inBytes == 0 {
		return 0, fmt.Errorf("%w: request without a status byte", errRing)
	}
	var h [blkHeader]byte
	if err := q.read(c, h[:], 0); err != nil {
		return 0, err
	}
	status, written, err := b.perform(q, c, le.Uint32(h[:]), le.Uint64(h[8:]))
	if errors.Is(err, errRing) {
		return 0, err
	}
	if err != nil {
		b.log(fmt.Errorf("%s: %w", b.name, err))
	}
	return uint32(written) + 1, q.write(c, []byte{status}, c.inBytes-1)
}

func (b *Blk) perform(q *queue, c *chain, kind uint32, sector uint64) (status byte, written uint64, err error) {
	in, out := c.inBytes-1, c.outBytes-blkHeader
	switch kind {
	case blkIn:
		status, err = b.each(in, sector, func(p []byte, off, done uint64) error {
			if err := b.disk.ReadAt(p, off); err != nil {
				return err
			}
			written += uint64(len(p))
			return q.write(c, p, done)
		})
		return status, written, err
	case blkOut:
		if b.disk.ReadOnly() {
			return blkIOErr, 0, nil
		}
		status, err = b.each(out, sector, func(p []byte, off, done uint64) error {
			if err := q.read(c, p, blkHeader+done); err != nil {
				return err
			}
			return b.disk.WriteAt(p, off)
		})
		return status, 0, err
	case blkFlushReq:
		if err := b.disk.Flush(); err != nil {
			return blkIOErr, 0, err
		}
		return blkOK, 0, nil
	case blkGetID:
		var id [blkIDSize]byte
		copy(id[:], b.serial)
		n := min(in, blkIDSize)
		return blkOK, n, q.write(c, id[:n], 0)
	}
	return blkUnsupported, 0, nil
}

// each calls move for n bytes from a sector on, in pieces. A request that does not lie in the disk fails as a whole.
func (b *Blk) each(n, sector uint64, move func(p []byte, off, done uint64) error) (byte, error) {
	size := b.disk.Size()
	if n%block.SectorSize != 0 || sector > size/block.SectorSize || n > size-sector*block.SectorSize {
		return blkIOErr, nil
	}
	for done := uint64(0); done < n; {
		p := b.buf[:min(n-done, blkChunk)]
		if err := move(p, sector*block.SectorSize+done, done); err != nil {
			return blkIOErr, err
		}
		done += uint64(len(p))
	}
	return blkOK, nil
}

// SaveState implements device.Stateful. The contents of the disk are saved if they are an overlay's, else they
// must be the same when the state is loaded.
func (b *Blk) SaveState() any {
	s := b.save()
	if o := block.OverlayOf(b.disk); o != nil {
		disk := o.SaveState().(block.OverlayState)
		s.Disk = &disk
	}
	return s
}

// LoadState implements device.Stateful.
func (b *Blk) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	o := block.OverlayOf(b.disk)
	if (o != nil) != (s.Disk != nil) {
		return errors.New("saved state and this machine differ in whether the disk keeps writes in memory")
	}
	if o != nil {
		if err := o.Restore(*s.Disk); err != nil {
			return err
		}
	}
	return b.load(&s)
}
