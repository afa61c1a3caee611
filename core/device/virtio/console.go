package virtio

import (
	"fmt"
	"io"

	"github.com/hybridbridge/emu/core/device"
)

const (
	consoleQueue = 64
	consoleRx    = 0
	consoleTx    = 1
	consoleInput = 64 << 10 // bytes that wait for the driver
	consoleChunk = 4096
)

// Console is a virtio console with one port (virtio 1.2, section 5.3): /dev/hvc0.
type Console struct {
	Device
	out   io.Writer
	input []byte
}

// NewConsole returns a console that writes what the guest prints to out.
func NewConsole(name string, mem device.Memory, out io.Writer) *Console {
	c := &Console{out: out}
	c.init(name, mem, c, consoleQueue, consoleQueue)
	return c
}

func (c *Console) identity() (kind uint16, class uint32) { return 3, 0x078000 }

func (c *Console) features() uint64 { return 0 }
func (c *Console) config() []byte   { return make([]byte, 12) }
func (c *Console) reset()           {}

// Input gives p to the guest as if it had been typed. It returns how many bytes were taken: what the guest does not
// read is kept only up to a limit.
func (c *Console) Input(p []byte) int {
	n := min(len(p), consoleInput-len(c.input))
	c.input = append(c.input, p[:n]...)
	c.kick(consoleRx)
	return n
}

func (c *Console) serve(n int) error {
	if n == consoleRx {
		return c.receive()
	}
	q := c.queues[consoleTx]
	for {
		r, err := q.pop()
		if err != nil || r == nil {
			return err
		}
		var buf [consoleChunk]byte
		for off := uint64(0); off < r.outBytes; {
			p := buf[:min(r.outBytes-off, consoleChunk)]
			if err := q.read(r, p, off); err != nil {
				return err
			}
			if _, err := c.out.Write(p); err != nil {
				c.log(fmt.Errorf("%s: %w", c.name, err))
			}
			off += uint64(len(p))
		}
		if err := q.push(r, 0); err != nil {
			return err
		}
	}
}

// receive moves input into the buffers that the driver has provided, and takes none while there is no input.
func (c *Console) receive() error {
	q := c.queues[consoleRx]
	for len(c.input) > 0 {
		r, err := q.pop()
		if err != nil || r == nil {
			return err
		}
		n := min(uint64(len(c.input)), r.inBytes)
		if err := q.write(r, c.input[:n], 0); err != nil {
			return err
		}
		if err := q.push(r, uint32(n)); err != nil {
			return err
		}
		c.input = c.input[n:]
	}
	c.input = nil
	return nil
}

// SaveState implements device.Stateful.
func (c *Console) SaveState() any {
	s := c.save()
	s.Input = append([]byte(nil), c.input...)
	return s
}

// LoadState implements device.Stateful.
func (c *Console) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	if len(s.Input) > consoleInput {
		return fmt.Errorf("saved state has %d bytes of input", len(s.Input))
	}
	c.input = append([]byte(nil), s.Input...)
	return c.load(&s)
}
