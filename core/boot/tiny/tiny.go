// Package tiny makes multiboot guests of a few bytes, for tests of what surrounds a guest. They run in 32-bit protected
// mode without paging, interrupts or a stack.
package tiny

import (
	"encoding/binary"

	"github.com/hybridbridge/emu/core/device/acpipm"
)

// Base is where an image is loaded, and Entry where its first instruction is.
const (
	Base  = 0x100000
	Entry = Base + 32
)

// Code is a piece of machine code. Pieces are joined by Image.
type Code []byte

// Image makes an image that executes the pieces one after another.
func Image(pieces ...Code) []byte {
	const magic, addresses = 0x1badb002, 1 << 16
	var b []byte
	for _, v := range []uint32{
		magic, addresses, 1<<32 - (magic + addresses), // checksum
		Base, Base, 0, 0, Entry, // header, load address, load end, bss end, entry
	} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for _, p := range pieces {
		b = append(b, p...)
	}
	return b
}

// Out writes a byte to a port.
func Out(port uint16, v byte) Code {
	return Code{0x66, 0xba, byte(port), byte(port >> 8), 0xb0, v, 0xee} // mov dx,port; mov al,v; out dx,al
}

// Print writes s to the first serial port.
func Print(s string) Code {
	var c Code
	for i := range len(s) {
		c = append(c, Out(0x3f8, s[i])...)
	}
	return c
}

// PowerOff switches the machine off through ACPI.
func PowerOff() Code {
	const enable = 1 << 13
	const v = acpipm.SleepTypeS5<<10 | enable
	const port = acpipm.PortControl
	return Code{0x66, 0xba, port & 0xff, port >> 8, 0x66, 0xb8, v & 0xff, v >> 8, 0x66, 0xef} // out dx,ax
}

// Pieces of code.
var (
	Reset = Out(0x64, 0xfe)                     // the keyboard controller pulses the reset line
	Exit  = Out(0xf4, 3)                        // debug-exit port
	Halt  = Code{0xfa, 0xf4}                    // cli; hlt
	Idle  = append(Out(0x21, 0xff), 0xfb, 0xf4) // mask the PIC; sti; hlt
	Spin  = Code{0xeb, 0xfe}                    // jmp to itself
	UD2   = Code{0x0f, 0x0b}                    // without an IDT: a triple fault
	Stray = Code{                               // mov eax,0xd0000000; jmp eax: where there is no memory
		0xb8, 0, 0, 0, 0xd0, 0xff, 0xe0,
	}
	// Echo prints what is typed until it is a "q". First it sets RTS, without which nothing is sent to it.
	Echo = append(Out(0x3fc, 2), Code{
		0x66, 0xba, 0xfd, 0x03, // again: mov dx,0x3fd
		0xec,       // wait: in al,dx
		0xa8, 0x01, // test al,1
		0x74, 0xfb, // jz wait
		0x66, 0xba, 0xf8, 0x03, // mov dx,0x3f8
		0xec,      // in al,dx
		0xee,      // out dx,al
		0x3c, 'q', // cmp al,'q'
		0x75, 0xed, // jne again
	}...)
)

// Count decrements ECX from n to 0: 2n+1 instructions.
func Count(n uint32) Code {
	c := binary.LittleEndian.AppendUint32(Code{0xb9}, n) // mov ecx,n
	return append(c, 0x49, 0x75, 0xfd)                   // again: dec ecx; jnz again
}

// Store writes v to the 32-bit word at addr.
func Store(addr, v uint32) Code {
	c := binary.LittleEndian.AppendUint32(Code{0xc7, 0x05}, addr) // mov dword [addr],v
	return binary.LittleEndian.AppendUint32(c, v)
}

// Scramble fills n bytes at addr, a multiple of 4, with numbers that do not compress.
func Scramble(addr, n uint32) Code {
	c := binary.LittleEndian.AppendUint32(Code{0xbf}, addr)    // mov edi,addr
	c = binary.LittleEndian.AppendUint32(append(c, 0xb9), n/4) // mov ecx,n/4
	return append(c, 0xb8, 1, 0, 0, 0,                         // mov eax,1
		0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00, // again: imul eax,eax,0x19660d
		0x05, 0x5f, 0xf3, 0x6e, 0x3c, // add eax,0x3c6ef35f
		0x89, 0xc3, 0xc1, 0xcb, 0x10, // mov ebx,eax; ror ebx,16
		0x89, 0x1f, 0x83, 0xc7, 0x04, // mov [edi],ebx; add edi,4
		0x49, 0x75, 0xe8) // dec ecx; jnz again
}
