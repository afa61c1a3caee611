package rtc

import (
	"encoding/hex"
	"fmt"

	"github.com/hybridbridge/emu/core/clock"
)

// State is the saved state of a clock.
type State struct {
	Index   uint8
	CMOS    string // the 128 bytes in hexadecimal; time registers count only while Stopped
	Epoch   int64  // seconds since 1970 at Mark
	Mark    clock.Time
	Stopped bool
	Seen    clock.Time
	Line    bool
}

// Name implements device.Stateful.
func (r *RTC) Name() string { return "rtc" }

// SaveState implements device.Stateful.
func (r *RTC) SaveState() any {
	return State{
		Index: r.index, CMOS: hex.EncodeToString(r.ram[:]), Epoch: r.epoch, Mark: r.mark, Stopped: r.stopped,
		Seen: r.seen, Line: r.line,
	}
}

// LoadState implements device.Stateful. It drives IRQ 8 to the loaded level.
func (r *RTC) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	ram, err := hex.DecodeString(s.CMOS)
	if err != nil || len(ram) != len(r.ram) {
		return fmt.Errorf("rtc: CMOS is not %d hexadecimal bytes", len(r.ram))
	}
	copy(r.ram[:], ram)
	r.index, r.epoch, r.mark, r.stopped, r.seen, r.line = s.Index&0x7f, s.Epoch, s.Mark, s.Stopped, s.Seen, s.Line
	if r.c.IRQ8 != nil {
		r.c.IRQ8.Set(r.line)
	}
	r.arm()
	return nil
}
