package slowbridge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/disasm"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

// reasons are those of the CPU, by bit, in the policy's terms.
var reasons = [...]struct {
	bit    cpu.Reasons
	route  policy.Route
	reason policy.Reason
}{
	{cpu.ByDefault, policy.Local, policy.ByDefault},
	{cpu.ByUser, policy.Local, policy.ByUser},
	{cpu.ByStack, policy.Local, policy.ByStack},
	{cpu.BySubtree, policy.Local, policy.BySubtree},
	{cpu.ByTaint, policy.Snapshot, policy.ByTaint},
	{cpu.ByRoot, policy.Snapshot, policy.ByRoot},
	{cpu.BySubstitute, policy.Snapshot, policy.ByRoot},
}

// Location says where an address of kernel code is in any run.
func (b *Bridge) Location(addr uint64) metadata.Location { return b.location(addr) }

// Address is the inverse of Location. ok is false for a module that the trusted VM does not have.
func (b *Bridge) Address(l metadata.Location) (addr uint64, ok bool) {
	base := b.code.Lo
	if l.Module != "" {
		base = b.moduleBase(l.Module)
	}
	return base + l.Offset, base != ^uint64(0)
}

// Text is where the kernel's own text is.
func (b *Bridge) Text() cpu.Range { return b.code }

// Symbols are those of the trusted kernel and of its modules.
func (b *Bridge) Symbols() *symbols.Table { return b.symbols }

// Hooks are the policy's functions by address.
func (b *Bridge) Hooks() map[uint64]cpu.Hook { return b.hooks(&b.policy) }

func (b *Bridge) location(addr uint64) metadata.Location {
	if s, _, ok := b.symbols.Lookup(addr); ok && s.Module != "" {
		return metadata.Location{Module: s.Module, Offset: addr - b.moduleBase(s.Module)}
	}
	return metadata.Location{Offset: addr - b.code.Lo}
}

// moduleBase is the lowest address of a module's symbols.
func (b *Bridge) moduleBase(name string) uint64 {
	if base, ok := b.moduleBases[name]; ok {
		return base
	}
	base := ^uint64(0)
	if m := b.modules.trusted[name]; m != nil {
		for _, s := range m.symbols {
			base = min(base, s.Address)
		}
	}
	b.moduleBases[name] = base
	return base
}

// bytes reads the bytes of an instruction.
func (b *Bridge) bytes(rip uint64, in *isa.Inst) []byte {
	code := make([]byte, in.Len)
	return code[:b.guest.ReadLinear(rip, code)]
}

func (b *Bridge) bits() int { return int(b.types.word) * 8 }

// operands describes the memory operands of an instruction: what ModRM names or the source of a string instruction, then
// the destination of a string instruction or the stack. Those that it does not have are left out; index says which are
// there.
func (b *Bridge) operands(rip uint64, in *isa.Inst, code []byte, seen [2]cpu.Reasons) (ops []policy.Operand, index []int) {
	if seen[0]|seen[1] == 0 {
		return nil, nil
	}
	text := b.disassemble(rip, code)
	for i, s := range seen {
		if s == 0 {
			continue
		}
		var o policy.Operand
		switch in.Op {
		case isa.MOVS, isa.CMPS, isa.LODS, isa.STOS, isa.SCAS:
			o = policy.Operand{Text: bracket(text, [...]string{"si]", "di]"}[i]), Read: true}
			if i == 1 && (in.Op == isa.MOVS || in.Op == isa.STOS) {
				o.Read, o.Write = false, true
			}
			if in.Prefix&(isa.PrefixRep|isa.PrefixRepne) == 0 {
				o.Size = int(in.Args[0].Size)
			}
		default:
			if i == 1 {
				o = policy.Operand{Text: "stack", Size: int(in.OpSize), Read: in.Op == isa.POP, Write: in.Op != isa.POP}
				break
			}
			o.Text = bracket(text, "]")
			for j := range in.Args {
				if a := &in.Args[j]; a.Kind == isa.KindMem {
					o.Size, o.Read, o.Write = int(a.Size), a.Access&isa.Read != 0, a.Access&isa.Write != 0
				}
			}
		}
		for _, r := range reasons {
			if s&r.bit != 0 {
				o.Route, o.Reason = r.route, r.reason
			}
		}
		ops, index = append(ops, o), append(index, i)
	}
	return ops, index
}

// disassemble disassembles an instruction without symbols.
func (b *Bridge) disassemble(rip uint64, code []byte) string {
	t := b.texts[rip]
	if !bytes.Equal(t.code, code) {
		t.code = code
		t.text, _ = disasm.Instruction(code, rip, disasm.Options{Bits: b.bits(), Syntax: disasm.Intel})
		b.texts[rip] = t
	}
	return t.text
}

// disassembled is an instruction and its disassembly.
type disassembled struct {
	code []byte
	text string
}

// bracket cuts the operand in brackets that ends in end out of a disassembly, with its segment.
func bracket(text, end string) string {
	j := strings.Index(text, end)
	if j < 0 {
		return "memory"
	}
	i := strings.LastIndexByte(text[:j], '[')
	if i < 0 {
		return "memory"
	}
	if i >= 3 && text[i-1] == ':' {
		i -= 3
	}
	return text[i : j+len(end)]
}

