package acpipm

// State is the saved state of the fixed hardware.
type State struct {
	Status, Enable, Control uint16
	Reset                   uint8
	Seen                    uint64 // timer ticks up to which Status is right
	Line                    bool
}

// Name implements device.Stateful.
func (p *PM) Name() string { return "acpipm" }

// SaveState implements device.Stateful.
func (p *PM) SaveState() any {
	return State{Status: p.sts, Enable: p.en, Control: p.cnt, Reset: p.rst, Seen: p.seen, Line: p.line}
}

// LoadState implements device.Stateful. It drives the SCI to the loaded level.
func (p *PM) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	p.sts, p.en, p.cnt, p.rst, p.seen, p.line = s.Status&stsBits, s.Enable&enBits, s.Control&cntBits, s.Reset&0xe, s.Seen, s.Line
	if p.c.SCI != nil {
		p.c.SCI.Set(p.line)
	}
	p.arm()
	return nil
}
