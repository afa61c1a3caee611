// Package pci is a conventional PCI bus: the host bridge with configuration mechanism 1, functions with BARs,
// capabilities, INTx and MSI-X. Start at Host; a device makes a Function and plugs it in. There is one bus and one
// function a slot, and no memory-mapped configuration space. Source: PCI Local Bus Specification 3.0.
package pci
