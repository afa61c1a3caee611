// Package virtio has the virtio 1.2 devices of the machine: a block device, an entropy source and a console, each a
// modern (non-transitional) PCI function. Start at Device for what they share and at blk.go for the simplest one.
//
// Requests are served while the driver's notification is written, so a run repeats exactly. Whatever the driver puts
// into its queues is checked: what makes no sense sets DEVICE_NEEDS_RESET, and the device stops until it is reset.
package virtio
