package kvmaccel

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Device is the file through which KVM is used.
const Device = "/dev/kvm"

// ErrUnusable is wrapped by errors that say why KVM cannot be used on this host.
var ErrUnusable = errors.New("KVM cannot be used")

// needed are the capabilities without which nothing works here, with the kernel that brought the younger ones.
var needed = []struct {
	number int
	name   string
	since  string
}{
	{capUserMemory, "KVM_CAP_USER_MEMORY", ""},
	{capSetTSSAddr, "KVM_CAP_SET_TSS_ADDR", ""},
	{capIdentityMap, "KVM_CAP_SET_IDENTITY_MAP_ADDR", ""},
	{capExtCPUID, "KVM_CAP_EXT_CPUID", ""},
	{capUserNMI, "KVM_CAP_USER_NMI", ""},
	{capVCPUEvents, "KVM_CAP_VCPU_EVENTS", ""},
	{capDebugRegs, "KVM_CAP_DEBUGREGS", ""},
	{capXSave, "KVM_CAP_XSAVE", ""},
	{capGetTSCKHz, "KVM_CAP_GET_TSC_KHZ", ""},
	{capReadonlyMemory, "KVM_CAP_READONLY_MEM", ""},
	{capImmediateExit, "KVM_CAP_IMMEDIATE_EXIT", "4.11"},
	{capUserSpaceMSR, "KVM_CAP_X86_USER_SPACE_MSR", "5.10"},
	{capMSRFilter, "KVM_CAP_X86_MSR_FILTER", "5.10"},
}

// Probe says why KVM cannot be used here, or returns nil. The error wraps ErrUnusable.
func Probe() error {
	kvm, err := openDevice()
	if err != nil {
		return err
	}
	return unix.Close(kvm)
}

// SupportedCPUID returns what CPUID can report under KVM here. The error wraps ErrUnusable.
func SupportedCPUID() ([]vcpu.CPUIDLeaf, error) {
	kvm, err := openDevice()
	if err != nil {
		return nil, err
	}
	defer unix.Close(kvm)
	return supportedCPUID(kvm)
}

func supportedCPUID(kvm int) ([]vcpu.CPUIDLeaf, error) {
	c := &kvmCPUID{N: maxCPUID}
	if err := getSupportedCPUID(kvm, c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	leaves := make([]vcpu.CPUIDLeaf, c.N)
	for i := range leaves {
		e := &c.Entry[i]
		leaves[i] = vcpu.CPUIDLeaf{
			Leaf: e.Leaf, Sub: e.Sub, Indexed: e.Flags&cpuidSignificantIndex != 0,
			EAX: e.EAX, EBX: e.EBX, ECX: e.ECX, EDX: e.EDX,
		}
	}
	return leaves, nil
}

// openDevice opens /dev/kvm and makes sure that it has what is needed.
func openDevice() (kvm int, err error) {
	if runtime.GOARCH != "amd64" {
		return -1, fmt.Errorf("%w: this is a %s host, and the guests are x86", ErrUnusable, runtime.GOARCH)
	}
	kvm, err = unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("%w: there is no %s (%w): load the kernel module kvm-intel or kvm-amd, and switch virtualization on in the firmware or, in a VM, nested virtualization on its host", ErrUnusable, Device, err)
	case errors.Is(err, fs.ErrPermission):
		return -1, fmt.Errorf("%w: %s cannot be opened (%w): run as a member of its group (kvm)", ErrUnusable, Device, err)
	case err != nil:
		return -1, fmt.Errorf("%w: %s: %w", ErrUnusable, Device, err)
	}
	if err := capable(func() (int, error) { return getAPIVersion(kvm) }, func(n int) (int, error) { return checkExtension(kvm, n) }); err != nil {
		return -1, errors.Join(err, unix.Close(kvm))
	}
	return kvm, nil
}

// capable says what KVM lacks.
func capable(version func() (int, error), check func(capability int) (int, error)) error {
	v, err := version()
	if err != nil {
		return fmt.Errorf("%w: %s is not KVM: %w", ErrUnusable, Device, err)
	}
	if v != apiVersion {
		return fmt.Errorf("%w: its API has version %d, and emu knows %d", ErrUnusable, v, apiVersion)
	}
	var missing []string
	for _, c := range needed {
		n, err := check(c.number)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
		if n <= 0 {
			name := c.name
			if c.since != "" {
				name += " (Linux " + c.since + ")"
			}
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return fmt.Errorf("%w: the host's kernel lacks %s", ErrUnusable, strings.Join(missing, ", "))
	}
	return nil
}
