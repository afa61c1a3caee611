package cpu

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// What another processor must have so that a guest of this one can run on it.

// subleaves is how many subleaves the leaves have that have any.
var subleaves = map[uint32]uint32{4: 5, 7: 1, 0xb: 3, 0xd: 2}

// CPUIDLeaves returns all that CPUID reports, as in 64-bit mode.
func (c *CPU) CPUIDLeaves() []vcpu.CPUIDLeaf {
	mode := c.mode
	c.mode = isa.Mode64
	defer func() { c.mode = mode }()
	var leaves []vcpu.CPUIDLeaf
	for _, r := range [][2]uint32{{0, maxLeaf}, {0x80000000, maxExtendedLeaf}} {
		for leaf := r[0]; leaf <= r[1]; leaf++ {
			n, indexed := subleaves[leaf]
			for sub := range max(n, 1) {
				l := vcpu.CPUIDLeaf{Leaf: leaf, Sub: sub, Indexed: indexed}
				l.EAX, l.EBX, l.ECX, l.EDX = c.CPUID(leaf, sub)
				leaves = append(leaves, l)
			}
		}
	}
	return leaves
}

// cpuidWord is a register of CPUID that has a feature a bit. Others need not have the bits in free: they are the host's
// or the platform's.
type cpuidWord struct {
	leaf, sub uint32
	reg       uint8 // EAX, EBX, ECX, EDX
	free      uint32
}

var cpuidWords = [...]cpuidWord{
	{1, 0, 2, 1<<27 | 1<<24}, // OSXSAVE, TSC_DEADLINE
	{1, 0, 3, 1 << 9},        // APIC
	{7, 0, 1, 0},
	{7, 0, 2, 0},
	{7, 0, 3, 1 << 29}, // ARCH_CAPABILITIES
	{0xd, 1, 0, 0},
	{0x80000001, 0, 2, 1 << 8}, // PREFETCHW, which all that have long mode execute
	{0x80000001, 0, 3, 0},
}

// cpuidBits are the features in the order of cpuidWords.
type cpuidBits [len(cpuidWords)]uint32

func featureBits(leaves []vcpu.CPUIDLeaf) (b cpuidBits) {
	for i, w := range cpuidWords {
		for _, l := range leaves {
			if l.Leaf == w.leaf && (l.Sub == w.sub || !l.Indexed) {
				b[i] = [...]uint32{l.EAX, l.EBX, l.ECX, l.EDX}[w.reg]
			}
		}
	}
	return b
}

// featureBits needs no more of a processor than its model.
func (cfg Config) featureBits() cpuidBits {
	return featureBits((&CPU{feat: cfg.Features, model: cfg.Model}).CPUIDLeaves())
}

func (b cpuidBits) and(o cpuidBits) cpuidBits {
	for i := range b {
		b[i] &= o[i]
	}
	return b
}

func (b cpuidBits) without(o cpuidBits) cpuidBits {
	for i := range b {
		b[i] &^= o[i]
	}
	return b
}

func (b cpuidBits) count() (n int) {
	for _, w := range b {
		n += bits.OnesCount32(w)
	}
	return n
}

// choice is a feature that a configuration may leave out.
type choice struct {
	name  string
	feat  isa.FeatureSet
	model Model
	bits  cpuidBits
}

// choices are the features of cfg, those with the fewest bits first: a feature may bring others' bits with it.
func choices(cfg Config) []choice {
	all := cfg.featureBits()
	var list []choice
	add := func(name string, feat isa.FeatureSet, model Model) {
		less := cfg
		less.Features &^= feat
		less.Model &^= model
		list = append(list, choice{name, feat, model, all.without(less.featureBits())})
	}
	for f := range isa.Feature(64) {
		if f != isa.FeatNone && cfg.Features.Has(f) {
			add(strings.ToLower(f.String()), isa.Features(f), 0)
		}
	}
	for name, m := range modelNames {
		if cfg.Model.Has(m) {
			add(name, 0, m)
		}
	}
	slices.SortFunc(list, func(a, b choice) int {
		if n := a.bits.count() - b.bits.count(); n != 0 {
			return n
		}
		return strings.Compare(a.name, b.name)
	})
	return list
}

// Fit returns the configuration without the features that host, what another processor's CPUID can report, lacks, and their
// names as ParseModel takes them. rest are lacking features that every model has, by their place in CPUID.
func (cfg Config) Fit(host []vcpu.CPUIDLeaf) (fit Config, dropped, rest []string) {
	if cfg.Features == 0 {
		cfg.Features = DefaultFeatures
	}
	if cfg.Model == 0 {
		cfg.Model = DefaultModel
	}
	missing := cfg.featureBits().without(featureBits(host))
	for i, w := range cpuidWords {
		missing[i] &^= w.free
	}
	fit = cfg
	if missing.count() > 0 {
		for _, f := range choices(cfg) {
			if f.bits.and(missing).count() > 0 {
				fit.Features &^= f.feat
				fit.Model &^= f.model
				dropped = append(dropped, f.name)
				missing = missing.without(f.bits)
			}
		}
	}
	for i, w := range cpuidWords {
		for bit := range 32 {
			if missing[i]>>bit&1 != 0 {
				rest = append(rest, fmt.Sprintf("CPUID leaf %#x %s bit %d", w.leaf, [...]string{"EAX", "EBX", "ECX", "EDX"}[w.reg], bit))
			}
		}
	}
	return fit, dropped, rest
}

// Lacking returns the names of all features of this processor that host lacks, as Fit gives them.
func (c *CPU) Lacking(host []vcpu.CPUIDLeaf) []string {
	_, dropped, rest := Config{Features: c.feat, Model: c.model}.Fit(host)
	return append(dropped, rest...)
}
