package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/core/device"
)

// Split virtqueues (virtio 1.2, section 2.7).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
	descSize     = 16

	availNoInterrupt = 1

	// maxRequest bounds what a request's buffers add up to, in bytes. The specification allows 4 GiB; drivers use far less.
	maxRequest = 1 << 30
)

var le = binary.LittleEndian

// errRing is wrapped by everything that a driver does wrong with a queue.
var errRing = errors.New("driver error")

// queue is one virtqueue.
type queue struct {
	mem      device.Memory
	max      uint16
	eventIdx bool
	indirect bool
	QueueState
}

// QueueState is what a queue saves.
type QueueState struct {
	Size                uint16
	Enabled             bool
	Vector              uint16 // MSI-X, 0xffff for none
	Desc, Driver, Used  uint64 // guest physical addresses of the three areas
	NextAvail, NextUsed uint16 // free-running indices
	Signalled           uint16 // NextUsed when the driver was last interrupted or spared
}

// segment is a buffer in guest memory.
type segment struct {
	addr uint64
	size uint32
}

// chain is a request: what the device reads, then what it writes.
type chain struct {
	head     uint16
	out, in  []segment
	outBytes uint64
	inBytes  uint64
}

func (q *queue) reset() {
	q.QueueState = QueueState{Size: q.max, Vector: noVector}
	q.eventIdx, q.indirect = false, false
}

// enable checks the areas. They must be RAM as a whole.
func (q *queue) enable() error {
	n := uint64(q.Size)
	if n == 0 || n&(n-1) != 0 || q.Size > q.max {
		return fmt.Errorf("%w: queue of %d entries, at most %d and a power of two", errRing, q.Size, q.max)
	}
	for _, a := range []struct {
		addr, size, align uint64
	}{{q.Desc, n * descSize, 16}, {q.Driver, 6 + 2*n, 2}, {q.Used, 6 + 8*n, 4}} {
		if a.addr%a.align != 0 || !q.mem.ReadAt(make([]byte, a.size), a.addr) {
			return fmt.Errorf("%w: queue area %#x+%#x is unaligned or not RAM", errRing, a.addr, a.size)
		}
	}
	q.Enabled = true
	return nil
}

func (q *queue) read16(addr uint64) (uint16, error) {
	var b [2]byte
	if !q.mem.ReadAt(b[:], addr) {
		return 0, fmt.Errorf("%w: %#x is not RAM", errRing, addr)
	}
	return le.Uint16(b[:]), nil
}

// pop takes the next request, or returns nil if there is none.
func (q *queue) pop() (*chain, error) {
	avail, err := q.read16(q.Driver + 2)
	if err != nil {
		return nil, err
	}
	switch pending := avail - q.NextAvail; {
	case pending == 0:
		if q.eventIdx { // "notify me about the next one": avail_event, behind the used ring
			var b [2]byte
			le.PutUint16(b[:], q.NextAvail)
			if !q.mem.WriteAt(b[:], q.Used+4+8*uint64(q.Size)) {
				return nil, fmt.Errorf("%w: used ring is not RAM", errRing)
			}
		}
		return nil, nil
	case pending > q.Size:
		return nil, fmt.Errorf("%w: %d requests in a queue of %d", errRing, pending, q.Size)
	}
	head, err := q.read16(q.Driver + 4 + 2*uint64(q.NextAvail%q.Size))
	if err != nil {
		return nil, err
	}
	c := &chain{head: head}
	if err := q.walk(c, q.Desc, uint32(q.Size), uint32(head), false); err != nil {
		return nil, err
	}
	q.NextAvail++
	return c, nil
}

