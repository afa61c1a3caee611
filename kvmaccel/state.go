package kvmaccel

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/vcpu"
)

// gprOrder gives, for each register in encoding order, its place in kvmRegs.
var gprOrder = [16]int{0, 2, 3, 1, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15}

func toRegs(s *vcpu.State) *kvmRegs {
	r := &kvmRegs{RIP: s.RIP, RFLAGS: s.RFLAGS}
	for i, k := range gprOrder {
		r.GPR[k] = s.GPR[i]
	}
	return r
}

func (r *kvmRegs) into(s *vcpu.State) {
	s.RIP, s.RFLAGS = r.RIP, r.RFLAGS
	for i, k := range gprOrder {
		s.GPR[i] = r.GPR[k]
	}
}

func toSegment(s vcpu.Segment) kvmSegment {
	bit := func(n uint) uint8 { return uint8(s.Attr >> n & 1) }
	k := kvmSegment{
		Base: s.Base, Limit: s.Limit, Selector: s.Selector, Type: uint8(s.Attr & vcpu.AttrTypeMask), Present: bit(7),
		DPL: uint8(s.Attr >> vcpu.AttrDPLShift & 3), DB: bit(14), S: bit(4), L: bit(13), G: bit(15), AVL: bit(12),
	}
	k.Unusable = k.Present ^ 1
	return k
}

// segment leaves of an unusable segment its DPL, which is the CPL if the segment is SS.
func (k kvmSegment) segment() vcpu.Segment {
	s := vcpu.Segment{Selector: k.Selector, Base: k.Base, Limit: k.Limit, Attr: uint16(k.DPL&3) << vcpu.AttrDPLShift}
	if k.Unusable == 0 {
		s.Attr |= uint16(k.Type)&vcpu.AttrTypeMask | uint16(k.S&1)<<4 | uint16(k.Present&1)<<7 | uint16(k.AVL&1)<<12 |
			uint16(k.L&1)<<13 | uint16(k.DB&1)<<14 | uint16(k.G&1)<<15
	}
	return s
}

// segments pairs KVM's segment registers with those of the state.
func (k *kvmSregs2) segments(s *vcpu.State) map[*kvmSegment]*vcpu.Segment {
	return map[*kvmSegment]*vcpu.Segment{
		&k.ES: &s.Seg[0], &k.CS: &s.Seg[1], &k.SS: &s.Seg[2], &k.DS: &s.Seg[3], &k.FS: &s.Seg[4], &k.GS: &s.Seg[5],
		&k.LDT: &s.LDTR, &k.TR: &s.TR,
	}
}

// paePaging reports whether the PDPTE registers are in use (SDM vol. 3A, 4.1.1).
func paePaging(s *vcpu.State) bool {
	const pg, pae, lma = 1 << 31, 1 << 5, 1 << 10
	return s.CR0&pg != 0 && s.CR4&pae != 0 && s.MSR.EFER&lma == 0
}

func toSregs(s *vcpu.State, apicBase uint64, cr8 uint8) *kvmSregs2 {
	k := &kvmSregs2{
		GDT: kvmTable{Base: s.GDTR.Base, Limit: s.GDTR.Limit}, IDT: kvmTable{Base: s.IDTR.Base, Limit: s.IDTR.Limit},
		CR0: s.CR0, CR2: s.CR2, CR3: s.CR3, CR4: s.CR4, CR8: uint64(cr8), EFER: s.MSR.EFER, APICBase: apicBase,
	}
	for to, from := range k.segments(s) {
		*to = toSegment(*from)
	}
	if paePaging(s) {
		k.Flags, k.PDPTRs = sregs2PDPTRsValid, s.PDPTE
	}
	return k
}

func (k *kvmSregs2) into(s *vcpu.State) {
	for from, to := range k.segments(s) {
		*to = from.segment()
	}
	s.GDTR, s.IDTR = vcpu.Table{Base: k.GDT.Base, Limit: k.GDT.Limit}, vcpu.Table{Base: k.IDT.Base, Limit: k.IDT.Limit}
	s.CR0, s.CR2, s.CR3, s.CR4, s.MSR.EFER = k.CR0, k.CR2, k.CR3, k.CR4, k.EFER
	if k.Flags&sregs2PDPTRsValid != 0 {
		s.PDPTE = k.PDPTRs
	}
}

// Offsets in the XSAVE area (SDM vol. 1, tables 10-2 and 13-1); its legacy part has the form with 64-bit pointers.
const (
	xsaveST     = 32
	xsaveXMM    = 160
	xsaveHeader = 512
	xsaveX87    = 1 << 0
	xsaveSSE    = 1 << 1
)

// toXSave cannot say LastCS and LastDS: the kernel keeps the 64-bit pointers.
func toXSave(f *vcpu.FPU) *kvmXSave {
	le, x := binary.LittleEndian, new(kvmXSave)
	le.PutUint16(x[0:], f.Control)
	le.PutUint16(x[2:], f.Status)
	x[4] = f.Tag
	le.PutUint16(x[6:], f.LastOpcode)
	le.PutUint64(x[8:], f.LastIP)
	le.PutUint64(x[16:], f.LastDP)
	le.PutUint32(x[24:], f.MXCSR)
	top := int(f.Status >> 11 & 7)
	for i := range 8 { // ST(i)
		r := f.ST[(top+i)&7]
		le.PutUint64(x[xsaveST+16*i:], r.Mant)
		le.PutUint16(x[xsaveST+16*i+8:], r.SE)
	}
	for i, v := range f.XMM {
		le.PutUint64(x[xsaveXMM+16*i:], v[0])
		le.PutUint64(x[xsaveXMM+16*i+8:], v[1])
	}
	le.PutUint64(x[xsaveHeader:], xsaveX87|xsaveSSE)
	return x
}

