package cpu

import (
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Stubs until cpusys and cpuint land.

const (
	cr0PE         uint64 = 1 << 0
	cr0MP         uint64 = 1 << 1
	cr0EM         uint64 = 1 << 2
	cr0TS         uint64 = 1 << 3
	cr0NE         uint64 = 1 << 5
	cr4OSFXSR     uint64 = 1 << 9
	cr4OSXMMEXCPT uint64 = 1 << 10
	cr4OSXSAVE    uint64 = 1 << 18
)

type mmuState struct{}

func (c *CPU) translate(la uint64, a access) (uint64, bool) { return la, true }
func (c *CPU) linear(seg uint8, off, size uint64, write bool) (uint64, bool) {
	return c.seg[seg].Base + off, true
}
func (c *CPU) longMode() bool                                     { return true }
func (c *CPU) stackSize() uint8                                   { return 8 }
func (c *CPU) watch(la, size uint64, a access) bool               { return true }
func (c *CPU) mayCache(la uint64) bool                            { return true }
func (c *CPU) deliverException() bool                             { return false }
func (c *CPU) stepped() (vcpu.Exit, bool)                         { return vcpu.Exit{}, false }
func (c *CPU) attendTo(a uint32) (e vcpu.Exit, single, done bool) { return }

func fastHandler(u *uop) handler           { return nil }
func aluHandlers() map[isa.Op]handler      { return nil }
func shiftHandlers() map[isa.Op]handler    { return nil }
func multiplyHandlers() map[isa.Op]handler { return nil }
func bitHandlers() map[isa.Op]handler      { return nil }
func moveHandlers() map[isa.Op]handler     { return nil }
func stackHandlers() map[isa.Op]handler    { return nil }
func branchHandlers() map[isa.Op]handler   { return nil }
func stringHandlers() map[isa.Op]handler   { return nil }
func decimalHandlers() map[isa.Op]handler  { return nil }
func portHandlers() map[isa.Op]handler     { return nil }
func segmentHandlers() map[isa.Op]handler  { return nil }
func farHandlers() map[isa.Op]handler      { return nil }
func systemHandlers() map[isa.Op]handler   { return nil }
func debugHandlers() map[isa.Op]handler    { return nil }
