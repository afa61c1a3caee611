//go:build boot

package inspecttest

import (
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/inspect"
	"github.com/hybridbridge/emu/core/metadata"
)

// input: a tool reads some of its standard input before FALLBACK begins and some after. Each run gets all of it, byte by byte, also what a
// pipe does not hold at once, and one that stops reading ends.
func input(t *testing.T, o inspect.Options) {
	random := rand.NewChaCha8([32]byte{})
	long := make([]byte, 150_001)
	_, _ = random.Read(long)
	rest := fmt.Sprintf("%x  -\nweb\n", md5.Sum(long[3:]))
	for _, c := range []struct {
		command, want string
		input         []byte
	}{
		{"cat; uname -n", "x\nweb\n", []byte("x\n")},
		{"dd bs=1 count=3 2>/dev/null >/dev/null; uname -n; md5sum; uname -n; cat", "web\n" + rest, long},
		{"dd bs=1 count=3 2>/dev/null >/dev/null; uname -n", "web\n", long},
		{"cat; uname -n", "web\n", nil},
	} {
		o.Input, o.MetaData = c.input, &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
		for _, mode := range []inspect.FastMode{inspect.FastEmulated, inspect.FastOff} {
			o.Fast = mode
			x, res, err := run(o, c.command)
			if err != nil || x.stdout.String() != c.want {
				t.Errorf("%q: %s with %d bytes prints %q: %v", mode, c.command, len(c.input), x.stdout.String(), err)
			}
			if f := res.Stats.Fast; f != nil && f.Trainings == 0 {
				t.Errorf("%s: no FALLBACK", c.command)
			}
		}
	}
	// Another input is another run, which SLOW-BRIDGE is asked about.
	o.Fast, o.MetaData = inspect.FastEmulated, &metadata.Store{Path: filepath.Join(t.TempDir(), "metadata.db")}
	const command = `read x; case $x in ("") ;; (*) uname -n;; esac`
	for n, in := range []string{"\n", "x\n"} {
		o.Input = []byte(in)
		x, res, err := run(o, command)
		if err != nil || x.stdout.String() != strings.Repeat("web\n", n) {
			t.Errorf("%q prints %q: %v", in, x.stdout.String(), err)
		}
		if f := res.Stats.Fast; n == 1 && (f == nil || f.Trainings == 0) {
			t.Errorf("%q: SLOW-BRIDGE's run with another input is taken for this one's", in)
		}
	}
}
