package inspect

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hybridbridge/emu/core/fastbridge"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/session"
	"github.com/hybridbridge/emu/core/slowbridge"
)

// connectFast is connect for FAST-BRIDGE.
func (r *run) connectFast(ctx context.Context) error {
	r.stats.Times.Spawn = r.lap()
	r.stats.Times.Run = r.stats.Times.Spawn
	m := r.sess.Machine()
	began := m.VCPU().Instructions()
	r.keepWritten()
	var err error
	if r.known, err = r.load(); err != nil {
		return err
	}
	partial, err := r.partial()
	if err != nil {
		return err
	}
	ranges := r.snap.Ranges()
	if len(ranges) == 0 {
		return errors.New("the snapshot has no memory")
	}
	last := ranges[len(ranges)-1]
	views, flat, err := fastbridge.AddMemory(m, last.Base+last.Size)
	if err != nil {
		return err
	}
	r.memory = slowbridge.NewFlatMemory(r.snap, flat)
	r.fast, err = fastbridge.New(fastbridge.Config{
		Machine: m, Memory: fastbridge.NewMemory(r.memory, flat), Kernel: r.kernel, Known: r.known, Partial: partial,
		ExitSwitching: r.ExitSwitching,
		Resolve: func(g slowbridge.Guest) (*slowbridge.Bridge, error) {
			cfg := r.bridgeConfig(ctx)
			cfg.Guest = g
			return slowbridge.Resolve(cfg)
		},
		Train: func(id metadata.ScopeID, at metadata.Location, reason string) (*metadata.Set, bool, error) {
			return r.train(ctx, &goal{scope: id, at: at}, reason)
		},
	}, views)
	r.keepTypes()
	r.stats.Times.Connect = r.lap()
	r.sess.Extend(m.VCPU().Instructions() - began)
	return err
}

// training returns what is known of the command on the snapshot of an identity; nil if that is nothing.
func (r *run) training(id string) *metadata.Training {
	if r.known == nil {
		return nil
	}
	for _, t := range r.known.Trainings() {
		if t.Snapshot == id && slices.Equal(t.Command, r.command()) {
			return &t
		}
	}
	return nil
}

// partial reports whether the command was trained on the snapshot, but not to its end.
func (r *run) partial() (bool, error) {
	if r.known == nil || !slices.ContainsFunc(r.known.Trainings(), func(t metadata.Training) bool { return t.Partial && slices.Equal(t.Command, r.command()) }) {
		return false, nil
	}
	id, err := identity(r.Snapshot)
	t := r.training(id)
	return t != nil && t.Partial, err
}

// goal is what FALLBACK wants to know. SLOW-BRIDGE runs the tool to its end if that is not too far away: a tool that never ends is stopped some
// time after the goal was reached.
type goal struct {
	scope metadata.ScopeID
	at    metadata.Location
	// least is how many instructions it runs at least.
	least uint64
}

// goalStep is after how many instructions SLOW-BRIDGE looks whether the goal was reached. Tools such as ps take 10 to 30 million in all.
const goalStep = 100_000_000

// reached reports whether the instruction was seen.
func (g *goal) reached(b *slowbridge.Bridge) bool { return b != nil && b.Observed(g.scope, g.at) }

// more is session.Config.OnBudget for a run with a goal: as much again as it took to reach it, and some steps. Where a run before did
// not reach it, this one goes four times as far at most.
func (r *run) more() uint64 {
	g := r.goal
	switch {
	case r.until != 0:
	case g.reached(r.bridge):
		r.until = max(2*r.granted+3*goalStep, g.least)
	case g.least != 0 && r.granted >= 2*g.least: // it was not on the way last time either
		r.until = r.granted
	}
	limit := r.limit()
	if r.until != 0 {
		limit = min(limit, r.until)
	}
	n := min(goalStep, limit-min(r.granted, limit))
	r.granted += n
	return n
}

// train is FALLBACK: it runs the same command on the same snapshot in SLOW-BRIDGE, and returns all that is known then. SLOW-BRIDGE
// repeats, so that a run that came to its end, or that took all of its budget, has nothing more to say; one that was stopped before has, if it
// goes on for longer.
func (r *run) train(ctx context.Context, g *goal, reason string) (set *metadata.Set, last bool, err error) {
	id, err := identity(r.Snapshot)
	if err != nil {
		return nil, false, err
	}
	o := r.Options
	o.Began = time.Time{}
	o.Fast, o.Stdout, o.Stderr, o.Console, o.Trace = FastOff, io.Discard, io.Discard, nil, nil
	if o.Accel != nil {
		o.Accel, o.Budget = nil, 0 // it was in nanoseconds
	}
	limit := (&run{Options: o, policy: r.policy}).limit()
	if t := r.training(id); t != nil {
		if !t.Partial || t.Instructions >= limit {
			return nil, false, fastbridge.ErrTrained
		}
		g.least = 2 * t.Instructions
	}
	r.Progress("training in SLOW-BRIDGE, for " + reason)
	o.goal = g
	if o.MetaData == nil {
		if r.unkept == "" {
			if r.unkept, err = os.MkdirTemp("", "emu-train-"); err != nil {
				return nil, false, err
			}
		}
		o.MetaData = &metadata.Store{Path: filepath.Join(r.unkept, "metadata.db")}
	}
	since := r.sess.Machine().VCPU().Instructions()
	res, err := Run(ctx, o)
	r.stats.Asked += res.Stats.Asked
	stopped := errors.Is(err, session.ErrBudget)
	if err != nil && !stopped {
		return nil, false, err
	}
	r.sess.Extend(r.sess.Machine().VCPU().Instructions() - since)
	r.known, err = o.MetaData.LoadLazily(r.key())
	return r.known, !stopped || res.Stats.Instructions >= limit, err
}
