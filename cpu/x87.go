package cpu

import (
	"math/bits"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/softfloat"
)

// The x87 (SDM vol. 1, chapter 8). Registers are kept by physical number; an instruction that raises an unmasked
// exception completes here by setting ES, and the next waiting instruction reports it (8.7). Only CR0.NE = 1 reports
// it, as #MF; with NE = 0 a PC raises IRQ 13 from FERR#, which this machine does not wire, so execution goes on.
//
// FCS and FDS are kept though new processors store zeros there, and the last opcode is kept only for an instruction
// with an unmasked exception (8.1.9.1).

// The control word's default and the bits of the status word (SDM vol. 1, 8.1.3 and 8.1.5).
const (
	x87DefaultCW uint16 = 0x037f

	x87Flags uint16 = 0x3f
	x87SF    uint16 = 1 << 6 // stack fault
	x87ES    uint16 = 1 << 7 // an unmasked exception is pending
	x87C0    uint16 = 1 << 8
	x87C1    uint16 = 1 << 9
	x87C2    uint16 = 1 << 10
	x87C3    uint16 = 1 << 14
	x87B     uint16 = 1 << 15 // follows ES
	x87CC    uint16 = x87C0 | x87C1 | x87C2 | x87C3

	x87TopShift        = 11
	x87TopMask  uint16 = 7 << x87TopShift
)

// reg is ST(i).
func (f *fpuState) reg(i uint8) *softfloat.F80 { return &f.st[(f.top+i)&7] }

func (f *fpuState) empty(i uint8) bool { return f.full>>((f.top+i)&7)&1 == 0 }

// set writes ST(i), which is full from then on.
func (f *fpuState) set(i uint8, v softfloat.F80) {
	n := (f.top + i) & 7
	f.st[n] = v
	f.full |= 1 << n
}

func (f *fpuState) push(v softfloat.F80) {
	f.top = (f.top - 1) & 7
	f.set(0, v)
}

func (f *fpuState) pop() {
	f.full &^= 1 << f.top
	f.top = (f.top + 1) & 7
}

// status is the status word with TOP.
func (f *fpuState) status() uint16 { return f.sw | uint16(f.top)<<x87TopShift }

func (f *fpuState) setStatus(sw uint16) {
	f.sw = sw &^ x87TopMask
	f.top = uint8(sw >> x87TopShift & 7)
}

// setControl writes the control word: bit 6 reads as 1, bits 7 and 13-15 as 0.
func (f *fpuState) setControl(cw uint16) { f.cw = cw&0x1f3f | 0x40 }

// summarize sets ES and B to whether a flagged exception is unmasked.
func (f *fpuState) summarize() {
	f.sw &^= x87ES | x87B
	if f.sw&^f.cw&x87Flags != 0 {
		f.sw |= x87ES | x87B
	}
}

// x87NonePending reports a pending unmasked exception, if CR0.NE says so.
func (c *CPU) x87NonePending() bool {
	if c.fpu.sw&x87ES != 0 && c.cr0&cr0NE != 0 {
		return c.raise(VectorMF)
	}
	return true
}

// x87Available checks that an x87 instruction may be executed (SDM vol. 3A, table 2-2).
func (c *CPU) x87Available() bool {
	if c.cr0&(cr0EM|cr0TS) != 0 {
		return c.raise(VectorNM)
	}
	return true
}

// x87Ready is x87Available for waiting instructions.
func (c *CPU) x87Ready() bool {
	if c.cr0&(cr0EM|cr0TS) == 0 && c.fpu.sw&x87ES == 0 {
		return true
	}
	return c.x87Available() && c.x87NonePending()
}

// x87Op is the work of one x87 instruction after the checks. It returns false if a memory operand stopped it.
type x87Op func(c *CPU, u *uop) bool

// x87 makes a handler of a waiting instruction that is recorded as the last one.
func x87(op x87Op) handler {
	return func(c *CPU, u *uop) bool {
		if !c.x87Ready() {
			return false
		}
		if !op(c, u) {
			return false
		}
		c.x87Record(u)
		return true
	}
}

