package cpu

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// The memory of a sysRig, mapped one to one where there is paging.
const (
	atGDT     = 0x1000
	atIDT     = 0x2000
	atTSS     = 0x3000
	atTSS2    = 0x3400
	atLDT     = 0x3800
	atStubs   = 0x4000 // handler of vector v, a HLT, at atStubs+8*v
	atCode    = 0x6000 // of the kernel
	atUser    = 0x7000 // code of CPL 3
	topKernel = 0x9000
	topIST    = 0xa000
	topRSP0   = 0xb000
	topUser   = 0xd000
	atData    = 0xe000
	atTables  = 0x10000 // page tables
	rigRAM    = 0x400000
)

// The selectors in the GDT of a sysRig.
const (
	selCode64      = 0x08
	selData        = 0x10
	selUser32      = 0x18 | 3
	selUserData    = 0x20 | 3
	selUser64      = 0x28 | 3
	selTSS         = 0x30
	selCode32      = 0x40
	selCode16      = 0x48
	selData16      = 0x50
	selConforming  = 0x58
	selNotPresent  = 0x60
	selExpandDown  = 0x68
	selReadOnly    = 0x70
	selExecuteOnly = 0x78
	selLDT         = 0x80
	selGate        = 0x90
	selTSS2        = 0xa0
	selTaskGate    = 0xa8
	selCode1       = 0xb0 // DPL 1
	selData1       = 0xb8
	selBeyond      = 0x200
)

var rigGDT = map[int]uint64{
	selCode64:       0x00af9a000000ffff,
	selData:         0x00cf92000000ffff,
	selUser32 &^ 3:  0x00cffa000000ffff,
	selUserData - 3: 0x00cff2000000ffff,
	selUser64 &^ 3:  0x00affa000000ffff,
	selCode32:       0x00cf9a000000ffff,
	selCode16:       0x00009a000000ffff,
	selData16:       0x000092000000ffff,
	selConforming:   0x00cf9e000000ffff,
	selNotPresent:   0x00cf12000000ffff,
	selExpandDown:   0x00c0960000000001, // offsets above 0x1fff
	selReadOnly:     0x00cf90000000ffff,
	selExecuteOnly:  0x00cf98000000ffff,
	selCode1:        0x00cfba000000ffff,
	selData1:        0x00cfb2000000ffff,
}

// sysRig is a machine for tests of system behaviour: a CPU, RAM and a platform with an interrupt that tests raise.
type sysRig struct {
	*rigMemory
	t      testing.TB
	c      *CPU
	vector uint8
	tpr    uint8
}

func (b *sysRig) AckInterrupt() uint8 {
	b.c.SetINTR(false)
	return b.vector
}
func (b *sysRig) TaskPriority() uint8     { return b.tpr }
func (b *sysRig) SetTaskPriority(v uint8) { b.tpr = v }
func (b *sysRig) APICBase() uint64        { return 0xfee00900 }
func (b *sysRig) TSC() uint64             { return b.c.Instructions() * 2 }

func newSysRig(t testing.TB, cfg Config) *sysRig {
	t.Helper()
	b := &sysRig{rigMemory: &rigMemory{ram: make([]byte, rigRAM)}, t: t}
	cfg.Memory, cfg.Platform = b, b
	if cfg.Model == 0 {
		cfg.Model = DefaultModel | ModelLA57
	}
	b.c = New(cfg)
	for sel, d := range rigGDT {
		b.put64(atGDT+uint64(sel), d)
	}
	for v := range uint64(256) {
		b.ram[atStubs+8*v] = 0xf4
	}
	return b
}

func (b *sysRig) put64(at, v uint64) { binary.LittleEndian.PutUint64(b.ram[at:], v) }
func (b *sysRig) put32(at, v uint64) { binary.LittleEndian.PutUint32(b.ram[at:], uint32(v)) }
func (b *sysRig) put16(at, v uint64) { binary.LittleEndian.PutUint16(b.ram[at:], uint16(v)) }
func (b *sysRig) get64(at uint64) uint64 {
	return binary.LittleEndian.Uint64(b.ram[at:])
}
func (b *sysRig) get32(at uint64) uint64 { return uint64(binary.LittleEndian.Uint32(b.ram[at:])) }
func (b *sysRig) get16(at uint64) uint64 { return uint64(binary.LittleEndian.Uint16(b.ram[at:])) }

// gate64 writes an entry of the IDT of long mode.
func (b *sysRig) gate64(vector int, sel uint16, target uint64, attr uint8, ist uint8) {
	at := atIDT + uint64(vector)*16
	b.put64(at, target&0xffff|uint64(sel)<<16|uint64(ist)<<32|uint64(attr)<<40|target>>16<<48)
	b.put64(at+8, target>>32)
}

