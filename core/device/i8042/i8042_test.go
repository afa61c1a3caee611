package i8042

import (
	"testing"

	"github.com/hybridbridge/emu/core/device/devicetest"
)

func newRig() *devicetest.Rig {
	log := &devicetest.Log{}
	k := New(Config{IRQ1: log.Line("irq1"), Reset: func() { log.Add("reset") }})
	return &devicetest.Rig{
		Clock: devicetest.NewClock(), Log: log, Device: k, Ports: k, PortList: []uint16{0x60, 0x64, 0x92},
	}
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzI8042(f *testing.F)     { devicetest.Fuzz(f, newRig) }

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		name    string
		command uint32
		data    int // -1: none
		want    int // -1: no answer
	}{
		{"self-test", 0xaa, -1, 0x55},
		{"keyboard interface test", 0xab, -1, 0x00},
		{"auxiliary interface test", 0xa9, -1, 0x01},
		{"read mode", 0x20, -1, 0x34},
		{"auxiliary loop", 0xd3, 0x5a, 0x5a},
		{"mouse", 0xd4, 0xf2, 0xfe},
		{"read output port", 0xd0, -1, 0x03},
		{"write mode", 0x60, 0x65, -1},
		{"pulse nothing", 0xff, -1, -1},
		{"unknown", 0x99, -1, -1},
	} {
		k := New(Config{})
		k.WritePort(PortStatus, 1, tt.command)
		if tt.data >= 0 {
			k.WritePort(PortData, 1, uint32(tt.data))
		}
		st := k.ReadPort(PortStatus, 1)
		switch {
		case st&2 != 0:
			t.Errorf("%s: input buffer stays full", tt.name)
		case st&1 != 0 != (tt.want >= 0):
			t.Errorf("%s: status %#x", tt.name, st)
		case st&(1<<5) != 0:
			t.Errorf("%s: byte is marked as the mouse's", tt.name)
		case tt.want >= 0 && k.ReadPort(PortData, 1) != uint32(tt.want):
			t.Errorf("%s: %#x, want %#x", tt.name, k.out, tt.want)
		}
	}
}

func TestNoKeyboard(t *testing.T) {
	var log devicetest.Log
	k := New(Config{IRQ1: log.Line("irq1")})
	k.WritePort(PortStatus, 1, 0x60)
	k.WritePort(PortData, 1, 0x65)
	k.WritePort(PortData, 1, 0xf2)
	if st := k.ReadPort(PortStatus, 1); st&(statusOutput|statusTimeout) != statusOutput|statusTimeout || len(log.Events) != 1 {
		t.Errorf("status %#x, events %v", st, log.Events)
	}
	if got := k.ReadPort(PortData, 1); got != resend || len(log.Events) != 2 {
		t.Errorf("answer %#x, events %v", got, log.Events)
	}
}

func TestResets(t *testing.T) {
	n := 0
	k := New(Config{Reset: func() { n++ }})
	k.WritePort(PortStatus, 1, 0xfe)
	k.WritePort(PortA, 1, 0x03)
	k.WritePort(PortStatus, 1, 0xd1)
	k.WritePort(PortData, 1, 0xfe)
	if n != 3 {
		t.Errorf("%d resets, want 3", n)
	}
	if got := k.ReadPort(PortA, 1); got != 0x03 {
		t.Errorf("port A %#x", got)
	}
}
