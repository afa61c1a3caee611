package legacytest

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	flagCases = flag.Int("cases", 20000, "how many generated cases")
	flagSeed  = flag.Uint64("seed", 1, "seed of the cases")
	flagOne   = flag.Int("case", -1, "run only this case of the seed, and show memory")
	flagShow  = flag.Int("show", 20, "how many differences to print")
)

func template(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, numWindows*windowSize)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func runCases(t *testing.T, e Emulator, image []byte, cases []Case, dump bool) []Result {
	n := len(cases)
	t.Helper()
	if m := e.Missing(); m != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	begin := time.Now()
	out, err := e.Run(ctx, image)
	r, bad := parseResults(out, n, dump)
	t.Logf("%s: %d cases in %v", e.Name(), len(r), time.Since(begin).Round(time.Millisecond))
	if err != nil || bad != nil {
		t.Errorf("%s: %v; %v", e.Name(), err, bad)
		if len(r) < n {
			t.Logf("in case %d: %v", len(r), cases[len(r)].String())
		}
	}
	return r
}

func TestCases(t *testing.T) {
	n := *flagCases
	if testing.Short() {
		n /= 4
	}
	cases, about := Generate(*flagSeed, n)
	dump := *flagOne >= 0
	if dump {
		cases, about = cases[*flagOne:][:1], about[*flagOne:][:1]
	}
	image := buildImage(cases, template(*flagSeed), dump)
	for _, a := range []Emulator{Emu{}, QEMU{}, Bochs{}} {
		if m := a.Missing(); m != "" {
			t.Logf("%s is not compared: %s is missing", a.Name(), m)
		}
	}
	compareAll(t, cases, about, [3][]Result{
		runCases(t, Emu{}, image, cases, dump),
		runCases(t, QEMU{}, image, cases, dump),
		runCases(t, Bochs{}, image, cases, dump),
	})
}
