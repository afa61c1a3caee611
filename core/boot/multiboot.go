package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Multiboot Specification 0.6.96, section 3.
const (
	mbMagic      = 0x1badb002
	mbBootMagic  = 0x2badb002
	mbSearch     = 8192
	mbPageAlign  = 1 << 0
	mbMemInfo    = 1 << 1
	mbVideo      = 1 << 2
	mbAddresses  = 1 << 16
	mbInfoMem    = 1 << 0
	mbInfoCmd    = 1 << 2
	mbInfoMods   = 1 << 3
	mbInfoMap    = 1 << 6
	mbInfoLoader = 1 << 9
	mbInfoSize   = 120
)

// parseMultiboot returns nil and no error if b has no multiboot header.
func parseMultiboot(b []byte) (*Image, error) {
	le := binary.LittleEndian
	for o := 0; o+12 <= min(len(b), mbSearch); o += 4 {
		if le.Uint32(b[o:]) != mbMagic || le.Uint32(b[o:])+le.Uint32(b[o+4:])+le.Uint32(b[o+8:]) != 0 {
			continue
		}
		flags := le.Uint32(b[o+4:])
		if bad := flags & 0xffff &^ (mbPageAlign | mbMemInfo); bad != 0 {
			if bad == mbVideo {
				return nil, fmt.Errorf("multiboot: the image insists on a video mode, and there is no display")
			}
			return nil, fmt.Errorf("multiboot: the image insists on unknown features (flags %#x)", bad)
		}
		im := &Image{Format: Multiboot, Bits: 32, data: b, mbFlags: flags}
		if flags&mbAddresses == 0 {
			if !bytes.HasPrefix(b, []byte(elfMagic)) {
				return nil, fmt.Errorf("multiboot: the header at %#x gives no addresses and the file is not ELF: %w", o, ErrNotKernel)
			}
			e, err := parseELF(b)
			if err != nil {
				return nil, fmt.Errorf("multiboot: %w", err)
			}
			im.segments, im.entry = e.segments, e.entry
		} else if err := im.mbLoadAddresses(b, o); err != nil {
			return nil, err
		}
		if im.entry > 0xffffffff {
			return nil, fmt.Errorf("multiboot: entry point %#x is above 4 GiB: %w", im.entry, ErrNotKernel)
		}
		return im, nil
	}
	return nil, nil
}

// mbLoadAddresses reads the address fields ("a.out kludge") of the header at offset o.
func (im *Image) mbLoadAddresses(b []byte, o int) error {
	if len(b) < o+32 {
		return fmt.Errorf("multiboot: header at %#x: %w", o, ErrTruncated)
	}
	le := binary.LittleEndian
	header, load, loadEnd := uint64(le.Uint32(b[o+12:])), uint64(le.Uint32(b[o+16:])), uint64(le.Uint32(b[o+20:]))
	bssEnd, entry := uint64(le.Uint32(b[o+24:])), uint64(le.Uint32(b[o+28:]))
	if load > header || header-load > uint64(o) {
		return fmt.Errorf("multiboot: load address %#x does not fit header address %#x at file offset %#x: %w", load, header, o, ErrNotKernel)
	}
	start := uint64(o) - (header - load)
	if loadEnd == 0 {
		loadEnd = load + uint64(len(b)) - start
	}
	if loadEnd < load || loadEnd-load > uint64(len(b))-start {
		return fmt.Errorf("multiboot: loads %#x-%#x but the file has %#x bytes: %w", load, loadEnd, len(b), ErrTruncated)
	}
	bssEnd = max(bssEnd, loadEnd)
	if entry < load || entry >= bssEnd {
		return fmt.Errorf("multiboot: entry point %#x is outside %#x-%#x: %w", entry, load, bssEnd, ErrNotKernel)
	}
	im.segments = []segment{{base: load, data: b[start:][:loadEnd-load], memSize: bssEnd - load}}
	im.entry = entry
	return nil
}
