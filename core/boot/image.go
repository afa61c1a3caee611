package boot

import (
	"bytes"
	"errors"
	"fmt"
)

// Format is a kind of kernel image.
type Format uint8

// Kernel image formats.
const (
	BzImage Format = iota
	ELF
	Multiboot
)

// String returns the format's name.
func (f Format) String() string {
	switch f {
	case BzImage:
		return "bzImage"
	case ELF:
		return "ELF"
	case Multiboot:
		return "multiboot"
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// Errors that Parse and the methods of Image wrap.
var (
	ErrNotKernel = errors.New("not a kernel image that emu can boot (a Linux bzImage, an ELF executable or a multiboot image)")
	ErrTruncated = errors.New("the kernel image is truncated")
)

// Image is a parsed kernel image. It keeps the bytes it was parsed from and does not change them.
type Image struct {
	Format  Format
	Bits    int    // 32 or 64: the state in which the kernel is entered
	Version string // what a bzImage says of itself ("6.1.0-56-cloud-amd64 (debian-kernel@...) #1 SMP ..."), or ""

	data     []byte
	setup    *setupHeader // of a bzImage, or of the bzImage that a direct image was unpacked from
	segments []segment    // ELF and multiboot
	entry    uint64
	mbFlags  uint32
	relocs   relocations // of a direct image
}

// segment is a piece of an image at a physical address; memory past the data is zero.
type segment struct {
	base    uint64
	vaddr   uint64 // where it is linked to run
	data    []byte
	memSize uint64
}

// Parse recognises a kernel image. It never panics and allocates little, whatever the bytes are.
func Parse(image []byte) (*Image, error) {
	switch {
	case len(image) == 0:
		return nil, fmt.Errorf("the kernel image is empty: %w", ErrTruncated)
	case isBzImage(image):
		return parseBzImage(image)
	}
	if im, err := parseMultiboot(image); im != nil || err != nil {
		return im, err
	}
	if bytes.HasPrefix(image, []byte(elfMagic)) {
		return parseELF(image)
	}
	if what := guess(image); what != "" {
		return nil, fmt.Errorf("this is %s, %w", what, ErrNotKernel)
	}
	return nil, ErrNotKernel
}

// guess names files that are easily mistaken for a kernel.
func guess(b []byte) string {
	has := func(off int, s string) bool { return len(b) >= off+len(s) && string(b[off:off+len(s)]) == s }
	switch {
	case has(0, "\x1f\x8b"):
		return "a gzip file (an initrd?)"
	case has(0, "070701"), has(0, "070702"):
		return "a cpio archive (an initrd?)"
	case has(0, "!<arch>\ndebian"):
		return "a Debian package (unpack it first)"
	case has(0, "QFI\xfb"):
		return "a qcow2 disk image"
	case has(510, "\x55\xaa"):
		return "a disk image or boot sector, or a Linux kernel older than protocol 2.00"
	case has(0x38, "ARM\x64"):
		return "an arm64 kernel"
	}
	return ""
}

// Window returns the physical addresses that the kernel needs as RAM where it is, from loading until it runs: what a
// memory layout must give it (memory.Disjoint). The end is exclusive.
func (im *Image) Window() (base, end uint64) {
	if im.Format == BzImage {
		return im.setup.window()
	}
	base = ^uint64(0)
	for _, s := range im.segments {
		if s.base >= 0x100000 || s.base+s.memSize > 0x100000 {
			base = min(base, s.base)
		}
		end = max(end, s.base+s.memSize)
	}
	if base > end {
		base = end
	}
	if im.setup != nil {
		// The kernel's brk area follows its image and is not in the ELF's sizes.
		_, e := im.setup.window()
		end = max(end, e)
	}
	return base, end
}
