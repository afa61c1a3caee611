package lapic

import "github.com/hybridbridge/emu/core/device/apic"

// version says that there are lvtCount LVT entries and no EOI broadcast suppression (SDM vol. 3A, 11.4.8).
const version = 0x14 | (lvtCount-1)<<16

// ReadMMIO implements device.MMIO. Registers are 32 bits wide at multiples of 16; the bytes between them read as 0.
func (a *APIC) ReadMMIO(off uint64, size int) uint64 {
	off &= Size - 1
	if off&0xf >= 4 {
		return 0
	}
	v := uint64(a.readReg(uint32(off)&^0xf)) >> (8 * (off & 3))
	if size < 4 {
		v &= 1<<(8*size) - 1
	}
	return v
}

// WriteMMIO implements device.MMIO. Writes that are narrower than a register or not aligned have no effect.
func (a *APIC) WriteMMIO(off uint64, size int, v uint64) {
	off &= Size - 1
	if off&0xf != 0 || size < 4 {
		return
	}
	a.writeReg(uint32(off), uint32(v))
}

func (a *APIC) readReg(off uint32) uint32 {
	switch {
	case off >= 0x100 && off < 0x180:
		return a.isr.word(int(off-0x100) >> 4)
	case off >= 0x180 && off < 0x200:
		return a.tmr.word(int(off-0x180) >> 4)
	case off >= 0x200 && off < 0x280:
		return a.irr.word(int(off-0x200) >> 4)
	case off >= 0x320 && off <= 0x370:
		return a.lvt[(off-0x320)>>4]
	}
	switch off {
	case 0x20:
		return a.id
	case 0x30:
		return version
	case 0x80:
		return uint32(a.tpr)
	case 0x90, 0xb0, 0xc0: // APR, EOI, RRD: nothing to read on processors since the Pentium 4
		return 0
	case 0xa0:
		return uint32(a.ppr())
	case 0xd0:
		return a.ldr
	case 0xe0:
		return a.dfr
	case 0xf0:
		return a.svr
	case 0x280:
		return a.esr
	case 0x300:
		return uint32(a.icr)
	case 0x310:
		return uint32(a.icr >> 32)
	case 0x380:
		return a.t.initial
	case 0x390:
		return a.currentCount()
	case 0x3e0:
		return a.t.divide
	}
	a.fail(errRegister)
	return 0
}

func (a *APIC) writeReg(off, v uint32) {
	switch off {
	case 0x20:
		a.id = v & 0xff000000
	case 0x80:
		a.tpr = uint8(v)
		a.update()
	case 0xb0:
		a.eoi()
	case 0xd0:
		a.ldr = v & 0xff000000
	case 0xe0:
		a.dfr = v | 0x0fffffff
	case 0xf0:
		a.svr = v & (0xff | svrEnable | 1<<9)
		if v&svrEnable == 0 {
			// 11.4.7.2: the masks of all LVT entries are set; what is in IRR stays.
			for i := range a.lvt {
				a.lvt[i] |= lvtMask
			}
		}
		a.update()
	case 0x280:
		a.esr, a.errs = a.errs, 0
	case 0x300:
		a.icr = a.icr&^0xffffffff | uint64(v&0xccfff) // delivery status is read-only
		a.sendIPI()
	case 0x310:
		a.icr = a.icr&0xffffffff | uint64(v&0xff000000)<<32
	case 0x320, 0x330, 0x340, 0x350, 0x360, 0x370:
		a.writeLVT(int(off-0x320)>>4, v)
	case 0x380:
		a.setInitialCount(v)
	case 0x3e0:
		a.setDivide(v)
	case 0x30, 0x90, 0xa0, 0xc0, 0x390:
		// read-only
	default:
		if off < 0x100 || off >= 0x280 {
			a.fail(errRegister)
		}
	}
}

func (a *APIC) writeLVT(n int, v uint32) {
	v = v&lvtWritable[n] | a.lvt[n]&lvtRemoteIRR
	if a.svr&svrEnable == 0 {
		v |= lvtMask
	}
	if n == lvtTimer {
		if !a.c.TSCDeadline {
			v &^= timerTSCDeadline
		}
		a.setLVTTimer(v)
		return
	}
	if v&lvtLevel == 0 || apic.Mode(v&lvtMode>>8) != apic.Fixed {
		v &^= lvtRemoteIRR
	}
	a.lvt[n] = v
	a.local(n, false)
}
