package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

// TestDispatch checks that what DefaultFeatures lets decode has a handler.
func TestDispatch(t *testing.T) {
	table := newTable()
	for row := range isa.Rows {
		if table[row.Op] == nil && DefaultFeatures.Has(row.Feature) {
			t.Errorf("%v (%s) has no handler", row.Op, row.Enc)
		}
	}
}
