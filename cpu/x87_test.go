package cpu

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/softfloat"
)

// Values of the x87 tests.
var (
	one80    = softfloat.F80{Mant: 1 << 63, SE: 0x3fff}
	two80    = softfloat.F80{Mant: 1 << 63, SE: 0x4000}
	three80  = softfloat.F80{Mant: 3 << 62, SE: 0x4000}
	zero80   = softfloat.F80{}
	huge80   = softfloat.F80{Mant: 1 << 63, SE: 0x7ffe}
	tiny80   = softfloat.F80{Mant: 1}
	inf80    = softfloat.F80{Mant: 1 << 63, SE: 0x7fff}
	signal80 = softfloat.F80{Mant: 1<<63 | 1, SE: 0x7fff}
	indef80  = softfloat.Indefinite80()
)

// stack describes the x87 stack from ST(0) on, up to the first empty register.
func (f *fpuState) stack() string {
	var parts []string
	for i := range uint8(8) {
		if f.empty(i) {
			break
		}
		r := f.reg(i)
		parts = append(parts, fmt.Sprintf("%04x:%016x", r.SE, r.Mant))
	}
	return strings.Join(parts, " ")
}

func show(v ...softfloat.F80) string {
	var parts []string
	for _, r := range v {
		parts = append(parts, fmt.Sprintf("%04x:%016x", r.SE, r.Mant))
	}
	return strings.Join(parts, " ")
}

const flagBits = x87Flags | x87SF | x87ES

