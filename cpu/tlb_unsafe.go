package cpu

import (
	"encoding/binary"
	"unsafe"
)

// The software TLB maps linear pages to host memory. It is direct-mapped, with separate arrays for reading and
// writing, so a hit proves that the access is allowed and needs no more than one compare. What must not be taken
// lightly is never entered: devices, pages under a data breakpoint and, for writing, pages with decoded code and
// pages that the guest's tables do not yet call dirty.
//
// A tag is the linear page number in the low 52 bits and the translation context in the top 12: two bits for the
// privilege of the access and ten for a generation. Each process-context identifier owns a generation while it is
// remembered, so a flush is a new generation and a switch of CR3 that keeps translations finds them again.
const (
	tlbBits  = 10
	tlbSize  = 1 << tlbBits
	tlbMask  = tlbSize - 1
	itlbSize = 1024
	itlbMask = itlbSize - 1

	pageMask = 0xfff
)

type tlbEntry struct {
	tag  uint64
	host unsafe.Pointer // first byte of the page
}

type itlbEntry struct {
	tag  uint64
	page *codePage
}

func (c *CPU) load8(la uint64) (uint8, bool) {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx {
		return *(*uint8)(unsafe.Add(e.host, la&pageMask)), true
	}
	v, ok := c.loadSlow(la, 1)
	return uint8(v), ok
}

func (c *CPU) load16(la uint64) (uint16, bool) {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-2 {
		return *(*uint16)(unsafe.Add(e.host, la&pageMask)), true
	}
	v, ok := c.loadSlow(la, 2)
	return uint16(v), ok
}

func (c *CPU) load32(la uint64) (uint32, bool) {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-4 {
		return *(*uint32)(unsafe.Add(e.host, la&pageMask)), true
	}
	v, ok := c.loadSlow(la, 4)
	return uint32(v), ok
}

func (c *CPU) load64(la uint64) (uint64, bool) {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-8 {
		return *(*uint64)(unsafe.Add(e.host, la&pageMask)), true
	}
	return c.loadSlow(la, 8)
}

// load128 reads 16 bytes, low quadword first. Alignment is the caller's business.
func (c *CPU) load128(la uint64) (v [2]uint64, ok bool) {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-16 {
		return *(*[2]uint64)(unsafe.Add(e.host, la&pageMask)), true
	}
	var buf [16]byte
	if !c.loadBytes(la, buf[:]) {
		return v, false
	}
	return [2]uint64{binary.LittleEndian.Uint64(buf[:]), binary.LittleEndian.Uint64(buf[8:])}, true
}

func (c *CPU) store8(la uint64, v uint8) bool {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx {
		*(*uint8)(unsafe.Add(e.host, la&pageMask)) = v
		return true
	}
	return c.storeSlow(la, 1, uint64(v))
}

func (c *CPU) store16(la uint64, v uint16) bool {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-2 {
		*(*uint16)(unsafe.Add(e.host, la&pageMask)) = v
		return true
	}
	return c.storeSlow(la, 2, uint64(v))
}

func (c *CPU) store32(la uint64, v uint32) bool {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-4 {
		*(*uint32)(unsafe.Add(e.host, la&pageMask)) = v
		return true
	}
	return c.storeSlow(la, 4, uint64(v))
}

func (c *CPU) store64(la uint64, v uint64) bool {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-8 {
		*(*uint64)(unsafe.Add(e.host, la&pageMask)) = v
		return true
	}
	return c.storeSlow(la, 8, v)
}

// store128 writes 16 bytes, low quadword first.
func (c *CPU) store128(la uint64, v [2]uint64) bool {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-16 {
		*(*[2]uint64)(unsafe.Add(e.host, la&pageMask)) = v
		return true
	}
	var buf [16]byte
	binary.LittleEndian.PutUint64(buf[:], v[0])
	binary.LittleEndian.PutUint64(buf[8:], v[1])
	return c.storeBytes(la, buf[:])
}

