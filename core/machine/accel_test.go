package machine

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hybridbridge/emu/core/boot/tiny"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// borrowed is an accelerated vCPU without an accelerator: an emulator whose count is the host's time.
type borrowed struct {
	*cpu.CPU
	slots    map[uint64][]byte
	begin    time.Time
	deadline uint64
	closed   *bool
}

func (b *borrowed) Page(pa uint64) (*[4096]byte, bool) {
	for base, mem := range b.slots {
		if off := pa - base; off < uint64(len(mem)) {
			return (*[4096]byte)(mem[off:]), true
		}
	}
	return nil, false
}

func (b *borrowed) AddSlot(pa uint64, mem []byte, _ bool) error { b.slots[pa] = mem; return nil }
func (b *borrowed) RemoveSlot(pa uint64) error                  { delete(b.slots, pa); return nil }
func (b *borrowed) Close() error                                { *b.closed = true; return nil }
func (b *borrowed) Until(n uint64) time.Duration {
	return time.Duration(min(n, 1<<60)) - time.Since(b.begin)
}
func (b *borrowed) Instructions() uint64        { return uint64(time.Since(b.begin)) }
func (b *borrowed) SetDeadline(deadline uint64) { b.deadline = deadline; b.CPU.SetDeadline(0) }

func (b *borrowed) Run(deadline uint64) vcpu.Exit {
	b.deadline = deadline
	for b.Instructions() < b.deadline {
		if e := b.CPU.Run(b.CPU.Instructions() + 1000); e.Reason != vcpu.ExitDeadline {
			return e
		}
	}
	return vcpu.Exit{Reason: vcpu.ExitDeadline}
}

func borrow(closed *bool) Accelerator {
	return func(model *cpu.CPU, p vcpu.Platform) (vcpu.Accelerated, error) {
		b := &borrowed{slots: map[uint64][]byte{}, begin: time.Now(), closed: closed}
		b.CPU = cpu.New(cpu.Config{Memory: b, Platform: p})
		return b, b.SetState(model.State())
	}
}

func TestAccelerator(t *testing.T) {
	var closed bool
	var out bytes.Buffer
	cfg := Config{Accel: borrow(&closed), Console: &out, MemorySize: 4 << 20}
	cfg.Kernel = tiny.Image(tiny.Print("hello"), tiny.Store(0x200000, 7), tiny.PowerOff())
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if o := m.Run(context.Background(), 0); o.Reason != PowerOff || out.String() != "hello" {
		t.Errorf("%+v, %q", o, out.String())
	}
	var p [4]byte
	if n, err := m.ReadLinear(0x200000, p[:]); n != 4 || err != nil || p != [4]byte{7} {
		t.Errorf("%d %v % x", n, err, p)
	}
	if pa, ok, err := m.TranslateLinear(0x1234); pa != 0x1234 || !ok || err != nil {
		t.Errorf("%#x %v %v", pa, ok, err)
	}
	if m.CPU() != nil || m.VCPU() == nil || m.Step(context.Background()).Reason != Unsupported {
		t.Error("the emulator runs this guest")
	}
	if err := m.Close(); err != nil || !closed {
		t.Errorf("%v, closed: %v", err, closed)
	}
	for _, bad := range []Config{{Taint: &cpu.TaintOptions{}}, {Beyond: func(uint64) *[4096]byte { return nil }}} {
		closed = false
		bad.Accel, bad.Kernel, bad.MemorySize = cfg.Accel, cfg.Kernel, cfg.MemorySize
		if _, err := New(bad); !errors.Is(err, ErrConfig) {
			t.Error(err)
		}
	}
}

// TestAcceleratorSleeps waits for a timer: host time passes, and no guest time is skipped.
func TestAcceleratorSleeps(t *testing.T) {
	var closed bool
	m := start(t, Config{Accel: borrow(&closed)}, tiny.Out(0x43, 0x34), tiny.Out(0x40, 0), tiny.Out(0x40, 0), tiny.Idle)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if o := m.Run(ctx, 0); o.Reason != Interrupted { // the PIC is masked: nothing wakes the guest
		t.Errorf("%+v", o)
	}
	if d := time.Since(begin); d < 200*time.Millisecond || m.skipped != 0 {
		t.Errorf("slept %v, skipped %d ns", d, m.skipped)
	}
	if o := m.Run(context.Background(), uint64(m.VCPU().Instructions())+uint64(50*time.Millisecond)); o.Reason != Budget {
		t.Errorf("%+v", o)
	}
}

// TestAcceleratorMoves saves under one processor and goes on under the other.
func TestAcceleratorMoves(t *testing.T) {
	var closed bool
	guest := slices.Concat(tiny.Echo, tiny.PowerOff())
	soft := start(t, Config{}, guest)
	soft.Input([]byte("a"))
	if o := soft.Run(context.Background(), 2000); o.Reason != Budget {
		t.Fatalf("%+v", o)
	}
	path := filepath.Join(t.TempDir(), "s")
	if err := soft.Save(path); err != nil {
		t.Fatal(err)
	}
	for i, accel := range []Accelerator{borrow(&closed), nil} {
		var out bytes.Buffer
		m, err := Load(path, Config{Accel: accel, Console: &out})
		if err != nil {
			t.Fatal(err)
		}
		m.Input([]byte("bc"))
		m.WaitFor("bc")
		if o := m.Run(context.Background(), 0); o.Reason != Text {
			t.Fatalf("%+v, %q", o, out.String())
		}
		if err := errors.Join(m.Save(path), m.Close()); err != nil {
			t.Fatal(i, err)
		}
	}
}
