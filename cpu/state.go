package cpu

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/softfloat"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// xcompCompacted is the bit of XCOMP_BV that tells that an area is in compacted form (SDM vol. 1, 13.4.2). The bits of
// XSTATE_BV and of the rest of XCOMP_BV are those of XCR0.
const xcompCompacted uint64 = 1 << 63

// Offsets in the legacy region and the header of the XSAVE area (SDM vol. 1, tables 10-2 and 13-1).
const (
	fxMXCSR     = 24
	fxST        = 32
	fxXMM       = 160
	fxSize      = 512
	xsaveHeader = 512 // XSTATE_BV, XCOMP_BV, 48 bytes of zeros
	xsaveSize   = 576
)

func stateHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.FXSAVE:   fxsave,
		isa.FXRSTOR:  fxrstor,
		isa.XSAVE:    xsave,
		isa.XSAVEOPT: xsave,
		isa.XSAVEC:   xsavec,
		isa.XSAVES:   xsavec,
		isa.XRSTOR:   xrstor,
		isa.XRSTORS:  xrstor,
		isa.LDMXCSR:  ldmxcsr,
		isa.STMXCSR:  stmxcsr,
	}
}

// init87 is what FNINIT does; the registers keep their values.
func (f *fpuState) init87() {
	f.cw, f.sw, f.top, f.full = x87DefaultCW, 0, 0, 0
	f.lastOpcode, f.lastCS, f.lastDS, f.lastIP, f.lastDP = 0, 0, 0, 0, 0
}

// state returns the state in architectural form.
func (f *fpuState) state() vcpu.FPU {
	s := vcpu.FPU{
		Control: f.cw, Status: f.status(), Tag: f.full,
		LastOpcode: f.lastOpcode, LastIP: f.lastIP, LastCS: f.lastCS, LastDP: f.lastDP, LastDS: f.lastDS,
		XMM: f.xmm, MXCSR: f.mxcsr, XCR0: f.xcr0,
	}
	for i, r := range f.st {
		s.ST[i] = vcpu.F80{Mant: r.Mant, SE: r.SE}
	}
	return s
}

// setState replaces the state. Reserved bits are dropped.
func (f *fpuState) setState(s *vcpu.FPU) {
	f.setControl(s.Control)
	f.setStatus(s.Status)
	f.full = s.Tag
	f.lastOpcode, f.lastIP, f.lastCS, f.lastDP, f.lastDS = s.LastOpcode&0x7ff, s.LastIP, s.LastCS, s.LastDP, s.LastDS
	f.xmm, f.mxcsr = s.XMM, s.MXCSR&mxcsrMask
	f.xcr0 = s.XCR0&xcr0Allowed | xcr0X87
	for i, r := range s.ST {
		f.st[i] = softfloat.F80{Mant: r.Mant, SE: r.SE}
	}
	f.summarize()
}

// usedX87 and usedSSE tell whether a component differs from its initial state (XINUSE).
func (f *fpuState) usedX87() bool {
	return f.cw != x87DefaultCW || f.status() != 0 || f.full != 0 || f.lastIP != 0 || f.lastDP != 0 ||
		f.lastOpcode != 0 || f.lastCS != 0 || f.lastDS != 0 || f.st != [8]softfloat.F80{}
}

func (f *fpuState) usedSSE() bool { return f.xmm != [16]vector{} }

// stateArea returns the linear address of the state image that u names, aligned and inside its segment.
func (c *CPU) stateArea(u *uop, size, align uint64, write bool) (la uint64, ok bool) {
	la, ok = c.segment(u.Seg, c.offset(u), size, write)
	if !ok {
		return 0, false
	}
	if la&(align-1) != 0 {
		if align == 16 && c.mmu.mode >= paging4 && !c.canonical(la) {
			return 0, c.notCanonical(la) // perhaps #SS; XSAVE and kin look at the alignment first
		}
		return 0, c.gp(0)
	}
	return la, true
}

// xmmCount is how many XMM registers the running code has.
func (c *CPU) xmmCount() int {
	if c.mode == isa.Mode64 {
		return 16
	}
	return 8
}

// putX87 writes bytes 0-23 and 32-159 of the legacy region; wide is the form with 64-bit pointers (REX.W).
func (f *fpuState) putX87(b []byte, wide bool) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], f.cw)
	le.PutUint16(b[2:], f.status())
	b[4], b[5] = f.full, 0
	le.PutUint16(b[6:], f.lastOpcode)
	if wide {
		le.PutUint64(b[8:], f.lastIP)
		le.PutUint64(b[16:], f.lastDP)
	} else {
		le.PutUint32(b[8:], uint32(f.lastIP))
		le.PutUint32(b[12:], uint32(f.lastCS))
		le.PutUint32(b[16:], uint32(f.lastDP))
		le.PutUint32(b[20:], uint32(f.lastDS))
	}
	for i := range uint8(8) {
		r := f.reg(i)
		p := b[fxST+16*int(i):]
		le.PutUint64(p, r.Mant)
		le.PutUint64(p[8:], uint64(r.SE))
	}
}

