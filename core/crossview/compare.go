package crossview

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Kind is what is wrong with a line.
type Kind int

const (
	Missing    Kind = iota // both truths have it, the output has not
	Foreign                // neither truth has it
	Wrong                  // a value is not what the truths allow
	OutOfOrder             // it is there, but at another place than in both truths
	Trusted                // it shows the trusted VM
	Misrouted              // emu's referee found operands that went to the wrong machine
)

func (k Kind) String() string {
	return [...]string{"missing", "foreign", "wrong", "out of order", "of the trusted VM", "misrouted"}[k]
}

// Problem is one line that the truths do not allow.
type Problem struct {
	Kind   Kind
	Line   int    // of the output, from 1; 0 if it is missing there
	Want   string // the line of the truth, before the snapshot if there is one
	After  string // and after it, where it differs
	Got    string
	Reason string
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Kind.String())
	if p.Line > 0 {
		fmt.Fprintf(&b, " (line %d)", p.Line)
	}
	if p.Reason != "" {
		b.WriteString(": " + p.Reason)
	}
	if p.Got != "" || p.Line > 0 {
		fmt.Fprintf(&b, "; got %q", p.Got)
	}
	if p.Want != "" {
		fmt.Fprintf(&b, "; before %q", p.Want)
	}
	if p.After != "" && p.After != p.Want {
		fmt.Fprintf(&b, "; after %q", p.After)
	}
	return b.String()
}

// Options are what the comparison of one run must know beyond the texts.
type Options struct {
	// Names are the tool's own processes' names: lines of a process of such a name that no truth has are excused.
	Names []string
	// Marks are texts that only the trusted VM has, each with what it is.
	Marks map[string]string
}

// ownProcesses is how many processes a tool may be: a shell, the tool, and one that it starts.
const ownProcesses = 3

// Compare reports what the truths do not allow in the output, in the order of the output; what is missing comes last.
func Compare(spec Spec, truth Truth, output string, opts Options) []Problem {
	if lines, most := strings.Count(output, "\n"), 4*max(strings.Count(truth.Before, "\n"), strings.Count(truth.After, "\n"))+1000; lines > most {
		return []Problem{{Kind: Foreign, Line: most + 1, Reason: fmt.Sprintf("%d lines, too many to be compared", lines)}}
	}
	before, after, got := parse(spec, truth.Before), parse(spec, truth.After), parse(spec, output)
	entries := merge(before, after)
	for i := range entries {
		if spec.excuses(entries[i].line()) {
			entries[i].required = false
		}
	}
	c := comparison{spec: spec, entries: entries, got: got, used: make([]bool, len(got)), met: make([]bool, len(entries))}
	c.inOrder()
	outOfOrder := c.anywhere()
	own := c.ownPIDs(before, after, opts.Names)
	problems := append(outOfOrder, c.leftOver(own)...)
	problems = append(problems, c.marked(truth, opts.Marks)...)
	slices.SortStableFunc(problems, func(a, b Problem) int { return position(a) - position(b) })
	return problems
}

func position(p Problem) int {
	if p.Line == 0 {
		return math.MaxInt
	}
	return p.Line
}

type comparison struct {
	spec    Spec
	entries []entry
	got     []line
	met     []bool // by entry
	used    []bool // by line of the output
}

func (c *comparison) inOrder() {
	for _, p := range align(len(c.entries), len(c.got), func(i, j int) int32 {
		e, o := &c.entries[i], &c.got[j]
		if e.moved || c.check(e, o) != "" {
			return 0
		}
		if !e.required {
			return 1
		}
		return 2
	}) {
		c.met[p[0]], c.used[p[1]] = true, true
	}
}

// anywhere pairs what is left without regard to order, and reports where order matters.
func (c *comparison) anywhere() []Problem {
	var problems []Problem
	for i := range c.entries {
		if c.met[i] {
			continue
		}
		e := &c.entries[i]
		for j := range c.got {
			if c.used[j] || c.check(e, &c.got[j]) != "" {
				continue
			}
			c.met[i], c.used[j] = true, true
			if e.required && !e.moved && !c.spec.AnyOrder {
				problems = append(problems, problem(OutOfOrder, e, &c.got[j], ""))
			}
			break
		}
	}
	return problems
}

