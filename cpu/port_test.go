package cpu

import (
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

func TestPortPermission(t *testing.T) {
	c, m := newRigMemory(t, 0x8000)
	c.cpl = 3
	c.updateContext()
	c.tr = vcpu.Segment{Attr: 0x8b, Base: 0x2000, Limit: 0x68 + 0x10}
	m.ram[0x2066] = 0x68
	m.ram[0x2068+0x70/8] = 0xfe // port 70H only
	c.r[isa.RDX], c.r[isa.RAX] = 0x70, 0x11223344
	if !c.step(t, "ee") || len(m.log) != 1 || m.log[0] != "out 0x70 1 0x44" {
		t.Errorf("out dx, al: %q, vector %d", m.log, c.exc.vector)
	}
	c.faults(t, "ef", VectorGP) // four bytes take in port 71H
	c.r[isa.RDX] = 0x71
	c.faults(t, "ec", VectorGP)
	c.r[isa.RDX] = 0x80 // the word of the bitmap ends beyond the limit
	c.faults(t, "ec", VectorGP)
	c.tr.Limit = 0x67
	c.faults(t, "e4 70", VectorGP)
	c.setRFLAGS(FlagIOPL)
	if !c.step(t, "e5 71") || c.r[isa.RAX] != 0x02040608 {
		t.Errorf("in eax, 71H at IOPL 3: %q, eax %#x", m.log, c.r[isa.RAX])
	}
	// A fault at the destination of INS comes before the port is read.
	before := len(m.log)
	c.r[isa.RDI] = 0x9000
	c.faults(t, "6c", VectorPF)
	if len(m.log) != before {
		t.Errorf("insb read the port and then faulted")
	}
}
