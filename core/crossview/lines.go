package crossview

import (
	"regexp"
	"strings"
)

// line is one line of an output, with what the spec says about it.
type line struct {
	number int // in the output, from 1
	raw    string
	text   string // normalized
	masked string // less the fields that are not compared
	pid    string
	key    string // pid and what Key finds
	tokens []token
	values []token // the numbers of tokens
	shape  string
}

// A worker's name ends in the work that it did last.
var workerName = regexp.MustCompile(`(kworker/[0-9uH:]+)[-+][^\s\])]*`)

func parse(spec Spec, output string) []line {
	output = strings.TrimSuffix(output, "\n")
	if output == "" {
		return nil
	}
	rows := strings.Split(output, "\n")
	if spec.Split {
		rows = strings.Fields(output)
	}
	lines := make([]line, len(rows))
	start := 0 // of the record
	said := "" // by the line before, about a process
	for i, raw := range rows {
		text := workerName.ReplaceAllString(raw, "$1")
		if spec.Rewrite != nil {
			text = spec.Rewrite.Replace(text)
		}
		l := &lines[i]
		*l = line{number: i + 1, raw: raw, text: normalize(text)}
		if spec.Record == nil || spec.Record.MatchString(raw) {
			start = i
		}
		if spec.PID == nil {
			continue
		}
		if m := spec.PID.FindStringSubmatch(l.text); m != nil {
			rest := strings.TrimPrefix(l.text, m[0])
			if spec.Carried && rest == said {
				l.text = m[0] + "(as before)"
			}
			said = rest
			for j := start; j <= i; j++ {
				lines[j].pid = m[1]
			}
		} else if start < i {
			l.pid = lines[start].pid
		}
	}
	for i := range lines {
		l := &lines[i]
		if spec.Key != nil {
			if m := spec.Key.FindStringSubmatch(l.text); m != nil {
				l.key = strings.Join(m[1:], "\x00")
			}
		}
		if l.pid != "" {
			l.key = l.pid + "\x00" + l.key
		}
		l.masked = spec.mask(l)
		l.tokens = tokenize(l.masked)
		l.values = numbers(l.tokens)
		l.shape = shape(l.tokens)
	}
	return lines
}
