package pic

// State is the saved state of a PIC.
type State struct {
	INTR bool
	Chip [2]ChipState
}

// ChipState is the saved state of one 8259A, in the data sheet's terms.
type ChipState struct {
	Lines, IRR, ISR, IMR, ELCR   uint8
	Lowest                       uint8
	ICW1, ICW2, ICW3, ICW4       uint8
	NextICW                      uint8
	SpecialMask, Rotate, ReadISR bool
	Poll                         bool
}

// Name implements device.Stateful.
func (p *PIC) Name() string { return "pic" }

// SaveState implements device.Stateful.
func (p *PIC) SaveState() any {
	s := State{INTR: p.intr}
	for i, c := range p.chip {
		s.Chip[i] = ChipState{
			Lines: c.lines, IRR: c.irr, ISR: c.isr, IMR: c.imr, ELCR: c.elcr, Lowest: c.lowest,
			ICW1: c.icw1, ICW2: c.base, ICW3: c.icw3, ICW4: c.icw4, NextICW: c.init,
			SpecialMask: c.smm, Rotate: c.rotate, ReadISR: c.readISR, Poll: c.poll,
		}
	}
	return s
}

// LoadState implements device.Stateful. It drives INTR to the loaded level.
func (p *PIC) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	for i, c := range s.Chip {
		p.chip[i] = chip{
			lines: c.Lines, irr: c.IRR, isr: c.ISR, imr: c.IMR, elcr: c.ELCR, lowest: c.Lowest & 7,
			icw1: c.ICW1, base: c.ICW2 &^ 7, icw3: c.ICW3, icw4: c.ICW4, init: c.NextICW,
			smm: c.SpecialMask, rotate: c.Rotate, readISR: c.ReadISR, poll: c.Poll,
		}
	}
	p.intr = s.INTR
	if p.out != nil {
		p.out.Set(p.intr)
	}
	p.update()
	return nil
}
