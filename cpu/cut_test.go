package cpu

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// randomProgram fills code with instructions that user code may have, some of them branches that stay near.
func randomProgram(r *rand.Rand, code []byte, mode isa.Mode) {
	for n := 0; n < len(code); {
		var b [15]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		switch r.IntN(6) {
		case 0: // Jcc, mostly forward
			b[0], b[1] = 0x70|b[0]&15, byte(r.IntN(40)-8)
		case 1: // cmp or test, then Jcc
			b[0] = [...]byte{0x39, 0x3b, 0x38, 0x85, 0x84, 0x83, 0x80, 0xf6, 0x01, 0x29}[r.IntN(10)]
			b[1] |= 0xc0
			if b[0] == 0x83 || b[0] == 0x80 {
				b[1] |= 0x38
			}
		case 2:
			b[0] = 0x0f
		case 3:
			if mode == isa.Mode64 {
				b[0] = 0x48 | b[0]&7
			}
		}
		in, err := isa.Decode(b[:], mode, DefaultFeatures)
		if err != nil || in.Row.Attr&(isa.Privileged|isa.System) != 0 || int(in.Len) > len(code)-n {
			if len(code)-n < 15 {
				code[n] = 0x90
				n++
			}
			continue
		}
		n += copy(code[n:], b[:in.Len])
	}
}

// catchFaults fills in a GDT, an IDT and handlers that go on somewhere in the program.
func catchFaults(r *rand.Rand, ram []byte) {
	put := func(at int, v uint64) { binary.LittleEndian.PutUint64(ram[at:], v) }
	put(0xf008, 0x00af9b000000ffff)
	put(0xf010, 0x00cf93000000ffff)
	for v := range 32 {
		at := 0xd000 + 64*v
		put(0xe000+16*v, 0x00008e0000080000|uint64(at))
		put(0xe000+16*v+8, 0)
		code := ram[at:]
		for reg := range 8 { // mov reg, imm32
			code[reg*5] = 0xb8 | byte(reg)
			binary.LittleEndian.PutUint32(code[reg*5+1:], 0x5000+r.Uint32N(0x6000))
		}
		code[40] = 0xe9
		binary.LittleEndian.PutUint32(code[41:], uint32(0x2f80+r.IntN(0x180)-at-45))
	}
}

// TestCut runs programs in one go and cut into pieces at random deadlines: state, memory and count must be the same at
// the end.
func TestCut(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	rounds := 2000
	if testing.Short() {
		rounds = 300
	}
	const size = 1 << 16
	whole, wm := newRigMemory(t, size)
	cut, cm := newRigMemory(t, size)
	fresh := whole.State()
	var end [16]int
	for round := range rounds {
		mode := []isa.Mode{isa.Mode64, isa.Mode64, isa.Mode32, isa.Mode16}[r.IntN(4)]
		for i := range size {
			wm.ram[i] = byte(r.Uint32() >> 8)
		}
		randomProgram(r, wm.ram[0x2f80:0x3100], mode)
		catchFaults(r, wm.ram)
		copy(cm.ram, wm.ram)
		s := fresh
		s.GDTR, s.IDTR = vcpu.Table{Base: 0xf000, Limit: 0xff}, vcpu.Table{Base: 0xe000, Limit: 0x1ff}
		for i := range s.GPR {
			s.GPR[i] = 0x4000 + r.Uint64N(0x8000)
			if r.IntN(3) == 0 {
				s.GPR[i] = randomValue(r)
			}
		}
		s.GPR[isa.RSP] = 0x8000 + r.Uint64N(64)
		s.RIP, s.RFLAGS, s.Instructions = 0x2f80, r.Uint64()&flagsArith|2, 0
		for _, c := range []*CPU{whole, cut} {
			if err := c.SetState(s); err != nil {
				t.Fatal(err)
			}
			c.setMode(mode)
		}
		const deadline = 2000
		we := whole.Run(deadline)
		var ce vcpu.Exit
		for {
			ce = cut.Run(min(deadline, cut.icount+1+r.Uint64N(uint64(1)<<r.IntN(7))))
			if ce.Reason != vcpu.ExitDeadline || cut.icount >= deadline {
				break
			}
		}
		a, b := whole.State(), cut.State()
		if a != b || we.Reason != ce.Reason {
			t.Fatalf("round %d, mode %d:\n%+v %+v\n%+v %+v\n% x", round, mode, we, a, ce, b, wm.ram[0x2f80:0x3100])
		}
		if !bytes.Equal(wm.ram, cm.ram) {
			t.Fatalf("round %d, mode %d: memory differs", round, mode)
		}
		end[we.Reason]++
	}
	t.Log(end, whole.stats.BlocksExecuted, whole.stats.CodeDrops)
}
