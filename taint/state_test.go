package taint

import (
	"encoding/json"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewShadow(nil)
		for range rapid.IntRange(0, 20).Draw(t, "marks") {
			s.Mark(rapid.Uint64Range(0, 1<<20).Draw(t, "pa"), rapid.Uint64Range(0, 3*PageSize).Draw(t, "n"))
			s.Clear(rapid.Uint64Range(0, 1<<20).Draw(t, "clear"), rapid.Uint64Range(0, 64).Draw(t, "m"))
		}
		j, err := json.Marshal(s.State())
		if err != nil {
			t.Fatal(err)
		}
		var st ShadowState
		if err := json.Unmarshal(j, &st); err != nil {
			t.Fatal(err)
		}
		loaded := NewShadow(nil)
		loaded.Mark(5, 9000) // what was there before is gone
		if err := loaded.SetState(st); err != nil {
			t.Fatal(err)
		}
		if loaded.Bytes() != s.Bytes() {
			t.Fatalf("%d bytes, want %d", loaded.Bytes(), s.Bytes())
		}
		for pa := uint64(0); pa < 1<<20+4*PageSize; pa += 64 {
			if loaded.Get(pa, 64) != s.Get(pa, 64) {
				t.Fatalf("taint differs at %#x", pa)
			}
		}
	})
}

func TestStateThatIsNone(t *testing.T) {
	if err := NewShadow(nil).SetState(ShadowState{Pages: []uint64{1}, Bits: make([]byte, 5)}); !errors.Is(err, ErrState) {
		t.Errorf("err = %v", err)
	}
}
