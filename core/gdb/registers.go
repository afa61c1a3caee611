package gdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// registers is what gdb can see and change of the processor.
type registers struct {
	vcpu.State
	tpr uint8 // CR8
}

// value holds a register of up to 128 bits, low quadword first.
type value [2]uint64

// register is a row of the target description. Its number in the protocol is its place in the description.
type register struct {
	name  string
	bits  int
	typ   string
	group string
	get   func(*registers) value
	set   func(*registers, value) // nil if gdb may not change it
}

func (r *register) size() int { return r.bits / 8 }

// feature is a group of registers that gdb knows by name.
type feature struct {
	name  string
	types string // XML of the types that its registers use
	regs  []register
}

// description is the target description for one width.
type description struct {
	arch     string
	features []feature
	regs     []*register
}

var (
	description64 = sync.OnceValue(func() *description { return describe(64) })
	description32 = sync.OnceValue(func() *description { return describe(32) })
)

// describe makes the description that gdb's i386 and amd64 architectures require (GDB manual, G.5.6 x86 features), and the
// system registers under the names that QEMU gives them.
func describe(bits int) *description {
	d := &description{arch: "i386"}
	if bits == 64 {
		d.arch = "i386:x86-64"
	}
	d.features = []feature{
		{"org.gnu.gdb.i386.core", flagsType, coreRegisters(bits)},
		{"org.gnu.gdb.i386.sse", vectorTypes, sseRegisters(bits)},
	}
	if bits == 64 {
		d.features = append(d.features, feature{"org.gnu.gdb.i386.segments", "", []register{
			baseRegister("fs_base", 64, isa.FS), baseRegister("gs_base", 64, isa.GS),
		}})
	}
	d.features = append(d.features, feature{"org.hybridbridge.emu.i386.system", systemTypes(bits / 8), systemRegisters(bits)})
	for i := range d.features {
		for j := range d.features[i].regs {
			d.regs = append(d.regs, &d.features[i].regs[j])
		}
	}
	return d
}

// field makes the accessors of a register that is a field of the state.
func field[T uint16 | uint32 | uint64](at func(*registers) *T) (func(*registers) value, func(*registers, value)) {
	return func(r *registers) value { return value{uint64(*at(r))} },
		func(r *registers, v value) { *at(r) = T(v[0]) }
}

func fieldRegister[T uint16 | uint32 | uint64](name string, bits int, typ string, at func(*registers) *T) register {
	get, set := field(at)
	return register{name: name, bits: bits, typ: typ, get: get, set: set}
}

func baseRegister(name string, bits int, seg uint8) register {
	typ := "int"
	if bits == 64 {
		typ = "int64"
	}
	return fieldRegister(name, bits, typ, func(r *registers) *uint64 { return &r.Seg[seg].Base })
}

// General registers in gdb's order, by their encoding.
var (
	order64 = []struct {
		name string
		n    int
	}{
		{"rax", 0},
		{"rbx", 3},
		{"rcx", 1},
		{"rdx", 2},
		{"rsi", 6},
		{"rdi", 7},
		{"rbp", 5},
		{"rsp", 4},
		{"r8", 8},
		{"r9", 9},
		{"r10", 10},
		{"r11", 11},
		{"r12", 12},
		{"r13", 13},
		{"r14", 14},
		{"r15", 15},
	}
	names32 = []string{"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"}
)

