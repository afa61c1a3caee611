package cpu

import "github.com/hybridbridge/emu/cpu/isa"

func aluHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.ADD: binaryHandler((*lazyFlags).addOp), isa.ADC: binaryHandler((*lazyFlags).adcOp),
		isa.SUB: binaryHandler((*lazyFlags).subOp), isa.SBB: binaryHandler((*lazyFlags).sbbOp),
		isa.AND: binaryHandler((*lazyFlags).andOp), isa.OR: binaryHandler((*lazyFlags).orOp), isa.XOR: binaryHandler((*lazyFlags).xorOp),
		isa.CMP: compareHandler((*lazyFlags).subOp), isa.TEST: compareHandler((*lazyFlags).andOp),
		isa.INC: unaryHandler((*lazyFlags).incOp), isa.DEC: unaryHandler((*lazyFlags).decOp),
		isa.NEG: unaryHandler((*lazyFlags).negOp), isa.NOT: unaryHandler((*lazyFlags).notOp),
		isa.ADCX: extendedAdd(FlagCF), isa.ADOX: extendedAdd(FlagOF),
	}
}

// A binaryOp is the meaning of an instruction with two sources: it returns the result, whose bits above size are
// garbage, and sets flags. Sources may have garbage above size too.
type binaryOp func(f *lazyFlags, a, b uint64, size uint8) uint64

// A unaryOp is the meaning of an instruction with one source.
type unaryOp func(f *lazyFlags, a uint64, size uint8) uint64

func (f *lazyFlags) addOp(a, b uint64, size uint8) uint64 { return f.add(a, b, 0, size) }
func (f *lazyFlags) adcOp(a, b uint64, size uint8) uint64 { return f.add(a, b, f.cfBit(), size) }
func (f *lazyFlags) subOp(a, b uint64, size uint8) uint64 { return f.sub(a, b, 0, size) }
func (f *lazyFlags) sbbOp(a, b uint64, size uint8) uint64 { return f.sub(a, b, f.cfBit(), size) }

func (f *lazyFlags) andOp(a, b uint64, size uint8) uint64 {
	f.logic(a&b, size)
	return a & b
}

func (f *lazyFlags) orOp(a, b uint64, size uint8) uint64 {
	f.logic(a|b, size)
	return a | b
}

func (f *lazyFlags) xorOp(a, b uint64, size uint8) uint64 {
	f.logic(a^b, size)
	return a ^ b
}

// incOp and decOp keep CF.
func (f *lazyFlags) incOp(a uint64, size uint8) uint64 {
	r := a + 1
	f.counted(r, a&^r, size)
	return r
}

func (f *lazyFlags) decOp(a uint64, size uint8) uint64 {
	r := a - 1
	f.counted(r, r&^a, size)
	return r
}

// counted sets the flags except CF for the result r of adding or subtracting 1, with the vector of carries out of each
// bit.
func (f *lazyFlags) counted(r, carries uint64, size uint8) {
	f.result = sext(r, size)
	v := carries << ((64 - uint(size)*8) & 63)
	of := v ^ v<<1 // in bit 63
	f.carries = f.carries&(1<<63) | (f.carries^of)>>1&(1<<62) | carries&8
}

func (f *lazyFlags) negOp(a uint64, size uint8) uint64 { return f.sub(0, a, 0, size) }
func (f *lazyFlags) notOp(a uint64, _ uint8) uint64    { return ^a }

// binaryHandler makes the handler of an operation that replaces its first operand.
func binaryHandler(op binaryOp) handler {
	return func(c *CPU, u *uop) bool {
		b, ok := c.read(u, 1)
		if !ok {
			return false
		}
		a, ok := c.modify(u, 0)
		if !ok {
			return false
		}
		return c.commit(u, op, a, b)
	}
}

// commit writes the result of op into operand 0 and sets its flags, both or none.
func (c *CPU) commit(u *uop, op binaryOp, a, b uint64) bool {
	old := c.f
	r := op(&c.f, a, b, u.Args[0].Size)
	if !c.write(u, 0, r) {
		c.f = old
		return false
	}
	return true
}

// compareHandler makes the handler of an operation that only sets flags.
func compareHandler(op binaryOp) handler {
	return func(c *CPU, u *uop) bool {
		b, ok := c.read(u, 1)
		if !ok {
			return false
		}
		a, ok := c.read(u, 0)
		if !ok {
			return false
		}
		op(&c.f, a, b, u.Args[0].Size)
		return true
	}
}

// unaryHandler makes the handler of an operation on one operand.
func unaryHandler(op unaryOp) handler {
	return func(c *CPU, u *uop) bool {
		a, ok := c.modify(u, 0)
		if !ok {
			return false
		}
		old := c.f
		if r := op(&c.f, a, u.Args[0].Size); !c.write(u, 0, r) {
			c.f = old
			return false
		}
		return true
	}
}

// extendedAdd makes the handler of ADCX (flag is CF) and ADOX (OF): an addition whose carry goes in and out through
// that flag alone.
func extendedAdd(flag uint64) handler {
	return func(c *CPU, u *uop) bool {
		b, ok := c.read(u, 1)
		if !ok {
			return false
		}
		a, ok := c.read(u, 0)
		if !ok {
			return false
		}
		w := c.f.word()
		carry := uint64(0)
		if w&flag != 0 {
			carry = 1
		}
		var f lazyFlags
		r := f.add(a, b, carry, u.Args[0].Size)
		w &^= flag
		if f.cf() {
			w |= flag
		}
		c.f.setWord(w)
		return c.write(u, 0, r)
	}
}
