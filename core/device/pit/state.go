package pit

import "errors"

// State is the saved state of a PIT. Times are in ticks of the timer's clock since guest time 0.
type State struct {
	Counter [3]CounterState
	PortB   uint8
	Line    bool
	Due     int64
}

// CounterState is the saved state of one counter.
type CounterState struct {
	Mode, Access        uint8
	BCD, Gate           bool
	Count, Start        int64
	Loaded, Paused      bool
	PausedAt            int64
	Next, NextAt        int64
	NextLow             bool
	WriteLow            uint8
	WriteHalf, ReadHalf bool
	Latch               uint16
	Latched             uint8
	Status              uint8
	StatusLatched, Null bool
}

// Name implements device.Stateful.
func (p *PIT) Name() string { return "pit" }

// SaveState implements device.Stateful.
func (p *PIT) SaveState() any {
	s := State{PortB: p.portB, Line: p.line, Due: p.due}
	for i, c := range p.counter {
		s.Counter[i] = CounterState{
			Mode: c.mode, Access: c.access, BCD: c.bcd, Gate: c.gate, Count: c.n, Start: c.start,
			Loaded: c.loaded, Paused: c.paused, PausedAt: c.at, Next: c.next, NextAt: c.nextAt, NextLow: c.nextLow,
			WriteLow: c.writeLow, WriteHalf: c.writeHalf, ReadHalf: c.readHalf,
			Latch: c.latch, Latched: c.latched, Status: c.status, StatusLatched: c.statusOK, Null: c.null,
		}
	}
	return s
}

var errState = errors.New("pit: state out of range")

// LoadState implements device.Stateful. It drives IRQ 0 to the loaded level.
func (p *PIT) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	for i, c := range s.Counter {
		if c.Mode > 5 || c.Count < 0 || c.Count > 65536 || c.Loaded && c.Count == 0 || c.Next < 0 || c.Next > 65536 ||
			c.Start < -65536 || c.PausedAt < 0 || c.NextAt < 0 {
			return errState
		}
		p.counter[i] = counter{
			mode: c.Mode, access: c.Access & 3, bcd: c.BCD, gate: c.Gate, n: c.Count, start: c.Start,
			loaded: c.Loaded, paused: c.Paused, at: c.PausedAt, next: c.Next, nextAt: c.NextAt, nextLow: c.NextLow,
			writeLow: c.WriteLow, writeHalf: c.WriteHalf, readHalf: c.ReadHalf,
			latch: c.Latch, latched: c.Latched & 3, status: c.Status, statusOK: c.StatusLatched, null: c.Null,
		}
	}
	p.portB, p.line, p.due = s.PortB&0xf, s.Line, s.Due
	if p.c.IRQ0 != nil {
		p.c.IRQ0.Set(p.line)
	}
	p.timer.Set(timeOf(p.due))
	return nil
}
