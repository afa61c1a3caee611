// Command emubench measures emu. In one run it boots Debian's cloud kernel and runs the workloads of testdata/bench in
// emu and in QEMU's software emulation, taking turns, and prints the ratios; then the same in emu with taint on.
//
// Times are processor time of the emulator's process, so that other load on the host matters less; -json has wall-clock
// times too. Of several runs the fastest counts, for each workload by itself.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"text/tabwriter"
)

// Targets.
const (
	maxBoot    = 12.0 // times QEMU
	maxMean    = 15.0 // times QEMU
	maxIdle    = 1.3  // taint on and nothing tainted, times taint off
	maxTainted = 3.0  // everything tainted, times taint off
	maxExtra   = 256  // MiB beside guest RAM, with taint off
)

type options struct {
	guests  string
	kernel  string
	json    bool
	runs    int
	quick   bool
	check   bool
	noQEMU  bool
	noTaint bool
	child   string
	profile string
}

func main() {
	var o options
	flag.StringVar(&o.guests, "guests", os.Getenv("GUESTS"), "the guests that `make guests` made")
	flag.StringVar(&o.kernel, "kernel", "cloud-6.1", "which kernel of the guests")
	flag.BoolVar(&o.json, "json", false, "print all that was measured as JSON")
	flag.IntVar(&o.runs, "runs", 1, "how often to run each; the fastest counts")
	flag.BoolVar(&o.quick, "quick", false, "three workloads only")
	flag.BoolVar(&o.check, "check", false, "fail if a target is missed")
	flag.BoolVar(&o.noQEMU, "no-qemu", false, "leave QEMU out")
	flag.BoolVar(&o.noTaint, "no-taint", false, "leave the taint modes out")
	flag.StringVar(&o.child, "child", "", "run one mode in this process and print JSON (emubench calls itself so)")
	flag.StringVar(&o.profile, "cpuprofile", "", "with -child: write a profile from the start of the workloads on")
	flag.Parse()
	err := func() error {
		if o.child != "" {
			return runChild(&o)
		}
		return runAll(&o)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "emubench:", err)
		os.Exit(1)
	}
}

// The modes, in the order in which they take turns.
const (
	modeQEMU    = "qemu"
	modeOff     = "off"     // emu without taint
	modeIdle    = "idle"    // taint on from the start, nothing tainted
	modeTainted = "tainted" // all memory and registers tainted when init starts
)

// commandLine is the guest's.
func (o *options) commandLine() string {
	// The two CPU models differ in the mitigations that they make a kernel use, so it uses none.
	s := "console=ttyS0 panic=-1 nokaslr mitigations=off emu.run=bench"
	if o.quick {
		s += " emu.bench=integer,syscall,procfs"
	}
	return s
}

// bootName is the name under which the time until init starts is kept.
const bootName = "boot"

// report is everything that was measured.
type report struct {
	Runs     map[string][]measured // by mode
	Boot     float64               // emu / QEMU
	Mean     float64               // geometric mean of the workloads, emu / QEMU
	Idle     float64               // taint on with nothing tainted / taint off, over boot and workloads
	Tainted  float64               // everything tainted / taint off, over the workloads
	Mismatch []string              // what should be the same and is not
}

func runAll(o *options) error {
	modes := []string{modeQEMU, modeOff, modeIdle, modeTainted}
	if o.noTaint {
		modes = modes[:2]
	}
	if o.noQEMU {
		modes = modes[1:]
	}
	r := report{Runs: map[string][]measured{}}
	for i := range max(o.runs, 1) {
		for _, mode := range modes {
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", i+1, max(o.runs, 1), mode)
			run := runSelf
			if mode == modeQEMU {
				run = runQEMU
			}
			m, err := run(o, mode)
			if err != nil {
				return fmt.Errorf("%s: %w", mode, err)
			}
			r.Runs[mode] = append(r.Runs[mode], m)
		}
	}
	missed := r.evaluate()
	if o.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return err
		}
	} else {
		r.print()
	}
	for _, s := range r.Mismatch {
		fmt.Fprintln(os.Stderr, "emubench:", s)
	}
	if len(r.Mismatch) > 0 {
		return errors.New("taint changes what the guest does")
	}
	for _, s := range missed {
		fmt.Fprintln(os.Stderr, "missed:", s)
	}
	if o.check && len(missed) > 0 {
		return fmt.Errorf("%d targets missed", len(missed))
	}
	return nil
}

// names are the workloads in the order in which they ran.
func (r *report) names(mode string) []string {
	if len(r.Runs[mode]) == 0 {
		return nil
	}
	return r.Runs[mode][0].Order
}

