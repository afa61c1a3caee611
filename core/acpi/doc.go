// Package acpi builds the ACPI tables that describe the machine to a guest. Start at Build; aml.go encodes the small
// part of AML that the DSDT needs. Addresses come from the packages of the devices. Source: ACPI specification 6.4.
package acpi
