package oracle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"github.com/hybridbridge/emu/cpu/isa"
)

// Diff is one field in which the emulator differs from the host. Fields are named as in the lines of testdata/oracle:
// "rax", "cf", "mxcsr", "st0", "xmm3", "data+0x10", "end".
type Diff struct {
	Field     string
	Host, Emu string
}

// data returns the offset in the data pages and the length of a difference in memory.
func (d Diff) data() (off, n int, ok bool) {
	if !strings.HasPrefix(d.Field, "data") {
		return 0, 0, false
	}
	la, err := parsePlace(d.Field)
	return int(la - dataBase), len(d.Host) / 2, err == nil
}

func (d Diff) String() string { return fmt.Sprintf("%s=%s (emu: %s)", d.Field, d.Host, d.Emu) }

var gprNames = [16]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}

// flagNames are the bits of RFLAGS that are compared one by one.
var flagNames = []struct {
	bit  isa.Flags
	name string
}{
	{isa.FlagCF, "cf"},
	{isa.FlagPF, "pf"},
	{isa.FlagAF, "af"},
	{isa.FlagZF, "zf"},
	{isa.FlagSF, "sf"},
	{isa.FlagTF, "tf"},
	{isa.FlagIF, "if"},
	{isa.FlagDF, "df"},
	{isa.FlagOF, "of"},
	{isa.FlagIOPL, "iopl"},
	{isa.FlagNT, "nt"},
	{isa.FlagRF, "rf"},
	{isa.FlagVM, "vm"},
	{isa.FlagAC, "ac"},
	{isa.FlagID, "id"},
}

// undefinedFlags are the flags of an outcome that the manual leaves undefined.
func (c *Case) undefinedFlags(out *Outcome) isa.Flags {
	var all isa.Flags
	arms := false
	for i := range c.Insts {
		in := &c.Insts[i]
		if out.Vector != NoFault && in.Addr == out.RIP {
			if i == 0 {
				return 0
			}
			if !in.Arm {
				return c.Insts[i-1].Undef
			}
		}
		arms = arms || in.Arm
		all |= in.Undef
	}
	if n := len(c.Insts); n > 0 && !arms && out.Vector == NoFault {
		return c.Insts[n-1].Undef
	}
	return all
}

// ignored are the flags that a comparison leaves out: those that the manual leaves undefined, unless strict says that the
// host is of the kind that the emulator follows in them (docs/decisions/undefined-flags.md).
func (c *Case) ignored(host *Outcome, strict bool) isa.Flags {
	if strict {
		return 0
	}
	return c.undefinedFlags(host)
}

// HostIsModel reports whether the host is of the kind whose undefined flags the emulator has: AMD's.
func HostIsModel() bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && bytes.Contains(info, []byte("AuthenticAMD"))
}

// same reports that nothing differs, the quick way. It may be false where only undefined flags differ.
func same(a, b *Outcome) bool {
	return a.Vector == b.Vector && a.GPR == b.GPR && a.RIP == b.RIP && a.RFLAGS == b.RFLAGS && (a.Code == b.Code || a.Address >= taskSize) &&
		a.Address == b.Address && a.FSBase == b.FSBase && a.GSBase == b.GSBase &&
		sameFX(&a.State, &b.State) && bytes.Equal(a.Data, b.Data)
}

// sameFX is same for the x87 and SSE state.
func sameFX(host, emu *State) bool {
	h, e := &host.FX, &emu.FX
	return bytes.Equal(h[:fxOpcode], e[:fxOpcode]) && bytes.Equal(h[fxMXCSR:fxMXCSR+4], e[fxMXCSR:fxMXCSR+4]) &&
		bytes.Equal(h[fxST:fxUsed], e[fxST:fxUsed]) && (h[fxStatus]&0x80 == 0 || bytes.Equal(h[fxOpcode:fxMXCSR], e[fxOpcode:fxMXCSR]))
}

// taskSize is where Linux ends user space.
const taskSize = 1<<47 - pageSize

// end describes how a case ended.
func (o *Outcome) end() string {
	switch o.Vector {
	case NoFault:
		return "ok"
	case Hang:
		return "hang"
	case Unsupported:
		return "unsupported:" + o.Detail
	}
	name := fmt.Sprintf("#%d", o.Vector)
	if o.Vector < len(vectorNames) && vectorNames[o.Vector] != "" {
		name = "#" + vectorNames[o.Vector]
	}
	switch o.Vector {
	case 8, 10, 11, 12, 13, 17:
		name += fmt.Sprintf("(%#x)", o.Code)
	case vectorPF:
		code := o.Code
		if o.Address >= taskSize {
			// Linux sets P for addresses that are not user space's, so that user code cannot probe which are mapped
			// (arch/x86/mm/fault.c, sanitize_error_code).
			code |= 1
		}
		name += fmt.Sprintf("(%#x)@%s", code, place(o.Address))
	}
	return name
}

var vectorNames = [20]string{"DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9", "TS", "NP", "SS", "GP", "PF", "15", "MF", "AC", "MC", "XM"}

