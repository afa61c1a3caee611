package ioapic

// State is the saved state of an I/O APIC.
type State struct {
	Index       uint8
	ID          uint32
	Lines       uint32 // bit n is the level of input n
	Redirection [Pins]uint64
}

// Name implements device.Stateful.
func (a *IOAPIC) Name() string { return "ioapic" }

// SaveState implements device.Stateful.
func (a *IOAPIC) SaveState() any {
	return State{Index: a.index, ID: a.id, Lines: a.lines, Redirection: a.rte}
}

// LoadState implements device.Stateful. It sends no messages.
func (a *IOAPIC) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	a.index, a.id, a.lines, a.rte = s.Index, s.ID, s.Lines&(1<<Pins-1), s.Redirection
	return nil
}
