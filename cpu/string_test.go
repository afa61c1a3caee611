package cpu

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// TestRepeatBulk compares repeated string instructions with and without their bulk paths, in pieces cut at different
// deadlines, up to a fault if they run into one.
func TestRepeatBulk(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	const size = 0x6000
	fast, fm := newRigMemory(t, size)
	slow, sm := newRigMemory(t, size)
	slow.table[isa.MOVS] = repeated(stepMOVS, nil)
	slow.table[isa.STOS] = repeated(stepSTOS, nil)
	slow.table[isa.CMPS] = repeated(stepCMPS, nil)
	slow.table[isa.SCAS] = repeated(stepSCAS, nil)
	fresh := fast.State()
	rounds := 5000
	if testing.Short() {
		rounds = 2000
	}
	shutdowns := 0
	for round := range rounds {
		mode := []isa.Mode{isa.Mode64, isa.Mode64, isa.Mode32, isa.Mode16}[r.IntN(4)]
		fill := byte(r.Uint32())
		for i := 0x1000; i < size; i++ {
			fm.ram[i] = fill // long equal runs for SCAS and CMPS
			if r.IntN(500) == 0 {
				fm.ram[i] = byte(r.Uint32())
			}
		}
		code := []byte{0xf2 + byte(r.IntN(2))}
		if r.IntN(4) == 0 {
			code = append(code, 0x66)
		}
		if r.IntN(4) == 0 {
			code = append(code, 0x67)
		}
		if mode == isa.Mode64 && r.IntN(2) == 0 {
			code = append(code, 0x48)
		}
		code = append(code, [...]byte{0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}[r.IntN(10)], 0xf4)
		copy(fm.ram[0x800:], code)
		copy(sm.ram, fm.ram)
		s := fresh
		s.RIP, s.RFLAGS = 0x800, flagsArith&r.Uint64()|uint64(r.IntN(2))*FlagDF|2
		s.GPR[isa.RAX] = uint64(fill) * 0x0101010101010101
		s.GPR[isa.RCX] = r.Uint64N(1 << r.IntN(14))
		s.GPR[isa.RSI] = 0x1000 + r.Uint64N(size-0x1000)
		s.GPR[isa.RDI] = 0x1000 + r.Uint64N(size-0x1000)
		if r.IntN(2) == 0 {
			s.GPR[isa.RDI] = s.GPR[isa.RSI] + r.Uint64N(64) - 32
		}
		for _, c := range []*CPU{fast, slow} {
			if err := c.SetState(s); err != nil {
				t.Fatal(err)
			}
			c.setMode(mode)
		}
		run := func(c *CPU, most int) vcpu.Exit {
			for {
				exit := c.Run(min(1<<15, c.icount+1+r.Uint64N(uint64(most))))
				if exit.Reason != vcpu.ExitDeadline || c.icount >= 1<<15 {
					return exit
				}
			}
		}
		fe, se := run(fast, 5000), run(slow, 300)
		a, b := fast.State(), slow.State()
		if a != b || fe.Reason != se.Reason {
			t.Fatalf("round %d, mode %d, % x, %x DF %v\n%+v %+v\n%+v %+v", round, mode, code, s.GPR, s.RFLAGS&FlagDF != 0, fe, a, se, b)
		}
		if !bytes.Equal(fm.ram, sm.ram) {
			t.Fatalf("round %d, mode %d, % x, %x DF %v: memory differs", round, mode, code, s.GPR, s.RFLAGS&FlagDF != 0)
		}
		if fe.Reason == vcpu.ExitShutdown {
			shutdowns++
		}
	}
	if shutdowns == 0 || shutdowns > rounds/2 {
		t.Errorf("%d of %d rounds ended in a fault", shutdowns, rounds)
	}
}

// TestRepeatFault looks at the registers after a fault in the middle of REP MOVSB, and at the instruction count.
func TestRepeatFault(t *testing.T) {
	c, ram := newRig(t, 0x4000)
	copy(ram[0x1000:], unhex("f3a4 f4"))
	c.r[isa.RSI], c.r[isa.RDI], c.r[isa.RCX] = 0x2000, 0x3ff0, 0x100
	c.rip = 0x1000
	exit := c.Run(1000)
	if exit.Reason != vcpu.ExitShutdown || c.rip != 0x1000 || c.r[isa.RCX] != 0xf0 || c.r[isa.RSI] != 0x2010 ||
		c.r[isa.RDI] != 0x4000 || c.cr2 != 0x4000 {
		t.Errorf("%v at %#x, rcx %#x rsi %#x rdi %#x cr2 %#x", exit.Reason, c.rip, c.r[isa.RCX], c.r[isa.RSI], c.r[isa.RDI], c.cr2)
	}
	if c.icount != 17 {
		t.Errorf("%d instructions, want 16 iterations and the fault", c.icount)
	}
}

// TestRepeatInterrupt raises INTR from a device in the middle of REP INSB: the iteration that called it is complete, the
// next one is not begun.
func TestRepeatInterrupt(t *testing.T) {
	c, m := newRigMemory(t, 0x4000)
	copy(m.ram[0x1000:], unhex("f36c f4"))
	c.r[isa.RDI], c.r[isa.RCX], c.r[isa.RDX] = 0x2000, 10, 0x70
	c.rip = 0x1000
	c.setRFLAGS(FlagIF)
	var seen []uint64
	m.onPort = func() {
		seen = append(seen, c.icount)
		if len(seen) == 3 {
			c.SetINTR(true)
		}
	}
	exit := c.Run(1000) // there is no IDT
	if exit.Reason != vcpu.ExitShutdown || c.r[isa.RCX] != 7 || c.r[isa.RDI] != 0x2003 || c.rip != 0x1000 {
		t.Errorf("%v at %#x, rcx %d rdi %#x", exit.Reason, c.rip, c.r[isa.RCX], c.r[isa.RDI])
	}
	if len(seen) != 3 || seen[0] != 0 || seen[1] != 1 || seen[2] != 2 {
		t.Errorf("the device saw instruction counts %d", seen)
	}
}

// TestRepeatDevice copies from a device: each iteration is executed alone.
func TestRepeatDevice(t *testing.T) {
	c, m := newRigMemory(t, 0x4000)
	m.ram = m.ram[: 0x4000+rigTables : 0x4000+rigTables]
	// The page at 3000H becomes one at 1 GiB, where there is nothing but the platform.
	copy(m.ram[0x4000+0x3000+3*8:], []byte{7, 0, 0, 0x40, 0, 0, 0, 0})
	copy(m.ram[0x1000:], unhex("f3a5 f4"))
	c.r[isa.RSI], c.r[isa.RDI], c.r[isa.RCX] = 0x3ffc-4, 0x2000, 2
	c.rip = 0x1000
	c.Run(3)
	want := []string{"read 0x40000ff8 4", "read 0x40000ffc 4"}
	if len(m.log) != 2 || m.log[0] != want[0] || m.log[1] != want[1] || c.icount != 3 || c.r[isa.RCX] != 0 {
		t.Errorf("%q, %d instructions, rcx %d", m.log, c.icount, c.r[isa.RCX])
	}
}
