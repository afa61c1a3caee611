package kvmaccel

import (
	"testing"
	"unsafe"
)

// TestSizes compares the structures with the sizes that the ioctls' numbers carry in bits 16 to 29.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		number uint64
		size   uintptr
		flex   uintptr // what follows the part that counts
	}{
		{kvmGetRegs, unsafe.Sizeof(kvmRegs{}), 0},
		{kvmSetRegs, unsafe.Sizeof(kvmRegs{}), 0},
		{kvmGetSregs, sregsSize, 0},
		{kvmSetSregs, sregsSize, 0},
		{kvmGetSregs2, unsafe.Sizeof(kvmSregs2{}), 0},
		{kvmSetSregs2, unsafe.Sizeof(kvmSregs2{}), 0},
		{kvmGetDebugRegs, unsafe.Sizeof(kvmDebugRegs{}), 0},
		{kvmSetDebugRegs, unsafe.Sizeof(kvmDebugRegs{}), 0},
		{kvmGetXSave, unsafe.Sizeof(kvmXSave{}), 0},
		{kvmSetXSave, unsafe.Sizeof(kvmXSave{}), 0},
		{kvmGetXCRs, unsafe.Sizeof(kvmXCRs{}), 0},
		{kvmSetXCRs, unsafe.Sizeof(kvmXCRs{}), 0},
		{kvmGetVCPUEvents, unsafe.Sizeof(kvmEvents{}), 0},
		{kvmSetVCPUEvents, unsafe.Sizeof(kvmEvents{}), 0},
		{kvmSetUserMemory, unsafe.Sizeof(kvmMemoryRegion{}), 0},
		{kvmEnableCap, unsafe.Sizeof(kvmCap{}), 0},
		{kvmSetMSRFilter, unsafe.Sizeof(kvmMSRFilter{}), 0},
		{kvmSetSignalMask, unsafe.Sizeof(kvmSignalMask{}), 8},
		{kvmGetMSRs, unsafe.Sizeof(kvmMSRs{}), maxMSRs * 16},
		{kvmSetMSRs, unsafe.Sizeof(kvmMSRs{}), maxMSRs * 16},
		{kvmSetCPUID2, unsafe.Sizeof(kvmCPUID{}), maxCPUID * 40},
		{kvmGetSupportedCPUID, unsafe.Sizeof(kvmCPUID{}), maxCPUID * 40},
	} {
		if want := uintptr(c.number >> 16 & 0x3fff); c.size-c.flex != want {
			t.Errorf("ioctl %#x takes %d bytes, the structure has %d", c.number, want, c.size-c.flex)
		}
	}
	var r runPage
	for name, c := range map[string][2]uintptr{
		"exit_reason":                   {unsafe.Offsetof(r.exitReason), 8},
		"ready_for_interrupt_injection": {unsafe.Offsetof(r.readyForInterrupt), 12},
		"cr8":                           {unsafe.Offsetof(r.cr8), 16},
		"the exit":                      {unsafe.Offsetof(r.exit), 32},
		"kvm_valid_regs":                {unsafe.Offsetof(r.validRegs), 288},
		"struct kvm_run":                {unsafe.Sizeof(r), 2352},
		"flags of kvm_sregs2":           {unsafe.Offsetof(kvmSregs2{}.Flags), 280},
		"payload of kvm_vcpu_events":    {unsafe.Offsetof(kvmEvents{}.Payload), 56},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", name, c[0], c[1])
		}
	}
	if len(msrTable) > maxMSRs || len(direct) > len(kvmMSRFilter{}.Range) {
		t.Error("more MSRs than there is room for")
	}
}
