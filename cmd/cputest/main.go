// Command cputest compares the emulated CPU with the host's over generated cases: see package oracle.
//
//	cputest -cases 20000000 -seed 1 -coverage
//	cputest -replay 1:4711
//	cputest -taint -cases 1000000
//
// It exits with 1 if a difference was found that no allowance explains, and with 2 if it could not run.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/oracle"
)

type options struct {
	cases    uint64
	first    uint64
	seed     uint64
	workers  int
	filter   *regexp.Regexp
	coverage bool
	print    int
	each     int
	record   string
	quiet    bool
	strict   bool
}

func main() {
	failed, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cputest:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) (failed bool, err error) {
	var o options
	f := flag.NewFlagSet("cputest", flag.ContinueOnError)
	f.Uint64Var(&o.cases, "cases", 1_000_000, "number of cases")
	f.Uint64Var(&o.first, "first", 0, "number of the first case")
	f.Uint64Var(&o.seed, "seed", 1, "seed; a case is named by seed and number")
	f.IntVar(&o.workers, "workers", 1, "child processes, 0 for one a processor")
	f.BoolVar(&o.coverage, "coverage", false, "print a table of cases by instruction row")
	f.IntVar(&o.print, "print", 20, "failures to print")
	f.IntVar(&o.each, "each", 2, "failures to print of one instruction and field")
	f.StringVar(&o.record, "record", "", "append the lines of printed failures to this `file`")
	f.BoolVar(&o.quiet, "quiet", false, "print no progress")
	f.BoolVar(&o.strict, "strict", oracle.HostIsModel(), "compare flags that the manual leaves undefined too; the emulator has those of AMD's processors")
	op := f.String("op", "", "only operations whose name matches this `regexp`")
	replay := f.String("replay", "", "run one case, `SEED:N`, and show it")
	taint := f.Bool("taint", false, "check the taint property instead")
	allowances := f.Bool("allowances", false, "print the differences that are allowed, with reasons")
	if err := f.Parse(args); err != nil {
		return false, err
	}
	if o.workers == 0 {
		o.workers = runtime.NumCPU()
	}
	if *op != "" {
		if o.filter, err = regexp.Compile(*op); err != nil {
			return false, err
		}
	}
	switch {
	case *allowances:
		for name, reason := range oracle.Allowances {
			fmt.Fprintf(out, "%s\n    %s\n", name, reason)
		}
		return false, nil
	case *replay != "":
		return runReplay(*replay, &o, out)
	case *taint:
		return runTaint(&o, out)
	}
	return runCampaign(&o, out)
}

func runCampaign(o *options, out io.Writer) (failed bool, err error) {
	mini, err := oracle.NewMinimizer(o.strict)
	if err != nil {
		return false, err
	}
	defer mini.Close()
	p := oracle.Campaign{Seed: o.seed, First: o.first, Cases: o.cases, Workers: o.workers, Filter: o.filter, Strict: o.strict}
	start := time.Now()
	if !o.quiet {
		last := start
		p.Progress = func(done uint64) {
			if now := time.Now(); now.Sub(last) > 30*time.Second {
				last = now
				fmt.Fprintf(out, "%d cases, %.0f a second\n", done, float64(done)/now.Sub(start).Seconds())
			}
		}
	}
	seen := map[string]int{}
	printed := 0
	var recordErr error
	p.Failed = func(f *oracle.Failure) bool {
		key := failureKind(f)
		seen[key]++
		if seen[key] > o.each || printed >= o.print {
			return true
		}
		printed++
		line := show(out, mini, f, o)
		if o.record != "" && line != "" && recordErr == nil {
			recordErr = appendLine(o.record, line)
		}
		return recordErr == nil
	}
	r, err := p.Run()
	if err == nil {
		err = recordErr
	}
	if err != nil {
		return false, err
	}
	if o.coverage {
		printCoverage(out, r.Coverage, o.filter)
	}
	spent := time.Since(start)
	fmt.Fprintf(out, "%d cases in %v (%v a case), %d raised an exception, %d differed once only, %d failed\n", r.Cases,
		spent.Round(time.Millisecond), spent/time.Duration(max(1, r.Cases)), r.Faulted, r.Unstable, r.Failures)
	for _, name := range sortedKeys(r.Allowed) {
		fmt.Fprintf(out, "  allowed: %8d %s\n", r.Allowed[name], name)
	}
	printKinds(out, seen)
	return r.Failures > 0, nil
}

// failureKind groups failures: the instruction in question, as far as it is known, and the first field that differs.
func failureKind(f *oracle.Failure) string {
	op := "?"
	if n := len(f.Case.Insts); n > 0 {
		op = f.Case.Insts[n-1].Op.String()
		for i := range f.Case.Insts {
			if in := &f.Case.Insts[i]; in.Addr == f.Host.RIP || in.Addr == f.Emu.RIP {
				op = in.Op.String()
			}
		}
	}
	field := strings.TrimRight(f.Diffs[0].Field, "0123456789")
	if strings.HasPrefix(field, "data") {
		field = "data"
	}
	return op + " " + field
}

