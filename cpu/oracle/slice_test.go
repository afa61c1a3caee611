package oracle

import (
	"flag"
	"testing"
)

var (
	cases = flag.Uint64("cases", 200_000, "how many cases a test compares")
	seed  = flag.Uint64("seed", 1, "where the cases come from")
)

// needHost skips a test where no child can be traced, or the host's processor is not the one that allow.go knows.
func needHost(t *testing.T) {
	t.Helper()
	w, err := newWorker(1, newMenu(nil))
	if err != nil {
		t.Skipf("the host's CPU cannot be asked: %v (ptrace is needed)", err)
	}
	w.close()
}

// TestSliceAgainstHost compares a seeded slice of the cases; make test-cpu compares millions.
func TestSliceAgainstHost(t *testing.T) {
	needHost(t)
	p := Campaign{Seed: *seed, Cases: *cases, Workers: 2, Failed: func(f *Failure) bool {
		t.Errorf("%d:%d %s: %v", *seed, f.N, f.Case.Disassembly(), f.Diffs)
		return false
	}}
	r, err := p.Run()
	if err != nil {
		t.Fatal(err)
	}
	if r.Cases != *cases || len(r.Coverage.Done) < 700 {
		t.Errorf("%d cases of %d rows", r.Cases, len(r.Coverage.Done))
	}
}

// TestTaintNeverMisses changes tainted bytes and looks for changes in bytes that the taint engine calls clean.
func TestTaintNeverMisses(t *testing.T) {
	needHost(t)
	p := TaintCampaign{Seed: *seed, Cases: *cases / 4, Failed: func(f *TaintFailure) bool {
		t.Errorf("%d:%d %s", *seed, f.N, f.Case.Disassembly())
		return false
	}}
	r, err := p.Run()
	if err != nil {
		t.Fatal(err)
	}
	if r.Cases != *cases/4 {
		t.Errorf("%d cases", r.Cases)
	}
}
