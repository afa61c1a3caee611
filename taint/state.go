package taint

import (
	"errors"
	"fmt"
)

// ShadowState is the saved state of a Shadow.
type ShadowState struct {
	// Full are the numbers of wholly tainted pages, in order.
	Full []uint64 `json:",omitempty"`
	// Pages are the numbers of the others that have a tainted byte, in order; Bits holds 512 bytes for each, the lowest bit
	// of the first for the page's first byte.
	Pages []uint64 `json:",omitempty"`
	Bits  []byte   `json:",omitempty"`
}

// State returns the shadow's state, separate from it.
func (s *Shadow) State() ShadowState {
	var st ShadowState
	for _, pfn := range s.Pages() {
		p := s.Page(pfn)
		if p.count == PageSize {
			st.Full = append(st.Full, pfn)
			continue
		}
		st.Pages = append(st.Pages, pfn)
		st.Bits = append(st.Bits, p.bits[:PageSize/8]...)
	}
	return st
}

// ErrState is wrapped by errors about a saved state that is none.
var ErrState = errors.New("not the state of a taint shadow")

// SetState replaces all taint by a saved state.
func (s *Shadow) SetState(st ShadowState) error {
	if len(st.Bits) != len(st.Pages)*PageSize/8 {
		return fmt.Errorf("%w: %d bytes for %d pages", ErrState, len(st.Bits), len(st.Pages))
	}
	for _, pfn := range s.Pages() {
		s.Clear(pfn*PageSize, PageSize)
	}
	for _, pfn := range st.Full {
		s.Mark(pfn*PageSize, PageSize)
	}
	for i, pfn := range st.Pages {
		for off, b := range st.Bits[i*PageSize/8 : (i+1)*PageSize/8] {
			if b != 0 {
				s.Set(pfn*PageSize+uint64(off)*8, 8, Mask(b))
			}
		}
	}
	return nil
}
