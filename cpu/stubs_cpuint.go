package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Stubs until cpusys and cpusimd land.

type mmuState struct{}

func (c *CPU) translate(la uint64, a access) (uint64, bool) { return la, true }
func (c *CPU) linear(seg uint8, off, size uint64, write bool) (uint64, bool) {
	return c.seg[seg].Base + off, true
}
func (c *CPU) setRFLAGS(v uint64)                   { c.flags = v &^ (flagsArith | 2); c.f.setWord(v) }
func (c *CPU) longMode() bool                       { return true }
func (c *CPU) canonical(v uint64) bool              { return uint64(int64(v<<16)>>16) == v }
func (c *CPU) stackSize() uint8                     { return 8 }
func (c *CPU) systemContext() uint64                { return c.ctx }
func (c *CPU) watch(la, size uint64, a access) bool { return true }
func (c *CPU) mayCache(la uint64) bool              { return true }
func (c *CPU) deliverException() bool {
	c.detail = "exception"
	return false
}
func (c *CPU) stepped() (vcpu.Exit, bool)                         { return vcpu.Exit{}, false }
func (c *CPU) attendTo(a uint32) (e vcpu.Exit, single, done bool) { return }

func segmentHandlers() map[isa.Op]handler { return nil }
func farHandlers() map[isa.Op]handler     { return nil }
func systemHandlers() map[isa.Op]handler  { return nil }
func debugHandlers() map[isa.Op]handler   { return nil }
