package slowbridge

import (
	"cmp"
	"maps"
	"slices"

	"github.com/hybridbridge/emu/core/disasm"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/cpu"
)

// Layout is what the referee of the disjoint layout found: with the trusted VM's memory above all addresses of the snapshot's, an
// address in the kernel's direct map or in its array of page descriptors says whose memory it means, whatever taint and roots
// say.
type Layout struct {
	// Snapshot and Local are how many operands had such an address, by its owner.
	Snapshot uint64 `json:"snapshot"`
	Local    uint64 `json:"local"`
	// Wrong is how many of both went to the other machine.
	Wrong uint64 `json:"wrong"`
	// Sites are where, most frequent first.
	Sites []Disagreement `json:"sites,omitempty"`
}

// Disagreement is an instruction whose operand goes to the machine that its address is not of.
type Disagreement struct {
	Address     uint64 `json:"address"` // of the instruction
	Symbol      string `json:"symbol"`
	Disassembly string `json:"disassembly"`
	// Caller is where the function was called from the first time.
	Caller string `json:"caller,omitempty"`
	// Accessed is the operand's address the first time.
	Accessed uint64 `json:"accessed"`
	Owner    string `json:"owner"` // policy.Route in words
	Route    string `json:"route"`
	Reason   string `json:"reason"`
	Count    uint64 `json:"count"`
}

// referee compares the routes of operands with the owners of their addresses.
type referee struct {
	*Owners
	layout  Layout
	sites   map[judged]*verdict
	context func() []cpu.Frame
}

// judged is an instruction with a reason for its route.
type judged struct {
	site uint64
	why  cpu.Reasons
}

// verdict is how often it was wrong, and the first time.
type verdict struct {
	accessed, caller, count uint64
}

// check is cpu.Redirection's Check.
func (r *referee) check(site, la uint64, why cpu.Reasons) {
	pa, ok := r.Physical(la)
	if !ok || pa < sharedMemory {
		return
	}
	theirs := pa < r.Above
	if theirs {
		r.layout.Snapshot++
	} else {
		r.layout.Local++
	}
	if why.Other() == theirs {
		return
	}
	r.layout.Wrong++
	v := r.sites[judged{site, why}]
	if v == nil {
		v = &verdict{accessed: la}
		if frames := r.context(); len(frames) > 0 {
			v.caller = frames[0].Return
		}
		r.sites[judged{site, why}] = v
	}
	v.count++
}

// Layout returns what the referee found so far, nil if there is none.
func (b *Bridge) Layout() *Layout {
	r := b.referee
	if r == nil {
		return nil
	}
	l := r.layout
	for _, k := range slices.SortedFunc(maps.Keys(r.sites), func(x, y judged) int {
		return cmp.Or(cmp.Compare(r.sites[y].count, r.sites[x].count), cmp.Compare(x.site, y.site), cmp.Compare(x.why, y.why))
	}) {
		v := r.sites[k]
		d := Disagreement{Address: k.site, Symbol: b.symbols.Format(k.site), Accessed: v.accessed, Count: v.count}
		if v.caller != 0 {
			d.Caller = b.symbols.Format(v.caller)
		}
		var code [15]byte
		n := b.machine.CPU().ReadLinear(k.site, code[:])
		d.Disassembly, _ = disasm.Instruction(code[:n], k.site, disasm.Options{Bits: b.bits(), Syntax: disasm.Intel, Symbols: b.symbols})
		owner := policy.Local
		if r.Snapshot(v.accessed) {
			owner = policy.Snapshot
		}
		d.Owner = owner.String()
		for _, s := range reasons {
			if s.bit == k.why {
				d.Route, d.Reason = s.route.String(), s.reason.String()
			}
		}
		l.Sites = append(l.Sites, d)
	}
	return &l
}
