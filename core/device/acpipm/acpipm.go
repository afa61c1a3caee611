package acpipm

import (
	"math/bits"

	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/portio"
)

// Where the FADT says that the blocks are.
const (
	PortEvent   = 0x600 // PM1a_STS, PM1a_EN
	PortControl = 0x604 // PM1a_CNT
	PortTimer   = 0x608
	PortReset   = 0xcf9
)

// Values that the FADT and the DSDT tell the guest.
const (
	SleepTypeS5 = 5 // SLP_TYP of \_S5: power off
	ResetValue  = 0x06
)

// TimerHz is the rate of the PM timer.
const TimerHz = 3579545

// Config is what the hardware is connected to. Nil functions are not called.
type Config struct {
	Clock    *clock.Queue
	SCI      device.Line
	PowerOff func()
	Reset    func()
}

// PM1 status and enable bits, and those of the control register (ACPI 6.4, tables 4.11 to 4.13).
const (
	tmrSTS    = 1 << 0
	gblSTS    = 1 << 5
	pwrbtnSTS = 1 << 8
	rtcSTS    = 1 << 10
	wakSTS    = 1 << 15
	stsBits   = tmrSTS | 1<<4 | gblSTS | pwrbtnSTS | 1<<9 | rtcSTS | wakSTS
	enBits    = tmrSTS | gblSTS | pwrbtnSTS | 1<<9 | rtcSTS

	cntSCI   = 1 << 0
	cntBits  = cntSCI | 1<<1 | 7<<10
	sleepEn  = 1 << 13
	sleepTyp = 10

	resetCPU = 1 << 2
)

// PM is the fixed hardware. It implements device.Ports and device.Stateful.
type PM struct {
	c     Config
	timer *clock.Timer
	line  bool
	sts   uint16
	en    uint16
	cnt   uint16
	rst   uint8
	seen  uint64 // ticks up to which TMR_STS is right
}

// New returns the hardware after power-up.
func New(c Config) *PM {
	p := &PM{c: c, cnt: cntSCI}
	p.timer = c.Clock.NewTimer(p.update)
	return p
}

// Attach maps the ports.
func (p *PM) Attach(bus device.Bus) {
	bus.MapPorts(PortEvent, 4, p)
	bus.MapPorts(PortControl, 2, p)
	bus.MapPorts(PortTimer, 4, p)
	bus.MapPorts(PortReset, 1, p)
}

// PressPowerButton asks the guest to shut down.
func (p *PM) PressPowerButton() {
	p.sts |= pwrbtnSTS
	p.update()
}

// ticks is the PM timer with all its bits.
func (p *PM) ticks() uint64 {
	hi, lo := bits.Mul64(uint64(p.c.Clock.Now()), TimerHz)
	q, _ := bits.Div64(hi, lo, 1e9)
	return q
}

// update finds TMR_STS, drives the SCI and sets the timer. TMR_STS is set when the top bit of the 32-bit timer
// changes (ACPI 6.4, 4.8.3.1.1).
func (p *PM) update() {
	t := p.ticks()
	if t>>31 != p.seen>>31 {
		p.sts |= tmrSTS
	}
	p.seen = t
	level := p.sts&p.en&enBits != 0
	if level != p.line {
		p.line = level
		if p.c.SCI != nil {
			p.c.SCI.Set(level)
		}
	}
	p.arm()
}

func (p *PM) arm() {
	if p.en&tmrSTS == 0 || p.sts&tmrSTS != 0 {
		p.timer.Stop()
		return
	}
	next := (p.seen>>31 + 1) << 31
	hi, lo := bits.Mul64(next, 1e9)
	lo, carry := bits.Add64(lo, TimerHz-1, 0)
	if hi += carry; hi >= TimerHz {
		p.timer.Stop()
		return
	}
	at, _ := bits.Div64(hi, lo, TimerHz)
	p.timer.Set(clock.Time(at))
}

// ReadPort implements device.Ports.
func (p *PM) ReadPort(port uint16, size int) uint32 {
	p.update()
	return portio.Read(port, size, p.read)
}

func (p *PM) read(port uint16) uint8 {
	switch {
	case port >= PortEvent && port < PortEvent+2:
		return uint8(p.sts >> (8 * (port - PortEvent)))
	case port >= PortEvent+2 && port < PortEvent+4:
		return uint8(p.en >> (8 * (port - PortEvent - 2)))
	case port >= PortControl && port < PortControl+2:
		return uint8(p.cnt >> (8 * (port - PortControl)))
	case port >= PortTimer && port < PortTimer+4:
		return uint8(p.seen >> (8 * (port - PortTimer)))
	case port == PortReset:
		return p.rst
	}
	return 0xff
}

// WritePort implements device.Ports.
func (p *PM) WritePort(port uint16, size int, v uint32) {
	p.update()
	portio.Write(port, size, v, p.write)
	p.update()
}

func (p *PM) write(port uint16, v uint8) {
	switch {
	case port >= PortEvent && port < PortEvent+2:
		p.sts &^= uint16(v) << (8 * (port - PortEvent)) & stsBits
	case port >= PortEvent+2 && port < PortEvent+4:
		p.en = replace(p.en, port-PortEvent-2, v) & enBits
	case port >= PortControl && port < PortControl+2:
		w := replace(p.cnt, port-PortControl, v)
		p.cnt = w&cntBits | cntSCI
		if w&sleepEn != 0 && w>>sleepTyp&7 == SleepTypeS5 {
			call(p.c.PowerOff)
		}
	case port == PortReset:
		if v&resetCPU != 0 && p.rst&resetCPU == 0 {
			call(p.c.Reset)
		}
		p.rst = v & 0x0e
	}
}

func replace(w, n uint16, v uint8) uint16 { return w&^(0xff<<(8*n)) | uint16(v)<<(8*n) }

func call(f func()) {
	if f != nil {
		f()
	}
}
