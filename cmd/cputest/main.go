// Command cputest compares the emulator's CPU with the host's over generated programs; see package cpu/oracle. It ends
// with a non-zero exit code if there is a difference.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/hybridbridge/emu/cpu/oracle"
)

func main() {
	cases := flag.Uint64("cases", 100000, "")
	seed := flag.Uint64("seed", 1, "")
	first := flag.Uint64("first", 0, "")
	op := flag.String("op", "", "")
	seq := flag.Int("seq", 1, "")
	each := flag.Int("each", 1, "")
	limit := flag.Int("max", 20, "")
	flag.Parse()
	p := oracle.Campaign{Seed: *seed, First: *first, Cases: *cases, Workers: 1}
	if *op != "" {
		p.Filter = regexp.MustCompile(*op)
	}
	mini, err := oracle.NewMinimizer()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	seen := map[string]int{}
	n := 0
	p.Failed = func(f *oracle.Failure) bool {
		key := ""
		for _, in := range f.Case.Insts {
			key += in.Op.String() + " "
		}
		if len(f.Case.Insts) > *seq {
			return true
		}
		for _, d := range f.Diffs {
			if d.Field[0] == 'd' && d.Field[1] == 'a' {
				d.Field = "data"
			}
			if d.Field[0] == 'x' {
				d.Field = "xmm"
			}
			key += d.Field + " "
		}
		seen[key]++
		if seen[key] > *each || n >= *limit {
			return true
		}
		n++
		fmt.Printf("%d:%d ", *seed, f.N)
		line, diffs := mini.Minimize(f, f.Template)
		if line == "" {
			fmt.Println("not again:", f.Case.Disassembly(), f.Diffs)
			return true
		}
		fmt.Println(line)
		for _, d := range diffs {
			fmt.Println("     ", d)
		}
		return true
	}
	t0 := time.Now()
	r, err := p.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Println(r.Cases, "cases", r.Faulted, "faulted", r.Unstable, "unstable", r.Failures, "failures", time.Since(t0)/time.Duration(max(1, r.Cases)), "per case")
	if r.Failures > 0 {
		for k, v := range seen {
			fmt.Println(v, k)
		}
		os.Exit(1)
	}
}
