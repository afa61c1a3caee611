package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/hybridbridge/emu/snapshots/native"
	"github.com/hybridbridge/emu/taint"
)

// saved is the machine's own section of a snapshot.
type saved struct {
	Skipped uint64
	Layout  []memory.Range
	Drives  []Drive
	// CPU is the processor's model.
	CPU cpuModel
	// DebugExit and DebugConsole are part of what the guest sees.
	DebugExit, DebugConsole, RNG, VirtioConsole bool
	// Serial is the number of serial ports beside COM1.
	Serial int `json:",omitempty"`
	// Regions are still to be placed, of a kernel that has just started.
	Regions *regions
}

// cpuModel is what the guest sees of the processor's model.
type cpuModel struct {
	Features isa.FeatureSet
	Model    cpu.Model
	PhysBits uint8
	APICID   uint8
	Seed     uint64
}

// config returns the processor's configuration, but for what it is connected to.
func (c cpuModel) config() cpu.Config {
	return cpu.Config{Features: c.Features, Model: c.Model, PhysBits: c.PhysBits, APICID: c.APICID, Seed: c.Seed}
}

// ErrSnapshot is wrapped by errors about a snapshot that does not fit the machine.
var ErrSnapshot = errors.New("the snapshot does not fit")

// Save writes the state of the machine, from which Load goes on at the next instruction. The file appears complete or
// not at all. What the guest wrote to its drives is flushed first.
func (m *Machine) Save(path string) error { return m.save(path, native.Write) }

// SavePlain is Save for a snapshot that is loaded often: memory is not compressed, so that Load maps it and the guest's first
// access reads it.
func (m *Machine) SavePlain(path string) error { return m.save(path, native.WritePlain) }

func (m *Machine) save(path string, write func(string, native.Header, func([]byte, uint64) error) error) error {
	if err := m.board.flush(); err != nil {
		return err
	}
	h := native.Header{Arch: "x86"}
	add := func(name string, v any) error {
		j, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("state of %s: %w", name, err)
		}
		h.Sections = append(h.Sections, native.Section{Name: name, Data: j})
		return nil
	}
	err := add("machine", saved{
		Skipped: m.skipped, Layout: m.mem.Ranges(), Drives: m.cfg.Drives,
		CPU: cpuModel{
			Features: m.cfg.CPU.Features, Model: m.cfg.CPU.Model, PhysBits: m.cfg.CPU.PhysBits,
			APICID: m.cfg.CPU.APICID, Seed: m.cfg.Seed,
		},
		DebugExit: m.cfg.DebugExit, DebugConsole: m.cfg.DebugConsole != nil,
		RNG: m.cfg.RNG, VirtioConsole: m.cfg.VirtioConsole != nil, Serial: len(m.cfg.Serial),
		Regions: m.regions,
	})
	err = errors.Join(err, add("cpu", m.vcpu.State()))
	if shadow := m.cpu.Shadow(); shadow != nil {
		t := savedTaint{Memory: shadow.State(), Registers: *m.cpu.RegisterTaint()}
		for _, d := range m.board.tainted {
			t.Disks = append(t.Disks, d.sectors.State())
		}
		err = errors.Join(err, add("taint", t))
	}
	for _, d := range m.board.stateful {
		err = errors.Join(err, add("device "+d.Name(), d.SaveState()))
	}
	if err != nil {
		return err
	}
	for _, r := range m.mem.Ranges() {
		h.Ranges = append(h.Ranges, native.Range{Base: r.Base, Size: r.Size, Kind: r.Kind.String()})
	}
	err = write(path, h, func(p []byte, pa uint64) error {
		if !m.mem.ReadAt(p, pa) {
			return fmt.Errorf("memory at %#x cannot be read", pa)
		}
		return nil
	})
	// The machine that is loaded begins with empty translation caches; so must this one go on, or accessed bits in page
	// tables could come to differ.
	return errors.Join(err, m.vcpu.SetState(m.vcpu.State()))
}

