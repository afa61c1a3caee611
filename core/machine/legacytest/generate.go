package legacytest

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"

	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

// environment is a mode of the CPU with segments.
type environment struct {
	name   string
	kind   uint8
	paging []uint8 // one of these
	mode   isa.Mode
	ring0  bool
	cs     uint16
	seg    [6]uint16 // by number; CS unused
	odd    bool      // segments whose checks matter: replace some of seg
}

// environments are where every row is tried.
var environments = []environment{
	{name: "real", kind: kindReal, mode: isa.Mode16, ring0: true, cs: 0x2000, seg: [6]uint16{0x5000, 0, 0x4000, 0x3000, 0x3000, 0x5000}},
	{name: "vm86", kind: kindVM86, mode: isa.Mode16, paging: []uint8{0, 1}, cs: 0x2000, seg: [6]uint16{0x5000, 0, 0x4000, 0x3000, 0x3000, 0x5000}},
	{name: "prot16-ring3", mode: isa.Mode16, paging: []uint8{0, 1, 2}, cs: selCode16R3, seg: [6]uint16{selPages, 0, selStack16R3, selDataR3, selDataR3, selPages}},
	{name: "prot16-ring0", mode: isa.Mode16, paging: []uint8{0, 1}, ring0: true, cs: selCode16R0, seg: [6]uint16{selPages, 0, selStack16R0, selDataR0, selDataR3, selPages}},
	{name: "prot16-stack32", mode: isa.Mode16, paging: []uint8{0}, cs: selCode16R3, seg: [6]uint16{selPages, 0, selStack32R3, selDataR3, selDataR3, selPages}},
	{name: "prot16-odd", mode: isa.Mode16, paging: []uint8{1, 2}, cs: selCode16R3, seg: [6]uint16{selPages, 0, selStack16R3, selDataR3, selDataR3, selPages}, odd: true},
	{name: "prot32-flat", mode: isa.Mode32, paging: []uint8{1, 2}, cs: selFlatCode3, seg: [6]uint16{selFlatData3, 0, selFlatData3, selFlatData3, selFlatData3, selFlatData3}},
	{name: "prot32-ring3", mode: isa.Mode32, paging: []uint8{0, 1, 2}, cs: selCode32R3, seg: [6]uint16{selPages, 0, selStack32R3, selDataR3, selDataR3, selPages}},
	{name: "prot32-ring0", mode: isa.Mode32, paging: []uint8{0, 1, 2}, ring0: true, cs: selCode32R0, seg: [6]uint16{selPages, 0, selStack32R0, selDataR0, selDataR3, selPages}},
	{name: "prot32-stack16", mode: isa.Mode32, paging: []uint8{0}, cs: selCode32R3, seg: [6]uint16{selPages, 0, selStack16R3, selDataR3, selDataR3, selPages}},
	{name: "prot32-odd", mode: isa.Mode32, paging: []uint8{1, 2}, cs: selCode32R3, seg: [6]uint16{selPages, 0, selStack32R3, selDataR3, selDataR3, selPages}, odd: true},
	{name: "compat32", kind: kindLong, mode: isa.Mode32, cs: selFlatCode3, seg: [6]uint16{selFlatData3, 0, selFlatData3, selFlatData3, selFlatData3, selFlatData3}},
	{name: "compat32-odd", kind: kindLong, mode: isa.Mode32, cs: selCode32R3, seg: [6]uint16{selPages, 0, selStack32R3, selDataR3, selDataR3, selPages}, odd: true},
	{name: "compat16", kind: kindLong, mode: isa.Mode16, cs: selCode16R3, seg: [6]uint16{selPages, 0, selStack16R3, selDataR3, selDataR3, selPages}},
}

// oddSegments are what an odd environment puts into DS, ES, FS and GS: limits, types and directions that matter.
var oddSegments = []uint16{selExtra, selDown16, selDown32, selReadOnly, 0xe0, selOneByte, selPages, 0, selDown16, 4 | 3, 0x1c | 3}

