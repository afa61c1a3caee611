package main

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// parseSize reads a number of bytes as QEMU's -m does: a plain number counts mebibytes, and the suffixes B, K, M, G and
// T (powers of 1024) say otherwise.
func parseSize(s string) (uint64, error) {
	shift := uint(20)
	digits := s
	if s != "" {
		if i := strings.IndexByte("BKMGT", s[len(s)-1]&^0x20); i >= 0 {
			shift, digits = uint(10*i), s[:len(s)-1]
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || bits.Len64(n)+int(shift) > 63 {
		return 0, fmt.Errorf("%q is not a size like 512M or 2G", s)
	}
	return n << shift, nil
}
