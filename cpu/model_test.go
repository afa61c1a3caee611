package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

func TestParseModel(t *testing.T) {
	feat, model, err := ParseModel("+la57,-pcid,-sse42,+aes")
	if err != nil {
		t.Fatal(err)
	}
	if !model.Has(ModelLA57) || model.Has(ModelPCID) || !model.Has(ModelNX) {
		t.Errorf("model %b", model)
	}
	if feat.Has(isa.FeatSSE42) || !feat.Has(isa.FeatAES) || !feat.Has(isa.FeatSSE2) {
		t.Errorf("features %b", feat)
	}
	for _, bad := range []string{"la57", "+", "+avx512", "+vmx", ","} {
		if _, _, err := ParseModel(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