// gate32 writes an entry of the IDT of protected mode.
func (b *sysRig) gate32(vector int, sel uint16, target uint64, attr uint8) {
	b.put64(atIDT+uint64(vector)*8, gateBits(sel, target, attr))
}

func gateBits(sel uint16, target uint64, attr uint8) uint64 {
	return target&0xffff | uint64(sel)<<16 | uint64(attr)<<40 | target>>16&0xffff<<48
}

func systemSegment(base, limit uint64, attr uint8) uint64 {
	return limit&0xffff | base&0xffffff<<16 | uint64(attr)<<40 | limit>>16&0xf<<48 | base>>24&0xff<<56
}

// setState changes the CPU's state.
func (b *sysRig) setState(change func(s *vcpu.State)) {
	b.t.Helper()
	s := b.c.State()
	change(&s)
	if err := b.c.SetState(s); err != nil {
		b.t.Fatal(err)
	}
}

func seg(sel uint16) vcpu.Segment {
	d := descriptor{low: rigGDT[int(sel&^7)] | 1<<40}
	return d.segment(sel)
}

// long puts the CPU into 64-bit mode at CPL 0 with interrupts off; the first 4 MiB are mapped one to one, by 4 KiB pages for everyone.
func (b *sysRig) long() {
	b.t.Helper()
	for v := range 256 {
		attr := uint8(0x8e)
		if v == VectorBP || v == 0x80 {
			attr = 0xee
		}
		b.gate64(v, selCode64, atStubs+8*uint64(v), attr, 0)
	}
	b.put64(atGDT+selTSS, systemSegment(atTSS, 0x67, 0x8b))
	b.put64(atTSS+4, topRSP0)
	b.put64(atTSS+0x24, topIST)
	b.mapLow(4, 7)
	b.setState(func(s *vcpu.State) {
		s.CR0 = cr0PG | cr0PE | cr0WP | cr0NE | cr0ET
		s.CR3 = atTables
		s.CR4 = cr4PAE | (cr4PGE|cr4FSGSBASE)&b.c.cr4Allowed()
		s.MSR.EFER = eferLME | eferLMA | eferNXE | eferSCE
		for i := range s.Seg {
			s.Seg[i] = seg(selData)
		}
		s.Seg[isa.CS] = seg(selCode64)
		s.GDTR = vcpu.Table{Base: atGDT, Limit: 0x1ff}
		s.IDTR = vcpu.Table{Base: atIDT, Limit: 0xfff}
		s.TR = vcpu.Segment{Selector: selTSS, Attr: 0x8b, Limit: 0x67, Base: atTSS}
		s.GPR[isa.RSP] = topKernel
		s.RIP = atCode
		s.RFLAGS = 2
		s.Halted = false
		s.DR[6], s.DR[7] = dr6Fixed, dr7Fixed
	})
}

// protected32 puts the CPU into 32-bit protected mode at CPL 0 without paging.
func (b *sysRig) protected32() {
	b.t.Helper()
	for v := range 256 {
		attr := uint8(0x8e)
		if v == VectorBP || v == 0x80 {
			attr = 0xee
		}
		b.gate32(v, selCode32, atStubs+8*uint64(v), attr)
	}
	b.put64(atGDT+selTSS, systemSegment(atTSS, 0x67, 0x8b))
	b.put32(atTSS+4, topRSP0)
	b.put32(atTSS+8, selData)
	b.put16(atTSS+0x66, 0x68) // no I/O bitmap
	b.setState(func(s *vcpu.State) {
		s.CR0 = cr0PE | cr0NE | cr0ET
		s.CR3, s.CR4, s.MSR.EFER = 0, 0, 0
		for i := range s.Seg {
			s.Seg[i] = seg(selData)
		}
		s.Seg[isa.CS] = seg(selCode32)
		s.GDTR = vcpu.Table{Base: atGDT, Limit: 0x1ff}
		s.IDTR = vcpu.Table{Base: atIDT, Limit: 0x7ff}
		s.TR = vcpu.Segment{Selector: selTSS, Attr: 0x8b, Limit: 0x67, Base: atTSS}
		s.GPR[isa.RSP] = topKernel
		s.RIP = atCode
		s.RFLAGS = 2
		s.Halted = false
		s.DR[6], s.DR[7] = dr6Fixed, dr7Fixed
	})
}

// real puts the CPU into real-address mode with zero segment bases; all interrupt vectors lead to their stubs.
func (b *sysRig) real() {
	b.t.Helper()
	for v := range uint64(256) {
		b.put32(v*4, atStubs+8*v)
	}
	b.setState(func(s *vcpu.State) {
		s.CR0, s.CR4, s.MSR.EFER = cr0ET, 0, 0
		for i := range s.Seg {
			s.Seg[i] = vcpu.Segment{Attr: 0x93, Limit: 0xffff}
		}
		s.IDTR = vcpu.Table{Limit: 0x3ff}
		s.GPR[isa.RSP] = topKernel
		s.RIP = atCode
		s.RFLAGS = 2
		s.Halted = false
		s.DR[6], s.DR[7] = dr6Fixed, dr7Fixed
	})
}

