package fastbridge

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/slowbridge"
	"github.com/hybridbridge/emu/cpu/isa"
)

// TestRules: the monitor finds the scope of a system call by a path as policy.Scope.ForPath does, and asks about the process's own folder.
func TestRules(t *testing.T) {
	const (
		number = 257
		own    = 4711
		user   = 0x7ffff000 // the last page that is mapped
		regs   = guestDirect + 0x100
		task   = guestDirect + 0x800
	)
	g := newGuestRig(t)
	for _, root := range g.roots {
		if err := g.tables.put(root, user, 0x700000|present|writable|accessed|dirty|4, false); err != nil {
			t.Fatal(err)
		}
	}
	const idt = guestTables + 0x1000
	gate := g.ram[0x601000+14*16:]
	setGate(gate, monitor.Base+monitor.PageFault)
	gate[2], gate[5] = 0x10, 0x8e
	for _, off := range []int{monitor.ViewIDT, monitor.CleanIDT} {
		binary.LittleEndian.PutUint16(g.monitor[off:], 0xfff)
		binary.LittleEndian.PutUint64(g.monitor[off+2:], idt)
	}
	put := func(off int, v uint64) { binary.LittleEndian.PutUint64(g.monitor[off:], v) }
	put(monitor.DoSyscall, guestCode+0x10)
	g.monitor[monitor.Calls+number/8] |= 1 << (number % 8)
	binary.LittleEndian.PutUint16(g.monitor[monitor.PathRows+2*number:], 1)
	put(monitor.Programs+8, guestLists)
	const fields = monitor.FileFields
	put(fields+8*1, 0x40)  // the current task, in per-CPU memory at guestDirect
	put(fields+8*11, 0x20) // its number
	// call Enter; hlt; do_syscall_64: ret
	a := &assembler{at: guestCode}
	a.call(monitor.Base + monitor.Enter)
	code := append(append(a.code, make([]byte, 11)...), 0xc3)

	word := rapid.SampledFrom([]string{"/", "/proc/", "/proc/4711", "/proc/4711/", "/proc/47112/", "/proc/1/", "/proc/self/", "/proc/4711x/", "/sys", "/usr/lib", "/dev/", "a", "b", "ab"})
	rapid.Check(t, func(t *rapid.T) {
		var rules []slowbridge.PathRule
		for i := range rapid.IntRange(0, 4).Draw(t, "rules") {
			r := slowbridge.PathRule{Scope: fmt.Sprint(i), Argument: uint64(8 * rapid.IntRange(0, 1).Draw(t, "argument"))}
			for range rapid.IntRange(0, 4).Draw(t, "patterns") {
				pattern := word.Draw(t, "pattern") + rapid.SampledFrom([]string{"", "a", "*"}).Draw(t, "end")
				r.Paths = append(r.Paths, rapid.SampledFrom([]string{"", "", "!"}).Draw(t, "not")+pattern)
			}
			rules = append(rules, r)
		}
		list, slots, ok := compileRules(rules)
		if !ok {
			t.Fatal("a path is too long")
		}
		page := g.ram[0x700000:0x701000]
		var paths [2]string
		var where [2]uint64
		for i := range paths {
			paths[i] = word.Draw(t, "path") + rapid.SampledFrom([]string{"", "a", "ab", strings.Repeat("x", 300)}).Draw(t, "rest")
			where[i] = uint64(user + 0x800*i + 0x10)
			copy(page[where[i]-user:], paths[i]+"\x00")
			switch rapid.IntRange(0, 4).Draw(t, "place") {
			case 0: // it ends where nothing is mapped
				where[i] = user + 0x1000 - uint64(len(paths[i]))
				copy(page[where[i]-user:], paths[i])
			case 1:
				paths[i], where[i] = "", rapid.SampledFrom([]uint64{0xffffff9c, 0xffffffffffffff9c, 0, 0x10}).Draw(t, "nowhere")
			}
			binary.LittleEndian.PutUint64(g.ram[0x300100+8*i:], where[i])
		}
		for i, at := range where { // the second may lie over the first
			if at >= user && at < user+0x1000 {
				text, _, _ := strings.Cut(string(page[at-user:min(0x1000, at-user+255)]), "\x00")
				paths[i] = text
			}
		}
		want, asks := "", false
		for _, r := range rules {
			path := paths[r.Argument/8]
			if n, _, _ := strings.Cut(strings.TrimPrefix(path, "/proc/"), "/"); len(r.Paths) > 0 && strings.HasPrefix(path, "/proc/") && n == fmt.Sprint(own) {
				asks = true
				break
			}
			if (&policy.Scope{Paths: r.Paths}).ForPath(path) {
				want = r.Scope
				break
			}
		}
		for name, at := range slots {
			binary.LittleEndian.PutUint64(list[at:], 0)
			if name == want {
				binary.LittleEndian.PutUint64(list[at:], 1)
			}
		}
		copy(g.ram[guestWindow+guestLists-windowBase:], list)
		binary.LittleEndian.PutUint64(g.ram[0x300040:], task)
		binary.LittleEndian.PutUint32(g.ram[0x300820:], own)
		put(monitor.Chosen, 0)
		g.asked = nil
		var gpr [16]uint64
		gpr[isa.RSP], gpr[isa.RDI], gpr[isa.RSI], gpr[isa.RBX] = guestStack+0x3f00, regs, number, 5
		s := g.run(t, redirected, code, 5, gpr, 0, guestDirect)
		chosen := binary.LittleEndian.Uint64(g.monitor[monitor.Chosen:]) == 1
		if chosen == asks || (len(g.asked) == 1) != asks {
			t.Errorf("%q of %+v: scope %q, asks %v: chosen %v, asked %v", paths, rules, want, asks, chosen, g.asked)
		}
		if s.GPR[isa.RDI] != regs || s.GPR[isa.RSI] != number || s.GPR[isa.RBX] != 5 || s.GPR[isa.RSP] != gpr[isa.RSP] {
			t.Errorf("registers became %x", s.GPR)
		}
	})
}
