package debugport

import (
	"bytes"
	"testing"

	"github.com/hybridbridge/emu/core/device"
)

type bus map[uint16]int

func (b bus) MapPorts(first uint16, n int, _ device.Ports) { b[first] = n }
func (bus) MapMMIO(uint64, uint64, device.MMIO)            {}

func TestAbsentByDefault(t *testing.T) {
	b := bus{}
	p := New(Config{})
	p.Attach(b)
	if len(b) != 0 {
		t.Errorf("ports %v", b)
	}
	p.WritePort(PortConsole, 1, 'x')
	p.WritePort(PortExit, 4, 1)
	if got := p.ReadPort(PortConsole, 1); got != 0xff {
		t.Errorf("read %#x", got)
	}
}

func TestPorts(t *testing.T) {
	var out bytes.Buffer
	var codes []uint32
	b := bus{}
	p := New(Config{Console: &out, Exit: func(c uint32) { codes = append(codes, c) }})
	p.Attach(b)
	p.WritePort(PortConsole, 1, 'h')
	p.WritePort(PortConsole, 4, 'i')
	p.WritePort(PortExit, 4, 33)
	if b[PortConsole] != 1 || b[PortExit] != 4 || out.String() != "hi" || len(codes) != 1 || codes[0] != 33 {
		t.Errorf("ports %v, output %q, codes %v", b, out.String(), codes)
	}
	if p.ReadPort(PortConsole, 1) != 0xe9 || p.ReadPort(PortExit, 2) != 0xffff {
		t.Error("reads")
	}
}
