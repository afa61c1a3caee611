package oracle

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/hybridbridge/emu/cpu/isa"
)

// Campaign runs generated cases on both processors and compares.
type Campaign struct {
	Seed    uint64
	First   uint64 // number of the first case
	Cases   uint64
	Workers int
	// Strict compares the flags that the manual leaves undefined too.
	Strict bool
	// Filter, if not nil, selects the operations by name (isa.Op.String).
	Filter *regexp.Regexp
	// Failed is told of each difference that no allowance explains. Calls do not overlap. If it returns false the
	// campaign ends.
	Failed func(*Failure) bool
	// Progress, if not nil, is told now and then how many cases are done.
	Progress func(done uint64)
}

// Failure is a case in which the emulator differs from the host.
type Failure struct {
	N        uint64 // number of the case
	Case     *Case
	Template *Template
	Host     Outcome
	Emu      Outcome
	Diffs    []Diff
}

// Result is what a campaign did.
type Result struct {
	Cases    uint64
	Faulted  uint64
	Failures uint64
	Unstable uint64            // cases that differed once, and not when they were run again
	Allowed  map[string]uint64 // by allowance
	Coverage *Coverage
}

// Run executes the campaign.
func (p *Campaign) Run() (*Result, error) {
	m := newMenu(p.Filter)
	if len(m.all) == 0 {
		return nil, errors.New("oracle: no instruction matches")
	}
	workers := max(1, p.Workers)
	var (
		group   sync.WaitGroup
		lock    sync.Mutex
		next    atomic.Uint64
		done    atomic.Uint64
		stop    atomic.Bool
		total   = &Result{Allowed: map[string]uint64{}, Coverage: newCoverage()}
		firstEr error
	)
	batches := (p.First+p.Cases+batchSize-1)/batchSize - p.First/batchSize
	for range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			w, err := newWorker(p.Seed, m)
			if err == nil {
				defer w.close()
				w.strict = p.Strict
				w.failed = func(f *Failure) {
					lock.Lock()
					defer lock.Unlock()
					total.Failures++
					if p.Failed != nil && !stop.Load() && !p.Failed(f) {
						stop.Store(true)
					}
				}
				for !stop.Load() {
					b := next.Add(1) - 1
					if b >= batches {
						break
					}
					from := (p.First/batchSize + b) * batchSize
					to := min(from+batchSize, p.First+p.Cases)
					from = max(from, p.First)
					if err = w.batch(from, to); err != nil {
						break
					}
					if p.Progress != nil {
						p.Progress(done.Add(to - from))
					}
				}
			}
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				stop.Store(true)
				if firstEr == nil {
					firstEr = err
				}
			}
			if w != nil {
				total.add(&w.result)
			}
		}()
	}
	group.Wait()
	return total, firstEr
}

func (r *Result) add(o *Result) {
	r.Cases += o.Cases
	r.Faulted += o.Faulted
	r.Unstable += o.Unstable
	for k, v := range o.Allowed {
		r.Allowed[k] += v
	}
	r.Coverage.add(o.Coverage)
}

// worker runs batches: it owns a child and a machine.
type worker struct {
	gen     *generator
	tmpl    *Template
	native  *Native
	machine *Machine
	cases   [batchSize]Case
	host    Outcome
	emu     Outcome
	strict  bool
	failed  func(*Failure)
	result  Result
}

func newWorker(seed uint64, m *menu) (*worker, error) {
	w := &worker{gen: newGenerator(seed, m), tmpl: NewTemplate(seed), result: Result{Allowed: map[string]uint64{}, Coverage: newCoverage()}}
	var err error
	if w.native, err = StartNative(w.tmpl); err != nil {
		return nil, err
	}
	w.machine = NewMachine(w.tmpl, 0)
	return w, nil
}

func (w *worker) close() { w.native.Close() }

