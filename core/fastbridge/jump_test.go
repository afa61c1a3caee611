package fastbridge

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/cpu/isa"
)

// newArea is an area for the code of the guest, whose pages are there when they are used.
func (g *guestRig) newArea() *area {
	const step = 1 << 21
	ar := &area{
		lo: guestCode - areaBelow, hi: guestCode - areaAbove + step, pages: map[uint64]*areaPage{}, next: map[uint64]uint64{},
		pool: &pool{base: 0x800000, mem: g.ram[0x800000:0x900000]},
	}
	for la := ar.lo; la < ar.hi; la += step {
		t := &table{page: make([]byte, 4096), level: 1}
		ar.tables = append(ar.tables, t)
	}
	return ar
}

// mapArea maps what an area uses.
func (g *guestRig) mapArea(t rapid.TB, ar *area) {
	for la, p := range ar.pages {
		for _, root := range g.roots {
			if err := g.tables.put(root, la, p.pa|codeFlags|writable, false); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// decodeAll takes code apart.
func decodeAll(t rapid.TB, at uint64, code []byte) (parts []part) {
	for off := 0; off < len(code); {
		in, err := isa.Decode(code[off:], isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatalf("at %d of % x: %v", off, code, err)
		}
		parts = append(parts, part{in: in, code: code[off:][:in.Len], at: at + uint64(off)})
		off += int(in.Len)
	}
	return parts
}

// TestJumpRuns: a jump in the place of some instructions does in the non-redirected view what they do by themselves in the redirected one, whichever of
// them is the first that is executed.
func TestJumpRuns(t *testing.T) {
	displaced := []string{
		"8b03", "488b4310", "48895310", "0fb64301", "48015308", "48135308", "803b00", "f0480fb10b", "ff03", "0f9203", "480f4403", "4c8b1b", "4883bb0001000007",
		"48018b80000000", "488b05f9ffff00", "f348a5", "f3aa", "440fb603", "4d8b0424", "f6430201",
	}
	copied := []string{
		"4889c2", "83c001", "19d2", "0f95c0", "7404", "7502", "f8", "90", "55", "5d", "eb02", "488d1500100000", "488d4c2408", "4d85c0", "480fbae203", "d1e8",
	}
	g := newGuestRig(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(displaced).Draw(t, "first")
		for n := len(unhex(t, text)); n < jumpSize || rapid.IntRange(0, 3).Draw(t, "more") == 0; n = len(unhex(t, text)) {
			text += rapid.SampledFrom(append(displaced, copied...)).Draw(t, "next")
		}
		code := unhex(t, text)
		// Branches lead here at most, and the flags count here.
		tail := unhex(t, "90909090 0f90c1 0f92c5")
		whole := append(bytes.Clone(code), tail...)
		all := decodeAll(t, guestCode, whole)
		var parts []part
		for _, p := range all {
			if p.at < guestCode+jumpSize && p.at < guestCode+uint64(len(code)) {
				parts = append(parts, p)
			}
		}
		next := func(at uint64) (isa.Inst, bool) {
			for _, p := range all {
				if p.at == at {
					return p.in, true
				}
			}
			return isa.Inst{}, false
		}
		var traps [jumpSize - 1]bool
		for i := range parts {
			p := &parts[i]
			if to := p.next() + p.in.Imm; p.in.Op == isa.JCC || p.in.Op == isa.JMP {
				if _, ok := next(to); !ok {
					t.Skip("a branch into an instruction")
				}
			}
			for _, d := range displaced {
				p.displaced = p.displaced || bytes.Equal(p.code, unhex(t, d))
			}
			p.flags = p.in.FlagsRead() != 0 || !setsFlags[p.in.Op] && flagsCount(p.next(), next)
			if after := p.next() - guestCode; after < jumpSize {
				traps[after-1] = true
			}
			if off, ok := static(&p.in, p.at); ok && p.displaced && rapid.Bool().Draw(t, "known") {
				p.fixed = off - (511-256)<<39
			}
		}
		// A part of its own for the rest, which runs in its place in both views.
		rest := len(code) > int(parts[len(parts)-1].next()-guestCode)
		if rest {
			t.Skip("an instruction behind the jump")
		}

		clear(g.ram[guestWindow+guestTable-windowBase:][:0x1000])
		ar := g.newArea()
		j := &jumper{direct: guestDirect, to: g.routes}
		if err := j.assemble(ar.lo, parts); err != nil {
			t.Fatalf("% x: %v", code, err)
		}
		to, ok := ar.find(guestCode+jumpSize, traps, len(j.code))
		if !ok || len(j.starts) != len(parts) {
			t.Fatalf("% x: no place, or %d of %d parts", code, len(j.starts), len(parts))
		}
		j.move(to)
		if err := ar.put(to, j.code, func(uint64, int) {}); err != nil {
			t.Fatal(err)
		}
		g.mapArea(t, ar)
		patched := bytes.Clone(whole)
		patched[0] = 0xe9
		binary.LittleEndian.PutUint32(patched[1:], uint32(to-guestCode-jumpSize))
		for i, trap := range traps {
			if trap && patched[i+1] != int3 {
				t.Fatalf("% x became % x, without int3 at %d", code, patched, i+1)
			}
		}
		for i, p := range parts {
			if i > 0 && p.at < guestCode+jumpSize {
				g.site(p.at, monitor.ActionContinue, uint32(to)+uint32(j.starts[i]))
			}
		}
		defer func() { g.start = 0 }()
		g.start = parts[rapid.IntRange(0, len(parts)-1).Draw(t, "start")].at - guestCode
		if g.start >= jumpSize {
			g.start = 0
		}

		var gpr [16]uint64
		for i := range gpr {
			gpr[i] = rapid.Uint64().Draw(t, "register")
		}
		gpr[isa.RBX], gpr[isa.RCX], gpr[isa.RSP] = guestData+0x100, rapid.Uint64Range(0, 3).Draw(t, "rcx"), guestStack+0x3f00
		gpr[isa.RSI], gpr[isa.RDI], gpr[isa.R12] = guestData+0x180, guestDirect+0x40, guestStack+0x3000
		if rapid.Bool().Draw(t, "to the variable") {
			gpr[isa.RSI], gpr[isa.RDI], gpr[isa.R12] = guestDirect+0x40, guestData+0x180, guestDirect+0x80
		}
		flags := rapid.SampledFrom([]uint64{0, 1, 0x40, 0x8d5}).Draw(t, "flags")
		local, snapshot := g.ram[guestLocal:guestLocal+4096], g.ram[guestSnapshot:guestSnapshot+4096]
		memory := func() []byte {
			return bytes.Join([][]byte{snapshot, g.ram[0x300000:0x301000], g.ram[0x503f40:0x504000]}, nil) // what is below the stack pointer is nobody's
		}
		fill := func() {
			for i := range 1024 {
				local[i], snapshot[i], g.ram[0x300000+i] = 0x11, byte(i*7), byte(i*3)
			}
			clear(g.ram[0x503000:0x504000])
		}
		fill()
		want := g.run(t, redirected, whole, len(whole), gpr, flags, 0)
		wantMemory := memory()
		fill()
		got := g.run(t, nonRedirected, patched, len(whole), gpr, flags, 0)
		if got.GPR != want.GPR || got.RFLAGS&0xcff != want.RFLAGS&0xcff {
			t.Errorf("% x from %d: %x %#x, want %x %#x; % x", code, g.start, got.GPR, got.RFLAGS, want.GPR, want.RFLAGS, j.code)
		}
		if !bytes.Equal(memory(), wantMemory) {
			t.Errorf("% x from %d: other memory was written", code, g.start)
		}
		for i := range 1024 {
			if local[i] != 0x11 {
				t.Fatalf("% x: the trusted VM's memory has changed at %#x", code, i)
			}
		}
	})
}

// TestCopyCall: a call that a jump has taken the place of leaves the return address that it would have left.
func TestCopyCall(t *testing.T) {
	for _, call := range []string{"e807000000", "ffd0", "ff5510", "ff542420"} {
		g := newGuestRig(t)
		// mov rax, [rbx] first; then the call, of what is 7 bytes behind it: pop rdx; hlt.
		code := append(unhex(t, "488b0b"), unhex(t, call)...)
		parts := decodeAll(t, guestCode, code)
		parts[0].displaced = true
		ar := g.newArea()
		j := &jumper{direct: guestDirect, to: g.routes}
		if err := j.assemble(ar.lo, parts); err != nil {
			t.Fatal(err)
		}
		if call == "ff542420" { // relative to RSP, which is another one there
			if len(j.starts) != 1 {
				t.Errorf("%s is in the code of a jump", call)
			}
			continue
		}
		to, _ := ar.find(guestCode+jumpSize, [jumpSize - 1]bool{2: true}, len(j.code))
		j.move(to)
		if err := ar.put(to, j.code, func(uint64, int) {}); err != nil {
			t.Fatal(err)
		}
		g.mapArea(t, ar)
		after := uint64(len(code))
		whole := append(bytes.Clone(code), make([]byte, 8)...)
		whole = append(whole[:after+7], 0x5a)
		whole[0] = 0xe9
		binary.LittleEndian.PutUint32(whole[1:], uint32(to-guestCode-jumpSize))
		var gpr [16]uint64
		gpr[isa.RAX], gpr[isa.RBX], gpr[isa.RBP], gpr[isa.RSP] = guestCode+after+7, guestDirect, guestDirect, guestStack+0x3f00
		binary.LittleEndian.PutUint64(g.ram[0x300010:], guestCode+after+7)
		s := g.run(t, nonRedirected, whole, int(after+8), gpr, 0, 0)
		if s.GPR[isa.RDX] != guestCode+after || s.GPR[isa.RSP] != gpr[isa.RSP] {
			t.Errorf("%s: the return address is %#x, want %#x", call, s.GPR[isa.RDX], uint64(guestCode+after))
		}
	}
}

// TestLeaves: in a local function, and where an interrupt has led one in the kernel's own address space, a jump's code goes on there with the instruction
// that it stands for.
func TestLeaves(t *testing.T) {
	for name, view := range map[string]int{"in a local function": nonRedirected, "in another address space": redirected} {
		g := newGuestRig(t)
		if view == nonRedirected {
			binary.LittleEndian.PutUint64(g.ram[0x500000+monitor.StackDepth:], 1)
			binary.LittleEndian.PutUint64(g.ram[0x500000+monitor.StackClean:], g.roots[redirected].pa)
		} else {
			binary.LittleEndian.PutUint64(g.monitor[monitor.CurrentStack:], guestTables) // another process's
		}
		code := unhex(t, "488b4310 8b03") // mov rax, [rbx+0x10]; mov eax, [rbx]
		parts := decodeAll(t, guestCode, code)
		for i := range parts {
			parts[i].displaced, parts[i].flags = true, true
		}
		ar := g.newArea()
		j := &jumper{direct: guestDirect, to: g.routes}
		if err := j.assemble(ar.lo, parts); err != nil {
			t.Fatal(err)
		}
		j.move(guestStub)
		copy(g.ram[guestWindow+guestStub-windowBase:], j.code)
		// The jump is at the end of the page, so that what it stands for can be native, as in the kernel's own address space.
		whole := append(bytes.Clone(code), make([]byte, 0x100)...)
		a := &assembler{at: guestCode + 0x80}
		a.jump(guestStub)
		copy(whole[0x80:], a.code)
		g.start = 0x80
		var gpr [16]uint64
		gpr[isa.RBX], gpr[isa.RSP] = guestData, guestStack+0x3f00
		g.ram[guestSnapshot] = 0x55 // of what is the kernel's own address space here
		if s := g.run(t, view, whole, len(code), gpr, 0x41, 0); s.GPR[isa.RAX] != 0x55 || s.RFLAGS&0x41 != 0x41 || s.GPR[isa.RSP] != gpr[isa.RSP] {
			t.Errorf("%s: rax is %#x, flags %#x", name, s.GPR[isa.RAX], s.RFLAGS)
		}
	}
}

// TestHookRuns: what a hook does at the entry of a function by a jump is what the monitor does at int3.
func TestHookRuns(t *testing.T) {
	const lock, value = 0x18, 7
	elide, free := hook{action: monitor.ActionElide, skip: 5, value: value}, hook{action: monitor.ActionLock, skip: 5, size: 4, value: lock}
	others := func(h hook) hook { h.skip |= monitor.SkipOthers; return h }
	second := func(h hook) hook { h.skip |= monitor.SkipSecond; return h }
	never := elide
	never.skip |= monitor.SkipNever
	for name, c := range map[string]struct {
		hook   hook
		rdi    uint64
		rsi    uint64
		elided bool
		freed  bool
		asks   bool
	}{
		"elided, the snapshot's":     {hook: elide, rdi: guestDirect + 2<<20, elided: true},
		"elided, a page":             {hook: elide, rdi: 0xffffea0000000040, elided: true},
		"elided, the trusted VM's":   {hook: elide, rdi: guestDirect + 1<<38},
		"elided, its page":           {hook: elide, rdi: 0xffffea0000000000 + 1<<30},
		"elided, the program's":      {hook: elide, rdi: 0x7fff00001000},
		"elided, a variable":         {hook: others(elide), rdi: guestData},
		"elided, a variable, asks":   {hook: elide, rdi: guestData, asks: true},
		"elided, the first MiB":      {hook: elide, rdi: guestDirect + 64, asks: true},
		"elided, the second":         {hook: second(elide), rdi: guestData, rsi: guestDirect + 2<<20, elided: true},
		"never runs":                 {hook: never, rdi: guestData, elided: true},
		"a lock, the trusted VM's":   {hook: free, rdi: guestDirect + 1<<38},
		"a lock, a variable":         {hook: others(free), rdi: guestData},
		"a lock of the snapshot":     {hook: free, rdi: guestDirect + 2<<20, freed: true},
		"a lock of it, with 8 bytes": {hook: hook{action: monitor.ActionLock, skip: 5, size: 8, value: lock}, rdi: guestDirect + 2<<20, freed: true},
	} {
		g := newGuestRig(t)
		for _, root := range g.roots {
			if err := g.tables.put(root, guestDirect+2<<20, 0x300000|present|writable|accessed|dirty, false); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 8 {
			g.ram[0x300000+lock+i] = 0xff
		}
		// call function; hlt; function: nop; mov eax, 5; ret
		code := append(unhex(t, "e80b000000"), make([]byte, 11)...)
		function := len(code)
		code = append(code, unhex(t, "0f1f440000 b805000000 c3")...)
		parts := decodeAll(t, guestCode+uint64(function), code[function:][:5])
		parts[0].hook = &c.hook
		j := &jumper{direct: guestDirect, to: g.routes}
		if err := j.assemble(guestStub, parts); err != nil {
			t.Fatal(err)
		}
		if c.asks {
			if len(j.asks) != 1 || j.asks[0].about != guestCode+uint64(function) {
				t.Fatalf("%s: asks %v", name, j.asks)
			}
			j.code = append(j.code[:j.asks[0].off], unhex(t, "b809000000c3")...) // in place of int3, which is the last: mov eax, 9; ret
		}
		copy(g.ram[guestWindow+guestStub-windowBase:], j.code)
		a := &assembler{at: guestCode + uint64(function)}
		a.jump(guestStub)
		copy(code[function:], a.code)
		var gpr [16]uint64
		gpr[isa.RSP], gpr[isa.RDI], gpr[isa.RSI], gpr[isa.R10] = guestStack+0x3f00, c.rdi, c.rsi, 0x10
		want := gpr
		want[isa.RAX] = 5
		switch {
		case c.elided:
			want[isa.RAX] = value
		case c.asks:
			want[isa.RAX] = 9
		}
		s := g.run(t, nonRedirected, code, 5, gpr, 0, 0)
		s.GPR[isa.R11] = 0
		if s.GPR != want {
			t.Errorf("%s: %x, want %x", name, s.GPR, want)
		}
		n := map[bool]int{false: 0, true: int(c.hook.size)}[c.freed]
		if got := g.ram[0x300000+lock:][:8]; !bytes.Equal(got, append(make([]byte, n), bytes.Repeat([]byte{0xff}, 8-n)...)) {
			t.Errorf("%s: the lock is % x", name, got)
		}
	}
}

// TestLocalRuns: a jump at the entry of a local function leads into its copy, out of which Resume returns to the caller.
func TestLocalRuns(t *testing.T) {
	g := newGuestRig(t)
	code := append(unhex(t, "e80b000000"), make([]byte, 11)...)
	function := len(code)
	code = append(code, unhex(t, "0f1f440000")...)
	const duplicate = guestCode + 0x40 // mov rax, [stack+depth]; ret
	parts := decodeAll(t, guestCode+uint64(function), code[function:])
	parts[0].hook = &hook{action: monitor.ActionLocal, copy: duplicate}
	j := &jumper{direct: guestDirect, to: g.routes}
	if err := j.assemble(guestStub, parts); err != nil {
		t.Fatal(err)
	}
	copy(g.ram[guestWindow+guestStub-windowBase:], j.code)
	a := &assembler{at: guestCode + uint64(function)}
	a.jump(guestStub)
	copy(code[function:], a.code)
	code = append(code, make([]byte, 0x40-len(code))...)
	code = append(code, unhex(t, "48a1")...)
	code = binary.LittleEndian.AppendUint64(code, guestStack+monitor.StackDepth)
	code = append(code, 0xc3)
	binary.LittleEndian.PutUint64(g.ram[0x500000+monitor.StackScope:], guestScope)
	var gpr [16]uint64
	gpr[isa.RSP], gpr[isa.R10] = guestStack+0x3f00, 0x10
	want := gpr
	want[isa.RAX] = 1
	s := g.run(t, nonRedirected, code, 5, gpr, 0, 0)
	s.GPR[isa.R11] = 0
	if s.GPR != want || g.ram[0x500000+monitor.StackDepth] != 0 || binary.LittleEndian.Uint64(g.monitor[monitor.Subtrees:]) != 1 {
		t.Errorf("%x, want %x; depth %d", s.GPR, want, g.ram[0x500000+monitor.StackDepth])
	}
}

// TestArea: what is found lies at a distance with int3 where it is to be, and nothing is given away twice.
func TestArea(t *testing.T) {
	g := newGuestRig(t)
	rapid.Check(t, func(t *rapid.T) {
		ar := g.newArea()
		ar.tables[len(ar.tables)-1] = nil // something else is there
		type taken struct{ from, to uint64 }
		var all []taken
		for range rapid.IntRange(1, 60).Draw(t, "jumps") {
			next := guestCode + jumpSize + rapid.Uint64Range(0, 0x3000).Draw(t, "at")
			var traps [jumpSize - 1]bool
			for i := 1; i < len(traps); i++ {
				traps[i] = rapid.Bool().Draw(t, "trap")
			}
			n := rapid.IntRange(1, 200).Draw(t, "size")
			at, ok := ar.find(next, traps, n)
			if !ok {
				continue
			}
			distance := binary.LittleEndian.AppendUint32(nil, uint32(at-next))
			for i, trap := range traps {
				if trap && distance[i] != int3 {
					t.Fatalf("the distance is % x, without int3 at %d", distance, i)
				}
			}
			if next+uint64(int64(int32(at-next))) != at || at < ar.lo || at+uint64(n) > ar.hi || ar.tables[(at-ar.lo)>>21] == nil {
				t.Fatalf("%#x is out of reach", at)
			}
			for _, o := range all {
				if at < o.to && o.from < at+uint64(n) {
					t.Fatalf("%#x was given away", at)
				}
			}
			all = append(all, taken{at, at + uint64(n)})
			if err := ar.put(at, make([]byte, n), func(uint64, int) {}); err != nil {
				t.Fatal(err)
			}
		}
		if len(all) == 0 {
			t.Fatal("nothing was found")
		}
	})
}

// TestMakeArea: the area's tables are those of all address spaces, below the kernel's image or within what it leaves of its GiB, but where
// something is.
func TestMakeArea(t *testing.T) {
	for name, text := range map[string]uint64{"below the image": 0xffffffff81000000, "half": 0xffffffffb3800000, "within the image": 0xffffffffbc000000} {
		ram := make([]byte, 4<<20)
		mem := physical(func(pa uint64) *[4096]byte { return (*[4096]byte)(ram[pa&^0xfff:]) })
		ts := tables{&pool{base: 1 << 20, mem: ram[1<<20:]}, mem, 4}
		root, err := ts.table(4, nil)
		if err != nil {
			t.Fatal(err)
		}
		taken := text - areaBelow&^(1<<21-1) + 4<<21
		for _, la := range []uint64{text, taken} {
			if err := ts.put(root, la, codeFlags, false); err != nil {
				t.Fatal(err)
			}
		}
		b := &Bridge{tables: ts, mem: mem, levels: 4, clean: root.pa, last: &table{}}
		b.text.Lo, b.text.Hi = text, text+14<<20
		if err := b.makeArea(); err != nil {
			t.Fatal(err)
		}
		ar := &b.area
		if ar.lo > text+jumpSize-0x34000000-1<<24 || ar.hi < b.text.Hi+jumpSize-areaAbove+1<<21 {
			t.Errorf("%s: the area is from %#x to %#x", name, ar.lo, ar.hi)
		}
		for i, table := range ar.tables {
			la := ar.lo + uint64(i)<<21
			if occupied := la == taken&^(1<<21-1); occupied != (table == nil) {
				t.Errorf("%s: %#x, occupied %v: table %v", name, la, occupied, table)
			}
		}
		if err := ar.put(text-0x33ffff00, []byte{0x90}, func(uint64, int) {}); err != nil {
			t.Fatal(err)
		}
		if pa, leaf, ok := mem.walk(root.pa, 4, text-0x33ffff00); !ok || ram[pa] != 0x90 || leaf&noExecute != 0 {
			t.Errorf("%s: what was put is not in the kernel's address space", name)
		}
	}
}
