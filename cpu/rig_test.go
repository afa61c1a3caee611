package cpu

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// rigMemory is RAM from 0, and the platform around it: ports and MMIO are logged, reads give what feed says.
type rigMemory struct {
	ram []byte
	log []string
	// onPort is called for each port access.
	onPort func()
}

func (m *rigMemory) Page(pa uint64) (*[4096]byte, bool) {
	if pa >= uint64(len(m.ram)) {
		return nil, false
	}
	return (*[4096]byte)(m.ram[pa:]), true
}

func (m *rigMemory) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *rigMemory) ReadMMIO(pa uint64, size int) uint64 {
	m.note("read %#x %d", pa, size)
	return 0x1122334455667788
}

func (m *rigMemory) WriteMMIO(pa uint64, size int, v uint64) { m.note("write %#x %d %#x", pa, size, v) }

func (m *rigMemory) ReadPort(port uint16, size int) uint32 {
	m.note("in %#x %d", port, size)
	if m.onPort != nil {
		m.onPort()
	}
	return 0x01020304 * uint32(len(m.log))
}

func (m *rigMemory) WritePort(port uint16, size int, v uint32) {
	m.note("out %#x %d %#x", port, size, v)
	if m.onPort != nil {
		m.onPort()
	}
}
func (m *rigMemory) AckInterrupt() uint8     { return 0x40 }
func (m *rigMemory) TaskPriority() uint8     { return 0 }
func (m *rigMemory) SetTaskPriority(uint8)   {}
func (m *rigMemory) APICBase() uint64        { return 0 }
func (m *rigMemory) SetAPICBase(uint64) bool { return true }
func (m *rigMemory) TSCDeadline() uint64     { return 0 }
func (m *rigMemory) SetTSCDeadline(uint64)   {}
func (m *rigMemory) TSC() uint64             { return 0 }
func (m *rigMemory) TSCChanged()             { m.note("TSC changed") }

// rigTables is how much memory behind the usable part the page tables take.
const rigTables = 0x4000

// newRig returns a CPU in 64-bit mode at CPL 0 whose first size bytes (at most 2 MiB less the tables) are mapped one to
// one by 4 KiB pages; nothing else is. Behind them lie the page tables, the last of them the page table itself.
func newRig(tb testing.TB, size int) (*CPU, []byte) {
	c, m := newRigMemory(tb, size)
	return c, m.ram[:size]
}

func newRigMemory(tb testing.TB, size int) (*CPU, *rigMemory) {
	tb.Helper()
	m := &rigMemory{ram: make([]byte, size+rigTables)}
	base := uint64(size)
	put := func(at, v uint64) { binary.LittleEndian.PutUint64(m.ram[at:], v) }
	put(base, base+0x1000|7)
	put(base+0x1000, base+0x2000|7)
	put(base+0x2000, base+0x3000|7)
	for i := range base / 4096 {
		put(base+0x3000+i*8, i<<12|7)
	}
	c := New(Config{Memory: m, Platform: m, Features: isa.AllFeatures})
	s := c.State()
	s.CR0 = cr0PG | cr0PE | cr0WP | cr0NE
	s.CR3 = base
	s.CR4 = cr4PAE | cr4OSFXSR
	s.MSR.EFER = eferLME | eferLMA | eferNXE
	for i := range s.Seg {
		s.Seg[i] = vcpu.Segment{Selector: 8, Attr: 0xc093, Limit: 0xffffffff}
	}
	s.Seg[isa.CS].Attr = 0xa09b
	if err := c.SetState(s); err != nil {
		tb.Fatal(err)
	}
	return c, m
}

// setMode turns a rig's CPU to code of the given width; 32- and 16-bit code runs in compatibility mode.
func (c *CPU) setMode(mode isa.Mode) {
	cs := c.seg[isa.CS]
	cs.Attr &^= vcpu.AttrL | vcpu.AttrDB
	ss := c.seg[isa.SS]
	ss.Attr |= vcpu.AttrDB
	switch mode {
	case isa.Mode64:
		cs.Attr |= vcpu.AttrL
	case isa.Mode32:
		cs.Attr |= vcpu.AttrDB
	case isa.Mode16:
		ss.Attr &^= vcpu.AttrDB
	}
	c.setSegment(isa.CS, cs)
	c.setSegment(isa.SS, ss)
	c.refresh()
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// step executes one instruction by its general handler at RIP 1000H. It reports what the handler does; the fault, if
// any, is in c.exc.
func (c *CPU) step(tb testing.TB, code string) bool {
	tb.Helper()
	in, err := isa.Decode(unhex(code), c.mode, c.feat)
	if err != nil {
		tb.Fatalf("%s: %v", code, err)
	}
	u := uop{Inst: in, end: uint32(in.Len)}
	c.r[isa.RegRIP] = 0x1000
	c.rip = c.next(&u)
	c.stop, c.exc = stopNone, exception{}
	return c.table[in.Op](c, &u)
}

// faults executes one instruction that must fault with the vector, and must have changed no register.
func (c *CPU) faults(t *testing.T, code string, vector uint8) {
	t.Helper()
	old, flags := c.r, c.RFLAGS()
	if c.step(t, code) || c.stop != stopFault || c.exc.vector != vector {
		t.Errorf("%s: stop %d vector %d, want a fault with vector %d", code, c.stop, c.exc.vector, vector)
	}
	old[isa.RegRIP] = c.r[isa.RegRIP]
	if old != c.r || flags != c.RFLAGS() {
		t.Errorf("%s: registers have changed:\n%x\n%x", code, old, c.r)
	}
}
