package disasm

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/internal/guests"
	"github.com/hybridbridge/emu/core/symbols"
)

func printed(t *testing.T, m Memory, addr uint64, o Options) string {
	t.Helper()
	var b strings.Builder
	if err := Print(&b, m, addr, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPrint(t *testing.T) {
	table := symbols.NewTable([]symbols.Symbol{{Name: "first", Address: 0x1000, Type: 'T'}, {Name: "second", Address: 0x1006, Type: 'T'}})
	code := []byte{
		0xe8, 0x01, 0x00, 0x00, 0x00, // call second
		0xc3,                   // ret
		0x48, 0x8b, 0x43, 0x08, // second: mov 8(%rbx),%rax
		0x66, 0x0f, 0x38, 0x17, 0xc1, // ptest
		0x0f, 0x04, // nothing
		0xe8, // the start of a call
	}
	im, err := OpenImage(code, 0x1000)
	if err != nil {
		t.Fatal(err)
	}
	got := printed(t, im, 0x1000, Options{Bits: 64, Syntax: GNU, Symbols: table})
	want := `<first>:
0000000000001000  e8 01 00 00 00                  callq second
0000000000001005  c3                              retq
<second>:
0000000000001006  48 8b 43 08                     mov 0x8(%rbx),%rax
000000000000100a  66 0f 38 17 c1                  ptest %xmm1,%xmm0
000000000000100f  0f                              (bad)
0000000000001010  04 e8                           add $0xe8,%al
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	got = printed(t, im, 0x1006, Options{Bits: 64, Syntax: Intel, Count: 1, Symbols: table})
	if want := "<second>:\n0000000000001006  48 8b 43 08                     mov rax, qword ptr [rbx+0x8]\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for bits, want := range map[int]string{16: "dec %ax", 32: "dec %eax", 64: "mov 0x8(%rbx),%rax"} {
		if text, _ := Instruction(code[6:10], 0, Options{Bits: bits}); text != want {
			t.Errorf("%d bits: %q, want %q", bits, text, want)
		}
	}
	if err := Print(new(strings.Builder), im, 0x2000, Options{Bits: 64}); err == nil || !strings.Contains(err.Error(), "no memory at 0x2000") {
		t.Error(err)
	}
	// More than one window, with instructions across its end.
	long := strings.Repeat("\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", 1000)
	if im, err = OpenImage([]byte(long), 0); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(printed(t, im, 0, Options{Bits: 64}), ",%rax"); n != 1000 {
		t.Errorf("%d instructions of 1000", n)
	}
}

func TestAddress(t *testing.T) {
	table := symbols.NewTable([]symbols.Symbol{{Name: "start", Address: 0x1000, Type: 'T'}, {Name: "beef1234", Address: 5, Type: 'T'}})
	for s, want := range map[string]uint64{
		"start": 0x1000, "start+0x10": 0x1010, "start+16": 0x1010, "0x20": 0x20, "32": 32, "beef1234": 5, "ffffffff81000000": 0xffffffff81000000,
	} {
		if got, err := Address(s, table); err != nil || got != want {
			t.Errorf("%s: %#x, %v, want %#x", s, got, err, want)
		}
	}
	for _, s := range []string{"", "nothing", "start+x", "start+", "abc"} {
		if a, err := Address(s, table); err == nil {
			t.Errorf("%q: %#x", s, a)
		}
	}
	if _, err := Address("start", nil); err == nil {
		t.Error("no symbols, no error")
	}
}

// makeELF makes a 64-bit ELF file with one segment.
func makeELF(machine uint16, entry, vaddr, paddr, memSize uint64, code []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 120)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], machine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], entry)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	p := b[64:]
	le.PutUint32(p, 1)
	le.PutUint64(p[8:], 120)
	le.PutUint64(p[16:], vaddr)
	le.PutUint64(p[24:], paddr)
	le.PutUint64(p[32:], uint64(len(code)))
	le.PutUint64(p[40:], memSize)
	return append(b, code...)
}

func TestELF(t *testing.T) {
	b := makeELF(62, 0x1000001, 0xffffffff81000000, 0x1000000, 8, []byte{0x90, 0xc3})
	im, err := OpenImage(b, 0)
	if err != nil || im.Bits != 64 || im.Entry != 0xffffffff81000001 { // a physical entry point, as Linux has it
		t.Fatalf("%+v %v", im, err)
	}
	if got := printed(t, im, im.Entry, Options{Bits: 64, Count: 2}); !strings.Contains(got, "retq") || !strings.Contains(got, "add %al,(%rax)") {
		t.Error(got) // and zeroes behind the data
	}
	im, err = OpenImage(makeELF(62, 0x400000, 0x400000, 0, 2, []byte{0x90, 0xc3}), 0)
	if err != nil || im.Entry != 0x400000 {
		t.Errorf("%+v %v", im, err)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "arm": makeELF(183, 0, 0, 0, 1, []byte{0}), "short": b[:70], "segment": b[:len(b)-1],
		"no code": makeELF(62, 0, 0, 0, 0, nil),
	} {
		if _, err := OpenImage(bad, 0); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDebianKernels(t *testing.T) {
	b, err := os.ReadFile(guests.Kernels(t)[0].Image)
	if err != nil {
		t.Fatal(err)
	}
	im, err := OpenImage(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Address("start_kernel", im.Symbols)
	if err != nil {
		t.Fatal(err)
	}
	if got := printed(t, im, a, Options{Bits: im.Bits, Syntax: GNU, Count: 50, Symbols: im.Symbols}); !strings.HasPrefix(got, "<start_kernel>:\n") {
		t.Error(got)
	}
}

func FuzzOpenImage(f *testing.F) {
	f.Add(makeELF(62, 0x1000001, 0xffffffff81000000, 0x1000000, 8, []byte{0x90, 0xc3}))
	f.Add([]byte{0x90})
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := OpenImage(b, 0)
		if err != nil {
			return
		}
		bits := im.Bits
		if bits == 0 {
			bits = 16
		}
		// An entry point without memory is an error of the file's.
		_ = Print(new(strings.Builder), im, im.Entry, Options{Bits: bits, Count: 100, Symbols: im.Symbols})
	})
}
