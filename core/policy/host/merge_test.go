package host

import (
	"slices"
	"testing"

	"github.com/hybridbridge/emu/core/policy"
)

// An extension widens the paths of a scope that is restricted to some, and does not restrict one that is for any.
func TestMergePaths(t *testing.T) {
	define := func(name string, paths ...string) policy.Scope {
		return policy.Scope{Name: name, Syscalls: []string{"openat"}, PathArgument: 1, Paths: paths, Roots: []policy.Root{{Symbol: "r"}}}
	}
	got, err := merge([]statement{
		{&Plugin{Entry: Entry{Name: "first"}}, policy.Policy{Scopes: []policy.Scope{define("some", "/etc/passwd"), define("any")}}},
		{&Plugin{Entry: Entry{Name: "second"}}, policy.Policy{Scopes: []policy.Scope{
			{Name: "some", Paths: []string{"/etc/shadow"}}, {Name: "any", Paths: []string{"/etc/shadow"}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if some := got.Scopes[0]; some.PathArgument != 1 || !slices.Equal(some.Paths, []string{"/etc/passwd", "/etc/shadow"}) {
		t.Errorf("%+v", some)
	}
	if any := got.Scopes[1]; any.Paths != nil {
		t.Errorf("%+v", any)
	}
}
