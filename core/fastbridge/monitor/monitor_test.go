package monitor

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestLayout: the constants are those of the code.
func TestLayout(t *testing.T) {
	if len(Image) != Substitutes {
		t.Errorf("the data end at %#x, not at %#x", len(Image), Substitutes)
	}
	for _, off := range []int{Enter, Breakpoint, PageFault, Resume, Locate, LocateCPU, Asked, CleanInt3, LeaveView, LocateOnStack} {
		if Image[off] != 0xe9 { // JMP rel32
			t.Errorf("no entry point at %#x", off)
		}
	}
	for v := range 256 {
		code := Image[Vectors+16*v:]
		if code[0] == 0x6a {
			code = code[2:] // PUSH 0, where the processor pushes no error code
		}
		if code[0] != 0x68 || code[1] != byte(v) || code[5] != 0xe9 {
			t.Errorf("vector %d begins with % x", v, code[:16])
		}
	}
	rest := bytes.Clone(Image[data:])
	binary.LittleEndian.PutUint64(rest[OnceLeft-data:], 0)
	if data%4096 != 0 || bytes.ContainsFunc(rest, func(r rune) bool { return r != 0 }) {
		t.Error("the data are not zero, on a page of their own")
	}
}

// TestSource: the code is that of its source.
func TestSource(t *testing.T) {
	nasm, err := exec.LookPath("nasm")
	if err != nil {
		t.Skip("no nasm on this host: make setup")
	}
	out := filepath.Join(t.TempDir(), "monitor.bin")
	if msg, err := exec.Command(nasm, "-f", "bin", "-o", out, "monitor.asm").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, Image) {
		t.Error("monitor.bin is not what monitor.asm gives: go generate ./core/fastbridge/monitor")
	}
}
