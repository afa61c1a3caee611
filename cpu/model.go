package cpu

import (
	"fmt"
	"strings"

	"github.com/hybridbridge/emu/cpu/isa"
)

// modelNames are the names of model features as Linux's /proc/cpuinfo spells them.
var modelNames = map[string]Model{
	"nx": ModelNX, "pcid": ModelPCID, "smep": ModelSMEP, "pdpe1gb": ModelPDPE1GB, "la57": ModelLA57, "umip": ModelUMIP,
	"tsc_deadline_timer": ModelTSCDeadline, "frequencies": ModelFrequencies, "pge": ModelPGE,
}

// ParseModel changes the default features and model by a list like "+la57,-pcid": names as in /proc/cpuinfo, or of a
// row's feature in lower case. An empty list is the default.
func ParseModel(list string) (isa.FeatureSet, Model, error) {
	feat, model := DefaultFeatures, DefaultModel
	if list == "" {
		return feat, model, nil
	}
	for _, word := range strings.Split(list, ",") {
		if len(word) < 2 || word[0] != '+' && word[0] != '-' {
			return 0, 0, fmt.Errorf("CPU feature %q: write +name or -name", word)
		}
		on, name := word[0] == '+', word[1:]
		if m, ok := modelNames[name]; ok {
			if model &^= m; on {
				model |= m
			}
			continue
		}
		f, ok := isa.FeatureNamed(strings.ToUpper(name))
		if !ok || !offered.Has(f) {
			return 0, 0, fmt.Errorf("CPU feature %q: emu does not have it", name)
		}
		if feat &^= isa.Features(f); on {
			feat |= isa.Features(f)
		}
	}
	return feat, model, nil
}

// offered are the features that the CPU implements; those beyond the default must be asked for. BMI1 is none of them:
// there is TZCNT, but not the VEX-encoded rest.
var offered = DefaultFeatures | isa.Features(isa.FeatPCLMUL, isa.FeatAES, isa.FeatADX, isa.FeatLZCNT, isa.FeatCLWB,
	isa.FeatRDPID, isa.FeatXSAVEOPT, isa.FeatXSAVEC, isa.FeatMONITOR)
