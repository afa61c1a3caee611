package slowbridge

import "testing"

func TestHighmem(t *testing.T) {
	const memMap, size, first, end, window = 0xdce54000, 40, 0x100, 0x100 + 2*windowSlots, 0xe0000000
	m := &Memory{pages: map[uint64]*[4096]byte{}}
	for n := uint64(first); n < end; n++ {
		m.pages[n] = new([4096]byte)
	}
	s := &space{mem: m, pages: map[uint64]uint64{}}
	h := &highmem{space: s, memMap: memMap, page: size, first: first, end: end, window: window, slotOf: map[uint64]uint64{}}
	for name, at := range map[string]uint64{
		"of the direct map": memMap + size*(first-1), "behind the last": memMap + size*end, "before the first": memMap - size, "in between": memMap + size*first + 4,
	} {
		if la, ok := h.show(at); ok {
			t.Errorf("a page %s is shown at %#x", name, la)
		}
		if _, ok := h.hide(at); ok {
			t.Errorf("a page %s can be hidden", name)
		}
	}
	// More pages than there are slots: each leads to its frame when it is shown, and the last ones still do.
	shown := map[uint64]uint64{}
	for n := uint64(first); n < end; n++ {
		la, ok := h.show(memMap + size*n)
		if pa, there := s.translate(la + 5); !ok || !there || pa != Base+n<<12+5 {
			t.Fatalf("page %#x at %#x, %v leads to %#x, %v", n, la, ok, pa, there)
		}
		shown[n] = la
		if _, ok := h.hide(la); !ok {
			t.Fatalf("%#x cannot be hidden", la)
		}
	}
	for n := uint64(end - windowSlots); n < end; n++ {
		if la, ok := h.show(memMap + size*n); !ok || la != shown[n] {
			t.Fatalf("page %#x at %#x, before at %#x", n, la, shown[n])
		}
	}
	if len(h.slotOf) != windowSlots {
		t.Errorf("%d slots", len(h.slotOf))
	}
	// A page that the file does not have.
	m.pages[first] = nil
	if la, ok := h.show(memMap + size*first); !ok {
		t.Error("a page that is not there has no address")
	} else if _, there := s.translate(la); there {
		t.Error("a page that is not there can be read")
	}
}
