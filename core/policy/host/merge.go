package host

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/policy"
)

// statement is what a plugin says about a kernel.
type statement struct {
	plugin *Plugin
	policy policy.Policy
}

// merge makes one policy of several. A scope with system calls is a definition; scopes are in the order of their first
// definition, and definitions of one name are united. A scope without system calls extends the definitions of its name with
// roots, files, paths and a frozen clock. Of budgets, the largest counts; of all other lists, what was not there yet is appended.
// An error names the plugin whose statement is wrong.
func merge(all []statement) (policy.Policy, error) {
	var out policy.Policy
	index := map[string]int{}
	for _, s := range all {
		for _, scope := range s.policy.Scopes {
			if len(scope.Syscalls) == 0 {
				continue
			}
			i, ok := index[scope.Name]
			if !ok {
				i = len(out.Scopes)
				index[scope.Name] = i
				out.Scopes = append(out.Scopes, policy.Scope{
					Name: scope.Name, Files: scope.Files, FileArgument: scope.FileArgument, Paths: scope.Paths, PathArgument: scope.PathArgument,
				})
			}
			into := &out.Scopes[i]
			switch {
			case into.FileArgument != scope.FileArgument:
				return out, wrong(s.plugin, fmt.Errorf("scope %q: files are argument %d, but another plugin says argument %d",
					scope.Name, scope.FileArgument, into.FileArgument))
			case into.PathArgument != scope.PathArgument:
				return out, wrong(s.plugin, fmt.Errorf("scope %q: paths are argument %d, but another plugin says argument %d",
					scope.Name, scope.PathArgument, into.PathArgument))
			case len(into.Files) == 0 || len(scope.Files) == 0:
				into.Files = nil // any
			default:
				into.Files = union(into.Files, scope.Files)
			}
			if len(into.Paths) == 0 || len(scope.Paths) == 0 {
				into.Paths = nil // any
			} else {
				into.Paths = union(into.Paths, scope.Paths)
			}
			into.Syscalls = union(into.Syscalls, scope.Syscalls)
		}
	}
	for _, s := range all {
		for _, scope := range s.policy.Scopes {
			i, ok := index[scope.Name]
			if !ok {
				return out, wrong(s.plugin, fmt.Errorf("scope %q has no system calls, so it extends a scope, but no plugin defines it; there are %s",
					scope.Name, scopeNames(out.Scopes)))
			}
			into := &out.Scopes[i]
			if len(scope.Syscalls) == 0 && len(into.Files) > 0 {
				into.Files = union(into.Files, scope.Files)
			}
			if len(scope.Syscalls) == 0 && len(into.Paths) > 0 {
				into.Paths = union(into.Paths, scope.Paths)
			}
			into.Roots = union(into.Roots, scope.Roots)
			into.FreezeClock = into.FreezeClock || scope.FreezeClock
		}
		p := &s.policy
		out.Local = union(out.Local, p.Local)
		out.Elided = union(out.Elided, p.Elided)
		out.Locks = union(out.Locks, p.Locks)
		out.Clocks = union(out.Clocks, p.Clocks)
		out.Substitutes = unionDeep(out.Substitutes, p.Substitutes)
		out.Budget = max(out.Budget, p.Budget)
	}
	for _, s := range all {
		if err := validate(&s.policy, out.Scopes, index); err != nil {
			return out, wrong(s.plugin, err)
		}
	}
	return out, nil
}

// validate judges one plugin's statement. What its scopes leave to others is taken from the merged ones.
func validate(p *policy.Policy, merged []policy.Scope, index map[string]int) error {
	whole := *p
	whole.Scopes = slices.Clone(p.Scopes)
	for i := range whole.Scopes {
		s := &whole.Scopes[i]
		m := &merged[index[s.Name]]
		if len(s.Syscalls) == 0 {
			s.Syscalls = m.Syscalls
		}
		if len(s.Roots) == 0 {
			s.Roots, s.FreezeClock = m.Roots, m.FreezeClock
		}
	}
	return whole.Validate()
}

func wrong(p *Plugin, err error) error {
	return &Error{Plugin: p.Name, Path: p.Path, Err: fmt.Errorf("%w:\n%w", ErrNonsense, err)}
}

func scopeNames(scopes []policy.Scope) string {
	names := make([]string, len(scopes))
	for i := range scopes {
		names[i] = scopes[i].Name
	}
	return strings.Join(names, ", ")
}

func union[T comparable](a, b []T) []T {
	have := make(map[T]bool, len(a)+len(b))
	var out []T
	for _, x := range slices.Concat(a, b) {
		if !have[x] {
			have[x] = true
			out = append(out, x)
		}
	}
	return out
}

func unionDeep[T any](a, b []T) []T {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.ContainsFunc(out, func(y T) bool { return reflect.DeepEqual(x, y) }) {
			out = append(out, x)
		}
	}
	return out
}
