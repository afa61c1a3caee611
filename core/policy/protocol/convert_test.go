package protocol

import (
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/compact"
	"github.com/hybridbridge/emu/core/policy/internal/policypb"
)

// lists draws a list; an empty one is nil, since protobuf knows no difference.
func lists[T any](g *rapid.Generator[T]) *rapid.Generator[[]T] {
	return rapid.Custom(func(t *rapid.T) []T {
		l := rapid.SliceOfN(g, 0, 4).Draw(t, "list")
		if len(l) == 0 {
			return nil
		}
		return l
	})
}

// of draws a value with all its fields, also of fields that are added later.
func of[T any]() *rapid.Generator[T] {
	return rapid.MakeCustom[T](rapid.MakeConfig{
		Types: map[reflect.Type]*rapid.Generator[any]{
			reflect.TypeFor[string]():              rapid.String().AsAny(),
			reflect.TypeFor[[]string]():            lists(rapid.String()).AsAny(),
			reflect.TypeFor[[]byte]():              lists(rapid.Byte()).AsAny(),
			reflect.TypeFor[[]policy.Field]():      lists(rapid.Map(rapid.String(), func(s string) policy.Field { return policy.Field(s) })).AsAny(),
			reflect.TypeFor[policy.Category]():     rapid.Map(rapid.Uint8Max(uint8(policy.Neutral)), func(n uint8) policy.Category { return policy.Category(n) }).AsAny(),
			reflect.TypeFor[policy.Route]():        routes().AsAny(),
			reflect.TypeFor[[]policy.Route]():      lists(routes()).AsAny(),
			reflect.TypeFor[policy.Reason]():       rapid.Map(rapid.Uint8Max(uint8(policy.ByAddress)), func(n uint8) policy.Reason { return policy.Reason(n) }).AsAny(),
			reflect.TypeFor[policy.WriteRule]():    rapid.Map(rapid.Uint8Max(uint8(policy.Refuse)), func(n uint8) policy.WriteRule { return policy.WriteRule(n) }).AsAny(),
			reflect.TypeFor[[]policy.Operand]():    lists(rapid.Deferred(of[policy.Operand])).AsAny(),
			reflect.TypeFor[[]policy.Root]():       lists(rapid.Deferred(of[policy.Root])).AsAny(),
			reflect.TypeFor[[]policy.Scope]():      lists(rapid.Deferred(of[policy.Scope])).AsAny(),
			reflect.TypeFor[[]policy.Elision]():    lists(rapid.Deferred(of[policy.Elision])).AsAny(),
			reflect.TypeFor[[]policy.Lock]():       lists(rapid.Deferred(of[policy.Lock])).AsAny(),
			reflect.TypeFor[[]policy.Substitute](): lists(rapid.Deferred(of[policy.Substitute])).AsAny(),
		},
	})
}

func routes() *rapid.Generator[policy.Route] {
	return rapid.SampledFrom([]policy.Route{policy.Local, policy.Snapshot})
}

// sent passes a message through its encoded form.
func sent[M proto.Message](t *rapid.T, m, empty M) M {
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, empty); err != nil {
		t.Fatal(err)
	}
	return empty
}

func same[T any](t *rapid.T, got, want T, err error) {
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v (%v)\nwant %+v", got, err, want)
	}
}

// What is sent arrives, with every field.
func TestRoundTrip(t *testing.T) {
	t.Run("kernel", rapid.MakeCheck(func(t *rapid.T) {
		k := of[policy.Kernel]().Draw(t, "kernel")
		same(t, kernelFromProto(sent(t, kernelToProto(k), &policypb.Kernel{})), k, nil)
	}))
	t.Run("policy", rapid.MakeCheck(func(t *rapid.T) {
		p := of[policy.Policy]().Draw(t, "policy")
		same(t, policyFromProto(sent(t, policyToProto(&p), &policypb.Policy{})), p, nil)
	}))
	t.Run("kept", rapid.MakeCheck(func(t *rapid.T) {
		p := of[policy.Policy]().Draw(t, "policy")
		x := rapid.MapOfN(of[policy.Category](), lists(of[policy.Interest]()), 0, 7).Draw(t, "interests")
		b := compact.Encode(&p, x)
		got, interests, err := compact.Decode(b)
		same(t, got, p, err)
		same(t, interests, policy.Interests(x), err)
		for n := range b {
			if _, _, err := compact.Decode(b[:n]); !errors.Is(err, compact.ErrEncoding) {
				t.Fatalf("%d bytes of %d: %v", n, len(b), err)
			}
		}
	}))
	t.Run("sites", rapid.MakeCheck(func(t *rapid.T) {
		s := rapid.SliceOfN(of[policy.Site](), 0, 4).Draw(t, "sites")
		got, err := sitesFromProto(sent(t, sitesToProto(s), &policypb.Sites{}))
		same(t, got, s, err)
	}))
	t.Run("interests", rapid.MakeCheck(func(t *rapid.T) {
		i := lists(rapid.Deferred(of[policy.Interest])).Draw(t, "interests")
		same(t, interestsFromProto(sent(t, interestsToProto(i), &policypb.InterestList{})), i, nil)
	}))
	t.Run("plans", rapid.MakeCheck(func(t *rapid.T) {
		p := rapid.SliceOfN(of[policy.Plan](), 0, 4).Draw(t, "plans")
		got, err := plansFromProto(sent(t, plansToProto(p), &policypb.Plans{}))
		same(t, got, p, err)
	}))
}

// A number that names nothing is an error that says so, wherever it is.
func TestEnums(t *testing.T) {
	_, category := sitesFromProto(&policypb.Sites{Sites: []*policypb.Site{{Category: 6}}})
	_, route := sitesFromProto(&policypb.Sites{Sites: []*policypb.Site{{Operands: []*policypb.Operand{{Route: 2}}}}})
	_, reason := sitesFromProto(&policypb.Sites{Sites: []*policypb.Site{{Operands: []*policypb.Operand{{Reason: 8}}}}})
	_, writes := plansFromProto(&policypb.Plans{Plans: []*policypb.Plan{{Writes: -1}}})
	_, planned := plansFromProto(&policypb.Plans{Plans: []*policypb.Plan{{Routes: []policypb.Route{258}}}})
	for want, err := range map[EnumError]error{
		{"Category", 6}: category, {"Route", 2}: route, {"Reason", 8}: reason, {"WriteRule", -1}: writes, {"Route", 258}: planned,
	} {
		var got *EnumError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("%+v: %v", want, err)
		}
	}
}
