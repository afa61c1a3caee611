package machine

import (
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/snapshots/native"
)

// Inspector looks into a saved machine without building it: its drives need not exist, and memory is read as it is
// asked for.
type Inspector struct {
	file   *native.File
	memory *savedMemory
	model  cpu.Config
	cpu    *cpu.CPU
}

// Inspect opens a snapshot for looking. Close it when done.
func Inspect(path string) (*Inspector, error) {
	f, err := native.Open(path)
	if err != nil {
		return nil, err
	}
	i := &Inspector{file: f, memory: &savedMemory{f: f, pages: map[uint64]*[4096]byte{}}}
	if err := i.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return i, nil
}

func (i *Inspector) read() error {
	var machine saved
	var state vcpu.State
	if err := errors.Join(section(i.file, "machine", &machine), section(i.file, "cpu", &state)); err != nil {
		return err
	}
	i.model = machine.CPU.config()
	var err error
	i.cpu, err = lookingCPU(i.model, i.memory, state)
	return err
}

// lookingCPU makes a processor of a model whose memory can be looked at, but which never runs.
func lookingCPU(model cpu.Config, mem cpu.Memory, s vcpu.State) (*cpu.CPU, error) {
	model.Memory, model.Platform = mem, nobody{}
	c := cpu.New(model)
	if err := c.SetState(s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return c, nil
}

// Close closes the snapshot.
func (i *Inspector) Close() error { return i.file.Close() }

// State returns the state of the processor.
func (i *Inspector) State() vcpu.State { return i.cpu.State() }

// ReadLinear reads memory at a linear address of the address space that was in use, and returns how many bytes it could
// read. The error tells of a damaged snapshot.
func (i *Inspector) ReadLinear(la uint64, p []byte) (int, error) {
	n := i.cpu.ReadLinear(la, p)
	return n, i.memory.err
}

// Symbols returns the symbols of the kernel at the addresses where it runs. They are read from its memory; if kernel is not
// nil, from that image. The table is nil if there are none.
func (i *Inspector) Symbols(kernel []byte) *symbols.Table {
	if kernel == nil {
		return memorySymbols(i.model, i.memory, i.cpu.State())
	}
	t := Symbols(kernel)
	if t == nil {
		return nil
	}
	return t.Shift(textShift(t, i.cpu.State()))
}

// savedMemory is the memory of a snapshot. It implements cpu.Memory.
type savedMemory struct {
	f     *native.File
	pages map[uint64]*[4096]byte
	err   error // the first
}

// Page implements cpu.Memory.
func (m *savedMemory) Page(pa uint64) (*[4096]byte, bool) {
	if p, ok := m.pages[pa]; ok {
		return p, false
	}
	p := new([4096]byte)
	if err := m.f.ReadPhysical(p[:], pa); err != nil {
		if p = nil; m.err == nil && !errors.Is(err, native.ErrNoMemory) {
			m.err = err
		}
	}
	m.pages[pa] = p
	return p, false
}

// KernelSymbols reads the symbols of the kernel that runs from its memory, at the addresses where it runs. It returns nil
// if there is no kernel that has them.
func (m *Machine) KernelSymbols() *symbols.Table {
	return memorySymbols(m.cfg.CPU, ram{Memory: m.mem}, m.vcpu.State())
}

// Where a kernel is looked for: around its system-call entry.
const (
	imageBefore = 32 << 20
	imageAfter  = 64 << 20
)

// memorySymbols finds the kernel in memory by the entry points that it gave the processor, and its symbols in it.
func memorySymbols(model cpu.Config, mem cpu.Memory, s vcpu.State) *symbols.Table {
	entry, word := s.MSR.LSTAR, 8
	if s.MSR.EFER&eferLMA == 0 {
		entry, word = s.MSR.SysenterEIP, 4
	}
	if entry == 0 {
		return nil
	}
	// Page-table isolation: while a process runs, the kernel's own tables lie a page below.
	for _, cr3 := range []uint64{s.CR3, s.CR3 &^ 0x1000} {
		view := s
		view.CR3 = cr3
		if cr3 != s.CR3 {
			view.PDPTE = pdptes(mem, cr3)
		}
		c, err := lookingCPU(model, mem, view)
		if err != nil {
			return nil
		}
		if b := mapped(c, entry&^0xfff-imageBefore, imageBefore+imageAfter); b != nil {
			if t, err := symbols.FromMemory(b, word); err == nil {
				return t
			}
		}
	}
	return nil
}

const eferLMA = 1 << 10

// pdptes reads the page-directory-pointer table of PAE paging.
func pdptes(mem cpu.Memory, cr3 uint64) (p [4]uint64) {
	page, _ := mem.Page(cr3 &^ 0xfff)
	if page == nil {
		return p
	}
	for i := range p {
		for j := range 8 {
			p[i] |= uint64(page[cr3&0xfe0+uint64(8*i+j)]) << (8 * j)
		}
	}
	return p
}

// mapped reads n bytes of linear addresses; what is not mapped reads as zeroes, and is cut off at both ends.
func mapped(c *cpu.CPU, la, n uint64) []byte {
	const page = 4096
	b := make([]byte, n)
	first, end := n, uint64(0)
	for off := uint64(0); off < n; off += page {
		if c.ReadLinear(la+off, b[off:off+page]) == page {
			first, end = min(first, off), off+page
		}
	}
	if end == 0 {
		return nil
	}
	return b[first:end]
}

// nobody is the platform of a processor that never runs. It implements vcpu.Platform.
type nobody struct{}

func (nobody) ReadMMIO(uint64, int) uint64   { return ^uint64(0) }
func (nobody) WriteMMIO(uint64, int, uint64) {}
func (nobody) ReadPort(uint16, int) uint32   { return ^uint32(0) }
func (nobody) WritePort(uint16, int, uint32) {}
func (nobody) AckInterrupt() uint8           { return 0 }
func (nobody) TaskPriority() uint8           { return 0 }
func (nobody) SetTaskPriority(uint8)         {}
func (nobody) APICBase() uint64              { return 0 }
func (nobody) SetAPICBase(uint64) bool       { return false }
func (nobody) TSCDeadline() uint64           { return 0 }
func (nobody) SetTSCDeadline(uint64)         {}
func (nobody) TSC() uint64                   { return 0 }
func (nobody) TSCChanged()                   {}
