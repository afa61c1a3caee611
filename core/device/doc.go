// Package device says what a device is to the machine: ports, memory ranges, interrupt lines, guest memory and
// saved state. The devices themselves are the packages below it. Start at device.go.
package device