func coreRegisters(bits int) []register {
	var regs []register
	gpr := func(name string, n int) {
		typ := "int"
		switch {
		case n == 4 || n == 5:
			typ = "data_ptr"
		case bits == 64:
			typ = "int64"
		}
		regs = append(regs, fieldRegister(name, bits, typ, func(r *registers) *uint64 { return &r.GPR[n] }))
	}
	ip := "rip"
	if bits == 64 {
		for _, g := range order64 {
			gpr(g.name, g.n)
		}
	} else {
		ip = "eip"
		for n, name := range names32 {
			gpr(name, n)
		}
	}
	regs = append(regs,
		fieldRegister(ip, bits, "code_ptr", func(r *registers) *uint64 { return &r.RIP }),
		fieldRegister("eflags", 32, "i386_eflags", func(r *registers) *uint64 { return &r.RFLAGS }))
	for _, s := range []struct {
		name string
		n    uint8
	}{{"cs", isa.CS}, {"ss", isa.SS}, {"ds", isa.DS}, {"es", isa.ES}, {"fs", isa.FS}, {"gs", isa.GS}} {
		// A selector alone says nothing about the hidden part of the register, so gdb may not change it.
		r := fieldRegister(s.name, 32, "int", func(r *registers) *uint16 { return &r.Seg[s.n].Selector })
		r.set = nil
		regs = append(regs, r)
	}
	for i := range 8 {
		regs = append(regs, register{
			name: fmt.Sprintf("st%d", i), bits: 80, typ: "i387_ext",
			get: func(r *registers) value { f := r.st(i); return value{f.Mant, uint64(f.SE)} },
			set: func(r *registers, v value) { *r.st(i) = vcpu.F80{Mant: v[0], SE: uint16(v[1])} },
		})
	}
	x87 := []register{
		fieldRegister("fctrl", 32, "int", func(r *registers) *uint16 { return &r.FPU.Control }),
		fieldRegister("fstat", 32, "int", func(r *registers) *uint16 { return &r.FPU.Status }),
		{
			name: "ftag", bits: 32, typ: "int",
			get: func(r *registers) value { return value{uint64(r.fullTag())} },
			set: func(r *registers, v value) { r.setFullTag(uint16(v[0])) },
		},
		fieldRegister("fiseg", 32, "int", func(r *registers) *uint16 { return &r.FPU.LastCS }),
		fieldRegister("fioff", 32, "int", func(r *registers) *uint64 { return &r.FPU.LastIP }),
		fieldRegister("foseg", 32, "int", func(r *registers) *uint16 { return &r.FPU.LastDS }),
		fieldRegister("fooff", 32, "int", func(r *registers) *uint64 { return &r.FPU.LastDP }),
		fieldRegister("fop", 32, "int", func(r *registers) *uint16 { return &r.FPU.LastOpcode }),
	}
	for i := range x87 {
		x87[i].group = "float"
	}
	return append(regs, x87...)
}

// st returns register i of the x87 stack.
func (r *registers) st(i int) *vcpu.F80 { return &r.FPU.ST[(int(r.FPU.Status>>11)+i)&7] }

// fullTag returns the x87 tag word as FSTENV stores it (SDM vol. 1, 8.1.7).
func (r *registers) fullTag() uint16 {
	var w uint16
	for i, f := range r.FPU.ST {
		tag := uint16(0) // valid
		switch e := f.SE & 0x7fff; {
		case r.FPU.Tag>>i&1 == 0:
			tag = 3 // empty
		case e == 0 && f.Mant == 0:
			tag = 1 // zero
		case e == 0 || e == 0x7fff || f.Mant>>63 == 0:
			tag = 2 // special
		}
		w |= tag << (2 * i)
	}
	return w
}

func (r *registers) setFullTag(w uint16) {
	r.FPU.Tag = 0
	for i := range 8 {
		if w>>(2*i)&3 != 3 {
			r.FPU.Tag |= 1 << i
		}
	}
}

func sseRegisters(bits int) []register {
	n := 8
	if bits == 64 {
		n = 16
	}
	regs := make([]register, 0, n+1)
	for i := range n {
		regs = append(regs, register{
			name: fmt.Sprintf("xmm%d", i), bits: 128, typ: "vec128",
			get: func(r *registers) value { return r.FPU.XMM[i] },
			set: func(r *registers, v value) { r.FPU.XMM[i] = v },
		})
	}
	mxcsr := fieldRegister("mxcsr", 32, "i386_mxcsr", func(r *registers) *uint32 { return &r.FPU.MXCSR })
	mxcsr.group = "vector"
	mxcsr.set = func(r *registers, v value) { r.FPU.MXCSR = uint32(v[0]) & 0xffff }
	return append(regs, mxcsr)
}

func systemRegisters(bits int) []register {
	typ := "int"
	if bits == 64 {
		typ = "int64"
	}
	var regs []register
	if bits == 64 {
		regs = append(regs, fieldRegister("k_gs_base", 64, typ, func(r *registers) *uint64 { return &r.MSR.KernelGSBase }))
	} else {
		regs = append(regs, baseRegister("fs_base", 32, isa.FS), baseRegister("gs_base", 32, isa.GS))
	}
	regs = append(regs,
		fieldRegister("cr0", bits, "i386_cr0", func(r *registers) *uint64 { return &r.CR0 }),
		fieldRegister("cr2", bits, typ, func(r *registers) *uint64 { return &r.CR2 }),
		fieldRegister("cr3", bits, typ, func(r *registers) *uint64 { return &r.CR3 }),
		fieldRegister("cr4", bits, "i386_cr4", func(r *registers) *uint64 { return &r.CR4 }))
	if bits == 64 {
		regs = append(regs, register{
			name: "cr8", bits: 64, typ: typ,
			get: func(r *registers) value { return value{uint64(r.tpr)} },
			set: func(r *registers, v value) { r.tpr = uint8(v[0]) & 15 },
		})
	}
	return append(regs, fieldRegister("efer", bits, "i386_efer", func(r *registers) *uint64 { return &r.MSR.EFER }))
}