// best is the fastest time of a workload in a mode.
func (r *report) best(mode, name string) float64 {
	v := math.Inf(1)
	for _, m := range r.Runs[mode] {
		v = min(v, m.CPU[name])
	}
	return v
}

// mean is the geometric mean of the ratios of two modes over the given workloads; NaN if one has not run.
func (r *report) mean(mode, base string, names []string) float64 {
	if len(r.Runs[mode]) == 0 || len(r.Runs[base]) == 0 || len(names) == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, n := range names {
		sum += math.Log(r.best(mode, n) / r.best(base, n))
	}
	return math.Exp(sum / float64(len(names)))
}

// evaluate computes the ratios and returns the targets that were missed.
func (r *report) evaluate() (missed []string) {
	all := r.names(modeOff)
	work := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == bootName })
	r.Boot = r.mean(modeOff, modeQEMU, []string{bootName})
	r.Mean = r.mean(modeOff, modeQEMU, work)
	r.Idle = r.mean(modeIdle, modeOff, all)
	r.Tainted = r.mean(modeTainted, modeOff, work)
	for _, t := range []struct {
		what  string
		value *float64
		limit float64
	}{
		{"boot, times QEMU", &r.Boot, maxBoot},
		{"workloads, times QEMU", &r.Mean, maxMean},
		{"taint on and nothing tainted, times taint off", &r.Idle, maxIdle},
		{"everything tainted, times taint off", &r.Tainted, maxTainted},
	} {
		switch {
		case math.IsNaN(*t.value):
			*t.value = 0 // not measured; JSON knows no NaN
		case *t.value > t.limit:
			missed = append(missed, fmt.Sprintf("%s: %.2f, want at most %.1f", t.what, *t.value, t.limit))
		}
	}
	var want *measured
	for _, mode := range []string{modeOff, modeIdle, modeTainted} {
		for i := range r.Runs[mode] {
			m := &r.Runs[mode][i]
			if want == nil {
				want = m
			}
			if m.Instructions != want.Instructions {
				r.Mismatch = append(r.Mismatch, fmt.Sprintf("mode %s: %d instructions, want %d", mode, m.Instructions, want.Instructions))
			}
			if m.Console != want.Console {
				r.Mismatch = append(r.Mismatch, "mode "+mode+": another console output")
			}
			if extra := int(m.RSS>>20) - memoryMiB; mode == modeOff && extra > maxExtra {
				missed = append(missed, fmt.Sprintf("memory: %d MiB beside guest RAM, want at most %d", extra, maxExtra))
			}
		}
	}
	return missed
}

func (r *report) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "workload\tQEMU s\temu s\tratio\ttaint idle s\tratio\ttainted s\tratio\t\n")
	cell := func(mode, base, name string) string {
		if len(r.Runs[mode]) == 0 {
			return "-\t-\t"
		}
		s := fmt.Sprintf("%.2f\t", r.best(mode, name))
		if len(r.Runs[base]) == 0 || mode == modeTainted && name == bootName {
			return s + "\t"
		}
		return s + fmt.Sprintf("%.2f\t", r.best(mode, name)/r.best(base, name))
	}
	ratio := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", v)
	}
	for _, name := range r.names(modeOff) {
		qemu := "-\t"
		if len(r.Runs[modeQEMU]) > 0 {
			qemu = fmt.Sprintf("%.2f\t", r.best(modeQEMU, name))
		}
		fmt.Fprintf(w, "%s\t%s%s%s%s\n", name, qemu, cell(modeOff, modeQEMU, name), cell(modeIdle, modeOff, name), cell(modeTainted, modeOff, name))
	}
	fmt.Fprintf(w, "geometric mean\t\t\t%s\t\t%s\t\t%s\t\n", ratio(r.Mean), ratio(r.Idle), ratio(r.Tainted))
	fmt.Fprintf(w, "want at most\t\t\t%.0f\t\t%.1f\t\t%.1f\t\n", maxMean, maxIdle, maxTainted)
	w.Flush()
	fmt.Printf("boot: %s times QEMU, want at most %.0f. The mean of taint idle has the boot in it, the others have not.\n", ratio(r.Boot), maxBoot)
	for _, mode := range []string{modeOff, modeIdle, modeTainted} {
		for _, m := range r.Runs[mode][:min(1, len(r.Runs[mode]))] {
			fmt.Printf("emu, taint %s: %d instructions, %.0f MIPS, at most %d MiB for a guest of %d MiB\n", mode, m.Instructions,
				float64(m.Instructions)/1e6/m.Total, m.RSS>>20, memoryMiB)
		}
	}
}
