package debugport

import (
	"io"

	"github.com/hybridbridge/emu/core/device"
)

// Ports.
const (
	PortConsole = 0xe9
	PortExit    = 0xf4
)

// Config says which of the ports there are.
type Config struct {
	Console io.Writer         // takes each byte written to 0xe9; its errors are ignored. nil: no such port
	Exit    func(code uint32) // called with what is written to 0xf4. nil: no such port
}

// Ports is the two ports. It implements device.Ports and has no state.
type Ports struct{ c Config }

// New returns the ports.
func New(c Config) *Ports { return &Ports{c} }

// Attach maps those ports that are configured.
func (p *Ports) Attach(bus device.Bus) {
	if p.c.Console != nil {
		bus.MapPorts(PortConsole, 1, p)
	}
	if p.c.Exit != nil {
		bus.MapPorts(PortExit, 4, p)
	}
}

// ReadPort implements device.Ports. The console answers with its own address, which is how guests find it.
func (p *Ports) ReadPort(port uint16, size int) uint32 {
	if port == PortConsole && p.c.Console != nil {
		return PortConsole
	}
	return ^uint32(0) >> (32 - 8*min(max(size, 1), 4))
}

// WritePort implements device.Ports.
func (p *Ports) WritePort(port uint16, size int, v uint32) {
	switch {
	case port == PortConsole && p.c.Console != nil:
		_, _ = p.c.Console.Write([]byte{uint8(v)})
	case port == PortExit && p.c.Exit != nil:
		p.c.Exit(v)
	}
}