// x87Record notes pointers to the instruction and its memory operand (SDM vol. 1, 8.1.8).
func (c *CPU) x87Record(u *uop) {
	f := &c.fpu
	f.lastIP, f.lastCS = c.start(u), c.seg[isa.CS].Selector
	if u.Args[0].Kind == isa.KindMem || u.Args[1].Kind == isa.KindMem {
		f.lastDP, f.lastDS = c.offset(u), c.seg[u.Seg].Selector
	}
	if f.sw&x87ES != 0 {
		f.lastOpcode = c.x87Opcode(u)
	}
}

// x87Opcode fetches the opcode of u: the low three bits of its first byte after the prefixes, and ModRM.
func (c *CPU) x87Opcode(u *uop) uint16 {
	ip := c.start(u)
	if c.mode != isa.Mode64 {
		ip += c.seg[isa.CS].Base
	}
	last := uint8(0)
	for i := range u.Len {
		la := c.wrapLinear(ip + uint64(i))
		pa, ok := c.translate(la, accessFetch)
		if !ok {
			c.stop = stopNone
			return 0
		}
		page, _ := c.mem.Page(pa &^ pageMask)
		if page == nil {
			return 0
		}
		b := page[pa&pageMask]
		if last != 0 {
			return uint16(last&7)<<8 | uint16(b)
		}
		if b&0xf8 == 0xd8 {
			last = b
		}
	}
	return 0
}

// x87Env returns the environment that the control word asks for, with no flags, and clears C1.
func (c *CPU) x87Env() *softfloat.Env {
	cw := c.fpu.cw
	c.fpu.envFor = 0
	c.sfEnv = softfloat.Env{
		Rounding:  softfloat.Rounding(cw >> 10 & 3),
		Masks:     softfloat.Flags(cw) & softfloat.AllFlags,
		Precision: x87Precision[cw>>8&3],
	}
	c.fpu.sw &^= x87C1
	return &c.sfEnv
}

var x87Precision = [4]uint8{24, 0, 53, 64}

// x87Raised enters what the operation raised into the status word and C1, and reports whether its result is to be
// written: not if an exception that is found before computing is unmasked, nor, for a result that goes to memory, if
// overflow or underflow is.
func (c *CPU) x87Raised(toMemory bool) (write bool) {
	e, f := &c.sfEnv, &c.fpu
	if e.Flags == 0 {
		return true
	}
	stop := softfloat.Invalid | softfloat.Denormal | softfloat.DivByZero
	if toMemory {
		stop |= softfloat.Overflow | softfloat.Underflow
	}
	write = e.Flags&^e.Masks&stop == 0
	flags := e.Flags
	if !write && toMemory {
		flags &^= softfloat.Inexact
	}
	f.sw |= uint16(flags)
	if e.RoundedUp && flags&softfloat.Inexact != 0 {
		f.sw |= x87C1
	}
	f.summarize()
	return write
}

// underflow is a stack underflow; overflow is one of the other kind. They report whether the masked response is due.
func (f *fpuState) underflow() bool {
	f.sw = f.sw&^x87C1 | x87SF | uint16(softfloat.Invalid)
	f.summarize()
	return f.cw&uint16(softfloat.Invalid) != 0
}

func (f *fpuState) overflow() bool {
	f.sw |= x87C1 | x87SF | uint16(softfloat.Invalid)
	f.summarize()
	return f.cw&uint16(softfloat.Invalid) != 0
}

// x87Operand is a source operand, widened to 80 bits. A denormal in memory becomes a normal number when it is widened,
// so that it was one must be told to the operation.
type x87Operand struct {
	v        softfloat.F80
	denormal bool
}

// x87Source reads operand i of u: a register (empty tells if it is empty) or a number in memory, by its kind.
func (c *CPU) x87Source(u *uop, i int, integer bool) (x x87Operand, empty, ok bool) {
	a := &u.Args[i]
	if a.Kind == isa.KindST {
		return x87Operand{v: *c.fpu.reg(a.Reg)}, c.fpu.empty(a.Reg), true
	}
	x, ok = c.x87Load(u, i, integer)
	return x, false, ok
}

func (c *CPU) x87Load(u *uop, i int, integer bool) (x x87Operand, ok bool) {
	a := &u.Args[i]
	la, ok := c.address(u, a.Size, false)
	if !ok {
		return x, false
	}
	if a.Size == 10 {
		x.v, ok = c.loadF80(la)
		return x, ok
	}
	v, ok := c.load(la, a.Size)
	if !ok {
		return x, false
	}
	switch {
	case integer:
		x.v = c.sfEnv.I64ToF80(sext(v, a.Size))
	case a.Size == 8:
		x = widen64(v)
	default:
		x = widen32(uint32(v))
	}
	return x, true
}