// excluded are operations that cases do not contain, with the reason.
var excluded = map[isa.Op]string{
	isa.HLT: "would wait for ever in ring 0", isa.RSM: "needs SMM",
	isa.RDTSC: "answers differ", isa.RDTSCP: "answers differ", isa.RDPMC: "answers differ", isa.RDRAND: "answers differ",
	isa.RDSEED: "answers differ", isa.CPUID: "models differ", isa.RDPID: "models differ", isa.RDMSR: "models differ",
	isa.WRMSR: "models differ", isa.XGETBV: "models differ", isa.MONITOR: "models differ", isa.MWAIT: "models differ",
	isa.VMCALL: "models differ", isa.VMMCALL: "models differ", isa.INVPCID: "models differ", isa.SYSENTER: "system.asm has it",
	isa.SYSEXIT: "system.asm has it", isa.MOV_TO_CR: "would change the monitor's mode", isa.MOV_FROM_CR: "models differ",
	isa.MOV_TO_DR: "system.asm has it", isa.MOV_FROM_DR: "system.asm has it", isa.LMSW: "would change the monitor's mode",
	isa.SMSW: "models differ in CR0.ET and the cache bits", isa.CLTS: "would change the monitor's mode",
	isa.LGDT: "would lose the monitor's tables", isa.LIDT: "would lose the monitor's tables", isa.LTR: "would lose the monitor's task",
	isa.LLDT: "system.asm has it", isa.INVD: "no state", isa.WBINVD: "no state",
}

// features are those that emu, QEMU and Bochs all have in the models used here.
var features = cpu.DefaultFeatures &^ isa.Features(isa.FeatSMAP, isa.FeatFSGSBASE, isa.FeatINVPCID, isa.FeatMOVBE,
	isa.FeatCLFLUSHOPT, isa.FeatRDSEED, isa.FeatRDRAND, isa.FeatXSAVE)

// Excluded returns why no case is about a row, or "".
func Excluded(r *isa.Row) string {
	switch {
	case r.Attr&isa.Only64 != 0 || r.Attr&isa.NeedREXW != 0:
		return "64-bit mode only"
	case !features.Has(r.Feature):
		return "not in every model"
	case r.Feature >= isa.FeatMMX && r.Feature != isa.FeatPOPCNT && r.Feature != isa.FeatLAHF && r.Feature != isa.FeatSYSCALL ||
		r.Feature == isa.FeatFPU || strings.HasPrefix(r.Op.String(), "F"):
		return "vector and x87: the oracle has the operation"
	}
	return excluded[r.Op]
}

// generator makes cases from rows.
type generator struct {
	*rand.Rand
	rows []*isa.Row
}

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x1e6ac7))}
	for r := range isa.Rows {
		if Excluded(r) == "" {
			g.rows = append(g.rows, r)
		}
	}
	return g
}

// Generate returns n cases of a seed, and what each is about. Rows come in turn, in one environment after the other, so that
// every row is in every environment if n is large enough.
func Generate(seed uint64, n int) ([]Case, []About) {
	g := newGenerator(seed)
	cases, about := make([]Case, 0, n), make([]About, 0, n)
	for i := 0; len(cases) < n; i++ {
		r := g.rows[i/len(environments)%len(g.rows)]
		e := &environments[i%len(environments)]
		for range 50 {
			if c, a, ok := g.build(e, r); ok {
				cases, about = append(cases, c), append(about, a)
				break
			}
		}
	}
	return cases, about
}

// About says what a case tests.
type About struct {
	Env   string
	Mode  isa.Mode
	Inst  isa.Inst
	Undef isa.Flags
}

func (g *generator) percent(p int) bool { return g.IntN(100) < p }

