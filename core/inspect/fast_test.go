package inspect

import "testing"

// TestMore: a run whose goal is not reached takes all of its budget, and one that was tried before four times as much as then at most.
func TestMore(t *testing.T) {
	for _, c := range []struct{ budget, least, reached, want uint64 }{
		{10*goalStep + 5, 0, 0, 10*goalStep + 5},
		{100 * goalStep, 4 * goalStep, 0, 8 * goalStep},
		{5 * goalStep, 4 * goalStep, 0, 5 * goalStep},
		{100 * goalStep, 0, 5 * goalStep, 5 * goalStep},
		{goalStep / 2, 0, 0, goalStep / 2},
	} {
		r := &run{Options: Options{Budget: c.budget, goal: &goal{least: c.least}}, until: c.reached}
		r.granted = min(goalStep, c.budget)
		for r.more() > 0 {
		}
		if r.granted != c.want {
			t.Errorf("%+v: %d instructions", c, r.granted)
		}
	}
}
