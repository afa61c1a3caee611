package uart

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/devicetest"
)

// sink records bytes in a log.
type sink struct{ log *devicetest.Log }

func (s sink) Write(p []byte) (int, error) {
	s.log.Add("out %q", p)
	return len(p), nil
}

func newRig() *devicetest.Rig {
	log := &devicetest.Log{}
	u := New(Config{IRQ: log.Line("irq4"), Out: sink{log}})
	r := &devicetest.Rig{
		Clock: devicetest.NewClock(), Log: log, Device: u, Ports: u,
		Actions: []func(uint32) string{func(v uint32) string {
			return string(rune('a' + u.Receive(bytes.Repeat([]byte{byte(v)}, int(v>>8&31)))))
		}},
	}
	for i := range uint16(8) {
		r.PortList = append(r.PortList, COM1+i)
	}
	return r
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzUART(f *testing.F)      { devicetest.Fuzz(f, newRig) }

type fixture struct {
	*UART
	out   bytes.Buffer
	level bool
	edges int
}

func newFixture() *fixture {
	f := &fixture{}
	f.UART = New(Config{Out: &f.out, IRQ: device.LineFunc(func(l bool) {
		f.level = l
		if l {
			f.edges++
		}
	})})
	return f
}

func (f *fixture) w(reg uint16, v uint32)  { f.WritePort(COM1+reg, 1, v) }
func (f *fixture) r(reg uint16) (v uint32) { return f.ReadPort(COM1+reg, 1) }

func (f *fixture) want(t *testing.T, reg uint16, want uint32) {
	t.Helper()
	if got := f.r(reg); got != want {
		t.Errorf("register %d = %#x, want %#x", reg, got, want)
	}
}

// Linux 6.1, drivers/tty/serial/8250/8250_port.c, autoconfig: what it looks at to find a 16550A.
func TestLinuxAutoconfig(t *testing.T) {
	f := newFixture()
	f.w(regIER, 0)
	f.want(t, regIER, 0)
	f.w(regIER, 0x0f)
	f.want(t, regIER, 0x0f)
	f.w(regIER, 0)
	f.w(regMCR, mcrLoop|0x0a)
	if got := f.r(regMSR) & 0xf0; got != 0x90 {
		t.Fatalf("MSR in loopback %#x, want 0x90", got)
	}
	f.w(regMCR, 0)
	f.w(regLCR, 0xbf)
	f.w(regIIR, 0) // EFR on other chips
	f.w(regLCR, 0)
	f.w(regIIR, 1)
	f.want(t, regIIR, 0xc1)
	f.w(regLCR, 0x80)
	if f.r(regIIR) == 0 {
		t.Error("looks like a 16650")
	}
	f.w(regIIR, 0x21)
	if f.r(regIIR)&0x20 != 0 {
		t.Error("looks like a 16750")
	}
	f.w(regLCR, 0)
	f.w(regIER, 0x40)
	f.want(t, regIER, 0)
	f.w(regSCR, 0xa5)
	f.want(t, regSCR, 0xa5)
}

// Linux's serial8250_do_startup: enabling the THRE interrupt twice must raise it twice.
func TestTHREInterruptRises(t *testing.T) {
	f := newFixture()
	f.w(regMCR, 0x0b)
	f.w(regIIR, 1)
	for range 2 {
		f.w(regIER, ierTHRE)
		f.want(t, regIIR, 0xc2)
		f.want(t, regIIR, 0xc1) // reading took it away
		f.w(regIER, 0)
	}
	f.w(regIER, ierTHRE)
	f.r(regIIR)
	edges := f.edges
	for _, b := range []byte("abc") {
		f.w(regData, uint32(b))
		if !f.level {
			t.Error("no interrupt after a character")
		}
	}
	if f.edges != edges+3 || f.out.String() != "abc" {
		t.Errorf("%d edges, output %q", f.edges-edges, f.out.String())
	}
	f.want(t, regLSR, lsrTHRE|lsrTEMT)
}

func TestReceive(t *testing.T) {
	f := newFixture()
	f.Receive([]byte("early"))
	f.want(t, regLSR, lsrTHRE|lsrTEMT) // RTS is off
	f.w(regIIR, 0x81)                  // FIFO, trigger at 8
	f.w(regMCR, 0x0b)
	f.w(regIER, ierRDA)
	f.want(t, regIIR, 0xc0|iirTimeout)
	f.Receive([]byte("0123456789"))
	f.want(t, regIIR, 0xc0|iirRDA)
	got := ""
	for f.r(regLSR)&lsrDR != 0 {
		got += string(rune(f.r(regData)))
	}
	if got != "early0123456789" || f.level {
		t.Errorf("received %q, interrupt %v", got, f.level)
	}
}

func TestBackPressure(t *testing.T) {
	f := newFixture()
	in := strings.Repeat("x", QueueSize+100)
	if n := f.Receive([]byte(in)); n != QueueSize || f.Room() != 0 {
		t.Fatalf("took %d, room %d", n, f.Room())
	}
	f.w(regIIR, 0x01)
	f.w(regMCR, 0x0b)
	f.w(regIER, ierRDA)
	if f.Room() != fifoSize {
		t.Errorf("room %d after the FIFO filled", f.Room())
	}
	n := 0
	for ; f.r(regLSR)&lsrDR != 0; n++ {
		f.r(regData)
	}
	if n != QueueSize {
		t.Errorf("received %d", n)
	}
}

func TestLoopback(t *testing.T) {
	f := newFixture()
	f.w(regMCR, mcrLoop|mcrRTS)
	f.Receive([]byte("outside"))
	f.w(regData, 'l')
	f.want(t, regLSR, lsrTHRE|lsrTEMT|lsrDR)
	f.w(regData, 'm')
	f.want(t, regLSR, lsrTHRE|lsrTEMT|lsrDR|lsrOE)
	f.want(t, regData, 'm')
	if f.out.Len() != 0 {
		t.Errorf("sent %q in loopback", f.out.String())
	}
	f.r(regMSR)
	f.w(regMCR, mcrLoop|mcrOUT1)
	f.want(t, regMSR, msrRI|1) // CTS fell; RI only counts when it falls
	f.w(regMCR, mcrLoop)
	f.want(t, regMSR, 1<<2)
	f.w(regMCR, mcrRTS)
	f.want(t, regData, 'o')
}

func TestDivisorAndWideAccess(t *testing.T) {
	f := newFixture()
	f.w(regLCR, 0x83)
	f.WritePort(COM1, 2, 0x0102)
	if got := f.ReadPort(COM1, 2); got != 0x0102 {
		t.Errorf("divisor %#x", got)
	}
	f.w(regLCR, 0x03)
	if got := f.ReadPort(COM1+1, 4); got>>16 != 0x0003 {
		t.Errorf("LCR and MCR %#x", got>>16)
	}
}

func TestInterruptGate(t *testing.T) {
	f := newFixture()
	f.w(regMCR, mcrRTS)
	f.w(regIER, ierTHRE)
	if f.level {
		t.Error("interrupt without OUT2")
	}
	f.w(regMCR, mcrRTS|mcrOUT2)
	if !f.level {
		t.Error("no interrupt with OUT2")
	}
}
