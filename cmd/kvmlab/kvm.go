package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// kvmUsable returns nil if this machine's /dev/kvm can be read and written, and its API is the one of the kernel's documentation.
func kvmUsable() error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	const getAPIVersion, want = 0xae00, 12 // KVM_GET_API_VERSION
	switch v, err := unix.IoctlRetInt(int(f.Fd()), getAPIVersion); {
	case err != nil:
		return fmt.Errorf("/dev/kvm: KVM_GET_API_VERSION: %w", err)
	case v != want:
		return fmt.Errorf("/dev/kvm: API version %d, want %d", v, want)
	}
	return nil
}