// walk follows the descriptors of a table of n entries from index i. A chain can't be longer than its table, so a loop
// is found when it is.
func (q *queue) walk(c *chain, table uint64, n, i uint32, nested bool) error {
	for range n {
		if i >= n {
			return fmt.Errorf("%w: descriptor %d of %d", errRing, i, n)
		}
		var d [descSize]byte
		if !q.mem.ReadAt(d[:], table+uint64(i)*descSize) {
			return fmt.Errorf("%w: descriptor at %#x is not RAM", errRing, table+uint64(i)*descSize)
		}
		addr, size, flags, next := le.Uint64(d[:]), le.Uint32(d[8:]), le.Uint16(d[12:]), le.Uint16(d[14:])
		switch {
		case flags&descIndirect != 0:
			if !q.indirect || nested || flags&descNext != 0 || size == 0 || size%descSize != 0 || size/descSize > 1<<15 {
				return fmt.Errorf("%w: indirect descriptor of %d bytes, flags %#x", errRing, size, flags)
			}
			return q.walk(c, addr, size/descSize, 0, true)
		case flags&descWrite != 0:
			c.in = append(c.in, segment{addr, size})
			c.inBytes += uint64(size)
		case len(c.in) > 0:
			return fmt.Errorf("%w: a readable buffer after a writable one", errRing)
		default:
			c.out = append(c.out, segment{addr, size})
			c.outBytes += uint64(size)
		}
		if c.outBytes+c.inBytes > maxRequest {
			return fmt.Errorf("%w: request of more than %d bytes", errRing, maxRequest)
		}
		if flags&descNext == 0 {
			return nil
		}
		i = uint32(next)
	}
	return fmt.Errorf("%w: descriptor chain loops", errRing)
}

// push returns a request to the driver with the number of bytes that were written to it.
func (q *queue) push(c *chain, written uint32) error {
	var b [8]byte
	le.PutUint32(b[:], uint32(c.head))
	le.PutUint32(b[4:], written)
	ok := q.mem.WriteAt(b[:], q.Used+4+8*uint64(q.NextUsed%q.Size))
	q.NextUsed++
	le.PutUint16(b[:], q.NextUsed)
	if !ok || !q.mem.WriteAt(b[:2], q.Used+2) {
		return fmt.Errorf("%w: used ring is not RAM", errRing)
	}
	return nil
}

// wantsInterrupt says whether what was pushed since the last call is to be announced (section 2.7.7).
func (q *queue) wantsInterrupt() (bool, error) {
	old := q.Signalled
	q.Signalled = q.NextUsed
	if old == q.NextUsed {
		return false, nil
	}
	if q.eventIdx {
		event, err := q.read16(q.Driver + 4 + 2*uint64(q.Size))
		return q.NextUsed-event-1 < q.NextUsed-old, err
	}
	flags, err := q.read16(q.Driver)
	return flags&availNoInterrupt == 0, err
}

// transfer calls f for the pieces of [off, off+n) of a list of buffers.
func transfer(list []segment, off, n uint64, f func(addr uint64, piece uint64) bool) error {
	for _, s := range list {
		size := uint64(s.size)
		if off >= size {
			off -= size
			continue
		}
		k := min(size-off, n)
		if k == 0 {
			break
		}
		if s.addr+off < off || !f(s.addr+off, k) {
			return fmt.Errorf("%w: buffer %#x+%#x is not RAM", errRing, s.addr, s.size)
		}
		off, n = 0, n-k
	}
	if n > 0 {
		return fmt.Errorf("%w: request is %d bytes too short", errRing, n)
	}
	return nil
}

// read copies from what the driver wrote.
func (q *queue) read(c *chain, p []byte, off uint64) error {
	return transfer(c.out, off, uint64(len(p)), func(addr, n uint64) bool {
		ok := q.mem.ReadAt(p[:n], addr)
		p = p[n:]
		return ok
	})
}

// write copies to where the driver wants it.
func (q *queue) write(c *chain, p []byte, off uint64) error {
	return transfer(c.in, off, uint64(len(p)), func(addr, n uint64) bool {
		ok := q.mem.WriteAt(p[:n], addr)
		p = p[n:]
		return ok
	})
}
