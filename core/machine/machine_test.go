package machine

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/boot/tiny"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// start makes a machine with a tiny guest.
func start(t *testing.T, cfg Config, pieces ...tiny.Code) *Machine {
	t.Helper()
	if cfg.MemorySize == 0 {
		cfg.MemorySize = 4 << 20
	}
	cfg.Kernel = tiny.Image(pieces...)
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		code   tiny.Code
		want   Reason
		detail string
	}{
		"power-off":    {tiny.PowerOff(), PowerOff, ""},
		"reset":        {tiny.Reset, Reset, ""},
		"triple fault": {tiny.UD2, TripleFault, "#UD"},
		"debug exit":   {tiny.Exit, DebugExit, ""},
		"halt":         {tiny.Halt, Halted, "interrupts disabled"},
		"idle":         {tiny.Idle, Idle, "no input can come"},
		"asleep":       {slices.Concat(tiny.Out(0x43, 0x34), tiny.Out(0x40, 0), tiny.Out(0x40, 0), tiny.Idle), Idle, "a day of guest time"},
		"budget":       {tiny.Spin, Budget, ""},
		"stray":        {tiny.Stray, Unsupported, "0xd0000000"},
	} {
		m := start(t, Config{DebugExit: true}, c.code)
		o := m.Run(context.Background(), 10000)
		if o.Reason != c.want || !strings.Contains(o.Detail, c.detail) {
			t.Errorf("%s: %v %+v", name, o.Reason, o)
		}
		if d := m.Describe(nil); !strings.Contains(d, "RIP") || !strings.Contains(d, "last branches") {
			t.Error(d)
		}
	}
}

// An instruction that the decoder knows and the CPU does not is named with bytes and address.
func TestUnknownInstruction(t *testing.T) {
	cfg := Config{CPU: cpu.Config{Features: cpu.DefaultFeatures | isa.Features(isa.FeatPKU)}}
	m := start(t, cfg, tiny.Code{0x90, 0x0f, 0x01, 0xee}) // nop; rdpkru
	o := m.Run(context.Background(), 100)
	if o.Reason != Unsupported || o.Detail != "instruction RDPKRU (NP 0F 01 EE), bytes 0f 01 ee, at 0x100021 is not implemented" {
		t.Errorf("%v %q", o.Reason, o.Detail)
	}
	if rip := m.CPU().State().RIP; rip != tiny.Entry+1 {
		t.Errorf("RIP %#x", rip)
	}
}

func TestStep(t *testing.T) {
	// Writing the PIT's counter sets a timer, which must not lengthen the step.
	m := start(t, Config{}, tiny.Out(0x43, 0x34), tiny.Out(0x40, 0), tiny.Out(0x40, 0x10), tiny.Code{0xf4, 0x90})
	for i := uint64(1); i <= 10; i++ {
		o := m.Step(context.Background())
		if o.Reason != Stepped || m.CPU().Instructions() != i {
			t.Fatalf("%v after %d instructions, want %d", o.Reason, m.CPU().Instructions(), i)
		}
	}
	if !m.CPU().Halted() {
		t.Error("HLT was not the last step")
	}
	// Interrupts are off, so the next step finds that nothing can wake it.
	if o := m.Step(context.Background()); o.Reason != Halted {
		t.Error(o.Reason)
	}
}

// A halted guest is woken by its timer in one step, which ends at the handler.
func TestStepWakes(t *testing.T) {
	code := tiny.Code{
		0x0f, 0x01, 0x1d, 0x80, 0, 0x10, 0, // lidt [0x100080]
		0xbc, 0, 0, 0x20, 0, // mov esp,0x200000
		0xfb, 0xf4, // sti; hlt
	}
	image := append(code, make([]byte, 0x60-len(code))...)
	image = append(image, 0xff, 0x07, 0x88, 0, 0x10, 0) // IDTR: limit, base 0x100088
	image = append(image, 0, 0)
	idt := make([]byte, 0x800)
	copy(idt[0x40*8:], []byte{0x00, 0x10, 0x10, 0, 0, 0x8e, 0x10, 0}) // handler at 0x101000
	m := start(t, Config{}, tiny.Code(image), tiny.Code(idt))
	for range 4 {
		if o := m.Step(context.Background()); o.Reason != Stepped {
			t.Fatal(o)
		}
	}
	// Program the PIC by hand: base 0x40, all unmasked; and the PIT.
	for _, w := range [][2]byte{{0x20, 0x11}, {0x21, 0x40}, {0x21, 4}, {0x21, 1}, {0x21, 0}, {0x43, 0x34}, {0x40, 0}, {0x40, 0x10}} {
		m.WritePort(uint16(w[0]), 1, uint32(w[1]))
	}
	if o := m.Step(context.Background()); o.Reason != Stepped || m.CPU().State().RIP != 0x101000 {
		t.Errorf("%v, RIP %#x", o.Reason, m.CPU().State().RIP)
	}
}

