package slowbridge

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// section is a .BTF section with struct list { u64 next; } and struct module { u64 state; struct list list; }.
func section(t *testing.T) []byte {
	t.Helper()
	u64 := &btf.Int{Name: "u64", Size: 8}
	list := &btf.Struct{Name: "list", Size: 8}
	list.Members = []btf.Member{{Name: "next", Type: &btf.Pointer{Target: list}}}
	module := &btf.Struct{Name: "module", Size: 16, Members: []btf.Member{{Name: "state", Type: u64}, {Name: "list", Type: list, Offset: 64}}}
	b, err := btf.NewBuilder([]btf.Type{module}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.Marshal(nil, btf.KernelMarshalOptions())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Answers are those of the section, which is then not read again; errors are answers too.
func TestTypesAnswers(t *testing.T) {
	ask := func(types *Types) {
		t.Helper()
		if off, err := types.offset("module", "list.next"); off != 8 || err != nil {
			t.Error(off, err)
		}
		if _, err := types.offset("module", "none"); err == nil || err.Error() != "struct module has no member none" {
			t.Error(err)
		}
		e, err := types.parse("modules+0x10:module.list.next->next")
		if err != nil || e.symbol != "modules" || len(e.steps) != 2 || e.steps[0] != (step{Offset: 0x18}) || e.steps[1] != (step{Follow: true}) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	types := NewTypes(64, nil, func() ([]byte, error) { return section(t), nil })
	ask(types)
	answers, changed, err := types.Answers()
	if !changed || err != nil {
		t.Fatal(changed, err)
	}
	errRead := errors.New("read")
	types = NewTypes(64, answers, func() ([]byte, error) { return nil, errRead })
	ask(types)
	if again, changed, err := types.Answers(); changed || err != nil || !bytes.Equal(again, answers) {
		t.Errorf("%v %v: %s, want %s", changed, err, again, answers)
	}
	if _, err := types.offset("module", "state"); !errors.Is(err, errRead) {
		t.Error("a new question was answered without the section:", err)
	}
}