// widen64 and widen32 widen without raising anything and without quieting a NaN.
func widen64(v uint64) x87Operand {
	sign := uint16(v >> 63 << 15)
	switch e := uint16(v >> 52 & 0x7ff); {
	case e == 0x7ff:
		return x87Operand{v: softfloat.F80{Mant: v<<11 | 1<<63, SE: sign | 0x7fff}}
	case e != 0:
		return x87Operand{v: softfloat.F80{Mant: v<<11 | 1<<63, SE: sign | e + 16383 - 1023}}
	case v<<1 == 0:
		return x87Operand{v: softfloat.F80{SE: sign}}
	}
	n := uint(bits.LeadingZeros64(v << 11))
	return x87Operand{softfloat.F80{Mant: v << 11 << n, SE: sign | uint16(16383-1022-n)}, true}
}

func widen32(v uint32) x87Operand {
	sign := uint16(v >> 31 << 15)
	switch e := uint16(v >> 23 & 0xff); {
	case e == 0xff:
		return x87Operand{v: softfloat.F80{Mant: uint64(v)<<40 | 1<<63, SE: sign | 0x7fff}}
	case e != 0:
		return x87Operand{v: softfloat.F80{Mant: uint64(v)<<40 | 1<<63, SE: sign | e + 16383 - 127}}
	case v<<1 == 0:
		return x87Operand{v: softfloat.F80{SE: sign}}
	}
	n := uint(bits.LeadingZeros64(uint64(v) << 40))
	return x87Operand{softfloat.F80{Mant: uint64(v) << 40 << n, SE: sign | uint16(16383-126-n)}, true}
}

// isNaN80 reports whether v is a NaN or an encoding that no longer has a meaning.
func isNaN80(v softfloat.F80) bool {
	e := v.SE & 0x7fff
	return e == 0x7fff && v.Mant<<1 != 0 || e != 0 && v.Mant>>63 == 0
}

// countDenormal adds the flag for a denormal operand from memory, which lasts unless a graver exception was found or
// the result comes from a NaN.
func countDenormal(e *softfloat.Env, fromNaN bool) {
	switch {
	case fromNaN || e.Flags&(softfloat.Invalid|softfloat.DivByZero) != 0:
	case e.Masks&softfloat.Denormal == 0:
		e.Flags = softfloat.Denormal
	default:
		e.Flags |= softfloat.Denormal
	}
}

func (c *CPU) loadF80(la uint64) (v softfloat.F80, ok bool) {
	if v.Mant, ok = c.load64(la); !ok {
		return v, false
	}
	v.SE, ok = c.load16(c.wrapLinear(la + 8))
	return v, ok
}

func (c *CPU) storeF80(la uint64, v softfloat.F80) bool {
	return c.probeWrite(la, 10) && c.store64(la, v.Mant) && c.store16(c.wrapLinear(la+8), v.SE)
}

// x87Arith are the dyadic operations. The second operand of the reversed ones is the minuend or dividend.
type x87Arith uint8

const (
	x87Add x87Arith = iota
	x87Mul
	x87Sub
	x87SubR
	x87Div
	x87DivR
)

func (k x87Arith) apply(e *softfloat.Env, a, b softfloat.F80) softfloat.F80 {
	switch k {
	case x87Add:
		return e.Add80(a, b)
	case x87Mul:
		return e.Mul80(a, b)
	case x87Sub:
		return e.Sub80(a, b)
	case x87SubR:
		return e.Sub80(b, a)
	case x87Div:
		return e.Div80(a, b)
	}
	return e.Div80(b, a)
}

// x87Dyadic computes Args[0] op Args[1] into Args[0], which is a register, and pops.
func x87Dyadic(k x87Arith, integer, pop bool) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		src, empty, ok := c.x87Source(u, 1, integer)
		if !ok {
			return false
		}
		dst := u.Args[0].Reg
		var r softfloat.F80
		if empty || f.empty(dst) {
			if !f.underflow() {
				return true
			}
			r = softfloat.Indefinite80()
		} else {
			e := c.x87Env()
			d := *f.reg(dst)
			r = k.apply(e, d, src.v)
			if src.denormal {
				countDenormal(e, isNaN80(d))
			}
			if !c.x87Raised(false) {
				return true
			}
		}
		f.set(dst, r)
		if pop {
			f.pop()
		}
		return true
	})
}

