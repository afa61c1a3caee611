// Command gen writes fast_gen.go: the handlers that fast.go chooses for common operand forms. They differ from the
// general handlers only in how they reach their operands; the meaning of each operation is the same method of
// lazyFlags. A handler that misses the TLB leaves everything to the general one, before it has changed anything.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"os"
	"strings"
)

// An op is an operation with two operands: expr computes r from a and b at size S.
type op struct {
	name, expr string
	store      bool
}

var binary = []op{
	{"ADD", "c.f.add(a, b, 0, S)", true},
	{"ADC", "c.f.add(a, b, c.f.cfBit(), S)", true},
	{"SUB", "c.f.sub(a, b, 0, S)", true},
	{"SBB", "c.f.sub(a, b, c.f.cfBit(), S)", true},
	{"AND", "c.f.andOp(a, b, S)", true},
	{"OR", "c.f.orOp(a, b, S)", true},
	{"XOR", "c.f.xorOp(a, b, S)", true},
	{"CMP", "c.f.sub(a, b, 0, S)", false},
	{"TEST", "c.f.andOp(a, b, S)", false},
}

var unary = []op{
	{"INC", "c.f.incOp(a, S)", true},
	{"DEC", "c.f.decOp(a, S)", true},
	{"NEG", "c.f.sub(0, a, 0, S)", true},
	{"NOT", "^a", true},
}

var shifts = []op{
	{"SHL", "c.f.shl(a, n, S)", true},
	{"SHR", "c.f.shr(a, n, S)", true},
	{"SAR", "c.f.sar(a, n, S)", true},
	{"ROL", "c.f.rol(a, n, S)", true},
	{"ROR", "c.f.ror(a, n, S)", true},
}

// The tests of the condition codes, in the order of the low four bits of Jcc.
var conditions = []struct{ name, expr string }{
	{"O", "c.f.of()"},
	{"NO", "!c.f.of()"},
	{"B", "c.f.cf()"},
	{"AE", "!c.f.cf()"},
	{"E", "c.f.zf()"},
	{"NE", "!c.f.zf()"},
	{"BE", "c.f.be()"},
	{"A", "!c.f.be()"},
	{"S", "c.f.sf()"},
	{"NS", "!c.f.sf()"},
	{"P", "c.f.pf()"},
	{"NP", "!c.f.pf()"},
	{"L", "c.f.lt()"},
	{"GE", "!c.f.lt()"},
	{"LE", "c.f.le()"},
	{"G", "!c.f.le()"},
}

var sizes = []int{1, 2, 4, 8}

var out bytes.Buffer

// table and fusedTable collect the rows of the tables of handlers: form, operation, size, condition.
var table, fusedTable []string

// fused is the number of the condition with which handlers end that also execute the branch behind their instruction;
// none makes plain ones.
var fused = none

const none = -1

func p(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }

// begin starts a handler and enters it into the table.
func begin(form, op string, size int, cc int) {
	name := "fast" + op
	if cc >= 0 {
		name += conditions[cc].name
	}
	name += form
	if size != 0 {
		name += fmt.Sprint(size * 8)
	}
	if fused != none {
		name += "J" + conditions[fused].name
		fusedTable = append(fusedTable, fmt.Sprintf("{form%s, isa.%s, %d, %d}: %s,", form, op, size, fused, name))
		p("func %s(c *CPU, u *uop) bool {", name)
		return
	}
	c := max(cc, 0)
	table = append(table, fmt.Sprintf("{form%s, isa.%s, %d, %d}: %s,", form, op, size, c, name))
	p("func %s(c *CPU, u *uop) bool {", name)
}

func end() {
	if fused != none {
		p("if %s {\nc.rip = (c.r[isa.RegRIP] + u.target) & u.mask\n}", conditions[fused].expr)
	}
	p("return true\n}\n")
}

func sized(expr string, size int) string {
	return strings.ReplaceAll(expr, "S)", fmt.Sprint(size)+")")
}

// setReg writes the low size bytes of an expression through d, a pointer to the register.
func setReg(expr string, size int) {
	switch size {
	case 8:
		p("*d = %s", expr)
	case 4:
		p("*d = uint64(uint32(%s))", expr)
	case 2:
		p("*d = *d&^0xffff | %s&0xffff", expr)
	case 1:
		p("*d = *d&^0xff | %s&0xff", expr)
	}
}

