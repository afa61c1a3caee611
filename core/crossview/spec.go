package crossview

import (
	"regexp"
	"strings"
)

// harness is the process of the untrusted VM that ran the tools.
const harness = "1"

// Rule softens the comparison in some lines of a tool's output.
type Rule struct {
	Lines  *regexp.Regexp // of the normalized line; nil for all lines
	PID    string         // only lines of this process; "" for all lines
	Fields []int          // counted between blanks from 0, or from the end as -1, -2 ...; nil for all
	Rel    float64        // a number may be off by this part of the greater truth
	Abs    float64        // and by this much more
	Ignore bool           // the fields are not compared at all
	Why    string
}

// Spec says how the lines of one tool's output are to be read. The zero Spec compares them as they are.
type Spec struct {
	// Split makes a line of every word.
	Split bool
	// Record matches the first line of a record of several; without it each line is a record.
	Record *regexp.Regexp
	// PID finds, as its first submatch, the process that a record is about.
	PID *regexp.Regexp
	// Key finds what a line is about, as its submatches; lines pair only with lines of the same key.
	Key *regexp.Regexp
	// Anonymous says that the lines of a process do not show its name, so its own process can't be told by it.
	Anonymous bool
	// AnyOrder says that the order of the lines means nothing.
	AnyOrder bool
	// Elsewhere says that the lines about the harness, PID 1 of the untrusted VM, need not be those of the truths: it
	// waited for the tool then and for its console when the snapshot was taken.
	Elsewhere bool
	// OwnFailure says that inside the tool failed at its own process, which the snapshot does not have: here it need not fail.
	OwnFailure bool
	// Carried says that a line about a process which says what the line before it says about another one has it from there.
	Carried bool
	// Rewrite makes one of forms that mean the same.
	Rewrite *strings.Replacer
	Rules   []Rule
}

func (r Rule) about(l *line) bool {
	return (r.Lines == nil || r.Lines.MatchString(l.text)) && (r.PID == "" || r.PID == l.pid)
}

func (r Rule) covers(field, fields int) bool {
	if r.Fields == nil {
		return true
	}
	for _, f := range r.Fields {
		if f == field || f == field-fields {
			return true
		}
	}
	return false
}

// slack is how far a number in a field of the line may be off, where the greater truth is value.
func (s Spec) slack(l *line, field int, value float64) float64 {
	slack := 0.0
	fields := strings.Count(l.text, " ") + 1
	for _, r := range s.Rules {
		if !r.Ignore && r.about(l) && r.covers(field, fields) {
			slack = max(slack, r.Abs+r.Rel*value)
		}
	}
	return slack
}

// mask is the line's text with a sign in place of the fields that are not compared.
func (s Spec) mask(l *line) string {
	var words []string
	for _, r := range s.Rules {
		if !r.Ignore || !r.about(l) {
			continue
		}
		if words == nil {
			words = strings.Split(l.text, " ")
		}
		for i := range words {
			if r.covers(i, len(words)) {
				words[i] = "*"
			}
		}
	}
	if words == nil {
		return l.text
	}
	return strings.Join(words, " ")
}

// excuses says that a line need not be there, and may be there.
func (s Spec) excuses(l *line) bool { return s.Elsewhere && l.pid == harness }
