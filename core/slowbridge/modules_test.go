package slowbridge

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/symbols"
)

// fakeModules is memory at address 0x1000 with a list of modules, whose head is at its beginning.
type fakeModules struct{ b []byte }

func (f *fakeModules) read(la uint64, p []byte) bool {
	if la < 0x1000 || la-0x1000 > uint64(len(f.b)) {
		return false
	}
	return copy(p, f.b[la-0x1000:]) == len(p)
}

func (f *fakeModules) reader() *moduleReader {
	return &moduleReader{
		read: f.read, word: 8, nameSize: 56,
		state: 0, next: 8, name: 16, base: 72, size: 80, kallsyms: 88,
		symtab: 0, count: 8, strtab: 16, types: 24,
	}
}

func (f *fakeModules) put(at uint64, v uint64) { binary.LittleEndian.PutUint64(f.b[at-0x1000:], v) }

// add appends a module whose list entry is at at+8.
func (f *fakeModules) add(at uint64, name string, base uint64, functions ...string) {
	copy(f.b[at-0x1000+16:], name)
	f.put(at+72, base)
	f.put(at+80, 0x1000)
	k, symtab, letters, text := at+0x100, at+0x140, at+0x800, at+0x900
	f.put(at+88, k)
	f.put(k, symtab)
	f.put(k+8, uint64(len(functions)))
	f.put(k+16, text)
	f.put(k+24, letters)
	off := uint64(1)
	for i, n := range functions {
		e := symtab + uint64(i)*24
		f.put(e, off|1<<48)
		f.put(e+8, base+uint64(i)*16)
		f.b[letters-0x1000+uint64(i)] = 't'
		copy(f.b[text-0x1000+off:], n)
		off += uint64(len(n)) + 1
	}
}

func TestModules(t *testing.T) {
	f := &fakeModules{b: make([]byte, 0x4000)}
	f.put(0x1000, 0x2008)
	f.put(0x2008, 0x3008)
	f.put(0x3008, 0x1000)
	f.add(0x2000, "veth", 0xffffffffc0010000, "veth_xmit", "get", "get")
	f.add(0x3000, "tun", 0xffffffffc0020000, "tun_xmit")
	all, err := f.reader().all(0x1000, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].name != "veth" || all[1].name != "tun" || len(all[0].symbols) != 3 {
		t.Fatalf("%+v", all)
	}

	code := func(name string, at uint64) symbols.Symbol {
		return symbols.Symbol{Name: name, Address: at, Type: 't', Module: "veth"}
	}
	trusted := map[string]*module{"veth": {name: "veth", base: 0x5000, size: 0x1000, symbols: []symbols.Symbol{
		code("veth_xmit", 0x5000), code("get", 0x5010), code("get", 0x5020),
	}}}
	for target, want := range map[uint64]any{
		0xffffffffc0010000: uint64(0x5000),
		0xffffffffc0010010: uint64(0x5010),
		0xffffffffc0010020: uint64(0x5020),
		0xffffffffc0010004: "no function begins",
		0xffffffffc0020000: "has not loaded",
		0xffffffffc0030000: "no module",
		0x10:               "no module",
	} {
		to, err := translate(all, trusted, target)
		if text, fails := want.(string); fails {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%#x: %#x, %v", target, to, err)
			}
		} else if err != nil || to != want {
			t.Errorf("%#x: %#x, %v, want %#x", target, to, err, want)
		}
	}
	trusted["veth"].symbols = trusted["veth"].symbols[:1]
	if _, err := translate(all, trusted, 0xffffffffc0010010); err == nil {
		t.Error("a function that is not there was found")
	}
}

func TestForgedModules(t *testing.T) {
	for name, forge := range map[string]func(f *fakeModules){
		"a loop that leaves out the head": func(f *fakeModules) { f.put(0x2008, 0x2008) },
		"a list that leads nowhere":       func(f *fakeModules) { f.put(0x2008, 0x123456) },
		"countless symbols":               func(f *fakeModules) { f.put(0x2108, 1<<31) },
		"symbols that are not there":      func(f *fakeModules) { f.put(0x2100, 0x9999999) },
		"an endless name": func(f *fakeModules) {
			for i := range 56 {
				f.b[0x1010+i] = 'x'
			}
		},
	} {
		f := &fakeModules{b: make([]byte, 0x4000)}
		f.put(0x1000, 0x2008)
		f.put(0x2008, 0x1000)
		f.add(0x2000, "veth", 0xffffffffc0010000, "veth_xmit")
		forge(f)
		if all, err := f.reader().all(0x1000, true); err == nil {
			t.Errorf("%s: %+v", name, all)
		}
	}
}
