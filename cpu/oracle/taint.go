package oracle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"strings"

	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/taint"
)

// The taint property: an output byte that the engine calls clean owes nothing to a tainted input byte. So if the tainted
// input bytes of a case are changed and it is run again, natively, a byte that comes out different must be one that the
// engine called tainted. This knows nothing of the rules.
//
// What the property does not hold for by design, and is left out:
//   - Addresses: a value that is loaded through a tainted address is not tainted by it (package taint: pointers are
//     the observer's business). Registers that make an address are kept clean, and cases in which one becomes
//     tainted on the way are passed over.
//   - Control flow: what a branch or the count of a repeated instruction decides. Their conditions are kept clean.
//   - Cases that raise an exception, with the one value or the other, or leave an x87 exception pending.
//   - RSP, which the exception that ends a case replaces.
//   - MXCSR, the x87 status word except for C0, C2 and C3, tags, control word and last pointers: they have no taint. State
//     images begin with clean control bytes for the same reason, and cases that store these words after other
//     instructions are passed over, but for FNSTSW at the end, of which AH is looked at.
//   - What the stack pointer leads to after an instruction has put a tainted value into it: the observer is not told.
//   - System flags and DF, which POPF and IRET load: they have no taint. What comes after may depend on them (DF is the direction
//     of string instructions), so such cases are passed over unless POPF or IRET is the last instruction.
//   - Single arithmetic flags: they have one taint together, as in taint.Registers.

// TaintCampaign checks the property for generated cases.
type TaintCampaign struct {
	Seed   uint64
	First  uint64
	Cases  uint64
	Filter *regexp.Regexp
	// Failed is told of each violation; if it returns false the campaign ends.
	Failed func(*TaintFailure) bool
}

// TaintFailure is a case in which a byte that the engine calls clean depends on a tainted one.
type TaintFailure struct {
	N      uint64
	Case   *Case
	Marks  string // what was tainted
	Fields string // what differed though it was called clean
}

func (f *TaintFailure) String() string {
	return fmt.Sprintf("%x | %s | tainted: %s | not tainted but different: %s", f.Case.body(), f.Case.Disassembly(), f.Marks, f.Fields)
}

// TaintResult is what a taint campaign did.
type TaintResult struct {
	Cases    uint64
	Compared uint64 // cases that the property could be checked on
	Failures uint64
	Coverage *Coverage // of compared cases
}

// variants of a case that run natively: as it is, and with two changes of the tainted bytes.
const variants = 3

// Run executes the campaign.
func (p *TaintCampaign) Run() (*TaintResult, error) {
	m := newMenu(p.Filter)
	if len(m.all) == 0 {
		return nil, errors.New("oracle: no instruction matches")
	}
	w := &taintWorker{gen: newGenerator(p.Seed, m), tmpl: NewTemplate(p.Seed)}
	var err error
	if w.native, err = StartNative(w.tmpl); err != nil {
		return nil, err
	}
	defer func() { w.native.Close() }()
	w.machine = NewMachine(w.tmpl, 0)
	w.machine.cpu.EnableTaint(&cpu.TaintOptions{Observer: w})
	r := &TaintResult{Coverage: newCoverage()}
	const batch = batchSize / variants
	var cases [batch]taintCase
	for at := p.First; at < p.First+p.Cases; at += batch {
		count := int(min(batch, p.First+p.Cases-at))
		for i := range count {
			w.make(at+uint64(i), &cases[i], i*variants)
		}
		for i := 0; i < count*variants; {
			stopped, err := w.native.Run(i, count*variants)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrChild) {
				return r, err
			}
			cases[stopped/variants].dead = true
			w.native.Close()
			if w.native, err = StartNative(w.tmpl); err != nil {
				return r, err
			}
			for k := range count {
				w.make(at+uint64(k), &cases[k], k*variants)
			}
			cases[stopped/variants].dead = true
			i = (stopped/variants + 1) * variants
		}
		for i := range count {
			r.Cases++
			t := &cases[i]
			if t.dead || !w.judge(t, i*variants) {
				continue
			}
			for again := 0; w.fields != "" && again < 3; again++ { // see worker.judge
				if _, err := w.native.Run(i*variants, (i+1)*variants); err != nil {
					return r, err
				}
				w.judge(t, i*variants)
			}
			r.Compared++
			r.Coverage.count(&t.Case, &w.outs[0])
			if fields := w.fields; fields != "" {
				r.Failures++
				if p.Failed != nil && !p.Failed(&TaintFailure{N: at + uint64(i), Case: t.Case.clone(), Marks: t.marks.String(), Fields: fields}) {
					return r, nil
				}
			}
		}
	}
	return r, nil
}

