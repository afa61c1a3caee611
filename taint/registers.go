package taint

// Registers is the taint of one processor's registers. The zero value is clean.
type Registers struct {
	// GPR holds RAX to R15, 8 bytes each. The slots that follow are always clean: for an absent base or index, for RIP, and
	// so that any five-bit number is an index.
	GPR [32]Mask
	// XMM holds the vector registers, 16 bytes each.
	XMM [16]Mask
	// ST holds the physical x87 registers R0-R7, 10 bytes each; MMX register i is the low 8 bytes of ST[i].
	ST [8]Mask
	// Flags is the taint of the arithmetic flags: bit 0 if any of them depends on a source.
	Flags Mask
	// FPUStatus is the taint of the x87 condition codes C0-C3, bit 0.
	FPUStatus Mask
	// Segment is the taint of FS.base and GS.base and KERNEL_GS_BASE, set by tainted values through WRFSBASE or WRMSR.
	Segment [6]Mask
}

// Tainted reports whether any register is.
func (r *Registers) Tainted() bool {
	var m Mask
	for _, x := range r.GPR[:16] {
		m |= x
	}
	for _, x := range r.XMM {
		m |= x
	}
	for _, x := range r.ST {
		m |= x
	}
	for _, x := range r.Segment {
		m |= x
	}
	return m|r.Flags|r.FPUStatus != 0
}

// Clear makes all registers clean.
func (r *Registers) Clear() { *r = Registers{} }
