package acpipm

import (
	"slices"
	"testing"

	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device/devicetest"
)

func newPM() (*PM, *devicetest.Clock, *devicetest.Log) {
	log := &devicetest.Log{}
	clk := devicetest.NewClock()
	return New(Config{
		Clock: clk.Queue, SCI: log.Line("sci"),
		PowerOff: func() { log.Add("off") }, Reset: func() { log.Add("reset") },
	}), clk, log
}

func newRig() *devicetest.Rig {
	p, clk, log := newPM()
	r := &devicetest.Rig{Clock: clk, Log: log, Device: p, Ports: p, Actions: []func(uint32) string{
		func(uint32) string { p.PressPowerButton(); return "button" },
		func(v uint32) string { clk.Advance(clock.Time(v) << 7); return "wait" },
	}}
	for i := range uint16(12) {
		r.PortList = append(r.PortList, PortEvent+i)
	}
	r.PortList = append(r.PortList, PortReset)
	return r
}

func TestRoundTrip(t *testing.T) { devicetest.RoundTrip(t, newRig) }
func FuzzPM(f *testing.F)        { devicetest.Fuzz(f, newRig) }

func wantEvents(t *testing.T, log *devicetest.Log, want ...string) {
	t.Helper()
	if !slices.Equal(log.Events, want) {
		t.Errorf("events %v, want %v", log.Events, want)
	}
	log.Events = nil
}

func TestTimer(t *testing.T) {
	p, clk, _ := newPM()
	clk.Advance(1e9)
	if got := p.ReadPort(PortTimer, 4); got != TimerHz {
		t.Errorf("timer %d after a second", got)
	}
	clk.Advance(1199 * 1e9)
	if got := p.ReadPort(PortTimer, 4); got != uint32(1200*TimerHz&0xffffffff) {
		t.Errorf("timer %d after 20 minutes", got)
	}
}

func TestTimerEvent(t *testing.T) {
	p, clk, log := newPM()
	p.WritePort(PortEvent+2, 2, tmrSTS)
	clk.Advance(599 * 1e9)
	wantEvents(t, log)
	clk.Advance(2 * 1e9) // bit 31 changes after 599.93 s
	wantEvents(t, log, "sci=true")
	p.WritePort(PortEvent, 2, tmrSTS)
	wantEvents(t, log, "sci=false")
	if clk.Next() < 1199*1e9 {
		t.Errorf("next event at %d", clk.Next())
	}
}

func TestPowerOff(t *testing.T) {
	p, _, log := newPM()
	p.WritePort(PortControl, 2, 3<<sleepTyp|sleepEn) // another state
	p.WritePort(PortControl, 2, SleepTypeS5<<sleepTyp)
	wantEvents(t, log)
	p.WritePort(PortControl, 2, SleepTypeS5<<sleepTyp|sleepEn)
	wantEvents(t, log, "off")
	if got := p.ReadPort(PortControl, 2); got != SleepTypeS5<<sleepTyp|cntSCI {
		t.Errorf("control %#x", got)
	}
}

func TestReset(t *testing.T) {
	p, _, log := newPM()
	p.WritePort(PortReset, 1, 0x02)
	wantEvents(t, log)
	p.WritePort(PortReset, 1, ResetValue)
	wantEvents(t, log, "reset")
}

func TestPowerButton(t *testing.T) {
	p, _, log := newPM()
	p.PressPowerButton()
	wantEvents(t, log)
	p.WritePort(PortEvent, 4, pwrbtnSTS<<16)
	wantEvents(t, log, "sci=true")
	if got := p.ReadPort(PortEvent, 2); got != pwrbtnSTS {
		t.Errorf("status %#x", got)
	}
	p.WritePort(PortEvent+1, 1, pwrbtnSTS>>8)
	wantEvents(t, log, "sci=false")
}