// TestX87 runs one instruction on a stack of values, ST(0) last. 70H is [rbx].
func TestX87(t *testing.T) {
	var (
		full8 = []softfloat.F80{one80, one80, one80, one80, one80, one80, one80, one80}
		none  []softfloat.F80
	)
	v := func(l ...softfloat.F80) []softfloat.F80 { return l }
	const (
		ie, de, ze, oe, ue, pe = 1, 2, 4, 8, 16, 32
		sf, es                 = 0x40, 0x80
		all                    = 0x37f
	)
	for _, tc := range []struct {
		name  string
		code  string
		stack []softfloat.F80 // pushed in this order
		cw    uint16
		want  []softfloat.F80 // ST(0) first
		flags uint16
		cc    uint16 // C3, C2, C1, C0
	}{
		{"add", "d8c1", v(one80, two80), all, v(three80, one80), 0, 0},
		{"add to ST(1)", "dcc1", v(one80, two80), all, v(two80, three80), 0, 0},
		{"add and pop", "dec1", v(one80, two80), all, v(three80), 0, 0},
		{"sub", "d8e1", v(one80, three80), all, v(two80, one80), 0, 0},
		{"DC E0 is FSUBR", "dce1", v(one80, three80), all, v(three80, two80), 0, 0},
		{"DE E8 is FSUBP", "dee9", v(three80, one80), all, v(two80), 0, 0},
		{"div by zero", "d8f1", v(zero80, one80), all, v(inf80, zero80), ze, 0},
		{"div by zero, unmasked", "d8f1", v(zero80, one80), all &^ ze, v(one80, zero80), ze | es, 0},
		{"overflow, unmasked: wrapped exponent", "d8c8", v(huge80), all &^ oe, v(softfloat.F80{Mant: 1 << 63, SE: 0x7ffe + 0x3fff - 24576}), oe | es, 0},
		{"stack underflow", "d8c1", v(one80), all, v(indef80), ie | sf, 0},
		{"stack underflow, unmasked", "d8c1", v(one80), all &^ ie, v(one80), ie | sf | es, 0},
		{"stack overflow", "d9e8", full8, all, append(v(indef80), full8[1:]...), ie | sf, x87C1},
		{"stack overflow, unmasked", "d9e8", full8, all &^ ie, full8, ie | sf | es, x87C1},
		{"load of an empty register", "d9c3", v(one80), all, v(indef80, one80), ie | sf, 0},
		{"exchange with an empty register", "d9c9", v(one80), all, v(indef80, one80), ie | sf, 0},
		{"signalling NaN", "d8c1", v(one80, signal80), all, v(softfloat.F80{Mant: 3<<62 | 1, SE: 0x7fff}, one80), ie, 0},
		{"denormal", "d8c1", v(zero80, tiny80), all, v(tiny80, zero80), de, 0},
		{"denormal, unmasked", "d8c1", v(zero80, tiny80), all &^ de, v(tiny80, zero80), de | es, 0},
		{"1/3 rounds up, C1", "d8f1", v(three80, one80), all | 0x800, v(softfloat.F80{Mant: 0xaaaaaaaaaaaaaaab, SE: 0x3ffd}, three80), pe, x87C1},
		{"1/3 rounds down", "d8f1", v(three80, one80), all | 0x400, v(softfloat.F80{Mant: 0xaaaaaaaaaaaaaaaa, SE: 0x3ffd}, three80), pe, 0},
		{"1/3 in single precision", "d8f1", v(three80, one80), all &^ 0x300, v(softfloat.F80{Mant: 0xaaaaab0000000000, SE: 0x3ffd}, three80), pe, x87C1},

		{"compare less", "d8d1", v(two80, one80), all, v(one80, two80), 0, x87C0},
		{"compare equal and pop twice", "ded9", v(one80, one80), all, none, 0, x87C3},
		{"compare unordered", "d8d1", v(indef80, one80), all, v(one80, indef80), ie, x87C0 | x87C2 | x87C3},
		{"compare quietly", "dde1", v(indef80, one80), all, v(one80, indef80), 0, x87C0 | x87C2 | x87C3},
		{"test", "d9e4", v(one80), all, v(one80), 0, 0},
		{"examine an empty register", "d9e5", none, all, none, 0, x87C3 | x87C0},
		{"examine zero", "d9e5", v(zero80), all, v(zero80), 0, x87C3},
		{"examine a NaN", "d9e5", v(indef80), all, v(indef80), 0, x87C0 | x87C1},
		{"examine a denormal", "d9e5", v(tiny80), all, v(tiny80), 0, x87C3 | x87C2},
		{"examine an infinity", "d9e5", v(inf80), all, v(inf80), 0, x87C2 | x87C0},

		{"change sign of an empty register", "d9e0", none, all, v(indef80), ie | sf, 0},
		{"free", "ddc0", v(two80, one80), all, none, 0, 0},
		{"pi", "d9eb", none, all, v(softfloat.F80{Mant: 0xc90fdaa22168c235, SE: 0x4000}), 0, 0},
		{"pi rounded down", "d9eb", none, all | 0x400, v(softfloat.F80{Mant: 0xc90fdaa22168c234, SE: 0x4000}), 0, 0},
		{"remainder", "d9f8", v(two80, three80), all, v(one80, two80), 0, x87C1},
		{"remainder, not complete", "d9f8", v(one80, softfloat.F80{Mant: 1<<63 | 1, SE: 0x3fff + 100}), all, nil, 0, x87C2},
		{"extract", "d9f4", v(three80), all, v(softfloat.F80{Mant: 3 << 62, SE: 0x3fff}, one80), 0, 0},
		{"scale", "d9fd", v(one80, three80), all, v(softfloat.F80{Mant: 3 << 62, SE: 0x4001}, one80), 0, 0},
		{"sine outside its range", "d9fe", v(huge80), all, v(huge80), 0, x87C2},
		{"tangent of 0", "d9f2", v(zero80), all, v(one80, zero80), 0, 0},
		{"two results without room", "d9fb", full8, all, append(v(indef80, indef80), full8[2:]...), ie | sf, x87C1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newVectorRig(t)
			f := &c.fpu
			f.cw = tc.cw
			for _, v := range tc.stack {
				f.push(v)
			}
			if !step(t, c, tc.code) {
				t.Fatalf("vector %d", c.exc.vector)
			}
			if got, want := f.stack(), show(tc.want...); got != want && (tc.want != nil || tc.cc != x87C2) {
				t.Errorf("stack %s\nwant  %s", got, want)
			}
			if got := f.sw & flagBits; got != tc.flags {
				t.Errorf("flags %#x, want %#x", got, tc.flags)
			}
			if got := f.sw & x87CC; got != tc.cc {
				t.Errorf("codes %#x, want %#x", got, tc.cc)
			}
		})
	}
}

