package disasm

import (
	"fmt"
	"io"
	"strings"

	"golang.org/x/arch/x86/x86asm"

	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu/isa"
)

// Syntax is a way to write assembly.
type Syntax string

// Syntaxes.
const (
	GNU   Syntax = "gnu"
	Intel Syntax = "intel"
)

// Memory is what holds the code.
type Memory interface {
	// ReadLinear copies memory from addr on and returns how many bytes there were. An error says why there are no more.
	ReadLinear(addr uint64, p []byte) (int, error)
}

// Options say how to print.
type Options struct {
	Bits    int // 16, 32 or 64
	Syntax  Syntax
	Count   int            // instructions; 0 prints until the memory ends
	Symbols *symbols.Table // nil if there are none
	// Name, if not nil, names the targets of branches in place of Symbols; "" leaves the address.
	Name func(addr uint64) string
}

// longest is the length of the longest instruction, in bytes.
const longest = 15

// window is how much is read at once.
const window = 4096

// Print prints the instructions from addr on. An address at which there is no memory is an error.
func Print(w io.Writer, m Memory, addr uint64, o Options) error {
	buf := make([]byte, window)
	var b []byte
	more := true
	for n := 0; o.Count == 0 || n < o.Count; n++ {
		if len(b) < longest && more {
			got, err := m.ReadLinear(addr, buf)
			if err != nil {
				return err
			}
			b, more = buf[:got], got == len(buf)
		}
		if len(b) == 0 {
			if n == 0 {
				return fmt.Errorf("there is no memory at %#x", addr)
			}
			return nil
		}
		if s, off, ok := lookup(o.Symbols, addr); ok && (off == 0 || n == 0) {
			if _, err := fmt.Fprintf(w, "<%s>:\n", name(s, off)); err != nil {
				return err
			}
		}
		text, size := Instruction(b, addr, o)
		if _, err := fmt.Fprintf(w, "%0*x  %-30x  %s\n", digits(o.Bits), addr, spaced(b[:size]), text); err != nil {
			return err
		}
		b, addr = b[size:], addr+uint64(size)
	}
	return nil
}

// spaced prints with a space between bytes.
type spaced []byte

// Format implements fmt.Formatter.
func (s spaced) Format(f fmt.State, _ rune) {
	width, _ := f.Width()
	fmt.Fprintf(f, "%-*s", width, fmt.Sprintf("% x", []byte(s)))
}

func digits(bits int) int {
	if bits == 64 {
		return 16
	}
	return 8
}

func lookup(t *symbols.Table, addr uint64) (symbols.Symbol, uint64, bool) {
	if t == nil {
		return symbols.Symbol{}, 0, false
	}
	return t.Lookup(addr)
}

func name(s symbols.Symbol, off uint64) string {
	if off == 0 {
		return s.Name
	}
	return fmt.Sprintf("%s+%#x", s.Name, off)
}

// Instruction returns the text of the instruction at the start of b, which lies at addr, and its length in bytes, at
// least 1.
func Instruction(b []byte, addr uint64, o Options) (text string, size int) {
	inst, err := x86asm.Decode(b, o.Bits)
	if err != nil || inst.Op == 0 { // the latter for the start of an instruction that is cut off
		return unknown(b, o.Bits)
	}
	// x86asm gives whole addresses of branches; with the distance from the symbol that follows, it would print decimals.
	named := func(target uint64) (string, uint64) {
		if o.Name != nil {
			return o.Name(target), target
		}
		s, off, ok := lookup(o.Symbols, target)
		if !ok {
			return "", 0
		}
		return name(s, off), target
	}
	if o.Syntax == Intel {
		return x86asm.IntelSyntax(inst, addr, named), inst.Len
	}
	return x86asm.GNUSyntax(inst, addr, named), inst.Len
}

// unknown tries emu's own decoder, which knows instructions that x86asm does not, but not how to write them.
func unknown(b []byte, bits int) (string, int) {
	mode := map[int]isa.Mode{16: isa.Mode16, 32: isa.Mode32, 64: isa.Mode64}[bits]
	in, err := isa.Decode(b, mode, isa.AllFeatures)
	if err != nil || in.Row == nil {
		return "(bad)", 1
	}
	return strings.ToLower(in.Op.String()) + " ...  # " + in.Row.Enc, int(in.Len)
}
