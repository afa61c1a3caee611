package legacytest

import _ "embed"

//go:generate nasm -f bin guest/system.asm -i guest -o guest/system.bin

// systemImage is the program of system-level checks.
//
//go:embed guest/system.bin
var systemImage []byte