// TestX87Memory loads from [rbx] or stores there.
func TestX87Memory(t *testing.T) {
	for _, tc := range []struct {
		name  string
		code  string
		mem   string
		stack []softfloat.F80
		want  string // the bytes at [rbx]
		st0   softfloat.F80
		flags uint16
	}{
		{"FLD m32", "d903", "0000c03f", nil, "0000c03f", softfloat.F80{Mant: 3 << 62, SE: 0x3fff}, 0},
		{"FLD m64 of a signalling NaN", "dd03", "010000000000f07f", nil, "010000000000f07f", softfloat.F80{Mant: 3<<62 | 1<<11, SE: 0x7fff}, 1},
		{"FLD m80 raises nothing", "db2b", "0100000000000080ff7f", nil, "0100000000000080ff7f", signal80, 0},
		{"FLD m32 of a denormal", "d903", "01000000", nil, "01000000", softfloat.F80{Mant: 1 << 63, SE: 0x3fff - 149}, 2},
		{"FILD m16", "df03", "feff", nil, "feff", softfloat.F80{Mant: 1 << 63, SE: 0xc000}, 0},
		{"FBLD", "df23", "23010000000000000080", nil, "23010000000000000080", softfloat.F80{Mant: 123 << 57, SE: 0xc005}, 0},
		{"FBSTP", "df33", "", []softfloat.F80{one80, {Mant: 123 << 57, SE: 0xc005}}, "23010000000000000080", one80, 0},
		{"FBSTP of too much", "df33", "", []softfloat.F80{one80, huge80}, "000000000000 00c0ffff", one80, 1},
		{"FSTP m32", "d91b", "", []softfloat.F80{one80, {Mant: 3 << 62, SE: 0x3fff}}, "0000c03f", one80, 0},
		{"FSTP m64 overflows", "dd1b", "", []softfloat.F80{one80, huge80}, "000000000000f07f", one80, 0x28},
		{"FISTP m16 of too much", "df1b", "", []softfloat.F80{one80, huge80}, "0080", one80, 1},
		{"FISTP m64", "df3b", "", []softfloat.F80{one80, {Mant: 1 << 63, SE: 0xc03e}}, "0000000000000080", one80, 0},
		{"FISTTP m32 truncates", "db0b", "", []softfloat.F80{one80, {Mant: 7 << 61, SE: 0x4000}}, "03000000", one80, 0x20},
		{"FIST m32 rounds", "db13", "", []softfloat.F80{{Mant: 7 << 61, SE: 0x4000}}, "04000000", softfloat.F80{Mant: 7 << 61, SE: 0x4000}, 0x20},
		{"FIADD m16", "de03", "0200", []softfloat.F80{one80}, "0200", three80, 0},
		{"FADD m32 of a denormal", "d803", "01000000", []softfloat.F80{zero80}, "01000000", softfloat.F80{Mant: 1 << 63, SE: 0x3fff - 149}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, ram := newVectorRig(t)
			c.r[isa.RBX] = 0x2ffb // crosses a page
			copy(ram[0x2ffb:], unhex(tc.mem))
			for _, v := range tc.stack {
				c.fpu.push(v)
			}
			if !step(t, c, tc.code) {
				t.Fatalf("vector %d", c.exc.vector)
			}
			want := unhex(tc.want)
			if got := ram[0x2ffb:][:len(want)]; string(got) != string(want) {
				t.Errorf("memory % x, want % x", got, want)
			}
			if got := *c.fpu.reg(0); c.fpu.empty(0) || got != tc.st0 {
				t.Errorf("ST(0) %s, want %s", show(got), show(tc.st0))
			}
			if got := c.fpu.sw & flagBits; got != tc.flags {
				t.Errorf("flags %#x, want %#x", got, tc.flags)
			}
			if c.fpu.lastDP != 0x2ffb || c.fpu.lastIP != 0x1000 {
				t.Errorf("pointers %#x, %#x", c.fpu.lastIP, c.fpu.lastDP)
			}
		})
	}
}

