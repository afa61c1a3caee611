package tables

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/policy"
)

// TestPolicy: what is said for every kind of kernel makes sense, and paths are looked up in the snapshot where that can work.
func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		kernel  policy.Kernel
		lookups bool
	}{
		{policy.Kernel{Release: "6.1.0-56-cloud-amd64", Bits: 64}, true},
		{policy.Kernel{Release: "6.10.1", Bits: 64}, true},
		{policy.Kernel{Release: "6.12.95+deb12-cloud-amd64", Bits: 64}, false},
		{policy.Kernel{Release: "7.0", Bits: 64}, false},
		{policy.Kernel{Release: "6.1.0-50-686-pae", Bits: 32}, true},
		{policy.Kernel{Release: "unknown", Bits: 64}, true},
	} {
		p := Policy(c.kernel)
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", c.kernel.Release, err)
		}
		for _, name := range lookupScopes {
			if got := slices.ContainsFunc(p.Scopes, func(s policy.Scope) bool { return s.Name == name }); got != c.lookups {
				t.Errorf("%s: scope %s is there: %v", c.kernel.Release, name, got)
			}
		}
		word := uint64(c.kernel.Bits / 8)
		if want := fmt.Sprintf("tk_core+%d:", word); len(p.Clocks) != 1 || !strings.HasPrefix(string(p.Clocks[0]), want) {
			t.Errorf("%s: clocks %q, want %s...", c.kernel.Release, p.Clocks, want)
		}
		if i := slices.IndexFunc(p.Locks, func(l policy.Lock) bool { return l.Function == "mutex_trylock" }); i < 0 || p.Locks[i].Size != word {
			t.Errorf("%s: a mutex has no owner of %d bytes", c.kernel.Release, word)
		}
	}
}
