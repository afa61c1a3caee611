package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// Model-specific registers (SDM vol. 4, table 2-2). Any other is #GP.
const (
	msrTSC              = 0x10
	msrPlatformID       = 0x17
	msrAPICBase         = 0x1b
	msrTSCAdjust        = 0x3b
	msrUpdateTrigger    = 0x79
	msrMicrocode        = 0x8b
	msrMTRRCap          = 0xfe
	msrArchCapabilities = 0x10a
	msrSysenterCS       = 0x174
	msrSysenterESP      = 0x175
	msrSysenterEIP      = 0x176
	msrMCGCap           = 0x179
	msrMCGStatus        = 0x17a
	msrMiscEnable       = 0x1a0
	msrDebugCtl         = 0x1d9
	msrMTRRPhys         = 0x200 // base and mask of 8 ranges
	msrMTRRFix64K       = 0x250
	msrMTRRFix16K       = 0x258 // and 0x259
	msrMTRRFix4K        = 0x268 // to 0x26f
	msrPAT              = 0x277
	msrMTRRDefType      = 0x2ff
	msrTSCDeadline      = 0x6e0
	msrEFER             = 0xc0000080
	msrSTAR             = 0xc0000081
	msrLSTAR            = 0xc0000082
	msrCSTAR            = 0xc0000083
	msrFMASK            = 0xc0000084
	msrFSBase           = 0xc0000100
	msrGSBase           = 0xc0000101
	msrKernelGSBase     = 0xc0000102
	msrTSCAux           = 0xc0000103

	mtrrRanges = 8

	// archCapabilities states the side channels that this processor does not have: RDCL_NO, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO,
	// IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. It executes
	// nothing speculatively.
	archCapabilities = 1<<0 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<8 | 1<<13 | 1<<14 | 1<<15 | 1<<20 | 1<<24 | 1<<26 | 1<<27 | 1<<62
)

func rdmsr(c *CPU, _ *uop) bool {
	v, ok := c.ReadMSR(uint32(c.r[isa.RCX]))
	if !ok {
		return c.gp(0)
	}
	c.setEDXEAX(v)
	return true
}

func wrmsr(c *CPU, _ *uop) bool {
	if !c.WriteMSR(uint32(c.r[isa.RCX]), c.edxEAX()) {
		return c.gp(0)
	}
	return true
}

// fixedMTRR gives the index of a fixed-range MTRR.
func fixedMTRR(n uint32) (i uint32, ok bool) {
	switch {
	case n == msrMTRRFix64K:
		return 0, true
	case n == msrMTRRFix16K || n == msrMTRRFix16K+1:
		return 1 + n - msrMTRRFix16K, true
	case n >= msrMTRRFix4K && n < msrMTRRFix4K+8:
		return 3 + n - msrMTRRFix4K, true
	}
	return 0, false
}

// msrPlain gives the registers that hold what was written to them.
func (c *CPU) msrPlain(n uint32) *uint64 {
	m := &c.msr
	switch n {
	case msrSysenterCS:
		return &m.SysenterCS
	case msrSysenterESP:
		return &m.SysenterESP
	case msrSysenterEIP:
		return &m.SysenterEIP
	case msrMCGStatus:
		return &m.MCGStatus
	case msrDebugCtl:
		return &m.DebugCtl
	case msrPAT:
		return &m.PAT
	case msrMTRRDefType:
		return &m.MTRRDefType
	case msrTSCAux:
		if c.feat.Has(isa.FeatRDTSCP) || c.feat.Has(isa.FeatRDPID) {
			return &m.TSCAux
		}
	case msrSTAR:
		return &m.STAR
	case msrLSTAR:
		return &m.LSTAR
	case msrCSTAR:
		return &m.CSTAR
	case msrFMASK:
		return &m.FMASK
	case msrKernelGSBase:
		return &m.KernelGSBase
	case msrFSBase:
		return &c.seg[isa.FS].Base
	case msrGSBase:
		return &c.seg[isa.GS].Base
	}
	if n >= msrMTRRPhys && n < msrMTRRPhys+2*mtrrRanges {
		return &m.MTRRPhys[n-msrMTRRPhys]
	}
	if i, ok := fixedMTRR(n); ok {
		return &m.MTRRFixed[i]
	}
	return nil
}

