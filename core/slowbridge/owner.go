package slowbridge

import (
	"errors"

	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/snapshots/linux"
)

// Owners says whose memory a kernel address means, by its value alone: in the disjoint layout all of the trusted VM's memory lies above
// the snapshot's, so that the direct map and the array of page descriptors (vmemmap) have a part for each.
type Owners struct {
	PageOffset, Vmemmap uint64 // where direct map and page descriptors begin
	Descriptor          uint64 // the size of struct page, in bytes
	// Above is the physical address from which on memory is the trusted VM's. The first MiB is in both machines.
	Above uint64
}

// sharedMemory is in both machines.
const sharedMemory = 1 << 20

var errNoOwners = errors.New("a 32-bit trusted VM has its memory where the snapshot has its own, so that addresses tell nothing")

// NewOwners is for a kernel with its types.
func NewOwners(k *linux.Kernel, types *Types, above uint64) (*Owners, error) {
	if !k.Form.Wide() || k.PageOffset == 0 || k.VmemmapBase == 0 {
		return nil, errNoOwners
	}
	size, err := types.sizeof("page")
	if err != nil {
		return nil, err
	}
	return &Owners{k.PageOffset, k.VmemmapBase, size, above}, nil
}

// Physical returns the physical address that a kernel address is about; ok is false for other parts of the address space.
func (o *Owners) Physical(la uint64) (pa uint64, ok bool) {
	if pa = la - o.PageOffset; pa < machine.BeyondBase {
		return pa, true
	}
	pa = (la - o.Vmemmap) / o.Descriptor << 12
	return pa, la >= o.Vmemmap && pa < machine.BeyondBase
}

// Descriptors returns how much of vmemmap the memory below a physical address takes, in bytes.
func (o *Owners) Descriptors(pa uint64) uint64 { return pa >> 12 * o.Descriptor }

// Snapshot and Trusted report whether an address can only be that machine's. The first MiB of both is taken for the trusted VM's.
func (o *Owners) Snapshot(la uint64) bool {
	pa, ok := o.Physical(la)
	return ok && pa >= sharedMemory && pa < o.Above
}

// Trusted is Snapshot's counterpart.
func (o *Owners) Trusted(la uint64) bool {
	pa, ok := o.Physical(la)
	return ok && (pa < sharedMemory || pa >= o.Above)
}

// ranges are where addresses tell.
func (o *Owners) ranges() []cpu.Range {
	return []cpu.Range{
		{Lo: o.PageOffset, Hi: o.PageOffset + machine.BeyondBase},
		{Lo: o.Vmemmap, Hi: o.Vmemmap + o.Descriptors(machine.BeyondBase)},
	}
}