// value is a register's value: small numbers, ends of sizes, powers of two and anything.
func (g *generator) value() uint32 {
	switch g.IntN(9) {
	case 0:
		return uint32(g.IntN(4))
	case 1:
		return -uint32(g.IntN(4))
	case 2:
		return uint32(g.IntN(256))
	case 3:
		return 1<<g.IntN(32) + uint32(g.IntN(3)) - 1
	case 4:
		return 0x8000 + uint32(g.IntN(5)) - 2 | g.Uint32()<<16
	case 5:
		return g.Uint32() & 0x0f0f0f0f
	case 6:
		return uint32(int32(int16(g.Uint32())))
	}
	return g.Uint32()
}

// offset is a place in a window, mostly.
func (g *generator) offset(wild bool) uint32 {
	switch n := g.IntN(20); {
	case n < 11:
		return windows[1] + 0x20 + uint32(g.IntN(0xc0))
	case n < 14:
		return uint32(g.IntN(0xf0))
	case n < 16:
		return windows[2] + uint32(g.IntN(0xf0))
	case n < 18 && wild:
		return 0x10000 - uint32(g.IntN(9))
	case n < 19 && wild:
		return uint32(0x8040 - 8 + g.IntN(16)) // about limits
	case wild:
		return g.Uint32() | 0x10000000
	}
	return windows[1] + uint32(g.IntN(0xf0))
}

// bases of selectors, as far as cases know them.
func segmentBase(e *environment, sel uint16) uint32 {
	if e.kind == kindVM86 || e.kind == kindReal {
		return uint32(sel) << 4
	}
	table := gdt
	if sel&4 != 0 {
		table = ldt
	}
	if i := int(sel >> 3); i < len(table) {
		return table[i].base
	}
	return 0
}

// flat segments have no base: windows are at their linear addresses.
func flat(base uint32) bool { return base == 0 }

func (g *generator) build(e *environment, r *isa.Row) (c Case, a About, ok bool) {
	seg := e.seg
	if e.odd {
		for _, s := range []uint8{isa.DS, isa.ES, isa.FS, isa.GS} {
			if g.percent(75) {
				seg[s] = oddSegments[g.IntN(len(oddSegments))]
			}
		}
		if g.percent(50) {
			seg[isa.SS] = []uint16{selStackDown1, selStackDown2}[g.IntN(2)]
		}
	}
	c = Case{Kind: e.kind, CS: e.cs, SS: seg[isa.SS], DS: seg[isa.DS], ES: seg[isa.ES], FS: seg[isa.FS], GS: seg[isa.GS]}
	if len(e.paging) > 0 {
		c.Paging = e.paging[g.IntN(len(e.paging))]
	}
	for i := range c.GPR {
		c.GPR[i] = g.value()
	}

	code, length := g.encode(e, r)
	in, err := isa.Decode(code, e.mode, features)
	if err != nil || in.Row != r || int(in.Len) > length {
		return c, a, false
	}
	code = code[:in.Len]
	stackBaseOf := segmentBase(e, c.SS)
	top := uint32(0x8040)
	if !e.ring0 && g.percent(12) {
		top = []uint32{0, 1, 2, 3, 4, 6, 0xfffe, 0xffff, 0x7ffe, 0x10000, g.Uint32() & 0xffff}[g.IntN(11)]
	} else {
		top += 4 * uint32(g.IntN(8))
	}
	if flat(stackBaseOf) {
		top = stackBase + top&0xffff
	}
	wide := e.mode == isa.Mode32 && c.SS != selStack16R3 && c.SS != selStackDown1
	if !wide && c.SS != selStack32R3 && c.SS != selStack32R0 && c.SS != selStackDown2 && e.kind != kindReal && !e.ring0 {
		top |= g.Uint32() << 16 // a 16-bit stack ignores it
	}
	c.GPR[isa.RSP] = top
	if !g.prepare(e, &c, &in, seg, code) {
		return c, a, false
	}

	// Placement: sometimes at the very end of the segment.
	c.EIP = 0x8000 + uint32(g.IntN(0x100))
	base := uint32(codeBase)
	if e.cs == selFlatCode3 {
		c.EIP += codeBase
		base = 0
	} else if g.percent(1) {
		c.EIP = 0x10000 - uint32(1+g.IntN(len(code)+1))
		code = code[:min(len(code), 0x10000-int(c.EIP))]
		// QEMU does not look at the limit: let it end there.
		c.Patches = []Patch{{codeBase + 0x10000, 0xcccccccc}, {codeBase + 0x10004, 0xcccccccc}, {codeBase + 0x10008, 0xcccccccc}, {codeBase + 0x1000c, 0xcccccccc}}
	}
	c.Code, c.CodeAddr = code, base+c.EIP
	c.EFLAGS = g.flags(e, &in)
	return c, About{Env: e.name, Mode: e.mode, Inst: in, Undef: r.Undef}, true
}

