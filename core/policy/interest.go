package policy

import (
	"fmt"
	"strings"
)

// Interest is a set of instructions that a handler wants to be asked about: those of its category in these functions and scopes.
type Interest struct {
	// Functions are symbols, and Scopes are names of scopes ("" is that of system calls that match none). What ends in '*' stands for all
	// that begin so. Empty: any.
	Functions, Scopes []string
}

// Has reports whether the instructions of a function in a scope belong to it.
func (i *Interest) Has(scope, function string) bool {
	return matches(i.Scopes, scope) && matches(i.Functions, function)
}

// Validate reports functions that are no symbols, nor the beginning of one.
func (i *Interest) Validate() error {
	for _, f := range i.Functions {
		if name := strings.TrimSuffix(f, "*"); !validName(name) && f != "*" {
			return fmt.Errorf("it wants to be asked about %q, which is no symbol", f)
		}
	}
	return nil
}

// String is such as "seq_*, m_show in procfs", or "everything".
func (i Interest) String() string {
	var s string
	if len(i.Functions) > 0 {
		s = strings.Join(i.Functions, ", ")
	} else {
		s = "everything"
	}
	if len(i.Scopes) > 0 {
		s += " in " + strings.Join(i.Scopes, ", ")
	}
	return s
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		prefix, tree := strings.CutSuffix(p, "*")
		if name == p || tree && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return len(patterns) == 0
}

// Interests are those of the handlers, by category. A category without leaves all sites as they are observed.
type Interests map[Category][]Interest

// Want reports whether the handler of a category is to be asked about instructions of a function in a scope.
func (x Interests) Want(c Category, scope, function string) bool {
	for i := range x[c] {
		if x[c][i].Has(scope, function) {
			return true
		}
	}
	return false
}

// Any reports whether a handler of these categories wants to be asked about anything.
func (x Interests) Any(of ...Category) bool {
	for _, c := range of {
		if len(x[c]) > 0 {
			return true
		}
	}
	return false
}
