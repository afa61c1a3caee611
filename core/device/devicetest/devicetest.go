package devicetest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device"
)

// Clock is guest time that a test moves.
type Clock struct {
	*clock.Queue
	now clock.Time
}

// NewClock returns a clock at time zero.
func NewClock() *Clock {
	c := &Clock{}
	c.Queue = clock.NewQueue(func() clock.Time { return c.now }, nil)
	return c
}

// Advance moves time forward by d, stopping at each deadline to fire its timers, as the machine does.
func (c *Clock) Advance(d clock.Time) {
	end := c.now + d
	for n := 0; c.Next() <= end; n++ {
		if c.Next() > c.now {
			c.now = c.Next()
		}
		if n > 20000 { // a guest asked for interrupts every few nanoseconds: go on late, as a loaded host would
			c.now = end
		}
		c.RunDue()
	}
	c.now = end
}

// Jump moves time without firing timers, as a host that was suspended does.
func (c *Clock) Jump(to clock.Time) { c.now = to }

// Log records what a device does to the outside.
type Log struct{ Events []string }

// Add appends a formatted event.
func (l *Log) Add(format string, args ...any) {
	l.Events = append(l.Events, fmt.Sprintf(format, args...))
}

// Line returns a line that records changes of level.
func (l *Log) Line(name string) device.Line {
	level := false
	return device.LineFunc(func(v bool) {
		if v != level {
			level = v
			l.Add("%s=%v", name, v)
		}
	})
}

// Rig is a device with everything that can be done to it.
type Rig struct {
	Clock    *Clock
	Log      *Log
	Device   device.Stateful
	Ports    device.Ports
	PortList []uint16 // ports to access
	MMIO     device.MMIO
	MMIOSize uint64
	Lines    []device.Line
	Actions  []func(v uint32) string // other methods; the string says what they returned
}

// Op is one thing done to a rig.
type Op struct {
	Kind  uint8
	Which uint16
	Size  uint8
	Value uint32
}

// Do carries out op and returns what the device answered.
func (r *Rig) Do(op Op) string {
	switch op.Kind % 8 {
	case 0, 1:
		if r.Ports != nil {
			port, size := r.PortList[int(op.Which)%len(r.PortList)], 1<<(op.Size%3)
			if op.Kind%8 == 0 {
				return fmt.Sprintf("in%d %#x = %#x", size, port, r.Ports.ReadPort(port, size))
			}
			r.Ports.WritePort(port, size, op.Value)
			return fmt.Sprintf("out%d %#x %#x", size, port, op.Value)
		}
	case 2, 3:
		if r.MMIO != nil {
			off, size := uint64(op.Which)%r.MMIOSize, 1<<(op.Size%4)
			if op.Size&0x80 == 0 { // mostly aligned registers
				off &^= 15
				size = 4
			}
			if op.Kind%8 == 2 {
				return fmt.Sprintf("read%d %#x = %#x", size, off, r.MMIO.ReadMMIO(off, size))
			}
			r.MMIO.WriteMMIO(off, size, uint64(op.Value))
			return fmt.Sprintf("write%d %#x %#x", size, off, op.Value)
		}
	case 4:
		if len(r.Lines) > 0 {
			n := int(op.Which) % len(r.Lines)
			r.Lines[n].Set(op.Value&1 != 0)
			return fmt.Sprintf("line %d %v", n, op.Value&1 != 0)
		}
	case 5:
		if len(r.Actions) > 0 {
			return r.Actions[int(op.Which)%len(r.Actions)](op.Value)
		}
	case 6:
		r.Clock.Advance(clock.Time(op.Value) >> (op.Size % 32))
		return fmt.Sprintf("now %d", r.Clock.Now())
	case 7:
		if op.Size == 0 { // seldom: late timers
			r.Clock.Jump(r.Clock.Now() + clock.Time(op.Value))
			r.Clock.RunDue()
		}
	}
	return ""
}

// Save returns the device's state as JSON.
func Save(t interface{ Fatal(...any) }, d device.Stateful) []byte {
	b, err := json.Marshal(d.SaveState())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Load loads state that Save returned.
func Load(d device.Stateful, state []byte) error {
	return d.LoadState(func(v any) error { return json.Unmarshal(state, v) })
}

// RoundTrip checks that a device loaded from the saved state of another saves the same and from then on behaves the
// same: the same answers, the same outputs, the same deadlines.
func RoundTrip(t *testing.T, newRig func() *Rig) {
	t.Helper()
	op := rapid.Custom(func(t *rapid.T) Op {
		return Op{
			Kind:  rapid.Uint8Range(0, 6).Draw(t, "kind"),
			Which: rapid.Uint16().Draw(t, "which"),
			Size:  rapid.Uint8().Draw(t, "size"),
			Value: rapid.Uint32().Draw(t, "value"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a := newRig()
		for _, o := range rapid.SliceOfN(op, 0, 60).Draw(t, "before") {
			a.Do(o)
		}
		saved := Save(t, a.Device)
		b := newRig()
		b.Clock.Jump(a.Clock.Now())
		if err := Load(b.Device, saved); err != nil {
			t.Fatalf("load: %v", err)
		}
		if again := Save(t, b.Device); string(again) != string(saved) {
			t.Fatalf("saved\n%s\nloaded and saved\n%s", saved, again)
		}
		a.Log.Events, b.Log.Events = nil, nil
		for i, o := range rapid.SliceOfN(op, 0, 60).Draw(t, "after") {
			ra, rb := a.Do(o), b.Do(o)
			if ra != rb || !slices.Equal(a.Log.Events, b.Log.Events) || a.Clock.Next() != b.Clock.Next() {
				t.Fatalf("step %d %+v: original %s, outputs %v, next %d; loaded %s, outputs %v, next %d",
					i, o, ra, a.Log.Events, a.Clock.Next(), rb, b.Log.Events, b.Clock.Next())
			}
		}
		if sa, sb := Save(t, a.Device), Save(t, b.Device); string(sa) != string(sb) {
			t.Fatalf("at the end: original\n%s\nloaded\n%s", sa, sb)
		}
	})
}

// Fuzz hammers a device with accesses, lines and timers taken from the input. A device passes if it does not panic
// and its state still loads.
func Fuzz(f *testing.F, newRig func() *Rig) {
	f.Helper()
	x := uint64(1)
	for range 8 {
		var seed []byte
		for range 400 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			seed = binary.LittleEndian.AppendUint64(seed, x)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newRig()
		for len(in) >= 8 {
			r.Do(Op{in[0], binary.LittleEndian.Uint16(in[1:]), in[3], binary.LittleEndian.Uint32(in[4:])})
			in = in[8:]
		}
		b := newRig()
		b.Clock.Jump(r.Clock.Now())
		if err := Load(b.Device, Save(t, r.Device)); err != nil {
			t.Fatal(err)
		}
	})
}