// batch runs the cases from number from to number to-1, which share a batch.
func (w *worker) batch(from, to uint64) error {
	first, end := int(from%batchSize), int(from%batchSize)+int(to-from)
	for i := first; i < end; i++ {
		w.gen.Make(from+uint64(i-first), &w.cases[i])
		w.native.Load(i, &w.cases[i])
	}
	copy(w.machine.code, w.native.code()) // cases may read each other's code
	for at := first; at < end; {
		stopped, err := w.native.Run(at, end)
		if err != nil && !errors.Is(err, ErrChild) {
			return err
		}
		for i := at; i < stopped; i++ {
			if err := w.judge(from+uint64(i-first), i); err != nil {
				return err
			}
		}
		at = stopped
		if err == nil {
			continue
		}
		// The case at stopped killed the child, which no case should do.
		c := &w.cases[stopped]
		f := &Failure{N: from + uint64(stopped-first), Case: c, Template: w.tmpl, Diffs: []Diff{{"end", err.Error(), "?"}}}
		f.Host.Vector = Hang
		w.machine.Run(c, &f.Emu)
		w.failed(f)
		w.native.Close()
		if w.native, err = StartNative(w.tmpl); err != nil {
			return fmt.Errorf("restarting after case %d: %w", f.N, err)
		}
		at++
		for i := at; i < end; i++ {
			w.native.Load(i, &w.cases[i])
		}
	}
	return nil
}

// judge compares the host's outcome of case i of the batch with the emulator's.
func (w *worker) judge(n uint64, i int) error {
	c := &w.cases[i]
	host, emu := &w.host, &w.emu
	w.native.Outcome(i, host)
	w.machine.Run(c, emu)
	w.result.Cases++
	if host.Vector != NoFault {
		w.result.Faulted++
	}
	w.result.Coverage.count(c, host)
	diffs := Compare(c, host, emu, c.ignored(host, w.strict))
	if len(diffs) == 0 {
		return nil
	}
	if diffs = allow(c, host, emu, diffs, w.result.Allowed); len(diffs) == 0 {
		return nil
	}
	// Once more: an interruption at the wrong moment can cost a case some state (seen: a hypervisor that loses NT when
	// it handles a page fault of its own).
	for range 3 {
		if _, err := w.native.Run(i, i+1); err != nil {
			return err
		}
		w.native.Outcome(i, host)
		if diffs = allow(c, host, emu, Compare(c, host, emu, c.ignored(host, w.strict)), w.result.Allowed); len(diffs) == 0 {
			w.result.Unstable++
			return nil
		}
	}
	w.failed(&Failure{N: n, Case: c, Template: w.tmpl, Host: *host, Emu: *emu, Diffs: diffs})
	return nil
}

// Coverage counts by row of the instruction table.
type Coverage struct {
	// Done counts instructions that the host completed, Faulted those at which it raised an exception.
	Done, Faulted map[*isa.Row]uint64
}

func newCoverage() *Coverage {
	return &Coverage{Done: map[*isa.Row]uint64{}, Faulted: map[*isa.Row]uint64{}}
}

func (v *Coverage) add(o *Coverage) {
	for r, n := range o.Done {
		v.Done[r] += n
	}
	for r, n := range o.Faulted {
		v.Faulted[r] += n
	}
}

// count adds a case. Instructions behind a branch are not counted: whether they were executed is not known.
func (v *Coverage) count(c *Case, host *Outcome) {
	for i := range c.Insts {
		in := &c.Insts[i]
		if host.Vector != NoFault && in.Addr == host.RIP {
			v.Faulted[in.Row]++
			return
		}
		if !in.Arm {
			v.Done[in.Row]++
		}
	}
}

// Replayed is one case of a campaign.
type Replayed struct {
	Failure
	// Line is the case as text, Failed the differences that no allowance explains; Diffs has all.
	Line   string
	Failed []Diff
}

// Replay runs case n of a seed again, with the expression that the campaign had.
func Replay(seed, n uint64, filter *regexp.Regexp, strict bool) (*Replayed, error) {
	m := newMenu(filter)
	if len(m.all) == 0 {
		return nil, errors.New("oracle: no instruction matches")
	}
	w, err := newWorker(seed, m)
	if err != nil {
		return nil, err
	}
	defer w.close()
	r := &Replayed{Failure: Failure{N: n, Case: new(Case), Template: w.tmpl}}
	w.gen.Make(n, r.Case)
	i := int(n % batchSize)
	w.native.Load(i, r.Case)
	if _, err := w.native.Run(i, i+1); err != nil {
		return nil, err
	}
	w.native.Outcome(i, &r.Host)
	w.machine.Run(r.Case, &r.Emu)
	r.Diffs = Compare(r.Case, &r.Host, &r.Emu, r.Case.ignored(&r.Host, strict))
	r.Failed = allow(r.Case, &r.Host, &r.Emu, r.Diffs, nil)
	r.Host.Data = bytes.Clone(r.Host.Data)
	r.Line = Line(r.Case, w.tmpl, &r.Host)
	return r, nil
}