// bytes appends the register as the protocol orders it: little-endian.
func (r *register) bytes(b []byte, s *registers) []byte {
	v := r.get(s)
	var full [16]byte
	binary.LittleEndian.PutUint64(full[:], v[0])
	binary.LittleEndian.PutUint64(full[8:], v[1])
	return append(b, full[:r.size()]...)
}

var errReadOnly = errors.New("the register cannot be changed from outside")

// write changes the register; the bits of the field that the register does not show keep their value.
func (r *register) write(s *registers, b []byte) error {
	var full [16]byte
	copy(full[:], b)
	v := value{binary.LittleEndian.Uint64(full[:]), binary.LittleEndian.Uint64(full[8:])}
	old := r.get(s)
	if r.bits == 32 {
		old[0] &= 0xffffffff
	}
	switch {
	case v == old:
		return nil
	case r.set == nil:
		return fmt.Errorf("%s: %w", r.name, errReadOnly)
	}
	r.set(s, v)
	return nil
}

// xml returns the target description (GDB manual, G Target Descriptions).
func (d *description) xml() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">`)
	fmt.Fprintf(&b, "<architecture>%s</architecture>\n", d.arch)
	n := 0
	for _, f := range d.features {
		fmt.Fprintf(&b, "<feature name=%q>\n%s", f.name, f.types)
		for _, r := range f.regs {
			fmt.Fprintf(&b, `<reg name=%q bitsize="%d" type=%q regnum="%d"`, r.name, r.bits, r.typ, n)
			if r.group != "" {
				fmt.Fprintf(&b, " group=%q", r.group)
			}
			b.WriteString("/>\n")
			n++
		}
		b.WriteString("</feature>\n")
	}
	b.WriteString("</target>\n")
	return b.String()
}

// flagsXML makes a flags type; names are from bit 0 up, "" for a bit without a name.
func flagsXML(id string, size int, names ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<flags id=%q size=\"%d\">\n", id, size)
	for i, n := range names {
		if n != "" {
			fmt.Fprintf(&b, "<field name=%q start=\"%d\" end=\"%d\"/>\n", n, i, i)
		}
	}
	b.WriteString("</flags>\n")
	return b.String()
}

var flagsType = flagsXML("i386_eflags", 4, "CF", "", "PF", "", "AF", "", "ZF", "SF", "TF", "IF", "DF", "OF", "", "", "NT",
	"", "RF", "VM", "AC", "VIF", "VIP", "ID")

// systemTypes are the types of control registers of size bytes.
func systemTypes(size int) string {
	return flagsXML("i386_cr0", size, "PE", "MP", "EM", "TS", "ET", "NE", "", "", "", "", "", "", "", "", "", "", "WP", "",
		"AM", "", "", "", "", "", "", "", "", "", "", "NW", "CD", "PG") +
		flagsXML("i386_cr4", size, "VME", "PVI", "TSD", "DE", "PSE", "PAE", "MCE", "PGE", "PCE", "OSFXSR", "OSXMMEXCPT",
			"UMIP", "LA57", "VMXE", "SMXE", "", "FSGSBASE", "PCIDE", "OSXSAVE", "", "SMEP", "SMAP", "PKE") +
		flagsXML("i386_efer", size, "SCE", "", "", "", "", "", "", "", "LME", "", "LMA", "NXE", "SVME", "LMSLE", "FFXSR", "TCE")
}

const vectorTypes = `<vector id="v4f" type="ieee_single" count="4"/>
<vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/>
<vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/>
<vector id="v2i64" type="int64" count="2"/>
<union id="vec128">
<field name="v4_float" type="v4f"/>
<field name="v2_double" type="v2d"/>
<field name="v16_int8" type="v16i8"/>
<field name="v8_int16" type="v8i16"/>
<field name="v4_int32" type="v4i32"/>
<field name="v2_int64" type="v2i64"/>
<field name="uint128" type="uint128"/>
</union>
<flags id="i386_mxcsr" size="4">
<field name="IE" start="0" end="0"/>
<field name="DE" start="1" end="1"/>
<field name="ZE" start="2" end="2"/>
<field name="OE" start="3" end="3"/>
<field name="UE" start="4" end="4"/>
<field name="PE" start="5" end="5"/>
<field name="DAZ" start="6" end="6"/>
<field name="IM" start="7" end="7"/>
<field name="DM" start="8" end="8"/>
<field name="ZM" start="9" end="9"/>
<field name="OM" start="10" end="10"/>
<field name="UM" start="11" end="11"/>
<field name="PM" start="12" end="12"/>
<field name="FZ" start="15" end="15"/>
</flags>
`
