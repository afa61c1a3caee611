package rtc

import (
	"time"

	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/portio"
)

// Port is the index port; the data port follows.
const Port = 0x70

// RegCentury is the CMOS byte that holds the century, as the FADT says.
const RegCentury = 0x32

// DefaultStart is the date at guest time 0 if the configuration gives none.
var DefaultStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Config is what a clock starts with and is connected to.
type Config struct {
	Clock *clock.Queue
	IRQ8  device.Line
	Start time.Time      // date at guest time 0, to the second; zero means DefaultStart
	CMOS  map[uint8]byte // initial bytes at 0x0e-0x7f, such as memory sizes
}

// Registers (data sheet, figure 11).
const (
	regSeconds = iota
	regSecondsAlarm
	regMinutes
	regMinutesAlarm
	regHours
	regHoursAlarm
	regWeekday
	regDay
	regMonth
	regYear
	regA
	regB
	regC
	regD
)

// Bits of registers A to D.
const (
	aUIP  = 1 << 7
	bSET  = 1 << 7
	bPIE  = 1 << 6
	bAIE  = 1 << 5
	bUIE  = 1 << 4
	bDM   = 1 << 2 // binary
	b24   = 1 << 1
	cIRQF = 1 << 7
	cPF   = 1 << 6
	cAF   = 1 << 5
	cUF   = 1 << 4
	dVRT  = 1 << 7
)

// updateTime is how long before a new second UIP is set: 244 us warning and 1984 us update cycle (data sheet,
// table 6, 32.768 kHz).
const updateTime = 244_000 + 1_984_000

const second = 1_000_000_000

// RTC is a real-time clock. It implements device.Ports and device.Stateful.
type RTC struct {
	c     Config
	timer *clock.Timer
	line  bool

	index uint8
	ram   [128]uint8 // alarm and control registers and memory; in the time registers, what SET froze

	// The clock shows epoch at time mark and is one second further at each whole second after that. While it is
	// stopped (SET, or the divider held in reset) the time registers are in ram.
	epoch   int64
	mark    clock.Time
	stopped bool

	seen clock.Time // up to when register C's flags are right
}

// New returns a clock that runs.
func New(c Config) *RTC {
	if c.Start.IsZero() {
		c.Start = DefaultStart
	}
	r := &RTC{c: c, epoch: c.Start.Unix()}
	r.timer = c.Clock.NewTimer(r.update)
	for i, v := range c.CMOS {
		if i > regD && int(i) < len(r.ram) {
			r.ram[i] = v
		}
	}
	r.ram[regA] = 0x26 // 32.768 kHz, 1024 Hz
	r.ram[regB] = b24
	return r
}

// Attach maps the ports.
func (r *RTC) Attach(bus device.Bus) { bus.MapPorts(Port, 2, r) }

// Reset is the RESET input: it disables the interrupts and clears their flags; the clock runs on (data sheet, RESET).
func (r *RTC) Reset() {
	r.catchUp()
	r.ram[regB] &^= bPIE | bAIE | bUIE | 1<<3
	r.ram[regC] = 0
	r.update()
}

// ReadPort implements device.Ports.
func (r *RTC) ReadPort(port uint16, size int) uint32 {
	return portio.Read(port, size, func(port uint16) uint8 {
		if port&1 == 0 {
			return 0xff // the index can't be read
		}
		return r.read(r.index)
	})
}

// WritePort implements device.Ports.
func (r *RTC) WritePort(port uint16, size int, v uint32) {
	portio.Write(port, size, v, func(port uint16, v uint8) {
		if port&1 == 0 {
			r.index = v & 0x7f // bit 7 masks NMI in the chip set
		} else {
			r.write(r.index, v)
		}
	})
}

func (r *RTC) read(i uint8) uint8 {
	switch i {
	case regSeconds, regMinutes, regHours, regWeekday, regDay, regMonth, regYear, RegCentury:
		if !r.stopped {
			return r.fields(r.now())[i]
		}
	case regA:
		v := r.ram[regA]
		if !r.stopped && second-r.phase(r.c.Clock.Now()) <= updateTime {
			v |= aUIP
		}
		return v
	case regC:
		r.catchUp()
		v := r.ram[regC]
		r.ram[regC] = 0
		r.update()
		return v
	case regD:
		return dVRT
	}
	return r.ram[i]
}