// path makes Meta-Data's frames of the CPU's.
func (b *Bridge) frames(context []cpu.Frame) []metadata.Frame {
	out := make([]metadata.Frame, len(context))
	for i, f := range context {
		loc, ok := b.locations[f.Return]
		if !ok {
			loc = b.location(f.Return)
			b.locations[f.Return] = loc
		}
		out[i] = metadata.Frame{Return: loc, Depth: f.Depth}
	}
	return out
}

// MetaData returns what was seen of every kernel instruction that was executed in a scope.
func (b *Bridge) MetaData() (*metadata.Set, error) {
	ids := b.scopeIDs
	set := new(metadata.Set)
	byScope := make([]map[uint64]*metadata.Site, len(ids))
	var context *cpu.Frame
	var path []metadata.Frame
	for o := range b.machine.CPU().Observations {
		sites := byScope[o.Scope]
		if sites == nil {
			sites = map[uint64]*metadata.Site{}
			byScope[o.Scope] = sites
		}
		site := sites[o.RIP]
		if site == nil {
			code := b.bytes(o.RIP, o.Inst)
			site = &metadata.Site{Location: b.location(o.RIP), Bytes: code, Bits: uint8(b.bits()), Category: policy.Neutral}
			sites[o.RIP] = site
		}
		// What was seen in one context follows each other.
		if len(o.Context) == 0 {
			context, path = nil, nil
		} else if context != &o.Context[0] {
			context, path = &o.Context[0], b.frames(o.Context)
		}
		b.observe(site, o, path)
	}
	for i, sites := range byScope {
		rips := make([]uint64, 0, len(sites))
		for rip := range sites {
			rips = append(rips, rip)
		}
		slices.Sort(rips)
		list := make([]metadata.Site, 0, len(rips))
		for _, rip := range rips {
			b.addSymbol(set, rip, sites[rip].Location)
			list = append(list, *sites[rip])
		}
		if err := set.Add(ids[i], list...); err != nil {
			return nil, fmt.Errorf("what was seen in %v: %w", ids[i], err)
		}
	}
	for ret, loc := range b.locations {
		b.addSymbol(set, ret, loc)
	}
	return set, nil
}

// Observed reports whether the instruction at a location was executed in a scope.
func (b *Bridge) Observed(id metadata.ScopeID, at metadata.Location) bool {
	rip, ok := b.Address(at)
	for o := range b.machine.CPU().Observations {
		if ok && o.RIP == rip && b.scopeIDs[o.Scope] == id {
			return true
		}
	}
	return false
}

func (b *Bridge) addSymbol(set *metadata.Set, addr uint64, loc metadata.Location) {
	if s, off, ok := b.symbols.Lookup(addr); ok {
		set.AddSymbol(loc, metadata.Symbol{Function: s.Name, Offset: off})
	}
}

// observe adds what was seen in one context, whose path is that of o, to a site.
func (b *Bridge) observe(site *metadata.Site, o *cpu.Observation, path []metadata.Frame) {
	none := o.Operands == [2]cpu.Reasons{}
	var plan policy.Plan
	if none && len(b.questions.neutral) > 0 {
		plan = b.questions.neutral[neutralKey{siteKey{o.Scope, o.RIP}, string(site.Bytes)}]
		if !plan.Default() && !slices.ContainsFunc(site.Contexts, func(c metadata.Context) bool { return c.Path == nil }) {
			// One of its contexts says what holds in all.
			site.Contexts = append(site.Contexts, metadata.Context{Decision: metadata.Decision{Plan: plan}})
		}
	}
	if none && o.Marks == 0 {
		return
	}
	site.Category = policy.Unknown // the contexts say
	ops, index := b.operands(o.RIP, o.Inst, site.Bytes, o.Operands)
	merged := metadata.OperandsOf(ops)
	for i := range merged {
		merged[i].Seen = 0
		for _, r := range reasons {
			if o.Operands[index[i]]&r.bit != 0 {
				merged[i].Seen |= metadata.SeenAs(r.route, r.reason)
			}
		}
	}
	if len(site.Operands) < len(merged) {
		site.Operands, merged = merged, site.Operands
	}
	for i := range merged {
		site.Operands[i].Seen |= merged[i].Seen
	}
	if !none && len(b.questions.planned) > 0 {
		plan = b.questions.planned[planKey(o.Scope, o.RIP, o.Context)]
	}
	// An operand can have had both routes in one context: then there are two decisions, which Meta-Data calls a conflict.
	choices := [][]policy.Route{nil}
	for _, i := range index {
		var routes []policy.Route
		if s := o.Operands[i]; s.Local() {
			routes = append(routes, policy.Local)
		}
		if o.Operands[i].Other() {
			routes = append(routes, policy.Snapshot)
		}
		var next [][]policy.Route
		for _, c := range choices {
			for _, r := range routes {
				next = append(next, append(slices.Clone(c), r))
			}
		}
		choices = next
	}
	for _, routes := range choices {
		site.Contexts = append(site.Contexts, metadata.Context{Path: path, Decision: metadata.Decision{Routes: routes, Plan: plan}, Marks: metadata.Marks(o.Marks)})
	}
}
