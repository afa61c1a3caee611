package lapic

import "github.com/hybridbridge/emu/core/clock"

// State is the saved state of a local APIC: its registers by their names in the SDM.
type State struct {
	Base              uint64
	ID, LDR, DFR, SVR uint32
	TPR               uint8
	ESR, Errors       uint32
	ICR               uint64
	LVT               [lvtCount]uint32
	IRR, ISR, TMR     [4]uint64 // bit n of word i is vector 64*i+n
	LINT              [2]bool
	ExtINT            bool // an ExtINT message waits
	InitialCount      uint32
	Divide            uint32
	CountFrom         uint32 // the count at CountStart
	CountStart        clock.Time
	Counting          bool
	Deadline          clock.Time // of the timer
	TSCDeadline       uint64
}

// Name implements device.Stateful.
func (a *APIC) Name() string { return "lapic" }

// SaveState implements device.Stateful.
func (a *APIC) SaveState() any {
	return State{
		Base: a.base, ID: a.id, LDR: a.ldr, DFR: a.dfr, SVR: a.svr, TPR: a.tpr, ESR: a.esr, Errors: a.errs,
		ICR: a.icr, LVT: a.lvt, IRR: a.irr, ISR: a.isr, TMR: a.tmr, LINT: a.lint, ExtINT: a.extra,
		InitialCount: a.t.initial, Divide: a.t.divide, CountFrom: a.t.from, CountStart: a.t.start,
		Counting: a.t.running, Deadline: a.timer.Deadline(), TSCDeadline: a.t.deadline,
	}
}

// LoadState implements device.Stateful. It maps the register page and drives INTR to the loaded level.
func (a *APIC) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	a.id, a.ldr, a.dfr, a.svr, a.tpr, a.esr, a.errs = s.ID, s.LDR, s.DFR, s.SVR, s.TPR, s.ESR, s.Errors
	a.icr, a.lvt, a.irr, a.isr, a.tmr, a.lint, a.extra = s.ICR, s.LVT, s.IRR, s.ISR, s.TMR, s.LINT, s.ExtINT
	a.t = countdown{
		initial: s.InitialCount, divide: s.Divide, from: s.CountFrom, start: s.CountStart,
		running: s.Counting && s.InitialCount != 0, deadline: s.TSCDeadline,
	}
	a.setBase(s.Base)
	a.timer.Set(s.Deadline)
	a.intr = a.Pending()
	if a.c.INTR != nil {
		a.c.INTR(a.intr)
	}
	return nil
}
