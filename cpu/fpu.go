package cpu

import "github.com/hybridbridge/emu/cpu/softfloat"

// fpuState is the live x87, MMX and SSE state. MMX register i is the significand of physical register i.
type fpuState struct {
	st  [8]softfloat.F80 // physical registers R0-R7
	top uint8            // number of the physical register that is ST(0)
	// full has bit i set if physical register i is not empty.
	full uint8
	cw   uint16
	// sw is the status word without TOP.
	sw         uint16
	lastOpcode uint16
	lastCS     uint16
	lastDS     uint16
	lastIP     uint64
	lastDP     uint64

	xmm   [16][2]uint64 // low quadword first
	mxcsr uint32
	// envFor is the MXCSR, with envValid, that CPU.sfEnv was made for; envFlags are the flags that it starts with.
	envFor   uint32
	envFlags softfloat.Flags
	xcr0     uint64
}