func (g *generator) flags(e *environment, in *isa.Inst) uint32 {
	f := g.Uint32()&uint32(isa.FlagsStatus|isa.FlagIF|isa.FlagIOPL|isa.FlagAC|isa.FlagID|isa.FlagNT) | 2
	if g.percent(25) && in.Row.Reads&isa.FlagDF != 0 || g.percent(5) {
		f |= uint32(isa.FlagDF)
	}
	switch in.Op {
	case isa.IRET:
		f &^= uint32(isa.FlagNT)
	case isa.IN, isa.OUT, isa.INS, isa.OUTS:
		f &^= uint32(isa.FlagIOPL) // machines differ in their ports
	}
	if e.kind == kindVM86 {
		f |= uint32(isa.FlagVM)
		if g.percent(80) {
			f |= uint32(isa.FlagIOPL)
		}
	}
	if e.kind == kindReal {
		f &^= uint32(isa.FlagAC) // the exception that ends the case clears it
	}
	return f
}

// encode returns random bytes for a row, and how many of them are meant.
func (g *generator) encode(e *environment, r *isa.Row) ([]byte, int) {
	enc := r.Opcode()
	mem := enc.ModRM && r.Attr&isa.RegOnly == 0 && (r.Attr&isa.MemOnly != 0 || g.percent(60))
	var b []byte
	if !enc.NP && enc.Prefix == 0 && g.percent(35) {
		b = append(b, 0x66)
	}
	addr := e.mode
	if g.percent(35) {
		b = append(b, 0x67)
		addr = isa.Mode16 + isa.Mode32 - e.mode
	}
	if g.percent(25) {
		b = append(b, []byte{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}[g.IntN(6)])
	}
	if mem && r.Attr&isa.Lockable != 0 && g.percent(10) || g.percent(1) {
		b = append(b, 0xf0)
	}
	if r.Attr&(isa.Rep|isa.Repe) != 0 && g.percent(60) {
		b = append(b, 0xf2+byte(g.IntN(2)))
	}
	g.Shuffle(len(b), func(i, k int) { b[i], b[k] = b[k], b[i] })
	if enc.Prefix != 0 {
		b = append(b, enc.Prefix)
	}
	b = append(b, [][]byte{{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}}[enc.Map]...)
	b = append(b, enc.Opcode+byte(g.IntN(int(enc.Count))))
	if enc.ModRM {
		reg, rm := byte(g.IntN(8)), byte(g.IntN(8))
		if enc.Reg >= 0 {
			reg = byte(enc.Reg)
		}
		switch {
		case !mem:
			if enc.RM >= 0 {
				rm = byte(enc.RM)
			}
			b = append(b, 0xc0|reg<<3|rm)
		case addr == isa.Mode16:
			mod := byte(g.IntN(3))
			b = append(b, mod<<6|reg<<3|rm)
			if mod == 1 {
				b = append(b, byte(g.Uint32()))
			} else if mod == 2 || rm == 6 {
				b = append(b, byte(g.Uint32()), byte(g.Uint32()))
			}
		default:
			mod := byte(g.IntN(3))
			if g.percent(25) {
				rm = 4
			}
			b = append(b, mod<<6|reg<<3|rm)
			base := rm
			if rm == 4 {
				sib := byte(g.Uint32())
				base = sib & 7
				b = append(b, sib)
			}
			if mod == 1 {
				b = append(b, byte(g.Uint32()))
			} else if mod == 2 || base == 5 {
				b = binary.LittleEndian.AppendUint32(b, g.value())
			}
		}
	}
	n := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(g.value())<<32|uint64(g.value()))
	return b, min(n+8, 15)
}