// TestX87Fault: a store that faults, or an exception that is unmasked, leaves what it must.
func TestX87Fault(t *testing.T) {
	c, _ := newVectorRig(t)
	c.fpu.push(huge80)
	c.r[isa.RBX] = 0x100000
	before := c.fpu
	faults(t, c, "d91b", VectorPF) // fstp dword [rbx] would raise overflow
	after := c.fpu
	after.envFor, after.envFlags = before.envFor, before.envFlags
	if after != before {
		t.Errorf("the state changed: %+v", after)
	}

	// An unmasked overflow stores nothing and waits for the next waiting instruction.
	c, ram := newVectorRig(t)
	c.cr0 |= cr0NE
	c.fpu.push(huge80)
	c.fpu.cw &^= 8
	c.r[isa.RBX] = 0x2000
	if !step(t, c, "d91b") || c.fpu.empty(0) || c.fpu.sw&x87ES == 0 || c.fpu.sw&x87B == 0 || ram[0x2003] != 0 {
		t.Errorf("unmasked overflow: %+v", c.fpu)
	}
	if c.fpu.lastOpcode != 0 {
		t.Errorf("opcode %#x", c.fpu.lastOpcode) // there is no code at 1000H
	}
	for _, code := range []string{"9b", "d9e8", "d92b", "dd23", "0f77"} { // fwait fld1 fldcw frstor emms
		faults(t, c, code, VectorMF)
	}
	for _, code := range []string{"dfe0", "d93b", "dd33"} { // fnstsw fnstcw fnsave
		if !step(t, c, code) {
			t.Errorf("%s: vector %d", code, c.exc.vector)
		}
	}
	if c.fpu.sw != 0 || c.fpu.cw != x87DefaultCW {
		t.Error("FNSAVE did not initialize")
	}

	// With NE clear nothing is reported.
	c.fpu.sw |= x87ES
	c.cr0 &^= cr0NE
	if !step(t, c, "9b") {
		t.Errorf("FWAIT with NE clear: vector %d", c.exc.vector)
	}
}

// TestX87Unavailable: EM, TS and MP (SDM vol. 3A, table 2-2).
func TestX87Unavailable(t *testing.T) {
	for _, tc := range []struct {
		cr0       uint64
		fld, wait int
	}{
		{0, -1, -1},
		{cr0MP, -1, -1},
		{cr0TS, VectorNM, -1},
		{cr0TS | cr0MP, VectorNM, VectorNM},
		{cr0EM, VectorNM, -1},
		{cr0EM | cr0MP, VectorNM, -1},
		{cr0EM | cr0TS | cr0MP, VectorNM, VectorNM},
	} {
		c, _ := newVectorRig(t)
		c.cr0 |= tc.cr0
		for code, vector := range map[string]int{"d9e8": tc.fld, "dbe3": tc.fld, "9b": tc.wait} {
			got := -1
			if !step(t, c, code) {
				got = int(c.exc.vector)
			}
			if got != vector {
				t.Errorf("CR0 %#x, %s: vector %d, want %d", tc.cr0, code, got, vector)
			}
		}
	}
}

// TestX87Opcode: the opcode of an instruction with an unmasked exception is kept, whatever its prefixes.
func TestX87Opcode(t *testing.T) {
	c, ram := newVectorRig(t)
	copy(ram[0x1000:], unhex("41d8b000000000"))
	c.r[isa.R8] = 0x2000
	c.fpu.push(one80)
	c.fpu.cw &^= 4
	if !step(t, c, "41d8b000000000") { // fdiv dword [r8]
		t.Fatal(c.exc.vector)
	}
	if c.fpu.lastOpcode != 0x0b0 || c.fpu.sw&x87ES == 0 {
		t.Errorf("opcode %#x, status %#x", c.fpu.lastOpcode, c.fpu.sw)
	}
}

// TestMMXState: what MMX instructions do to the x87 (SDM vol. 3A, table 13-1).
func TestMMXState(t *testing.T) {
	c, _ := newVectorRig(t)
	f := &c.fpu
	f.push(one80)
	f.push(two80) // R6
	f.st[2].Mant = 0x1122334455667788
	if !step(t, c, "0ffcca") { // paddb mm1, mm2
		t.Fatal(c.exc.vector)
	}
	if f.top != 0 || f.full != 0xff || f.st[1] != (softfloat.F80{Mant: 0x1122334455667788, SE: 0xffff}) || f.st[6] != two80 {
		t.Errorf("after PADDB: %+v", f)
	}
	if !step(t, c, "0f77") || f.full != 0 || f.st[1].SE != 0xffff {
		t.Errorf("after EMMS: %+v", f)
	}
	// A read counts too.
	f.top = 3
	if !step(t, c, "0f7ec8") || c.r[isa.RAX] != 0x55667788 || f.top != 0 || f.full != 0xff { // movd eax, mm1
		t.Errorf("after MOVD: %+v", f)
	}
}

