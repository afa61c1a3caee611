package pit

import (
	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/portio"
)

// Ports of the timer and of system control port B.
const (
	Port        = 0x40 // 4 ports
	PortControl = 0x43
	PortB       = 0x61
)

// Config is what a PIT is connected to.
type Config struct {
	Clock *clock.Queue
	IRQ0  device.Line // output of channel 0: PIC input 0 and I/O APIC input 2
}

// PIT is an 8254. It implements device.Ports and device.Stateful.
type PIT struct {
	c       Config
	timer   *clock.Timer
	counter [3]counter
	portB   uint8 // the bits that can be written
	line    bool
	due     int64 // tick of the next change of IRQ 0
}

// New returns a PIT whose counters wait for their control words. The gates of channels 0 and 1 are high for good.
func New(c Config) *PIT {
	p := &PIT{c: c}
	p.timer = c.Clock.NewTimer(p.fires)
	for i := range p.counter {
		p.counter[i] = counter{access: 3, gate: i < 2, paused: true, mode: 3}
	}
	p.update()
	return p
}

// Attach maps the ports.
func (p *PIT) Attach(bus device.Bus) {
	bus.MapPorts(Port, 4, p)
	bus.MapPorts(PortB, 1, p)
}

func (p *PIT) now() int64 {
	now := ticks(p.c.Clock.Now())
	for i := range p.counter {
		p.counter[i].advance(now)
	}
	return now
}

// update drives IRQ 0 and sets the timer for its next change.
func (p *PIT) update() {
	now := p.now()
	c := &p.counter[0]
	p.set(c.out(now))
	p.due = c.change(now)
	p.timer.Set(timeOf(p.due))
}

// fires goes through the changes of channel 0 that are due. There is more than one only if guest time jumped: then a
// few are enough for the edge to be seen.
func (p *PIT) fires() {
	now := ticks(p.c.Clock.Now())
	c := &p.counter[0]
	for i := 0; i < 4 && p.due <= now; i++ {
		c.advance(p.due)
		p.set(c.out(p.due))
		p.due = c.change(p.due)
	}
	p.update()
}

func (p *PIT) set(level bool) {
	if level == p.line {
		return
	}
	p.line = level
	if p.c.IRQ0 != nil {
		p.c.IRQ0.Set(level)
	}
}

// ReadPort implements device.Ports.
func (p *PIT) ReadPort(port uint16, size int) uint32 { return portio.Read(port, size, p.read) }

// WritePort implements device.Ports.
func (p *PIT) WritePort(port uint16, size int, v uint32) { portio.Write(port, size, v, p.write) }

// System control port B (PIIX4 data sheet, 4.2.5.2).
const (
	portBGate2   = 1 << 0
	portBRefresh = 1 << 4
	portBOut2    = 1 << 5
	// refreshTicks is half the period of the memory refresh signal, 15.085 us.
	refreshTicks = 18
)

func (p *PIT) read(port uint16) uint8 {
	now := p.now()
	switch {
	case port >= Port && port < PortControl:
		return p.counter[port-Port].read(now)
	case port == PortB:
		v := p.portB
		if p.counter[2].out(now) {
			v |= portBOut2
		}
		if now/refreshTicks&1 != 0 {
			v |= portBRefresh
		}
		return v
	}
	return 0xff // the control word can't be read
}

func (p *PIT) write(port uint16, v uint8) {
	now := p.now()
	switch {
	case port >= Port && port < PortControl:
		p.counter[port-Port].write(v, now)
	case port == PortControl:
		p.control(v, now)
	case port == PortB:
		p.portB = v & 0xf
		p.counter[2].setGate(v&portBGate2 != 0, now)
	}
	p.update()
}

// control takes a control word, a counter latch or a read-back command.
func (p *PIT) control(v uint8, now int64) {
	if v>>6 == 3 {
		for i := range p.counter {
			if v>>(i+1)&1 == 0 {
				continue
			}
			if v&(1<<5) == 0 {
				p.counter[i].latchCount(now)
			}
			if v&(1<<4) == 0 {
				p.counter[i].latchStatus(now)
			}
		}
		return
	}
	c := &p.counter[v>>6]
	if v>>4&3 == 0 {
		c.latchCount(now)
		return
	}
	c.setMode(v)
}
