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
	"github.com/hybridbridge/emu/core/slowbridge"
)

// connectFast is connect for FAST-BRIDGE.
func (r *run) connectFast(ctx context.Context) error {
	r.stats.Times.Spawn = r.lap()
	r.stats.Times.Run = r.stats.Times.Spawn
	m := r.sess.Machine()
	began := m.VCPU().Instructions()
	var err error
	if r.known, err = r.load(); err != nil {
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
		Machine: m, Memory: fastbridge.NewMemory(r.memory, flat), Kernel: r.kernel, Known: r.known, ExitSwitching: r.ExitSwitching,
		Resolve: func(g slowbridge.Guest) (*slowbridge.Bridge, error) {
			cfg := r.bridgeConfig(ctx)
			cfg.Guest = g
			return slowbridge.Resolve(cfg)
		},
		Train: func(reason string) (*metadata.Set, error) { return r.train(ctx, reason) },
	}, views)
	r.keepTypes()
	r.stats.Times.Connect = r.lap()
	r.sess.Extend(m.VCPU().Instructions() - began)
	return err
}

// train is FALLBACK: it runs the same command on the same snapshot in SLOW-BRIDGE, and returns all that is known then. SLOW-BRIDGE
// repeats, so that it is not asked twice.
func (r *run) train(ctx context.Context, reason string) (*metadata.Set, error) {
	id, err := identity(r.Snapshot)
	if err != nil {
		return nil, err
	}
	if r.trained || r.known != nil && slices.ContainsFunc(r.known.Trainings(), func(t metadata.Training) bool {
		return t.Snapshot == id && slices.Equal(t.Command, r.Argv)
	}) {
		return nil, fastbridge.ErrTrained
	}
	r.trained = true
	r.Progress("training in SLOW-BRIDGE, for " + reason)
	o := r.Options
	o.Began = time.Time{}
	o.Fast, o.Stdout, o.Stderr, o.Console, o.Trace = FastOff, io.Discard, io.Discard, nil, nil
	if o.MetaData == nil {
		dir, err := os.MkdirTemp("", "emu-train-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		o.MetaData = &metadata.Store{Path: filepath.Join(dir, "metadata.db")}
	}
	since := r.sess.Machine().VCPU().Instructions()
	res, err := Run(ctx, o)
	r.stats.Asked += res.Stats.Asked
	if err != nil {
		return nil, err
	}
	r.sess.Extend(r.sess.Machine().VCPU().Instructions() - since)
	r.known, err = o.MetaData.LoadLazily(r.key())
	return r.known, err
}
