package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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

// TestDebugInfo takes types and symbols out of a program, if it is that which the notes name.
func TestDebugInfo(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc on this host")
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "k.c"), filepath.Join(dir, "vmlinux")
	text := "struct thing { int a; char b; } things[3]; void _start(void) { things[1].b = 1; }"
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-g", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=0x0123456789abcdef", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	i := &Image{Dir: dir}
	b := &builder{image: i, options: Options{Debug: program}}
	const kallsyms = "0000000000401000 T _text\n"
	for _, last := range []byte{0xee, 0xef} {
		note := append([]byte{4, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0}, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, last)
		if err := errors.Join(os.WriteFile(i.NotesPath(), note, 0o644), os.WriteFile(i.KallsymsPath(), []byte(kallsyms), 0o644)); err != nil {
			t.Fatal(err)
		}
		err := b.addDebugInfo(t.Context())
		if last != 0xef {
			if err == nil || !strings.Contains(err.Error(), "another kernel") {
				t.Errorf("debugging information of another kernel: %v", err)
			}
			continue
		}
		all, err2 := os.ReadFile(i.KallsymsPath())
		types, err3 := os.ReadFile(i.BTFPath())
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(all), " B things\n") || !strings.Contains(string(types), "thing\x00") || i.Debug != "vmlinux" {
			t.Errorf("from %s: %q and %q", i.Debug, all, types)
		}
	}
}
