package legacytest

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"strings"
)

//go:generate nasm -f bin guest/cases.asm -i guest -o guest/cases.bin
//go:generate nasm -f bin guest/rom.asm -o guest/rom.bin

var (
	//go:embed guest/cases.bin
	monitor []byte
	//go:embed guest/rom.bin
	firmware []byte
)

// The memory that a case may use: its code, and three segments of which the monitor restores and hashes three windows
// of 256 bytes each.
const (
	codeBase  = 0x20000
	dataBase  = 0x30000
	stackBase = 0x40000
	extraBase = 0x50000

	windowSize = 256
	numWindows = 9
	gdtSize    = 512
	ldtSize    = 64
	dumpSize   = numWindows*windowSize + gdtSize + ldtSize
)

// windows are the offsets of the windows in each segment.
var windows = [3]uint32{0, 0x7f80, 0xff00}

// Ways to enter a case.
const (
	kindProtected = iota
	kindVM86
	kindReal
	kindLong // compatibility mode
)

// Case is one instruction with the state before it, as the monitor reads it.
type Case struct {
	Kind, Paging uint8
	EFLAGS       uint32
	GPR          [8]uint32
	EIP          uint32
	CS, SS       uint16
	DS, ES       uint16
	FS, GS       uint16
	CodeAddr     uint32 // linear address of Code
	Code         []byte // at most 32 bytes
	Patches      []Patch
}

// Patch is a dword of memory that a case begins with.
type Patch struct{ Addr, Value uint32 }

const (
	caseSize   = 128
	maxPatches = 4
	maxCode    = 32
)

func (c *Case) encode(b []byte, dump bool) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = append(b, c.Kind, c.Paging, 0, uint8(len(c.Code)))
	if dump {
		b[start+2] = 1
	}
	b = le.AppendUint32(b, c.EFLAGS)
	for _, v := range c.GPR {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint32(b, c.EIP)
	for _, v := range [6]uint16{c.CS, c.SS, c.DS, c.ES, c.FS, c.GS} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, c.CodeAddr)
	b = le.AppendUint32(b, 0)
	var code [maxCode]byte
	copy(code[:], c.Code)
	b = append(b, code[:]...)
	for _, p := range c.Patches {
		b = le.AppendUint32(b, p.Addr)
		b = le.AppendUint32(b, p.Value)
	}
	return append(b, make([]byte, caseSize-(len(b)-start))...)
}

// Result is the state after a case, as the monitor writes it.
type Result struct {
	GPR     [8]uint32
	EFLAGS  uint32
	EIP     uint32
	Vector  uint32 // of the exception that ended the case: 3 if the instruction did not fault
	Error   uint32
	CR2     uint32
	Seg     [6]uint16 // ES, CS, SS, DS, FS, GS
	Hash    uint32    // of the windows
	Tables  uint32    // hash of the descriptor tables
	dumped  bool
	Windows [dumpSize]byte
}

const resultSize = 72

func parseResults(b []byte, n int, dump bool) ([]Result, error) {
	le := binary.LittleEndian
	results := make([]Result, 0, n)
	for len(results) < n {
		size := resultSize
		if dump {
			size += dumpSize
		}
		if len(b) < size || strings.HasPrefix(string(b), "the monitor failed") {
			return results, fmt.Errorf("the output ends in case %d: %q", len(results), b[:min(len(b), 200)])
		}
		var r Result
		for i := range r.GPR {
			r.GPR[i] = le.Uint32(b[4*i:])
		}
		r.EFLAGS, r.EIP, r.Vector, r.Error, r.CR2 = le.Uint32(b[32:]), le.Uint32(b[36:]), le.Uint32(b[40:]), le.Uint32(b[44:]), le.Uint32(b[48:])
		for i := range r.Seg {
			r.Seg[i] = le.Uint16(b[52+2*i:])
		}
		if r.Vector > 255 {
			return results, fmt.Errorf("the output of case %d makes no sense: %q", len(results), b[:resultSize])
		}
		r.Hash, r.Tables = le.Uint32(b[64:]), le.Uint32(b[68:])
		if r.dumped = dump; dump {
			copy(r.Windows[:], b[resultSize:])
		}
		results = append(results, r)
		b = b[size:]
	}
	return results, nil
}

// segment is an entry of a descriptor table in words.
type segment struct {
	name   string
	base   uint32
	limit  uint32
	access byte // the byte with P, DPL, S and type
	flags  byte // G, D/B, L, AVL
	gate   uint64
}

