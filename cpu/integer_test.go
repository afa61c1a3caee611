package cpu

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// TestRecorded runs single instructions and compares with what a real CPU made of them; testdata/record.py recorded
// it. Flags that the manual leaves undefined are compared too: the recorded CPU's choice is ours.
func TestRecorded(t *testing.T) {
	file, err := os.Open("testdata/integer.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c, ram := newRig(t, 1<<16)
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		var code []byte
		var in, want [5]uint64
		text, comment, _ := strings.Cut(lines.Text(), " # ")
		if _, err := fmt.Sscanf(text, "%x %x %x %x %x %x %x %x %x %x %x", &code, &in[0], &in[1], &in[2], &in[3], &in[4],
			&want[0], &want[1], &want[2], &want[3], &want[4]); err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		rip := uint64(0x1000 + n%2000*16)
		copy(ram[rip:], code)
		c.MemoryWritten(rip, len(code))
		copy(c.r[:4], in[:4])
		c.setRFLAGS(in[4])
		c.rip = rip
		if exit := c.Run(c.icount + 1); exit.Reason != vcpu.ExitDeadline || c.rip != rip+uint64(len(code)) {
			t.Errorf("line %d: %s: %+v at %#x", n, comment, exit, c.rip)
			continue
		}
		got := [5]uint64{c.r[isa.RAX], c.r[isa.RCX], c.r[isa.RDX], c.r[isa.RBX], c.f.word()}
		if got != want {
			t.Errorf("line %d: %s\n in   %x\n got  %x\n want %x", n, comment, in, got, want)
		}
	}
}