// A write to the TSC moves the time at which a pending TSC deadline is reached.
func TestTSCWriteMovesDeadline(t *testing.T) {
	code := tiny.Code{
		0x0f, 0x01, 0x1d, 0x80, 0, 0x10, 0, // lidt [0x100080]
		0xbc, 0, 0, 0x20, 0, // mov esp,0x200000
		0x31, 0xd2, // xor edx,edx
		0xb9, 0x10, 0, 0, 0, // mov ecx,IA32_TSC
		0xb8, 0xa0, 0xbb, 0x0d, 0, // mov eax,900000
		0x0f, 0x30, // wrmsr
		0xfb, 0xf4, // sti; hlt
	}
	image := append(code, make([]byte, 0x60-len(code))...)
	image = append(image, 0xff, 0x07, 0x88, 0, 0x10, 0, 0, 0) // IDTR: limit, base 0x100088
	idt := make([]byte, 0x800)
	copy(idt[0x40*8:], []byte{0x00, 0x10, 0x10, 0, 0, 0x8e, 0x10, 0}) // handler at 0x101000
	m := start(t, Config{}, image, idt)
	const apic = 0xfee00000
	m.WritePort(0x21, 1, 0xff)             // the PIT is not to be heard
	m.WriteMMIO(apic+0xf0, 4, 0x1ff)       // enabled
	m.WriteMMIO(apic+0x320, 4, 2<<17|0x40) // LVT timer: TSC-deadline mode
	m.SetTSCDeadline(1_000_000)
	for m.CPU().State().RIP != 0x101000 {
		if o := m.Step(context.Background()); o.Reason != Stepped {
			t.Fatal(o)
		}
	}
	if now := m.Now(); now < 100_000 || now > 100_100 {
		t.Errorf("the timer fired at %v ns, want 100000 after the write", uint64(now))
	}
}

func TestBreakAndWatch(t *testing.T) {
	m := start(t, Config{}, tiny.Count(1000), tiny.Store(0x180000, 7), tiny.PowerOff())
	c := m.CPU()
	end := uint64(tiny.Entry + len(tiny.Count(0)))
	c.AddBreakpoint(end)
	o := m.Run(context.Background(), 0)
	if o.Reason != Breakpoint || o.Exit.Reason != vcpu.ExitBreakpoint || o.Exit.Address != end || c.Instructions() != 2001 {
		t.Fatalf("%+v after %d instructions", o, c.Instructions())
	}
	c.AddWatchpoint(0x180002, 1, cpu.WatchWrite)
	o = m.Run(context.Background(), 0)
	if o.Reason != Breakpoint || o.Exit.Reason != vcpu.ExitWatchpoint || o.Exit.Address != 0x180002 || c.Instructions() != 2002 {
		t.Fatalf("%+v after %d instructions", o, c.Instructions())
	}
	if o = m.Run(context.Background(), 0); o.Reason != PowerOff {
		t.Error(o.Reason)
	}
}

func TestInterruptAndInput(t *testing.T) {
	m := start(t, Config{Interactive: true}, tiny.Idle)
	m.Interrupt()
	if o := m.Run(context.Background(), 0); o.Reason != Interrupted {
		t.Error(o.Reason)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if o := m.Run(ctx, 0); o.Reason != Interrupted {
		t.Error(o.Reason)
	}
	m.EndInput()
	if o := m.Run(context.Background(), 0); o.Reason != Idle {
		t.Error(o.Reason)
	}
	var out strings.Builder
	m = start(t, Config{Console: &out}, tiny.Echo, tiny.PowerOff())
	m.Input([]byte(strings.Repeat("more than a FIFO holds, ", 20) + "q"))
	if o := m.Run(context.Background(), 1000000); o.Reason != PowerOff || len(out.String()) != 20*24+1 {
		t.Errorf("%v %q", o.Reason, out.String())
	}
}

// A run that was saved and loaded is the same as one that was not.
func TestSaveAndLoad(t *testing.T) {
	guest := []tiny.Code{
		tiny.Scramble(0x200000, 1<<20), tiny.Print("one"), tiny.Count(5000), tiny.Store(0x180000, 5), tiny.Print("two"),
		tiny.Count(777), tiny.PowerOff(),
	}
	run := func(m *Machine) Outcome { return m.Run(context.Background(), 0) }
	var whole strings.Builder
	m := start(t, Config{Console: &whole}, guest...)
	if o := run(m); o.Reason != PowerOff {
		t.Fatal(o)
	}
	var first, second strings.Builder
	a := start(t, Config{Console: &first}, guest...)
	a.WaitFor("ne")
	if o := run(a); o.Reason != Text || first.String() != "one" {
		t.Fatalf("%+v %q", o, first.String())
	}
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	b, err := Load(path, Config{Console: &second})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	i, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if i.State() != a.CPU().State() {
		t.Error("the inspector sees another state")
	}
	for _, m := range []*Machine{a, b} {
		if o := run(m); o.Reason != PowerOff {
			t.Error(o)
		}
	}
	if first.String() != whole.String() || "one"+second.String() != whole.String() {
		t.Errorf("%q %q %q", whole.String(), first.String(), second.String())
	}
	if w, x, y := m.CPU().State(), a.CPU().State(), b.CPU().State(); w != x || w != y {
		t.Errorf("final states differ:\n%+v\n%+v\n%+v", w, x, y)
	}
	if m.Now() != b.Now() {
		t.Error("guest time differs")
	}
}
