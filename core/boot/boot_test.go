package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/internal/guests"
	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/cpu/vcpu"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var le = binary.LittleEndian

func guest(t testing.TB, layout []memory.Range, err error) *memory.Memory {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	m, err := memory.New(layout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func flatGuest(t testing.TB, size uint64) *memory.Memory {
	l, err := memory.Flat(size, memory.Options{})
	return guest(t, l, err)
}

func peek(t testing.TB, m *memory.Memory, pa uint64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if !m.ReadAt(b, pa) {
		t.Fatalf("no RAM at %#x", pa)
	}
	return b
}

// makeBz builds a bzImage of protocol 2.15 around a payload.
func makeBz(payload []byte, change func(b []byte)) []byte {
	const sects = 4
	sys := make([]byte, 0x400, 0x400+len(payload))
	copy(sys, "code32")
	copy(sys[0x200:], "code64")
	sys = append(sys, payload...)
	for len(sys)%16 != 0 {
		sys = append(sys, 0)
	}
	b := make([]byte, (sects+1)*512)
	b[hdrStart] = sects
	le.PutUint32(b[hdrSyssize:], uint32(len(sys)/16))
	le.PutUint16(b[hdrBootFlag:], 0xaa55)
	le.PutUint16(b[hdrJump:], 0x66eb)
	copy(b[hdrMagic:], "HdrS")
	le.PutUint16(b[hdrVersion:], 0x20f)
	le.PutUint16(b[hdrKernelVer:], 0x300)
	copy(b[0x500:], "6.6.6-test #1\x00")
	b[hdrLoadFlags] = 1
	le.PutUint32(b[hdrInitrdMax:], 0x7fffffff)
	le.PutUint32(b[hdrAlignment:], 0x200000)
	b[hdrRelocatable] = 1
	le.PutUint16(b[hdrXLoadFlags:], xlfKernel64|xlfAbove4G)
	le.PutUint32(b[hdrCmdLineSize:], 2047)
	le.PutUint32(b[hdrPayloadOff:], 0x400)
	le.PutUint32(b[hdrPayloadLen:], uint32(len(payload)))
	le.PutUint64(b[hdrPrefAddress:], 0x1000000)
	le.PutUint32(b[hdrInitSize:], 0x400000)
	if change != nil {
		change(b)
	}
	return append(b, sys...)
}

type load struct {
	vaddr, paddr uint64
	data         string
	mem          uint64
}

func makeELF64(entry uint64, machine uint16, loads ...load) []byte {
	b := make([]byte, 64+56*len(loads))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], machine)
	le.PutUint64(b[24:], entry)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], uint16(len(loads)))
	for i, s := range loads {
		p := b[64+56*i:]
		le.PutUint32(p, ptLoad)
		le.PutUint64(p[8:], uint64(len(b)))
		le.PutUint64(p[16:], s.vaddr)
		le.PutUint64(p[24:], s.paddr)
		le.PutUint64(p[32:], uint64(len(s.data)))
		le.PutUint64(p[40:], s.mem)
		b = append(b, s.data...)
	}
	return b
}

func makeELF32(entry uint32, loads ...load) []byte {
	b := make([]byte, 52+32*len(loads))
	copy(b, "\x7fELF\x01\x01\x01")
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], em386)
	le.PutUint32(b[24:], entry)
	le.PutUint32(b[28:], 52)
	le.PutUint16(b[42:], 32)
	le.PutUint16(b[44:], uint16(len(loads)))
	for i, s := range loads {
		p := b[52+32*i:]
		for j, v := range []uint64{ptLoad, uint64(len(b)), s.vaddr, s.paddr, uint64(len(s.data)), s.mem} {
			le.PutUint32(p[4*j:], uint32(v))
		}
		b = append(b, s.data...)
	}
	return b
}

