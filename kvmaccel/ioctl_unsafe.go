package kvmaccel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl calls the kernel.
func ioctl(fd int, request, arg uintptr, name string) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("%s: %w", name, errno)
		}
	}
}

// with is ioctl with a pointer.
func with[T any](fd int, request uintptr, arg *T, name string) error {
	_, err := ioctl(fd, request, uintptr(unsafe.Pointer(arg)), name)
	return err
}

// Of the file /dev/kvm.

func getAPIVersion(kvm int) (int, error) {
	return ioctl(kvm, kvmGetAPIVersion, 0, "KVM_GET_API_VERSION")
}

func createVM(kvm int) (int, error) { return ioctl(kvm, kvmCreateVM, 0, "KVM_CREATE_VM") }

// checkExtension returns 0 for a capability that is not there, else a number whose meaning depends on it.
func checkExtension(kvm, capability int) (int, error) {
	return ioctl(kvm, kvmCheckExtension, uintptr(capability), "KVM_CHECK_EXTENSION")
}

// getVCPUMmapSize returns how much of a vCPU's file is to be mapped; struct kvm_run is at its beginning.
func getVCPUMmapSize(kvm int) (int, error) {
	return ioctl(kvm, kvmGetVCPUMmapSize, 0, "KVM_GET_VCPU_MMAP_SIZE")
}

// getSupportedCPUID fills in what the processor and KVM can do. N is the room on entry.
func getSupportedCPUID(kvm int, c *kvmCPUID) error {
	return with(kvm, kvmGetSupportedCPUID, c, "KVM_GET_SUPPORTED_CPUID")
}

// Of a VM.

func createVCPU(vm, id int) (int, error) {
	return ioctl(vm, kvmCreateVCPU, uintptr(id), "KVM_CREATE_VCPU")
}

// setUserMemory makes, changes or (with size 0) removes a memory slot. Host memory must stay mapped as long as the slot is.
func setUserMemory(vm int, r *kvmMemoryRegion) error {
	return with(vm, kvmSetUserMemory, r, "KVM_SET_USER_MEMORY_REGION")
}

// setTSSAddr gives three pages of guest-physical addresses, below 4 GiB and in no slot, that Intel's processors need for real mode.
func setTSSAddr(vm int, pa uintptr) error {
	_, err := ioctl(vm, kvmSetTSSAddr, pa, "KVM_SET_TSS_ADDR")
	return err
}

// setIdentityMapAddr gives another page for the same. It comes before the first vCPU.
func setIdentityMapAddr(vm int, pa uint64) error {
	return with(vm, kvmSetIdentityMapAddr, &pa, "KVM_SET_IDENTITY_MAP_ADDR")
}

func enableCap(vm int, c *kvmCap) error { return with(vm, kvmEnableCap, c, "KVM_ENABLE_CAP") }

// setMSRFilter says which accesses to MSRs are KVM's; the others exit if capUserSpaceMSR is enabled for filtered ones.
func setMSRFilter(vm int, f *kvmMSRFilter) error {
	return with(vm, kvmSetMSRFilter, f, "KVM_X86_SET_MSR_FILTER")
}

// Of a vCPU: all on one thread.

// run enters the guest until something is left to user space, or until a signal that kvmSignalMask lets pass: EINTR. Of an
// exit for a port, a register or an MSR, the instruction is not over until run is called again.
//
// Go's scheduler is not told, and need not be: when it wants the thread, for another goroutine or to collect garbage, it
// sends a signal, which ends run too. A system call that it is told of costs each short exit its processor.
func run(vcpu int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(vcpu), kvmRun, 0); errno != 0 {
		return fmt.Errorf("KVM_RUN: %w", errno)
	}
	return nil
}

func getRegs(vcpu int, r *kvmRegs) error { return with(vcpu, kvmGetRegs, r, "KVM_GET_REGS") }
func setRegs(vcpu int, r *kvmRegs) error { return with(vcpu, kvmSetRegs, r, "KVM_SET_REGS") }

// getSregs and setSregs are for kernels that do not have the second form, which has the PDPTE registers too.
func getSregs(vcpu int, s *kvmSregs2) error {
	err := with(vcpu, kvmGetSregs, s, "KVM_GET_SREGS")
	s.Flags, s.PDPTRs = 0, [4]uint64{}
	return err
}

func setSregs(vcpu int, s *kvmSregs2) error {
	first := *s
	first.Flags, first.PDPTRs = 0, [4]uint64{} // where kvm_sregs has the interrupts that are pending
	return with(vcpu, kvmSetSregs, &first, "KVM_SET_SREGS")
}

