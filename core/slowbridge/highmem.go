package slowbridge

import (
	"fmt"

	"github.com/hybridbridge/emu/cpu"
)

// highmem shows pages of the snapshot for which a 32-bit kernel has no address of its own, since its direct map ends below
// them. The kernel maps such a page for a moment (Documentation/mm/highmem.rst), in tables of the trusted VM; one of the
// snapshot gets an address in the gap that is behind every direct map (VMALLOC_OFFSET), where neither machine has anything.
type highmem struct {
	space        *space
	memMap, page uint64 // the array of struct page, and how large one is
	first, end   uint64 // numbers of the pages
	window       uint64
	next         uint64 // slot to be used next
	slots        [windowSlots]uint64
	slotOf       map[uint64]uint64
}

// windowSlots is how many pages are shown at a time, of the 2048 that have room: a kernel holds a few of them at a time.
const windowSlots = 1024

// hookHighmem adds the hooks of highmem, if the snapshot has such pages.
func (b *Bridge) hookHighmem(hooks map[uint64]cpu.Hook) error {
	if b.types.word != 4 {
		return nil
	}
	m := &highmem{space: b.space, slotOf: map[uint64]uint64{}}
	for name, to := range map[string]*uint64{"mem_map": &m.memMap, "max_low_pfn": &m.first, "max_pfn": &m.end, "high_memory": &m.window} {
		at, ok := b.symbols.Address(name)
		if ok {
			*to, ok = b.word(at)
		}
		if !ok {
			return fmt.Errorf("the snapshot's %s cannot be read", name)
		}
	}
	var err error
	if m.page, err = b.types.sizeof("page"); err != nil || m.end <= m.first {
		return err
	}
	for name, answer := range map[string]func(uint64) (uint64, bool){
		"__kmap_local_page_prot": m.show, "kmap_high": m.show, "page_address": m.show,
		"kunmap_high": m.hide, "kunmap_local_indexed": m.hide,
	} {
		if at, ok := b.symbols.Address(name); ok {
			hooks[at] = cpu.Hook{Kind: cpu.HookAnswer, Answer: answer}
		}
	}
	return nil
}

// show returns the address of what the struct page at an address stands for; ok is false if it has one of its own.
func (m *highmem) show(page uint64) (la uint64, ok bool) {
	n := (page - m.memMap) / m.page
	if page < m.memMap || n < m.first || n >= m.end || (page-m.memMap)%m.page != 0 {
		return 0, false
	}
	slot, ok := m.slotOf[n]
	if !ok {
		slot = m.next
		m.next = (slot + 1) % windowSlots
		delete(m.slotOf, m.slots[slot])
		m.slots[slot], m.slotOf[n] = n, slot
		m.space.pages[m.window>>12+slot] = 0
		if pa := Base + n<<12; m.space.mem.Page(pa) != nil {
			m.space.pages[m.window>>12+slot] = pa
		}
	}
	return m.window + slot<<12, true
}

// hide ends what show has begun; the page keeps its address as long as there is room.
func (m *highmem) hide(shown uint64) (zero uint64, ok bool) {
	if shown-m.window < windowSlots<<12 {
		return 0, true
	}
	_, ok = m.show(shown)
	return 0, ok
}