func TestFCMOV(t *testing.T) {
	for i, code := range []string{"dac1", "dac9", "dad1", "dad9", "dbc1", "dbc9", "dbd1", "dbd9"} {
		for flags := range uint64(8) {
			cf, zf, pf := flags&1 != 0, flags&2 != 0, flags&4 != 0
			c, _ := newVectorRig(t)
			c.f.setWord(flags&1 | flags>>1&1<<6 | flags>>2<<2)
			c.fpu.push(two80)
			c.fpu.push(one80)
			want := [4]bool{cf, zf, cf || zf, pf}[i&3] != (i >= 4)
			if !step(t, c, code) || (*c.fpu.reg(0) == two80) != want {
				t.Errorf("%s with CF %v ZF %v PF %v: ST(0) %s", code, cf, zf, pf, show(*c.fpu.reg(0)))
			}
		}
	}
}

// TestEnvironment stores and loads the environment in the formats of SDM vol. 1, figures 8-9 to 8-12.
func TestEnvironment(t *testing.T) {
	for _, tc := range []struct {
		name string
		mode isa.Mode
		real bool
		code string // fnstenv [bx] or [ebx]
		load string
		want string
	}{
		{"protected, 32 bits", isa.Mode32, false, "d933", "d923", "7f03ffff 0030ffff ffcfffff 78563412 2300d107 21436587 2b00ffff"},
		{"protected, 16 bits", isa.Mode32, false, "66d933", "66d923", "7f03 0030 ffcf 7856 2300 2143 2b00"},
		{"real, 16 bits", isa.Mode16, true, "d937", "d927", "7f03 0030 ffcf a858 d147 d145 0050"},
		{"real, 32 bits", isa.Mode16, true, "66d937", "66d927", "7f03ffff 0030ffff ffcfffff a858ffff d1472301 d145ffff 00507608"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, ram := newVectorRig(t)
			c.setMode(tc.mode)
			f := &c.fpu
			f.top, f.full, f.st[6] = 6, 0x40, one80
			f.lastIP, f.lastCS, f.lastDP, f.lastDS, f.lastOpcode = 0x12345678, 0x23, 0x87654321, 0x2b, 0x7d1
			if tc.real {
				c.cr0 &^= cr0PE | cr0PG
				c.pagingChanged()
			}
			before := *f
			c.r[isa.RBX] = 0x2000
			if !step(t, c, tc.code) {
				t.Fatal(c.exc.vector)
			}
			want := unhex(tc.want)
			if got := ram[0x2000:][:len(want)]; string(got) != string(want) {
				t.Logf("got  % x", got)
				t.Errorf("want % x", want)
			}
			if f.cw != before.cw|x87Flags {
				t.Errorf("control word %#x after FNSTENV", f.cw)
			}
			f.init87()
			if !step(t, c, tc.load) {
				t.Fatal(c.exc.vector)
			}
			if f.full != before.full || f.top != before.top || f.cw != before.cw {
				t.Errorf("loaded %+v", f)
			}
			if !tc.real && (uint16(f.lastIP) != 0x5678 || f.lastCS != 0x23 || f.lastDS != 0x2b) {
				t.Errorf("loaded pointers %#x:%#x %#x:%#x", f.lastCS, f.lastIP, f.lastDS, f.lastDP)
			}
		})
	}
}

// TestSaveRestore: FNSAVE and FRSTOR keep the registers in stack order.
func TestSaveRestore(t *testing.T) {
	for _, code := range [][2]string{{"dd33", "dd23"}, {"66dd33", "66dd23"}} {
		c, ram := newVectorRig(t)
		f := &c.fpu
		for i := range 5 {
			f.push(softfloat.F80{Mant: 1<<63 | uint64(i), SE: uint16(i)})
		}
		f.pop()
		f.sw |= x87C2
		before := f.stack()
		c.r[isa.RBX] = 0x2fc0
		if !step(t, c, code[0]) || f.full != 0 || f.cw != x87DefaultCW {
			t.Fatalf("%+v", f)
		}
		at := 0x2fc0 + 28
		if code[0] != "dd33" {
			at -= 14
		}
		if got := binary.LittleEndian.Uint64(ram[at:]); got != 1<<63|3 {
			t.Errorf("ST(0) was stored as %#x", got)
		}
		f.st = [8]softfloat.F80{}
		if !step(t, c, code[1]) || f.stack() != before || f.sw != x87C2 {
			t.Errorf("%s: stack %s, want %s", code[1], f.stack(), before)
		}
	}
}
