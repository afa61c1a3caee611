package i8042

// State is the saved state of a controller.
type State struct {
	Mode, Status, Output, OutputPort, Command, PortA uint8
	Line                                             bool
}

// Name implements device.Stateful.
func (k *Controller) Name() string { return "i8042" }

// SaveState implements device.Stateful.
func (k *Controller) SaveState() any {
	return State{
		Mode: k.mode, Status: k.status, Output: k.out, OutputPort: k.outPort, Command: k.command, PortA: k.portA,
		Line: k.line,
	}
}

// LoadState implements device.Stateful. It drives IRQ 1 to the loaded level.
func (k *Controller) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	*k = Controller{
		c: k.c, mode: s.Mode, status: s.Status, out: s.Output, outPort: s.OutputPort, command: s.Command,
		portA: s.PortA, line: s.Line,
	}
	if k.c.IRQ1 != nil {
		k.c.IRQ1.Set(k.line)
	}
	return nil
}
