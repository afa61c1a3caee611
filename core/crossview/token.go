package crossview

import (
	"regexp"
	"strconv"
	"strings"
)

// token is a number, or the text between two numbers.
type token struct {
	text   string
	value  float64
	number bool
	field  int // of the line, counted between blanks from 0
}

var (
	// A time such as 01:08:53.20 or 0:01.02 is one number, of its smallest unit.
	numberPattern = regexp.MustCompile(`\d+(?::\d\d){1,2}(?:\.\d+)?|\d+(?:\.\d+)?`)
	blanks        = regexp.MustCompile(`\s+`)
)

// normalize makes one blank of many: a wider number in one line moves the columns of all.
func normalize(line string) string {
	return strings.TrimSpace(blanks.ReplaceAllString(line, " "))
}

// tokenize splits a normalized line.
func tokenize(line string) []token {
	var tokens []token
	field := 0
	text := func(s string) {
		if s != "" {
			tokens = append(tokens, token{text: s, field: field})
			field += strings.Count(s, " ")
		}
	}
	at := 0
	for _, m := range numberPattern.FindAllStringIndex(line, -1) {
		text(line[at:m[0]])
		at = m[1]
		s := line[m[0]:m[1]]
		tokens = append(tokens, token{text: s, value: numberValue(s), number: true, field: field})
	}
	text(line[at:])
	return tokens
}

// numberValue is exact up to 2^53; greater numbers are compared as text first.
func numberValue(s string) float64 {
	var v float64
	for part := range strings.SplitSeq(s, ":") {
		f, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return v // out of range: infinite, as ParseFloat says
		}
		v = v*60 + f
	}
	return v
}

// shape is the line with a # for every number.
func shape(tokens []token) string {
	var b strings.Builder
	for _, t := range tokens {
		if t.number {
			b.WriteByte('#')
		} else {
			b.WriteString(t.text)
		}
	}
	return b.String()
}