func mustParse(t testing.TB, b []byte) *Image {
	t.Helper()
	im, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestLinux64(t *testing.T) {
	im := mustParse(t, makeBz([]byte("payload"), nil))
	if im.Format != BzImage || im.Bits != 64 || im.Version != "6.6.6-test #1" || im.Protocol() != 0x20f {
		t.Fatalf("%+v", im)
	}
	m := flatGuest(t, 64<<20)
	initrd := bytes.Repeat([]byte("initrd"), 5000)
	l, err := im.Load(m, Params{CommandLine: "console=ttyS0 quiet", Initrd: initrd, RSDP: 0xe0000, Reserved: []memory.Range{{Base: 0xe0000000, Size: 1 << 28}}})
	if err != nil {
		t.Fatal(err)
	}
	if l.KernelBase != 0x1000000 || l.KernelEnd != 0x1400000 || l.Entry.RIP != 0x1000200 || l.InitrdEnd > 64<<20 || l.InitrdBase < 60<<20 {
		t.Errorf("%+v", l)
	}
	if string(peek(t, m, l.Entry.RIP, 6)) != "code64" || !bytes.Equal(peek(t, m, l.InitrdBase, len(initrd)), initrd) {
		t.Error("contents")
	}
	bp := peek(t, m, l.Entry.GPR[regSI], 4096)
	if got := string(peek(t, m, uint64(le.Uint32(bp[hdrCmdLine:])), 20)); got != "console=ttyS0 quiet\x00" {
		t.Errorf("%q", got)
	}
	if le.Uint64(bp[bpACPIRSDP:]) != 0xe0000 || uint64(le.Uint32(bp[hdrRamdisk:])) != l.InitrdBase || int(le.Uint32(bp[hdrRamdiskLen:])) != len(initrd) || bp[0x1ef] != 0 {
		t.Error("boot_params")
	}
	var maps []string
	for i := range int(bp[bpE820Entries]) {
		p := bp[bpE820+20*i:]
		maps = append(maps, fmt.Sprintf("%x+%x:%d", le.Uint64(p), le.Uint64(p[8:]), le.Uint32(p[16:])))
	}
	if got := strings.Join(maps, " "); got != "0+9f000:1 9f000+1000:2 e0000+20000:2 100000+3f00000:1 e0000000+10000000:2" {
		t.Error(got)
	}
	var s vcpu.State
	l.Entry.Apply(&s)
	if s.MSR.EFER != 0x500 || s.CR0 != 0x80000011 || s.Seg[1].Selector != 0x10 || s.Seg[3].Selector != 0x18 {
		t.Errorf("%+v", s)
	}
	// Walk the page tables for a few addresses.
	for _, va := range []uint64{0, 0x7000, 0x1000200, 0xc0000000, 0xffffffff} {
		table, got := s.CR3, uint64(0)
		for _, shift := range []uint{39, 30, 21} {
			e := le.Uint64(peek(t, m, table+(va>>shift&511)*8, 8))
			if e&1 == 0 {
				t.Fatalf("%#x is not mapped", va)
			}
			table = e &^ 0xfff
			if e&0x80 != 0 {
				got = table | va&(1<<shift-1)
			}
		}
		if got != va {
			t.Errorf("%#x is mapped to %#x", va, got)
		}
	}
	g := peek(t, m, s.GDTR.Base, int(s.GDTR.Limit)+1)
	for i := range s.Seg {
		checkDescriptor(t, g, s.Seg[i])
	}
	checkDescriptor(t, g, s.TR)
}

// checkDescriptor compares the hidden part of a segment with its descriptor.
func checkDescriptor(t *testing.T, g []byte, s vcpu.Segment) {
	t.Helper()
	d := le.Uint64(g[s.Selector:])
	limit := uint32(d&0xffff | d>>32&0xf0000)
	if d>>55&1 != 0 {
		limit = limit<<12 | 0xfff
	}
	if attr := uint16(d >> 40 & 0xf0ff); attr != s.Attr || limit != s.Limit {
		t.Errorf("selector %#x: descriptor %#x/%#x, segment %#x/%#x", s.Selector, attr, limit, s.Attr, s.Limit)
	}
}

func TestLinux32(t *testing.T) {
	for _, force := range []bool{false, true} {
		im := mustParse(t, makeBz(nil, func(b []byte) {
			if !force {
				le.PutUint16(b[hdrXLoadFlags:], 0)
			}
		}))
		l, err := im.Load(flatGuest(t, 64<<20), Params{Force32: force})
		if err != nil {
			t.Fatal(err)
		}
		if l.Entry.RIP != 0x1000000 || l.Entry.CR0 != 0x11 || l.Entry.EFER != 0 || l.Entry.CR3 != 0 || l.Entry.Seg[1].Attr != 0xc09b {
			t.Errorf("%+v", l.Entry)
		}
	}
}

// withWindow is the disjoint layout with RAM from base to end beside.
func withWindow(size, above, base, end uint64) ([]memory.Range, error) {
	l, err := memory.Disjoint(size, above, memory.Options{})
	return append(l, memory.Range{Base: base, Size: end - base, Kind: memory.RAM}), err
}

func TestRelocatesUpward(t *testing.T) {
	l, err := withWindow(64<<20, 1<<30, 0x2000000, 0x2400000)
	m := guest(t, l, err)
	got, err := mustParse(t, makeBz(nil, nil)).Load(m, Params{Initrd: []byte("x")})
	if err != nil || got.KernelBase != 0x2000000 || got.InitrdBase < 1<<30 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestInitrdAbove4G(t *testing.T) {
	l, err := withWindow(64<<20, 5<<30, 0x1000000, 0x1400000)
	m := guest(t, l, err)
	initrd := make([]byte, 8<<20)
	im := mustParse(t, makeBz(nil, nil))
	got, err := im.Load(m, Params{Initrd: initrd})
	if err != nil || got.InitrdBase < 5<<30 {
		t.Fatalf("%+v %v", got, err)
	}
	if bp := peek(t, m, paramsPlace, 4096); le.Uint32(bp[bpExtRamdisk:]) != 1 || uint64(le.Uint32(bp[hdrRamdisk:])) != got.InitrdBase&0xffffffff {
		t.Error("ext_ramdisk_image")
	}
	im = mustParse(t, makeBz(nil, func(b []byte) { le.PutUint16(b[hdrXLoadFlags:], xlfKernel64) }))
	if _, err := im.Load(m, Params{Initrd: initrd}); !errors.Is(err, ErrNoRoom) {
		t.Error(err)
	}
}

func TestLoadErrors(t *testing.T) {
	im := mustParse(t, makeBz(nil, nil))
	for _, c := range []struct {
		mem  uint64
		p    Params
		want error
		text string
	}{
		{16 << 20, Params{}, ErrNoRoom, "64 MiB of memory would do"},
		{64 << 20, Params{Initrd: make([]byte, 50<<20)}, ErrNoRoom, "256 MiB of memory would do"},
		{64 << 20, Params{CommandLine: strings.Repeat("x", 2048)}, ErrCommandLine, "2048 bytes, this kernel takes 2047"},
		{64 << 20, Params{CommandLine: "a\x00b"}, nil, "zero byte"},
	} {
		_, err := im.Load(flatGuest(t, c.mem), c.p)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v, want %q", err, c.text)
		}
		// The advice must be good.
		if errors.Is(err, ErrNoRoom) {
			if _, err := im.Load(flatGuest(t, 512<<20), c.p); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	bz := makeBz([]byte("payload"), nil)
	elf := makeELF64(0x100000, emX86_64, load{0x100000, 0x100000, "code", 100})
	for _, c := range []struct {
		name string
		b    []byte
		want error
		text string
	}{
		{"empty", nil, ErrTruncated, "empty"},
		{"text", []byte("hello"), ErrNotKernel, ""},
		{"gzip", []byte("\x1f\x8bxxxxxxxx"), ErrNotKernel, "gzip"},
		{"deb", []byte("!<arch>\ndebian-binary"), ErrNotKernel, "Debian package"},
		{"short header", bz[:0x210], ErrTruncated, ""},
		{"no code", bz[:2560], ErrTruncated, "end before"},
		{"half the code", bz[:3000], ErrTruncated, "has 440 of 1040 bytes"},
		{"old", makeBz(nil, func(b []byte) { le.PutUint16(b[hdrVersion:], 0x204) }), nil, "2.04 is too old"},
		{"zImage", makeBz(nil, func(b []byte) { b[hdrLoadFlags] = 0 }), nil, "zImage"},
		{"flag", makeBz(nil, func(b []byte) { b[hdrBootFlag] = 0 }), ErrNotKernel, "boot flag"},
		{"payload", makeBz(nil, func(b []byte) { le.PutUint32(b[hdrPayloadLen:], 1<<31) }), ErrTruncated, "payload"},
		{"alignment", makeBz(nil, func(b []byte) { le.PutUint32(b[hdrAlignment:], 12345) }), ErrNotKernel, "power of two"},
		{"elf header", elf[:20], ErrTruncated, ""},
		{"elf segment", elf[:len(elf)-1], ErrTruncated, "segment 0"},
		{"elf phdrs", elf[:100], ErrTruncated, "program headers"},
		{"arm", makeELF64(0, 183, load{0, 0, "", 1}), ErrNotKernel, "not x86"},
		{"entry", makeELF64(5, emX86_64, load{0x100000, 0x100000, "x", 1}), ErrNotKernel, "entry point"},
		{"nothing", makeELF64(5, emX86_64, load{0x100000, 0x100000, "", 0}), ErrNotKernel, "nothing to load"},
		{"big endian", []byte("\x7fELF\x02\x02" + strings.Repeat("\x00", 60)), ErrNotKernel, "big-endian"},
		{"video", makeMB(mbVideo, nil, nil), nil, "video mode"},
		{"mb unknown", makeMB(1<<9, nil, nil), nil, "unknown features"},
		{"mb not elf", makeMB(0, nil, nil), ErrNotKernel, "not ELF"},
		{"mb load", makeMB(mbAddresses, []uint32{0x100000, 0x100000, 0x200000, 0, 0x100000}, nil), ErrTruncated, ""},
		{"mb entry", makeMB(mbAddresses, []uint32{0x100000, 0x100000, 0, 0, 5}, nil), ErrNotKernel, "entry"},
	} {
		_, err := Parse(c.b)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v %q", c.name, err, c.want, c.text)
		}
	}
}

func makeMB(flags uint32, addresses []uint32, body []byte) []byte {
	b := le.AppendUint32(nil, mbMagic)
	b = le.AppendUint32(b, flags)
	b = le.AppendUint32(b, -(mbMagic + flags))
	for _, a := range addresses {
		b = le.AppendUint32(b, a)
	}
	return append(b, body...)
}

func TestELF(t *testing.T) {
	m := flatGuest(t, 64<<20)
	if !m.WriteAt(bytes.Repeat([]byte{0xff}, 4096), 0x200000) {
		t.Fatal()
	}
	// A virtual entry point, and memory that must become zero.
	im := mustParse(t, makeELF64(0xffffffff80200002, emX86_64, load{0xffffffff80200000, 0x200000, "kernel", 0x100}))
	l, err := im.Load(m, Params{CommandLine: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if l.Entry.RIP != 0x200002 || l.Entry.EFER == 0 || string(peek(t, m, 0x200000, 7)) != "kernel\x00" {
		t.Errorf("%+v", l)
	}
	if b := peek(t, m, 0x2000ff, 2); b[0] != 0 || b[1] != 0xff {
		t.Error("bss", b)
	}
	im = mustParse(t, makeELF32(0x100000, load{0xc0100000, 0x100000, "k32", 0x100}))
	l, err = im.Load(m, Params{})
	if err != nil || l.Entry.RIP != 0x100000 || l.Entry.EFER != 0 || im.Bits != 32 {
		t.Errorf("%+v %v", l, err)
	}
	im = mustParse(t, makeELF32(0x100000, load{0x7000, 0x7000, "in the way", 0x100}, load{0x100000, 0x100000, "x", 1}))
	if _, err := im.Load(m, Params{}); err == nil || !strings.Contains(err.Error(), "linked there") {
		t.Error(err)
	}
}

func TestMultiboot(t *testing.T) {
	for name, b := range map[string][]byte{
		"addresses": makeMB(mbAddresses|3, []uint32{0x100000, 0x100000, 0, 0x200000, 0x100020}, []byte("code")),
		"elf":       makeELF32(0x100020, load{0x100000, 0x100000, string(makeMB(3, nil, []byte(strings.Repeat(" ", 20)+"code"))), 0x100000}),
	} {
		im := mustParse(t, b)
		if im.Format != Multiboot {
			t.Fatal(name, im.Format)
		}
		m := flatGuest(t, 64<<20)
		l, err := im.Load(m, Params{CommandLine: "hi there", Initrd: []byte("module")})
		if err != nil {
			t.Fatal(name, err)
		}
		if string(peek(t, m, l.Entry.RIP, 4)) != "code" || l.Entry.GPR[regAX] != mbBootMagic || l.Entry.CR0 != 0x11 {
			t.Errorf("%s: %+v", name, l)
		}
		info := peek(t, m, l.Entry.GPR[regBX], mbInfoSize)
		u := func(o int) uint64 { return uint64(le.Uint32(info[o:])) }
		if u(0) != 0x24d || u(4) != 636 || u(8) != 63<<10 || string(peek(t, m, u(16), 9)) != "hi there\x00" || u(20) != 1 {
			t.Errorf("%s: % x", name, info)
		}
		mod := peek(t, m, u(24), 16)
		if string(peek(t, m, uint64(le.Uint32(mod)), 6)) != "module" || le.Uint32(mod[4:])-le.Uint32(mod) != 6 {
			t.Error("module")
		}
		mm := peek(t, m, u(48), int(u(44)))
		if len(mm) != 4*24 || le.Uint32(mm) != 20 || le.Uint64(mm[4+72:]) != 0x100000 {
			t.Errorf("% x", mm)
		}
		checkDescriptor(t, peek(t, m, l.Entry.GDTR.Base, 48), l.Entry.Seg[1])
	}
}

func TestUnpack(t *testing.T) {
	build := func(n int) (kernel, size []byte) {
		kernel = makeELF64(0x1000000, emX86_64, load{0xffffffff81000000, 0x1000000, strings.Repeat("kernel text ", n), 13 << 20})
		return kernel, le.AppendUint32(nil, uint32(len(kernel)))
	}
	large, largeSize := build(1 << 20) // more than one block of LZ4
	kernel, size := build(1 << 16)
	legacy := []byte("\x02\x21\x4c\x18")
	for rest := large; len(rest) > 0; {
		n := min(len(rest), 8<<20)
		dst := make([]byte, lz4.CompressBlockBound(n))
		var c lz4.Compressor
		k, err := c.CompressBlock(rest[:n], dst)
		if err != nil {
			t.Fatal(err)
		}
		legacy = append(le.AppendUint32(legacy, uint32(k)), dst[:k]...)
		rest = rest[n:]
	}
	enc, _ := zstd.NewWriter(nil)
	payloads := map[string][]byte{
		"lz4":  append(legacy, largeSize...),
		"zstd": append(enc.EncodeAll(kernel, nil), size...),
	}
	for name, args := range map[string][]string{
		"xz":    {"xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"},
		"gzip":  {"gzip", "-n"},
		"bzip2": {"bzip2"},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("not tested: %s is not installed", args[0])
			continue
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = bytes.NewReader(kernel)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(name, err)
		}
		if name != "gzip" {
			out = append(out, size...)
		}
		payloads[name] = out
	}
	for name, p := range payloads {
		im := mustParse(t, makeBz(p, nil))
		if im.Compression() != name {
			t.Errorf("%s is %q", name, im.Compression())
		}
		want := kernel
		if name == "lz4" {
			want = large
		}
		got, err := im.Unpack()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
			continue
		}
		d, err := im.Direct()
		if err != nil {
			t.Fatal(err)
		}
		l, err := d.Load(flatGuest(t, 64<<20), Params{})
		if err != nil || l.Entry.RIP != 0x1000000 || l.KernelEnd != 0x1000000+13<<20 {
			t.Errorf("%+v %v", l, err)
		}
		if _, err := mustParse(t, makeBz(p[:len(p)/2], nil)).Unpack(); err == nil {
			t.Error(name, "no error for half of it")
		}
	}
	for _, p := range []string{"", "\x89LZO", "\x5d\x00\x00", "what is this"} {
		if _, err := mustParse(t, makeBz([]byte(p), nil)).Unpack(); err == nil {
			t.Errorf("no error for %q", p)
		}
	}
}

func TestDebianKernels(t *testing.T) {
	for _, k := range guests.Kernels(t) {
		t.Run(k.Name, func(t *testing.T) {
			if !guests.Long() && k.Name != "cloud-6.1" && k.Name != "686" {
				t.Skip("one kernel of a kind is enough; EMU_LONG is not set")
			}
			b, err := os.ReadFile(k.Image)
			if err != nil {
				t.Fatal(err)
			}
			im := mustParse(t, b)
			base, end := im.Window()
			t.Logf("%d bit, protocol %#x, %s, window %#x-%#x, %s", im.Bits, im.Protocol(), im.Compression(), base, end, im.Version)
			layout, err := memory.Flat(512<<20, memory.Options{})
			m := guest(t, layout, err)
			if l, err := im.Load(m, Params{Initrd: make([]byte, 1<<20), Stub: true}); err != nil || !l.Stub || l.KernelBase != base {
				t.Errorf("%+v %v", l, err)
			}
			d, err := im.Direct()
			if err != nil {
				t.Fatal(err)
			}
			checkRelocations(t, d)
			checkRandom(t, d)
			if im.Bits == 64 {
				const above = 64 << 30
				layout, err := memory.Disjoint(512<<20, above, memory.Options{})
				high := guest(t, layout, err)
				at := d.At(Shifts{Text: 4 << 20}, above)
				for _, p := range []Params{{}, {CommandLine: "nokaslr"}, {Shifts: &at}} {
					p.Initrd = make([]byte, 1<<20)
					l, err := d.Load(high, p)
					if err != nil || l.Stub || l.KernelBase < above || l.InitrdBase < above || l.KernelBase != base+l.Shifts.Text+l.Shifts.PhysBase ||
						p.Shifts != nil && (l.Shifts != at || l.KernelBase != above) || (l.Shifts.Text == 0) != (p.CommandLine != "") {
						t.Errorf("%+v %v", l, err)
					}
				}
			}
			if u := d.data; !bytes.Contains(u, []byte("Linux version "+strings.Fields(im.Version)[0])) {
				t.Error("no banner in the unpacked kernel")
			}
		})
	}
}

// table makes relocation tables, each behind its zero.
func table(tables ...[]uint32) []byte {
	var b []byte
	for _, t := range tables {
		b = le.AppendUint32(b, 0)
		for _, v := range t {
			b = le.AppendUint32(b, v)
		}
	}
	return b
}

// packed puts a kernel and its relocations into a bzImage.
func packed(t testing.TB, elf, relocs []byte) []byte {
	t.Helper()
	p := append(bytes.Clone(elf), relocs...)
	dst := make([]byte, lz4.CompressBlockBound(len(p)))
	var c lz4.Compressor
	n, err := c.CompressBlock(p, dst)
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	out := append([]byte("\x02\x21\x4c\x18"), le.AppendUint32(nil, uint32(n))...)
	return makeBz(le.AppendUint32(append(out, dst[:n]...), uint32(len(p))), nil)
}

func TestRelocations(t *testing.T) {
	const v = 0xffffffff81000000
	text := make([]byte, 3*4096)
	for i := range text {
		text[i] = 0xff
	}
	elf := makeELF64(0x1000000, emX86_64, load{v, 0x1000000, string(text), 0x10000})
	add32, sub32, add64 := []uint32{0x81000010, 0x81000ffe}, []uint32{0x81000020}, []uint32{0x81000030, 0x81001ffc}
	const by = 0x12600000
	for name, relocs := range map[string][]byte{"three": table(add64, sub32, add32), "two": table(add64, add32)} {
		m := flatGuest(t, 64<<20)
		im := mustParse(t, packed(t, elf, relocs))
		l, err := im.Load(m, Params{Shifts: &Shifts{Text: by, PhysBase: minus(by - 0x400000)}})
		if err != nil || l.Entry.RIP != 0x1400000 || l.KernelBase != 0x1400000 {
			t.Fatalf("%+v %v", l, err)
		}
		want := bytes.Clone(text)
		le.PutUint32(want[0x10:], by-1)
		le.PutUint32(want[0xffe:], by-1)
		if name == "three" {
			le.PutUint32(want[0x20:], 0xffffffff-by)
		}
		le.PutUint64(want[0x30:], by-1)
		le.PutUint64(want[0x1ffc:], by-1)
		if !bytes.Equal(peek(t, m, 0x1400000, len(want)), want) {
			t.Error(name)
		}
		if _, err := im.Load(m, Params{CommandLine: "quiet nokaslr"}); err != nil || !bytes.Equal(peek(t, m, 0x1000000, len(text)), text) {
			t.Error(name, "nokaslr", err)
		}
	}
	elf32 := makeELF32(0x1000000, load{0xc1000000, 0x1000000, string(text), 0x10000})
	m := flatGuest(t, 128<<20)
	l, err := mustParse(t, packed(t, elf32, table([]uint32{0xc1000010}))).Load(m, Params{Shifts: &Shifts{Text: 0x2000000}})
	if err != nil || l.Entry.RIP != 0x3000000 || l.Entry.EFER != 0 || le.Uint32(peek(t, m, 0x3000010, 4)) != 0x1ffffff {
		t.Errorf("%+v %v", l, err)
	}
	for name, relocs := range map[string][]byte{
		"one table":  table(add32),
		"many":       table(add32, add32, add32, add32),
		"no zero":    table(add32)[4:],
		"odd":        append(table(add64, add32), 1),
		"below":      table(nil, []uint32{0x80ffffff}),
		"above":      table(nil, []uint32{0x82000000}),
		"end":        table([]uint32{0x813ffffc}, nil),
		"user space": table(nil, []uint32{0x1000010}),
	} {
		im := mustParse(t, packed(t, elf, relocs))
		if _, err := im.Load(flatGuest(t, 64<<20), Params{Shifts: &Shifts{Text: by, PhysBase: minus(by - 0x400000)}}); !errors.Is(err, ErrNotKernel) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// checkRelocations moves a kernel there and back.
func checkRelocations(t *testing.T, d *Image) {
	t.Helper()
	m := flatGuest(t, 256<<20)
	l, err := d.Load(m, Params{CommandLine: "nokaslr"})
	if err != nil || l.Shifts != (Shifts{}) || peek(t, m, paramsPlace, 4096)[hdrLoadFlags] != 1 {
		t.Fatalf("%+v %v", l, err)
	}
	_, end := d.Window()
	span := int(end - l.KernelBase)
	plain := peek(t, m, l.KernelBase, span)
	by := uint64(0x2000000)
	s := Shifts{Text: by}
	if d.Bits == 64 {
		s.PhysBase = -by + 0x800000
	}
	m = flatGuest(t, 256<<20) // what lies between segments is left alone
	l, err = d.Load(m, Params{Shifts: &s, CommandLine: "nokaslr"})
	if err != nil || l.Shifts != s || l.KernelBase != 0x1000000+s.Text+s.PhysBase || peek(t, m, paramsPlace, 4096)[hdrLoadFlags] != 3 {
		t.Fatalf("%+v %v", l, err)
	}
	moved := peek(t, m, l.KernelBase, span)
	changed := 0
	for i := 0; i < span; i += 4 {
		if !bytes.Equal(plain[i:i+4], moved[i:i+4]) {
			changed++
		}
	}
	entries := (len(d.relocs.add32) + len(d.relocs.sub32) + len(d.relocs.add64)) / 4
	t.Logf("%d relocations change %d words", entries, changed)
	if changed < entries*9/10 {
		t.Error("too few")
	}
	if err := d.relocs.relocate(m, d.virt(), l.KernelBase, l.KernelEnd, -by); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(peek(t, m, l.KernelBase, span), plain) {
		t.Error("it does not come back")
	}
}

// checkRandom looks at where seeds put a kernel.
func checkRandom(t *testing.T, d *Image) {
	t.Helper()
	m := flatGuest(t, 1<<30)
	l := &loader{im: d, m: m, p: Params{Initrd: make([]byte, 30<<20)}}
	text, phys := map[uint64]int{}, map[uint64]int{}
	for seed := range uint64(1000) {
		l.p.Seed, l.s, l.kaslr = seed, newSpace(m), false
		if err := l.place(); err != nil || !l.kaslr {
			t.Fatal(err)
		}
		base, end := d.Window()
		text[l.Shifts.Text]++
		phys[l.phys]++
		switch at := l.phys + end - base; {
		case l.phys%l.align() != 0 || l.Shifts.Text%l.align() != 0,
			at > 1<<30-30<<20, d.Bits == 32 && at > 512<<20,
			base+l.Shifts.Text+end-base > 1<<30,
			d.Bits == 64 && l.phys != base+l.Shifts.Text+l.Shifts.PhysBase,
			d.Bits == 32 && l.phys != base+l.Shifts.Text:
			t.Fatalf("seed %d: at %#x, %+v", seed, l.phys, l.Shifts)
		}
	}
	t.Logf("1000 seeds: %d text shifts, %d physical addresses", len(text), len(phys))
	if d.Bits == 64 && len(text) < 300 || len(phys) < 25 {
		t.Error("too few places")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(makeBz([]byte("\x02\x21\x4c\x18\x01\x00\x00\x00\x10"), nil))
	f.Add(makeELF64(0x100000, emX86_64, load{0x100000, 0x100000, "code", 100}))
	f.Add(makeELF32(0x100000, load{0xc0100000, 0x100000, "code", 100}))
	f.Add(makeMB(mbAddresses|3, []uint32{0x100000, 0x100000, 0, 0x200000, 0x100020}, []byte("code")))
	f.Add(packed(f, makeELF64(0x1000000, emX86_64, load{0xffffffff81000000, 0x1000000, strings.Repeat("code", 99), 1000}),
		table([]uint32{0x81000010}, []uint32{0x81000020}, []uint32{0x81000030})))
	m := flatGuest(f, 32<<20)
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := Parse(b)
		if err != nil {
			return
		}
		if base, end := im.Window(); base > end {
			t.Errorf("window %#x-%#x", base, end)
		}
		if u, err := im.Unpack(); err == nil && len(u) > MaxUnpacked {
			t.Error("too large")
		}
		if _, err := im.Direct(); err != nil {
			t.Log(err)
		}
		if l, err := im.Load(m, Params{CommandLine: "x", Initrd: []byte("initrd")}); err == nil && m.ReadPage(l.Entry.RIP) == nil {
			t.Errorf("entry %#x is not in memory", l.Entry.RIP)
		}
	})
}

// BenchmarkLoad unpacks, relocates and places each kernel on the host.
func BenchmarkLoad(b *testing.B) {
	for _, k := range guests.Kernels(b) {
		image, err := os.ReadFile(k.Image)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(k.Name, func(b *testing.B) {
			m := flatGuest(b, 512<<20)
			for seed := range uint64(b.N) {
				if _, err := mustParse(b, image).Load(m, Params{Seed: seed}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func minus(n uint64) uint64 { return -n }
