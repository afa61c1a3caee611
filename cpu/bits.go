package cpu

import (
	"math/bits"

	"github.com/hybridbridge/emu/cpu/isa"
)

func bitHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{
		isa.BT:     bitTest(func(a, bit uint64) uint64 { return a }),
		isa.BTS:    bitTest(func(a, bit uint64) uint64 { return a | bit }),
		isa.BTR:    bitTest(func(a, bit uint64) uint64 { return a &^ bit }),
		isa.BTC:    bitTest(func(a, bit uint64) uint64 { return a ^ bit }),
		isa.BSF:    bitScan(func(a uint64) int { return bits.TrailingZeros64(a) }),
		isa.BSR:    bitScan(func(a uint64) int { return 63 - bits.LeadingZeros64(a) }),
		isa.TZCNT:  bitCount(func(a uint64, width int) int { return min(bits.TrailingZeros64(a), width) }),
		isa.LZCNT:  bitCount(func(a uint64, width int) int { return bits.LeadingZeros64(a) - (64 - width) }),
		isa.POPCNT: execPOPCNT, isa.CRC32: execCRC32, isa.BSWAP: execBSWAP, isa.MOVBE: execMOVBE,
	}
}

// bitTest makes the handler of BT and its kin: CF becomes the bit, the other flags stay. A bit number in a register
// reaches beyond a memory operand, in both directions (SDM vol. 2A, 3.1.1.9, figure 3-2).
func bitTest(change func(a, bit uint64) uint64) handler {
	return func(c *CPU, u *uop) bool {
		size := u.Args[0].Size
		n, ok := c.read(u, 1)
		if !ok {
			return false
		}
		writes := u.Op != isa.BT
		mem := u.Args[0].Kind == isa.KindMem
		var a, la uint64
		if mem {
			off := c.offset(u)
			if u.Args[1].Kind == isa.KindReg {
				s := sext(n, size)
				unit := int64(size) * 8
				off = (off + uint64((s&^(unit-1))>>3)) & sizeMask[u.AddrSize]
			}
			la, ok = c.segment(u.Seg, off, uint64(size), writes)
			if !ok || writes && !c.probeWrite(la, size) {
				return false
			}
			a, ok = c.load(la, size)
		} else {
			a, ok = c.read(u, 0)
		}
		if !ok {
			return false
		}
		n &= uint64(size)*8 - 1
		if writes {
			r := change(a, 1<<n)
			if mem {
				if !c.store(la, size, r) {
					return false
				}
			} else {
				c.setReg(u.Args[0].Reg, size, r)
			}
		}
		c.f.setCF(a>>n&1 != 0)
		return true
	}
}

// bitScan makes the handler of BSF and BSR. For a source of 0 the destination keeps its value, upper half included
// (Intel says undefined, AMD documents it, both do it). CF, OF, SF and AF are cleared and PF is that of the result,
// which the manual leaves undefined (AMD Zen 5).
func bitScan(scan func(a uint64) int) handler {
	return func(c *CPU, u *uop) bool {
		a, ok := c.read(u, 1)
		if !ok {
			return false
		}
		size := u.Args[0].Size
		if a == 0 {
			c.f.setWord(FlagZF | FlagPF)
			return true
		}
		r := uint64(scan(a))
		c.setReg(u.Args[0].Reg, size, r)
		c.f.setWord(0)
		if bits.OnesCount64(r)&1 == 0 {
			c.f.setWord(FlagPF)
		}
		return true
	}
}

// bitCount makes the handler of TZCNT and LZCNT: ZF says that the result is 0, CF that the source is. OF stays, SF, AF
// and PF are cleared (undefined; AMD Zen 5).
func bitCount(count func(a uint64, width int) int) handler {
	return func(c *CPU, u *uop) bool {
		a, ok := c.read(u, 1)
		if !ok {
			return false
		}
		size := u.Args[0].Size
		r := count(a, int(size)*8)
		c.setReg(u.Args[0].Reg, size, uint64(r))
		w := c.f.word() & FlagOF
		if r == 0 {
			w |= FlagZF
		}
		if a == 0 {
			w |= FlagCF
		}
		c.f.setWord(w)
		return true
	}
}

func execPOPCNT(c *CPU, u *uop) bool {
	a, ok := c.read(u, 1)
	if !ok {
		return false
	}
	c.setReg(u.Args[0].Reg, u.Args[0].Size, uint64(bits.OnesCount64(a)))
	w := uint64(0)
	if a == 0 {
		w = FlagZF
	}
	c.f.setWord(w)
	return true
}

// castagnoli is the bit-reversed polynomial 11EDC6F41H (SDM vol. 2A, CRC32) by byte.
var castagnoli = func() (t [256]uint32) {
	for i := range t {
		v := uint32(i)
		for range 8 {
			v = v>>1 ^ v&1*0x82f63b78
		}
		t[i] = v
	}
	return t
}()

func execCRC32(c *CPU, u *uop) bool {
	b, ok := c.read(u, 1)
	if !ok {
		return false
	}
	crc := uint32(c.r[u.Args[0].Reg&31])
	for range u.Args[1].Size {
		crc = castagnoli[uint8(crc)^uint8(b)] ^ crc>>8
		b >>= 8
	}
	c.setReg(u.Args[0].Reg, u.Args[0].Size, uint64(crc))
	return true
}

func execBSWAP(c *CPU, u *uop) bool {
	a := &u.Args[0]
	c.setReg(a.Reg, a.Size, swapBytes(c.r[a.Reg&31], a.Size))
	return true
}

func execMOVBE(c *CPU, u *uop) bool {
	a, ok := c.read(u, 1)
	if !ok {
		return false
	}
	return c.write(u, 0, bits.ReverseBytes64(a)>>(64-8*uint(u.Args[0].Size)))
}
