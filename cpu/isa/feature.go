package isa

// Feature is a CPUID feature that brings instructions with it (SDM vol. 2A, CPUID, tables 3-10 and 3-11).
type Feature uint8

// The features that rows name. FeatNone marks what every processor has.
const (
	FeatNone Feature = iota
	FeatFPU
	FeatTSC
	FeatMSR
	FeatCX8
	FeatSEP
	FeatCMOV
	FeatCLFSH
	FeatMMX
	FeatFXSR
	FeatSSE
	FeatSSE2
	FeatSSE3
	FeatMONITOR
	FeatSSSE3
	FeatCX16
	FeatSSE41
	FeatSSE42
	FeatMOVBE
	FeatPOPCNT
	FeatAES
	FeatPCLMUL
	FeatXSAVE
	FeatRDRAND
	FeatLAHF // LAHF and SAHF in 64-bit mode
	FeatSYSCALL
	FeatRDTSCP
	FeatLZCNT
	FeatBMI1
	FeatADX
	FeatRDSEED
	FeatSMAP
	FeatFSGSBASE
	FeatINVPCID
	FeatCLFLUSHOPT
	FeatCLWB
	FeatPKU
	FeatRDPID
	FeatXSAVEOPT
	FeatXSAVEC
	FeatXSAVES
	FeatVMX
	FeatSVM
	numFeatures
)

var featureNames = [numFeatures]string{
	"", "FPU", "TSC", "MSR", "CX8", "SEP", "CMOV", "CLFSH", "MMX", "FXSR", "SSE", "SSE2", "SSE3", "MONITOR", "SSSE3",
	"CX16", "SSE41", "SSE42", "MOVBE", "POPCNT", "AES", "PCLMUL", "XSAVE", "RDRAND", "LAHF", "SYSCALL", "RDTSCP",
	"LZCNT", "BMI1", "ADX", "RDSEED", "SMAP", "FSGSBASE", "INVPCID", "CLFLUSHOPT", "CLWB", "PKU", "RDPID", "XSAVEOPT",
	"XSAVEC", "XSAVES", "VMX", "SVM",
}

// String returns the feature's name as rows spell it; "" for FeatNone.
func (f Feature) String() string {
	if f < numFeatures {
		return featureNames[f]
	}
	return "Feature?"
}

// FeatureSet is a set of features, one bit each.
type FeatureSet uint64

// AllFeatures holds every feature that a row names.
const AllFeatures FeatureSet = 1<<numFeatures - 1

// Features returns the set of the given features.
func Features(list ...Feature) FeatureSet {
	var s FeatureSet
	for _, f := range list {
		s |= 1 << f
	}
	return s
}

// Has reports whether the set holds f. Every set holds FeatNone.
func (s FeatureSet) Has(f Feature) bool { return f == FeatNone || s>>f&1 != 0 }

// FeatureNamed returns the feature that rows spell so.
func FeatureNamed(name string) (Feature, bool) {
	for f, n := range featureNames {
		if n == name && n != "" {
			return Feature(f), true
		}
	}
	return FeatNone, false
}
