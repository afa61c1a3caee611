package tables

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/policy"
)

// TestPolicy: what is said for every kind of kernel makes sense; substitutes are for scopes that there are.
func TestPolicy(t *testing.T) {
	for _, k := range []policy.Kernel{
		{Release: "6.1.0-56-cloud-amd64", Bits: 64}, {Release: "6.12.95+deb12-cloud-amd64", Bits: 64}, {Release: "6.1.0-50-686-pae", Bits: 32},
	} {
		p := Policy(k)
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", k.Release, err)
		}
		for _, s := range p.Substitutes {
			for _, name := range s.Scopes {
				if !slices.ContainsFunc(p.Scopes, func(s policy.Scope) bool { return s.Name == name }) {
					t.Errorf("%s: there is no scope %s", k.Release, name)
				}
			}
		}
		word := uint64(k.Bits / 8)
		if want := fmt.Sprintf("tk_core+%d:", word); len(p.Clocks) != 1 || !strings.HasPrefix(string(p.Clocks[0]), want) {
			t.Errorf("%s: clocks %q, want %s...", k.Release, p.Clocks, want)
		}
		if i := slices.IndexFunc(p.Locks, func(l policy.Lock) bool { return l.Function == "mutex_trylock" }); i < 0 || p.Locks[i].Size != word {
			t.Errorf("%s: a mutex has no owner of %d bytes", k.Release, word)
		}
	}
}

// TestPaths: which paths are the snapshot's, by the scope that a call with the path belongs to.
func TestPaths(t *testing.T) {
	for path, want := range map[string]string{
		"/": "statat", "/mnt/loop": "statat", "/sys/fs/cgroup": "statat", "/dev/pts/0": "statat", "/usr/lib/x.so": "statat",
		"/usr/bin/ps": "path", "/proc/1/exe": "path", "/etc/passwd": "path", "stat": "path", "": "path", "/proc/" + policy.OwnPID + "/stat": "ownat",
	} {
		p := Policy(policy.Kernel{Release: "6.1.0-56-cloud-amd64", Bits: 64})
		i := slices.IndexFunc(p.Scopes, func(s policy.Scope) bool {
			return slices.Contains(s.Syscalls, "newfstatat") && s.PathArgument == 1 && s.ForPath(path) || s.Name == "path"
		})
		if got := p.Scopes[i].Name; got != want {
			t.Errorf("what is at %q is asked in scope %s, not %s", path, got, want)
		}
	}
}
