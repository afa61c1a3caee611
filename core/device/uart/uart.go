package uart

import (
	"io"

	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/portio"
)

// COM1 is the first port of the first serial interface; its interrupt is IRQ 4.
const COM1 = 0x3f8

// QueueSize is how many bytes Receive holds for the guest.
const QueueSize = 64 << 10

const fifoSize = 16

// Config is what a serial port is connected to.
type Config struct {
	Name string // for snapshots; empty means "uart0"
	Base uint16 // first of 8 ports; 0 means COM1
	IRQ  device.Line
	Out  io.Writer // takes what the guest sends, one Write a byte; its errors are ignored. It may be nil.
}

// Registers (data sheet, table I).
const (
	regData = iota // RBR, THR; divisor low with DLAB
	regIER         // divisor high with DLAB
	regIIR         // FCR when written
	regLCR
	regMCR
	regLSR
	regMSR
	regSCR
)

const (
	ierRDA  = 1 << 0
	ierTHRE = 1 << 1
	ierRLS  = 1 << 2
	ierMSI  = 1 << 3

	iirNone    = 0x01
	iirMSI     = 0x00
	iirTHRE    = 0x02
	iirRDA     = 0x04
	iirRLS     = 0x06
	iirTimeout = 0x0c
	iirFIFO    = 0xc0

	lcrDLAB = 1 << 7

	mcrDTR  = 1 << 0
	mcrRTS  = 1 << 1
	mcrOUT1 = 1 << 2
	mcrOUT2 = 1 << 3
	mcrLoop = 1 << 4

	lsrDR   = 1 << 0
	lsrOE   = 1 << 1
	lsrTHRE = 1 << 5
	lsrTEMT = 1 << 6

	msrDelta = 0x0f
	msrCTS   = 1 << 4
	msrDSR   = 1 << 5
	msrRI    = 1 << 6
	msrDCD   = 1 << 7
)

// UART is a 16550A. It implements device.Ports and device.Stateful. All calls come from the goroutine that runs the
// machine.
type UART struct {
	c     Config
	line  bool
	queue []byte // received, not yet in the FIFO
	fifo  []byte // receiver FIFO, or one byte of holding register

	ier, fcr, lcr, mcr, msr, scr uint8
	divisor                      uint16
	overrun                      bool
	thre                         bool // a transmitter-empty interrupt is pending
}

// New returns a serial port after master reset, connected to a peer that is ready (CTS, DSR and DCD asserted).
func New(c Config) *UART {
	if c.Name == "" {
		c.Name = "uart0"
	}
	if c.Base == 0 {
		c.Base = COM1
	}
	return &UART{c: c, msr: msrCTS | msrDSR | msrDCD, divisor: 12}
}

// Attach maps the ports.
func (u *UART) Attach(bus device.Bus) { bus.MapPorts(u.c.Base, 8, u) }

// Receive queues input for the guest and returns how many bytes of p it took; the rest has no room.
func (u *UART) Receive(p []byte) int {
	n := min(len(p), QueueSize-len(u.queue))
	u.queue = append(u.queue, p[:n]...)
	u.fill(u.ier&ierRDA != 0)
	u.update()
	return n
}

// Room returns how many bytes Receive would take.
func (u *UART) Room() int { return QueueSize - len(u.queue) }

// fill moves input to the receiver. A guest that polls gets one byte at a time, so that little is lost when it clears
// the FIFOs.
func (u *UART) fill(all bool) {
	if u.mcr&(mcrRTS|mcrLoop) != mcrRTS {
		return
	}
	room := 1
	if all && u.fcr&1 != 0 {
		room = fifoSize
	}
	if n := min(room-len(u.fifo), len(u.queue)); n > 0 {
		u.fifo = append(u.fifo, u.queue[:n]...)
		u.queue = u.queue[n:]
	}
}

// trigger is the FIFO level that raises the interrupt (data sheet, FCR bits 6 and 7).
func (u *UART) trigger() int { return [4]int{1, 4, 8, 14}[u.fcr>>6] }

// ident returns the highest interrupt's identification (data sheet, table IV).
func (u *UART) ident() uint8 {
	switch {
	case u.ier&ierRLS != 0 && u.overrun:
		return iirRLS
	case u.ier&ierRDA != 0 && len(u.fifo) > 0:
		if u.fcr&1 != 0 && len(u.fifo) < u.trigger() {
			return iirTimeout // characters come at once or not for long
		}
		return iirRDA
	case u.ier&ierTHRE != 0 && u.thre:
		return iirTHRE
	case u.ier&ierMSI != 0 && u.msr&msrDelta != 0:
		return iirMSI
	}
	return iirNone
}

func (u *UART) update() {
	level := u.ident() != iirNone && u.mcr&(mcrOUT2|mcrLoop) == mcrOUT2
	if level == u.line {
		return
	}
	u.line = level
	if u.c.IRQ != nil {
		u.c.IRQ.Set(level)
	}
}

