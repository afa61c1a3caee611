package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/disasm"
	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// Int3 is what a code page has where an instruction must not run.
const Int3 = "int 3"

// Listing is one scope.
type Listing struct {
	Scope     string         `json:"scope"`
	Syscall   string         `json:"syscall"`
	Commands  []string       `json:"commands"` // that were trained and came here
	Counts    map[string]int `json:"instructions"`
	Functions []Function     `json:"functions"`
}

// Function is a function in which there are sites.
type Function struct {
	Name   string `json:"name"`
	Module string `json:"module,omitempty"`
	Lines  []Line `json:"lines"`
}

// Line is an instruction, or a gap: code that no training executed.
type Line struct {
	Number   int    `json:"line,omitempty"`
	Category string `json:"category"`
	Address  string `json:"address,omitempty"`
	Location string `json:"location,omitempty"`
	Bytes    string `json:"bytes,omitempty"` // hexadecimal
	// The three code pages. A gap has an Original of "...".
	Original        string `json:"original"`
	NonRedirectable string `json:"non_redirectable"`
	Redirectable    string `json:"redirectable"`
	// Why says for every operand what was seen.
	Why []string `json:"why,omitempty"`
	// Plan is what handlers say beyond routes.
	Plan []string `json:"plan,omitempty"`
	// Decide are the tests that tell the contexts of a Bi site apart.
	Decide []string `json:"decide,omitempty"`
	// Conflicts are contexts that nothing tells apart.
	Conflicts []string `json:"conflicts,omitempty"`
}

// Find returns the scopes of a system call; with an empty name, of all.
func Find(s *metadata.Set, syscall string) []metadata.ScopeID {
	return slices.DeleteFunc(s.Scopes(), func(id metadata.ScopeID) bool { return syscall != "" && id.Syscall != syscall })
}

// FindTool returns the scopes that trainings with a command touched: one word is a program, several are the whole
// command.
func FindTool(s *metadata.Set, command []string) []metadata.ScopeID {
	touched := map[metadata.ScopeID]bool{}
	for _, t := range s.Trainings() {
		if !runs(t.Command, command) {
			continue
		}
		for _, id := range t.Scopes {
			touched[id] = true
		}
	}
	return slices.DeleteFunc(s.Scopes(), func(id metadata.ScopeID) bool { return !touched[id] })
}

func runs(trained, command []string) bool {
	if len(trained) == 0 || len(command) == 0 || program(trained[0]) != program(command[0]) {
		return false
	}
	return len(command) == 1 || slices.Equal(trained[1:], command[1:])
}

