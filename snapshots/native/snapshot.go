package native

import (
	"encoding/json"
	"fmt"

	"github.com/hybridbridge/emu/snapshots"
)

var _ snapshots.Snapshot = (*File)(nil)

// sectionForeign is the section of a snapshot that was converted from another format, in place of a machine's state.
const sectionForeign = "snapshot"

// foreign is what other formats say of a machine besides its memory.
type foreign struct {
	CPUs  []snapshots.CPU
	Notes []snapshots.Note
}

// FromSnapshot writes a snapshot of another format under path. A file made so holds memory, registers and notes; no
// machine can go on from it. What the source has not saved is written as zeroes.
func FromSnapshot(path string, from snapshots.Snapshot, notes []snapshots.Note, progress func(done uint64) error) error {
	j, err := json.Marshal(foreign{from.CPUs(), notes})
	if err != nil {
		return err
	}
	h := Header{Arch: "x86", Sections: []Section{{sectionForeign, j}}}
	for _, r := range from.Ranges() {
		h.Ranges = append(h.Ranges, Range{Base: r.Base, Size: r.Size, Kind: "ram"})
	}
	done := uint64(0)
	return Write(path, h, func(p []byte, pa uint64) error {
		if done += uint64(len(p)); progress != nil {
			if err := progress(done); err != nil {
				return err
			}
		}
		return snapshots.ReadZeroed(from, p, pa)
	})
}

// Format returns "native".
func (s *File) Format() string { return "native" }

// Ranges implements snapshots.Snapshot.
func (s *File) Ranges() []snapshots.Range {
	var out []snapshots.Range
	for _, r := range s.Header.Ranges {
		out = snapshots.AppendRange(out, r.Base, r.Size)
	}
	return out
}

// cpuState is the part of a machine's "cpu" section (cpu/vcpu.State) that snapshots.CPU has a place for.
type cpuState struct {
	GPR                [16]uint64
	RIP, RFLAGS        uint64
	Seg                [6]segment
	LDTR, TR           segment
	GDTR, IDTR         snapshots.Table
	CR0, CR2, CR3, CR4 uint64
	MSR                struct{ EFER, STAR, LSTAR, CSTAR, FMASK, KernelGSBase uint64 }
}

type segment struct {
	Selector, Attr uint16
	Limit          uint32
	Base           uint64
}

func (s segment) common() snapshots.Segment {
	return snapshots.Segment{Selector: s.Selector, Base: s.Base, Limit: s.Limit, Attributes: uint32(s.Attr)}
}

// CPUs implements snapshots.Snapshot.
func (s *File) CPUs() []snapshots.CPU {
	if j := s.Header.Section(sectionForeign); j != nil {
		var f foreign
		if json.Unmarshal(j, &f) != nil {
			return nil
		}
		return f.CPUs
	}
	var v cpuState
	if j := s.Header.Section("cpu"); j == nil || json.Unmarshal(j, &v) != nil {
		return nil
	}
	c := snapshots.CPU{
		Has: snapshots.HasGeneral | snapshots.HasControl | snapshots.HasSegments | snapshots.HasSyscall | snapshots.HasKernelGSBase,
		GPR: v.GPR, RIP: v.RIP, RFLAGS: v.RFLAGS, CR0: v.CR0, CR2: v.CR2, CR3: v.CR3, CR4: v.CR4,
		LDTR: v.LDTR.common(), TR: v.TR.common(), GDTR: v.GDTR, IDTR: v.IDTR,
		EFER: v.MSR.EFER, STAR: v.MSR.STAR, LSTAR: v.MSR.LSTAR, CSTAR: v.MSR.CSTAR, SFMASK: v.MSR.FMASK,
		KernelGSBase: v.MSR.KernelGSBase,
	}
	for i, seg := range v.Seg {
		c.Seg[i] = seg.common()
	}
	return []snapshots.CPU{c}
}

// Notes implements snapshots.Snapshot.
func (s *File) Notes() []snapshots.Note {
	var f foreign
	if j := s.Header.Section(sectionForeign); j == nil || json.Unmarshal(j, &f) != nil {
		return nil
	}
	return f.Notes
}

// Complete says whether a machine can go on from the snapshot, or an error that says why not.
func (s *File) Complete() error {
	if s.Header.Section("cpu") == nil {
		return fmt.Errorf("the snapshot was converted from another format and holds no machine to go on from")
	}
	return nil
}