func (x *kvmXSave) into(f *vcpu.FPU) {
	le := binary.LittleEndian
	f.Control, f.Status, f.Tag = le.Uint16(x[0:]), le.Uint16(x[2:]), x[4]
	f.LastOpcode, f.LastIP, f.LastDP, f.LastCS, f.LastDS = le.Uint16(x[6:]), le.Uint64(x[8:]), le.Uint64(x[16:]), 0, 0
	f.MXCSR = le.Uint32(x[24:])
	top := int(f.Status >> 11 & 7)
	for i := range 8 {
		f.ST[(top+i)&7] = vcpu.F80{Mant: le.Uint64(x[xsaveST+16*i:]), SE: le.Uint16(x[xsaveST+16*i+8:])}
	}
	for i := range f.XMM {
		f.XMM[i] = [2]uint64{le.Uint64(x[xsaveXMM+16*i:]), le.Uint64(x[xsaveXMM+16*i+8:])}
	}
}

// msr is a model-specific register that KVM keeps for the guest. All others are the Model's.
type msr struct {
	index uint32
	field func(*vcpu.MSRs) *uint64
}

const (
	msrTSC       = 0x10
	msrAPICBase  = 0x1b
	msrTSCAdjust = 0x3b
	msrEFER      = 0xc0000080
)

var msrTable = []msr{
	{0x174, func(m *vcpu.MSRs) *uint64 { return &m.SysenterCS }},
	{0x175, func(m *vcpu.MSRs) *uint64 { return &m.SysenterESP }},
	{0x176, func(m *vcpu.MSRs) *uint64 { return &m.SysenterEIP }},
	{0x277, func(m *vcpu.MSRs) *uint64 { return &m.PAT }},
	{0xc0000081, func(m *vcpu.MSRs) *uint64 { return &m.STAR }},
	{0xc0000082, func(m *vcpu.MSRs) *uint64 { return &m.LSTAR }},
	{0xc0000083, func(m *vcpu.MSRs) *uint64 { return &m.CSTAR }},
	{0xc0000084, func(m *vcpu.MSRs) *uint64 { return &m.FMASK }},
	{0xc0000102, func(m *vcpu.MSRs) *uint64 { return &m.KernelGSBase }},
	{0xc0000103, func(m *vcpu.MSRs) *uint64 { return &m.TSCAux }},
}

// direct are the ranges of MSRs that the guest reads and writes without leaving KVM: those of msrTable, EFER and the
// segment bases. The time-stamp counter is only read.
var direct = []struct{ base, n, access uint32 }{
	{msrTSC, 1, filterRead},
	{0x174, 3, filterRead | filterWrite},
	{0x277, 1, filterRead | filterWrite},
	{msrEFER, 5, filterRead | filterWrite},
	{0xc0000100, 4, filterRead | filterWrite},
}

func msrFilter() *kvmMSRFilter {
	f := &kvmMSRFilter{Flags: filterDefaultDeny}
	for i, d := range direct {
		allowed := uint64(1)<<d.n - 1
		f.Range[i] = msrRange{Flags: d.access, N: d.n, Base: d.base, Bitmap: &allowed}
	}
	return f
}

func toMSRs(m *vcpu.MSRs) *kvmMSRs {
	k := &kvmMSRs{N: uint32(len(msrTable))}
	for i, r := range msrTable {
		k.MSR[i] = kvmMSR{Index: r.index}
		if m != nil {
			k.MSR[i].Value = *r.field(m)
		}
	}
	return k
}

func (k *kvmMSRs) into(m *vcpu.MSRs) {
	for i, r := range msrTable {
		*r.field(m) = k.MSR[i].Value
	}
}

func toEvents(s *vcpu.State) *kvmEvents {
	e := &kvmEvents{Flags: eventsNMIPending | eventsShadow}
	if s.NMIPending {
		e.NMIPending = 1
	}
	if s.NMIBlocked {
		e.NMIMasked = 1
	}
	switch {
	case s.MovSSShadow:
		e.Shadow = shadowMovSS
	case s.InterruptShadow:
		e.Shadow = shadowSTI
	}
	return e
}

func (e *kvmEvents) into(s *vcpu.State) {
	s.NMIPending, s.NMIBlocked = e.NMIPending != 0, e.NMIMasked != 0
	s.MovSSShadow = e.Shadow == shadowMovSS // AMD's processors do not tell, and KVM says both then
	s.InterruptShadow = e.Shadow != 0
}

// inFlight reports that an event has been accepted and not yet delivered: the architectural state does not have it.
func (e *kvmEvents) inFlight() bool {
	return e.ExceptionInjected|e.ExceptionPending|e.InterruptInjected|e.NMIInjected != 0
}
