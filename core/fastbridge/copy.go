package fastbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/cpu/isa"
)

// textCopy is the kernel's image once more, delta bytes higher, in all address spaces: its data are the same memory, and its text is what
// local functions were seen to execute, and int3. Since code and data keep their distance, and the processor's stack and registers are the
// same, a local function runs in it as it does in the kernel's own text, while a view is in force. What is not there, and all
// exceptions and interrupts, take it to the kernel's own address space, where it goes on in the original, and in the copy when it
// returns there.
type textCopy struct {
	delta uint64 // 0 if there is no copy
	pages map[uint64]*codePage
	tops  map[uint64]*table // page tables of text, by the address of their first page
	// stays is the first instruction of a function that must not run in the copy: it changes address spaces.
	stays uint64
}

// copyEnd is where the copy ends at most: the upper part of the modules' area, of which the kernel uses the lower.
const copyEnd = 0xfffffffff0000000

// makeCopy maps the copy by the table that maps the last GiB, with int3 for text.
func (b *Bridge) makeCopy() error {
	b.copy.pages, b.copy.tops = map[uint64]*codePage{}, map[uint64]*table{}
	b.copy.stays = b.symbol("__schedule")
	const step = 1 << 21
	lo, hi := b.text.Lo&^(step-1), (b.symbol("_end")+step-1)&^(step-1)
	// Under page-table isolation int3 in a program would not find the monitor.
	if b.cfg.ExitSwitching || b.cfg.Kernel.PTI || b.copy.stays == 0 || hi <= lo || hi-lo > 256<<20 {
		return nil
	}
	delta := copyEnd - hi
	for la := lo + delta; la < copyEnd; la += step {
		if b.last.get(index(la, 2)) != 0 {
			return nil // a kernel with many modules, whose local functions run in its own address space
		}
	}
	for la := lo; la < hi; la += step {
		entry, ok := b.mem.directory(b.clean, b.levels, la)
		if !ok {
			continue
		}
		if la < b.text.Hi && la+step > b.text.Lo {
			t, err := b.tables.table(1, b.last)
			if err != nil {
				return err
			}
			b.tables.fill(t, entry)
			for page := max(la, b.text.Lo&^0xfff); page < min(la+step, b.text.Hi); page += 4096 {
				t.set(index(page, 1), b.poison|codeFlags)
			}
			b.copy.tops[la] = t
			entry = t.pa | tableFlags
		}
		b.last.set(index(la+delta, 2), entry)
	}
	if !b.guardCopy() {
		return nil
	}
	b.copy.delta = delta
	b.put(monitor.Text, b.text.Lo)
	b.put(monitor.TextSize, b.text.Hi-b.text.Lo)
	b.put(monitor.Copy, b.text.Lo+delta)
	b.put(monitor.CopyDelta, delta)
	return nil
}

// exposeCopy puts an instruction into the copy that was executed in a local function.
func (b *Bridge) exposeCopy(a uint64, code []byte) error {
	if b.copy.delta == 0 || a < b.text.Lo || a+uint64(len(code)) > b.text.Hi || a == b.copy.stays {
		return nil
	}
	first, err := b.copyPage(a &^ 0xfff)
	if err != nil || first.code[a&0xfff] != int3 {
		return err
	}
	if op := twoByte(code); op == moveFromCR || op == moveToCR {
		return nil // control registers are the view's here
	}
	const gs = 0x65
	if bytes.IndexByte(code, gs) >= 0 {
		in, err := isa.Decode(code, isa.Mode64, b.vm.CPUConfig().Features)
		if err != nil {
			return fmt.Errorf("fastbridge: the instruction at %s: %w", b.format(a), err)
		}
		if in.Seg == isa.GS && in.Base == isa.RegRIP {
			e, ok := split(&in, code)
			if !ok {
				return nil
			}
			at := len(code) - len(e.rest) - 4
			code = bytes.Clone(code)
			binary.LittleEndian.PutUint32(code[at:], binary.LittleEndian.Uint32(code[at:])-uint32(b.copy.delta))
		}
	}
	return b.putCopy(a, code)
}

// putCopy puts code into the copy, at an address of the original.
func (b *Bridge) putCopy(a uint64, code []byte) error {
	for len(code) > 0 {
		p, err := b.copyPage(a &^ 0xfff)
		if err != nil {
			return err
		}
		n := copy(p.code[a&0xfff:], code)
		b.vm.Memory().Written(p.pa+a&0xfff, n)
		code, a = code[n:], a+uint64(n)
	}
	return nil
}

// copyPage returns the copy's code at a page of the original.
func (b *Bridge) copyPage(la uint64) (*codePage, error) {
	if p := b.copy.pages[la]; p != nil {
		return p, nil
	}
	t := b.copy.tops[la&^(1<<21-1)]
	if t == nil {
		return nil, fmt.Errorf("fastbridge: %s is not in the kernel's text", b.format(la))
	}
	p, err := b.poisoned()
	if err != nil {
		return nil, err
	}
	b.copy.pages[la] = p
	t.set(index(la, 1), p.pa|codeFlags)
	return p, nil
}
