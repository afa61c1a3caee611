package pci

import (
	"encoding/hex"
	"fmt"
)

// State is the saved state of a bus.
type State struct {
	Address   uint32
	Functions map[int]FunctionState // by slot
}

// FunctionState is the saved state of a function.
type FunctionState struct {
	Config  string // configuration space in hexadecimal
	INTx    bool
	Table   string `json:",omitempty"` // MSI-X table in hexadecimal
	Pending [2]uint64
}

// Name implements device.Stateful.
func (h *Host) Name() string { return "pci" }

// SaveState implements device.Stateful.
func (h *Host) SaveState() any {
	s := State{Address: h.address, Functions: map[int]FunctionState{}}
	for i, f := range h.slot {
		if f == nil {
			continue
		}
		fs := FunctionState{Config: hex.EncodeToString(f.data[:]), INTx: f.intx}
		if f.msix != nil {
			fs.Table, fs.Pending = hex.EncodeToString(f.msix.table), f.msix.pending
		}
		s.Functions[i] = fs
	}
	return s
}

// LoadState implements device.Stateful. The same functions must be plugged in as when the state was saved. It maps
// the BARs and drives the interrupt pins; call it before the devices' own LoadState.
func (h *Host) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	for i, f := range h.slot {
		fs, ok := s.Functions[i]
		if ok != (f != nil) {
			return fmt.Errorf("pci: slot %d: saved state and machine differ in what is there", i)
		}
		if f != nil {
			if err := f.load(fs); err != nil {
				return fmt.Errorf("pci: slot %d: %w", i, err)
			}
		}
	}
	h.address = s.Address & 0x80fffffc
	h.remap()
	return nil
}

func (f *Function) load(s FunctionState) error {
	data, err := hex.DecodeString(s.Config)
	if err != nil || len(data) != len(f.data) {
		return fmt.Errorf("configuration space is not %d hexadecimal bytes", len(f.data))
	}
	if string(data[:4]) != string(f.data[:4]) {
		return fmt.Errorf("saved state is of device %x, not %x", data[:4], f.data[:4])
	}
	if f.msix != nil {
		table, err := hex.DecodeString(s.Table)
		if err != nil || len(table) != len(f.msix.table) {
			return fmt.Errorf("MSI-X table is not %d hexadecimal bytes", len(f.msix.table))
		}
		f.msix.table, f.msix.pending = table, s.Pending
	}
	for i, m := range f.mask[:firstCap] {
		f.data[i] = f.data[i]&^m | data[i]&m
	}
	copy(f.data[firstCap:f.end], data[firstCap:])
	f.intx = s.INTx
	f.config()
	return nil
}
