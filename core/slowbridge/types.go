package slowbridge

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Types is what the trusted kernel says about its structures.
type Types struct {
	spec *btf.Spec
	word uint64 // bytes of a pointer
}

// NewTypes reads the .BTF section of a kernel of 32 or 64 bits.
func NewTypes(b []byte, bits int) (*Types, error) {
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("the trusted kernel's BTF: %w", err)
	}
	return &Types{spec: spec, word: uint64(bits) / 8}, nil
}

// member is a member of a structure.
type member struct {
	offset uint64 // bytes
	typ    btf.Type
}

// structure finds a structure or union by name.
func (t *Types) structure(name string) (btf.Type, error) {
	found, err := t.spec.AnyTypesByName(name)
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", name, err)
	}
	for _, typ := range found {
		switch typ.(type) {
		case *btf.Struct, *btf.Union:
			return typ, nil
		}
	}
	return nil, fmt.Errorf("type %s is no structure", name)
}

func plain(t btf.Type) btf.Type { return btf.UnderlyingType(t) }

func members(t btf.Type) []btf.Member {
	switch s := plain(t).(type) {
	case *btf.Struct:
		return s.Members
	case *btf.Union:
		return s.Members
	}
	return nil
}

// find looks a member up, also within members without a name.
func find(t btf.Type, name string) (member, bool) {
	for _, m := range members(t) {
		if m.Name == name {
			return member{offset: uint64(m.Offset.Bytes()), typ: m.Type}, true
		}
		if m.Name == "" {
			if in, ok := find(m.Type, name); ok {
				in.offset += uint64(m.Offset.Bytes())
				return in, true
			}
		}
	}
	return member{}, false
}

// offset returns the offset of a member of a named structure; path has dots between nested names.
func (t *Types) offset(structure, path string) (uint64, error) {
	typ, err := t.structure(structure)
	if err != nil {
		return 0, err
	}
	off := uint64(0)
	for _, name := range strings.Split(path, ".") {
		m, ok := find(typ, name)
		if !ok {
			return 0, fmt.Errorf("struct %s has no member %s", structure, path)
		}
		off += m.offset
		typ = m.typ
	}
	return off, nil
}

// expression is a parsed policy.Field: SYMBOL[+OFFSET]:TYPE followed by .member and ->member.
type expression struct {
	symbol string
	steps  []step
	size   uint64 // bytes of the value
}

type step struct {
	deref bool // the pointer found so far is followed first
	off   uint64
}

// parse reads a policy.Field.
func (t *Types) parse(field string) (*expression, error) {
	bad := func(why string) error { return fmt.Errorf("the policy's field %q: %s", field, why) }
	rest := strings.ReplaceAll(field, "->", ".>")
	parts := strings.Split(rest, ".")
	head, typeName, _ := strings.Cut(parts[0], ":")
	symbol, offset, hasOffset := strings.Cut(head, "+")
	e := &expression{symbol: symbol, steps: []step{{}}}
	if hasOffset {
		n, err := strconv.ParseUint(offset, 0, 64)
		if err != nil {
			return nil, bad("the offset is no number")
		}
		e.steps[0].off = n
	}
	var typ btf.Type
	if typeName != "" {
		var err error
		if pointer := strings.TrimSuffix(typeName, "*"); pointer != typeName {
			if typ, err = t.structure(pointer); err == nil {
				typ = &btf.Pointer{Target: typ}
			}
		} else {
			typ, err = t.structure(typeName)
		}
		if err != nil {
			return nil, bad(err.Error())
		}
	}
	for _, name := range parts[1:] {
		name, deref := strings.CutPrefix(name, ">")
		if deref {
			p, ok := plain(typ).(*btf.Pointer)
			if !ok {
				return nil, bad("what is before ->" + name + " is no pointer")
			}
			typ = p.Target
			e.steps = append(e.steps, step{deref: true})
		}
		if typ == nil {
			return nil, bad("members need the type of the symbol, as in init_pid_ns:pid_namespace.level")
		}
		m, ok := find(typ, name)
		if !ok {
			return nil, bad("there is no member " + name)
		}
		e.steps[len(e.steps)-1].off += m.offset
		typ = m.typ
	}
	e.size = t.word
	if number, ok := plain(typ).(*btf.Int); ok {
		e.size = uint64(number.Size)
	}
	if e.size > 8 {
		return nil, bad("its value has more than 8 bytes")
	}
	return e, nil
}
