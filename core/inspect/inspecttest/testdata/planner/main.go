// Command planner is a handler that does what its name says. Its category is the manifest's.
package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/plugins/sdk"
)

func main() {
	name := filepath.Base(os.Args[0])
	sdk.ServeHandler(func(s policy.Site) policy.Plan { return plan(name, s) }, about[name]...)
}

// about is what they want to be asked about; a name that is not here, everything.
var about = map[string][]policy.Interest{
	"freezes-locals": {{Functions: []string{"loadavg_proc_*"}, Scopes: []string{"procfs"}}},
	"redirects":      {{Functions: []string{"seq_list_*"}}},
	"skips":          {{Functions: []string{"loadavg_proc_show"}}},
	"decides":        {{Functions: []string{"m_show", "collect_syscall"}}},
	"stops":          {{Functions: []string{"get_avenrun"}}},
}

func plan(name string, s policy.Site) (p policy.Plan) {
	stores := false
	for _, o := range s.Operands {
		stores = stores || o.Write && o.Route == policy.Snapshot
	}
	switch {
	case name == "freezes" && s.Symbol == "get_avenrun": // the load averages are fixed-point numbers with 11 bits behind the point
		three := uint64(3 << 11)
		p.Frozen = &three
	case name == "elides" && s.Symbol == "nr_running" && strings.HasPrefix(s.Disassembly, "add "): // a processor's
		p.Elide = true
	case name == "keeps" && s.Symbol == "__do_sys_newuname":
		p.Routes = make([]policy.Route, len(s.Operands)) // local
	case name == "discards" && s.Symbol == "cputime_adjust": // it reads again what it has stored in the snapshot
		p.Writes = policy.Discard
	case name == "freezes-locals" && slices.Contains([]string{"[rsp]", "[rsp+0x8]", "[rsp+0x10]"}, s.Operands[0].Text) && s.Operands[0].Read:
		three := uint64(3 << 11)
		p.Frozen = &three
	case name == "redirects" && s.Operands[0].Reason == policy.ByDefault && !s.Operands[0].Write: // the heads of lists, not the position
		p.Routes = []policy.Route{policy.Snapshot}
	case name == "skips" && strings.HasPrefix(s.Disassembly, "shr "): // the point's place
		p.Elide = true
	case name == "stops" && strings.HasPrefix(s.Disassembly, "ret"):
		p.Trap = "no load average is returned"
	case name == "decides" && s.Category == policy.Unknown:
		for _, o := range s.Operands {
			if o.Reason == policy.ByDefault {
				o.Route = policy.Snapshot
			}
			p.Routes = append(p.Routes, o.Route)
		}
	case name == "refuses" && stores:
		p.Writes = policy.Refuse
	case name == "traps" && s.Symbol == "get_avenrun":
		p.Trap = "no load average"
	}
	return p
}
