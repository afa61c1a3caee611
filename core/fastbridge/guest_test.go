package fastbridge

import (
	"encoding/binary"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Where the guest of these tests has its things.
const (
	guestDirect   = 0xffff888000000000
	guestCode     = 0xffffffff81000000
	guestData     = 0xffffffff82000000 // a variable of the kernel: both machines have it
	guestStack    = 0xffffc90000100000
	guestTables   = 0xffffffff83000000 // GDT and IDT
	guestLocal    = 0x200000           // physical addresses of the trusted VM's data, and of the snapshot's
	guestSnapshot = 0x201000
	guestStacks   = 0x700000 // what the snapshot has at the address of the current stack
	guestMemory   = 64 << 20
	guestWindow   = 32 << 20
	guestScope    = windowBase // struct scope, then its table
	guestTable    = windowBase + 0x1000
	guestStub     = windowBase + 0x10000
	guestLists    = windowBase + 0x20000
)

// guestRAM is physical memory.
type guestRAM []byte

// Page implements cpu.Memory.
func (m guestRAM) Page(pa uint64) (*[4096]byte, bool) {
	if pa >= uint64(len(m)) {
		return nil, false
	}
	return (*[4096]byte)(m[pa&^0xfff:]), true
}

// guestRig is a processor with the monitor, in a view: the address of the kernel's variable means the trusted VM's memory, and its alias the
// snapshot's; so does an alias of the stack. In the redirected view the variable is the snapshot's.
type guestRig struct {
	ram     guestRAM
	cpu     *cpu.CPU
	roots   [2]*table
	monitor []byte
	routes  entries
	tables  *tables
	// start is where in the code run begins.
	start uint64
	// asked is what the guest has written to the monitor's port.
	asked []uint32
}

// guestPlatform has the monitor's port; nothing else is used.
type guestPlatform struct {
	vcpu.Platform
	g *guestRig
}

// WritePort implements vcpu.Platform.
func (p guestPlatform) WritePort(port uint16, _ int, v uint32) { p.g.asked = append(p.g.asked, v) }

func newGuestRig(t rapid.TB) *guestRig {
	g := &guestRig{ram: make(guestRAM, guestMemory), routes: routines}
	g.cpu = cpu.New(cpu.Config{Memory: g.ram, Features: isa.AllFeatures, Platform: guestPlatform{g: g}})
	ts := &tables{&pool{base: 1 << 20, mem: g.ram[1<<20 : 2<<20]}, func(pa uint64) *[4096]byte { p, _ := g.ram.Page(pa &^ 0xfff); return p }, 4}
	g.tables = ts
	slot := uint64(511)
	alias := (256 - slot) << 39
	stackSlot := uint64(index(guestStack, 4))
	stackAlias := (257 - stackSlot) << 39
	for v := range g.roots {
		root, err := ts.table(4, nil)
		if err != nil {
			t.Fatal(err)
		}
		g.roots[v] = root
		put := func(la, pa, pages uint64) {
			for i := range pages {
				if err := ts.put(root, la+i<<12, pa+i<<12|present|writable|accessed|dirty, false); err != nil {
					t.Fatal(err)
				}
			}
		}
		put(guestDirect, 0x300000, 1)
		put(guestCode, 0x400000, 1)
		put(guestStack, 0x500000, 4)
		put(guestTables, 0x600000, 2)
		put(guestData, []uint64{guestLocal, guestSnapshot}[v], 1)
		put(guestData+alias, guestSnapshot, 1)
		put(guestStack+stackAlias, guestStacks, 4)
		put(windowBase, guestWindow, window>>12)
	}
	g.monitor = g.ram[guestWindow+monitor.Base-windowBase:]
	copy(g.monitor, monitor.Image)
	for off, v := range map[int]uint64{
		monitor.PageOffset: guestDirect, monitor.DirectLimit: 1 << 40, monitor.Boundary: 1 << 38, monitor.Vmemmap: 0xffffea0000000000, monitor.VmemmapLimit: 1 << 32,
		monitor.Routines: monitor.Base + monitor.Locate, monitor.Routines + 8: monitor.Base + monitor.LeaveView, monitor.VmemmapBoundary: 1 << 30, monitor.SlotShift: 39, monitor.Aliases + 8*511: alias, monitor.Aliases + 8*int(stackSlot): stackAlias, monitor.CurrentStack: guestStack, monitor.Current: guestScope,
	} {
		binary.LittleEndian.PutUint64(g.monitor[off:], v)
	}
	g.word(guestScope+monitor.ScopeTable, guestTable)
	g.word(guestScope+monitor.ScopeMask, 0xfff)
	g.word(guestScope+monitor.ScopeRootN, g.roots[nonRedirected].pa)
	// Flat segments, and int3 at the monitor.
	binary.LittleEndian.PutUint64(g.ram[0x600010:], 0x00af9b000000ffff)
	binary.LittleEndian.PutUint64(g.ram[0x600018:], 0x00cf93000000ffff)
	gate := g.ram[0x601000+3*16:]
	setGate(gate, monitor.Base+monitor.Breakpoint)
	gate[2], gate[5] = 0x10, 0x8e
	return g
}

// word writes 8 bytes of the window.
func (g *guestRig) word(la, v uint64) {
	binary.LittleEndian.PutUint64(g.ram[guestWindow+la-windowBase:], v)
}

// site enters a site into the scope's table.
func (g *guestRig) site(a uint64, action byte, value uint32) {
	at := guestTable + a*monitor.SiteSize&0xfff
	g.word(at, a)
	e := g.ram[guestWindow+at-windowBase:]
	e[monitor.SiteAction] = action
	binary.LittleEndian.PutUint32(e[monitor.SiteValue:], value)
}

// run executes code at guestCode in a view, up to the HLT that follows it at end, and returns what has become of the registers.
func (g *guestRig) run(t rapid.TB, view int, code []byte, end int, gpr [16]uint64, flags, gs uint64) vcpu.State {
	page := g.ram[0x400000:0x401000]
	clear(page)
	copy(page, code)
	page[end] = 0xf4
	s := g.cpu.State()
	s.CR0, s.CR4, s.CR3, s.MSR.EFER = 0x80010031, 0x20, g.roots[view].pa, 0xd01
	s.GDTR, s.IDTR = vcpu.Table{Base: guestTables, Limit: 0x1f}, vcpu.Table{Base: guestTables + 0x1000, Limit: 0xfff}
	flat := vcpu.AttrP | vcpu.AttrS | vcpu.AttrWritable | vcpu.AttrAccessed | vcpu.AttrG
	s.Seg[isa.CS] = vcpu.Segment{Selector: 0x10, Attr: flat | vcpu.AttrCode | vcpu.AttrL, Limit: ^uint32(0)}
	s.Seg[isa.SS] = vcpu.Segment{Selector: 0x18, Attr: flat | vcpu.AttrDB, Limit: ^uint32(0)}
	s.Seg[isa.GS].Base = gs
	s.GPR, s.RIP, s.RFLAGS, s.Halted = gpr, guestCode+g.start, flags|2, false
	if err := g.cpu.SetState(s); err != nil {
		t.Fatalf("%v", err)
	}
	exit := g.cpu.Run(g.cpu.Instructions() + 10_000)
	s = g.cpu.State()
	if exit.Reason != vcpu.ExitHalt || s.RIP != guestCode+uint64(end)+1 {
		t.Fatalf("% x ended at %#x: %+v", code, s.RIP, exit)
	}
	return s
}

// TestDisplacedRuns: an instruction that is displaced by int3 does in the non-redirected view what it does by itself in the redirected
// one, and nothing else.
func TestDisplacedRuns(t *testing.T) {
	g := newGuestRig(t)
	codes := []string{
		"488b4310", "48895310", "0fb64301", "480fbf5302", "48015308", "48135308", "66833b05", "f0480fb10b", "480fba2305", "f0480fba2b07", "ff4304", "0f9203",
		"480f4403", "f0480fc103", "48d323", "480faf4308", "48f723", "48f71b", "f60301", "4c8b7ccb20", "4c8b1b", "488703", "4c8b9b80000000", "4883bb0001000007",
		"c7830001000078563412", "48018b80000000", "488b05f9ffff00", "f348a5", "f3aa",
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(codes).Draw(t, "code")
		code := unhex(t, text)
		in, err := isa.Decode(code, isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var gpr [16]uint64
		for i := range gpr {
			gpr[i] = rapid.Uint64().Draw(t, "register")
		}
		gpr[isa.RBX], gpr[isa.RCX], gpr[isa.RSP] = guestData+0x100, rapid.Uint64Range(0, 9).Draw(t, "rcx"), guestStack+0x3f00
		gpr[isa.RSI], gpr[isa.RDI] = guestData+0x180, guestDirect+0x40
		if rapid.Bool().Draw(t, "to the variable") {
			gpr[isa.RSI], gpr[isa.RDI] = guestDirect+0x40, guestData+0x180
		}
		flags := rapid.SampledFrom([]uint64{0, 1, 0x40, 0x8d5}).Draw(t, "flags")
		local, snapshot := g.ram[guestLocal:guestLocal+4096], g.ram[guestSnapshot:guestSnapshot+4096]
		fill := func() {
			for i := range 1024 {
				local[i], snapshot[i], g.ram[0x300000+i] = 0x11, byte(i*7), byte(i*3)
			}
		}
		fill()
		want := g.run(t, redirected, code, len(code), gpr, flags, 0)
		wantMemory := append(append([]byte(nil), snapshot...), g.ram[0x300000:0x301000]...)

		fill()
		d := displaced{in: &in, code: code, at: guestCode}
		stub, err := d.assemble(guestStub, g.routes)
		patched := append([]byte{int3}, code[1:]...)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		copy(g.ram[guestWindow+guestStub-windowBase:], stub)
		g.site(guestCode, monitor.ActionDisplace, uint32(guestStub&0xffffffff))
		got := g.run(t, nonRedirected, patched, len(code), gpr, flags, 0)
		if got.GPR != want.GPR || got.RFLAGS&0xcff != want.RFLAGS&0xcff {
			t.Errorf("%s: %x %#x, want %x %#x", text, got.GPR, got.RFLAGS, want.GPR, want.RFLAGS)
		}
		if memory := append(append([]byte(nil), snapshot...), g.ram[0x300000:0x301000]...); string(memory) != string(wantMemory) {
			t.Errorf("%s: other memory was written", text)
		}
		for i := range 1024 {
			if local[i] != 0x11 {
				t.Fatalf("%s: the trusted VM's memory has changed at %#x", text, i)
			}
		}
	})
}

// TestContexts: the return addresses on the stack say whose the operand of a displaced instruction is, the deepest list first; where they say nothing
// or the two machines differ, the host is asked, and an address that tells needs no context. Nor does one on the current stack, unless the snapshot's
// memory was seen at such addresses.
func TestContexts(t *testing.T) {
	const (
		depth = 0x40 // of the return address, from where the stack begins
		inner = guestCode + 0x123
		port  = 0x77 // what the host would answer
	)
	top := uint64(guestStack + 0x4000)
	code := unhex(t, "488b03") // mov rax, [rbx]
	for name, c := range map[string]struct {
		list     []byte
		rbx      uint64
		same     bool
		snapshot bool
		asks     bool
	}{
		"snapshot":            {contextList(monitor.ContextSnapshot, depth, inner), guestData, false, true, false},
		"local":               {contextList(monitor.ContextLocal, depth, inner), guestData, false, false, false},
		"another place":       {contextList(monitor.ContextSnapshot, depth+8, inner), guestData, false, false, true},
		"another address":     {contextList(monitor.ContextSnapshot, depth, inner+1), guestData, false, false, true},
		"below the stack":     {contextList(monitor.ContextSnapshot, 0x2000, inner), guestData, false, false, true},
		"either, the same":    {contextList(monitor.ContextEither, depth, inner), guestData, true, false, false},
		"either, another":     {contextList(monitor.ContextEither, depth, inner), guestData, false, false, true},
		"a root":              {contextList(monitor.ContextLocal, depth, inner), guestData + 0x800, false, true, false},
		"the address tells":   {contextList(0, depth, inner), guestDirect, false, false, false},
		"no context":          {binary.LittleEndian.AppendUint64(nil, monitor.ContextsEnd), guestData, false, false, true},
		"a context of nobody": {contextList(monitor.ContextSnapshot, 0, 0), guestData, false, true, false},

		"stack":                        {contextList(monitor.ContextSnapshot, depth, inner), guestStack + 0x800, false, false, false},
		"such an instruction":          {contextList(monitor.ContextStack, depth, inner), guestStack + 0x800, false, true, false},
		"such an instruction, locally": {contextList(monitor.ContextSnapshot, depth, inner), guestStack + 0x800, false, false, false},
		"such an instruction, new":     {contextList(monitor.ContextStack, depth+8, inner), guestStack + 0x800, false, false, true},
		"such an instruction, beside":  {contextList(monitor.ContextStack, depth, inner), guestData, false, true, false},
		"such an instruction, told":    {contextList(monitor.ContextStack, depth, inner), guestDirect, false, false, false},
	} {
		g := newGuestRig(t)
		in, err := isa.Decode(code, isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatal(err)
		}
		copy(g.ram[guestWindow+guestLists-windowBase:], c.list)
		g.word(guestLists+0x800, guestData+0x800)
		g.word(guestLists+0x808, guestData+0x900)
		g.word(guestScope+monitor.ScopeRoots, guestLists+0x800)
		g.word(guestScope+monitor.ScopeRootsEnd, guestLists+0x810)
		for _, off := range []int{0, 0x800} {
			binary.LittleEndian.PutUint64(g.ram[guestLocal+off:], 1)
			binary.LittleEndian.PutUint64(g.ram[guestSnapshot+off:], 2)
		}
		binary.LittleEndian.PutUint64(g.ram[0x500800:], 1)
		binary.LittleEndian.PutUint64(g.ram[guestStacks+0x800:], 2)
		if c.same {
			binary.LittleEndian.PutUint64(g.ram[guestSnapshot:], 1)
		}
		binary.LittleEndian.PutUint64(g.ram[0x300000:], 1)
		for _, d := range []int{depth, 0x2000} { // the second is left over from an earlier call
			binary.LittleEndian.PutUint64(g.ram[0x500000+0x4000-d:], inner)
		}
		g.routes.ask = guestStub + 0x800 // mov eax, port; iretq behind the instruction
		copy(g.ram[guestWindow+g.routes.ask-windowBase:], unhex(t, "b877000000 48830424 02 48cf"))
		d := displaced{in: &in, code: code, at: guestCode, contexts: guestLists, onStack: strings.Contains(name, "such")}
		stub, err := d.assemble(guestStub, g.routes)
		if err != nil {
			t.Fatal(err)
		}
		copy(g.ram[guestWindow+guestStub-windowBase:], stub)
		g.site(guestCode, monitor.ActionDisplace, uint32(guestStub&0xffffffff))
		var gpr [16]uint64
		gpr[isa.RBX], gpr[isa.RSP] = c.rbx, top-0x100
		want := uint64(1)
		switch {
		case c.asks:
			want = port
		case c.snapshot:
			want = 2
		}
		if got := g.run(t, nonRedirected, append([]byte{int3}, code[1:]...), len(code), gpr, 0, 0).GPR[isa.RAX]; got != want {
			t.Errorf("%s: %#x, want %#x", name, got, want)
		}
	}
}

func contextList(says uint16, depth uint32, returns uint64) []byte {
	n := uint16(1)
	if depth == 0 {
		n = 0
	}
	b := binary.LittleEndian.AppendUint16(nil, n)
	b = append(binary.LittleEndian.AppendUint16(b, says), 0, 0, 0, 0)
	if n > 0 {
		b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, depth), uint32(returns))
	}
	return binary.LittleEndian.AppendUint64(b, monitor.ContextsEnd)
}

