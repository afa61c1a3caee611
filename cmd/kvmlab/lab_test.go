//go:build boot

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var kvmlab = flag.String("kvmlab", "", "the program under test")

// runLab runs kvmlab and returns what it printed and its exit code.
func runLab(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, complaint bytes.Buffer
	c := exec.Command(*kvmlab, args...)
	c.Stdout, c.Stderr = &out, &complaint
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), complaint.String(), c.ProcessState.ExitCode()
}

func TestPassesThrough(t *testing.T) {
	for _, c := range []struct {
		name, command, stdout, stderr string
		flags                         []string
		code                          int
	}{
		{name: "output and exit code", command: `echo out; echo err >&2; exit 7`, stdout: "out\n", stderr: "err\n", code: 7},
		{name: "arguments and variables", command: `echo "$0|$1|$HERE|$PWD"`, stdout: "-|a b|x=y|/some/where\n", flags: []string{"--env", "HERE=x=y", "--workdir", "/some/where"}},
		{name: "KVM and memory", command: `test -c /dev/kvm && awk '/MemTotal/{print ($2 > 2500000)}' /proc/meminfo; nproc`, stdout: "1\n2\n", flags: []string{"--memory", "3000", "--cpus", "2"}},
		{name: "a machine with KVM", command: `/kvmlab exec -- sh -c 'echo here; exit 9'`, stdout: "here\n", flags: []string{"--dir", *kvmlab + ":/kvmlab"}, code: 9},
		{name: "killed", command: `kill -9 $$`, stderr: "kvmlab: sh: signal: killed\n", code: 128 + 9},
		{name: "left behind", command: `sleep 1000 & echo done`, stdout: "done\n"},
		{name: "not there", command: `exec /nowhere`, stderr: "-: exec: line 0: /nowhere: not found\n", code: 127},
		{name: "panic", command: `echo c >/proc/sysrq-trigger; sleep 100`, stderr: "sysrq triggered crash", code: exitFailed},
		{name: "hang", command: `echo before; sleep 1000`, stdout: "before\n", stderr: "not finished after 30s", flags: []string{"--timeout", "30s"}, code: exitTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := runLab(t, append(append([]string{"run"}, c.flags...), "--", "sh", "-c", c.command, "-", "a b")...)
			if code != c.code || stdout != c.stdout || stderr != c.stderr && (code < exitTimeout || code > exitFailed || !strings.Contains(stderr, c.stderr)) {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

// TestFiles brings a folder and a file in and something out again.
func TestFiles(t *testing.T) {
	t.Parallel()
	in, out := t.TempDir(), filepath.Join(t.TempDir(), "new")
	sum := sha256.New()
	f, err := os.Create(filepath.Join(in, "large, with a comma"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8([32]byte{}), 40<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Mkdir(filepath.Join(in, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := runLab(t, "run", "--dir", in+":/in", "--dir", "lab_test.go:/etc/deep/file", "--out", "/in:"+out, "--out", "/etc/deep/file:"+out, "--",
		"sh", "-ec", "cd /in; mkdir -p more/d; cat large* | sha256sum | cut -c-64 >more/d/sum; echo x >>/etc/deep/file")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		return b
	}
	if want := fmt.Sprintf("%x\n", sum.Sum(nil)); string(read(filepath.Join(out, "more/d/sum"))) != want {
		t.Error("a large file is another one in the lab")
	}
	if !bytes.Equal(read(filepath.Join(out, "large, with a comma")), read(f.Name())) {
		t.Error("a large file is another one when it comes out")
	}
	if !bytes.Equal(read(filepath.Join(out, "file")), append(read("lab_test.go"), "x\n"...)) {
		t.Error("a file that was changed in the lab did not come out, or the host's was changed")
	}
	if names, err := filepath.Glob(filepath.Join(out, "*")); err != nil || len(names) != 4 {
		t.Errorf("%v, %v came out", names, err)
	}
}

// TestInterrupt ends kvmlab while the command runs: QEMU and the work folder are gone.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	c := exec.Command(*kvmlab, "run", "--", "sh", "-c", "echo up; sleep 1000")
	c.Env = append(os.Environ(), "TMPDIR="+temp)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() }).Stop()
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != exitFailed {
		t.Errorf("it ended with %v", err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