func pointer(access string, size int) {
	p("p := c.%s%d(c.ea(u))", access, size*8)
	if fused != none {
		p("if p == nil {\nreturn c.slowFused(u)\n}")
		return
	}
	p("if p == nil {\nreturn c.slow(u)\n}")
}

const (
	dst = "d := &c.r[u.Args[0].Reg&31]"
	src = "c.r[u.Args[1].Reg&31]"
)

func result(o op, size int, expr string) string {
	e := sized(expr, size)
	if o.store {
		return "r := " + e
	}
	return e
}

var binaryForms = []string{"RR", "RI", "RM", "MR", "MI"}

func genBinary(o op, forms []string, sizes []int) {
	for _, size := range sizes {
		for _, form := range forms {
			if o.name == "TEST" && form == "RM" {
				continue // has no encoding of its own
			}
			begin(form, o.name, size, -1)
			switch form[1] {
			case 'M':
				pointer("readable", size)
				p("b := uint64(*p)")
			case 'R':
				p("b := %s", src)
			case 'I':
				p("b := u.Imm")
			}
			if form[0] == 'M' {
				if o.store {
					pointer("writable", size)
				} else {
					pointer("readable", size)
				}
				p("a := uint64(*p)")
			} else {
				p(dst)
				p("a := *d")
			}
			p("%s", result(o, size, o.expr))
			if o.store {
				if form[0] == 'M' {
					p("*p = uint%d(r)", size*8)
				} else {
					setReg("r", size)
				}
			}
			end()
		}
	}
}

func genUnary(o op, forms []string, sizes []int) {
	for _, size := range sizes {
		genUnaryRegister(o, size)
		if len(forms) == 1 {
			continue
		}
		begin("M", o.name, size, -1)
		pointer("writable", size)
		p("a := uint64(*p)")
		p("%s", result(o, size, o.expr))
		p("*p = uint%d(r)", size*8)
		end()
	}
}

func genUnaryRegister(o op, size int) {
	begin("R", o.name, size, -1)
	p(dst)
	p("a := *d")
	p("%s", result(o, size, o.expr))
	setReg("r", size)
	end()
}

// genShift makes shifts of registers by a constant, which fast.go has masked and found not to be 0, and by CL.
func genShift(o op) {
	for _, size := range []int{4, 8} {
		begin("RI", o.name, size, -1)
		p(dst)
		p("a, n := *d, u.Imm")
		p("%s", result(o, size, o.expr))
		setReg("r", size)
		end()
		begin("RR", o.name, size, -1)
		p(dst)
		p("a, n := *d, c.r[isa.RCX]&%d", size*8-1)
		p("if n == 0 {")
		setReg("a", size)
		p("return true\n}")
		p("%s", result(o, size, o.expr))
		setReg("r", size)
		end()
	}
}

