package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// Model is a set of features that CPUID reports and that bring no instructions with them.
type Model uint32

// The model features.
const (
	ModelNX          Model = 1 << iota // execute disable (SDM vol. 3A, 4.6)
	ModelPCID                          // process-context identifiers (4.10.1)
	ModelSMEP                          // supervisor-mode execution prevention (4.6)
	ModelPDPE1GB                       // 1-GByte pages (4.5)
	ModelLA57                          // 57-bit linear addresses, 5-level paging (4.5)
	ModelUMIP                          // user-mode instruction prevention (2.5)
	ModelTSCDeadline                   // the local APIC timer's TSC-deadline mode (10.5.4.1)
	ModelFrequencies                   // leaves 15H and 16H tell the frequencies, so that no guest needs to measure them
	ModelPGE                           // global pages, which stay translated when CR3 is written (4.10.2.4)
)

// Has reports whether the set holds f.
func (m Model) Has(f Model) bool { return m&f != 0 }

// Model returns the processor's features that bring no instructions.
func (c *CPU) Model() Model { return c.model }

// DefaultModel is what a CPU has if Config.Model is 0.
const DefaultModel = ModelNX | ModelPCID | ModelSMEP | ModelPDPE1GB | ModelUMIP | ModelTSCDeadline | ModelFrequencies |
	ModelPGE

// DefaultFeatures is x86-64-v2 (System V ABI, 3.1.1) with what modern kernels like to have.
var DefaultFeatures = isa.Features(
	isa.FeatFPU, isa.FeatTSC, isa.FeatMSR, isa.FeatCX8, isa.FeatSEP, isa.FeatCMOV, isa.FeatCLFSH, isa.FeatMMX, isa.FeatFXSR,
	isa.FeatSSE, isa.FeatSSE2, isa.FeatSSE3, isa.FeatSSSE3, isa.FeatSSE41, isa.FeatSSE42, isa.FeatCX16, isa.FeatPOPCNT,
	isa.FeatLAHF, isa.FeatSYSCALL, isa.FeatRDTSCP, isa.FeatXSAVE, isa.FeatRDRAND, isa.FeatRDSEED, isa.FeatSMAP,
	isa.FeatFSGSBASE, isa.FeatINVPCID, isa.FeatMOVBE, isa.FeatCLFLUSHOPT,
)

// cpuidBit is one feature bit of a CPUID register.
type cpuidBit struct {
	bit  uint8
	feat isa.Feature
}

var (
	leaf1ECX = []cpuidBit{
		{0, isa.FeatSSE3},
		{1, isa.FeatPCLMUL},
		{3, isa.FeatMONITOR},
		{9, isa.FeatSSSE3},
		{13, isa.FeatCX16},
		{19, isa.FeatSSE41},
		{20, isa.FeatSSE42},
		{22, isa.FeatMOVBE},
		{23, isa.FeatPOPCNT},
		{25, isa.FeatAES},
		{26, isa.FeatXSAVE},
		{30, isa.FeatRDRAND},
	}
	leaf1EDX = []cpuidBit{
		{0, isa.FeatFPU},
		{4, isa.FeatTSC},
		{5, isa.FeatMSR},
		{8, isa.FeatCX8},
		{11, isa.FeatSEP},
		{15, isa.FeatCMOV},
		{19, isa.FeatCLFSH},
		{23, isa.FeatMMX},
		{24, isa.FeatFXSR},
		{25, isa.FeatSSE},
		{26, isa.FeatSSE2},
	}
	leaf7EBX = []cpuidBit{
		{0, isa.FeatFSGSBASE},
		{3, isa.FeatBMI1},
		{10, isa.FeatINVPCID},
		{18, isa.FeatRDSEED},
		{19, isa.FeatADX},
		{20, isa.FeatSMAP},
		{23, isa.FeatCLFLUSHOPT},
		{24, isa.FeatCLWB},
	}
	leaf7ECX = []cpuidBit{{3, isa.FeatPKU}, {22, isa.FeatRDPID}}
	leafXECX = []cpuidBit{{0, isa.FeatLAHF}, {5, isa.FeatLZCNT}}
	leafXEDX = []cpuidBit{{27, isa.FeatRDTSCP}}
)

func (c *CPU) bits(list []cpuidBit) (v uint32) {
	for _, b := range list {
		if c.feat.Has(b.feat) {
			v |= 1 << b.bit
		}
	}
	return v
}

func (c *CPU) modelBit(m Model, bit uint8) uint32 {
	if c.model.Has(m) {
		return 1 << bit
	}
	return 0
}

// Leaves that are the highest of their range, and the model's name.
const (
	maxLeaf         = 0x16
	maxExtendedLeaf = 0x80000008
	vendorName      = "GenuineIntel"
	brandName       = "emu virtual CPU"
)

// signature is family 6, model 2BH (which Intel has given to no product, so that no model's errata are looked for),
// stepping 1. docs/decisions/cpu-model.md says why.
func (c *CPU) signature() uint32 { return 2<<16 | 6<<8 | 0xb<<4 | 1 }

func nameWord(s string) (v uint32) {
	for i := range 4 {
		if i < len(s) {
			v |= uint32(s[i]) << (8 * i)
		}
	}
	return v
}

