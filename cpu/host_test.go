package cpu

import (
	"slices"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

func TestFit(t *testing.T) {
	full := Config{Features: offered, Model: DefaultModel | ModelLA57}
	host := New(full).CPUIDLeaves()
	fit, dropped, rest := full.Fit(host)
	if fit.Features != full.Features || fit.Model != full.Model || dropped != nil || rest != nil {
		t.Errorf("a processor does not fit itself: %v, %v", dropped, rest)
	}
	less := Config{Features: full.Features &^ isa.Features(isa.FeatINVPCID, isa.FeatXSAVEOPT, isa.FeatRDSEED), Model: full.Model &^ (ModelPCID | ModelTSCDeadline | ModelNX)}
	host = New(less).CPUIDLeaves()
	fit, dropped, rest = full.Fit(host)
	slices.Sort(dropped)
	if !slices.Equal(dropped, []string{"invpcid", "nx", "pcid", "rdseed", "xsaveopt"}) || rest != nil {
		t.Errorf("dropped %v, rest %v", dropped, rest)
	}
	if fit.Features != less.Features || fit.Model != less.Model|ModelTSCDeadline { // which the platform has
		t.Errorf("features %x, model %x", fit.Features, fit.Model)
	}
	for i := range host {
		if host[i].Leaf == 1 {
			host[i].EDX &^= 1 << 12
		}
	}
	if _, _, rest = full.Fit(host); !slices.Equal(rest, []string{"CPUID leaf 0x1 EDX bit 12"}) {
		t.Errorf("rest %v", rest)
	}
	// The default configuration is written as 0.
	if fit, dropped, rest = (Config{}).Fit(New(Config{}).CPUIDLeaves()); fit.Features != DefaultFeatures || dropped != nil || rest != nil {
		t.Errorf("%x, %v, %v", fit.Features, dropped, rest)
	}
}

// TestCPUIDLeaves compares the list with the instruction in 64-bit mode.
func TestCPUIDLeaves(t *testing.T) {
	c := New(Config{})
	s := c.State()
	s.CR0, s.CR4, s.MSR.EFER = s.CR0|cr0PE|cr0PG, s.CR4|cr4PAE, eferLME|eferLMA
	s.Seg[isa.CS].Attr |= 1 << 13
	leaves := c.CPUIDLeaves()
	if err := c.SetState(s); err != nil {
		t.Fatal(err)
	}
	for _, l := range leaves {
		if a, b, cx, d := c.CPUID(l.Leaf, l.Sub); a != l.EAX || b != l.EBX || cx != l.ECX || d != l.EDX {
			t.Errorf("leaf %#x.%d is %x %x %x %x, want %x %x %x %x", l.Leaf, l.Sub, l.EAX, l.EBX, l.ECX, l.EDX, a, b, cx, d)
		}
	}
	if n := len(leaves); n < maxLeaf+9 {
		t.Errorf("%d leaves", n)
	}
}
