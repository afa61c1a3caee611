package irq

import (
	"slices"
	"testing"

	"github.com/hybridbridge/emu/core/device"
)

func TestOr(t *testing.T) {
	var log []bool
	o := NewOr(device.LineFunc(func(l bool) { log = append(log, l) }))
	a, b := o.Input(), o.Input()
	a.Set(true)
	a.Set(true)
	b.Set(true)
	a.Set(false)
	b.Set(false)
	b.Set(false)
	if want := []bool{true, false}; !slices.Equal(log, want) {
		t.Errorf("output %v, want %v", log, want)
	}
	NewOr(nil).Input().Set(true)
}

func TestFan(t *testing.T) {
	var a, b bool
	f := Fan(device.LineFunc(func(l bool) { a = l }), nil, device.LineFunc(func(l bool) { b = l }))
	f.Set(true)
	if !a || !b {
		t.Errorf("levels %v %v, want both high", a, b)
	}
}