// Load builds the machine that was saved at path. Of cfg it takes what belongs to the host: console, log, time, taint,
// and where the drives are now, if cfg names any.
func Load(path string, cfg Config) (*Machine, error) {
	f, err := native.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var s saved
	if err := section(f, "machine", &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	cfg.Layout = s.Layout
	cfg.CPU = s.CPU.config()
	cfg.Seed = s.CPU.Seed
	cfg.DebugExit, cfg.RNG = s.DebugExit, s.RNG
	if s.DebugConsole && cfg.DebugConsole == nil {
		cfg.DebugConsole = io.Discard
	}
	if s.VirtioConsole && cfg.VirtioConsole == nil {
		cfg.VirtioConsole = io.Discard
	}
	if len(cfg.Serial) > s.Serial {
		return nil, fmt.Errorf("%s: %w: it has %d serial ports beside COM1 and %d are given", path, ErrSnapshot, s.Serial, len(cfg.Serial))
	}
	cfg.Serial = slices.Concat(cfg.Serial, make([]io.Writer, s.Serial-len(cfg.Serial)))
	switch {
	case len(cfg.Drives) == 0:
		cfg.Drives = s.Drives
	case len(cfg.Drives) != len(s.Drives):
		return nil, fmt.Errorf("%s: %w: it has %d drives and %d are given", path, ErrSnapshot, len(s.Drives), len(cfg.Drives))
	}
	m, err := assemble(cfg)
	if err != nil {
		return nil, err
	}
	if err := m.restore(f, s); err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// savedTaint is the section of a snapshot that says what is tainted. A machine without taint has none, and a machine
// that is loaded without taint leaves it aside.
type savedTaint struct {
	Memory    taint.ShadowState
	Registers taint.Registers
	Disks     []taint.ShadowState
}

func (m *Machine) restoreTaint(f *native.File) error {
	shadow := m.cpu.Shadow()
	if shadow == nil || f.Header.Section("taint") == nil {
		return nil
	}
	var t savedTaint
	if err := section(f, "taint", &t); err != nil {
		return err
	}
	if len(t.Disks) != len(m.board.tainted) {
		return fmt.Errorf("%w: taint of %d disks for %d", ErrSnapshot, len(t.Disks), len(m.board.tainted))
	}
	err := shadow.SetState(t.Memory)
	for i, d := range m.board.tainted {
		err = errors.Join(err, d.sectors.SetState(t.Disks[i]))
	}
	*m.cpu.RegisterTaint() = t.Registers
	return err
}

// restore puts the saved state into a machine that was assembled alike.
func (m *Machine) restore(f *native.File, s saved) error {
	var state vcpu.State
	if err := section(f, "cpu", &state); err != nil {
		return err
	}
	if err := m.restoreMemory(f); err != nil {
		return err
	}
	m.skipped = s.Skipped
	if m.regions = s.Regions; m.regions != nil {
		if err := m.armRegions(); err != nil {
			return err
		}
	}
	if err := m.vcpu.SetState(state); err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	for _, d := range m.board.stateful {
		err := d.LoadState(func(v any) error { return section(f, "device "+d.Name(), v) })
		if err != nil {
			return fmt.Errorf("state of %s: %w", d.Name(), err)
		}
	}
	return m.restoreTaint(f)
}

// restoreMemory maps the saved memory, or reads it where it is compressed.
func (m *Machine) restoreMemory(f *native.File) error {
	if file, extents := f.Extents(); file != nil {
		for _, e := range extents {
			if err := m.mem.MapPrivate(file, e.Offset, e.Base, e.Size); err != nil {
				return err
			}
		}
		return nil
	}
	buf := make([]byte, native.ChunkSize)
	zero := make([]byte, native.ChunkSize)
	for _, r := range f.Header.Ranges {
		for off := uint64(0); off < r.Size; off += native.ChunkSize {
			p := buf[:min(native.ChunkSize, r.Size-off)]
			if err := f.ReadPhysical(p, r.Base+off); err != nil {
				return err
			}
			if bytes.Equal(p, zero[:len(p)]) {
				continue // memory is zero already; leave it unallocated
			}
			if err := m.mem.SetROM(p, r.Base+off); err != nil {
				return err
			}
		}
	}
	return nil
}

// section decodes a section of the snapshot into v. Fields that v does not know are refused: they hold state that would
// be lost.
func section(f *native.File, name string, v any) error {
	j := f.Header.Section(name)
	if j == nil {
		return fmt.Errorf("%w: it has no section %q", ErrSnapshot, name)
	}
	d := json.NewDecoder(bytes.NewReader(j))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: section %q: %w", ErrSnapshot, name, err)
	}
	return nil
}
