package main

import (
	"fmt"
	"strings"

	"github.com/hybridbridge/emu/core/machine"
)

// parseDrive reads FILE[,format=raw|qcow2][,readonly][,snapshot]. A comma in the file's name is doubled, as in QEMU.
func parseDrive(s string) (machine.Drive, error) {
	var parts []string
	for rest, cur := s, ""; ; {
		i := strings.IndexByte(rest, ',')
		switch {
		case i < 0:
			parts = append(parts, cur+rest)
		case strings.HasPrefix(rest[i+1:], ","):
			cur += rest[:i+1]
			rest = rest[i+2:]
			continue
		default:
			parts = append(parts, cur+rest[:i])
			cur, rest = "", rest[i+1:]
			continue
		}
		break
	}
	d := machine.Drive{Path: parts[0]}
	if d.Path == "" {
		return d, fmt.Errorf("--drive %q names no file", s)
	}
	for _, p := range parts[1:] {
		key, value, _ := strings.Cut(p, "=")
		switch key {
		case "format":
			d.Format = value
		case "readonly":
			d.ReadOnly = true
		case "snapshot":
			d.Overlay = true
		default:
			return d, fmt.Errorf("--drive %q: unknown option %q (format=raw|qcow2, readonly and snapshot are known)", s, p)
		}
	}
	return d, nil
}