func getSregs2(vcpu int, s *kvmSregs2) error { return with(vcpu, kvmGetSregs2, s, "KVM_GET_SREGS2") }
func setSregs2(vcpu int, s *kvmSregs2) error { return with(vcpu, kvmSetSregs2, s, "KVM_SET_SREGS2") }

// interrupt queues an external interrupt. The guest must be ready for it: see runPage.readyForInterrupt.
func interrupt(vcpu int, vector uint8) error {
	v := uint32(vector)
	return with(vcpu, kvmInterrupt, &v, "KVM_INTERRUPT")
}

func nmi(vcpu int) error {
	_, err := ioctl(vcpu, kvmNMI, 0, "KVM_NMI")
	return err
}

// getMSRs and setMSRs stop at the first MSR that KVM refuses, which is then the error.
func getMSRs(vcpu int, m *kvmMSRs) error { return msrs(vcpu, kvmGetMSRs, m, "KVM_GET_MSRS") }
func setMSRs(vcpu int, m *kvmMSRs) error { return msrs(vcpu, kvmSetMSRs, m, "KVM_SET_MSRS") }

func msrs(vcpu int, request uintptr, m *kvmMSRs, name string) error {
	n, err := ioctl(vcpu, request, uintptr(unsafe.Pointer(m)), name)
	if err == nil && n < int(m.N) {
		err = fmt.Errorf("%s: KVM refuses MSR %#x (value %#x)", name, m.MSR[n].Index, m.MSR[n].Value)
	}
	return err
}

// setSignalMask sets the mask of signals that is in force while the guest runs.
func setSignalMask(vcpu int, m *kvmSignalMask) error {
	return with(vcpu, kvmSetSignalMask, m, "KVM_SET_SIGNAL_MASK")
}

// setCPUID says what CPUID answers. It comes before the first run.
func setCPUID(vcpu int, c *kvmCPUID) error { return with(vcpu, kvmSetCPUID2, c, "KVM_SET_CPUID2") }

func getEvents(vcpu int, e *kvmEvents) error {
	return with(vcpu, kvmGetVCPUEvents, e, "KVM_GET_VCPU_EVENTS")
}

func setEvents(vcpu int, e *kvmEvents) error {
	return with(vcpu, kvmSetVCPUEvents, e, "KVM_SET_VCPU_EVENTS")
}

func getDebugRegs(vcpu int, r *kvmDebugRegs) error {
	return with(vcpu, kvmGetDebugRegs, r, "KVM_GET_DEBUGREGS")
}

func setDebugRegs(vcpu int, r *kvmDebugRegs) error {
	return with(vcpu, kvmSetDebugRegs, r, "KVM_SET_DEBUGREGS")
}

func getXSave(vcpu int, x *kvmXSave) error { return with(vcpu, kvmGetXSave, x, "KVM_GET_XSAVE") }
func setXSave(vcpu int, x *kvmXSave) error { return with(vcpu, kvmSetXSave, x, "KVM_SET_XSAVE") }
func getXCRs(vcpu int, x *kvmXCRs) error   { return with(vcpu, kvmGetXCRs, x, "KVM_GET_XCRS") }
func setXCRs(vcpu int, x *kvmXCRs) error   { return with(vcpu, kvmSetXCRs, x, "KVM_SET_XCRS") }

// setTSCKHz sets the rate of the guest's time-stamp counter. Without capTSCControl KVM refuses a rate below the host's.
func setTSCKHz(vcpu int, kHz uintptr) error {
	_, err := ioctl(vcpu, kvmSetTSCKHz, kHz, "KVM_SET_TSC_KHZ")
	return err
}

func getTSCKHz(vcpu int) (int, error) { return ioctl(vcpu, kvmGetTSCKHz, 0, "KVM_GET_TSC_KHZ") }

// mapRun maps struct kvm_run.
func mapRun(vcpu, size int) (*runPage, []byte, error) {
	if size < int(unsafe.Sizeof(runPage{})) {
		return nil, nil, fmt.Errorf("KVM_GET_VCPU_MMAP_SIZE: %d bytes are less than struct kvm_run", size)
	}
	b, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map struct kvm_run: %w", err)
	}
	return (*runPage)(unsafe.Pointer(&b[0])), b, nil
}

// hostAddress is where a slot's memory is.
func hostAddress(mem []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) }
