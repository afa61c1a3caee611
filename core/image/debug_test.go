package image

import (
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/symbols"
)

// TestMergeSymbols: what kallsyms said stays as it was, and what only the linker knew comes after it.
func TestMergeSymbols(t *testing.T) {
	const own = "c1000000 T _text\nc1001000 t twice\nd0801000 t helper [module]\n"
	all, err := mergeSymbols([]byte(own), symbols.NewTable([]symbols.Symbol{
		{Name: "_text", Address: 0xc1000000, Type: 'T'},
		{Name: "twice", Address: 0xc1002000, Type: 't'},
		{Name: ".L12", Address: 0xc1003000, Type: 't'},
		{Name: "modules", Address: 0xc1d00000, Type: 'd'},
	}))
	if err != nil || !strings.HasPrefix(string(all), own) {
		t.Fatalf("%q, %v", all, err)
	}
	merged, err := symbols.ParseProc(strings.NewReader(string(all)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for s := range merged.All {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "_text twice helper twice modules" {
		t.Errorf("%s", got)
	}
	if s, ok := merged.Find("modules"); !ok || s.Address != 0xc1d00000 || s.Type != 'd' || s.Module != "" {
		t.Errorf("%+v", s)
	}
}
