package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const console = "[    0.1] Linux version\r\n@@FACT hidden_pid 17\n" +
	"@@TOOL before hostname 13 0 hostname\nuntrusted-vm\n@@END\n" +
	"@@TOOL before odd 6 2 cat  odd\n@@END\n@@END\n" +
	"@@TOOL before empty 0 0 true\n@@END\n@@PHASE before\n"

func TestPhase(t *testing.T) {
	dir := t.TempDir()
	facts, err := newTruthReader(strings.NewReader(console)).phase("before", dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(facts) != 1 || facts[0] != "hidden_pid 17" {
		t.Errorf("facts: %q", facts)
	}
	for name, want := range map[string]string{
		"hostname.txt": "untrusted-vm\n", "odd.txt": "@@END\n", "empty.txt": "",
		"INDEX": "hostname 13 0 hostname\nodd 6 2 cat  odd\nempty 0 0 true\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestPhaseErrors(t *testing.T) {
	for name, test := range map[string]struct{ console, want string }{
		"ends":     {console[:len(console)-10], "console ends before phase"},
		"in text":  {"@@TOOL before hostname 13 0 hostname\nuntr", "ends in its output"},
		"mixed":    {"@@TOOL before hostname 13 0 hostname\n[ 1.0] message\nuntrusted-vm\n@@END\n", "something else has written"},
		"no tool":  {"@@PHASE before\n", "no tool"},
		"no bytes": {"@@TOOL before hostname x 0 hostname\n", "output of x bytes"},
		"short":    {"@@TOOL before hostname\n", "is not name"},
	} {
		if _, err := newTruthReader(strings.NewReader(test.console)).phase("before", t.TempDir()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestMonitor(t *testing.T) {
	rig := struct {
		*strings.Reader
		*strings.Builder
	}{
		strings.NewReader(`{"QMP":{}}{"return":{}}{"event":"STOP"}{"return":"a\r\nb"}{"error":{"class":"GenericError","desc":"no such thing"}}`),
		&strings.Builder{},
	}
	m, err := newMonitor(rig)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.human("info"); err != nil || got != "a\nb" {
		t.Errorf("human: %q, %v", got, err)
	}
	if _, err := m.execute("dump", nil); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("an error: %v", err)
	}
	if _, err := m.execute("dump", nil); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("the end: %v", err)
	}
	if want := `{"execute":"qmp_capabilities"}` + "\n" + `{"arguments":{"command-line":"info"},"execute":"human-monitor-command"}` + "\n"; !strings.HasPrefix(rig.String(), want) {
		t.Errorf("sent %q, want first %q", rig.String(), want)
	}
}