func (f *fpuState) getX87(b []byte, wide bool) {
	le := binary.LittleEndian
	f.setControl(le.Uint16(b[0:]))
	f.setStatus(le.Uint16(b[2:]))
	f.full = b[4]
	f.lastOpcode = le.Uint16(b[6:]) & 0x7ff
	if wide {
		f.lastIP, f.lastCS = le.Uint64(b[8:]), 0
		f.lastDP, f.lastDS = le.Uint64(b[16:]), 0
	} else {
		f.lastIP, f.lastCS = uint64(le.Uint32(b[8:])), le.Uint16(b[12:])
		f.lastDP, f.lastDS = uint64(le.Uint32(b[16:])), le.Uint16(b[20:])
	}
	for i := range uint8(8) {
		p := b[fxST+16*int(i):]
		*f.reg(i) = softfloat.F80{Mant: le.Uint64(p), SE: le.Uint16(p[8:])}
	}
	f.summarize()
}

func (f *fpuState) putXMM(b []byte, n int) {
	for i := range n {
		binary.LittleEndian.PutUint64(b[fxXMM+16*i:], f.xmm[i][0])
		binary.LittleEndian.PutUint64(b[fxXMM+16*i+8:], f.xmm[i][1])
	}
}

func (f *fpuState) getXMM(b []byte, n int) {
	for i := range n {
		f.xmm[i][0] = binary.LittleEndian.Uint64(b[fxXMM+16*i:])
		f.xmm[i][1] = binary.LittleEndian.Uint64(b[fxXMM+16*i+8:])
	}
}

func (f *fpuState) putMXCSR(b []byte) {
	binary.LittleEndian.PutUint32(b[fxMXCSR:], f.mxcsr)
	binary.LittleEndian.PutUint32(b[fxMXCSR+4:], mxcsrMask)
}

// fxReady checks that FXSAVE and FXRSTOR may be executed (SDM vol. 2A, FXSAVE).
func (c *CPU) fxReady() bool {
	if c.cr0&(cr0EM|cr0TS) != 0 {
		return c.raise(VectorNM)
	}
	return true
}

func fxsave(c *CPU, u *uop) bool {
	if !c.fxReady() {
		return false
	}
	la, ok := c.stateArea(u, fxSize, 16, true)
	if !ok {
		return false
	}
	// Bytes from 416 on, and those of XMM8-XMM15 outside 64-bit mode, are not written, but must be writable (silicon).
	if !c.probeWriteSlow(la, fxSize) {
		return false
	}
	var b [416]byte
	n := c.xmmCount()
	c.fpu.putX87(b[:], u.Prefix&isa.PrefixREXW != 0)
	c.fpu.putMXCSR(b[:])
	c.fpu.putXMM(b[:], n)
	return c.storeBytes(la, b[:fxXMM+16*n])
}

func fxrstor(c *CPU, u *uop) bool {
	if !c.fxReady() {
		return false
	}
	la, ok := c.stateArea(u, fxSize, 16, false)
	if !ok {
		return false
	}
	var b [fxSize]byte
	if !c.loadBytes(la, b[:]) {
		return false
	}
	mxcsr := binary.LittleEndian.Uint32(b[fxMXCSR:])
	if mxcsr&^mxcsrMask != 0 {
		return c.gp(0)
	}
	c.fpu.mxcsr = mxcsr
	c.fpu.getX87(b[:], u.Prefix&isa.PrefixREXW != 0)
	c.fpu.getXMM(b[:], c.xmmCount())
	return true
}

// xsaveReady checks that the XSAVE instructions may be executed and returns the requested components.
func (c *CPU) xsaveReady(u *uop) (rfbm uint64, ok bool) {
	switch {
	case c.cr4&cr4OSXSAVE == 0:
		return 0, c.raise(VectorUD)
	case c.cr0&cr0TS != 0:
		return 0, c.raise(VectorNM)
	case u.Row.Attr&isa.Privileged != 0 && c.cpl != 0:
		return 0, c.gp(0)
	}
	return c.fpu.xcr0 & (c.r[isa.RDX]<<32 | c.r[isa.RAX]&0xffffffff), true
}

// inUse returns XINUSE. A changed MXCSR makes SSE count as used.
func (f *fpuState) inUse() (x uint64) {
	if f.usedX87() {
		x |= xcr0X87
	}
	if f.usedSSE() || f.mxcsr != mxcsrDefault {
		x |= xcr0SSE
	}
	return x
}

