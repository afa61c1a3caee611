package machine

import (
	"fmt"
	"strings"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Symbols reads the symbols of a kernel image, at the addresses for which it was linked. A kernel without symbols has
// a nil table, which names nothing.
func Symbols(kernel []byte) *symbols.Table {
	image, err := boot.Parse(kernel)
	if err != nil {
		return nil
	}
	vmlinux, err := image.Unpack()
	if err != nil {
		return nil
	}
	t, err := symbols.FromKernel(vmlinux)
	if err != nil {
		return nil
	}
	return t
}

// entryPoints are symbols whose running address a register tells, so that the shift of a randomised kernel is known.
var entryPoints = []string{"entry_SYSCALL_64", "entry_SYSENTER_32"}

// TextShift returns how far from its linked address the running kernel lies: what KASLR added. It is 0 until the kernel
// has set up its system-call entry.
func (m *Machine) TextShift(t *symbols.Table) uint64 { return textShift(t, m.vcpu.State()) }

func textShift(t *symbols.Table, s vcpu.State) uint64 {
	if t == nil {
		return 0
	}
	for i, entry := range []uint64{s.MSR.LSTAR, s.MSR.SysenterEIP} {
		if a, ok := t.Address(entryPoints[i]); ok && entry != 0 {
			return entry - a
		}
	}
	return 0
}

// Describe returns the state of the processor for a person: registers, the symbolised instruction pointer, and the last
// branches. t may be nil.
func (m *Machine) Describe(t *symbols.Table) string {
	var b strings.Builder
	s := m.vcpu.State()
	shift := m.TextShift(t)
	names := [16]string{
		"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15",
	}
	for i, n := range names {
		sep := " "
		if i%4 == 3 {
			sep = "\n"
		}
		fmt.Fprintf(&b, "%s %016x%s", n, s.GPR[i], sep)
	}
	fmt.Fprintf(&b, "RIP %016x %s\n", s.RIP, t.Format(s.RIP-shift))
	fmt.Fprintf(&b, "RFLAGS %08x CR0 %08x CR2 %016x CR3 %016x CR4 %08x EFER %x\n", s.RFLAGS, s.CR0, s.CR2, s.CR3, s.CR4, s.MSR.EFER)
	for i, n := range [6]string{"ES", "CS", "SS", "DS", "FS", "GS"} {
		g := s.Seg[i]
		fmt.Fprintf(&b, "%s %04x base %016x limit %08x attr %04x\n", n, g.Selector, g.Base, g.Limit, g.Attr)
	}
	fmt.Fprintf(&b, "instructions %d, guest time %.6f s\n", s.Instructions, float64(m.Now())/1e9)
	if m.accel != nil {
		return b.String()
	}
	b.WriteString("last branches, newest first:\n")
	for _, ip := range m.cpu.LastBranches() {
		fmt.Fprintf(&b, "  %016x %s\n", ip, t.Format(ip-shift))
	}
	return b.String()
}

// Statistics returns what --stats prints: counters of the emulator and accesses by device.
func (m *Machine) Statistics() (cpu.Stats, map[string]uint64) {
	devices := make(map[string]uint64)
	for d, n := range m.bus.exits {
		name := fmt.Sprintf("%T", d)
		if named, ok := d.(interface{ Name() string }); ok {
			name = named.Name()
		}
		devices[name] += n
	}
	return m.cpu.Stats(), devices
}
