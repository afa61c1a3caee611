package boot

import (
	"cmp"
	"slices"

	"github.com/hybridbridge/emu/core/memory"
)

// span is [base, end).
type span struct{ base, end uint64 }

// space hands out usable memory: RAM that nothing has taken.
type space struct {
	ram   []span // sorted, merged
	taken []span
}

func newSpace(m *memory.Memory) *space {
	s := &space{}
	for _, r := range m.Ranges() {
		if r.Kind != memory.RAM {
			continue
		}
		if n := len(s.ram); n > 0 && s.ram[n-1].end == r.Base {
			s.ram[n-1].end = r.End()
		} else {
			s.ram = append(s.ram, span{r.Base, r.End()})
		}
	}
	return s
}

func (s *space) isFree(base, end uint64) bool {
	inRAM := false
	for _, r := range s.ram {
		inRAM = inRAM || base >= r.base && end <= r.end
	}
	if !inRAM || end < base {
		return false
	}
	for _, t := range s.taken {
		if base < t.end && t.base < end {
			return false
		}
	}
	return true
}

// take reserves a given place.
func (s *space) take(base, size uint64) bool {
	if base+size < base || !s.isFree(base, base+size) {
		return false
	}
	s.taken = append(s.taken, span{base, base + size})
	return true
}

// low reserves the lowest free place within [from, limit).
func (s *space) low(size, align, from, limit uint64) (uint64, bool) {
	best, ok := uint64(0), false
	try := func(base uint64) {
		base = (base + align - 1) &^ (align - 1)
		if base >= from && base <= limit && size <= limit-base && (!ok || base < best) && s.isFree(base, base+size) {
			best, ok = base, true
		}
	}
	try(from)
	for _, r := range s.ram {
		try(r.base)
	}
	for _, t := range s.taken {
		try(t.end)
	}
	if ok {
		s.taken = append(s.taken, span{best, best + size})
	}
	return best, ok
}

// slots returns the free places within [from, limit), each as the lowest and the highest address where size bytes fit.
func (s *space) slots(size, align, from, limit uint64) []span {
	taken := slices.Clone(s.taken)
	slices.SortFunc(taken, func(a, b span) int { return cmp.Compare(a.base, b.base) })
	var out []span
	add := func(base, end uint64) {
		base = (max(base, from) + align - 1) &^ (align - 1)
		end = min(end, limit)
		if base < end && size <= end-base {
			out = append(out, span{base, base + (end-base-size)&^(align-1)})
		}
	}
	for _, r := range s.ram {
		at := r.base
		for _, t := range taken {
			if t.base < r.end && t.end > at {
				add(at, t.base)
				at = max(at, t.end)
			}
		}
		add(at, r.end)
	}
	return out
}

// high reserves the highest free place that ends at or below limit and starts at or above from.
func (s *space) high(size, align, from, limit uint64) (uint64, bool) {
	best, ok := uint64(0), false
	try := func(end uint64) {
		end = min(end, limit)
		if end < size {
			return
		}
		base := (end - size) &^ (align - 1)
		if base >= from && (!ok || base > best) && s.isFree(base, base+size) {
			best, ok = base, true
		}
	}
	try(limit)
	for _, r := range s.ram {
		try(r.end)
	}
	for _, t := range s.taken {
		try(t.base)
	}
	if ok {
		s.taken = append(s.taken, span{best, best + size})
	}
	return best, ok
}