// x87Compared is how a comparison tells its outcome.
type x87Compared uint8

const (
	x87ToCodes x87Compared = iota // C3, C2, C0
	x87ToFlags                    // ZF, PF, CF
)

// setOrder sets C3, C2 and C0.
func (f *fpuState) setOrder(o softfloat.Order) {
	f.sw &^= x87C0 | x87C2 | x87C3
	switch o {
	case softfloat.Less:
		f.sw |= x87C0
	case softfloat.Equal:
		f.sw |= x87C3
	case softfloat.Unordered:
		f.sw |= x87C0 | x87C2 | x87C3
	}
}

// x87Compare compares ST(0) with operand 1, or with ST(1) if there is none. signal is false for FUCOM and kin.
func x87Compare(to x87Compared, integer, signal bool, pops int) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		var src x87Operand
		var empty bool
		if u.Args[1].Kind == isa.KindNone {
			src.v, empty = *f.reg(1), f.empty(1)
		} else {
			var ok bool
			if src, empty, ok = c.x87Source(u, 1, integer); !ok {
				return false
			}
		}
		o := softfloat.Unordered
		masked := false
		if empty || f.empty(0) {
			masked = f.underflow()
		} else {
			c1 := f.sw & x87C1
			e := c.x87Env()
			o = e.Compare80(*f.reg(0), src.v, signal)
			if src.denormal {
				countDenormal(e, o == softfloat.Unordered)
			}
			masked = c.x87Raised(false)
			if to == x87ToFlags {
				f.sw |= c1
			}
		}
		// The outcome is told even if the exception is unmasked; the operands then stay.
		if to == x87ToFlags {
			c.f.setWord(orderFlags(o))
		} else {
			f.setOrder(o)
		}
		if !masked {
			return true
		}
		for range pops {
			f.pop()
		}
		return true
	})
}

// x87Monadic replaces ST(0) by a function of it.
func x87Monadic(op func(e *softfloat.Env, a softfloat.F80) softfloat.F80) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		if f.empty(0) {
			if f.underflow() {
				f.set(0, softfloat.Indefinite80())
			}
			return true
		}
		r := op(c.x87Env(), *f.reg(0))
		if c.x87Raised(false) {
			f.set(0, r)
		}
		return true
	})
}

// x87Pair computes a function of ST(0) and ST(1) into register dst and pops.
func x87Pair(dst uint8, pop bool, op func(e *softfloat.Env, st0, st1 softfloat.F80) softfloat.F80) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		r := softfloat.Indefinite80()
		if f.empty(0) || f.empty(1) {
			if !f.underflow() {
				return true
			}
		} else {
			r = op(c.x87Env(), *f.reg(0), *f.reg(1))
			if !c.x87Raised(false) {
				return true
			}
		}
		f.set(dst, r)
		if pop {
			f.pop()
		}
		return true
	})
}

// x87Push is a load: the value and whether its source is empty come from op.
func (c *CPU) x87Push(v softfloat.F80) {
	if f := &c.fpu; f.empty(7) {
		f.push(v)
	} else if f.overflow() {
		f.push(softfloat.Indefinite80())
	}
}

func fld(c *CPU, u *uop) bool {
	f := &c.fpu
	a := &u.Args[0]
	if a.Kind == isa.KindST {
		v := *f.reg(a.Reg)
		f.sw &^= x87C1
		if !f.empty(a.Reg) {
			c.x87Push(v)
		} else if f.underflow() {
			f.push(softfloat.Indefinite80())
		}
		return true
	}
	x, ok := c.x87Load(u, 0, false)
	if !ok {
		return false
	}
	f.sw &^= x87C1
	if a.Size == 10 || !f.empty(7) {
		c.x87Push(x.v)
		return true
	}
	const quiet = 1 << 62
	switch {
	case x.denormal:
		// Though unmasked, the denormal exception does not keep the number from being loaded.
		f.sw |= uint16(softfloat.Denormal)
		f.summarize()
	case isNaN80(x.v) && x.v.Mant&quiet == 0:
		f.sw |= uint16(softfloat.Invalid)
		f.summarize()
		if f.cw&uint16(softfloat.Invalid) == 0 {
			return true
		}
		x.v.Mant |= quiet
	}
	f.push(x.v)
	return true
}

