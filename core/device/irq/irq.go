package irq

import "github.com/hybridbridge/emu/core/device"

// Fan returns a line that drives all of lines, in order. Nil lines are left out.
func Fan(lines ...device.Line) device.Line {
	var all []device.Line
	for _, l := range lines {
		if l != nil {
			all = append(all, l)
		}
	}
	return device.LineFunc(func(level bool) {
		for _, l := range all {
			l.Set(level)
		}
	})
}

// Or is a wired-OR: its output is high while any of its inputs is. It holds no state of its own that a snapshot
// needs, because devices drive their outputs again when they are loaded.
type Or struct {
	out  device.Line
	high int
}

// NewOr returns a wired-OR that drives out and has no inputs yet. out may be nil.
func NewOr(out device.Line) *Or { return &Or{out: out} }

// Input adds an input, which is low.
func (o *Or) Input() device.Line {
	level := false
	return device.LineFunc(func(l bool) {
		if l == level {
			return
		}
		level = l
		was := o.high > 0
		if l {
			o.high++
		} else {
			o.high--
		}
		if is := o.high > 0; is != was && o.out != nil {
			o.out.Set(is)
		}
	})
}