// ownPIDs are the processes of the output that both truths lack and that are the tool's.
func (c *comparison) ownPIDs(before, after []line, names []string) map[string]bool {
	own := map[string]bool{}
	if c.spec.PID == nil {
		return own
	}
	earlier, later := pids(before), pids(after)
	var name *regexp.Regexp
	if len(names) > 0 {
		quoted := make([]string, len(names))
		for i, n := range names {
			quoted[i] = regexp.QuoteMeta(n)
		}
		name = regexp.MustCompile(`(^|[^\w.-])(` + strings.Join(quoted, "|") + `)($|[^\w.-])`)
	}
	for _, o := range c.got {
		if o.pid == "" || earlier[o.pid] && later[o.pid] || len(own) >= ownProcesses {
			continue
		}
		if c.spec.Anonymous || name != nil && name.MatchString(o.text) {
			own[o.pid] = true
		}
	}
	return own
}

func pids(lines []line) map[string]bool {
	set := map[string]bool{}
	for _, l := range lines {
		set[l.pid] = true
	}
	return set
}

// leftOver names what has found no partner: of the same thing with another value, missing, or foreign.
func (c *comparison) leftOver(own map[string]bool) []Problem {
	var problems []Problem
	for i := range c.entries {
		e := &c.entries[i]
		if c.met[i] || !e.required {
			continue
		}
		found := -1
		for j := range c.got {
			if o := &c.got[j]; !c.used[j] && o.key == e.line().key && (o.key != "" || o.shape == e.line().shape) {
				if found < 0 || o.shape == e.line().shape && c.got[found].shape != o.shape {
					found = j
				}
			}
		}
		if found < 0 {
			problems = append(problems, problem(Missing, e, nil, ""))
			continue
		}
		c.used[found] = true
		problems = append(problems, problem(Wrong, e, &c.got[found], c.check(e, &c.got[found])))
	}
	for j := range c.got {
		o := &c.got[j]
		if c.used[j] || own[o.pid] || c.spec.excuses(o) {
			continue
		}
		problems = append(problems, problem(Foreign, nil, o, ""))
	}
	return problems
}

// marked reports lines that show the trusted VM, unless a truth happens to have the same line.
func (c *comparison) marked(truth Truth, marks map[string]string) []Problem {
	var problems []Problem
	for mark, what := range marks {
		for i := range c.got {
			raw := c.got[i].raw
			if strings.Contains(raw, mark) && !strings.Contains(truth.Before, raw) && !strings.Contains(truth.After, raw) {
				problems = append(problems, problem(Trusted, nil, &c.got[i], what))
			}
		}
	}
	return problems
}

func problem(kind Kind, e *entry, o *line, reason string) Problem {
	p := Problem{Kind: kind, Reason: reason}
	if o != nil {
		p.Line, p.Got = o.number, o.raw
	}
	if e != nil {
		p.Want = e.line().raw
		if e.after != nil {
			p.After = e.after.raw
		}
	}
	return p
}

// check says why a line of the output is not what the entry allows; "" if it is.
func (c *comparison) check(e *entry, o *line) string {
	if e.line().key != o.key {
		return "another key"
	}
	if o.masked == e.line().masked {
		return ""
	}
	low, high := e.before, e.after
	if low == nil {
		low = high
	}
	if high == nil {
		high = low
	}
	if o.shape != low.shape && o.shape != high.shape {
		return "other words"
	}
	l, h, v := low.values, high.values, o.values
	if len(l) != len(h) { // a line of another form: it is like the one or like the other
		if o.shape == low.shape {
			h = l
		} else {
			l = h
		}
	}
	for i := range v {
		if reason := c.checkNumber(o, l[i], h[i], v[i]); reason != "" {
			return reason
		}
	}
	return ""
}

func (c *comparison) checkNumber(o *line, low, high, value token) string {
	if value.text == low.text || value.text == high.text {
		return ""
	}
	from, to := min(low.value, high.value), max(low.value, high.value)
	slack := c.spec.slack(o, value.field, to)
	if low.text == high.text && slack == 0 {
		return fmt.Sprintf("%s, not %s", value.text, low.text)
	}
	if value.value < from-slack || value.value > to+slack {
		if slack > 0 {
			return fmt.Sprintf("%s is not between %s and %s, give or take %.4g", value.text, low.text, high.text, slack)
		}
		return fmt.Sprintf("%s is not between %s and %s", value.text, low.text, high.text)
	}
	return ""
}

func numbers(tokens []token) []token {
	var n []token
	for _, t := range tokens {
		if t.number {
			n = append(n, t)
		}
	}
	return n
}
