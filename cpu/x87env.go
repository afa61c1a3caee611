package cpu

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/softfloat"
)

// The x87 control instructions, which are not recorded as the last instruction (SDM vol. 1, 8.1.8 and 8.3.11).

// fwait is FWAIT: unlike the others it minds CR0.MP and not CR0.EM.
func fwait(c *CPU, u *uop) bool {
	if c.cr0&(cr0MP|cr0TS) == cr0MP|cr0TS {
		return c.raise(VectorNM)
	}
	return c.x87NonePending()
}

// x87Quiet makes a handler of an instruction that does not wait and does nothing to memory.
func x87Quiet(op func(f *fpuState)) handler {
	return func(c *CPU, u *uop) bool {
		if !c.x87Available() {
			return false
		}
		op(&c.fpu)
		return true
	}
}

// x87StoreWord is FNSTCW and FNSTSW.
func x87StoreWord(get func(f *fpuState) uint16) handler {
	return func(c *CPU, u *uop) bool {
		return c.x87Available() && c.write(u, 0, uint64(get(&c.fpu)))
	}
}

func fldcw(c *CPU, u *uop) bool {
	if !c.x87Ready() {
		return false
	}
	v, ok := c.read(u, 0)
	if ok {
		c.fpu.setControl(uint16(v))
		c.fpu.summarize()
	}
	return ok
}

// tagWord computes the 16-bit tag word: 0 valid, 1 zero, 2 special, 3 empty (SDM vol. 1, 8.1.7).
func (f *fpuState) tagWord() (w uint16) {
	for i, v := range f.st {
		e := v.SE & 0x7fff
		tag := uint16(0)
		switch {
		case f.full>>i&1 == 0:
			tag = 3
		case e == 0 && v.Mant == 0:
			tag = 1
		case e == 0 || e == 0x7fff || v.Mant>>63 == 0:
			tag = 2
		}
		w |= tag << (2 * i)
	}
	return w
}

func (f *fpuState) setTagWord(w uint16) {
	f.full = 0
	for i := range 8 {
		if w>>(2*i)&3 != 3 {
			f.full |= 1 << i
		}
	}
}

// x87RealFormat reports whether environments have the real-address format, which virtual-8086 mode uses too.
func (c *CPU) x87RealFormat() bool { return c.cr0&cr0PE == 0 || c.flags&FlagVM != 0 }

// putEnvironment writes the environment in the format of SDM vol. 1, figures 8-9 to 8-12, and returns its size.
func (c *CPU) putEnvironment(b []byte, opSize uint8) int {
	f := &c.fpu
	words := [7]uint32{uint32(f.cw), uint32(f.status()), uint32(f.tagWord())}
	ip, dp, real := uint32(f.lastIP), uint32(f.lastDP), c.x87RealFormat()
	if real {
		// Pointers are linear addresses, in two parts.
		ip += uint32(f.lastCS) << 4
		dp += uint32(f.lastDS) << 4
	}
	if opSize == 2 {
		words[3], words[5] = ip, dp
		if real {
			words[4] = ip>>16&0xf<<12 | uint32(f.lastOpcode)
			words[6] = dp >> 16 & 0xf << 12
		} else {
			words[4], words[6] = uint32(f.lastCS), uint32(f.lastDS)
		}
		for i, w := range words {
			binary.LittleEndian.PutUint16(b[2*i:], uint16(w))
		}
		return 14
	}
	// Bits 16-31 of 16-bit fields read as ones.
	const reserved = 0xffff << 16
	if real {
		words[3] = ip&0xffff | reserved
		words[4] = ip>>16<<12 | uint32(f.lastOpcode)
		words[5] = dp&0xffff | reserved
		words[6] = dp >> 16 << 12
	} else {
		words[3] = ip
		words[4] = uint32(f.lastCS) | uint32(f.lastOpcode)<<16
		words[5] = dp
		words[6] = uint32(f.lastDS) | reserved
	}
	for i, w := range words {
		if i < 3 {
			w |= reserved
		}
		binary.LittleEndian.PutUint32(b[4*i:], w)
	}
	return 28
}

