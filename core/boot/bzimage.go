package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Offsets into the first sectors of a bzImage and into boot_params, where the header is copied to the same place
// (boot.rst, "Details of Header Fields"; zero-page.rst).
const (
	bpACPIRSDP      = 0x070
	bpExtRamdisk    = 0x0c0
	bpExtRamdiskLen = 0x0c4
	bpExtCmdLine    = 0x0c8
	bpAltMemK       = 0x1e0
	bpE820Entries   = 0x1e8
	hdrStart        = 0x1f1
	hdrSyssize      = 0x1f4
	hdrVidMode      = 0x1fa
	hdrBootFlag     = 0x1fe
	hdrJump         = 0x200
	hdrMagic        = 0x202
	hdrVersion      = 0x206
	hdrKernelVer    = 0x20e
	hdrLoader       = 0x210
	hdrLoadFlags    = 0x211
	hdrCode32       = 0x214
	hdrRamdisk      = 0x218
	hdrRamdiskLen   = 0x21c
	hdrCmdLine      = 0x228
	hdrInitrdMax    = 0x22c
	hdrAlignment    = 0x230
	hdrRelocatable  = 0x234
	hdrXLoadFlags   = 0x236
	hdrCmdLineSize  = 0x238
	hdrPayloadOff   = 0x248
	hdrPayloadLen   = 0x24c
	hdrPrefAddress  = 0x258
	hdrInitSize     = 0x260
	hdrEnd          = 0x268
	bpE820          = 0x2d0
	bpSize          = 4096

	maxE820 = 128

	loadedHigh    = 1 << 0 // loadflags
	kaslrFlag     = 1 << 1
	xlfKernel64   = 1 << 0 // xloadflags
	xlfAbove4G    = 1 << 1
	xlf5Level     = 1<<5 | 1<<6 // knows 5-level paging, and has it enabled
	entry64Offset = 0x200
)

// setupHeader is what loading needs of the header, with defaults for fields that an older protocol lacks.
type setupHeader struct {
	raw         []byte // from hdrStart to the header's end
	protocol    uint16
	system      int // file offset of the protected-mode code
	initrdMax   uint64
	alignment   uint64
	relocatable bool
	xloadflags  uint16
	cmdLineSize uint64
	payload     []byte
	prefAddress uint64
	initSize    uint64
	systemSize  uint64
}

func isBzImage(b []byte) bool {
	return len(b) >= hdrMagic+4 && string(b[hdrMagic:hdrMagic+4]) == "HdrS"
}

func parseBzImage(b []byte) (*Image, error) {
	if len(b) < hdrEnd {
		return nil, fmt.Errorf("bzImage: %d bytes hold no setup header: %w", len(b), ErrTruncated)
	}
	le := binary.LittleEndian
	u16 := func(o int) uint16 { return le.Uint16(b[o:]) }
	u32 := func(o int) uint32 { return le.Uint32(b[o:]) }
	if f := u16(hdrBootFlag); f != 0xaa55 {
		return nil, fmt.Errorf("bzImage: boot flag is %#04x, want 0xaa55: %w", f, ErrNotKernel)
	}
	h := &setupHeader{protocol: u16(hdrVersion)}
	if h.protocol < 0x206 {
		return nil, fmt.Errorf("bzImage: boot protocol %d.%02d is too old: 2.06 (Linux 2.6.22) or later is needed", h.protocol>>8, h.protocol&0xff)
	}
	if b[hdrLoadFlags]&loadedHigh == 0 {
		return nil, fmt.Errorf("bzImage: a zImage (loaded below 1 MiB) is not supported")
	}
	sects := int(b[hdrStart])
	if sects == 0 {
		sects = 4
	}
	h.system = (sects + 1) * 512
	h.systemSize = uint64(u32(hdrSyssize)) * 16
	if h.system >= len(b) || h.systemSize == 0 {
		return nil, fmt.Errorf("bzImage: %d bytes end before the kernel's code at %d: %w", len(b), h.system, ErrTruncated)
	}
	// The last paragraph may be partly missing: build tools before 6.x rounded syssize up.
	if have := uint64(len(b) - h.system); h.systemSize > have+15 {
		return nil, fmt.Errorf("bzImage: has %d of %d bytes of kernel: %w", have, h.systemSize, ErrTruncated)
	}
	h.systemSize = min(h.systemSize, uint64(len(b)-h.system))
	end := min(hdrMagic+int(b[hdrJump+1]), h.system)
	h.raw = b[hdrStart:max(end, hdrCmdLineSize+4)]
	h.cmdLineSize = uint64(u32(hdrCmdLineSize))
	h.initrdMax = uint64(u32(hdrInitrdMax))
	h.alignment = uint64(u32(hdrAlignment))
	h.relocatable = b[hdrRelocatable] != 0
	if h.alignment == 0 || h.alignment&(h.alignment-1) != 0 || h.alignment > 1<<30 {
		if h.relocatable {
			return nil, fmt.Errorf("bzImage: kernel_alignment %#x is not a power of two: %w", h.alignment, ErrNotKernel)
		}
		h.alignment = 4096
	}
	h.prefAddress = 0x100000
	if h.protocol >= 0x208 {
		off, n := uint64(u32(hdrPayloadOff)), uint64(u32(hdrPayloadLen))
		if off > h.systemSize || n > h.systemSize-off {
			return nil, fmt.Errorf("bzImage: payload %#x+%#x lies outside the kernel's %#x bytes: %w", off, n, h.systemSize, ErrTruncated)
		}
		h.payload = b[h.system:][off:][:n]
	}
	if h.protocol >= 0x20a {
		h.prefAddress = le.Uint64(b[hdrPrefAddress:])
		h.initSize = uint64(u32(hdrInitSize))
	} else {
		h.initSize = 5 * h.systemSize // a guess: these kernels don't tell
	}
	if h.prefAddress < 0x100000 || h.prefAddress > 1<<40 {
		return nil, fmt.Errorf("bzImage: preferred address %#x: %w", h.prefAddress, ErrNotKernel)
	}
	if h.protocol >= 0x20c {
		h.xloadflags = u16(hdrXLoadFlags)
	}
	im := &Image{Format: BzImage, Bits: 32, data: b, setup: h}
	if h.xloadflags&xlfKernel64 != 0 {
		im.Bits = 64
		if h.systemSize < entry64Offset {
			return nil, fmt.Errorf("bzImage: has no 64-bit entry point: %w", ErrTruncated)
		}
	}
	if o := int(u16(hdrKernelVer)) + 0x200; o > 0x200 && o < h.system {
		v := b[o:min(o+256, h.system)]
		if i := bytes.IndexByte(v, 0); i >= 0 {
			v = v[:i]
		}
		im.Version = string(v)
	}
	return im, nil
}

// window is the memory that the decompressor works in: init_size bytes from where the kernel is to run.
func (h *setupHeader) window() (base, end uint64) {
	return h.prefAddress, h.prefAddress + max(h.initSize, h.systemSize)
}

// Protocol returns the boot protocol version of a bzImage as in its header (0x20f is 2.15), 0 for other images.
func (im *Image) Protocol() uint16 {
	if im.setup == nil {
		return 0
	}
	return im.setup.protocol
}
