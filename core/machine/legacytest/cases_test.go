package legacytest

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var (
	flagCases = flag.Int("cases", 8000, "how many generated cases")
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

// runCases runs cases in an emulator. One that takes the emulator down (QEMU checks no limits, so that stray code may run) is
// marked as lost, and the run goes on behind it.
func runCases(t *testing.T, e Emulator, cases []Case, dump bool) []Result {
	t.Helper()
	if m := e.Missing(); m != "" {
		t.Logf("%s is not compared: %s is missing", e.Name(), m)
		return nil
	}
	const slice, maxLost = 5000, 30
	begin, lost, tried := time.Now(), 0, -1
	timeout := 15 * time.Second
	if e == (Bochs{}) {
		timeout = time.Minute
	}
	var results []Result
	for len(results) < len(cases) {
		part := cases[len(results):][:min(slice, len(cases)-len(results))]
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		out, err := e.Run(ctx, buildImage(part, template(*flagSeed), dump))
		cancel()
		r, bad := parseResults(out, len(part), dump)
		results = append(results, r...)
		if bad == nil && err == nil {
			continue
		}
		if len(r) == len(part) {
			t.Errorf("%s: %v", e.Name(), err)
			break
		}
		if e != (QEMU{}) && tried != len(results) { // once more: the host may have been busy
			tried = len(results)
			continue
		}
		t.Logf("%s: lost case %d: %v: %v", e.Name(), len(results), cases[len(results)].String(), err)
		results = append(results, Result{Vector: vectorLost})
		if lost++; lost > maxLost || e == (Emu{}) {
			t.Errorf("%s: %v; %v", e.Name(), err, bad)
			break
		}
	}
	t.Logf("%s: %d cases in %v", e.Name(), len(results), time.Since(begin).Round(time.Millisecond))
	return results
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
	var results [3][]Result
	var wg sync.WaitGroup
	for i, e := range []Emulator{Emu{}, QEMU{}, Bochs{}} {
		wg.Go(func() { results[i] = runCases(t, e, cases, dump) })
	}
	wg.Wait()
	again(t, cases, about, &results)
	compareAll(t, cases, about, results)
}

// again runs cases that differ in one reference only a second time, alone: QEMU, which checks no limits, may have written to where a
// later case reads.
func again(t *testing.T, cases []Case, about []About, results *[3][]Result) {
	t.Helper()
	const most = 20
	n := 0
	for i := range min(len(results[0]), len(results[1]), len(results[2])) {
		q, b := differences(&about[i], &results[0][i], &results[1][i]), differences(&about[i], &results[0][i], &results[2][i])
		if q == "" || b != "" || allowed(&cases[i], &about[i], &results[0][i], q, b, true) != "" {
			continue
		}
		if n++; n > most {
			t.Errorf("QEMU: more than %d cases differ", most)
			return
		}
		for k, e := range []Emulator{Emu{}, QEMU{}, Bochs{}} {
			if r := runCases(t, e, cases[i:][:1], false); len(r) == 1 {
				results[k][i] = r[0]
			}
		}
	}
}
