package i8042

import (
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/portio"
)

// Ports.
const (
	PortData   = 0x60
	PortStatus = 0x64 // command when written
	PortA      = 0x92
)

// Config is what the controller is connected to.
type Config struct {
	IRQ1  device.Line
	Reset func() // the machine's reset
}

const (
	statusOutput  = 1 << 0 // there is a byte to read
	statusSystem  = 1 << 2 // the self-test has passed
	statusCommand = 1 << 3 // the last write was a command
	statusUnlock  = 1 << 4
	statusTimeout = 1 << 6

	modeIRQ1 = 1 << 0

	portAReset = 1 << 0
	portAA20   = 1 << 1

	// resend is what the controller gives as a device's answer when there is no device, with statusTimeout.
	resend = 0xfe
)

// Controller is a keyboard controller. It implements device.Ports and device.Stateful.
type Controller struct {
	c       Config
	line    bool
	mode    uint8 // command byte
	status  uint8
	out     uint8
	outPort uint8
	command uint8 // awaits its data byte; 0 none
	portA   uint8
}

// New returns a controller as firmware leaves it: self-test passed, both devices disabled.
func New(c Config) *Controller {
	return &Controller{c: c, mode: 0x34, status: statusSystem | statusUnlock, outPort: 0x03, portA: portAA20}
}

// Attach maps the ports.
func (k *Controller) Attach(bus device.Bus) {
	bus.MapPorts(PortData, 1, k)
	bus.MapPorts(PortStatus, 1, k)
	bus.MapPorts(PortA, 1, k)
}

// ReadPort implements device.Ports.
func (k *Controller) ReadPort(port uint16, size int) uint32 { return portio.Read(port, size, k.read) }

// WritePort implements device.Ports.
func (k *Controller) WritePort(port uint16, size int, v uint32) { portio.Write(port, size, v, k.write) }

func (k *Controller) read(port uint16) uint8 {
	switch port {
	case PortData:
		k.status &^= statusOutput | statusTimeout
		k.update()
		return k.out
	case PortStatus:
		return k.status
	case PortA:
		return k.portA
	}
	return 0xff
}

func (k *Controller) write(port uint16, v uint8) {
	switch port {
	case PortData:
		k.status &^= statusCommand
		k.data(v)
	case PortStatus:
		k.status |= statusCommand
		k.execute(v)
	case PortA:
		if v&portAReset != 0 && k.portA&portAReset == 0 {
			k.reset()
		}
		k.portA = v & (portAReset | portAA20)
	}
	k.update()
}

// reply puts a byte into the output buffer.
func (k *Controller) reply(v uint8) {
	k.out = v
	k.status |= statusOutput
}

func (k *Controller) reset() {
	if k.c.Reset != nil {
		k.c.Reset()
	}
}

// update drives IRQ 1.
func (k *Controller) update() {
	level := k.status&statusOutput != 0 && k.mode&modeIRQ1 != 0
	if level == k.line {
		return
	}
	k.line = level
	if k.c.IRQ1 != nil {
		k.c.IRQ1.Set(level)
	}
}

func (k *Controller) execute(v uint8) {
	k.command = 0
	switch {
	case v == 0x20:
		k.reply(k.mode)
	case v == 0x60, v >= 0xd1 && v <= 0xd4:
		k.command = v
	case v == 0xa7:
		k.mode |= 1 << 5
	case v == 0xa8:
		k.mode &^= 1 << 5
	case v == 0xa9: // auxiliary interface test: clock line stuck low, as there is no such interface
		k.reply(0x01)
	case v == 0xaa:
		k.status |= statusSystem
		k.reply(0x55)
	case v == 0xab:
		k.reply(0x00)
	case v == 0xad:
		k.mode |= 1 << 4
	case v == 0xae:
		k.mode &^= 1 << 4
	case v == 0xc0:
		k.reply(0x80)
	case v == 0xd0:
		k.reply(k.outPort)
	case v >= 0xf0: // pulse output port bits that are 0; bit 0 is the processor's reset
		if v&1 == 0 {
			k.reset()
		}
	}
}

func (k *Controller) data(v uint8) {
	cmd := k.command
	k.command = 0
	switch cmd {
	case 0x60:
		k.mode = v
	case 0xd1:
		if v&1 == 0 {
			k.reset()
		}
		k.outPort = v | 1
	case 0xd2, 0xd3: // loop back; for the auxiliary device it lacks the mark that would say that there is one
		k.reply(v)
	default: // to the keyboard, or with 0xd4 to the mouse: nobody answers
		k.reply(resend)
		k.status |= statusTimeout
	}
}