const (
	flagG = 8
	flagD = 4
	flagL = 2
)

// gate is the descriptor of a gate (SDM vol. 3A, 5.8.3, 6.11).
func gate(sel uint16, off uint32, access, params byte) uint64 {
	return uint64(off&0xffff) | uint64(sel)<<16 | uint64(params)<<32 | uint64(access)<<40 | uint64(off>>16)<<48
}

func (s *segment) descriptor() uint64 {
	if s.gate != 0 {
		return s.gate
	}
	return uint64(s.limit&0xffff) | uint64(s.base&0xffffff)<<16 | uint64(s.access)<<40 | uint64(s.limit>>16&15)<<48 |
		uint64(s.flags)<<52 | uint64(s.base>>24)<<56
}

// Selectors that environments use. Those of ring 3 are written with their RPL.
const (
	selFlatCode3  = 0x58 | 3
	selFlatData3  = 0x68 | 3
	selCode16R0   = 0x70
	selCode16R3   = 0x78 | 3
	selCode32R0   = 0x80
	selCode32R3   = 0x88 | 3
	selDataR0     = 0x90
	selDataR3     = 0x98 | 3
	selStack16R0  = 0xa0
	selStack16R3  = 0xa8 | 3
	selStack32R0  = 0xb0
	selStack32R3  = 0xb8 | 3
	selExtra      = 0xc0 | 3
	selDown16     = 0xc8 | 3
	selDown32     = 0xd0 | 3
	selReadOnly   = 0xd8 | 3
	selExecOnly   = 0xe8 | 3
	selPages      = 0xf8 | 3
	selStackDown2 = 0x100 | 3
	selStackDown1 = 0x108 | 3
	selOneByte    = 0x168 | 3
)

// gdt is the descriptor table during cases: first what the monitor needs, from 50h on what cases use.
var gdt = []segment{
	{},
	{name: "monitor code32", limit: 0xfffff, access: 0x9b, flags: flagG | flagD},
	{name: "monitor data", limit: 0xfffff, access: 0x93, flags: flagG | flagD},
	{name: "monitor code16", base: 0x10000, limit: 0xffff, access: 0x9b},
	{name: "monitor data16", limit: 0xffff, access: 0x93},
	{name: "monitor code64", limit: 0xfffff, access: 0x9b, flags: flagG | flagL},
	{name: "TSS32", base: 0x68000, limit: 103, access: 0x89},
	{name: "TSS64", base: 0x68100, limit: 103, access: 0x89},
	{name: "TSS64 high"},
	{name: "LDT", base: 0x1f200, limit: ldtSize - 1, access: 0x82},
	{name: "flat code, ring 0", limit: 0xfffff, access: 0x9a, flags: flagG | flagD}, // 50h
	{name: "flat code, ring 3", limit: 0xfffff, access: 0xfb, flags: flagG | flagD},
	{name: "flat data, ring 0", limit: 0xfffff, access: 0x92, flags: flagG | flagD},
	{name: "flat data, ring 3", limit: 0xfffff, access: 0xf3, flags: flagG | flagD},
	{name: "code16, ring 0", base: codeBase, limit: 0xffff, access: 0x9b}, // 70h
	{name: "code16, ring 3", base: codeBase, limit: 0xffff, access: 0xfb},
	{name: "code32, ring 0", base: codeBase, limit: 0xffff, access: 0x9b, flags: flagD},
	{name: "code32, ring 3", base: codeBase, limit: 0xffff, access: 0xfb, flags: flagD},
	{name: "data, ring 0", base: dataBase, limit: 0xffff, access: 0x93, flags: flagD}, // 90h
	{name: "data, ring 3", base: dataBase, limit: 0xffff, access: 0xf3, flags: flagD},
	{name: "stack16, ring 0", base: stackBase, limit: 0xffff, access: 0x93},
	{name: "stack16, ring 3", base: stackBase, limit: 0xffff, access: 0xf3},
	{name: "stack32, ring 0", base: stackBase, limit: 0xffff, access: 0x93, flags: flagD}, // b0h
	{name: "stack32, ring 3", base: stackBase, limit: 0xffff, access: 0xf3, flags: flagD},
	{name: "extra, half", base: extraBase, limit: 0x803f, access: 0xf2, flags: flagD},
	{name: "expand-down 16", base: extraBase, limit: 0x7fff, access: 0xf6},
	{name: "expand-down 32", base: extraBase, limit: 0x7fff, access: 0xf6, flags: flagD}, // d0h
	{name: "read-only", base: extraBase, limit: 0xffff, access: 0xf0, flags: flagD},
	{name: "conforming code, ring 0", base: codeBase, limit: 0xffff, access: 0x9e, flags: flagD},
	{name: "execute-only code, ring 3", base: codeBase, limit: 0xffff, access: 0xf8, flags: flagD},
	{name: "data, not present", base: extraBase, limit: 0xffff, access: 0x72, flags: flagD}, // f0h
	{name: "data in pages", base: extraBase, limit: 0xf, access: 0xf2, flags: flagG},
	{name: "expand-down stack32", base: stackBase, limit: 0x7fff, access: 0xf7, flags: flagD},
	{name: "expand-down stack16", base: stackBase, limit: 0x7fff, access: 0xf7},
	{name: "call gate32 to ring 0", gate: gate(selCode32R0, 0x9000, 0xec, 2)}, // 110h
	{name: "call gate16 to ring 0", gate: gate(selCode16R0, 0x9100, 0xe4, 1)},
	{name: "call gate32 to ring 3", gate: gate(selCode32R3, 0x9200, 0xec, 3)},
	{name: "call gate32 of ring 0", gate: gate(selCode32R0, 0x9300, 0x8c, 0)},
	{name: "call gate32, not present", gate: gate(selCode32R0, 0x9400, 0x6c, 0)}, // 130h
	{name: "task gate without task", gate: gate(0, 0, 0xe5, 0)},
	{name: "interrupt gate", gate: gate(selCode32R0, 0x9500, 0xee, 0)},
	{name: "reserved type", access: 0xe8},
	{name: "conforming code16, ring 3", base: codeBase, limit: 0xffff, access: 0xfe}, // 150h
	{name: "busy TSS16", base: 0x68000, limit: 103, access: 0xe3},
	{name: "busy TSS32", base: 0x68000, limit: 103, access: 0xeb},
	{name: "one byte", base: extraBase, access: 0xf2, flags: flagD},
	{name: "call gate to null", gate: gate(0, 0x9600, 0xec, 0)}, // 170h
	{name: "call gate to code not present", gate: gate(0x180, 0x9700, 0xec, 0)},
	{name: "code, not present", base: codeBase, limit: 0xffff, access: 0x1a, flags: flagD},
	{name: "call gate past the limit", gate: gate(selCode32R0, 0x20000, 0xec, 0)},
	{name: "another LDT", base: 0x1f200, limit: 7, access: 0xe2}, // 190h
	{name: "call gate to conforming code", gate: gate(0xe0, 0x9800, 0xec, 1)},
	{name: "stack in ring 1", base: stackBase, limit: 0xffff, access: 0xb2, flags: flagD},
}

