package main

import (
	"context"
	"errors"

	"github.com/hybridbridge/emu/core/machine"
)

// serveGDB waits for gdb at addr and lets it run the machine.
func serveGDB(context.Context, *machine.Machine, string, machine.Config) error {
	return errors.New("gdb: not built yet")
}