func fild(c *CPU, u *uop) bool {
	x, ok := c.x87Load(u, 0, true)
	if ok {
		c.fpu.sw &^= x87C1
		c.x87Push(x.v)
	}
	return ok
}

func fbld(c *CPU, u *uop) bool {
	la, ok := c.address(u, 10, false)
	if !ok {
		return false
	}
	var d [10]byte
	if !c.alignedParts(la, 8, accessRead) || !c.loadBytes(la, d[:]) {
		return false
	}
	v := c.x87Env().BCDToF80(d)
	c.x87Push(v)
	return true
}

// fst is FST and FSTP.
func fst(pop bool) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		a := &u.Args[0]
		v := *f.reg(0)
		if f.empty(0) {
			v = softfloat.Indefinite80()
		}
		if a.Kind == isa.KindST {
			f.sw &^= x87C1
			switch {
			case !f.empty(0) || !isFSTPNCE(u) && f.underflow():
				f.set(a.Reg, v)
			case !isFSTPNCE(u):
				return true
			}
		} else {
			done, ok := c.x87Store(u, func(e *softfloat.Env) (lo uint64, hi uint16) {
				switch a.Size {
				case 10:
					return v.Mant, v.SE
				case 8:
					return e.F80ToF64(v), 0
				}
				return uint64(e.F80ToF32(v)), 0
			})
			if !done {
				return ok
			}
		}
		if pop {
			f.pop()
		}
		return true
	})
}

// isFSTPNCE tells the undocumented FSTP of D9, which pops an empty register without exception and without copying it.
func isFSTPNCE(u *uop) bool { return u.Row.Opcode().Opcode == 0xd9 }

// x87Store stores what convert makes of ST(0) in memory operand 0. If ST(0) is empty convert must make an indefinite
// value, whose exception then gives way to the stack underflow. The status word changes only if the store succeeds;
// done tells whether the instruction may go on and pop.
func (c *CPU) x87Store(u *uop, convert func(e *softfloat.Env) (lo uint64, hi uint16)) (done, ok bool) {
	f := &c.fpu
	size := u.Args[0].Size
	// A page fault goes before the instruction's own exceptions (SDM vol. 3A, table 6-2; silicon).
	la, ok := c.address(u, size, true)
	if !ok || size == 10 && !c.alignedParts(la, 8, accessWrite) || !c.probeWrite(la, size) {
		return false, false
	}
	old := f.sw
	e := c.x87Env()
	lo, hi := convert(e)
	write := false
	if f.empty(0) {
		write = f.underflow()
	} else {
		write = c.x87Raised(true)
	}
	if !write {
		return false, true
	}
	if size == 10 {
		ok = c.storeF80(la, softfloat.F80{Mant: lo, SE: hi})
	} else {
		ok = c.store(la, size, lo)
	}
	if !ok {
		f.sw = old
		return false, false
	}
	return true, true
}

// fist is FIST, FISTP and FISTTP.
func fist(pop, truncate bool) handler {
	return x87(func(c *CPU, u *uop) bool {
		v := *c.fpu.reg(0)
		if c.fpu.empty(0) {
			v = softfloat.Indefinite80()
		}
		size := u.Args[0].Size
		done, ok := c.x87Store(u, func(e *softfloat.Env) (uint64, uint16) {
			switch size {
			case 2:
				return uint64(e.F80ToI16(v, truncate)), 0
			case 4:
				return uint64(e.F80ToI32(v, truncate)), 0
			}
			return uint64(e.F80ToI64(v, truncate)), 0
		})
		if done && pop {
			c.fpu.pop()
		}
		return ok
	})
}

func fbstp(c *CPU, u *uop) bool {
	v := *c.fpu.reg(0)
	if c.fpu.empty(0) {
		v = softfloat.Indefinite80()
	}
	done, ok := c.x87Store(u, func(e *softfloat.Env) (lo uint64, hi uint16) {
		d := e.F80ToBCD(v)
		for i, b := range d[:8] {
			lo |= uint64(b) << (8 * i)
		}
		return lo, uint16(d[8]) | uint16(d[9])<<8
	})
	if done {
		c.fpu.pop()
	}
	return ok
}

