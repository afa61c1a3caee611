package lapic

import "math/bits"

// set is a set of 256 vectors.
type set [4]uint64

func (s *set) add(v uint8)      { s[v>>6] |= 1 << (v & 63) }
func (s *set) remove(v uint8)   { s[v>>6] &^= 1 << (v & 63) }
func (s *set) has(v uint8) bool { return s[v>>6]>>(v&63)&1 != 0 }

// word returns register n of the eight 32-bit ones that show the set to the guest.
func (s *set) word(n int) uint32 { return uint32(s[n>>1] >> (32 * (n & 1))) }

// highest returns the highest vector, or false if the set is empty.
func (s *set) highest() (uint8, bool) {
	for i := 3; i >= 0; i-- {
		if s[i] != 0 {
			return uint8(64*i + 63 - bits.LeadingZeros64(s[i])), true
		}
	}
	return 0, false
}