// effective is the effective address of the memory operand.
func effective(c *Case, in *isa.Inst) uint32 {
	ea := uint32(in.Disp)
	if in.Base <= isa.RDI {
		ea += c.GPR[in.Base]
	}
	if in.Index <= isa.RDI {
		ea += c.GPR[in.Index] << in.Scale
	}
	if in.AddrSize == 2 {
		ea &= 0xffff
	}
	return ea
}

// prepare gives registers, displacements and memory values with which the instruction does something worth looking at, and
// refuses what would take the monitor down.
func (g *generator) prepare(e *environment, c *Case, in *isa.Inst, seg [6]uint16, code []byte) bool {
	place := func(s uint8) uint32 { // where windows begin in a segment
		b := segmentBase(e, seg[s])
		if s == isa.CS {
			b = segmentBase(e, e.cs)
		}
		if flat(b) && seg[s] != 0 {
			if s == isa.SS {
				return stackBase
			}
			return []uint32{dataBase, extraBase}[g.IntN(2)]
		}
		return 0
	}
	str := false
	hasMem := false
	for i := range in.Args {
		a := &in.Args[i]
		switch a.Kind {
		case isa.KindMem:
			hasMem = true
			if in.Seg == isa.CS && (a.Access&isa.Write != 0 || farOp(in.Op)) && (e.kind == kindReal || e.kind == kindVM86) ||
				in.Seg == isa.CS && (in.Op == isa.JMP_IND || in.Op == isa.CALL_IND || farPointerOp(in.Op)) {
				return false // would overwrite what later cases run into, or go there
			}
		case isa.KindStrSrc:
			str = true
			c.GPR[isa.RSI] = g.stringOffset(in, place(in.Seg))
		case isa.KindStrDst:
			str = true
			c.GPR[isa.RDI] = g.stringOffset(in, place(isa.ES))
		case isa.KindReg:
			if e.ring0 && a.Reg == isa.RSP && a.Access&isa.Write != 0 {
				return false
			}
		}
	}
	if str {
		c.GPR[isa.RCX] = uint32(g.IntN(10))
		if in.AddrSize == 2 {
			c.GPR[isa.RCX] |= g.Uint32() << 16
		}
		if in.Op == isa.INS || in.Op == isa.OUTS {
			if e.ring0 {
				return false
			}
			c.GPR[isa.RDX] = 0x80
		}
	}
	switch in.Op {
	case isa.LOOP, isa.LOOPE, isa.LOOPNE, isa.JCXZ:
		c.GPR[isa.RCX] = []uint32{0, 1, 2, 0x10000, 0x10001, 0xffff0000, 0xffff0001, g.Uint32()}[g.IntN(8)]
	case isa.XLAT:
		want := g.offset(true)
		if base := place(in.Seg); base != 0 {
			want = base + want&0xffff
		}
		c.GPR[isa.RBX] = want - c.GPR[isa.RAX]&0xff
	case isa.LEAVE:
		c.GPR[isa.RBP] = c.GPR[isa.RSP] + uint32(g.IntN(3)*4)
	case isa.ENTER:
		c.GPR[isa.RBP] = c.GPR[isa.RSP] + uint32(g.IntN(8)*4)
		n := len(code)
		if e.ring0 || g.percent(70) {
			code[n-3], code[n-2], code[n-1] = byte(g.IntN(32)), 0, byte(g.IntN(256))
			if e.ring0 {
				code[n-1] &= 7
			}
		}
	case isa.RET, isa.RET_FAR:
		if n := len(code); in.Args[0].Kind == isa.KindImm && (e.ring0 || g.percent(70)) {
			code[n-2], code[n-1] = byte(g.IntN(16))*2, 0
		}
	case isa.IN, isa.OUT:
		if e.ring0 {
			return false
		}
	case isa.INT:
		code[len(code)-1] = []byte{0, 1, 3, 4, 5, 6, 0x20, 0x21, 0x80, 0xff}[g.IntN(10)]
		if !e.ring0 && g.percent(20) {
			code[len(code)-1] = byte(g.IntN(256))
			if e.kind == kindVM86 && code[len(code)-1] < 0x20 {
				return false
			}
		}
	}
	if hasMem && !g.address(e, c, in, seg, code, place) {
		return false
	}
	if !g.target(e, c, in, seg, code) {
		return false
	}
	return true
}