func fxch(c *CPU, u *uop) bool {
	f := &c.fpu
	i := u.Args[1].Reg
	f.sw &^= x87C1
	if f.empty(0) || f.empty(i) {
		if !f.underflow() {
			return true
		}
		for _, r := range [2]uint8{0, i} {
			if f.empty(r) {
				f.set(r, softfloat.Indefinite80())
			}
		}
	}
	a, b := f.reg(0), f.reg(i)
	*a, *b = *b, *a
	return true
}

// fcmov copies ST(i) to ST(0) under a condition code.
func fcmov(cc uint8) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		i := u.Args[1].Reg
		switch {
		case f.empty(0) || f.empty(i):
			if f.underflow() {
				f.set(0, softfloat.Indefinite80())
			}
		case c.f.condition(cc):
			*f.reg(0) = *f.reg(i)
		}
		return true
	})
}

// x87Constant pushes a constant.
func x87Constant(value func(e *softfloat.Env) softfloat.F80) handler {
	return x87(func(c *CPU, u *uop) bool {
		c.x87Push(value(c.x87Env()))
		return true
	})
}

func constant80(v softfloat.F80) func(*softfloat.Env) softfloat.F80 {
	return func(*softfloat.Env) softfloat.F80 { return v }
}

func fxam(c *CPU, u *uop) bool {
	f := &c.fpu
	v := *f.reg(0)
	f.sw &^= x87CC
	if v.SE>>15 != 0 {
		f.sw |= x87C1
	}
	e := v.SE & 0x7fff
	switch {
	case f.empty(0):
		f.sw |= x87C3 | x87C0
	case e == 0 && v.Mant == 0:
		f.sw |= x87C3
	case e == 0:
		f.sw |= x87C3 | x87C2
	case v.Mant>>63 == 0: // unsupported
	case e != 0x7fff:
		f.sw |= x87C2
	case v.Mant<<1 == 0:
		f.sw |= x87C2 | x87C0
	default:
		f.sw |= x87C0
	}
	return true
}

func ftst(c *CPU, u *uop) bool {
	f := &c.fpu
	o := softfloat.Unordered
	if f.empty(0) {
		f.underflow()
	} else {
		o = c.x87Env().Compare80(*f.reg(0), softfloat.F80{}, true)
		c.x87Raised(false)
	}
	f.setOrder(o)
	return true
}

// x87Sign is FCHS and FABS, which know no exception but stack underflow.
func x87Sign(op func(se uint16) uint16) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		f.sw &^= x87C1
		if f.empty(0) {
			if f.underflow() {
				f.set(0, softfloat.Indefinite80())
			}
			return true
		}
		r := f.reg(0)
		r.SE = op(r.SE)
		return true
	})
}

// x87Remainder is FPREM and FPREM1.
func x87Remainder(rem func(e *softfloat.Env, a, b softfloat.F80) (softfloat.F80, uint8, bool)) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		f.sw &^= x87C2
		if f.empty(0) || f.empty(1) {
			if f.underflow() {
				f.set(0, softfloat.Indefinite80())
			}
			return true
		}
		r, q, complete := rem(c.x87Env(), *f.reg(0), *f.reg(1))
		if !c.x87Raised(false) {
			return true
		}
		f.set(0, r)
		if isNaN80(r) {
			return true
		}
		f.sw &^= x87CC
		if !complete {
			f.sw |= x87C2
			return true
		}
		if q&1 != 0 {
			f.sw |= x87C1
		}
		if q&2 != 0 {
			f.sw |= x87C3
		}
		if q&4 != 0 {
			f.sw |= x87C0
		}
		return true
	})
}

func fxtract(c *CPU, u *uop) bool {
	f := &c.fpu
	if !c.x87RoomForTwo() {
		return true
	}
	significand, exponent := c.x87Env().Extract80(*f.reg(0))
	if c.x87Raised(false) {
		f.set(0, exponent)
		f.push(significand)
	}
	return true
}

// x87RoomForTwo checks the stack for an instruction that replaces ST(0) by two values.
func (c *CPU) x87RoomForTwo() bool {
	f := &c.fpu
	if !f.empty(0) && f.empty(7) {
		return true
	}
	masked := false
	if f.empty(0) {
		masked = f.underflow()
	} else {
		masked = f.overflow()
	}
	if masked {
		f.set(0, softfloat.Indefinite80())
		f.push(softfloat.Indefinite80())
	}
	return false
}