func genMove() {
	for _, size := range sizes {
		begin("RR", "MOV", size, -1)
		p(dst)
		setReg(src, size)
		end()
		begin("RI", "MOV", size, -1)
		p(dst)
		setReg("u.Imm", size)
		end()
		begin("RM", "MOV", size, -1)
		pointer("readable", size)
		p(dst)
		setReg("uint64(*p)", size)
		end()
		begin("MR", "MOV", size, -1)
		pointer("writable", size)
		p("*p = uint%d(%s)", size*8, src)
		end()
		begin("MI", "MOV", size, -1)
		pointer("writable", size)
		p("*p = uint%d(u.Imm)", size*8)
		end()
		begin("MR", "XCHG", size, -1)
		pointer("writable", size)
		p("d := &%s", src)
		p("a := uint64(*p)")
		p("*p = uint%d(*d)", size*8)
		setReg("a", size)
		end()
		begin("MR", "XADD", size, -1)
		pointer("writable", size)
		p("d := &%s", src)
		p("a := uint64(*p)")
		p("r := c.f.add(a, *d, 0, %d)", size)
		p("*p = uint%d(r)", size*8)
		setReg("a", size)
		end()
		begin("MR", "CMPXCHG", size, -1)
		pointer("writable", size)
		p("d := &c.r[isa.RAX]")
		p("a := uint64(*p)")
		p("if uint%d(a) == uint%d(*d) {", size*8, size*8)
		p("*p = uint%d(%s)", size*8, src)
		p("c.f.sub(a, a, 0, %d)", size)
		p("} else {")
		p("c.f.sub(*d, a, 0, %d)", size)
		setReg("a", size)
		p("}")
		end()
	}
	// Extending moves: the size in the table is that of the destination.
	for _, m := range []struct {
		op       string
		from, to int
		signed   bool
	}{
		{"MOVZX8", 1, 4, false},
		{"MOVZX16", 2, 4, false},
		{"MOVSX8", 1, 4, true},
		{"MOVSX8", 1, 8, true},
		{"MOVSX16", 2, 4, true},
		{"MOVSX16", 2, 8, true},
		{"MOVSX32", 4, 8, true},
	} {
		for _, form := range []string{"RR", "RM"} {
			name := fmt.Sprintf("fast%s%s%d", m.op, form, m.to*8)
			table = append(table, fmt.Sprintf("{form%s, op%s, %d, 0}: %s,", form, m.op, m.to, name))
			p("func %s(c *CPU, u *uop) bool {", name)
			v := fmt.Sprintf("uint%d(%s)", m.from*8, src)
			if form == "RM" {
				pointer("readable", m.from)
				v = "*p"
			}
			p(dst)
			if m.signed {
				v = fmt.Sprintf("uint64(int%d(%s))", m.from*8, v)
			}
			if m.to == 4 && m.signed {
				v = "uint32(" + v + ")"
			}
			p("*d = uint64(%s)", v)
			end()
		}
	}
	for _, size := range []int{4, 8} {
		begin("RM", "LEA", size, -1)
		p(dst)
		setReg("c.ea(u)", size)
		end()
		for _, form := range []string{"RR", "RM"} {
			begin(form, "IMUL2", size, -1)
			b := src
			if form == "RM" {
				pointer("readable", size)
				b = "uint64(*p)"
			}
			p(dst)
			setReg(fmt.Sprintf("c.f.imul(*d, %s, %d)", b, size), size)
			end()
		}
		begin("RR", "IMUL3", size, -1)
		p(dst)
		setReg(fmt.Sprintf("c.f.imul(%s, u.Imm, %d)", src, size), size)
		end()
		for _, form := range []string{"RR", "RI"} {
			begin(form, "BT", size, -1)
			n := src
			if form == "RI" {
				n = "u.Imm"
			}
			p("c.f.setCF(c.r[u.Args[0].Reg&31]>>(%s&%d)&1 != 0)", n, size*8-1)
			end()
		}
	}
}

func genConditional() {
	for cc, cond := range conditions {
		begin("J", "JCC", 0, cc)
		p("if %s {\nreturn c.jump(u)\n}", cond.expr)
		end()
		begin("JNear", "JCC", 0, cc)
		p("if %s {\nc.rip = (c.r[isa.RegRIP] + u.target) & u.mask\n}", cond.expr)
		end()
		for _, size := range []int{4, 8} {
			begin("RR", "CMOVCC", size, cc)
			p(dst)
			p("v := *d")
			p("if %s {\nv = %s\n}", cond.expr, src)
			setReg("v", size)
			end()
			begin("RM", "CMOVCC", size, cc)
			pointer("readable", size)
			p(dst)
			p("v := *d")
			p("if %s {\nv = uint64(*p)\n}", cond.expr)
			setReg("v", size)
			end()
		}
		begin("R", "SETCC", 1, cc)
		p(dst)
		p("v := *d &^ 0xff")
		p("if %s {\nv |= 1\n}", cond.expr)
		p("*d = v")
		end()
	}
}

