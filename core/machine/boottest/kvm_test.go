//go:build boot

package boottest

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var kvmlab = flag.String("kvmlab", "", "the kvmlab program, which runs emu under KVM: make test-kvm")

// underKVM runs a shell command where there is a usable /dev/kvm, with emu as /emu and the folder dir as /guest, and returns
// what it prints. Files that it puts into /out come into the folder out.
func underKVM(t *testing.T, dir, out, command string) []byte {
	t.Helper()
	if *kvmlab == "" {
		t.Skip("no -kvmlab: make test-kvm runs this")
	}
	cmd := exec.Command(*kvmlab, "run", "--timeout", "15m", "--dir", dir+":/guest", "--dir", *emulator+":/emu", "--out", "/out:"+out, "--",
		"/bin/sh", "-c", "mkdir /out; "+command)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", command, err, tail(stdout.Bytes()), stderr.Bytes())
	}
	t.Log(stderr.String())
	return stdout.Bytes()
}

// labCPU is what a processor of KVM's has in the lab, but XSAVE: QEMU 7.2 does not tell KVM that a guest writes XCR0.
const labCPU = "-xsave,-pcid,-invpcid,-rdseed"

// TestKVM boots a kernel under KVM, with its checks.
func TestKVM(t *testing.T) {
	dir := filepath.Join(*guests, "kernels", "cloud-6.1")
	console := underKVM(t, dir, t.TempDir(), "/emu run --accel=kvm --no-reboot --stats --cpu "+labCPU+
		" --kernel /guest/vmlinuz --initrd /guest/initrd.cpio --append 'console=ttyS0 quiet emu.modules=1'")
	for _, want := range []string{checks, "EMU-INIT-DONE"} {
		if !bytes.Contains(console, []byte(want)) {
			t.Errorf("no %q on the console:\n%s", want, tail(console))
		}
	}
}

// TestKVMMoves starts a guest in the emulator, goes on under KVM, and ends in the emulator. What was the emulator's XCR0 is
// KVM's, so XSAVE may be there.
func TestKVMMoves(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(out, "second")
	if *kvmlab != "" {
		args := append(kernelArgs("cloud-6.1", "quiet emu.run=cat"), "--cpu", "-pcid,-invpcid,-rdseed", "--save", first, "--save-when", "EMU-CAT")
		cmd := exec.Command(*emulator, append([]string{"run", "--budget", "20000000000"}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 600 {
			if _, err := os.Stat(first); err == nil {
				break
			}
			time.Sleep(time.Second)
		}
		// It waits for input now, of which there is none.
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // with the signal's exit code
	}
	console := underKVM(t, dir, out, "{ echo one; while [ ! -e /out/second ]; do sleep 1; done; echo end; } | "+
		"/emu run --accel=kvm --no-reboot --load /guest/first --save /out/second --save-when 'got: one'")
	if !bytes.Contains(console, []byte("got: end")) || !bytes.Contains(console, []byte("EMU-INIT-DONE")) {
		t.Errorf("under KVM:\n%s", tail(console))
	}
	cmd := exec.Command(*emulator, "run", "--no-reboot", "--load", second)
	cmd.Stdin = strings.NewReader("two\nend\n")
	console, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(console, []byte("got: two")) || !bytes.Contains(console, []byte("EMU-INIT-DONE")) {
		t.Errorf("in the emulator again: %v\n%s", err, console)
	}
}
