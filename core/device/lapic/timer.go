package lapic

import "github.com/hybridbridge/emu/core/clock"

// countdown is the timer (SDM vol. 3A, 11.5.4): the current count was from at time start and goes down once every
// div() ticks.
type countdown struct {
	initial  uint32
	divide   uint32 // divide configuration register
	from     uint32
	start    clock.Time
	running  bool
	deadline uint64 // IA32_TSC_DEADLINE
}

// div decodes the divide configuration register: 2, 4, ... 128, 1.
func (t *countdown) div() uint64 {
	n := t.divide&3 | t.divide>>1&4
	return 1 << ((n + 1) & 7)
}

func (t *countdown) end() clock.Time { return t.start + clock.Time(uint64(t.from)*t.div()) }

func (a *APIC) timerMode() uint32 {
	if m := a.lvt[lvtTimer] & lvtTimerMode; m == timerTSCDeadline && a.c.TSCDeadline {
		return timerTSCDeadline
	}
	return a.lvt[lvtTimer] & timerPeriodic
}

func (a *APIC) setLVTTimer(v uint32) {
	old := a.timerMode()
	a.lvt[lvtTimer] = v
	mode := a.timerMode()
	if mode == old {
		return
	}
	if mode == timerTSCDeadline || old == timerTSCDeadline {
		// A change to or from TSC-deadline mode disarms the timer (11.5.4.1).
		a.t = countdown{divide: a.t.divide}
		a.timer.Stop()
	}
}

func (a *APIC) setInitialCount(v uint32) {
	if a.timerMode() == timerTSCDeadline {
		return
	}
	a.t.initial, a.t.from, a.t.start, a.t.running = v, v, a.c.Clock.Now(), v != 0
	a.armTimer()
}

// setDivide changes the divider of a running count, which goes on from its present value.
func (a *APIC) setDivide(v uint32) {
	n := a.currentCount()
	if a.t.running {
		a.t.from, a.t.start = n, a.c.Clock.Now()
	}
	a.t.divide = v & 0xb
	a.armTimer()
}

func (a *APIC) armTimer() {
	switch {
	case a.timerMode() == timerTSCDeadline:
		a.armTSC()
	case a.t.running:
		a.timer.Set(a.t.end())
	default:
		a.timer.Stop()
	}
}

// currentCount returns the current count register. A timer whose interrupt is due but was not yet signalled counts
// as having expired.
func (a *APIC) currentCount() uint32 {
	if !a.t.running {
		return 0
	}
	now := a.c.Clock.Now()
	if now >= a.t.end() {
		if a.timerMode() != timerPeriodic {
			return 0
		}
		return a.t.initial - uint32(uint64(now-a.t.end())/a.t.div()%uint64(a.t.initial))
	}
	return a.t.from - uint32(uint64(now-a.t.start)/a.t.div())
}

func (a *APIC) timerFires() {
	switch mode := a.timerMode(); {
	case mode == timerTSCDeadline:
		if a.t.deadline == 0 || a.c.TSC == nil {
			return
		}
		if a.c.TSC() < a.t.deadline {
			a.armTSC() // the TSC was written meanwhile
			return
		}
		a.t.deadline = 0
	case !a.t.running:
		return
	case mode == timerPeriodic:
		// Periods that passed unseen, when guest time jumps, are one interrupt, as they are in IRR.
		period := uint64(a.t.initial) * a.t.div()
		end := a.t.end()
		a.t.start = end + clock.Time(uint64(a.c.Clock.Now()-end)/period*period)
		a.t.from = a.t.initial
		a.timer.Set(a.t.end())
	default:
		a.t.running = false
	}
	a.local(lvtTimer, true)
}

// TSCDeadline returns IA32_TSC_DEADLINE.
func (a *APIC) TSCDeadline() uint64 { return a.t.deadline }

// SetTSCDeadline writes IA32_TSC_DEADLINE: the timer fires once the TSC is at or past v. 0 disarms it. The write has
// no effect unless the timer is in TSC-deadline mode.
func (a *APIC) SetTSCDeadline(v uint64) {
	if a.timerMode() != timerTSCDeadline {
		return
	}
	a.t.deadline = v
	a.armTSC()
}

// TSCChanged must be called after a write to the TSC or IA32_TSC_ADJUST.
func (a *APIC) TSCChanged() {
	if a.timerMode() == timerTSCDeadline {
		a.armTSC()
	}
}

func (a *APIC) armTSC() {
	if a.t.deadline == 0 || a.c.TSC == nil {
		a.timer.Stop()
		return
	}
	now, tsc := a.c.Clock.Now(), a.c.TSC()
	switch {
	case a.t.deadline <= tsc:
		a.timer.Set(now)
	case clock.Time(a.t.deadline-tsc) >= clock.Never-now:
		a.timer.Stop()
	default:
		a.timer.Set(now + clock.Time(a.t.deadline-tsc))
	}
}
