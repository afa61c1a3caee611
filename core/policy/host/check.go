package host

import (
	"context"
	"fmt"
	"time"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/protocol"
)

// Finding is what Check found out about a plugin; Err is nil if nothing is wrong with it.
type Finding struct {
	Plugin *Plugin
	Err    error
	// Interests are a handler's.
	Interests []policy.Interest
}

// Check starts every plugin and asks it about sample kernels and sites, all of them even if one fails. It returns a finding for
// each plugin, and the merged policies for 64 and for 32 bits; its error is about these, and joins nothing of the findings.
func (h *Host) Check(ctx context.Context) ([]Finding, map[int]policy.Policy, error) {
	findings := make([]Finding, len(h.plugins))
	for i, p := range h.plugins {
		findings[i].Plugin = p
		findings[i].Interests, findings[i].Err = p.sample(ctx)
	}
	merged := map[int]policy.Policy{}
	for _, k := range sampleKernels() {
		p, err := h.Policy(ctx, k)
		if err != nil {
			return findings, merged, fmt.Errorf("a kernel of %d bits: %w", k.Bits, err)
		}
		merged[k.Bits] = p
	}
	return findings, merged, nil
}

func (p *Plugin) sample(ctx context.Context) ([]policy.Interest, error) {
	if p.Kind == protocol.Instructions {
		c, err := parseCategory(p.Category)
		if err != nil {
			return nil, err
		}
		interests, err := p.Interests(ctx)
		if err == nil {
			_, err = p.Plan(ctx, sampleSites(c, 2))
		}
		return interests, err
	}
	for _, k := range sampleKernels() {
		if _, err := p.Describe(ctx, k); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Speed is how fast a plugin answers questions about Batch things at once.
type Speed struct {
	Plugin string
	Batch  int
	Calls  int
	Time   time.Duration
}

// Bench asks a plugin for at least so long, about batches of so many sites (or about a kernel). It starts the plugin before.
func (p *Plugin) Bench(ctx context.Context, batch int, least time.Duration) (Speed, error) {
	s := Speed{Plugin: p.Name, Batch: batch}
	ask := func() error { _, err := p.Describe(ctx, sampleKernels()[0]); return err }
	if p.Kind == protocol.Instructions {
		c, err := parseCategory(p.Category)
		if err != nil {
			return s, err
		}
		sites := sampleSites(c, batch)
		ask = func() error { _, err := p.Plan(ctx, sites); return err }
	}
	if err := ask(); err != nil {
		return s, err
	}
	since := time.Now()
	for ; s.Time < least; s.Time = time.Since(since) {
		if err := ask(); err != nil {
			return s, err
		}
		s.Calls++
	}
	return s, nil
}

func sampleKernels() []policy.Kernel {
	return []policy.Kernel{
		{Banner: "Linux version 6.1.0-50-amd64 (a sample)", Release: "6.1.0-50-amd64", Bits: 64},
		{Banner: "Linux version 6.1.0-50-686-pae (a sample)", Release: "6.1.0-50-686-pae", Bits: 32},
	}
}

// sampleSites are like those of a category that a run asks about.
func sampleSites(c policy.Category, n int) []policy.Site {
	local := policy.Operand{Text: "stack", Size: 8, Write: true, Route: policy.Local, Reason: policy.ByStack}
	far := policy.Operand{Text: "[rax+0x10]", Size: 8, Read: true, Route: policy.Snapshot, Reason: policy.ByTaint}
	s := policy.Site{
		Scope: "procfs", Address: 0xffffffff81000000, Symbol: "seq_show", Bytes: []byte{0xff, 0x70, 0x10},
		Disassembly: "push qword ptr [rax+0x10]", Category: c, Context: []string{"seq_read_iter+0x11e", "vfs_read+0x1fa", "ksys_read+0x5f"},
	}
	switch c {
	case policy.Neutral:
		s.Bytes, s.Disassembly, s.Context = []byte{0x90}, "nop", nil
	case policy.Redirectable, policy.BiRedirectable:
		s.Bytes, s.Disassembly, s.Operands = []byte{0x48, 0x8b, 0x40, 0x10}, "mov rax, qword ptr [rax+0x10]", []policy.Operand{far}
	case policy.NonRedirectable:
		s.Bytes, s.Disassembly, s.Operands = []byte{0x50}, "push rax", []policy.Operand{local}
	case policy.Unknown:
		far.Route, far.Reason = policy.Local, policy.ByDefault
		s.Operands, s.Context = []policy.Operand{far, local}, nil
	default:
		s.Operands = []policy.Operand{far, local}
	}
	sites := make([]policy.Site, n)
	for i := range sites {
		sites[i] = s
		sites[i].Address += uint64(i)
		sites[i].Offset = uint64(i)
	}
	return sites
}
