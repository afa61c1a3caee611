package cpu

import (
	"encoding/binary"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/softfloat"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// fillState puts something else into every part of the x87 and SSE state.
func fillState(f *fpuState) {
	*f = fpuState{
		top: 5, full: 0xe0, cw: 0x0f7a, sw: x87C3 | 0x20, lastOpcode: 0x123, lastCS: 0x33, lastDS: 0x2b,
		lastIP: 0x1234567890, lastDP: 0x2345678901, mxcsr: 0x9fc1, xcr0: xcr0Allowed,
	}
	for i := range f.st {
		f.st[i] = softfloat.F80{Mant: 0x8000000000000000 + uint64(i), SE: 0x4000 + uint16(i)}
	}
	for i := range f.xmm {
		f.xmm[i] = vector{uint64(i) + 1, ^uint64(i)}
	}
}

func TestFXSAVE(t *testing.T) {
	for _, tc := range []struct {
		name       string
		mode       isa.Mode
		save, load string
		wide       bool
	}{
		{"FXSAVE64", isa.Mode64, "480fae03", "480fae0b", true},
		{"FXSAVE in 64-bit mode", isa.Mode64, "0fae03", "0fae0b", false},
		{"FXSAVE in 32-bit mode", isa.Mode32, "0fae03", "0fae0b", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, ram := newVectorRig(t)
			c.setMode(tc.mode)
			c.r[isa.RBX] = 0x2ef0
			area := ram[0x2ef0:][:512]
			for i := range area {
				area[i] = 0xcc
			}
			fillState(&c.fpu)
			before := c.fpu
			if !step(t, c, tc.save) {
				t.Fatal(c.exc.vector)
			}
			le := binary.LittleEndian
			if got := le.Uint16(area[2:]); got != before.sw|5<<11 {
				t.Errorf("status word %#x", got)
			}
			if area[4] != 0xe0 || le.Uint16(area[6:]) != 0x123 || le.Uint32(area[24:]) != 0x9fc1 || le.Uint32(area[28:]) != 0xffff {
				t.Errorf("% x", area[:32])
			}
			if got := le.Uint64(area[32:]); got != before.st[5].Mant {
				t.Errorf("ST(0) %#x", got)
			}
			end := 416
			if tc.mode == isa.Mode32 {
				end = 288
			}
			for i := end; i < 512; i++ {
				if area[i] != 0xcc {
					t.Fatalf("byte %d was written", i)
				}
			}
			c.fpu = fpuState{xcr0: xcr0Allowed, xmm: before.xmm}
			clear(c.fpu.xmm[:8])
			if !step(t, c, tc.load) {
				t.Fatal(c.exc.vector)
			}
			want := before
			if tc.wide {
				want.lastCS, want.lastDS = 0, 0
			} else {
				want.lastIP, want.lastDP = uint64(uint32(want.lastIP)), uint64(uint32(want.lastDP))
			}
			if c.fpu != want {
				t.Errorf("restored %+v\nwant %+v", c.fpu, want)
			}

			c.r[isa.RBX] = 0x2ef8
			faults(t, c, tc.save, VectorGP)
			faults(t, c, tc.load, VectorGP)
			c.r[isa.RBX] = 0x2ef0
			le.PutUint32(area[24:], 1<<16)
			faults(t, c, tc.load, VectorGP)
			c.cr0 |= cr0TS
			faults(t, c, tc.save, VectorNM)
			c.cr0 = c.cr0&^cr0TS | cr0EM
			faults(t, c, tc.load, VectorNM)
		})
	}
}

// xsaveTest has a filled CPU and an area at 2000H.
func xsaveTest(t *testing.T, mask uint64) (c *CPU, area []byte) {
	c, ram := newVectorRig(t)
	fillState(&c.fpu)
	c.r[isa.RBX], c.r[isa.RAX], c.r[isa.RDX] = 0x2000, mask, 0
	return c, ram[0x2000:0x2240]
}

