// Package vcpu is what the two CPUs, the emulator in package cpu and the KVM backend in package kvmaccel, have in
// common: the architectural state, the reasons for which a vCPU stops, and the platform that it is plugged into.
// It holds no behaviour. Start at VCPU.
package vcpu
