package pit

import (
	"math"
	"math/bits"

	"github.com/hybridbridge/emu/core/clock"
)

// Hz is the rate of the timer's clock input.
const Hz = 1193182

// ticks returns how many clock pulses there were before time t.
func ticks(t clock.Time) int64 {
	hi, lo := bits.Mul64(uint64(t), Hz)
	q, _ := bits.Div64(hi, lo, 1e9)
	return int64(q)
}

// timeOf returns the first time at which ticks is n.
func timeOf(n int64) clock.Time {
	if n <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(n), 1e9)
	lo, carry := bits.Add64(lo, Hz-1, 0)
	hi += carry
	if hi >= Hz {
		return clock.Never
	}
	q, _ := bits.Div64(hi, lo, Hz)
	return clock.Time(q)
}

// never is a tick that does not come.
const never = math.MaxInt64

// counter is one of the three counters. Its output and count follow from mode, n and the tick at which n was loaded.
type counter struct {
	mode   uint8 // 0-5
	access uint8 // RW bits: 1 low byte, 2 high byte, 3 both
	bcd    bool
	gate   bool

	n      int64 // count in use: 1-65536, or 1-10000
	start  int64 // tick at which n was loaded
	loaded bool  // n was loaded and, in modes 1 and 5, triggered
	paused bool  // counting is stopped; at is how far it was
	at     int64

	next    int64 // count to load at tick nextAt, or 0
	nextAt  int64
	nextLow bool // in mode 3: it begins with the low half of its period

	writeLow  uint8 // first byte of a two-byte write
	writeHalf bool
	readHalf  bool
	latch     uint16
	latched   uint8 // bytes of latch not yet read, as access bits
	status    uint8
	statusOK  bool // status is latched
	null      bool // a written count is not loaded yet (status bit 6)
}

func (c *counter) full() int64 {
	if c.bcd {
		return 10000
	}
	return 65536
}

// advance loads a waiting count if its time has come.
func (c *counter) advance(now int64) {
	if c.next == 0 || now < c.nextAt {
		return
	}
	n, at := c.next, c.nextAt
	c.next = 0
	c.null = false
	c.n, c.start = n, at
	if c.nextLow {
		c.start = at - highTicks(n)
	}
	c.nextLow = false
}

func highTicks(n int64) int64 { return (n + 1) / 2 }

// elapsed is how many ticks the present count has been counting.
func (c *counter) elapsed(now int64) int64 {
	switch {
	case c.paused:
		return c.at
	case now < c.start:
		return 0
	}
	return now - c.start
}

// out returns the level of OUT.
func (c *counter) out(now int64) bool {
	if !c.loaded {
		return c.mode != 0
	}
	e := c.elapsed(now)
	switch c.mode {
	case 0, 1:
		return e >= c.n
	case 2:
		return !c.gate || e%c.n != c.n-1 || c.n == 1
	case 3:
		return !c.gate || e%c.n < highTicks(c.n)
	default: // 4, 5: low for one clock
		return e != c.n
	}
}

// change returns the next tick after now at which OUT may change, or never.
func (c *counter) change(now int64) int64 {
	t := c.ownChange(now)
	if c.next != 0 && c.nextAt > now && c.nextAt < t {
		t = c.nextAt
	}
	return t
}

// ownChange is change as far as the present count causes it.
func (c *counter) ownChange(now int64) int64 {
	if !c.loaded || c.paused {
		return never
	}
	if now < c.start {
		return c.start
	}
	e := now - c.start
	switch c.mode {
	case 0, 1:
		if e < c.n {
			return c.start + c.n
		}
	case 2, 3:
		if c.n == 1 || !c.gate {
			return never
		}
		low := c.n - 1 // when OUT falls in each period
		if c.mode == 3 {
			low = highTicks(c.n)
		}
		p := e % c.n
		if p < low {
			return now - p + low
		}
		return now - p + c.n
	default:
		if e <= c.n {
			return c.start + c.n + e/c.n
		}
	}
	return never
}

// count returns the counting element as the guest reads it.
func (c *counter) count(now int64) uint16 {
	var v int64
	e := c.elapsed(now)
	switch c.mode {
	case 2:
		v = c.n
		if c.n > 0 {
			v = c.n - e%c.n
		}
	case 3:
		v = c.n
		if c.n > 0 {
			// It counts down by two, from an even number, in each half (data sheet, mode 3).
			p := e % c.n
			if h := highTicks(c.n); p >= h {
				p -= h
			}
			v = c.n&^1 - 2*p
		}
	default:
		v = c.n - e // goes on below 0: wraps
	}
	f := c.full()
	v = (v%f + f) % f
	if c.bcd {
		return uint16(v%10 | v/10%10<<4 | v/100%10<<8 | v/1000%10<<12)
	}
	return uint16(v)
}

