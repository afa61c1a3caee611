package symbols

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/internal/guests"
)

func TestTable(t *testing.T) {
	tab, err := ParseProc(strings.NewReader(`0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81000100 t dup
ffffffff81000200 t dup
ffffffffc0000000 t mod_fn	[virtio]
`))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[uint64]string{
		0xffffffff81000000: "_text+0x0",
		0xffffffff810001ff: "dup+0xff",
		0xffffffffc0000004: "mod_fn+0x4 [virtio]",
		0xffffffff80ffffff: "0xffffffff80ffffff",
		0xffffffffd0000000: "0xffffffffd0000000",
		0:                  "0x0",
	} {
		if got := tab.Format(addr); got != want {
			t.Errorf("%#x is %s, want %s", addr, got, want)
		}
	}
	if a, ok := tab.Address("dup"); !ok || a != 0xffffffff81000100 {
		t.Errorf("%#x", a)
	}
	if _, ok := tab.Address("none"); ok {
		t.Error("found none")
	}
	s := tab.Shift(0x1000).Shift(0x1000)
	if a, _ := s.Address("_text"); a != 0xffffffff81002000 || s.Format(a+5) != "_text+0x5" {
		t.Errorf("%#x", a)
	}
	if a, ok := s.Address("fixed_percpu_data"); !ok || a != 0 {
		t.Error("an absolute symbol moved")
	}
	if got := (*Table)(nil).Format(5); got != "0x5" {
		t.Error(got)
	}
	n := 0
	s.All(func(Symbol) bool { n++; return n < 3 })
	if n != 3 || s.Len() != 6 {
		t.Error(n)
	}
	for _, bad := range []string{"", "hello", "zz T x", "0000000000000000 T x\n0000000000000000 T y"} {
		if _, err := ParseProc(strings.NewReader(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

// makeKallsyms builds the tables as the kernel's build does, with single-byte tokens only.
func makeKallsyms(syms []Symbol, word int, modern, percpu bool) []byte {
	le := binary.LittleEndian
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02")
	if word == 4 {
		b[4] = 1
	}
	align := func() {
		for len(b)%word != 0 {
			b = append(b, 0)
		}
	}
	base := uint64(0)
	for _, s := range syms {
		if s.Type != 'A' && (base == 0 || s.Address < base) {
			base = s.Address
		}
	}
	offsets := func() {
		for _, s := range syms {
			off := uint32(s.Address - base)
			if percpu {
				off = uint32(base - 1 - s.Address)
				if s.Type == 'A' {
					off = uint32(s.Address)
				}
			}
			b = le.AppendUint32(b, off)
		}
		align()
		b = le.AppendUint64(b, base)[:len(b)+word]
	}
	if !modern {
		offsets()
	}
	b = le.AppendUint32(b, uint32(len(syms)))
	align()
	names := len(b)
	var marks []uint32
	for i, s := range syms {
		if i%256 == 0 {
			marks = append(marks, uint32(len(b)-names))
		}
		n := string(s.Type) + s.Name
		if len(n) < 0x80 {
			b = append(b, byte(len(n)))
		} else {
			b = append(b, byte(len(n)&0x7f|0x80), byte(len(n)>>7))
		}
		b = append(b, n...)
	}
	align()
	for _, m := range marks {
		b = le.AppendUint32(b, m)
	}
	align()
	var index []byte
	start := len(b)
	for i := range 256 {
		index = le.AppendUint16(index, uint16(len(b)-start))
		c := byte(i)
		if c == 0 {
			c = 'x'
		}
		b = append(b, c, 0)
	}
	align()
	b = append(b, index...)
	align()
	if modern {
		offsets()
	}
	return append(b, make([]byte, 64)...)
}

func someSymbols(word int, percpu bool) []Symbol {
	base := uint64(0xffffffff81000000)
	if word == 4 {
		base = 0xc1000000
	}
	var syms []Symbol
	if percpu {
		for i := range 20 {
			syms = append(syms, Symbol{Name: fmt.Sprintf("percpu_%d", i), Address: uint64(i) * 64, Type: 'A'})
		}
	}
	for i := range 1000 {
		syms = append(syms, Symbol{Name: fmt.Sprintf("function_%d", i), Address: base + uint64(i)*16, Type: 't'})
	}
	syms[len(syms)-2].Name = strings.Repeat("long", 50)
	return syms
}

func TestKallsyms(t *testing.T) {
	for _, word := range []int{4, 8} {
		for _, modern := range []bool{false, true} {
			for _, percpu := range []bool{false, true} {
				if percpu && word == 4 {
					continue
				}
				want := someSymbols(word, percpu)
				got, err := FromKallsyms(makeKallsyms(want, word, modern, percpu))
				if err != nil {
					t.Errorf("word %d, modern %v, percpu %v: %v", word, modern, percpu, err)
					continue
				}
				i := 0
				got.All(func(s Symbol) bool {
					if s != want[i] {
						t.Errorf("%+v, want %+v", s, want[i])
						return false
					}
					i++
					return true
				})
			}
		}
	}
	if _, err := FromKernel([]byte("no kernel")); !errors.Is(err, ErrNoSymbols) {
		t.Error(err)
	}
}

func TestDebianKernels(t *testing.T) {
	for _, k := range guests.Kernels(t) {
		t.Run(k.Name, func(t *testing.T) {
			if !guests.Long() && k.Name == "generic-6.1" {
				t.Skip("slow to unpack; EMU_LONG is not set")
			}
			b, err := os.ReadFile(k.Image)
			if err != nil {
				t.Fatal(err)
			}
			im, err := boot.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			v, err := im.Unpack()
			if err != nil {
				t.Fatal(err)
			}
			tab, err := FromKernel(v)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := tab.Address("_text")
			init, _ := tab.Address("init_task")
			t.Logf("%d symbols, _text %#x, init_task %#x, %s", tab.Len(), text, init, Banner(v))
			if !strings.HasPrefix(Banner(v), "Linux version "+strings.Fields(im.Version)[0]) || !strings.Contains(Banner(v), "#1 SMP") {
				t.Error("banner")
			}
			names := []string{"_text", "start_kernel", "startup_64", "init_task", "linux_banner", "init_pid_ns", "modules", "_end"}
			if im.Bits == 32 { // Debian's i386 kernels are built without KALLSYMS_ALL
				names = []string{"_text", "start_kernel", "startup_32", "_etext"}
			}
			for _, name := range names {
				s, ok := tab.Find(name)
				if !ok {
					t.Error("no", name)
				} else if back, off, ok := tab.Lookup(s.Address); !ok || off != 0 || back.Address != s.Address {
					t.Error("no way back to", name)
				}
			}
			if text != 0xffffffff81000000 && text != 0xc1000000 {
				t.Errorf("_text is %#x", text)
			}
		})
	}
}

func FuzzKallsyms(f *testing.F) {
	f.Add(makeKallsyms(someSymbols(8, true)[:200], 8, false, true))
	f.Add(makeKallsyms(someSymbols(4, false)[:200], 4, true, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		if tab, err := FromKernel(b); err == nil {
			tab.Lookup(0xffffffff81000000)
		}
		_ = Banner(b)
	})
}

// same compares what two tables answer.
func same(t *testing.T, got, want *Table) {
	t.Helper()
	if !slices.Equal(slices.Collect(got.All), slices.Collect(want.All)) {
		t.Error("other symbols, or another order")
	}
	for s := range want.All {
		g, ok := got.Find(s.Name)
		if w, _ := want.Find(s.Name); !ok || g != w {
			t.Errorf("%s: %v, want %v", s.Name, g, w)
		}
		for _, a := range []uint64{s.Address - 1, s.Address, s.Address + 1} {
			if g, w := got.Format(a), want.Format(a); g != w {
				t.Errorf("%#x: %s, want %s", a, g, w)
			}
			g, ok := got.Next(a)
			if w, wantOK := want.Next(a); g != w || ok != wantOK {
				t.Errorf("after %#x: %#x, want %#x", a, g, w)
			}
		}
	}
	for _, prefix := range []string{"", "d", "dup", "dup.", "z"} {
		if g, w := slices.Collect(got.Prefixed(prefix)), slices.Collect(want.Prefixed(prefix)); !slices.Equal(g, w) {
			t.Errorf("%q: %v, want %v", prefix, g, w)
		}
	}
}

var some = []Symbol{
	{"fixed", 0, 'A', ""},
	{"_text", 0x1000, 'T', ""},
	{"_stext", 0x1000, 'T', ""},
	{"dup", 0x2000, 't', ""},
	{"dup.cold", 0x1800, 't', ""},
	{"dup", 0x3000, 't', ""},
	{"data", 0x9000, 'd', ""},
}

func TestPrefixedAndNext(t *testing.T) {
	tab := NewTable(slices.Clone(some)).Shift(0x10000)
	var names []string
	for s := range tab.Prefixed("d") {
		names = append(names, fmt.Sprintf("%s %x", s.Name, s.Address))
	}
	if got := strings.Join(names, ","); got != "data 19000,dup 12000,dup 13000,dup.cold 11800" {
		t.Error(got)
	}
	for _, c := range []struct{ at, next uint64 }{{0, 0x11000}, {0x11000, 0x11800}, {0x12fff, 0x13000}, {0x19000, 0}} {
		if got, ok := tab.Next(c.at); got != c.next || ok != (c.next != 0) {
			t.Errorf("after %#x: %#x %v", c.at, got, ok)
		}
	}
}

func TestWith(t *testing.T) {
	more := []Symbol{{"a", 0x1000, 't', "m"}, {"dup", 0x12000, 't', "m"}, {"z", 0x50000, 't', "m"}, {"abs", 7, 'a', "m"}}
	tab := NewTable(slices.Clone(some)).Shift(0x10000)
	same(t, tab.With(slices.Clone(more)), NewTable(append(slices.Collect(tab.All), more...)))
	same(t, tab.With(nil), tab)
}

func TestBinary(t *testing.T) {
	want := NewTable(slices.Clone(some))
	b, err := want.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got Table
	if err := got.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	same(t, &got, want)
	for n := range b {
		if err := got.UnmarshalBinary(b[:n]); err == nil {
			t.Errorf("%d of %d bytes are a table", n, len(b))
		}
	}
	if _, err := want.With([]Symbol{{"f", 1, 't', "m"}}).MarshalBinary(); err == nil {
		t.Error("the module was dropped")
	}
}