// getEnvironment loads what putEnvironment wrote.
func (c *CPU) getEnvironment(b []byte, opSize uint8) {
	f := &c.fpu
	var w [7]uint32
	for i := range w {
		if opSize == 2 {
			w[i] = uint32(binary.LittleEndian.Uint16(b[2*i:]))
		} else {
			w[i] = binary.LittleEndian.Uint32(b[4*i:])
		}
	}
	f.setControl(uint16(w[0]))
	f.setStatus(uint16(w[1]))
	f.setTagWord(uint16(w[2]))
	f.lastCS, f.lastDS, f.lastOpcode = 0, 0, 0
	switch {
	case c.x87RealFormat():
		f.lastIP = uint64(w[3]&0xffff | w[4]>>12<<16)
		f.lastDP = uint64(w[5]&0xffff | w[6]>>12<<16)
		f.lastOpcode = uint16(w[4] & 0x7ff)
	case opSize == 2:
		f.lastIP, f.lastCS = uint64(w[3]), uint16(w[4])
		f.lastDP, f.lastDS = uint64(w[5]), uint16(w[6])
	default:
		f.lastIP, f.lastCS = uint64(w[3]), uint16(w[4])
		f.lastDP, f.lastDS = uint64(w[5]), uint16(w[6])
		f.lastOpcode = uint16(w[4]>>16) & 0x7ff
	}
	f.summarize()
}

// environmentSize is 14 or 28; in 64-bit mode REX.W changes nothing.
func environmentSize(u *uop) (opSize uint8, n uint64) {
	if u.OpSize == 2 {
		return 2, 14
	}
	return 4, 28
}

func fnstenv(c *CPU, u *uop) bool {
	if !c.x87Available() {
		return false
	}
	opSize, n := environmentSize(u)
	la, ok := c.stateArea(u, n, 1, true)
	if !ok {
		return false
	}
	var b [28]byte
	if !c.alignedParts(la, uint64(opSize), accessWrite) || !c.storeBytes(la, b[:c.putEnvironment(b[:], opSize)]) {
		return false
	}
	c.fpu.cw |= x87Flags
	c.fpu.summarize()
	return true
}

func fldenv(c *CPU, u *uop) bool {
	if !c.x87Ready() {
		return false
	}
	opSize, n := environmentSize(u)
	la, ok := c.stateArea(u, n, 1, false)
	if !ok {
		return false
	}
	var b [28]byte
	if !c.alignedParts(la, uint64(opSize), accessRead) || !c.loadBytes(la, b[:n]) {
		return false
	}
	c.getEnvironment(b[:], opSize)
	return true
}

// fnsave stores the environment and the registers, ST(0) first, and initializes.
func fnsave(c *CPU, u *uop) bool {
	if !c.x87Available() {
		return false
	}
	opSize, n := environmentSize(u)
	la, ok := c.stateArea(u, n+80, 1, true)
	if !ok {
		return false
	}
	var b [108]byte
	c.putEnvironment(b[:], opSize)
	for i := range uint8(8) {
		r := c.fpu.reg(i)
		p := b[int(n)+10*int(i):]
		binary.LittleEndian.PutUint64(p, r.Mant)
		binary.LittleEndian.PutUint16(p[8:], r.SE)
	}
	if !c.alignedParts(la, uint64(opSize), accessWrite) || !c.storeBytes(la, b[:n+80]) {
		return false
	}
	c.fpu.init87()
	return true
}

func frstor(c *CPU, u *uop) bool {
	if !c.x87Ready() {
		return false
	}
	opSize, n := environmentSize(u)
	la, ok := c.stateArea(u, n+80, 1, false)
	if !ok {
		return false
	}
	var b [108]byte
	if !c.alignedParts(la, uint64(opSize), accessRead) || !c.loadBytes(la, b[:n+80]) {
		return false
	}
	c.getEnvironment(b[:], opSize)
	for i := range uint8(8) {
		p := b[int(n)+10*int(i):]
		*c.fpu.reg(i) = softfloat.F80{Mant: binary.LittleEndian.Uint64(p), SE: binary.LittleEndian.Uint16(p[8:])}
	}
	return true
}