// setMode is a control word for this counter.
func (c *counter) setMode(v uint8) {
	mode := v >> 1 & 7
	if mode > 5 {
		mode -= 4
	}
	*c = counter{mode: mode, access: v >> 4 & 3, bcd: v&1 != 0, gate: c.gate, n: c.n, paused: true, null: true}
}

// write is a byte written to the counter's port.
func (c *counter) write(v uint8, now int64) {
	switch {
	case c.access == 1:
		c.setCount(uint16(v), now)
	case c.access == 2:
		c.setCount(uint16(v)<<8, now)
	case !c.writeHalf:
		c.writeLow, c.writeHalf = v, true
		if c.mode == 0 { // the first byte stops the count and takes OUT low (data sheet, mode 0)
			c.at, c.paused, c.loaded = c.elapsed(now), true, false
		}
	default:
		c.writeHalf = false
		c.setCount(uint16(v)<<8|uint16(c.writeLow), now)
	}
}

// setCount takes a whole new count. It is loaded at the next clock pulse.
func (c *counter) setCount(v uint16, now int64) {
	n := int64(v)
	if c.bcd {
		n = int64(v&0xf) + 10*int64(v>>4&0xf) + 100*int64(v>>8&0xf) + 1000*int64(v>>12)
	}
	if n == 0 || n > c.full() {
		n = c.full()
	}
	c.null = true
	switch c.mode {
	case 0, 4:
		c.load(n, now+1)
		c.paused = !c.gate
	case 1, 5:
		// Waits for a trigger; a running one-shot is not affected.
		c.next, c.nextAt = n, never
	case 2, 3:
		if !c.loaded {
			c.load(n, now+1)
			c.paused = !c.gate
			return
		}
		c.next, c.nextAt = n, never // with the gate low, until it rises
		if c.gate {
			c.wait(now)
		}
	}
}

// wait sets when a running counter of mode 2 or 3 takes its next count: at the end of the period, in mode 3 of the
// half period.
func (c *counter) wait(now int64) {
	c.nextLow = false
	if now < c.start {
		c.nextAt = c.start
		return
	}
	p := (now - c.start) % c.n
	c.nextAt = now - p + c.n
	if h := highTicks(c.n); c.mode == 3 && p < h {
		c.nextAt, c.nextLow = now-p+h, true
	}
}

// load starts counting from n at tick at. The null bit of the status stays until then.
func (c *counter) load(n, at int64) {
	c.n, c.start, c.loaded, c.paused, c.at = n, at, true, false, 0
	c.next, c.nextAt, c.nextLow = n, at, false
}

// setGate is a change of the GATE input.
func (c *counter) setGate(level bool, now int64) {
	if level == c.gate {
		return
	}
	c.gate = level
	switch c.mode {
	case 0, 4:
		if !c.loaded {
			return
		}
		if !level {
			c.at, c.paused = c.elapsed(now), true
		} else if c.paused {
			c.start, c.paused, c.at = now-c.at, false, 0
		}
	case 1, 5:
		if level {
			n := c.n
			if c.next != 0 {
				n = c.next
			}
			if n > 0 && (c.next != 0 || c.loaded) {
				c.load(n, now+1)
			}
		}
	case 2, 3:
		if !c.loaded {
			return
		}
		if !level {
			c.at, c.paused = c.elapsed(now), true
			if c.next != 0 {
				c.nextAt, c.nextLow = never, false
			}
			return
		}
		n := c.n
		if c.next != 0 {
			n = c.next
		}
		c.load(n, now+1)
	}
}

// latchCount is the counter latch command: it holds until it is read.
func (c *counter) latchCount(now int64) {
	if c.latched == 0 {
		c.latch, c.latched = c.count(now), c.access
	}
}

func (c *counter) latchStatus(now int64) {
	if c.statusOK {
		return
	}
	c.statusOK = true
	c.status = c.access<<4 | c.mode<<1
	if c.bcd {
		c.status |= 1
	}
	if c.null {
		c.status |= 1 << 6
	}
	if c.out(now) {
		c.status |= 1 << 7
	}
}

// read is a byte read from the counter's port.
func (c *counter) read(now int64) uint8 {
	switch {
	case c.statusOK:
		c.statusOK = false
		return c.status
	case c.latched&1 != 0:
		c.latched &^= 1
		return uint8(c.latch)
	case c.latched != 0:
		c.latched = 0
		return uint8(c.latch >> 8)
	}
	v := c.count(now)
	switch {
	case c.access == 2:
		return uint8(v >> 8)
	case c.access == 3:
		c.readHalf = !c.readHalf
		if !c.readHalf {
			return uint8(v >> 8)
		}
	}
	return uint8(v)
}
