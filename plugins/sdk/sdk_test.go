package sdk

import (
	"context"
	"reflect"
	"testing"

	"github.com/hybridbridge/emu/core/policy"
)

// A handler is asked about everything unless it says about what, and one without a function about nothing.
func TestInterests(t *testing.T) {
	elide := func(policy.Site) policy.Plan { return policy.Plan{Elide: true} }
	some := []policy.Interest{{Functions: []string{"seq_*"}}}
	for _, c := range []struct {
		h    *handler
		want []policy.Interest
		plan policy.Plan
	}{
		{newHandler(elide, nil), []policy.Interest{{}}, policy.Plan{Elide: true}},
		{newHandler(elide, some), some, policy.Plan{Elide: true}},
		{newHandler(nil, nil), nil, policy.Plan{}},
	} {
		got, err := c.h.Interests(t.Context())
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v, %v; want %+v", got, err, c.want)
		}
		plans, err := c.h.Plan(t.Context(), make([]policy.Site, 3))
		if err != nil || len(plans) != 3 || !plans[2].Equal(&c.plan) {
			t.Errorf("%+v, %v", plans, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newHandler(elide, nil).Plan(ctx, make([]policy.Site, 1)); err == nil {
		t.Error("nobody waits for the answer, and it is given")
	}
}