// ReadPort implements device.Ports.
func (u *UART) ReadPort(port uint16, size int) uint32 { return portio.Read(port, size, u.read) }

// WritePort implements device.Ports.
func (u *UART) WritePort(port uint16, size int, v uint32) { portio.Write(port, size, v, u.write) }

func (u *UART) read(port uint16) uint8 {
	defer u.update()
	switch (port - u.c.Base) & 7 {
	case regData:
		if u.lcr&lcrDLAB != 0 {
			return uint8(u.divisor)
		}
		return u.receive()
	case regIER:
		if u.lcr&lcrDLAB != 0 {
			return uint8(u.divisor >> 8)
		}
		return u.ier
	case regIIR:
		v := u.ident()
		if v == iirTHRE {
			u.thre = false
		}
		if u.fcr&1 != 0 {
			v |= iirFIFO
		}
		return v
	case regLCR:
		return u.lcr
	case regMCR:
		return u.mcr
	case regLSR:
		u.fill(u.ier&ierRDA != 0)
		v := uint8(lsrTHRE | lsrTEMT)
		if len(u.fifo) > 0 {
			v |= lsrDR
		}
		if u.overrun {
			v |= lsrOE
			u.overrun = false
		}
		return v
	case regMSR:
		v := u.modem() | u.msr&msrDelta
		u.msr &^= msrDelta
		return v
	}
	return u.scr
}

func (u *UART) receive() uint8 {
	u.fill(u.ier&ierRDA != 0)
	if len(u.fifo) == 0 {
		return 0
	}
	v := u.fifo[0]
	u.fifo = u.fifo[1:]
	if u.ier&ierRDA != 0 {
		u.fill(true)
	}
	return v
}

// modem returns the modem inputs, which in loopback are the modem outputs (data sheet, MCR bit 4).
func (u *UART) modem() uint8 {
	if u.mcr&mcrLoop == 0 {
		return u.msr &^ msrDelta
	}
	var v uint8
	for _, p := range [...][2]uint8{{mcrRTS, msrCTS}, {mcrDTR, msrDSR}, {mcrOUT1, msrRI}, {mcrOUT2, msrDCD}} {
		if u.mcr&p[0] != 0 {
			v |= p[1]
		}
	}
	return v
}

func (u *UART) write(port uint16, v uint8) {
	defer u.update()
	switch (port - u.c.Base) & 7 {
	case regData:
		if u.lcr&lcrDLAB != 0 {
			u.divisor = u.divisor&0xff00 | uint16(v)
			return
		}
		u.transmit(v)
	case regIER:
		if u.lcr&lcrDLAB != 0 {
			u.divisor = u.divisor&0xff | uint16(v)<<8
			return
		}
		// Enabling the interrupt while the transmitter is empty raises it, each time (data sheet, 8.4 note).
		if v&ierTHRE != 0 && u.ier&ierTHRE == 0 {
			u.thre = true
		}
		u.ier = v & 0x0f
		u.fill(u.ier&ierRDA != 0)
	case regIIR:
		u.control(v)
	case regLCR:
		u.lcr = v
	case regMCR:
		u.setMCR(v & 0x1f)
	case regSCR:
		u.scr = v
	}
}

func (u *UART) transmit(v uint8) {
	u.thre = false
	u.update() // the line must show an edge for each character
	if u.mcr&mcrLoop != 0 {
		size := 1
		if u.fcr&1 != 0 {
			size = fifoSize
		}
		switch {
		case len(u.fifo) < size:
			u.fifo = append(u.fifo, v)
		case size == 1:
			u.fifo[0], u.overrun = v, true
		default:
			u.overrun = true // the FIFO keeps what it has; the shift register is overwritten
		}
	} else if u.c.Out != nil {
		_, _ = u.c.Out.Write([]byte{v})
	}
	u.thre = true
}

// control writes FCR.
func (u *UART) control(v uint8) {
	if (v^u.fcr)&1 != 0 {
		v |= 0x06 // a change of mode clears the FIFOs
	}
	if v&1 == 0 {
		v &= 0x06 // the other bits take no effect without bit 0
	}
	if v&0x02 != 0 {
		u.fifo = nil
	}
	if v&0x04 != 0 {
		u.thre = true
	}
	u.fcr = v & 0xc9
}

func (u *UART) setMCR(v uint8) {
	before := u.modem()
	u.mcr = v
	after := u.modem()
	// Deltas: CTS, DSR, DCD on any change, RI on its trailing edge (data sheet, MSR).
	d := (before ^ after) >> 4
	if before&msrRI == 0 {
		d &^= 1 << 2
	}
	u.msr |= d
	u.fill(u.ier&ierRDA != 0)
}
