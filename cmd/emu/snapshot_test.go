package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func emuOut(args ...string) (string, error) {
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

func TestSnapshotCommands(t *testing.T) {
	dir := t.TempDir()
	in, out, back := filepath.Join(dir, "a.raw"), filepath.Join(dir, "b.elf"), filepath.Join(dir, "c.raw")
	mem := bytes.Repeat([]byte("memory. "), 4096)
	if err := os.WriteFile(in, mem, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{in, out}, {out, back, "--format", "raw"}} {
		if text, err := emuOut(append([]string{"snapshot", "convert"}, args...)...); err != nil || text != "" {
			t.Fatal(text, err)
		}
	}
	if b, err := os.ReadFile(back); err != nil || !bytes.Equal(b, mem) {
		t.Error("the memory changed", err)
	}
	text, err := emuOut("snapshot", "info", out)
	if err != nil || !strings.Contains(text, "format       elf") || !strings.Contains(text, "no Linux kernel found") {
		t.Error(text, err)
	}
	text, err = emuOut("snapshot", "info", "--json", in)
	var info struct {
		Format string
		Ranges []struct{ Base, Size string }
	}
	if err != nil || json.Unmarshal([]byte(text), &info) != nil || info.Format != "raw" || info.Ranges[0].Size != "0x8000" {
		t.Error(text, err)
	}
	for _, bad := range [][]string{
		{"info"},
		{"info", filepath.Join(dir, "none")},
		{"info", in, "--hole", "5"},
		{"convert", in, in},
		{"convert", in, out, "--format", "qcow2"},
		{"convert", in, out, "--vmcoreinfo"},
	} {
		if text, err := emuOut(append([]string{"snapshot"}, bad...)...); err == nil {
			t.Errorf("%v: %s", bad, text)
		}
	}
}
