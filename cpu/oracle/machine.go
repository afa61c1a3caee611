package oracle

import (
	"encoding/binary"
	"fmt"

	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Machine runs cases on the emulator: a CPU in 64-bit mode at CPL 3, with paging that maps what the native child maps
// at the same linear addresses. Every case ends in an exception, whose handler is a HLT in ring 0; at endAddress there is a HLT that
// ring 3 may not execute. So what a case ended with is read from an exception frame, as the guest's kernel would.
type Machine struct {
	cpu   *cpu.CPU
	ram   machineRAM
	base  vcpu.State
	code  []byte
	data  []byte
	frame []byte // end of the kernel stack
	tmpl  *Template
	// warm is the RAM of warmScratch.
	warm []byte

	codePA, dataPA uint64
}

// Physical frames of the machine. The order is that of allocation in NewMachine.
const machineFrames = 64

// Linear addresses that only the emulator has.
const (
	kernelBase  = 0xffff_8000_0000_0000
	kernelGDT   = kernelBase
	kernelTSS   = kernelBase + 0x100
	kernelIDT   = kernelBase + 0x200
	kernelHalt  = kernelBase + 0x800 // handler of vector v at kernelHalt + 16*v
	kernelStack = kernelBase + 0x2000

	// warmCode touches the data pages and jumps to a case; warmScratch is what it needs for that.
	warmCode    = 0x6b5a_9000
	warmScratch = 0x6b5a_a000
)

// Selectors, as 64-bit Linux has them: cases may store them.
const (
	selKernelCS = 0x10
	selKernelSS = 0x18
	selUserSS   = 0x2b
	selUserCS   = 0x33
	selTSS      = 0x40
)

type machineRAM []byte

func (m machineRAM) Page(pa uint64) (*[4096]byte, bool) {
	if pa >= uint64(len(m)) {
		return nil, false
	}
	return (*[4096]byte)(m[pa:]), true
}

// builder lays out the machine's memory.
type builder struct {
	ram  machineRAM
	next uint64
	root uint64
}

func (b *builder) frames(n uint64) uint64 {
	pa := b.next
	b.next += n * pageSize
	if b.next > uint64(len(b.ram)) {
		panic("oracle: machine RAM is too small")
	}
	return pa
}

// Bits of page-table entries.
const (
	pteP  = 1 << 0
	pteW  = 1 << 1
	pteU  = 1 << 2
	pteAD = 3 << 5 // accessed and dirty: nothing here tests them
	pteNX = 1 << 63
)

// mapPages maps n pages with the leaf attributes given.
func (b *builder) mapPages(la, pa, n, attr uint64) {
	le := binary.LittleEndian
	for i := range n {
		table := b.root
		at := la + i*pageSize
		for shift := 39; shift > 12; shift -= 9 {
			e := b.ram[table+at>>shift&511*8:]
			if le.Uint64(e) == 0 {
				le.PutUint64(e, b.frames(1)|pteP|pteW|pteU|pteAD)
			}
			table = le.Uint64(e) &^ 0xfff
		}
		le.PutUint64(b.ram[table+at>>12&511*8:], pa+i*pageSize|pteP|pteAD|attr)
	}
}

// NewMachine returns a machine with the memory of a seed. features are those that decode; 0 means all.
func NewMachine(tmpl *Template, features isa.FeatureSet) *Machine {
	if features == 0 {
		features = Features
	}
	b := &builder{ram: make(machineRAM, machineFrames*pageSize)}
	b.frames(1) // physical page 0 stays empty
	b.root = b.frames(1)
	m := &Machine{ram: b.ram}

	kernel := b.frames(2)
	b.mapPages(kernelBase, kernel, 2, pteW)
	m.frame = b.ram[kernel+pageSize:][:pageSize]
	m.codePA = b.frames(2 * codeGroups)
	m.code = b.ram[m.codePA:][:2*codeGroups*pageSize]
	for g := range uint64(codeGroups) {
		b.mapPages(codeBase+g*groupSize, m.codePA+g*2*pageSize, 2, pteU)
	}
	m.dataPA = b.frames(3)
	m.data = b.ram[m.dataPA:][:dataSize]
	m.SetTemplate(tmpl)
	for _, la := range []uint64{dataBase, highBase} {
		b.mapPages(la, m.dataPA, 2, pteU|pteW|pteNX)
		b.mapPages(la+dataSize, m.dataPA+dataSize, 1, pteU|pteNX)
	}
	end := b.frames(1)
	b.mapPages(blobBase, end, 1, pteU)
	for i := range uint64(pageSize) {
		b.ram[end+i] = 0xf4 // HLT
	}
	warm := b.frames(2)
	b.mapPages(warmCode, warm, 1, pteU)
	b.mapPages(warmScratch, warm+pageSize, 1, pteU|pteW|pteNX)
	copy(b.ram[warm:], warmProgram())
	m.warm = b.ram[warm+pageSize:][:pageSize]
	m.tables(b.ram[kernel:])

	m.cpu = cpu.New(cpu.Config{Memory: m.ram, Platform: quietPlatform{}, Features: features})
	m.base = m.userState(b.root)
	return m
}

// SetTemplate chooses what memory holds before a case's patches.
func (m *Machine) SetTemplate(t *Template) {
	m.tmpl = t
	copy(m.ram[m.dataPA+dataSize:], t.ro[:])
}

// tables writes the descriptor tables, the task-state segment and the exception handlers.
func (m *Machine) tables(k []byte) {
	le := binary.LittleEndian
	gdt := func(sel uint16, desc uint64) { le.PutUint64(k[sel&^7:], desc) }
	gdt(selKernelCS, 0x00af9b000000ffff)
	gdt(selKernelSS, 0x00cf93000000ffff)
	gdt(selUserSS, 0x00cff3000000ffff)
	gdt(selUserCS, 0x00affb000000ffff)
	le.PutUint64(k[kernelTSS-kernelBase+4:], kernelStack) // RSP0
	le.PutUint16(k[kernelTSS-kernelBase+102:], 104)       // no I/O bitmap
	for v := range uint64(32) {
		handler := kernelHalt + 16*v
		gate := k[kernelIDT-kernelBase+16*v:]
		le.PutUint16(gate, uint16(handler&0xffff))
		le.PutUint16(gate[2:], selKernelCS)
		gate[5] = 0x8e // present, interrupt gate
		if v == 3 || v == 4 {
			gate[5] |= 3 << 5 // INT3 and INTO may be used by ring 3, as in Linux
		}
		le.PutUint16(gate[6:], uint16(handler>>16&0xffff))
		le.PutUint32(gate[8:], uint32(handler>>32))
		k[handler-kernelBase] = 0xf4
	}
}

// userState is the state that every case begins with, apart from what State holds.
func (m *Machine) userState(root uint64) vcpu.State {
	const (
		data   = vcpu.AttrP | vcpu.AttrS | vcpu.AttrWritable | vcpu.AttrAccessed | vcpu.AttrDB | vcpu.AttrG | 3<<vcpu.AttrDPLShift
		code   = vcpu.AttrP | vcpu.AttrS | vcpu.AttrCode | vcpu.AttrWritable | vcpu.AttrAccessed | vcpu.AttrL | vcpu.AttrG | 3<<vcpu.AttrDPLShift
		cr0    = 0x80050033 // PG, AM, WP, NE, ET, MP, PE
		pae    = 1 << 5
		fxsr   = 1 << 9
		xmmexc = 1 << 10
		fsgs   = 1 << 16
		xsave  = 1 << 18
		efer   = 1<<0 | 1<<8 | 1<<10 | 1<<11 // SCE, LME, LMA, NXE
	)
	s := m.cpu.State()
	s.CR0, s.CR3, s.CR4 = cr0, root, pae|fxsr|xmmexc|fsgs|xsave
	s.MSR.EFER = efer
	s.FPU.XCR0 = 3
	s.GDTR = vcpu.Table{Base: kernelGDT, Limit: 0x4f}
	s.IDTR = vcpu.Table{Base: kernelIDT, Limit: 32*16 - 1}
	s.TR = vcpu.Segment{Selector: selTSS, Base: kernelTSS, Limit: 103, Attr: vcpu.AttrP | 11}
	s.LDTR = vcpu.Segment{}
	s.Seg[isa.CS] = vcpu.Segment{Selector: selUserCS, Limit: 0xffffffff, Attr: code}
	s.Seg[isa.SS] = vcpu.Segment{Selector: selUserSS, Limit: 0xffffffff, Attr: data}
	for _, i := range []uint8{isa.DS, isa.ES, isa.FS, isa.GS} {
		s.Seg[i] = vcpu.Segment{}
	}
	return s
}

// warmProgram reads and writes every data page and jumps to the address at warmScratch+8. It changes no register and no
// flag.
func warmProgram() []byte {
	le := binary.LittleEndian
	p := []byte{0x48, 0x89, 0x04, 0x25} // MOV [warmScratch],RAX
	p = le.AppendUint32(p, warmScratch)
	for _, base := range []uint64{dataBase, highBase} {
		for i := range uint64(3) {
			p = le.AppendUint64(append(p, 0xa0), base+i*pageSize) // MOV AL,[page]
			if i < 2 {
				p = le.AppendUint64(append(p, 0xa2), base+i*pageSize) // MOV [page],AL
			}
		}
	}
	p = le.AppendUint32(append(p, 0x48, 0x8b, 0x04, 0x25), warmScratch)
	return le.AppendUint32(append(p, 0xff, 0x24, 0x25), warmScratch+8) // JMP [warmScratch+8]
}

// caseBudget bounds the instructions of a case; a repeated string instruction runs into an unmapped page well before.
const caseBudget = 40000

// Run executes a case. Data of the outcome stays valid until the next Run.
func (m *Machine) Run(c *Case, out *Outcome) {
	m.load(c)
	m.execute(c, out)
}

// load puts a case's memory in place.
func (m *Machine) load(c *Case) {
	copy(m.data, m.tmpl.data[:])
	for _, p := range c.Patches {
		off := p.Addr - dataBase
		if p.Addr >= highBase {
			off = p.Addr - highBase
		}
		copy(m.data[off:], p.Data)
	}
	copy(m.code[codeOffset(c.Addr):], c.Code)
}

// execute runs a case whose memory is in place.
func (m *Machine) execute(c *Case, out *Outcome) {
	if m.prepare(c, out) {
		m.finish(out)
	}
}

// prepare puts the CPU into the state that a case begins with. It is false if the CPU refuses the state.
func (m *Machine) prepare(c *Case, out *Outcome) bool {
	s := m.base
	s.GPR, s.RIP, s.RFLAGS = c.In.GPR, c.In.RIP, c.In.RFLAGS
	s.Seg[isa.FS].Base, s.Seg[isa.GS].Base = c.In.FSBase, c.In.GSBase
	toFPU(&c.In, &s.FPU)
	if c.Warm {
		s.RIP = warmCode
		binary.LittleEndian.PutUint64(m.warm[8:], c.In.RIP)
	}
	*out = Outcome{Data: m.data}
	if err := m.cpu.SetState(s); err != nil {
		out.Vector, out.Detail = Unsupported, err.Error()
		return false
	}
	return true
}

// finish runs a case that prepare has set up.
func (m *Machine) finish(out *Outcome) {
	exit := m.cpu.Run(m.cpu.Instructions() + caseBudget)
	s := m.cpu.State()
	out.GPR = s.GPR
	out.FSBase, out.GSBase = s.Seg[isa.FS].Base, s.Seg[isa.GS].Base
	fromFPU(&s.FPU, &out.State)
	if exit.Reason != vcpu.ExitHalt {
		out.RIP, out.RFLAGS, out.Vector = s.RIP, s.RFLAGS, Unsupported
		if exit.Reason == vcpu.ExitDeadline {
			out.Vector = Hang
		}
		out.Detail = fmt.Sprintf("%d %s", exit.Reason, exit.Detail)
		return
	}
	le := binary.LittleEndian
	f := m.frame[s.GPR[isa.RSP]-(kernelStack-pageSize):]
	out.Vector = int(s.RIP-1-kernelHalt) / 16
	switch out.Vector {
	case 8, 10, 11, 12, 13, 14, 17, 21:
		out.Code = uint32(le.Uint64(f))
		f = f[8:]
	}
	out.RIP, out.RFLAGS, out.GPR[isa.RSP] = le.Uint64(f), le.Uint64(f[16:]), le.Uint64(f[24:])
	if out.Vector == vectorPF {
		out.Address = s.CR2
	}
	if out.RIP == endAddress && out.Vector == vectorGP {
		out.Vector, out.Code = NoFault, 0
		out.RFLAGS &^= uint64(isa.FlagRF)
	}
}

// toFPU and fromFPU convert between an FXSAVE64 image and the emulator's form.
func toFPU(s *State, f *vcpu.FPU) {
	le := binary.LittleEndian
	p := &s.FX
	f.Control, f.Status = le.Uint16(p[fxControl:]), le.Uint16(p[fxStatus:])
	f.Tag, f.LastOpcode = p[fxTag], le.Uint16(p[fxOpcode:])
	f.LastIP, f.LastDP = le.Uint64(p[fxIP:]), le.Uint64(p[fxDP:])
	f.LastCS, f.LastDS = 0, 0
	f.MXCSR = le.Uint32(p[fxMXCSR:])
	for i := range 8 {
		st := s.st(i)
		f.ST[(s.top()+i)&7] = vcpu.F80{Mant: le.Uint64(st), SE: le.Uint16(st[8:])}
	}
	for i := range f.XMM {
		x := s.xmm(i)
		f.XMM[i] = [2]uint64{le.Uint64(x), le.Uint64(x[8:])}
	}
}

func fromFPU(f *vcpu.FPU, s *State) {
	le := binary.LittleEndian
	p := &s.FX
	le.PutUint16(p[fxControl:], f.Control)
	le.PutUint16(p[fxStatus:], f.Status)
	p[fxTag] = f.Tag
	le.PutUint16(p[fxOpcode:], f.LastOpcode)
	le.PutUint64(p[fxIP:], f.LastIP)
	le.PutUint64(p[fxDP:], f.LastDP)
	le.PutUint32(p[fxMXCSR:], f.MXCSR)
	for i := range 8 {
		r := &f.ST[(s.top()+i)&7]
		le.PutUint64(s.st(i), r.Mant)
		le.PutUint16(s.st(i)[8:], r.SE)
	}
	for i := range f.XMM {
		le.PutUint64(s.xmm(i), f.XMM[i][0])
		le.PutUint64(s.xmm(i)[8:], f.XMM[i][1])
	}
}

// quietPlatform is a platform on which nothing is attached.
type quietPlatform struct{}

func (quietPlatform) ReadMMIO(uint64, int) uint64   { return ^uint64(0) }
func (quietPlatform) WriteMMIO(uint64, int, uint64) {}
func (quietPlatform) ReadPort(uint16, int) uint32   { return ^uint32(0) }
func (quietPlatform) WritePort(uint16, int, uint32) {}
func (quietPlatform) AckInterrupt() uint8           { return 0xff }
func (quietPlatform) TaskPriority() uint8           { return 0 }
func (quietPlatform) SetTaskPriority(uint8)         {}
func (quietPlatform) APICBase() uint64              { return 0 }
func (quietPlatform) SetAPICBase(uint64) bool       { return false }
func (quietPlatform) TSCDeadline() uint64           { return 0 }
func (quietPlatform) SetTSCDeadline(uint64)         {}
func (quietPlatform) TSC() uint64                   { return 0 }
func (quietPlatform) TSCChanged()                   {}
