package policy

import "testing"

func TestInterests(t *testing.T) {
	x := Interests{
		Redirectable:    {{}},
		NonRedirectable: {{Functions: []string{"seq_*", "m_show"}, Scopes: []string{"procfs"}}, {Scopes: []string{""}}},
	}
	for _, c := range []struct {
		category        Category
		scope, function string
		want            bool
	}{
		{Redirectable, "procfs", "vfs_read", true},
		{Neutral, "procfs", "seq_puts", false},
		{NonRedirectable, "procfs", "seq_puts", true},
		{NonRedirectable, "procfs", "m_show", true},
		{NonRedirectable, "procfs", "m_shown", false},
		{NonRedirectable, "uname", "seq_puts", false},
		{NonRedirectable, "", "vfs_read", true},
	} {
		if got := x.Want(c.category, c.scope, c.function); got != c.want {
			t.Errorf("%v in %q, %s: %v", c.category, c.scope, c.function, got)
		}
	}
	if !x.Any(Neutral, Redirectable) || x.Any(Neutral, Unknown) {
		t.Error("Any")
	}
	for f, good := range map[string]bool{"*": true, "seq_*": true, "a.b": true, "a b": false, "": false, "*x": false} {
		if err := (&Interest{Functions: []string{f}}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", f, err)
		}
	}
}
