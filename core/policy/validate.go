package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Validate reports all that is wrong with p in itself, whatever the kernel: scopes without a name, of the same name or
// without system calls or effect, malformed symbols and fields, arguments that are not among the first six, files and paths
// without a name, locks without a size. It returns nil or an error that joins one line for each fault.
func (p *Policy) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	pattern := func(where, name string) {
		if !validName(strings.TrimSuffix(name, "*")) {
			fault("%s: %q is no symbol", where, name)
		}
	}
	argument := func(where string, n int) {
		if n < 0 || n > 5 {
			fault("%s: argument %d is not in 0 to 5", where, n)
		}
	}
	// A field begins with its symbol; what follows needs the kernel's types to be judged.
	field := func(where string, f Field) {
		symbol, _, _ := strings.Cut(string(f), ":")
		symbol, _, _ = strings.Cut(symbol, "+")
		if !validName(symbol) {
			fault("%s: %q does not begin with a symbol", where, f)
		}
	}
	seen := map[string]bool{}
	for _, s := range p.Scopes {
		where := fmt.Sprintf("scope %q", s.Name)
		switch {
		case s.Name == "":
			fault("a scope has no name")
		case seen[s.Name]:
			fault("%s is there twice", where)
		}
		seen[s.Name] = true
		if len(s.Syscalls) == 0 {
			fault("%s has no system calls", where)
		}
		if len(s.Roots) == 0 && !s.FreezeClock {
			fault("%s redirects nothing", where)
		}
		for _, call := range s.Syscalls {
			if !validName(call) {
				fault("%s: %q is no system call", where, call)
			}
		}
		argument(where+": files", s.FileArgument)
		argument(where+": paths", s.PathArgument)
		if slices.Contains(s.Files, "") {
			fault("%s: a file is \"\", which is what every file without a kind is", where)
		}
		if slices.Contains(s.Paths, "") {
			fault("%s: a path is empty", where)
		}
		for _, r := range s.Roots {
			pattern(where, r.Symbol)
			if r.Offset+r.Size < r.Offset {
				fault("%s: root %q: offset %#x and size %#x overflow", where, r.Symbol, r.Offset, r.Size)
			}
		}
	}
	for _, f := range p.Local {
		pattern("local", f)
	}
	for _, e := range p.Elided {
		pattern("elided", e.Function)
		argument("elided "+e.Function, e.Argument)
	}
	for _, l := range p.Locks {
		pattern("lock", l.Function)
		argument("lock "+l.Function, l.Argument)
		if l.Size == 0 || l.Size > 4096 {
			fault("lock %s: size %d is not in 1 to 4096", l.Function, l.Size)
		}
		if l.Offset+l.Size < l.Offset {
			fault("lock %s: offset %#x and size %#x overflow", l.Function, l.Offset, l.Size)
		}
	}
	for _, s := range p.Substitutes {
		where := "substitute " + string(s.Local)
		field("substitute", s.Local)
		for _, f := range s.Functions {
			pattern(where, f)
		}
		field(where+": the snapshot's side", s.Snapshot)
	}
	for _, c := range p.Clocks {
		field("clock", c)
	}
	return errors.Join(errs...)
}

func validName(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || (r < '0' || r > '9') && r != '.' && r != '$') {
			return false
		}
	}
	return s != ""
}