// x87Trig is FSIN and FCOS: outside the range of the instruction only C2 changes.
func x87Trig(op func(e *softfloat.Env, a softfloat.F80) (softfloat.F80, bool)) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		f.sw &^= x87C2
		if f.empty(0) {
			if f.underflow() {
				f.set(0, softfloat.Indefinite80())
			}
			return true
		}
		r, ok := op(c.x87Env(), *f.reg(0))
		if !ok {
			f.sw |= x87C2
		} else if c.x87Raised(false) {
			f.set(0, r)
		}
		return true
	})
}

// x87TrigTwo is FPTAN and FSINCOS, which replace ST(0) by a and push b.
func x87TrigTwo(op func(e *softfloat.Env, x softfloat.F80) (a, b softfloat.F80, ok bool)) handler {
	return x87(func(c *CPU, u *uop) bool {
		f := &c.fpu
		f.sw &^= x87C2
		if !c.x87RoomForTwo() {
			return true
		}
		a, b, ok := op(c.x87Env(), *f.reg(0))
		if !ok {
			f.sw |= x87C2
		} else if c.x87Raised(false) {
			f.set(0, a)
			f.push(b)
		}
		return true
	})
}

func fptan(e *softfloat.Env, x softfloat.F80) (a, b softfloat.F80, ok bool) {
	a, ok = e.FPTAN(x)
	b = softfloat.F80{Mant: 1 << 63, SE: 0x3fff}
	if isNaN80(a) {
		b = a
	}
	return a, b, ok
}

