package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestDoctor: what is needed and missing makes the exit code, and every finding that is not good has a remedy.
func TestDoctor(t *testing.T) {
	data := t.TempDir()
	t.Setenv("XDG_DATA_HOME", data)
	t.Setenv(pluginsVariable, filepath.Join(data, "none"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	code := run([]string{"doctor", "--json"})
	os.Stdout = stdout
	w.Close()
	var found []finding
	if err := json.NewDecoder(r).Decode(&found); err != nil {
		t.Fatal(err)
	}
	if code != exitError {
		t.Errorf("exit code %d without policies and images, want %d", code, exitError)
	}
	good := map[string]bool{}
	for _, f := range found {
		good[f.Name] = f.OK
		if !f.OK && (f.Remedy == "" || f.Detail == "") {
			t.Errorf("%+v says neither what nor what to do", f)
		}
	}
	if good["policies"] || good["images"] || !good["Meta-Data"] {
		t.Errorf("found %+v", found)
	}
}
