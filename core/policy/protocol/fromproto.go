package protocol

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/internal/policypb"
)

// EnumError says that a message has a number that names nothing, so that one side does not know what the other means.
type EnumError struct {
	// What is the enumeration, such as "Route".
	What   string
	Number int32
}

// Error names the enumeration and the number.
func (e *EnumError) Error() string { return fmt.Sprintf("%s %d does not exist", e.What, e.Number) }

func enum[T ~uint8, E protoreflect.Enum](e E) (T, error) {
	if d := e.Descriptor(); d.Values().ByNumber(e.Number()) == nil {
		return 0, &EnumError{What: string(d.Name()), Number: int32(e.Number())}
	}
	return T(e.Number()), nil
}

func kernelFromProto(m *policypb.Kernel) policy.Kernel {
	return policy.Kernel{Banner: m.GetBanner(), Release: m.GetRelease(), Bits: int(m.GetBits())}
}

func policyFromProto(m *policypb.Policy) policy.Policy {
	p := policy.Policy{Local: m.GetLocal(), Budget: m.GetBudget()}
	for _, s := range m.GetScopes() {
		p.Scopes = append(p.Scopes, scopeFromProto(s))
	}
	for _, e := range m.GetElided() {
		p.Elided = append(p.Elided, policy.Elision{
			Function: e.GetFunction(), Argument: int(e.GetArgument()), Always: e.GetAlways(), Once: e.GetOnce(), Clock: e.GetClock(),
			Return: e.GetReturn(),
		})
	}
	for _, l := range m.GetLocks() {
		p.Locks = append(p.Locks, policy.Lock{
			Function: l.GetFunction(), Argument: int(l.GetArgument()), Offset: l.GetOffset(), Size: l.GetSize(),
		})
	}
	for _, s := range m.GetSubstitutes() {
		p.Substitutes = append(p.Substitutes, policy.Substitute{
			Functions: s.GetFunctions(), Scopes: s.GetScopes(), Local: policy.Field(s.GetLocal()),
			PerCPU: s.GetPerCpu(), Snapshot: policy.Field(s.GetSnapshot()),
		})
	}
	for _, c := range m.GetClocks() {
		p.Clocks = append(p.Clocks, policy.Field(c))
	}
	return p
}

func scopeFromProto(m *policypb.Scope) policy.Scope {
	s := policy.Scope{
		Name: m.GetName(), Syscalls: m.GetSyscalls(), Files: m.GetFiles(), FileArgument: int(m.GetFileArgument()),
		FreezeClock: m.GetFreezeClock(), Paths: m.GetPaths(), PathArgument: int(m.GetPathArgument()),
	}
	for _, r := range m.GetRoots() {
		s.Roots = append(s.Roots, policy.Root{Symbol: r.GetSymbol(), Offset: r.GetOffset(), Size: r.GetSize(), PerCPU: r.GetPerCpu()})
	}
	return s
}

func interestsFromProto(m *policypb.InterestList) []policy.Interest {
	var interests []policy.Interest
	for _, i := range m.GetInterests() {
		interests = append(interests, policy.Interest{Functions: i.GetFunctions(), Scopes: i.GetScopes()})
	}
	return interests
}

func sitesFromProto(m *policypb.Sites) ([]policy.Site, error) {
	sites := make([]policy.Site, len(m.GetSites()))
	for i, s := range m.GetSites() {
		category, err := enum[policy.Category](s.GetCategory())
		if err != nil {
			return nil, fmt.Errorf("site %d: %w", i, err)
		}
		sites[i] = policy.Site{
			Scope: s.GetScope(), Address: s.GetAddress(), Symbol: s.GetSymbol(), Offset: s.GetOffset(), Module: s.GetModule(),
			Bytes: s.GetCode(), Disassembly: s.GetDisassembly(), Category: category, Context: s.GetContext(),
		}
		for _, o := range s.GetOperands() {
			route, err := enum[policy.Route](o.GetRoute())
			if err != nil {
				return nil, fmt.Errorf("site %d: operand %q: %w", i, o.GetText(), err)
			}
			reason, err := enum[policy.Reason](o.GetReason())
			if err != nil {
				return nil, fmt.Errorf("site %d: operand %q: %w", i, o.GetText(), err)
			}
			sites[i].Operands = append(sites[i].Operands, policy.Operand{
				Text: o.GetText(), Size: int(o.GetSize()), Read: o.GetRead(), Write: o.GetWrite(), Route: route, Reason: reason,
			})
		}
	}
	return sites, nil
}

func plansFromProto(m *policypb.Plans) ([]policy.Plan, error) {
	plans := make([]policy.Plan, len(m.GetPlans()))
	for i, p := range m.GetPlans() {
		writes, err := enum[policy.WriteRule](p.GetWrites())
		if err != nil {
			return nil, fmt.Errorf("plan %d: %w", i, err)
		}
		plans[i] = policy.Plan{Writes: writes, Elide: p.GetElide(), Frozen: p.Frozen, Trap: p.GetTrap()}
		for _, r := range p.GetRoutes() {
			route, err := enum[policy.Route](r)
			if err != nil {
				return nil, fmt.Errorf("plan %d: %w", i, err)
			}
			plans[i].Routes = append(plans[i].Routes, route)
		}
	}
	return plans, nil
}