// show prints a failure, made small, and returns its line.
func show(out io.Writer, mini *oracle.Minimizer, f *oracle.Failure, o *options) string {
	filter := ""
	if o.filter != nil {
		filter = fmt.Sprintf(" -op '%s'", o.filter)
	}
	fmt.Fprintf(out, "FAIL -replay %d:%d%s\n", o.seed, f.N, filter)
	line, diffs := mini.Minimize(f, f.Template)
	if line == "" {
		// It needs its surroundings, or does not fail every time.
		fmt.Fprintf(out, "  not alone: %s\n", f.Case.Disassembly())
		diffs = f.Diffs
	} else {
		fmt.Fprintf(out, "  %s\n", line)
	}
	for _, d := range diffs {
		fmt.Fprintf(out, "      %v\n", d)
	}
	return line
}

func appendLine(name, line string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// runReplay shows one case of a campaign, whether it fails or not.
func runReplay(name string, o *options, out io.Writer) (failed bool, err error) {
	seed, number, ok := strings.Cut(name, ":")
	n, err2 := strconv.ParseUint(number, 10, 64)
	if o.seed, err = strconv.ParseUint(seed, 10, 64); err != nil || err2 != nil || !ok {
		return false, fmt.Errorf("-replay %s: want SEED:NUMBER", name)
	}
	r, err := oracle.Replay(o.seed, n, o.filter, o.strict)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(out, "%s\n", r.Line)
	for _, d := range r.Diffs {
		fmt.Fprintf(out, "    %v\n", d)
	}
	if len(r.Failed) == 0 {
		return false, nil
	}
	mini, err := oracle.NewMinimizer(o.strict)
	if err != nil {
		return true, err
	}
	defer mini.Close()
	show(out, mini, &r.Failure, o)
	return true, nil
}

func runTaint(o *options, out io.Writer) (failed bool, err error) {
	seen := map[string]int{}
	printed := 0
	p := oracle.TaintCampaign{Seed: o.seed, First: o.first, Cases: o.cases, Filter: o.filter}
	p.Failed = func(f *oracle.TaintFailure) bool {
		key := "sequence"
		if len(f.Case.Insts) == 1 {
			key = f.Case.Insts[0].Op.String()
		}
		seen[key]++
		if seen[key] <= o.each && printed < o.print {
			printed++
			fmt.Fprintf(out, "FAIL %d:%d %v\n", o.seed, f.N, f)
		}
		return true
	}
	start := time.Now()
	r, err := p.Run()
	if err != nil {
		return false, err
	}
	if o.coverage {
		printCoverage(out, r.Coverage, o.filter)
	}
	fmt.Fprintf(out, "%d cases in %v, %d compared, %d failed\n", r.Cases, time.Since(start).Round(time.Millisecond), r.Compared, r.Failures)
	printKinds(out, seen)
	return r.Failures > 0, nil
}

func printKinds(out io.Writer, seen map[string]int) {
	keys := sortedKeys(seen)
	slices.SortStableFunc(keys, func(a, b string) int { return seen[b] - seen[a] })
	for i, k := range keys {
		if i == 40 {
			fmt.Fprintf(out, "  and %d more kinds\n", len(keys)-i)
			break
		}
		fmt.Fprintf(out, "  failed:  %8d %s\n", seen[k], k)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// printCoverage prints how often each row was executed to its end and how often it raised an exception, and then the
// rows that never were executed, with the reason if there is one.
func printCoverage(out io.Writer, v *oracle.Coverage, filter *regexp.Regexp) {
	fmt.Fprintf(out, "%10s %10s  row\n", "completed", "faulted")
	type gap struct{ name, reason string }
	var gaps []gap
	rows := 0
	for r := range isa.Rows {
		if filter != nil && !filter.MatchString(r.Op.String()) {
			continue
		}
		name := fmt.Sprintf("%-18s %s %s", r.Enc, r.Op, r.Args)
		rows++
		if v.Done[r] == 0 {
			gaps = append(gaps, gap{name, reason(r, v)})
			continue
		}
		fmt.Fprintf(out, "%10d %10d  %s\n", v.Done[r], v.Faulted[r], name)
	}
	fmt.Fprintf(out, "%d of %d rows were completed; the others:\n", rows-len(gaps), rows)
	for _, g := range gaps {
		fmt.Fprintf(out, "  %-50s %s\n", g.name, g.reason)
	}
}

// reason says why a row was never completed.
func reason(r *isa.Row, v *oracle.Coverage) string {
	if why := oracle.Excluded(r); why != "" {
		return why
	}
	if n := v.Faulted[r]; n > 0 {
		return fmt.Sprintf("always faults in ring 3: %d times", n)
	}
	return "UNCOVERED"
}
