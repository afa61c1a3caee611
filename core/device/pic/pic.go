package pic

import (
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/portio"
)

// Ports of the two controllers and of the edge/level control registers.
const (
	PortMaster = 0x20 // 2 ports
	PortSlave  = 0xa0 // 2 ports
	PortELCR   = 0x4d0
	cascade    = 2
)

// Config is what a PIC is connected to.
type Config struct {
	INTR device.Line // output of the master: LINT0 of the local APIC
}

// PIC is two cascaded 8259A. It implements device.Ports and device.Stateful.
type PIC struct {
	out  device.Line
	intr bool
	chip [2]chip // master, slave
}

// chip is one 8259A.
type chip struct {
	lines   uint8 // levels of the IR inputs
	irr     uint8
	isr     uint8
	imr     uint8
	elcr    uint8
	lowest  uint8 // the input with lowest priority
	icw1    uint8
	base    uint8 // ICW2
	icw3    uint8
	icw4    uint8
	init    uint8 // which ICW is expected next on the odd port: 0 none, else 2, 3 or 4
	smm     bool  // special mask mode
	rotate  bool  // rotate in automatic EOI mode
	readISR bool
	poll    bool
}

// New returns a PIC in power-up state: no input is masked and vectors are 0-15, until the guest initialises it.
func New(c Config) *PIC {
	p := &PIC{out: c.INTR}
	p.chip[0].lowest, p.chip[1].lowest = 7, 7
	return p
}

// Attach maps the ports.
func (p *PIC) Attach(bus device.Bus) {
	bus.MapPorts(PortMaster, 2, p)
	bus.MapPorts(PortSlave, 2, p)
	bus.MapPorts(PortELCR, 2, p)
}

// Line returns the input for IRQ irq (0-15). IRQ 2 is the cascade: driving it does nothing.
func (p *PIC) Line(irq int) device.Line {
	if irq < 0 || irq > 15 || irq == cascade {
		return device.LineFunc(func(bool) {})
	}
	return device.LineFunc(func(level bool) {
		p.chip[irq>>3].set(uint8(irq&7), level)
		p.update()
	})
}

// SetLevelTriggered makes the inputs in mask (bit n is IRQ n) level triggered, as firmware does for PCI interrupts
// and the SCI.
func (p *PIC) SetLevelTriggered(mask uint16) {
	p.writeELCR(0, uint8(mask))
	p.writeELCR(1, uint8(mask>>8))
	p.update()
}

// Pending reports the level of INTR.
func (p *PIC) Pending() bool { return p.intr }

// Ack is the pair of INTA cycles: it moves the highest request into service and returns its vector. With no request
// it returns the vector of IRQ 7 (or 15) and nothing goes into service, the data sheet's default IR7.
func (p *PIC) Ack() uint8 {
	n, ok := p.chip[0].ack()
	v := p.chip[0].base | n
	if ok && n == cascade {
		s, _ := p.chip[1].ack()
		v = p.chip[1].base | s
	}
	p.update()
	return v
}

// update lets the slave drive the master's IR2 and the master drive INTR. IR2 follows the slave's INT as if it were
// level triggered: INT of a real slave drops at each INTA, so no request behind another is ever lost.
func (p *PIC) update() {
	m, s := &p.chip[0], &p.chip[1]
	_, req := s.request(false)
	if req {
		m.irr |= 1 << cascade
		m.lines |= 1 << cascade
	} else {
		m.irr &^= 1 << cascade
		m.lines &^= 1 << cascade
	}
	_, intr := m.request(m.icw4&icw4SFNM != 0)
	if intr != p.intr {
		p.intr = intr
		if p.out != nil {
			p.out.Set(intr)
		}
	}
}

func (c *chip) set(n uint8, level bool) {
	bit := uint8(1) << n
	switch {
	case !level:
		// An input that falls before INTA takes its request along (data sheet, figure 9).
		c.lines &^= bit
		c.irr &^= bit
	case c.elcr&bit != 0 || c.lines&bit == 0:
		c.lines |= bit
		c.irr |= bit
	}
}

// request returns the input that would be acknowledged. In special fully nested mode (sfnm) a slave that is in
// service can interrupt again.
func (c *chip) request(sfnm bool) (n uint8, ok bool) {
	req := c.irr &^ c.imr
	if req == 0 {
		return 7, false
	}
	isr := c.isr
	if c.smm {
		isr &^= c.imr
	}
	for i := uint8(1); i <= 8; i++ {
		n := (c.lowest + i) & 7
		bit := uint8(1) << n
		if isr&bit != 0 {
			if c.smm {
				continue // inhibits only itself (data sheet, special mask mode)
			}
			if sfnm && n == cascade && req&bit != 0 {
				return n, true
			}
			return 7, false
		}
		if req&bit != 0 {
			return n, true
		}
	}
	return 7, false
}

