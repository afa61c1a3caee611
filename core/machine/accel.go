package machine

import (
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/core/memory"
)

// accelerate makes the vCPU that Config.Accel says and gives it the memory.
func (m *Machine) accelerate() error {
	if m.cfg.Taint != nil || m.cfg.Beyond != nil {
		return fmt.Errorf("%w: taint and memory beyond need the emulator", ErrConfig)
	}
	a, err := m.cfg.Accel(m.cpu, m)
	if err != nil {
		return err
	}
	for _, r := range m.mem.Regions() {
		if err := a.AddSlot(r.Base, m.mem.Bytes()[r.Offset:][:r.Size], r.Kind == memory.ROM); err != nil {
			return errors.Join(err, a.Close())
		}
	}
	m.vcpu, m.accel = a, a
	return nil
}

// ReadLinear reads memory at a linear address of the running process, without side effects, and returns how many bytes could
// be read.
func (m *Machine) ReadLinear(la uint64, p []byte) (int, error) {
	if err := m.look(); err != nil {
		return 0, err
	}
	return m.cpu.ReadLinear(la, p), nil
}

// TranslateLinear returns the physical address of a linear address of the running process, if it has one.
func (m *Machine) TranslateLinear(la uint64) (pa uint64, ok bool, err error) {
	if err := m.look(); err != nil {
		return 0, false, err
	}
	pa, ok = m.cpu.TranslateLinear(la)
	return pa, ok, nil
}

// look makes the emulator, if it does not run the guest, see what the vCPU sees.
func (m *Machine) look() error {
	if m.accel == nil {
		return nil
	}
	return m.cpu.SetState(m.accel.State())
}
