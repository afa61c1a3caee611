package policy

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	roots := []Root{{Symbol: "modules"}}
	for want, p := range map[string]Policy{
		"":        {Scopes: []Scope{{Name: "a", Syscalls: []string{"read"}, Roots: roots}}, Local: []string{"kmem_cache_*"}, Substitutes: []Substitute{{Local: "pcpu_hot:pcpu_hot.current_task", Snapshot: "init_task"}}},
		"no name": {Scopes: []Scope{{Syscalls: []string{"read"}, Roots: roots}}},
		"there twice": {Scopes: []Scope{
			{Name: "a", Syscalls: []string{"read"}, Roots: roots}, {Name: "a", Syscalls: []string{"read"}, Roots: roots},
		}},
		"no system calls":   {Scopes: []Scope{{Name: "a", Roots: roots}}},
		"redirects nothing": {Scopes: []Scope{{Name: "a", Syscalls: []string{"read"}}}},
		"is no symbol":      {Local: []string{"a b"}},
		"overflow": {Scopes: []Scope{{
			Name: "a", Syscalls: []string{"read"}, Roots: []Root{{Symbol: "x", Offset: 1 << 63, Size: 1 << 63}},
		}}},
		"files: argument -1": {Scopes: []Scope{{Name: "a", Syscalls: []string{"read"}, Roots: roots, FileArgument: -1}}},
		"paths: argument 6":  {Scopes: []Scope{{Name: "a", Syscalls: []string{"open"}, Roots: roots, PathArgument: 6}}},
		"a file is":          {Scopes: []Scope{{Name: "a", Syscalls: []string{"read"}, Roots: roots, Files: []string{"proc", ""}}}},
		"a path is empty":    {Scopes: []Scope{{Name: "a", Syscalls: []string{"open"}, Roots: roots, Paths: []string{""}}}},
		"argument 6":         {Elided: []Elision{{Function: "kfree", Argument: 6}}},
		"size 0":             {Locks: []Lock{{Function: "mutex_lock"}}},
		"lock f: offset":     {Locks: []Lock{{Function: "f", Offset: 1<<64 - 1, Size: 1}}},
		`substitute: ""`:     {Substitutes: []Substitute{{Snapshot: "init_task"}}},
		`side: ""`:           {Substitutes: []Substitute{{Local: "current_task"}}},
		`clock: "1:tk"`:      {Clocks: []Field{"1:tk"}},
	} {
		err := p.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