// TestElisionRuns: a function returns at once if its argument is the snapshot's, and runs if it is anything else.
func TestElisionRuns(t *testing.T) {
	for name, c := range map[string]struct {
		argument int
		value    uint64
		elided   bool
	}{
		"the snapshot's memory":    {0, guestDirect + 2<<20, true},
		"its last byte":            {0, guestDirect + 1<<38 - 1, true},
		"the first MiB":            {0, guestDirect + 4096, false},
		"the trusted VM's memory":  {0, guestDirect + 1<<38, false},
		"the second argument":      {1, guestDirect + 2<<20, true},
		"a page of the snapshot":   {0, 0xffffea0000000040, true},
		"a page of the trusted VM": {0, 0xffffea0000000000 + 1<<30, false},
		"a variable":               {0, guestData, false},
		"an address of user space": {0, 0x7fff12345678, false},
		"nothing":                  {1, 0, false},
	} {
		g := newGuestRig(t)
		a := &assembler{at: guestStub}
		a.elideIfSnapshot(c.argument, 7, g.routes)
		a.jump(guestCode + 0x15)
		copy(g.ram[guestWindow+guestStub-windowBase:], a.code)
		// call function; hlt; function: jmp test; mov eax, 5; ret
		code := append(unhex(t, "e80b000000"), make([]byte, 11)...)
		j := &assembler{at: guestCode + 0x10}
		j.jump(guestStub)
		code = append(append(code, j.code...), unhex(t, "b805000000c3")...)
		var gpr [16]uint64
		gpr[isa.RSP] = guestStack + 0x3f00
		gpr[[]uint8{isa.RDI, isa.RSI}[c.argument]] = c.value
		want := uint64(5)
		if c.elided {
			want = 7
		}
		if s := g.run(t, nonRedirected, code, 5, gpr, 0, 0); s.GPR[isa.RAX] != want || s.GPR[isa.RSP] != gpr[isa.RSP] {
			t.Errorf("%s: %d, want %d", name, s.GPR[isa.RAX], want)
		}
	}
}