func x87Handlers() map[isa.Op]handler {
	type env = softfloat.Env
	type f80 = softfloat.F80
	return map[isa.Op]handler{
		isa.FADD:   x87Dyadic(x87Add, false, false),
		isa.FADDP:  x87Dyadic(x87Add, false, true),
		isa.FIADD:  x87Dyadic(x87Add, true, false),
		isa.FMUL:   x87Dyadic(x87Mul, false, false),
		isa.FMULP:  x87Dyadic(x87Mul, false, true),
		isa.FIMUL:  x87Dyadic(x87Mul, true, false),
		isa.FSUB:   x87Dyadic(x87Sub, false, false),
		isa.FSUBP:  x87Dyadic(x87Sub, false, true),
		isa.FISUB:  x87Dyadic(x87Sub, true, false),
		isa.FSUBR:  x87Dyadic(x87SubR, false, false),
		isa.FSUBRP: x87Dyadic(x87SubR, false, true),
		isa.FISUBR: x87Dyadic(x87SubR, true, false),
		isa.FDIV:   x87Dyadic(x87Div, false, false),
		isa.FDIVP:  x87Dyadic(x87Div, false, true),
		isa.FIDIV:  x87Dyadic(x87Div, true, false),
		isa.FDIVR:  x87Dyadic(x87DivR, false, false),
		isa.FDIVRP: x87Dyadic(x87DivR, false, true),
		isa.FIDIVR: x87Dyadic(x87DivR, true, false),

		isa.FCOM:    x87Compare(x87ToCodes, false, true, 0),
		isa.FCOMP:   x87Compare(x87ToCodes, false, true, 1),
		isa.FCOMPP:  x87Compare(x87ToCodes, false, true, 2),
		isa.FICOM:   x87Compare(x87ToCodes, true, true, 0),
		isa.FICOMP:  x87Compare(x87ToCodes, true, true, 1),
		isa.FUCOM:   x87Compare(x87ToCodes, false, false, 0),
		isa.FUCOMP:  x87Compare(x87ToCodes, false, false, 1),
		isa.FUCOMPP: x87Compare(x87ToCodes, false, false, 2),
		isa.FCOMI:   x87Compare(x87ToFlags, false, true, 0),
		isa.FCOMIP:  x87Compare(x87ToFlags, false, true, 1),
		isa.FUCOMI:  x87Compare(x87ToFlags, false, false, 0),
		isa.FUCOMIP: x87Compare(x87ToFlags, false, false, 1),
		isa.FTST:    x87(ftst),
		isa.FXAM:    x87(fxam),

		isa.FLD:    x87(fld),
		isa.FILD:   x87(fild),
		isa.FBLD:   x87(fbld),
		isa.FST:    fst(false),
		isa.FSTP:   fst(true),
		isa.FIST:   fist(false, false),
		isa.FISTP:  fist(true, false),
		isa.FISTTP: fist(true, true),
		isa.FBSTP:  x87(fbstp),
		isa.FXCH:   x87(fxch),

		isa.FCMOVB:   fcmov(2),
		isa.FCMOVNB:  fcmov(3),
		isa.FCMOVE:   fcmov(4),
		isa.FCMOVNE:  fcmov(5),
		isa.FCMOVBE:  fcmov(6),
		isa.FCMOVNBE: fcmov(7),
		isa.FCMOVU:   fcmov(10),
		isa.FCMOVNU:  fcmov(11),

		isa.FLD1:   x87Constant(constant80(f80{Mant: 1 << 63, SE: 0x3fff})),
		isa.FLDZ:   x87Constant(constant80(f80{})),
		isa.FLDL2T: x87Constant((*env).Log2Of10),
		isa.FLDL2E: x87Constant((*env).Log2OfE),
		isa.FLDPI:  x87Constant((*env).Pi80),
		isa.FLDLG2: x87Constant((*env).Log10Of2),
		isa.FLDLN2: x87Constant((*env).LnOf2),

		isa.FCHS:    x87Sign(func(se uint16) uint16 { return se ^ 0x8000 }),
		isa.FABS:    x87Sign(func(se uint16) uint16 { return se & 0x7fff }),
		isa.FSQRT:   x87Monadic((*env).Sqrt80),
		isa.FRNDINT: x87Monadic((*env).RoundInt80),
		isa.F2XM1:   x87Monadic((*env).F2XM1),
		isa.FSCALE:  x87Pair(0, false, (*env).Scale80),
		isa.FYL2X:   x87Pair(1, true, (*env).FYL2X),
		isa.FYL2XP1: x87Pair(1, true, (*env).FYL2XP1),
		isa.FPATAN:  x87Pair(1, true, (*env).FPATAN),
		isa.FPREM:   x87Remainder((*env).Rem80),
		isa.FPREM1:  x87Remainder((*env).Rem1_80),
		isa.FXTRACT: x87(fxtract),
		isa.FSIN:    x87Trig((*env).FSIN),
		isa.FCOS:    x87Trig((*env).FCOS),
		isa.FPTAN:   x87TrigTwo(fptan),
		isa.FSINCOS: x87TrigTwo((*env).FSINCOS),

		isa.FNOP: x87(func(c *CPU, u *uop) bool { return true }),
		isa.FINCSTP: x87(func(c *CPU, u *uop) bool {
			f := &c.fpu
			f.sw &^= x87C1
			f.top = (f.top + 1) & 7
			return true
		}),
		isa.FDECSTP: x87(func(c *CPU, u *uop) bool {
			f := &c.fpu
			f.sw &^= x87C1
			f.top = (f.top - 1) & 7
			return true
		}),
		isa.FFREE: x87(func(c *CPU, u *uop) bool {
			f := &c.fpu
			f.sw &^= x87C1
			f.full &^= 1 << ((f.top + u.Args[0].Reg) & 7)
			return true
		}),
		isa.FFREEP: x87(func(c *CPU, u *uop) bool {
			f := &c.fpu
			f.sw &^= x87C1
			f.full &^= 1 << ((f.top + u.Args[0].Reg) & 7)
			f.pop()
			return true
		}),

		isa.FWAIT:   fwait,
		isa.FNINIT:  x87Quiet(func(f *fpuState) { f.init87() }),
		isa.FNCLEX:  x87Quiet(func(f *fpuState) { f.sw &^= x87Flags | x87SF | x87ES | x87B }),
		isa.FNENI:   x87Quiet(func(*fpuState) {}),
		isa.FNDISI:  x87Quiet(func(*fpuState) {}),
		isa.FNSETPM: x87Quiet(func(*fpuState) {}),
		isa.FLDCW:   fldcw,
		isa.FNSTCW:  x87StoreWord(func(f *fpuState) uint16 { return f.cw }),
		isa.FNSTSW:  x87StoreWord((*fpuState).status),
		isa.FNSTENV: fnstenv,
		isa.FLDENV:  fldenv,
		isa.FNSAVE:  fnsave,
		isa.FRSTOR:  frstor,
	}
}
