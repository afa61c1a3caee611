package rtc

import (
	"math/bits"

	"github.com/hybridbridge/emu/core/clock"
)

// period returns the periodic interrupt's period in 1/32768 s, or 0 if it is off (data sheet, table 5).
func (r *RTC) period() uint64 {
	rs := r.ram[regA] & 0xf
	switch {
	case rs == 0 || r.held():
		return 0
	case rs <= 2:
		rs += 7
	}
	return 1 << (rs - 1)
}

// nextPeriodic returns the first periodic event after t. Events are whole periods after mark's second.
func (r *RTC) nextPeriodic(t clock.Time) clock.Time {
	p := r.period()
	if p == 0 {
		return clock.Never
	}
	base := r.mark
	if t < base {
		return base
	}
	// One tick of 32768 Hz is 1953125/64 ns.
	hi, lo := bits.Mul64(uint64(t-base), 64)
	n, _ := bits.Div64(hi, lo, 1953125*p)
	for i := range uint64(2) { // t may be within the nanosecond to which an event was rounded up
		if at := base + clock.Time(ticksToTime(n+1+i, p)); at > t {
			return at
		}
	}
	return clock.Never
}

// ticksToTime returns n*p ticks of 32768 Hz in ns, rounded up.
func ticksToTime(n, p uint64) uint64 {
	hi, lo := bits.Mul64(n, 1953125*p)
	lo, carry := bits.Add64(lo, 63, 0)
	return (hi+carry)<<58 | lo>>6
}

// nextUpdate returns the first update of the seconds after t.
func (r *RTC) nextUpdate(t clock.Time) clock.Time {
	if r.stopped {
		return clock.Never
	}
	if t < r.mark {
		return r.mark
	}
	return t - r.phase(t) + second
}

// nextAlarm returns the first update after t at which the time matches the alarm registers.
func (r *RTC) nextAlarm(t clock.Time) clock.Time {
	if r.stopped {
		return clock.Never
	}
	hours, minutes, seconds := r.matches(r.ram[regHoursAlarm], 24, true), r.matches(r.ram[regMinutesAlarm], 60, false),
		r.matches(r.ram[regSecondsAlarm], 60, false)
	if hours == 0 || minutes == 0 || seconds == 0 {
		return clock.Never
	}
	next := r.nextUpdate(t)
	from := r.secondsAt(next)
	const day = 86400
	now := (from%day + day) % day
	return next + clock.Time(((next0(now, hours, minutes, seconds)-now)+day)%day)*second
}

// matches returns the set of values from 0 to n-1 that an alarm byte stands for; 0xc0-0xff match all (data sheet,
// alarm).
func (r *RTC) matches(v uint8, n int, hour bool) uint64 {
	if v >= 0xc0 {
		return 1<<n - 1
	}
	x := r.decodeByte(v)
	if hour {
		x = r.decodeHour(v)
	}
	if x >= n {
		return 0
	}
	return 1 << x
}

// next0 returns the first second of the day from now on whose parts are in the sets, or the first of the next day.
func next0(now int64, hours, minutes, seconds uint64) int64 {
	h, m, s := uint(now/3600), uint(now/60%60), uint(now%60)
	if hours>>h&1 != 0 {
		if minutes>>m&1 != 0 {
			if x := seconds >> s << s; x != 0 {
				return int64(h)*3600 + int64(m)*60 + int64(bits.TrailingZeros64(x))
			}
		}
		if x := minutes >> (m + 1) << (m + 1); x != 0 {
			return int64(h)*3600 + int64(bits.TrailingZeros64(x))*60 + int64(bits.TrailingZeros64(seconds))
		}
	}
	x := hours >> (h + 1) << (h + 1)
	if x == 0 {
		x = hours
	}
	return int64(bits.TrailingZeros64(x))*3600 + int64(bits.TrailingZeros64(minutes))*60 + int64(bits.TrailingZeros64(seconds))
}

// catchUp sets the flags of all events up to now.
func (r *RTC) catchUp() {
	now := r.c.Clock.Now()
	for _, e := range [...]struct {
		flag uint8
		next func(clock.Time) clock.Time
	}{{cPF, r.nextPeriodic}, {cUF, r.nextUpdate}, {cAF, r.nextAlarm}} {
		if r.ram[regC]&e.flag == 0 && e.next(r.seen) <= now {
			r.ram[regC] |= e.flag
		}
	}
	r.seen = now
}

// update drives IRQ 8 and sets the timer for the next event that would raise it.
func (r *RTC) update() {
	r.catchUp()
	flags := r.ram[regB] & r.ram[regC] & (cPF | cAF | cUF)
	if flags != 0 {
		r.ram[regC] |= cIRQF
	} else {
		r.ram[regC] &^= cIRQF
	}
	if irq := flags != 0; irq != r.line {
		r.line = irq
		if r.c.IRQ8 != nil {
			r.c.IRQ8.Set(irq)
		}
	}
	r.arm()
}

// arm sets the timer for the next event that would raise IRQ 8. A line that is high needs none.
func (r *RTC) arm() {
	next := clock.Never
	if r.ram[regC]&cIRQF == 0 {
		b := r.ram[regB]
		if b&bPIE != 0 {
			next = min(next, r.nextPeriodic(r.seen))
		}
		if b&bUIE != 0 {
			next = min(next, r.nextUpdate(r.seen))
		}
		if b&bAIE != 0 {
			next = min(next, r.nextAlarm(r.seen))
		}
	}
	r.timer.Set(next)
}