func (r *RTC) write(i, v uint8) {
	r.catchUp()
	switch i {
	case regSeconds, regMinutes, regHours, regWeekday, regDay, regMonth, regYear, RegCentury:
		if r.stopped {
			r.ram[i] = v
			break
		}
		r.freeze()
		r.ram[i] = v
		r.epoch = r.decode() // the sub-second phase stays
		r.mark = r.c.Clock.Now() - r.phase(r.c.Clock.Now())
	case regA:
		held := r.held()
		r.ram[regA] = v &^ aUIP
		r.runOrStop(held)
	case regB:
		if v&bSET != 0 {
			v &^= bUIE // data sheet, SET
		}
		if !r.stopped && v&bSET != 0 {
			r.freeze() // in the form that register B says until now
		}
		r.ram[regB] = v
		r.runOrStop(r.held())
	case regC, regD:
	default:
		r.ram[i] = v
	}
	r.update()
}

// runOrStop follows SET and the divider bits; held is what held was before. A divider that is released from reset
// makes its first update half a second later (data sheet, DV bits); one that was only kept from updating keeps its
// phase.
func (r *RTC) runOrStop(held bool) {
	stop := r.ram[regB]&bSET != 0 || r.held()
	now := r.c.Clock.Now()
	if stop && !r.stopped {
		r.freeze()
	}
	if stop != r.stopped {
		r.mark = now - r.phase(now)
	}
	if held && !r.held() {
		r.mark = now - min(now, second/2)
	}
	if !stop && r.stopped {
		r.epoch = r.decode()
	}
	r.stopped = stop
}

// held reports whether the divider chain is held in reset.
func (r *RTC) held() bool { return r.ram[regA]>>5&3 == 3 }

// phase is the time since the last whole second.
func (r *RTC) phase(t clock.Time) clock.Time {
	if t < r.mark {
		return 0
	}
	return (t - r.mark) % second
}

// secondsAt is the clock at time t, in seconds since 1970.
func (r *RTC) secondsAt(t clock.Time) int64 {
	if t < r.mark {
		return r.epoch
	}
	return r.epoch + int64((t-r.mark)/second)
}

func (r *RTC) now() int64 { return r.secondsAt(r.c.Clock.Now()) }

// freeze puts the present time into the registers.
func (r *RTC) freeze() {
	for i, v := range r.fields(r.now()) {
		r.ram[i] = v
	}
}

// fields returns the time registers for a time.
func (r *RTC) fields(epoch int64) map[uint8]uint8 {
	t := time.Unix(epoch, 0).UTC()
	hour := r.encode(t.Hour())
	if r.ram[regB]&b24 == 0 {
		hour = r.encode((t.Hour()+11)%12 + 1)
		if t.Hour() >= 12 {
			hour |= 0x80
		}
	}
	year := t.Year()
	if year < 0 || year > 9999 {
		year = 0
	}
	return map[uint8]uint8{
		regSeconds: r.encode(t.Second()), regMinutes: r.encode(t.Minute()), regHours: hour,
		regWeekday: r.encode(int(t.Weekday()) + 1), regDay: r.encode(t.Day()),
		regMonth: r.encode(int(t.Month())), regYear: r.encode(year % 100),
		RegCentury: bcd(year / 100),
	}
}

func bcd(v int) uint8 { return uint8(v/10<<4 | v%10) }

func unBCD(v uint8) int { return int(v>>4)*10 + int(v&0xf) }

func (r *RTC) encode(v int) uint8 {
	if r.ram[regB]&bDM != 0 {
		return uint8(v)
	}
	return bcd(v)
}

func (r *RTC) decodeByte(v uint8) int {
	if r.ram[regB]&bDM != 0 {
		return int(v)
	}
	return unBCD(v)
}

func (r *RTC) decodeHour(v uint8) int {
	if r.ram[regB]&b24 != 0 {
		return r.decodeByte(v)
	}
	h := r.decodeByte(v&0x7f) % 12
	if v&0x80 != 0 {
		h += 12
	}
	return h
}

// decode turns the time registers into seconds since 1970. Impossible dates become the possible one that many days
// on.
func (r *RTC) decode() int64 {
	year := unBCD(r.ram[RegCentury])*100 + r.decodeByte(r.ram[regYear])
	return time.Date(year, time.Month(r.decodeByte(r.ram[regMonth])), r.decodeByte(r.ram[regDay]),
		r.decodeHour(r.ram[regHours]), r.decodeByte(r.ram[regMinutes]), r.decodeByte(r.ram[regSeconds]), 0, time.UTC).Unix()
}
