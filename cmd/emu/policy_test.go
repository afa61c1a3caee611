package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// plugins builds emu's own policies and the example into a directory, with a manifest.
func plugins(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"build", "-o", dir}
	for _, p := range []string{"linux", "redirectable", "nonredirectable", "semiredirectable", "biredirectable", "neutral", "unknown", "example"} {
		args = append(args, "../../plugins/"+p)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r := finished(t, emu(t, "policy", "manifest", dir)); r.code != 0 {
		t.Fatal(r)
	}
	return dir
}

func TestPolicy(t *testing.T) {
	dir := plugins(t)
	inDir := func(args ...string) result {
		cmd := emu(t, append([]string{"policy"}, args...)...)
		cmd.Env = append(cmd.Env, pluginsVariable+"="+dir)
		return finished(t, cmd)
	}
	if r := inDir("ls"); r.code != 0 || !strings.Contains(r.stdout, "semiredirectable     handler  Semi") || strings.Count(r.stdout, "\n") != 9 ||
		strings.Count(r.stdout, "  ok\n") != 8 || !strings.Contains(r.stdout, "protocol 1") {
		t.Errorf("ls: %+v", r)
	}
	if r := inDir("check"); r.code != 0 || strings.Count(r.stdout, " ok\n") != 2 || strings.Count(r.stdout, " ok, leaves everything as observed\n") != 5 ||
		strings.Count(r.stdout, " ok, is asked about everything\n") != 1 || !strings.Contains(r.stdout, "procfs") || r.stderr != "" {
		t.Errorf("check: %+v", r)
	}
	var speeds []measured
	if r := inDir("bench", "--json", "--time", "10ms"); r.code != 0 || json.Unmarshal([]byte(r.stdout), &speeds) != nil || len(speeds) != 6*4+2 {
		t.Errorf("bench: %+v", r)
	}
	for _, s := range speeds {
		if s.StartMS <= 0 || s.Calls == 0 || s.CallUS <= 0 {
			t.Errorf("%+v", s)
		}
	}

	// A changed program is named, and the end is clean; emu policy manifest accepts it.
	f, err := os.OpenFile(filepath.Join(dir, "neutral"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	r := inDir("ls", "--json")
	var listed struct{ Plugins []listedPlugin }
	if r.code != exitError || json.Unmarshal([]byte(r.stdout), &listed) != nil || !strings.Contains(r.stderr, "1 of 8 policies") {
		t.Errorf("ls: %+v", r)
	}
	for _, p := range listed.Plugins {
		if strings.Contains(p.Error, "checksum") != (p.Name == "neutral") {
			t.Errorf("%+v", p)
		}
	}
	r = inDir("check", "--json")
	var checked struct{ Plugins []checkedPlugin }
	if r.code != exitError || json.Unmarshal([]byte(r.stdout), &checked) != nil || !strings.Contains(r.stderr, "1 of 8 policies") {
		t.Errorf("check: %+v", r)
	}
	for _, p := range checked.Plugins {
		if strings.Contains(p.Error, "checksum") != (p.Name == "neutral") {
			t.Errorf("%+v", p)
		}
	}
	if r := inDir("manifest", dir, "--handler", "N=neutral"); r.code != 0 {
		t.Errorf("manifest: %+v", r)
	}
	if r := inDir("check"); r.code != 0 {
		t.Errorf("check: %+v", r)
	}
}

// Without policies, an inspection says what to do.
func TestNoPolicies(t *testing.T) {
	r := finished(t, emu(t, "--plugins", t.TempDir(), "--snapshot", "none", "--", "true"))
	if r.code != exitInspect || !strings.Contains(r.stderr, "make build") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("%+v", r)
	}
}
