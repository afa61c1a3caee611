// Package kvmaccel runs a guest on the host's processor, over /dev/kvm: the same vCPU interface as package cpu has, so that
// a machine, its devices and its saved state do not know the difference.
//
// KVM's own interrupt controllers and timers are not used. Devices stay those of the machine; KVM gives back the processor
// for each access to one, and interrupts are injected one by one. What a guest can ask about its processor, CPUID and
// model-specific registers, is answered by a Model, which is the emulator's own.
//
// Start at New and VCPU.Run. abi.go has the kernel's structures and ioctl_unsafe.go one function an ioctl, as
// Documentation/virt/kvm/api.rst describes them ("the API" below); state.go translates to and from vcpu.State.
package kvmaccel
