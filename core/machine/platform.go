package machine

// The machine is the platform of its vCPU. It implements vcpu.Platform.

// ReadMMIO implements vcpu.Platform.
func (m *Machine) ReadMMIO(pa uint64, size int) uint64 { return m.bus.readMMIO(pa, size) }

// WriteMMIO implements vcpu.Platform.
func (m *Machine) WriteMMIO(pa uint64, size int, v uint64) { m.bus.writeMMIO(pa, size, v) }

// ReadPort implements vcpu.Platform.
func (m *Machine) ReadPort(port uint16, size int) uint32 { return m.bus.readPort(port, size) }

// WritePort implements vcpu.Platform.
func (m *Machine) WritePort(port uint16, size int, v uint32) { m.bus.writePort(port, size, v) }

// AckInterrupt implements vcpu.Platform.
func (m *Machine) AckInterrupt() uint8 { return m.board.lapic.Ack() }

// TaskPriority implements vcpu.Platform.
func (m *Machine) TaskPriority() uint8 { return m.board.lapic.TaskPriority() }

// SetTaskPriority implements vcpu.Platform.
func (m *Machine) SetTaskPriority(v uint8) { m.board.lapic.SetTaskPriority(v) }

// APICBase implements vcpu.Platform.
func (m *Machine) APICBase() uint64 { return m.board.lapic.APICBase() }

// SetAPICBase implements vcpu.Platform.
func (m *Machine) SetAPICBase(v uint64) bool { return m.board.lapic.SetAPICBase(v) }

// TSCDeadline implements vcpu.Platform.
func (m *Machine) TSCDeadline() uint64 { return m.board.lapic.TSCDeadline() }

// SetTSCDeadline implements vcpu.Platform.
func (m *Machine) SetTSCDeadline(v uint64) { m.board.lapic.SetTSCDeadline(v) }

// TSC implements vcpu.Platform: one tick a nanosecond of guest time.
func (m *Machine) TSC() uint64 { return uint64(m.Now()) }

// TSCChanged implements vcpu.Platform.
func (m *Machine) TSCChanged() { m.board.lapic.TSCChanged() }
