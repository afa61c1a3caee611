package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hybridbridge/emu/core/boot"
)

// parseShifts reads the argument of --shifts. Numbers may be negative, as phys_base often is.
func parseShifts(s string) (*boot.Shifts, error) {
	var out boot.Shifts
	to := map[string]*uint64{
		"text": &out.Text, "phys_base": &out.PhysBase,
		"page_offset": &out.Regions.PageOffset, "vmalloc": &out.Regions.Vmalloc, "vmemmap": &out.Regions.Vmemmap,
	}
	for f := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(f, "=")
		if !ok || to[name] == nil {
			return nil, fmt.Errorf("--shifts: %q is not one of text=N, phys_base=N, page_offset=N, vmalloc=N and vmemmap=N", f)
		}
		n, err := strconv.ParseUint(value, 0, 64)
		if err != nil {
			i, err := strconv.ParseInt(value, 0, 64)
			if err != nil {
				return nil, fmt.Errorf("--shifts: %s: %q is not a number of 64 bits", name, value)
			}
			n = uint64(i)
		}
		*to[name] = n
	}
	return &out, nil
}