// Compare returns the fields in which the emulator's outcome differs from the host's, those flags left out that ignore
// has.
func Compare(c *Case, host, emu *Outcome, ignore isa.Flags) []Diff {
	if same(host, emu) {
		return nil
	}
	var list []Diff
	add := func(field, h, e string) {
		if h != e {
			list = append(list, Diff{field, h, e})
		}
	}
	hex := func(field string, h, e uint64) {
		if h != e {
			list = append(list, Diff{field, fmt.Sprintf("%#x", h), fmt.Sprintf("%#x", e)})
		}
	}
	raw := func(field string, h, e []byte) {
		if !bytes.Equal(h, e) {
			list = append(list, Diff{field, fmt.Sprintf("%x", h), fmt.Sprintf("%x", e)})
		}
	}
	add("end", host.end(), emu.end())
	add("rip", place(host.RIP), place(emu.RIP))
	for i, name := range gprNames {
		if host.GPR[i] != emu.GPR[i] {
			add(name, place(host.GPR[i]), place(emu.GPR[i]))
		}
	}
	if diff := (host.RFLAGS ^ emu.RFLAGS) &^ uint64(ignore); diff != 0 {
		for _, f := range flagNames {
			if diff&uint64(f.bit) != 0 {
				add(f.name, flagText(host.RFLAGS, f.bit), flagText(emu.RFLAGS, f.bit))
				diff &^= uint64(f.bit)
			}
		}
		hex("rflags", host.RFLAGS&diff, emu.RFLAGS&diff)
	}
	hex("fsbase", host.FSBase, emu.FSBase)
	hex("gsbase", host.GSBase, emu.GSBase)
	compareFX(&host.State, &emu.State, add, hex, raw)
	for off := 0; off < len(host.Data); {
		if host.Data[off] == emu.Data[off] {
			off++
			continue
		}
		n := 1
		for off+n < len(host.Data) && n < 512 && !bytes.Equal(host.Data[off+n:min(off+n+8, dataSize)], emu.Data[off+n:min(off+n+8, dataSize)]) {
			n++
		}
		raw(place(uint64(dataBase+off)), host.Data[off:off+n], emu.Data[off:off+n])
		off += n
		if len(list) > 12 {
			break
		}
	}
	return list
}

func flagText(v uint64, bit isa.Flags) string {
	if bit == isa.FlagIOPL {
		return fmt.Sprint(v >> 12 & 3)
	}
	if v&uint64(bit) != 0 {
		return "1"
	}
	return "0"
}

func compareFX(host, emu *State, add func(field, h, e string), hex func(field string, h, e uint64), raw func(field string, h, e []byte)) {
	if sameFX(host, emu) {
		return
	}
	h, e := &host.FX, &emu.FX
	le := binary.LittleEndian
	word := func(name string, off int) {
		hex(name, uint64(le.Uint16(h[off:])), uint64(le.Uint16(e[off:])))
	}
	word("fcw", fxControl)
	word("fsw", fxStatus)
	hex("ftw", uint64(h[fxTag]), uint64(e[fxTag]))
	// The pointers to the last instruction: AMD's FXSAVE stores them only if an exception is pending (APM vol. 5,
	// FXSAVE); cases see them by FNSTENV and FNSAVE.
	if h[fxStatus]&0x80 != 0 {
		word("fop", fxOpcode)
		add("fip", place(le.Uint64(h[fxIP:])), place(le.Uint64(e[fxIP:])))
		add("fdp", place(le.Uint64(h[fxDP:])), place(le.Uint64(e[fxDP:])))
	}
	hex("mxcsr", uint64(host.mxcsr()), uint64(emu.mxcsr()))
	for i := range 8 {
		add(fmt.Sprintf("st%d", i), realText(host.st(i)), realText(emu.st(i)))
	}
	for i := range 16 {
		raw(fmt.Sprintf("xmm%d", i), host.xmm(i), emu.xmm(i))
	}
}

// realText writes an 80-bit real: sign and exponent, significand.
func realText(p []byte) string {
	return fmt.Sprintf("%04x:%016x", binary.LittleEndian.Uint16(p[8:]), binary.LittleEndian.Uint64(p))
}

// regions are the address ranges that texts name relative to their beginning, so that a case can be read without the
// layout.
var regions = []struct {
	name        string
	first, last uint64
	base        uint64
}{
	{"code", codeBase, codeBase + codeGroups*groupSize, codeBase},
	{"data", dataBase - pageSize, dataBase + dataSize + roSize + pageSize, dataBase},
	{"high", highBase - pageSize, highBase + dataSize + roSize + pageSize, highBase},
	{"end", endAddress, endAddress, endAddress},
}

// place writes an address or number.
func place(v uint64) string {
	for i := range regions {
		r := &regions[i]
		if v < r.first || v > r.last {
			continue
		}
		switch {
		case v == r.base:
			return r.name
		case v < r.base:
			return fmt.Sprintf("%s-%#x", r.name, r.base-v)
		}
		return fmt.Sprintf("%s+%#x", r.name, v-r.base)
	}
	return fmt.Sprintf("%#x", v)
}