// probeWrite makes sure that size bytes at la can be written, so that a store that follows cannot stop.
func (c *CPU) probeWrite(la uint64, size uint8) bool {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag == la>>12|c.ctx && la&pageMask <= 0x1000-uint64(size) {
		return true
	}
	return c.probeWriteSlow(la, uint64(size))
}

// hostPage returns the memory of the page of la if the TLB has it, for reading or writing, else nil.
func (c *CPU) hostPage(la uint64, write bool) *[4096]byte {
	e := &c.tlbR[la>>12&tlbMask]
	if write {
		e = &c.tlbW[la>>12&tlbMask]
	}
	if e.tag != la>>12|c.ctx {
		return nil
	}
	return (*[4096]byte)(e.host)
}

// readable8 and its kin return the host memory of an operand that the TLB allows to read, or to write; nil if it does not
// or if the operand crosses into another page, whose number then is not that of the tag.

func (c *CPU) readable8(la uint64) *uint8 {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag != la>>12|c.ctx {
		return nil
	}
	return (*uint8)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) writable8(la uint64) *uint8 {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag != la>>12|c.ctx {
		return nil
	}
	return (*uint8)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) readable16(la uint64) *uint16 {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag != (la+1)>>12|c.ctx {
		return nil
	}
	return (*uint16)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) writable16(la uint64) *uint16 {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag != (la+1)>>12|c.ctx {
		return nil
	}
	return (*uint16)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) readable32(la uint64) *uint32 {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag != (la+3)>>12|c.ctx {
		return nil
	}
	return (*uint32)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) writable32(la uint64) *uint32 {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag != (la+3)>>12|c.ctx {
		return nil
	}
	return (*uint32)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) readable64(la uint64) *uint64 {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag != (la+7)>>12|c.ctx {
		return nil
	}
	return (*uint64)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) writable64(la uint64) *uint64 {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag != (la+7)>>12|c.ctx {
		return nil
	}
	return (*uint64)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) readable128(la uint64) *[2]uint64 {
	e := &c.tlbR[la>>12&tlbMask]
	if e.tag != (la+15)>>12|c.ctx {
		return nil
	}
	return (*[2]uint64)(unsafe.Add(e.host, la&pageMask))
}

func (c *CPU) writable128(la uint64) *[2]uint64 {
	e := &c.tlbW[la>>12&tlbMask]
	if e.tag != (la+15)>>12|c.ctx {
		return nil
	}
	return (*[2]uint64)(unsafe.Add(e.host, la&pageMask))
}

// fillRead enters the page that holds la, at physical address pa, into the array for reading.
func (c *CPU) fillRead(la, pa uint64, page *[4096]byte) {
	c.tlbR[la>>12&tlbMask] = tlbEntry{tag: la>>12 | c.ctx, host: unsafe.Pointer(page)}
	c.pfnR[la>>12&tlbMask] = pa >> 12
}

// fillWrite enters the page that holds la, at physical address pa, into the array for writing.
func (c *CPU) fillWrite(la, pa uint64, page *[4096]byte) {
	c.tlbW[la>>12&tlbMask] = tlbEntry{tag: la>>12 | c.ctx, host: unsafe.Pointer(page)}
	c.pfnW[la>>12&tlbMask] = pa >> 12
}

// forbidWrites takes a page out of the array for writing, since code has been decoded from it.
func (c *CPU) forbidWrites(page *[4096]byte) {
	for i := range c.tlbW {
		if c.tlbW[i].host == unsafe.Pointer(page) {
			c.tlbW[i].tag = 0
		}
	}
}

// word64 and word32 are aligned words of a page, for atomic access.
func word64(page *[4096]byte, off uint64) *uint64 {
	return (*uint64)(unsafe.Pointer(&page[off&^7&pageMask]))
}

func word32(page *[4096]byte, off uint64) *uint32 {
	return (*uint32)(unsafe.Pointer(&page[off&^3&pageMask]))
}