// xsave is XSAVE and XSAVEOPT (SDM vol. 1, 13.7 and 13.8). XSAVEOPT writes only components in use; what was restored
// before is not remembered, so the modified optimization never applies.
func xsave(c *CPU, u *uop) bool {
	rfbm, ok := c.xsaveReady(u)
	if !ok {
		return false
	}
	la, ok := c.stateArea(u, xsaveSize, 64, true)
	if !ok {
		return false
	}
	var b [xsaveSize]byte
	if !c.probeWriteSlow(la, xsaveSize) || !c.loadBytes(la, b[:]) {
		return false
	}
	use := c.fpu.inUse()
	save := rfbm
	if u.Op == isa.XSAVEOPT {
		save &= use
	}
	c.putState(b[:], save, u.Prefix&isa.PrefixREXW != 0)
	if rfbm&xcr0SSE != 0 {
		c.fpu.putMXCSR(b[:])
	}
	bv := binary.LittleEndian.Uint64(b[xsaveHeader:])
	binary.LittleEndian.PutUint64(b[xsaveHeader:], bv&^rfbm|use&rfbm)
	return c.storeBytes(la, b[:xsaveHeader+8])
}

// xsavec is XSAVEC and XSAVES: the compacted form, which for x87 and SSE has the same layout (SDM vol. 1, 13.10 and
// 13.11).
func xsavec(c *CPU, u *uop) bool {
	rfbm, ok := c.xsaveReady(u)
	if !ok {
		return false
	}
	la, ok := c.stateArea(u, xsaveSize, 64, true)
	if !ok {
		return false
	}
	var b [xsaveSize]byte
	if !c.probeWriteSlow(la, xsaveSize) || !c.loadBytes(la, b[:]) {
		return false
	}
	save := rfbm & c.fpu.inUse()
	c.putState(b[:], save, u.Prefix&isa.PrefixREXW != 0)
	if save&xcr0SSE != 0 {
		c.fpu.putMXCSR(b[:])
	}
	binary.LittleEndian.PutUint64(b[xsaveHeader:], save)
	binary.LittleEndian.PutUint64(b[xsaveHeader+8:], rfbm|xcompCompacted)
	return c.storeBytes(la, b[:xsaveHeader+16])
}

func (c *CPU) putState(b []byte, save uint64, wide bool) {
	if save&xcr0X87 != 0 {
		c.fpu.putX87(b, wide)
	}
	if save&xcr0SSE != 0 {
		c.fpu.putXMM(b, c.xmmCount())
	}
}

// xrstor is XRSTOR and XRSTORS, of both forms of the area (SDM vol. 1, 13.9 and 13.12).
func xrstor(c *CPU, u *uop) bool {
	rfbm, ok := c.xsaveReady(u)
	if !ok {
		return false
	}
	la, ok := c.stateArea(u, xsaveSize, 64, false)
	if !ok {
		return false
	}
	var b [xsaveSize]byte
	if !c.loadBytes(la, b[:]) {
		return false
	}
	le := binary.LittleEndian
	bv, comp := le.Uint64(b[xsaveHeader:]), le.Uint64(b[xsaveHeader+8:])
	compacted := comp&xcompCompacted != 0
	bad := bv&^c.fpu.xcr0 != 0
	if compacted {
		bad = bad || !c.feat.Has(isa.FeatXSAVEC) || comp&^xcompCompacted&^c.fpu.xcr0 != 0 || bv&^comp != 0
	} else {
		bad = bad || u.Op == isa.XRSTORS || comp != 0
	}
	reserved := b[xsaveHeader+16:]
	if !compacted {
		reserved = reserved[:8] // what lies behind is not looked at
	}
	for _, x := range reserved {
		bad = bad || x != 0
	}
	// The standard form loads MXCSR whenever SSE is asked for, the compacted one as a part of SSE.
	mxcsr := le.Uint32(b[fxMXCSR:])
	loadMXCSR := rfbm&xcr0SSE != 0 && (!compacted || bv&xcr0SSE != 0)
	if bad || loadMXCSR && mxcsr&^mxcsrMask != 0 {
		return c.gp(0)
	}
	f := &c.fpu
	switch {
	case loadMXCSR:
		f.mxcsr = mxcsr
	case rfbm&xcr0SSE != 0:
		f.mxcsr = mxcsrDefault
	}
	switch {
	case rfbm&bv&xcr0X87 != 0:
		f.getX87(b[:], u.Prefix&isa.PrefixREXW != 0)
	case rfbm&xcr0X87 != 0:
		f.init87()
		f.st = [8]softfloat.F80{}
	}
	switch n := c.xmmCount(); {
	case rfbm&bv&xcr0SSE != 0:
		f.getXMM(b[:], n)
	case rfbm&xcr0SSE != 0:
		clear(f.xmm[:n])
	}
	return true
}

func ldmxcsr(c *CPU, u *uop) bool {
	if !c.sseReady() {
		return false
	}
	v, ok := c.vectorArg(u, 0)
	if !ok {
		return false
	}
	if v[0]&^mxcsrMask != 0 {
		return c.gp(0)
	}
	c.fpu.mxcsr = uint32(v[0])
	return true
}

func stmxcsr(c *CPU, u *uop) bool {
	return c.sseReady() && c.setVectorArg(u, 0, vector{uint64(c.fpu.mxcsr)})
}