func (g *generator) stringOffset(in *isa.Inst, base uint32) uint32 {
	off := g.offset(true)
	if base != 0 {
		return base + off&0xffff
	}
	if in.AddrSize == 2 {
		off = off&0xffff | g.Uint32()<<16
	} else if off > 0x10010 {
		off = off&0xffff | 0x10000000
	}
	return off
}

// address makes the memory operand point at something.
func (g *generator) address(e *environment, c *Case, in *isa.Inst, seg [6]uint16, code []byte, place func(uint8) uint32) bool {
	base := place(in.Seg)
	want := g.offset(true)
	if base != 0 {
		want = base + want&0xffff
		if in.AddrSize == 2 && g.percent(80) {
			return false // flat segments with 16-bit addresses reach no window
		}
	}
	delta := want - effective(c, in)
	switch {
	case in.Base <= isa.RDI && in.Base != isa.RSP && in.Base != in.Index:
		c.GPR[in.Base] += delta
	case in.Index <= isa.RDI && in.Scale == 0 && in.Index != in.Base:
		c.GPR[in.Index] += delta
	case in.Base == isa.RSP || in.Base <= isa.RDI:
		// As it comes.
	default:
		// Only a displacement: rewrite it, wherever it is.
		old := uint32(in.Disp)
		if in.AddrSize == 2 {
			old &= 0xffff
		}
		if !replace(code, old, want-(effective(c, in)-uint32(in.Disp)), int(in.AddrSize)) {
			return false
		}
		again, err := isa.Decode(code, e.mode, features)
		if err != nil || again.Row != in.Row || again.Len != in.Len {
			return false
		}
		*in = again
	}
	if in.AddrSize == 4 {
		ea := effective(c, in)
		if base == 0 && ea > 0x10010 && ea < 0x10000000 {
			return false // QEMU checks no limits: keep it off the monitor
		}
	}
	// A base of 16 bits leaves the upper half free.
	if in.AddrSize == 2 && in.Base <= isa.RDI && in.Base != isa.RSP && in.Base != isa.RAX {
		c.GPR[in.Base] = c.GPR[in.Base]&0xffff | g.Uint32()<<16
	}
	ea := segmentBase(e, seg[in.Seg]) + effective(c, in)
	if in.Seg == isa.CS || ea < dataBase || ea > extraBase+0x10000-8 {
		return !farOp(in.Op) // which needs a pointer that leads somewhere
	}
	switch in.Op {
	case isa.BOUND:
		r := c.GPR[in.Args[0].Reg]
		lo, hi := r-uint32(g.IntN(3))+1, r+uint32(g.IntN(3))-1
		if in.OpSize == 2 {
			c.Patches = append(c.Patches, Patch{ea, lo&0xffff | hi<<16})
		} else {
			c.Patches = append(c.Patches, Patch{ea, lo}, Patch{ea + 4, hi})
		}
	case isa.LDS, isa.LES, isa.LFS, isa.LGS, isa.LSS:
		g.farPointer(e, c, ea, in.OpSize, g.value(), g.selector(e, in.Op == isa.LSS))
	case isa.CALL_FAR, isa.JMP_FAR:
		g.farPointer(e, c, ea, in.OpSize, 0x9000+uint32(g.IntN(0x1000)), g.codeSelector(e))
	case isa.MOV_TO_SEG, isa.POP_SEG, isa.LAR, isa.LSL, isa.VERR, isa.VERW, isa.ARPL:
		c.Patches = append(c.Patches, Patch{ea, uint32(g.selector(e, in.Args[0].Kind == isa.KindSeg && in.Args[0].Reg == isa.SS)) | g.Uint32()<<16})
	case isa.JMP_IND, isa.CALL_IND:
		c.Patches = append(c.Patches, Patch{ea, g.codeOffset(e)})
	default:
		if g.percent(40) {
			c.Patches = append(c.Patches, Patch{ea, g.value()})
		}
	}
	return true
}

