//go:build linux && amd64

package oracle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unsafe"
)

// blobAddr returns where the child's program lies in this program.
func blobAddr() unsafe.Pointer

// blob is the child's program; it is never called here.
//
//lint:ignore U1000 the assembler's function wants a declaration
func blob()

// blobCode returns the bytes of the child's program.
func blobCode() ([]byte, error) {
	code := unsafe.Slice((*byte)(blobAddr()), 2048)
	end := bytes.Index(code, bytes.Repeat([]byte{0x0f, 0xff}, 4))
	if end < 0 {
		return nil, errors.New("oracle: the child's program has no end")
	}
	return code[:end], nil
}

const elfHeaders = 64 + 2*56

// childELF returns a static ELF executable of the child's program: one page that is mapped at blobBase. At endAddress
// and signalAddress it jumps to the program's entry points.
func childELF() ([]byte, error) {
	code, err := blobCode()
	if err != nil {
		return nil, err
	}
	// The program begins with three jumps, in the assembler's choice of size.
	var entry [3]uint32
	at := 0
	for i := range entry {
		entry[i] = uint32(elfHeaders + at)
		switch code[at] {
		case 0xeb:
			at += 2
		case 0xe9:
			at += 5
		default:
			return nil, errors.New("oracle: the child's program does not begin with jumps")
		}
	}
	if elfHeaders+len(code) > endAddress-blobBase {
		return nil, errors.New("oracle: the child's program is too long")
	}
	le := binary.LittleEndian
	page := make([]byte, pageSize)
	copy(page, "\x7fELF\x02\x01\x01")                  // 64-bit, little-endian
	le.PutUint16(page[16:], 2)                         // ET_EXEC
	le.PutUint16(page[18:], 62)                        // EM_X86_64
	le.PutUint32(page[20:], 1)                         // EV_CURRENT
	le.PutUint64(page[24:], blobBase+uint64(entry[0])) // entry
	le.PutUint64(page[32:], 64)                        // program headers
	le.PutUint16(page[52:], 64)
	le.PutUint16(page[54:], 56)
	le.PutUint16(page[56:], 2)
	load := page[64:]
	le.PutUint32(load, 1)     // PT_LOAD
	le.PutUint32(load[4:], 5) // readable, executable
	le.PutUint64(load[16:], blobBase)
	le.PutUint64(load[24:], blobBase)
	le.PutUint64(load[32:], pageSize)
	le.PutUint64(load[40:], pageSize)
	le.PutUint64(load[48:], pageSize)
	stack := page[64+56:]
	le.PutUint32(stack, 0x6474e551) // PT_GNU_STACK
	le.PutUint32(stack[4:], 6)      // not executable
	copy(page[elfHeaders:], code)
	jump := func(from uint32, to uint32) {
		page[from] = 0xe9
		le.PutUint32(page[from+1:], to-(from+5))
	}
	jump(endAddress-blobBase, entry[1])
	jump(signalAddress-blobBase, entry[2])
	return page, nil
}
