package cpu

import "github.com/hybridbridge/emu/cpu/isa"

// Stubs until the vector and x87 instructions land.

func x87Handlers() map[isa.Op]handler   { return nil }
func mmxHandlers() map[isa.Op]handler   { return nil }
func sseHandlers() map[isa.Op]handler   { return nil }
func stateHandlers() map[isa.Op]handler { return nil }