func (g *generator) farPointer(_ *environment, c *Case, la uint32, size uint8, off uint32, sel uint16) {
	if size == 2 {
		c.Patches = append(c.Patches, Patch{la, off&0xffff | uint32(sel)<<16})
		return
	}
	c.Patches = append(c.Patches, Patch{la, off}, Patch{la + 4, uint32(sel)})
}

// selector is any selector of the tables, or past them, for a data or stack segment.
func (g *generator) selector(e *environment, stack bool) uint16 {
	if e.kind == kindReal || e.kind == kindVM86 {
		if stack && e.ring0 {
			return 0x4000
		}
		return uint16(g.Uint32())
	}
	if stack && e.ring0 {
		return []uint16{selStack32R0, selStack16R0, selStack32R3, 0, 0x193, selStack32R0 | 3, selReadOnly, 0xf0}[g.IntN(8)]
	}
	switch g.IntN(8) {
	case 0:
		return uint16(g.IntN(8)<<3 | 4 | g.IntN(4))
	case 1:
		return uint16(g.Uint32())
	}
	return uint16(g.IntN(len(gdt))<<3 | g.IntN(4))
}

// codeSelector is a selector for a far transfer: no task.
func (g *generator) codeSelector(e *environment) uint16 {
	if e.kind == kindReal || e.kind == kindVM86 {
		return 0x2000
	}
	if g.percent(40) {
		return e.cs
	}
	for {
		sel := g.selector(e, false)
		switch sel &^ 7 {
		case 0x08, 0x18, 0x28, 0x30, 0x38: // the monitor's code and tasks
			continue
		}
		if sel>>3 < uint16(len(gdt)) || sel&4 != 0 {
			return sel
		}
	}
}

// codeOffset is where a branch may go: into the INT3s, or out of the segment.
func (g *generator) codeOffset(e *environment) uint32 {
	off := 0x9000 + uint32(g.IntN(0x1000))
	if e.cs == selFlatCode3 {
		off += codeBase
	} else if g.percent(30) {
		off -= codeBase // beyond the limit; QEMU, which does not look, finds INT3s there too
	}
	return off
}

