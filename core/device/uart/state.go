package uart

import "errors"

// State is the saved state of a serial port, by register name.
type State struct {
	Queue                        []byte // received, not yet in the FIFO
	FIFO                         []byte
	IER, FCR, LCR, MCR, MSR, SCR uint8
	Divisor                      uint16
	Overrun, TransmitterEmpty    bool
	Line                         bool
}

// Name implements device.Stateful.
func (u *UART) Name() string { return u.c.Name }

// SaveState implements device.Stateful.
func (u *UART) SaveState() any {
	return State{
		Queue: append([]byte{}, u.queue...), FIFO: append([]byte{}, u.fifo...),
		IER: u.ier, FCR: u.fcr, LCR: u.lcr, MCR: u.mcr, MSR: u.msr, SCR: u.scr, Divisor: u.divisor,
		Overrun: u.overrun, TransmitterEmpty: u.thre, Line: u.line,
	}
}

// LoadState implements device.Stateful. It drives the interrupt to the loaded level.
func (u *UART) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	if len(s.FIFO) > fifoSize || len(s.Queue) > QueueSize {
		return errors.New("uart: more received bytes than there is room for")
	}
	u.queue, u.fifo = s.Queue, s.FIFO
	u.ier, u.fcr, u.lcr, u.mcr, u.msr, u.scr = s.IER&0xf, s.FCR&0xc9, s.LCR, s.MCR&0x1f, s.MSR, s.SCR
	u.divisor, u.overrun, u.thre, u.line = s.Divisor, s.Overrun, s.TransmitterEmpty, s.Line
	if u.c.IRQ != nil {
		u.c.IRQ.Set(u.line)
	}
	return nil
}
