package crossview

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeSnapshot is a folder with the truth of a few tools and an emu that prints the truth of before, or what a file
// "lie" has instead.
func fakeSnapshot(t *testing.T) Runner {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	index := "hostname 13 0 hostname\nproc-uptime 11 0 cat /proc/uptime\nproc-io-named 30 0 grep -H '' " +
		"$(sed 's|.* |/proc/|; s|$|/io|' /run/named)\nnamed 9 0 cat /run/named\nslow 0 0 slow\nbroken 0 2 broken\n"
	for phase, uptime := range map[string]string{"before": "33.72 1.21\n", "after": "55.23 1.66\n"} {
		write("truth/"+phase+"/INDEX", index)
		write("truth/"+phase+"/hostname.txt", "untrusted-vm\n")
		write("truth/"+phase+"/proc-uptime.txt", uptime)
		write("truth/"+phase+"/named.txt", "web 17\ndb 18\n")
		write("truth/"+phase+"/proc-io-named.txt", "/proc/17/io:rchar: 5\n/proc/18/io:rchar: 6\n")
		write("truth/"+phase+"/slow.txt", "")
		write("truth/"+phase+"/broken.txt", "no\n")
	}
	write("emu", `#!/bin/sh
dir=${2%/mem.elf}
[ "$1" = --snapshot ] && [ "$3" = -- ] || { echo "emu: unknown flag $3"; exit 1; }
shift 3
case "$*" in
  hostname) cat "$dir/lie" 2>/dev/null || cat "$dir/truth/before/hostname.txt" ;;
  "cat /proc/uptime") echo 40.00 1.30 ;;
  "sh -c grep -H '' /proc/17/io /proc/18/io") cat "$dir/truth/before/proc-io-named.txt" ;;
  slow) exec sleep 60 ;;
  broken) echo no >&2; exit 2 ;;
  *) echo "emu: no such tool: $*" >&2; exit 127 ;;
esac
`)
	return Runner{Emu: filepath.Join(dir, "emu"), Directory: dir, Timeout: 20 * time.Second}
}

func TestRunner(t *testing.T) {
	r := fakeSnapshot(t)
	tools, err := ReadIndex(r.Directory)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tool := range tools {
		if tool.Name == "slow" {
			r.Timeout = 200 * time.Millisecond
		} else {
			r.Timeout = 20 * time.Second
		}
		result := r.Run(t.Context(), tool)
		got = append(got, tool.Name+" "+result.Verdict.String())
	}
	want := []string{"hostname ok", "proc-uptime ok", "proc-io-named ok", "named skipped", "slow error", "broken ok"}
	if !slices.Equal(got, want) {
		t.Errorf("verdicts: %q, want %q", got, want)
	}
}

func TestRunnerFails(t *testing.T) {
	r := fakeSnapshot(t)
	if err := os.WriteFile(filepath.Join(r.Directory, "lie"), []byte("trusted-vm\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := r.Run(t.Context(), Tool{Name: "hostname", Command: "hostname"}); got.Verdict != Differ || !strings.Contains(got.String(), `got "trusted-vm"`) {
		t.Errorf("another host name: %v, %v", got.Verdict, got)
	}
	if got := r.Run(t.Context(), Tool{Name: "hostname", Command: "unknown"}); got.Verdict != Failed || !strings.Contains(got.String(), "no such tool: unknown") {
		t.Errorf("an unknown tool: %v, %v", got.Verdict, got)
	}
	r.Flags = []string{"--accel=soft"}
	if got := r.Run(t.Context(), Tool{Name: "hostname", Command: "hostname"}); got.Verdict != Failed || !strings.Contains(got.String(), "unknown flag --accel=soft") {
		t.Errorf("a flag: %v, %v", got.Verdict, got)
	}
	if got := r.Run(t.Context(), Tool{Name: "hostname", Command: "hostname", Status: 3}); got.Verdict != Failed {
		t.Errorf("another exit status: %v", got.Verdict)
	}
	r.Flags = nil
	for report, want := range map[string]Verdict{
		"layout        7 operands in the snapshot's memory, 9 in the trusted VM's, 0 of them wrong, in 0 instructions\n":              OK,
		"layout        7 operands in the snapshot's memory, 9 in the trusted VM's, 10 of them wrong, in 1 instructions\n  10  here\n": Differ,
	} {
		if err := os.WriteFile(filepath.Join(r.Directory, "lie"), []byte("untrusted-vm\n"+report), 0o666); err != nil {
			t.Fatal(err)
		}
		got := r.Run(t.Context(), Tool{Name: "hostname", Command: "hostname"})
		if got.Verdict != want || got.Layout != report || string(got.Output) != "untrusted-vm\n" {
			t.Errorf("%v, %+v", got.Verdict, got)
		}
	}
	if got := r.Run(t.Context(), Tool{Name: "nothing", Command: "nothing"}); got.Verdict != Failed {
		t.Errorf("no truth: %v", got.Verdict)
	}
}
