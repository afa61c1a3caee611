package protocol

import (
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/internal/policypb"
)

func kernelToProto(k policy.Kernel) *policypb.Kernel {
	return &policypb.Kernel{Banner: k.Banner, Release: k.Release, Bits: int64(k.Bits)}
}

func policyToProto(p *policy.Policy) *policypb.Policy {
	m := &policypb.Policy{Local: p.Local, Budget: p.Budget}
	for i := range p.Scopes {
		m.Scopes = append(m.Scopes, scopeToProto(&p.Scopes[i]))
	}
	for _, e := range p.Elided {
		m.Elided = append(m.Elided, &policypb.Elision{
			Function: e.Function, Argument: int64(e.Argument), Always: e.Always, Once: e.Once, Clock: e.Clock, Return: e.Return,
		})
	}
	for _, l := range p.Locks {
		m.Locks = append(m.Locks, &policypb.Lock{Function: l.Function, Argument: int64(l.Argument), Offset: l.Offset, Size: l.Size})
	}
	for _, s := range p.Substitutes {
		m.Substitutes = append(m.Substitutes, &policypb.Substitute{
			Functions: s.Functions, Scopes: s.Scopes, Local: string(s.Local), PerCpu: s.PerCPU, Snapshot: string(s.Snapshot),
		})
	}
	for _, c := range p.Clocks {
		m.Clocks = append(m.Clocks, string(c))
	}
	return m
}

func scopeToProto(s *policy.Scope) *policypb.Scope {
	m := &policypb.Scope{
		Name: s.Name, Syscalls: s.Syscalls, Files: s.Files, FileArgument: int64(s.FileArgument), FreezeClock: s.FreezeClock,
		Paths: s.Paths, PathArgument: int64(s.PathArgument),
	}
	for _, r := range s.Roots {
		m.Roots = append(m.Roots, &policypb.Root{Symbol: r.Symbol, Offset: r.Offset, Size: r.Size, PerCpu: r.PerCPU})
	}
	return m
}

func interestsToProto(interests []policy.Interest) *policypb.InterestList {
	m := &policypb.InterestList{}
	for _, i := range interests {
		m.Interests = append(m.Interests, &policypb.Interest{Functions: i.Functions, Scopes: i.Scopes})
	}
	return m
}

func sitesToProto(sites []policy.Site) *policypb.Sites {
	m := &policypb.Sites{Sites: make([]*policypb.Site, len(sites))}
	for i := range sites {
		s := &sites[i]
		site := &policypb.Site{
			Scope: s.Scope, Address: s.Address, Symbol: s.Symbol, Offset: s.Offset, Module: s.Module, Code: s.Bytes,
			Disassembly: s.Disassembly, Category: policypb.Category(s.Category), Context: s.Context,
		}
		for _, o := range s.Operands {
			site.Operands = append(site.Operands, &policypb.Operand{
				Text: o.Text, Size: int64(o.Size), Read: o.Read, Write: o.Write,
				Route: policypb.Route(o.Route), Reason: policypb.Reason(o.Reason),
			})
		}
		m.Sites[i] = site
	}
	return m
}

func plansToProto(plans []policy.Plan) *policypb.Plans {
	m := &policypb.Plans{Plans: make([]*policypb.Plan, len(plans))}
	for i := range plans {
		p := &plans[i]
		plan := &policypb.Plan{Writes: policypb.WriteRule(p.Writes), Elide: p.Elide, Frozen: p.Frozen, Trap: p.Trap}
		for _, r := range p.Routes {
			plan.Routes = append(plan.Routes, policypb.Route(r))
		}
		m.Plans[i] = plan
	}
	return m
}