// marks are the tainted inputs of a case.
type marks struct {
	gpr   [16]taint.Mask
	xmm   [16]taint.Mask
	st    [8]taint.Mask // in stack order
	flags bool
	// mem are tainted ranges of the data pages: offset and mask.
	mem []memMark
}

type memMark struct {
	off  int
	size int
	m    taint.Mask
}

// String names the marks: register:mask, place:mask.
func (m *marks) String() string {
	var list []string
	for i, v := range m.gpr {
		if v != 0 {
			list = append(list, fmt.Sprintf("%s:%#x", gprNames[i], v))
		}
	}
	for i, v := range m.xmm {
		if v != 0 {
			list = append(list, fmt.Sprintf("xmm%d:%#x", i, v))
		}
	}
	for i, v := range m.st {
		if v != 0 {
			list = append(list, fmt.Sprintf("st%d:%#x", i, v))
		}
	}
	if m.flags {
		list = append(list, "flags")
	}
	for _, r := range m.mem {
		list = append(list, fmt.Sprintf("%s:%#x", place(uint64(dataBase+r.off)), r.m))
	}
	return strings.Join(list, " ")
}

// none reports that nothing is tainted.
func (m *marks) none() bool {
	return m.gpr == [16]taint.Mask{} && m.xmm == [16]taint.Mask{} && m.st == [8]taint.Mask{} && !m.flags && len(m.mem) == 0
}

// taintCase is a case with its marks.
type taintCase struct {
	Case
	marks marks
	dead  bool
}

type taintWorker struct {
	gen     *generator
	tmpl    *Template
	native  *Native
	machine *Machine
	outs    [variants]Outcome
	emu     Outcome
	variant Case
	// address is set when an instruction uses a tainted address.
	address bool
	fields  string
}

// TaintedAddress implements cpu.TaintObserver.
func (w *taintWorker) TaintedAddress(cpu.TaintedAccess) { w.address = true }

// make makes case n, marks inputs, and loads its variants into the child from record at.
func (w *taintWorker) make(n uint64, t *taintCase, at int) {
	g := w.gen
	g.Make(n, &t.Case)
	t.Warm = false
	t.dead = false
	w.mark(t)
	w.native.Load(at, &t.Case)
	for v := 1; v < variants; v++ {
		w.change(t, v)
		w.native.Load(at+v, &w.variant)
	}
}