func TestXSAVE(t *testing.T) {
	const xsave, xsaveopt, xsavec, xrstor = "480fae23", "480fae33", "480fc723", "480fae2b"
	le := binary.LittleEndian

	// XSAVE merges XSTATE_BV and leaves what was not asked for.
	c, area := xsaveTest(t, 1)
	le.PutUint64(area[512:], 6)
	if !step(t, c, xsave) || le.Uint64(area[512:]) != 7 || le.Uint16(area) != 0x0f7a || le.Uint64(area[160:]) != 0 || le.Uint32(area[24:]) != 0 {
		t.Errorf("XSAVE of the x87: % x", area[:32])
	}

	// A component in its initial state: XSAVE writes it, XSAVEOPT and XSAVEC do not, and all clear its bit.
	for _, code := range []string{xsave, xsaveopt, xsavec} {
		c, area = xsaveTest(t, 3)
		c.fpu.xmm, c.fpu.mxcsr = [16]vector{}, mxcsrDefault
		for i := range area[:512] {
			area[i] = 0xcc
		}
		if !step(t, c, code) || le.Uint64(area[512:]) != 1 {
			t.Errorf("%s: XSTATE_BV %#x", code, le.Uint64(area[512:]))
		}
		if written := area[160] != 0xcc; written != (code == xsave) {
			t.Errorf("%s: XMM0 written: %v", code, written)
		}
		if want := map[bool]uint64{true: 3 | xcompCompacted}[code == xsavec]; le.Uint64(area[520:]) != want {
			t.Errorf("%s: XCOMP_BV %#x, want %#x", code, le.Uint64(area[520:]), want)
		}
	}

	// There and back.
	for _, code := range []string{xsave, xsaveopt, xsavec} {
		c, _ = xsaveTest(t, 3)
		want := c.fpu
		want.lastCS, want.lastDS = 0, 0
		if !step(t, c, code) {
			t.Fatal(c.exc.vector)
		}
		c.fpu = fpuState{xcr0: xcr0Allowed}
		if !step(t, c, xrstor) || c.fpu != want {
			t.Errorf("%s: restored %+v", code, c.fpu)
		}
	}

	// XRSTOR initializes what the area lacks; the standard form still loads MXCSR.
	c, area = xsaveTest(t, 3)
	le.PutUint32(area[24:], 0x1fbf)
	if !step(t, c, xrstor) || c.fpu.mxcsr != 0x1fbf || c.fpu.usedSSE() || c.fpu.usedX87() {
		t.Errorf("initialized: %+v", c.fpu)
	}
	c, area = xsaveTest(t, 3)
	le.PutUint64(area[520:], 3|xcompCompacted)
	if !step(t, c, xrstor) || c.fpu.inUse() != 0 {
		t.Errorf("initialized from the compacted form: %+v", c.fpu)
	}

	// What XRSTOR refuses.
	for name, set := range map[string]func(){
		"XSTATE_BV":               func() { le.PutUint64(area[512:], 4) },
		"XCOMP_BV":                func() { le.PutUint64(area[520:], 1) },
		"reserved bytes":          func() { area[530] = 1 }, // 8 to 23 of the header (SDM vol. 1, 13.8.1)
		"MXCSR":                   func() { le.PutUint32(area[24:], 1<<20) },
		"XSTATE_BV over XCOMP_BV": func() { le.PutUint64(area[520:], 1|xcompCompacted); le.PutUint64(area[512:], 2) },
		"alignment":               func() { c.r[isa.RBX] += 16 },
	} {
		c, area = xsaveTest(t, 3)
		set()
		before := c.fpu
		if step(t, c, xrstor) || c.exc.vector != VectorGP || c.fpu != before {
			t.Errorf("XRSTOR with a bad %s: vector %d", name, c.exc.vector)
		}
	}
	c, _ = xsaveTest(t, 3)
	c.cr0 |= cr0TS
	faults(t, c, xsave, VectorNM)
	c.cr4 &^= cr4OSXSAVE
	faults(t, c, xsave, VectorUD)
}

func TestMXCSR(t *testing.T) {
	c, ram := newVectorRig(t)
	c.r[isa.RBX] = 0x2001
	ram[0x2001], ram[0x2002] = 0xc0, 0x7f
	if !step(t, c, "0fae13") || c.fpu.mxcsr != 0x7fc0 {
		t.Errorf("LDMXCSR: %#x", c.fpu.mxcsr)
	}
	ram[0x2003] = 1
	faults(t, c, "0fae13", VectorGP)
	c.r[isa.RBX] = 0x3000
	if !step(t, c, "0fae1b") || binary.LittleEndian.Uint32(ram[0x3000:]) != 0x7fc0 {
		t.Error("STMXCSR")
	}
	c.cr0 |= cr0TS
	faults(t, c, "0fae1b", VectorNM)
	c.cr0 |= cr0EM
	faults(t, c, "0fae1b", VectorUD)
}

func TestFPUState(t *testing.T) {
	var f, g fpuState
	fillState(&f)
	s := f.state()
	if s.Status != f.sw|5<<11 || s.ST[5] != (vcpu.F80{Mant: f.st[5].Mant, SE: f.st[5].SE}) {
		t.Errorf("%+v", s)
	}
	g.setState(&s)
	if f != g {
		t.Errorf("%+v\n%+v", f, g)
	}
	// What cannot be: reserved bits, and ES without a reason.
	s.Control, s.Status, s.MXCSR = 0xffff, 0x8080, 0xffffffff
	g.setState(&s)
	if g.cw != 0x1f7f || g.sw != 0 || g.mxcsr != 0xffff {
		t.Errorf("%#x %#x %#x", g.cw, g.sw, g.mxcsr)
	}
}