// target makes a branch end in INT3s, and gives returns something to pop.
func (g *generator) target(e *environment, c *Case, in *isa.Inst, seg [6]uint16, code []byte) bool {
	n := len(code)
	stack := segmentBase(e, seg[isa.SS]) + c.GPR[isa.RSP]
	if e.kind != kindLong && e.kind != kindProtected || c.SS == selStack16R0 || c.SS == selStack16R3 || c.SS == selStackDown1 {
		stack = segmentBase(e, seg[isa.SS]) + c.GPR[isa.RSP]&0xffff
	}
	poke := func(values ...uint32) {
		if stack < stackBase || stack+32 > stackBase+0x10000 {
			return
		}
		for i, v := range values {
			if in.OpSize == 2 {
				if i%2 != 0 {
					continue
				}
				v &= 0xffff
				if i+1 < len(values) {
					v |= values[i+1] << 16
				}
				c.Patches = append(c.Patches, Patch{stack + uint32(i)*2, v})
			} else {
				c.Patches = append(c.Patches, Patch{stack + uint32(i)*4, v})
			}
		}
	}
	switch in.Op {
	case isa.JCC, isa.JMP, isa.CALL, isa.LOOP, isa.LOOPE, isa.LOOPNE, isa.JCXZ:
		if in.Args[0].Kind != isa.KindRel {
			break
		}
		if in.OpSize == 2 && e.cs == selFlatCode3 && c.Kind != kindLong && g.percent(70) {
			return false
		}
		// The displacement is the last bytes of the instruction.
		size := int(in.OpSize)
		if op := in.Row.Opcode(); op.Map == 0 && (op.Opcode == 0xeb || op.Opcode < 0x80 || op.Opcode >= 0xe0 && op.Opcode <= 0xe3) {
			size = 1
		}
		d := uint32(32 + g.IntN(90))
		if g.percent(50) {
			d = -uint32(50 + g.IntN(70))
		}
		if size > 1 {
			d = uint32(int32(g.IntN(0x2000)) - 0x1000)
			if int32(d) < 32 && int32(d) > -64 {
				d = 64
			}
			if size == 4 && g.percent(5) && e.cs != selFlatCode3 {
				d -= codeBase // beyond the limit
			}
		}
		for i := range size {
			code[n-size+i] = byte(d >> (8 * i))
		}
	case isa.JMP_IND, isa.CALL_IND:
		if in.Args[0].Kind == isa.KindReg {
			if in.Args[0].Reg == isa.RSP {
				return false
			}
			c.GPR[in.Args[0].Reg] = g.codeOffset(e)
		}
	case isa.CALL_FAR, isa.JMP_FAR:
		if in.Args[0].Kind == isa.KindFar {
			off := 0x9000 + uint32(g.IntN(0x1000))
			if e.cs == selFlatCode3 {
				off += codeBase
			}
			sel := g.codeSelector(e)
			for i := range int(in.OpSize) {
				code[n-2-int(in.OpSize)+i] = byte(off >> (8 * i))
			}
			code[n-2], code[n-1] = byte(sel), byte(sel>>8)
		}
	case isa.RET:
		poke(g.codeOffset(e))
	case isa.RET_FAR:
		off := g.codeOffset(e)
		poke(off, uint32(g.codeSelector(e)), top(c), uint32(g.selector(e, true)))
	case isa.IRET:
		off := g.codeOffset(e)
		poke(off, uint32(g.codeSelector(e)), g.Uint32()&0x247fd5&^uint32(isa.FlagTF|isa.FlagVM)|2, top(c))
	case isa.POP_SEG:
		poke(uint32(g.selector(e, in.Args[0].Reg == isa.SS)))
	case isa.POPF:
		poke(g.Uint32() &^ uint32(isa.FlagTF))
	case isa.MOV_TO_SEG, isa.LAR, isa.LSL, isa.VERR, isa.VERW, isa.ARPL:
		ss := in.Args[0].Kind == isa.KindSeg && in.Args[0].Reg == isa.SS
		for i := range in.Args {
			if in.Args[i].Kind == isa.KindReg && in.Args[i].Reg != isa.RSP {
				c.GPR[in.Args[i].Reg] = uint32(g.selector(e, ss)) | g.Uint32()<<16
			}
		}
	}
	return len(c.Patches) <= maxPatches
}

func top(c *Case) uint32 { return c.GPR[isa.RSP]&0xfffff + 0x20 }

// replace changes the last occurrence of a displacement.
func replace(code []byte, old, v uint32, size int) bool {
	for i := len(code) - size; i > 0; i-- {
		if size == 2 && uint32(binary.LittleEndian.Uint16(code[i:])) == old {
			binary.LittleEndian.PutUint16(code[i:], uint16(v))
			return true
		}
		if size == 4 && binary.LittleEndian.Uint32(code[i:]) == old {
			binary.LittleEndian.PutUint32(code[i:], v)
			return true
		}
	}
	return false
}
