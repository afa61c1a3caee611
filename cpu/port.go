package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

func portHandlers() map[isa.Op]handler {
	return map[isa.Op]handler{isa.IN: execIN, isa.OUT: execOUT}
}

func (c *CPU) readPort(port uint16, size uint8) uint64 {
	c.stats.PortExits++
	c.watchPort(port, size)
	return uint64(c.plat.ReadPort(port, int(size))) & sizeMask[size]
}

func (c *CPU) writePort(port uint16, size uint8, v uint64) {
	c.stats.PortExits++
	c.watchPort(port, size)
	c.plat.WritePort(port, int(size), uint32(v&sizeMask[size]))
}

func execIN(c *CPU, u *uop) bool {
	port, _ := c.read(u, 1)
	size := u.Args[0].Size
	return c.portAllowed(uint16(port), size) && c.write(u, 0, c.readPort(uint16(port), size))
}

func execOUT(c *CPU, u *uop) bool {
	port, _ := c.read(u, 0)
	size := u.Args[1].Size
	if !c.portAllowed(uint16(port), size) {
		return false
	}
	c.writePort(uint16(port), size, c.r[isa.RAX])
	return true
}

// portAllowed checks the I/O privilege level and the TSS's permission bitmap (SDM vol. 1, 19.5); it raises #GP(0).
func (c *CPU) portAllowed(port uint16, size uint8) bool {
	if c.flags&FlagVM == 0 && uint64(c.cpl)<<12 <= c.flags&FlagIOPL {
		return true
	}
	const mapBase = 0x66 // of the word in the TSS that says where the bitmap is
	kind := c.tr.Attr & vcpu.AttrTypeMask
	if c.tr.Attr&vcpu.AttrP == 0 || kind != 9 && kind != 11 || c.tr.Limit < mapBase+1 {
		return c.gp(0)
	}
	old := c.systemContext()
	defer func() { c.ctx = old }()
	base, ok := c.load16(c.wrapLinear(c.tr.Base + mapBase))
	if !ok {
		return false
	}
	at := uint64(base) + uint64(port)/8
	if at+1 > uint64(c.tr.Limit) {
		return c.gp(0)
	}
	bitmap, ok := c.load16(c.wrapLinear(c.tr.Base + at))
	if !ok {
		return false
	}
	if bitmap>>(port&7)&(1<<size-1) != 0 {
		return c.gp(0)
	}
	return true
}
