package crossview

import (
	"strings"
	"testing"
)

func TestDifference(t *testing.T) {
	is := Printed{Stdout: []byte("a\nkernel.random.uuid = 1\nb"), Stderr: []byte("warning\n"), Status: 1}
	for _, c := range []struct {
		change func(*Printed)
		want   string
	}{
		{func(*Printed) {}, ""},
		{func(p *Printed) { p.Stdout = []byte("a\nkernel.random.uuid = 2\nb") }, ""},
		{func(p *Printed) { p.Stdout = []byte("a\nkernel.random.uuid = 1\n") }, `stdout line 3: "b" instead of ""`},
		{func(p *Printed) { p.Stdout = []byte("a\n") }, `stdout line 2: "kernel.random.uuid = *\n" instead of ""`},
		{func(p *Printed) { p.Stdout = []byte("a\nkernel.random.uuid = 1\nb\nc") }, `stdout line 3: "b" instead of "b\n"`},
		{func(p *Printed) { p.Stderr = nil }, `stderr line 1: "warning\n" instead of ""`},
		{func(p *Printed) { p.Stderr = []byte("warning\n\n") }, `stderr line 2: "" instead of "\n"`},
		{func(p *Printed) { p.Status = 0 }, "exit status 1 instead of 0: warning"},
	} {
		other := is
		c.change(&other)
		if got := is.Difference(other); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestExecute keeps the streams apart, and the status.
func TestExecute(t *testing.T) {
	r := fakeSnapshot(t)
	p, err := r.Execute(t.Context(), Tool{Name: "broken", Command: "broken"})
	if err != nil || len(p.Stdout) != 0 || string(p.Stderr) != "no\n" || p.Status != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := r.Execute(t.Context(), Tool{Name: "hostname", Command: "hostname"}); err != nil || string(p.Stdout) != "untrusted-vm\n" || p.Status != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	r.Emu = "/nowhere"
	if _, err := r.Execute(t.Context(), Tool{Name: "hostname", Command: "hostname"}); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("no emu: %v", err)
	}
}