func program(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// New makes the listing of a scope.
func New(s *metadata.Set, id metadata.ScopeID) *Listing {
	l := &Listing{Scope: id.Name, Syscall: id.Syscall, Commands: []string{}, Counts: map[string]int{}, Functions: []Function{}}
	for _, t := range s.Trainings() {
		if command := strings.Join(t.Command, " "); slices.Contains(t.Scopes, id) && !slices.Contains(l.Commands, command) {
			l.Commands = append(l.Commands, command)
		}
	}
	var f *Function
	var last *metadata.Site
	number := 0
	sites := s.Sites(id)
	for i := range sites {
		site := &sites[i]
		y, ok := s.Symbol(site.Location)
		if !ok {
			y.Function = site.Location.String()
		}
		switch {
		case f == nil || f.Name != y.Function || f.Module != site.Module:
			l.Functions = append(l.Functions, Function{Name: y.Function, Module: site.Module})
			f = &l.Functions[len(l.Functions)-1]
		case site.Offset > last.Offset+uint64(len(last.Bytes)):
			f.Lines = append(f.Lines, gap)
		}
		number++
		line := newLine(s, site)
		line.Number = number
		f.Lines = append(f.Lines, line)
		l.Counts[line.Category]++
		last = site
	}
	return l
}

// gap stands for instructions that no training executed: FAST-BRIDGE leaves them to FALLBACK.
var gap = Line{Category: policy.Unknown.String(), Original: "...", NonRedirectable: Int3, Redirectable: Int3}

func newLine(s *metadata.Set, site *metadata.Site) Line {
	text := disassemble(s, site)
	l := Line{
		Category: site.Category.String(), Address: fmt.Sprintf("%x", linked(site.Location, site.Bits)),
		Location: site.Location.String(), Bytes: fmt.Sprintf("%x", site.Bytes),
		Original: text, NonRedirectable: text, Redirectable: text,
	}
	if site.Module != "" {
		l.Address = site.Location.String()
	}
	nonRedirected, redirected := site.Traps()
	if nonRedirected {
		l.NonRedirectable = Int3
	}
	if redirected {
		l.Redirectable = Int3
	}
	for _, o := range site.Operands {
		l.Why = append(l.Why, o.Text+": "+o.Seen.String())
	}
	for i := range site.Contexts {
		if p := plan(&site.Contexts[i].Plan); p != "" && !slices.Contains(l.Plan, p) {
			l.Plan = append(l.Plan, p)
		}
	}
	_, seen := site.Answers()
	tree, groups := metadata.NewTree(seen)
	if tree != nil && tree.Depth != 0 {
		l.Decide = tests(s, tree, "", nil)
	}
	for _, g := range groups {
		l.Conflicts = append(l.Conflicts, conflict(s, g)...)
	}
	return l
}

// linked is where code of the kernel itself lies without KASLR (arch/x86/include/asm/page_types.h and
// page_32_types.h, with the usual CONFIG_PHYSICAL_START); modules have no such address, but branches within them do
// not care.
func linked(l metadata.Location, bits uint8) uint64 {
	if bits == 32 {
		return 0xc1000000 + l.Offset
	}
	return 0xffffffff81000000 + l.Offset
}

func disassemble(s *metadata.Set, site *metadata.Site) string {
	start := linked(metadata.Location{}, site.Bits)
	name := func(target uint64) string {
		l := metadata.Location{Module: site.Module, Offset: target - start}
		if y, ok := s.Symbol(l); ok {
			return y.String()
		}
		if site.Module != "" {
			return l.String()
		}
		return ""
	}
	text, _ := disasm.Instruction(site.Bytes, linked(site.Location, site.Bits),
		disasm.Options{Bits: int(site.Bits), Syntax: disasm.Intel, Name: name})
	return text
}

func plan(p *policy.Plan) string {
	var parts []string
	if len(p.Routes) > 0 {
		parts = append(parts, "route "+routes(p.Routes))
	}
	switch p.Writes {
	case policy.PrivateCopy:
	case policy.Discard:
		parts = append(parts, "discard writes")
	case policy.Refuse:
		parts = append(parts, "refuse writes")
	}
	if p.Elide {
		parts = append(parts, "elide")
	}
	if p.Frozen != nil {
		parts = append(parts, fmt.Sprintf("frozen %#x", *p.Frozen))
	}
	if p.Trap != "" {
		parts = append(parts, "trap: "+p.Trap)
	}
	return strings.Join(parts, ", ")
}

func routes(rs []policy.Route) string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = "local"
		if r == policy.Snapshot {
			parts[i] = "snapshot"
		}
	}
	return strings.Join(parts, "/")
}

func decision(d *metadata.Decision) string {
	text := d.Category().String()
	if p := plan(&d.Plan); p != "" {
		text += " (" + p + ")"
	}
	return text
}

// tests prints a tree as rules, each with the whole way to it.
func tests(s *metadata.Set, t *metadata.Tree, way string, lines []string) []string {
	switch {
	case t == nil:
		return append(lines, way+": U")
	case t.Decision != nil:
		return append(lines, way+": "+decision(t.Decision))
	case t.Depth == 0:
		return append(lines, way+": U (conflict)")
	}
	if way != "" {
		way += ", "
	}
	for _, b := range t.Branches {
		lines = tests(s, b.Tree, fmt.Sprintf("%sreturn at top-%#x is %s", way, t.Depth, s.Name(b.Return)), lines)
	}
	return tests(s, t.Else, fmt.Sprintf("%sreturn at top-%#x is another", way, t.Depth), lines)
}

func conflict(s *metadata.Set, contexts []metadata.Context) []string {
	var lines []string
	for i := range contexts {
		c := &contexts[i]
		path := make([]string, len(c.Path))
		for i, f := range c.Path {
			path[i] = s.Name(f.Return)
		}
		if len(path) == 0 {
			path = []string{"the entry"}
		}
		lines = append(lines, "from "+strings.Join(path, " < ")+": "+decision(&c.Decision))
	}
	return lines
}