// user puts the CPU to CPL 3 at atUser, with code of the given selector.
func (b *sysRig) user(sel uint16) {
	b.t.Helper()
	b.setState(func(s *vcpu.State) {
		s.Seg[isa.CS] = seg(sel)
		for _, i := range []uint8{isa.SS, isa.DS, isa.ES} {
			s.Seg[i] = seg(selUserData)
		}
		s.GPR[isa.RSP] = topUser
		s.RIP = atUser
	})
}

// mapLow maps the first 2 MiB by tables of the given number of levels, with the given bits in the leaf entries. The page
// table is at tablePT.
func (b *sysRig) mapLow(levels int, bits uint64) {
	at := uint64(atTables)
	for range levels - 1 {
		b.put64(at, at+0x1000|7)
		at += 0x1000
	}
	for i := range uint64(512) {
		b.put64(at+i*8, i<<12|bits)
	}
}

// pte is the address of the page-table entry of a low address under tables of the given number of levels.
func pte(levels int, la uint64) uint64 { return atTables + uint64(levels-1)<<12 + la>>12*8 }

// outcome is how a piece of guest code ended: in a handler, or by its own HLT (vector -1).
type outcome struct {
	vector int
	// code is the error code, 0 if the vector has none; the rest is the frame below it.
	code, rip, cs, flags, rsp, ss uint64
}

// exec puts code at RIP, runs until a HLT and tells where that was.
func (b *sysRig) exec(code string) outcome {
	b.t.Helper()
	s := b.c.State()
	la := s.RIP
	if s.CR0&cr0PE == 0 || s.RFLAGS&FlagVM != 0 {
		la += s.Seg[isa.CS].Base
	}
	copy(b.ram[la:], append(unhex(code), 0xf4))
	b.c.MemoryWritten(la, 64)
	return b.resume()
}

// resume runs until a HLT.
func (b *sysRig) resume() outcome {
	b.t.Helper()
	e := b.c.Run(b.c.Instructions() + 1000)
	if e.Reason != vcpu.ExitHalt {
		b.t.Fatalf("run ended with %v (%s) at %#x", e.Reason, e.Detail, b.c.State().RIP)
	}
	return b.outcome()
}

func hasCode(vector int) bool {
	switch vector {
	case VectorDF, VectorTS, VectorNP, VectorSS, VectorGP, VectorPF, VectorAC:
		return true
	}
	return false
}

// outcome reads the frame of the handler in whose stub the CPU has halted.
func (b *sysRig) outcome() outcome {
	s := b.c.State()
	b.c.halted = false
	if s.RIP <= atStubs || s.RIP > atStubs+8*256 {
		return outcome{vector: -1, rip: s.RIP}
	}
	o := outcome{vector: int(s.RIP-1-atStubs) / 8}
	sp, size := s.GPR[isa.RSP], uint64(4)
	switch {
	case s.CR0&cr0PE == 0:
		size = 2
	case s.MSR.EFER&eferLMA != 0:
		size = 8
	}
	pop := func() (v uint64) {
		for i := range size {
			v |= uint64(b.ram[sp+i]) << (8 * i)
		}
		sp += size
		return v
	}
	if size != 2 && hasCode(o.vector) {
		o.code = pop()
	}
	o.rip, o.cs, o.flags = pop(), pop(), pop()
	if size == 8 || size == 4 && o.cs&3 != 0 {
		o.rsp, o.ss = pop(), pop()
	}
	return o
}

// expect runs code and checks the vector and error code that it ends with; -1 is none.
func (b *sysRig) expect(code string, vector int, errorCode uint64) outcome {
	b.t.Helper()
	o := b.exec(code)
	if o.vector != vector || o.code != errorCode {
		b.t.Fatalf("%s: vector %d code %#x (rip %#x, cr2 %#x), want vector %d code %#x",
			code, o.vector, o.code, o.rip, b.c.cr2, vector, errorCode)
	}
	return o
}

func (b *sysRig) reg(r uint8) uint64 { return b.c.r[r] }

func (b *sysRig) setReg(r uint8, v uint64) { b.c.r[r] = v }

func (b *sysRig) wantReg(r uint8, want uint64) {
	b.t.Helper()
	if got := b.c.r[r]; got != want {
		b.t.Fatalf("register %d is %#x, want %#x", r, got, want)
	}
}

func le(v uint64, n int) string {
	s := ""
	for i := range n {
		s += fmt.Sprintf("%02x ", v>>(8*i)&0xff)
	}
	return s
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
