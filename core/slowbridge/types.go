package slowbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Types is what the trusted kernel says about its structures. It belongs to one goroutine.
type Types struct {
	load    func() ([]byte, error)
	spec    *btf.Spec // nil until it is needed
	word    uint64    // bytes of a pointer
	answers map[string]answer
	changed bool
}

// answer is what is known about a policy's field, or about "structure member".
type answer struct {
	Symbol string `json:"symbol,omitempty"`
	Steps  []step `json:"steps,omitempty"`
	Error  string `json:"error,omitempty"`
	Size   uint64 `json:"size,omitempty"` // bytes of the value
}

// NewTypes is of a kernel of 32 or 64 bits. Reading a .BTF section takes long, so load is called for it only if there is a question
// that answers, which may be nil, do not answer: Answers of a Types of the same kernel.
func NewTypes(bits int, answers []byte, load func() ([]byte, error)) *Types {
	t := &Types{load: load, word: uint64(bits) / 8}
	if json.Unmarshal(answers, &t.answers) != nil || t.answers == nil {
		t.answers = map[string]answer{}
	}
	return t
}

// Answers returns what was asked so far. changed says that it is more than NewTypes was given.
func (t *Types) Answers() (answers []byte, changed bool, err error) {
	answers, err = json.Marshal(t.answers)
	return answers, t.changed, err
}

// read reads the .BTF section unless it has been read.
func (t *Types) read() error {
	if t.spec != nil {
		return nil
	}
	b, err := t.load()
	if err == nil {
		t.spec, err = btf.LoadSpecFromReader(bytes.NewReader(b))
	}
	if err != nil {
		return fmt.Errorf("the trusted kernel's BTF: %w", err)
	}
	return nil
}

// ask returns the answer to a question, which find finds out if it is new.
func (t *Types) ask(question string, find func() (*expression, error)) (*expression, error) {
	a, ok := t.answers[question]
	if !ok {
		if err := t.read(); err != nil {
			return nil, err
		}
		e, err := find()
		if err != nil {
			a.Error = err.Error()
		} else {
			a.Symbol, a.Steps, a.Size = e.symbol, e.steps, e.size
		}
		t.answers[question], t.changed = a, true
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return &expression{a.Symbol, a.Steps, a.Size}, nil
}

// member is a member of a structure.
type member struct {
	offset uint64 // bytes
	typ    btf.Type
}

// structure finds a structure or union by name.
func (t *Types) structure(name string) (btf.Type, error) {
	if err := t.read(); err != nil {
		return nil, err
	}
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

// sizeof returns the size of a structure in bytes.
func (t *Types) sizeof(structure string) (uint64, error) {
	e, err := t.ask("sizeof "+structure, func() (*expression, error) {
		typ, err := t.structure(structure)
		if err != nil {
			return nil, err
		}
		n, err := btf.Sizeof(typ)
		if err != nil || n == 0 {
			return nil, errors.Join(fmt.Errorf("type %s has no size", structure), err)
		}
		return &expression{size: uint64(n)}, nil
	})
	if err != nil {
		return 0, err
	}
	return e.size, nil
}

// offset returns the offset of a member of a named structure; path has dots between nested names.
func (t *Types) offset(structure, path string) (uint64, error) {
	e, err := t.ask(structure+" "+path, func() (*expression, error) {
		typ, err := t.structure(structure)
		if err != nil {
			return nil, err
		}
		off := uint64(0)
		for _, name := range strings.Split(path, ".") {
			m, ok := find(typ, name)
			if !ok {
				return nil, fmt.Errorf("struct %s has no member %s", structure, path)
			}
			off += m.offset
			typ = m.typ
		}
		return &expression{steps: []step{{Offset: off}}}, nil
	})
	if err != nil {
		return 0, err
	}
	return e.steps[0].Offset, nil
}

// expression is a parsed policy.Field: SYMBOL[+OFFSET]:TYPE followed by .member and ->member.
type expression struct {
	symbol string
	steps  []step
	size   uint64 // bytes of the value
}

type step struct {
	Follow bool   `json:"follow,omitempty"` // the pointer found so far is followed first
	Offset uint64 `json:"offset"`
}

// parse reads a policy.Field.
func (t *Types) parse(field string) (*expression, error) {
	return t.ask(field, func() (*expression, error) { return t.expression(field) })
}

func (t *Types) expression(field string) (*expression, error) {
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
		e.steps[0].Offset = n
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
			e.steps = append(e.steps, step{Follow: true})
		}
		if typ == nil {
			return nil, bad("members need the type of the symbol, as in init_pid_ns:pid_namespace.level")
		}
		m, ok := find(typ, name)
		if !ok {
			return nil, bad("there is no member " + name)
		}
		e.steps[len(e.steps)-1].Offset += m.offset
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