// ldt is the local descriptor table.
var ldt = []segment{
	{name: "local data", base: extraBase, limit: 0xffff, access: 0xf2, flags: flagD},
	{name: "local code32", base: codeBase, limit: 0xffff, access: 0xfa, flags: flagD},
	{name: "local data, ring 0", base: extraBase, limit: 0xffff, access: 0x92},
	{name: "local stack", base: stackBase, limit: 0xffff, access: 0xf2, flags: flagD},
	{name: "local call gate", gate: gate(0x0f, 0x9900, 0xec, 0)},
	{name: "local data, not present", base: extraBase, limit: 0xffff, access: 0x72},
}

// Offsets in the monitor's image that buildImage fills in.
const (
	imageBase     = 0x100000
	headerCount   = 0x20
	headerPointer = 0x24
)

// buildImage returns the multiboot image that runs cases.
func buildImage(cases []Case, template []byte, dump bool) []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), monitor...)
	align := func() uint32 {
		for len(b)%16 != 0 {
			b = append(b, 0)
		}
		return imageBase + uint32(len(b))
	}
	tables := align()
	for i := range gdtSize / 8 {
		var d uint64
		if i < len(gdt) {
			d = gdt[i].descriptor()
		}
		b = le.AppendUint64(b, d)
	}
	for i := range ldtSize / 8 {
		var d uint64
		if i < len(ldt) {
			d = ldt[i].descriptor()
		}
		b = le.AppendUint64(b, d)
	}
	memory := align()
	b = append(b, template[:numWindows*windowSize]...)
	list := align()
	for i := range cases {
		b = cases[i].encode(b, dump)
	}
	le.PutUint32(b[headerCount:], uint32(len(cases)))
	for i, v := range [3]uint32{list, tables, memory} {
		le.PutUint32(b[headerPointer+4*i:], v)
	}
	return b
}