// clean returns the general registers that must stay clean since they make addresses or decide what is executed, and
// whether the flags must.
func (c *Case) clean() (regs uint32, flags bool) {
	regs = 1 << isa.RSP
	for i := range c.Insts {
		in := &c.Insts[i].Inst
		for k := range in.Args {
			switch o := &in.Args[k]; o.Kind {
			case isa.KindMem:
				if o.Access != 0 {
					regs |= 1<<in.Base | 1<<in.Index
				}
			case isa.KindStrSrc:
				regs |= 1 << isa.RSI
			case isa.KindStrDst:
				regs |= 1 << isa.RDI
			}
		}
		if in.Prefix&(isa.PrefixRep|isa.PrefixRepne) != 0 && in.Row.Attr&(isa.Rep|isa.Repe) != 0 {
			regs |= 1 << isa.RCX
		}
		switch in.Op {
		case isa.ENTER, isa.LEAVE:
			regs |= 1 << isa.RBP
		case isa.XLAT:
			regs |= 1 << isa.RAX
		case isa.XSAVE, isa.XSAVEC, isa.XRSTOR:
			regs |= 1<<isa.RAX | 1<<isa.RDX
		case isa.BT, isa.BTS, isa.BTR, isa.BTC:
			if in.Args[0].Kind == isa.KindMem && in.Args[1].Kind == isa.KindReg {
				regs |= 1 << in.Args[1].Reg
			}
		case isa.JMP_IND, isa.CALL_IND:
			regs |= 1 << in.Args[0].Reg
		case isa.LOOP, isa.JCXZ:
			regs |= 1 << isa.RCX
		case isa.LOOPE, isa.LOOPNE:
			regs |= 1 << isa.RCX
			flags = true
		case isa.JCC:
			flags = true
		}
	}
	return regs, flags
}

// mark chooses the tainted inputs of a case.
func (w *taintWorker) mark(t *taintCase) {
	g := w.gen
	mask := func(size int) taint.Mask {
		switch g.n(4) {
		case 0:
			return 1 << g.n(size)
		case 1:
			return taint.Mask(g.next()).Cut(size)
		}
		return taint.All(size)
	}
	m := &t.marks
	*m = marks{mem: m.mem[:0]}
	clean, cleanFlags := t.clean()
	var gpr, xmm, st uint32
	x87, images := false, false
	for i := range t.Insts {
		in := &t.Insts[i].Inst
		for k := range in.Args {
			switch o := &in.Args[k]; o.Kind {
			case isa.KindReg, isa.KindHigh:
				gpr |= 1 << o.Reg
			case isa.KindXMM:
				xmm |= 1 << o.Reg
			case isa.KindMMX:
				st |= 1 << ((int(o.Reg) - t.In.top()) & 7)
			case isa.KindST:
				st |= 1 << o.Reg
			}
		}
		for k := range in.Row.Implicit {
			if o := in.Implicit(k); o.Kind == isa.KindReg || o.Kind == isa.KindHigh {
				gpr |= 1 << o.Reg
			}
		}
		x87 = x87 || in.Row.Feature == isa.FeatFPU
		switch in.Op {
		case isa.FXRSTOR, isa.XRSTOR, isa.FRSTOR, isa.FLDENV, isa.LDMXCSR, isa.FLDCW:
			images = true
		}
		if in.Base < 16 && in.Op == isa.LEA {
			gpr |= 1 << in.Base
		}
		if in.Index < 16 && in.Op == isa.LEA {
			gpr |= 1 << in.Index
		}
	}
	for i := range 16 {
		if (clean>>i&1 == 0) && (gpr>>i&1 != 0 && g.percent(60) || g.oneIn(16)) {
			m.gpr[i] = mask(8)
		}
		if xmm>>i&1 != 0 && g.percent(60) || g.oneIn(20) {
			m.xmm[i] = mask(16)
		}
	}
	for i := range 8 {
		if st>>i&1 != 0 && g.percent(60) || x87 && g.oneIn(4) {
			m.st[i] = mask(10)
		}
	}
	m.flags = !cleanFlags && g.oneIn(4)
	for _, p := range t.Patches {
		off := int((p.Addr - dataBase) % (highBase - dataBase))
		if images || g.percent(30) || off < 0 || off+len(p.Data) > dataSize {
			continue
		}
		for at := 0; at < len(p.Data); at += 16 {
			size := min(16, len(p.Data)-at)
			m.mem = append(m.mem, memMark{off + at, size, mask(size)})
		}
	}
	// Whether a branch is taken may depend on anything that comes before it.
	for i := range t.Insts {
		switch t.Insts[i].Op {
		case isa.JCC, isa.LOOP, isa.LOOPE, isa.LOOPNE, isa.JCXZ:
			if i > 0 {
				*m = marks{}
			}
		}
	}
	// Words without taint must not become data, nor RSP an address.
	for i := range t.Insts {
		in := &t.Insts[i]
		last := i == len(t.Insts)-1
		switch in.Op {
		case isa.FNSTSW:
			if i > 0 && (!last || in.Args[0].Kind != isa.KindReg) {
				*m = marks{}
			}
		case isa.FXSAVE, isa.XSAVE, isa.XSAVEC, isa.FNSAVE, isa.FNSTENV, isa.STMXCSR, isa.PUSHF:
			if i > 0 {
				*m = marks{}
			}
		case isa.POPF, isa.IRET: // DF
			if !last {
				*m = marks{}
			}
		case isa.BT, isa.BTS, isa.BTR, isa.BTC: // the bit number is part of the address
			if i > 0 && in.Args[0].Kind == isa.KindMem && in.Args[1].Kind == isa.KindReg {
				*m = marks{}
			}
		}
		if i > 0 && in.Prefix&(isa.PrefixRep|isa.PrefixRepne) != 0 && in.Row.Attr&(isa.Rep|isa.Repe) != 0 {
			*m = marks{} // the count may come from an instruction before
		}
		if !last && in.Row.Attr&isa.Repe != 0 {
			*m = marks{} // where it ends depends on the data
		}
		for _, o := range in.Args {
			if o.Kind == isa.KindReg && o.Reg == isa.RSP && o.Access&isa.Write != 0 && !last {
				*m = marks{}
			}
		}
	}
	// Branches and returns take their target from memory.
	for i := range t.Insts {
		switch t.Insts[i].Op {
		case isa.RET, isa.JMP_IND, isa.CALL_IND, isa.RET_FAR, isa.IRET, isa.JMP_FAR, isa.CALL_FAR:
			m.mem = m.mem[:0]
		}
	}
}

