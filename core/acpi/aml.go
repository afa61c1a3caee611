package acpi

import (
	"encoding/binary"
	"slices"
	"strings"
)

// AML terms are byte slices. Opcodes are in ACPI 6.4, 20.3.

func cat(terms ...[]byte) []byte { return slices.Concat(terms...) }

// packaged puts a package length before body (20.2.4). The length counts its own bytes.
func packaged(op, body []byte) []byte {
	n := len(body)
	var l []byte
	switch {
	case n+1 < 1<<6:
		l = []byte{byte(n + 1)}
	case n+2 < 1<<12:
		n += 2
		l = []byte{1<<6 | byte(n&0xf), byte(n >> 4)}
	case n+3 < 1<<20:
		n += 3
		l = []byte{2<<6 | byte(n&0xf), byte(n >> 4), byte(n >> 12)}
	default:
		n += 4
		l = []byte{3<<6 | byte(n&0xf), byte(n >> 4), byte(n >> 12), byte(n >> 20)}
	}
	return cat(op, l, body)
}

// path encodes a name string such as `\_SB.PCI0` (20.2.2). Segments are filled up with underscores.
func path(s string) []byte {
	var out []byte
	for len(s) > 0 && (s[0] == '\\' || s[0] == '^') {
		out = append(out, s[0])
		s = s[1:]
	}
	segs := strings.Split(s, ".")
	switch len(segs) {
	case 1:
	case 2:
		out = append(out, 0x2e)
	default:
		out = append(out, 0x2f, byte(len(segs)))
	}
	for _, seg := range segs {
		out = append(out, (seg + "____")[:4]...)
	}
	return out
}

func integer(v uint64) []byte {
	switch {
	case v <= 1:
		return []byte{byte(v)}
	case v < 1<<8:
		return []byte{0x0a, byte(v)}
	case v < 1<<16:
		return binary.LittleEndian.AppendUint16([]byte{0x0b}, uint16(v))
	case v < 1<<32:
		return binary.LittleEndian.AppendUint32([]byte{0x0c}, uint32(v))
	}
	return binary.LittleEndian.AppendUint64([]byte{0x0e}, v)
}

func text(s string) []byte { return cat([]byte{0x0d}, []byte(s), []byte{0}) }

// eisaID is a seven-character PNP identifier as an integer (19.3.4).
func eisaID(s string) []byte {
	v := uint32(s[0]-0x40)<<26 | uint32(s[1]-0x40)<<21 | uint32(s[2]-0x40)<<16
	for i := range 4 {
		v |= uint32(strings.IndexByte("0123456789ABCDEF", s[3+i])) << (12 - 4*i)
	}
	b := binary.BigEndian.AppendUint32(nil, v)
	return append([]byte{0x0c}, b...)
}

func scope(name string, body ...[]byte) []byte {
	return packaged([]byte{0x10}, cat(path(name), cat(body...)))
}

func object(name string, body ...[]byte) []byte {
	return packaged([]byte{0x5b, 0x82}, cat(path(name), cat(body...)))
}

func named(name string, value []byte) []byte { return cat([]byte{0x08}, path(name), value) }

// method is a not serialised method with a number of arguments.
func method(name string, args byte, body ...[]byte) []byte {
	return packaged([]byte{0x14}, cat(path(name), []byte{args}, cat(body...)))
}

func tuple(elements ...[]byte) []byte {
	return packaged([]byte{0x12}, cat([]byte{byte(len(elements))}, cat(elements...)))
}

func when(condition []byte, body ...[]byte) []byte {
	return packaged([]byte{0xa0}, cat(condition, cat(body...)))
}

func give(v []byte) []byte { return cat([]byte{0xa4}, v) }

func store(v, to []byte) []byte { return cat([]byte{0x70}, v, to) }

var arg0 = []byte{0x68}

// resources is a resource template: a buffer of descriptors with an end tag (6.4.2.9).
func resources(d ...[]byte) []byte {
	b := append(cat(d...), 0x79, 0)
	return packaged([]byte{0x11}, cat(integer(uint64(len(b))), b))
}

// ports is an I/O port descriptor with 16-bit decoding (6.4.2.5).
func ports(first uint16, count byte) []byte {
	return []byte{0x47, 1, byte(first), byte(first >> 8), byte(first), byte(first >> 8), 1, count}
}

// edge is an IRQ descriptor of an edge-triggered, high, exclusive interrupt (6.4.2.1).
func edge(irq int) []byte { return binary.LittleEndian.AppendUint16([]byte{0x22}, 1<<irq) }

// Resource types of address space descriptors (6.4.3.5).
const (
	spaceMemory = 0
	spaceIO     = 1
	spaceBus    = 2
	fixedRange  = 0x0c // minimum and maximum are fixed; the range is produced
)

// wordRange is a word address space descriptor.
func wordRange(space, flags byte, first, last uint16) []byte {
	b := []byte{0x88, 13, 0, space, fixedRange, flags}
	for _, v := range []uint16{0, first, last, 0, last - first + 1} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return b
}

// dwordRange is a double word address space descriptor.
func dwordRange(space, flags byte, first, last uint32) []byte {
	b := []byte{0x87, 23, 0, space, fixedRange, flags}
	for _, v := range []uint32{0, first, last, 0, last - first + 1} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}
