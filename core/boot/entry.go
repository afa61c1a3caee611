package boot

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/cpu/vcpu"
)

// EntryState is the part of the processor's state that a boot protocol prescribes. Everything else is as after reset.
type EntryState struct {
	GPR    [16]uint64 // in encoding order, see vcpu.State
	RIP    uint64
	RFLAGS uint64
	Seg    [6]vcpu.Segment // ES, CS, SS, DS, FS, GS
	LDTR   vcpu.Segment
	TR     vcpu.Segment
	GDTR   vcpu.Table
	IDTR   vcpu.Table
	CR0    uint64
	CR3    uint64
	CR4    uint64
	EFER   uint64
}

// Apply changes s, a processor's state after reset, to the entry state.
func (e *EntryState) Apply(s *vcpu.State) {
	s.GPR = e.GPR
	s.RIP = e.RIP
	s.RFLAGS = e.RFLAGS
	s.Seg = e.Seg
	s.LDTR = e.LDTR
	s.TR = e.TR
	s.GDTR = e.GDTR
	s.IDTR = e.IDTR
	s.CR0 = e.CR0
	s.CR2 = 0
	s.CR3 = e.CR3
	s.CR4 = e.CR4
	s.MSR.EFER = e.EFER
	s.Halted = false
}

const (
	regAX, regBX, regSP, regSI = 0, 3, 4, 6
	segCS                      = 1

	cr0PE, cr0ET, cr0PG = 1 << 0, 1 << 4, 1 << 31
	cr4PAE, cr4LA57     = 1 << 5, 1 << 12
	eferLME, eferLMA    = 1 << 8, 1 << 10

	// The selectors that the Linux boot protocol prescribes: __BOOT_CS and __BOOT_DS.
	selCS, selDS, selTSS = 0x10, 0x18, 0x20
)

// The descriptor table that the entry state is in. Its last descriptor is a TSS, which KVM insists on.
func gdt(long bool) []byte {
	code := uint64(0x00cf9b000000ffff) // 4 GiB, 32-bit, execute and read
	if long {
		code = 0x00af9b000000ffff
	}
	var b []byte
	for _, d := range []uint64{0, 0, code, 0x00cf93000000ffff, 0x00008b0000000067, 0} {
		b = binary.LittleEndian.AppendUint64(b, d)
	}
	return b
}

// flat is the state with segments as both entry points of the Linux protocol, and multiboot, want them.
func flat(gdtBase uint64, long bool) EntryState {
	data := vcpu.Segment{Selector: selDS, Attr: 0xc093, Limit: 0xffffffff}
	code := vcpu.Segment{Selector: selCS, Attr: 0xc09b, Limit: 0xffffffff}
	e := EntryState{
		RFLAGS: 2,
		Seg:    [6]vcpu.Segment{data, code, data, data, data, data},
		LDTR:   vcpu.Segment{Attr: 0x0002},
		TR:     vcpu.Segment{Selector: selTSS, Attr: 0x008b, Limit: 0x67},
		GDTR:   vcpu.Table{Base: gdtBase, Limit: uint16(len(gdt(long)) - 1)},
		CR0:    cr0PE | cr0ET,
	}
	if long {
		e.Seg[segCS].Attr = 0xa09b
		e.CR0 |= cr0PG
		e.CR4 = cr4PAE
		e.EFER = eferLME | eferLMA
	}
	return e
}