// change makes a variant of a case: the tainted bytes become others.
func (w *taintWorker) change(t *taintCase, v int) {
	g := w.gen
	c := &w.variant
	c.Addr, c.Code, c.Insts, c.In = t.Addr, t.Code, t.Insts, t.In
	c.Patches = c.Patches[:0]
	used := 0
	for _, p := range t.Patches {
		data := c.buffer[used:][:len(p.Data)]
		copy(data, p.Data)
		used += (len(data) + 7) &^ 7
		c.Patches = append(c.Patches, Patch{p.Addr, data})
	}
	bit := g.oneIn(2) && v > 1
	alter := func(p []byte, m taint.Mask) {
		for m != 0 {
			i := bits.TrailingZeros64(uint64(m))
			m &= m - 1
			if bit {
				p[i] ^= 1 << g.n(8)
			} else {
				p[i] = byte(g.next())
			}
		}
	}
	le := binary.LittleEndian
	var word [8]byte
	for i, m := range t.marks.gpr {
		if m != 0 {
			le.PutUint64(word[:], c.In.GPR[i])
			alter(word[:], m)
			c.In.GPR[i] = le.Uint64(word[:])
		}
	}
	for i, m := range t.marks.xmm {
		alter(c.In.xmm(i), m)
	}
	for i, m := range t.marks.st {
		alter(c.In.st(i), m)
	}
	if t.marks.flags {
		c.In.RFLAGS ^= g.next() & uint64(isa.FlagsStatus)
	}
	for _, r := range t.marks.mem {
		for k := range c.Patches {
			p := &c.Patches[k]
			off := r.off - int((p.Addr-dataBase)%(highBase-dataBase))
			if off >= 0 && off+r.size <= len(p.Data) {
				alter(p.Data[off:], r.m)
				break
			}
		}
	}
}