// genStack makes the stack and call instructions, for 64-bit mode and for flat 32-bit mode with a 32-bit stack.
func genStack() {
	for _, size := range []int{4, 8} {
		sp := func(expr string) string {
			if size == 4 {
				return "uint64(uint32(" + expr + "))"
			}
			return expr
		}
		down := func() {
			p("sp := %s", sp(fmt.Sprintf("c.r[isa.RSP] - %d", size)))
			p("p := c.writable%d(sp)", size*8)
			p("if p == nil {\nreturn c.slow(u)\n}")
		}
		up := func() {
			p("sp := %s", sp("c.r[isa.RSP]"))
			p("p := c.readable%d(sp)", size*8)
			p("if p == nil {\nreturn c.slow(u)\n}")
		}
		canonical := func() {
			if size == 8 {
				p("if int64(t<<16)>>16 != int64(t) {\nreturn c.slow(u)\n}")
			}
		}
		after := sp(fmt.Sprintf("sp + %d", size))
		begin("R", "PUSH", size, -1)
		down()
		p("*p = uint%d(c.r[u.Args[0].Reg&31])", size*8)
		p("c.r[isa.RSP] = sp")
		end()
		begin("I", "PUSH", size, -1)
		down()
		p("*p = uint%d(u.Imm)", size*8)
		p("c.r[isa.RSP] = sp")
		end()
		begin("R", "POP", size, -1)
		up()
		p("c.r[isa.RSP] = %s", after)
		p("c.r[u.Args[0].Reg&31] = uint64(*p)")
		end()
		begin("None", "LEAVE", size, -1)
		p("sp := %s", sp("c.r[isa.RBP]"))
		p("p := c.readable%d(sp)", size*8)
		p("if p == nil {\nreturn c.slow(u)\n}")
		p("c.r[isa.RSP] = %s", after)
		p("c.r[isa.RBP] = uint64(*p)")
		end()
		begin("J", "CALL", size, -1)
		p("t := (c.r[isa.RegRIP] + u.target) & u.mask")
		canonical()
		down()
		p("*p = uint%d(c.r[isa.RegRIP] + uint64(u.end))", size*8)
		p("c.r[isa.RSP] = sp")
		p("c.rip = t")
		end()
		begin("R", "CALL_IND", size, -1)
		p("t := c.r[u.Args[0].Reg&31] & u.mask")
		canonical()
		down()
		p("*p = uint%d(c.r[isa.RegRIP] + uint64(u.end))", size*8)
		p("c.r[isa.RSP] = sp")
		p("c.rip = t")
		end()
		begin("None", "RET", size, -1)
		up()
		p("t := uint64(*p)")
		canonical()
		p("c.r[isa.RSP] = %s", after)
		p("c.rip = t")
		end()
		begin("R", "JMP_IND", size, -1)
		p("t := c.r[u.Args[0].Reg&31] & u.mask")
		canonical()
		p("c.rip = t")
		end()
		begin("M", "JMP_IND", size, -1)
		pointer("readable", size)
		p("t := uint64(*p)")
		canonical()
		p("c.rip = t")
		end()
	}
}

// genFused makes instructions that are joined with the conditional branch that follows: those that compilers put there.
func genFused() {
	for _, o := range binary {
		var forms []string
		var conds string
		sizes := []int{4, 8}
		switch o.name {
		case "CMP":
			forms, conds, sizes = binaryForms, "B AE E NE BE A S NS L GE LE G", []int{1, 4, 8}
		case "TEST":
			forms, conds, sizes = []string{"RR", "RI", "MI"}, "E NE S NS LE G", []int{1, 4, 8}
		case "AND":
			forms, conds = binaryForms[:2], "E NE S NS"
		case "ADD", "SUB":
			forms, conds = binaryForms[:2], "E NE S NS B AE"
		default:
			continue
		}
		fuse(conds, func() { genBinary(o, forms, sizes) })
	}
	for _, o := range unary[:2] {
		fuse("E NE S NS", func() { genUnary(o, []string{"R"}, []int{4, 8}) })
	}
}

// fuse makes handlers for each of the named conditions.
func fuse(names string, gen func()) {
	for _, name := range strings.Fields(names) {
		for i, c := range conditions {
			if c.name == name {
				fused = i
				gen()
			}
		}
	}
	fused = none
}

func main() {
	log.SetFlags(0)
	p("// Code generated by internal/gen; DO NOT EDIT.\n")
	p("package cpu\n")
	p("import \"github.com/hybridbridge/emu/cpu/isa\"\n")
	for _, o := range binary {
		genBinary(o, binaryForms, sizes)
	}
	for _, o := range unary {
		genUnary(o, []string{"R", "M"}, sizes)
	}
	for _, o := range shifts {
		genShift(o)
	}
	genMove()
	genConditional()
	genStack()
	genFused()
	p("// fastHandlers finds a handler by operand form, operation, operand size and condition.")
	p("var fastHandlers = map[fastKey]handler{")
	for _, row := range table {
		p("%s", row)
	}
	p("}\n")
	p("// fusedHandlers are those that execute the branch that follows on a condition too.")
	p("var fusedHandlers = map[fastKey]handler{")
	for _, row := range fusedTable {
		p("%s", row)
	}
	p("}")
	b, err := format.Source(out.Bytes())
	if err != nil {
		os.Stdout.Write(out.Bytes())
		log.Fatal(err)
	}
	if err := os.WriteFile("fast_gen.go", b, 0o644); err != nil {
		log.Fatal(err)
	}
}