// ReadMSR reads a model-specific register as RDMSR does; ok is false for #GP.
func (c *CPU) ReadMSR(n uint32) (v uint64, ok bool) {
	if p := c.msrPlain(n); p != nil {
		return *p, true
	}
	switch n {
	case msrTSC:
		return c.TSC(), true
	case msrTSCAdjust:
		return uint64(c.msr.TSCAdjust), true
	case msrTSCDeadline:
		return c.plat.TSCDeadline(), c.model.Has(ModelTSCDeadline)
	case msrPlatformID, msrMicrocode, msrMCGCap:
		return 0, true
	case msrAPICBase:
		return c.plat.APICBase(), true
	case msrMTRRCap:
		return 1<<10 | 1<<8 | mtrrRanges, true // write-combining, fixed ranges
	case msrArchCapabilities:
		return archCapabilities, true
	case msrMiscEnable:
		return c.msr.MiscEnable | 1<<11 | 1<<12, true // no branch trace store, no PEBS
	case msrEFER:
		return c.msr.EFER, true
	}
	return 0, false
}

// memoryType reports whether t is a memory type that an MTRR or the PAT may name (SDM vol. 3A, 11.11, 11.12).
func memoryType(t uint64, pat bool) bool {
	return t <= 1 || t >= 4 && t <= 6 || pat && t == 7
}

// WriteMSR writes a model-specific register as WRMSR does; false is #GP.
func (c *CPU) WriteMSR(n uint32, v uint64) bool {
	switch n {
	case msrTSC:
		c.msr.TSCAdjust = int64(v - c.plat.TSC())
		c.plat.TSCChanged()
		return true
	case msrTSCAdjust:
		c.msr.TSCAdjust = int64(v)
		c.plat.TSCChanged()
		return true
	case msrTSCDeadline:
		if !c.model.Has(ModelTSCDeadline) {
			return false
		}
		c.plat.SetTSCDeadline(v)
		return true
	case msrAPICBase:
		return c.plat.SetAPICBase(v)
	case msrMicrocode, msrUpdateTrigger:
		return true
	case msrMiscEnable:
		c.msr.MiscEnable = c.msr.MiscEnable&^1 | v&1
		return true
	case msrEFER:
		return c.writeEFER(v)
	case msrSysenterESP, msrSysenterEIP, msrLSTAR, msrCSTAR, msrFSBase, msrGSBase, msrKernelGSBase:
		if !c.canonical(v) {
			return false
		}
	case msrSysenterCS, msrTSCAux, msrFMASK:
		if v>>32 != 0 {
			return false
		}
	case msrMCGStatus:
		if v != 0 {
			return false
		}
	case msrDebugCtl:
		if v&^3 != 0 { // LBR and BTF are there to be set; there is no branch record
			return false
		}
	case msrPAT:
		for i := range 8 {
			if !memoryType(v>>(8*i)&0xff, true) {
				return false
			}
		}
	case msrMTRRDefType:
		if v&^0xcff != 0 || !memoryType(v&0xff, false) {
			return false
		}
	default:
		if n >= msrMTRRPhys && n < msrMTRRPhys+2*mtrrRanges {
			allowed := c.mmu.physMask&^pageMask | 1<<11
			if n&1 == 0 {
				allowed = c.mmu.physMask&^pageMask | 0xff
				if !memoryType(v&0xff, false) {
					return false
				}
			}
			if v&^allowed != 0 {
				return false
			}
		}
		if _, ok := fixedMTRR(n); ok {
			for i := range 8 {
				if !memoryType(v>>(8*i)&0xff, false) {
					return false
				}
			}
		}
	}
	p := c.msrPlain(n)
	if p == nil {
		return false
	}
	*p = v
	switch n {
	case msrFSBase:
		c.setBase(isa.FS, v)
	case msrGSBase:
		c.setBase(isa.GS, v)
	}
	return true
}

// writeEFER writes IA32_EFER (SDM vol. 3A, 2.2.1). LMA is read-only.
func (c *CPU) writeEFER(v uint64) bool {
	allowed := eferLMA
	if c.feat.Has(isa.FeatSYSCALL) {
		allowed |= eferSCE | eferLME
	}
	if c.model.Has(ModelNX) {
		allowed |= eferNXE
	}
	old := c.msr.EFER
	if v&^allowed != 0 || (v^old)&eferLME != 0 && c.cr0&cr0PG != 0 {
		return false
	}
	c.msr.EFER = v&^eferLMA | old&eferLMA
	if (v^old)&eferNXE != 0 {
		c.pagingChanged()
		c.flushAll()
	}
	return true
}