// judge runs the case with taint in the emulator and compares the host's outcomes. It is false if the property says
// nothing about the case; else w.fields has the violations.
func (w *taintWorker) judge(t *taintCase, at int) bool {
	for v := range variants {
		w.native.Outcome(at+v, &w.outs[v])
	}
	if w.outs[0].Vector != NoFault || t.marks.none() {
		return false
	}
	m := w.machine
	w.address = false
	m.load(&t.Case)
	shadow := m.cpu.Shadow()
	shadow.Clear(0, uint64(len(m.ram)))
	if !m.prepare(&t.Case, &w.emu) {
		return false
	}
	regs := m.cpu.RegisterTaint()
	*regs = taint.Registers{}
	copy(regs.GPR[:], t.marks.gpr[:])
	regs.XMM = t.marks.xmm
	top := t.In.top()
	for i, mask := range t.marks.st {
		regs.ST[(top+i)&7] = mask
	}
	if t.marks.flags {
		regs.Flags = 1
	}
	for _, r := range t.marks.mem {
		shadow.Set(m.dataPA+uint64(r.off), r.size, r.m)
	}
	m.finish(&w.emu)
	if w.emu.Vector != NoFault || w.address {
		return false
	}
	w.fields = ""
	var list []string
	a := &w.outs[0]
	undef := t.undefinedFlags(a)
	compared := false
	const conditions = 0x4500 // C3, C2, C0
	for v := 1; v < variants; v++ {
		b := &w.outs[v]
		// TOP and ES: an unmasked exception of the one and not of the other has stopped an x87 instruction.
		if b.Vector != NoFault || (a.FX[fxStatus+1]^b.FX[fxStatus+1])&0x38 != 0 || (a.FX[fxStatus]^b.FX[fxStatus])&0x80 != 0 {
			continue
		}
		compared = true
		add := func(name string, diff, tainted taint.Mask) {
			if bad := diff &^ tainted; bad != 0 {
				list = append(list, fmt.Sprintf("%s:%#x", name, bad))
			}
		}
		for i := range 16 {
			diff := differentBytes(a.GPR[i] ^ b.GPR[i])
			if i == int(isa.RAX) && len(t.Insts) > 1 && t.Insts[len(t.Insts)-1].Op == isa.FNSTSW {
				diff &^= 1 // exception flags
				if (a.GPR[i]^b.GPR[i])&conditions == 0 {
					diff &^= 2 // C1, or TOP
				}
			}
			if i != int(isa.RSP) {
				add(gprNames[i], diff, regs.GPR[i])
			}
			add(fmt.Sprintf("xmm%d", i), differing(a.xmm(i), b.xmm(i)), regs.XMM[i])
		}
		for i := range 8 {
			add(fmt.Sprintf("st%d", i), differing(a.st(i), b.st(i)), regs.ST[(a.top()+i)&7])
		}
		if diff := (a.RFLAGS ^ b.RFLAGS) & uint64(isa.FlagsStatus&^undef); diff != 0 {
			add("flags", 1, regs.Flags)
		}
		if (binary.LittleEndian.Uint16(a.FX[fxStatus:])^binary.LittleEndian.Uint16(b.FX[fxStatus:]))&conditions != 0 {
			add("fpustatus", 1, regs.FPUStatus)
		}
		for off := range dataSize {
			if a.Data[off] != b.Data[off] && shadow.Get(m.dataPA+uint64(off), 1) == 0 {
				list = append(list, place(uint64(dataBase+off)))
			}
		}
		if len(list) > 0 {
			break
		}
	}
	w.fields = strings.Join(list, " ")
	return compared
}

// differentBytes turns a difference of numbers into the mask of the bytes that differ.
func differentBytes(x uint64) (m taint.Mask) {
	for i := range 8 {
		if x>>(8*i)&0xff != 0 {
			m |= 1 << i
		}
	}
	return m
}

func differing(a, b []byte) (m taint.Mask) {
	for i := range a {
		if a[i] != b[i] {
			m |= 1 << i
		}
	}
	return m
}
