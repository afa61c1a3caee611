package boot

import (
	"encoding/binary"
	"fmt"
)

const (
	elfMagic = "\x7fELF"
	em386    = 3
	emX86_64 = 62
	ptLoad   = 1
	ptInterp = 3
)

// parseELF reads the program headers of a static executable (System V ABI, chapter 5). Only what is loaded is looked
// at; section headers may be missing or wrong.
func parseELF(b []byte) (*Image, error) {
	const eiClass, eiData = 4, 5
	if len(b) < 52 {
		return nil, fmt.Errorf("ELF: %d bytes hold no header: %w", len(b), ErrTruncated)
	}
	if b[eiData] != 1 {
		return nil, fmt.Errorf("ELF: big-endian: %w", ErrNotKernel)
	}
	le := binary.LittleEndian
	wide := b[eiClass] == 2
	if !wide && b[eiClass] != 1 {
		return nil, fmt.Errorf("ELF: class %d: %w", b[eiClass], ErrNotKernel)
	}
	if wide && len(b) < 64 {
		return nil, fmt.Errorf("ELF: %d bytes hold no header: %w", len(b), ErrTruncated)
	}
	typ, machine := le.Uint16(b[16:]), le.Uint16(b[18:])
	if machine != em386 && machine != emX86_64 {
		return nil, fmt.Errorf("ELF: for machine %d, not x86: %w", machine, ErrNotKernel)
	}
	if typ != 2 && typ != 3 {
		return nil, fmt.Errorf("ELF: type %d, not an executable: %w", typ, ErrNotKernel)
	}
	im := &Image{Format: ELF, Bits: 32, data: b}
	var phoff uint64
	var phentsize, phnum int
	if wide {
		if machine == emX86_64 {
			im.Bits = 64
		}
		im.entry, phoff = le.Uint64(b[24:]), le.Uint64(b[32:])
		phentsize, phnum = int(le.Uint16(b[54:])), int(le.Uint16(b[56:]))
	} else {
		im.entry, phoff = uint64(le.Uint32(b[24:])), uint64(le.Uint32(b[28:]))
		phentsize, phnum = int(le.Uint16(b[42:])), int(le.Uint16(b[44:]))
	}
	need := 32
	if wide {
		need = 56
	}
	if phnum == 0 || phentsize < need {
		return nil, fmt.Errorf("ELF: has no program headers: %w", ErrNotKernel)
	}
	if phoff > uint64(len(b)) || uint64(phentsize)*uint64(phnum) > uint64(len(b))-phoff {
		return nil, fmt.Errorf("ELF: program headers at %#x are past the end of the file (%#x): %w", phoff, len(b), ErrTruncated)
	}
	entry, entryOK := im.entry, false
	for i := range phnum {
		p := b[phoff+uint64(i*phentsize):]
		var off, vaddr, paddr, filesz, memsz uint64
		if wide {
			off, vaddr, paddr, filesz, memsz = le.Uint64(p[8:]), le.Uint64(p[16:]), le.Uint64(p[24:]), le.Uint64(p[32:]), le.Uint64(p[40:])
		} else {
			off, vaddr, paddr, filesz, memsz = uint64(le.Uint32(p[4:])), uint64(le.Uint32(p[8:])), uint64(le.Uint32(p[12:])), uint64(le.Uint32(p[16:])), uint64(le.Uint32(p[20:]))
		}
		switch t := le.Uint32(p); {
		case t == ptInterp:
			return nil, fmt.Errorf("ELF: a dynamically linked program: %w", ErrNotKernel)
		case t != ptLoad || memsz == 0:
			continue
		}
		if off > uint64(len(b)) || filesz > uint64(len(b))-off {
			return nil, fmt.Errorf("ELF: segment %d (%#x+%#x) is past the end of the file (%#x): %w", i, off, filesz, len(b), ErrTruncated)
		}
		if filesz > memsz || memsz > 1<<40 || paddr > 1<<46 {
			return nil, fmt.Errorf("ELF: segment %d: physical address %#x, %#x bytes of file for %#x of memory: %w", i, paddr, filesz, memsz, ErrNotKernel)
		}
		im.segments = append(im.segments, segment{base: paddr, vaddr: vaddr, data: b[off:][:filesz], memSize: memsz})
		// The entry is physical in Linux' and Xen's images, virtual in others.
		if entry-paddr < memsz {
			im.entry, entryOK = entry, true
		} else if entry-vaddr < memsz && !entryOK {
			im.entry, entryOK = entry-vaddr+paddr, true
		}
	}
	if len(im.segments) == 0 {
		return nil, fmt.Errorf("ELF: nothing to load: %w", ErrNotKernel)
	}
	if !entryOK {
		return nil, fmt.Errorf("ELF: entry point %#x is in no segment: %w", entry, ErrNotKernel)
	}
	if im.Bits == 32 && im.entry > 0xffffffff || im.entry >= identityGiB<<30 {
		return nil, fmt.Errorf("ELF: entry point %#x is above 4 GiB: %w", im.entry, ErrNotKernel)
	}
	return im, nil
}