// ack moves the highest request into service.
func (c *chip) ack() (uint8, bool) {
	n, ok := c.request(c.icw4&icw4SFNM != 0)
	if !ok {
		return 7, false
	}
	bit := uint8(1) << n
	if c.elcr&bit == 0 {
		c.irr &^= bit
	}
	if c.icw4&icw4AEOI != 0 {
		if c.rotate {
			c.lowest = n
		}
	} else {
		c.isr |= bit
	}
	return n, true
}

// Bits of the command words.
const (
	icw1Init   = 1 << 4
	icw1Single = 1 << 1
	icw1ICW4   = 1 << 0
	icw4AEOI   = 1 << 1
	icw4SFNM   = 1 << 4
	ocw3       = 1 << 3
)

// ReadPort implements device.Ports.
func (p *PIC) ReadPort(port uint16, size int) uint32 { return portio.Read(port, size, p.read) }

// WritePort implements device.Ports.
func (p *PIC) WritePort(port uint16, size int, v uint32) { portio.Write(port, size, v, p.write) }

func (p *PIC) read(port uint16) uint8 {
	var c *chip
	switch port {
	case PortMaster, PortMaster + 1:
		c = &p.chip[0]
	case PortSlave, PortSlave + 1:
		c = &p.chip[1]
	case PortELCR, PortELCR + 1:
		return p.chip[port&1].elcr
	default:
		return 0xff
	}
	switch {
	case c.poll:
		// The read takes the place of INTA (data sheet, poll command).
		c.poll = false
		n, ok := c.ack()
		p.update()
		if !ok {
			return 0
		}
		return 0x80 | n
	case port&1 != 0:
		return c.imr
	case c.readISR:
		return c.isr
	}
	return c.irr
}

func (p *PIC) write(port uint16, v uint8) {
	switch port {
	case PortMaster:
		p.chip[0].command(v)
	case PortSlave:
		p.chip[1].command(v)
	case PortMaster + 1:
		p.chip[0].data(v)
	case PortSlave + 1:
		p.chip[1].data(v)
	case PortELCR, PortELCR + 1:
		p.writeELCR(int(port&1), v)
	}
	p.update()
}

// writeELCR keeps IRQ 0, 1, 2, 8 and 13 edge triggered (PIIX4, 4.2.4).
func (p *PIC) writeELCR(n int, v uint8) {
	c := &p.chip[n]
	c.elcr = v & [2]uint8{0xf8, 0xde}[n]
	c.irr |= c.lines & c.elcr
}

func (c *chip) command(v uint8) {
	switch {
	case v&icw1Init != 0:
		// Data sheet, ICW1: the edge sense circuit is reset, the IMR cleared, IR7 has lowest priority, special mask
		// mode is off and reads give the IRR. An edge-triggered input must fall and rise again.
		*c = chip{lines: c.lines, irr: c.lines & c.elcr, elcr: c.elcr, lowest: 7, icw1: v, base: c.base, init: 2}
	case v&ocw3 != 0:
		if v&0x04 != 0 {
			c.poll = true
		}
		if v&0x02 != 0 {
			c.readISR = v&0x01 != 0
		}
		if v&0x40 != 0 {
			c.smm = v&0x20 != 0
		}
	default:
		c.ocw2(v)
	}
}

func (c *chip) ocw2(v uint8) {
	n := v & 7
	switch v >> 5 {
	case 0b000: // rotate in automatic EOI mode: off
		c.rotate = false
	case 0b100: // on
		c.rotate = true
	case 0b001, 0b101: // non-specific EOI, with rotation
		for i := uint8(1); i <= 8; i++ {
			n := (c.lowest + i) & 7
			bit := uint8(1) << n
			if c.isr&bit == 0 || c.smm && c.imr&bit != 0 {
				continue
			}
			c.isr &^= bit
			if v>>5 == 0b101 {
				c.lowest = n
			}
			break
		}
	case 0b011: // specific EOI
		c.isr &^= 1 << n
	case 0b111: // specific EOI with rotation
		c.isr &^= 1 << n
		c.lowest = n
	case 0b110: // set priority
		c.lowest = n
	}
}

func (c *chip) data(v uint8) {
	switch c.init {
	case 2:
		c.base = v &^ 7
		switch {
		case c.icw1&icw1Single == 0:
			c.init = 3
		case c.icw1&icw1ICW4 != 0:
			c.init = 4
		default:
			c.init = 0
		}
	case 3:
		c.icw3 = v
		c.init = 0
		if c.icw1&icw1ICW4 != 0 {
			c.init = 4
		}
	case 4:
		c.icw4 = v
		c.init = 0
	default:
		c.imr = v
	}
}