// CPUID returns what the instruction does for a leaf and subleaf in the present state (SDM vol. 2, CPUID).
func (c *CPU) CPUID(leaf, sub uint32) (eax, ebx, ecx, edx uint32) {
	if leaf > maxLeaf && leaf < 0x80000000 || leaf > maxExtendedLeaf {
		leaf = maxLeaf // as Intel's processors do
	}
	switch leaf {
	case 0:
		return maxLeaf, nameWord(vendorName), nameWord(vendorName[8:]), nameWord(vendorName[4:])
	case 1:
		ebx = uint32(c.apicID)<<24 | 1<<16 | 8<<8
		ecx = c.bits(leaf1ECX) | c.modelBit(ModelPCID, 17) | c.modelBit(ModelTSCDeadline, 24)
		if c.cr4&cr4OSXSAVE != 0 {
			ecx |= 1 << 27
		}
		// DE, PSE, PAE, MCE, MTRR, MCA, PAT, PSE-36, SS
		edx = c.bits(leaf1EDX) | c.modelBit(ModelPGE, 13) | 1<<2 | 1<<3 | 1<<6 | 1<<7 | 1<<12 | 1<<14 | 1<<16 | 1<<17 | 1<<27
		if c.plat == nil || c.plat.APICBase()&(1<<11) != 0 {
			edx |= 1 << 9
		}
		return c.signature(), ebx, ecx, edx
	case 2:
		return 0x00feff01, 0, 0, 0 // see leaf 4
	case 4:
		// Type, level and size; line 64 bytes, one thread, one core.
		switch sub {
		case 0:
			return 1 | 1<<5 | 1<<8, 7<<22 | 63, 63, 0 // 32 KiB data
		case 1:
			return 2 | 1<<5 | 1<<8, 7<<22 | 63, 63, 0 // 32 KiB instructions
		case 2:
			return 3 | 2<<5 | 1<<8, 15<<22 | 63, 1023, 0 // 1 MiB
		case 3:
			return 3 | 3<<5 | 1<<8, 15<<22 | 63, 8191, 0 // 8 MiB
		}
		return 0, 0, 0, 0
	case 6:
		return 1 << 2, 0, 0, 0 // ARAT: the APIC timer never stops
	case 7:
		if sub != 0 {
			return 0, 0, 0, 0
		}
		ebx = c.bits(leaf7EBX) | 1<<1 | c.modelBit(ModelSMEP, 7) // TSC_ADJUST
		ecx = c.bits(leaf7ECX) | c.modelBit(ModelUMIP, 2) | c.modelBit(ModelLA57, 16)
		return 0, ebx, ecx, 1 << 29 // ARCH_CAPABILITIES
	case 0xb:
		switch sub {
		case 0:
			return 0, 1, 1 << 8, uint32(c.apicID)
		case 1:
			return 0, 1, 2<<8 | 1, uint32(c.apicID)
		}
		return 0, 0, sub & 0xff, uint32(c.apicID)
	case 0xd:
		if !c.feat.Has(isa.FeatXSAVE) {
			return 0, 0, 0, 0
		}
		switch sub {
		case 0:
			return uint32(xcr0Allowed), 576, 576, 0
		case 1:
			if c.feat.Has(isa.FeatXSAVEOPT) {
				eax |= 1
			}
			if c.feat.Has(isa.FeatXSAVEC) {
				eax |= 2
			}
			return eax, 0, 0, 0
		}
		return 0, 0, 0, 0
	case 0x15:
		if c.model.Has(ModelFrequencies) {
			return 1, 1, 1_000_000_000, 0 // TSC = crystal = 1 GHz
		}
	case 0x16:
		if c.model.Has(ModelFrequencies) {
			return 1000, 1000, 100, 0
		}
	case 0x80000000:
		return maxExtendedLeaf, 0, 0, 0
	case 0x80000001:
		ecx = c.bits(leafXECX) | 1<<8 // PREFETCHW
		edx = c.bits(leafXEDX) | c.modelBit(ModelNX, 20) | c.modelBit(ModelPDPE1GB, 26)
		if c.feat.Has(isa.FeatSYSCALL) {
			edx |= 1 << 29
			if c.mode == isa.Mode64 {
				edx |= 1 << 11
			}
		}
		return 0, 0, ecx, edx
	case 0x80000002, 0x80000003, 0x80000004:
		var name [48]byte
		copy(name[:], brandName)
		s := string(name[(leaf-0x80000002)*16:][:16])
		return nameWord(s), nameWord(s[4:]), nameWord(s[8:]), nameWord(s[12:])
	case 0x80000006:
		return 0, 0, 1024<<16 | 8<<12 | 64, 0 // 1 MiB, 16-way
	case 0x80000007:
		return 0, 0, 0, 1 << 8 // invariant TSC
	case 0x80000008:
		width := uint32(48)
		if c.model.Has(ModelLA57) {
			width = 57
		}
		return uint32(c.mmu.physBits) | width<<8, 0, 0, 0
	}
	return 0, 0, 0, 0
}

func cpuid(c *CPU, _ *uop) bool {
	a, b, cx, d := c.CPUID(uint32(c.r[isa.RAX]), uint32(c.r[isa.RCX]))
	c.r[isa.RAX], c.r[isa.RBX], c.r[isa.RCX], c.r[isa.RDX] = uint64(a), uint64(b), uint64(cx), uint64(d)
	return true
}
