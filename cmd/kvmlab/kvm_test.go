//go:build kvm

package main

import (
	"os"
	"testing"
)

// TestUsable runs where KVM tests run: in the lab, or on a machine with a KVM of its own.
func TestUsable(t *testing.T) {
	if err := kvmUsable(); err != nil {
		t.Fatal(err)
	}
}

// TestFolder reads a file of the package's folder, which go test's programs expect to be in.
func TestFolder(t *testing.T) {
	if _, err := os.Stat("kvm_test.go"); err != nil {
		t.Error(err)
	}
}
