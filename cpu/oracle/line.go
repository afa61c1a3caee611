package oracle

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/arch/x86/x86asm"

	"github.com/hybridbridge/emu/cpu/isa"
)

// A line is a case as text, with what the host answered:
//
//	bytes | disassembly | inputs | outputs
//
// Inputs and outputs are words of the form field=value, or range=bytes for memory; outputs hold what changed. What is
// not named begins as in lineDefaults, with memory zero. Numbers may be relative to a region of the address space: code, data, high, end. "at" is the
// address of the code, "warm" stands for Case.Warm. The bytes do not hold the jump to the end.

// lineDefaults is the state that lines name differences from.
func lineDefaults() (s State) {
	s.GPR[isa.RSP] = dataBase + pageSize
	s.RFLAGS = 0x202
	s.FSBase, s.GSBase = defaultFS, defaultGS
	binary.LittleEndian.PutUint16(s.FX[fxControl:], 0x37f)
	binary.LittleEndian.PutUint32(s.FX[fxMXCSR:], 0x1f80)
	return s
}

// fxFields are the fields of the FXSAVE image that lines name, st and xmm apart.
var fxFields = []struct {
	name      string
	off, size int
}{
	{"fcw", fxControl, 2},
	{"fsw", fxStatus, 2},
	{"ftw", fxTag, 1},
	{"fop", fxOpcode, 2},
	{"fip", fxIP, 8},
	{"fdp", fxDP, 8},
	{"mxcsr", fxMXCSR, 4},
}

// words lists in which fields s differs from base.
func (s *State) words(base *State) []string {
	var list []string
	for i, name := range gprNames {
		if s.GPR[i] != base.GPR[i] {
			list = append(list, name+"="+place(s.GPR[i]))
		}
	}
	if s.RFLAGS != base.RFLAGS {
		list = append(list, fmt.Sprintf("rflags=%#x", s.RFLAGS))
	}
	if s.FSBase != base.FSBase {
		list = append(list, "fsbase="+place(s.FSBase))
	}
	if s.GSBase != base.GSBase {
		list = append(list, "gsbase="+place(s.GSBase))
	}
	for _, f := range fxFields {
		if v := field(s.FX[f.off:], f.size); v != field(base.FX[f.off:], f.size) {
			list = append(list, f.name+"="+place(v))
		}
	}
	for i := range 8 {
		if !bytes.Equal(s.st(i), base.st(i)) {
			list = append(list, fmt.Sprintf("st%d=%s", i, realText(s.st(i))))
		}
	}
	for i := range 16 {
		if !bytes.Equal(s.xmm(i), base.xmm(i)) {
			list = append(list, fmt.Sprintf("xmm%d=%x", i, s.xmm(i)))
		}
	}
	return list
}

func field(p []byte, size int) (v uint64) {
	for i := range size {
		v |= uint64(p[i]) << (8 * i)
	}
	return v
}

// memoryWords lists the ranges in which p differs from base.
func memoryWords(p, base []byte) []string {
	var list []string
	for off := 0; off < len(p); {
		if p[off] == base[off] {
			off++
			continue
		}
		n := 1
		for off+n < len(p) && !bytes.Equal(p[off+n:min(off+n+4, len(p))], base[off+n:min(off+n+4, len(p))]) {
			n++
		}
		list = append(list, fmt.Sprintf("%s=%x", place(uint64(dataBase+off)), p[off:off+n]))
		off += n
	}
	return list
}

// body returns the bytes of the case's code without the jump to the end.
func (c *Case) body() []byte {
	for pad := range 8 {
		n := len(c.Code) - 14 - pad
		if n >= 0 && bytes.Equal(c.Code[n:], appendEnd(nil, c.Addr+uint64(n))) {
			return c.Code[:n]
		}
	}
	return c.Code
}

// Disassembly returns the case's instructions in Intel's syntax.
func (c *Case) Disassembly() string {
	var list []string
	code := c.body()
	for len(code) > 0 {
		in, err := x86asm.Decode(code, 64)
		n := in.Len
		text := strings.ToLower(in.String())
		if own, ownErr := isa.Decode(code, isa.Mode64, Features); ownErr == nil && (err != nil || n != int(own.Len)) {
			n = int(own.Len)
			text = strings.ToLower(strings.TrimSpace(own.Op.String() + " " + own.Row.Args))
		} else if err != nil {
			list = append(list, fmt.Sprintf("% x", code))
			break
		}
		list = append(list, text)
		code = code[n:]
	}
	return strings.Join(list, "; ")
}

// memory returns what the data pages hold before the case.
func (c *Case) memory(t *Template) []byte {
	data := bytes.Clone(t.data[:])
	for _, p := range c.Patches {
		copy(data[(p.Addr-dataBase)%(highBase-dataBase):], p.Data)
	}
	return data
}

// Line writes a case and the host's outcome.
func Line(c *Case, t *Template, host *Outcome) string {
	base := lineDefaults()
	base.RIP = c.In.RIP
	in := c.In.words(&base)
	if c.Warm {
		in = append([]string{"warm"}, in...)
	}
	if c.Addr != slots[0].addr {
		in = append([]string{"at=" + place(c.Addr)}, in...)
	}
	if len(c.body()) == len(c.Code) {
		in = append([]string{"cut"}, in...)
	}
	memory := append(c.memory(t), t.ro[:]...)
	in = append(in, memoryWords(memory, make([]byte, len(memory)))...)

	out := []string{host.end()}
	if host.Vector != NoFault {
		out = append(out, "rip="+place(host.RIP))
	}
	after := host.State
	after.hidePointers(&c.In)
	out = append(out, after.words(&c.In)...)
	out = append(out, memoryWords(host.Data, memory[:dataSize])...)
	return fmt.Sprintf("%x | %s | %s | %s", c.body(), c.Disassembly(), strings.Join(in, " "), strings.Join(out, " "))
}

// hidePointers makes the x87 instruction and data pointers those of base where FXSAVE of the host need not tell: see
// compareFX.
func (s *State) hidePointers(base *State) {
	if s.FX[fxStatus]&0x80 == 0 {
		copy(s.FX[fxOpcode:fxMXCSR], base.FX[fxOpcode:fxMXCSR])
	}
}

// ParsedLine is a line that was read.
type ParsedLine struct {
	Case     *Case
	Template *Template
	// Host is what the host answered when the line was written.
	Host Outcome
}

// ParseLine reads what Line wrote.
func ParseLine(text string) (*ParsedLine, error) {
	cols := strings.Split(text, "|")
	if len(cols) < 4 {
		return nil, fmt.Errorf("oracle: line has %d columns", len(cols))
	}
	l := &ParsedLine{Case: &Case{Addr: slots[0].addr, In: lineDefaults()}, Template: new(Template)}
	c := l.Case
	code, err := hex.DecodeString(strings.TrimSpace(cols[0]))
	if err != nil {
		return nil, fmt.Errorf("oracle: code: %w", err)
	}
	var memory [dataSize + roSize]byte
	cut := false
	for _, word := range strings.Fields(cols[2]) {
		switch name, value, _ := strings.Cut(word, "="); name {
		case "warm":
			c.Warm = true
		case "cut":
			cut = true
		case "at":
			if c.Addr, err = parsePlace(value); err != nil {
				return nil, err
			}
		default:
			if err := parseWord(&c.In, memory[:], name, value); err != nil {
				return nil, err
			}
		}
	}
	c.In.RIP = c.Addr
	c.Code = code
	if !cut {
		c.Code = appendEnd(code, c.Addr+uint64(len(code)))
	}
	copy(l.Template.data[:], memory[:])
	copy(l.Template.ro[:], memory[dataSize:])
	c.decode()

	h := &l.Host
	h.State = c.In
	h.RIP, h.Vector = endAddress, NoFault
	for i, word := range strings.Fields(cols[3]) {
		name, value, ok := strings.Cut(word, "=")
		switch {
		case i == 0:
			if err := h.parseEnd(word); err != nil {
				return nil, err
			}
		case name == "rip" && ok:
			if h.RIP, err = parsePlace(value); err != nil {
				return nil, err
			}
		default:
			if err := parseWord(&h.State, memory[:], name, value); err != nil {
				return nil, err
			}
		}
	}
	h.Data = memory[:dataSize]
	return l, nil
}

// decode finds the instructions of the code, for the flags that they leave undefined.
func (c *Case) decode() {
	c.Insts = c.Insts[:0]
	code, at := c.body(), c.Addr
	var undef isa.Flags
	rcx := true
	for len(code) > 0 {
		in, err := isa.Decode(code, isa.Mode64, Features)
		if err != nil {
			return
		}
		undef = undefinedAfter(&in, undef, c.In.GPR[isa.RCX], rcx)
		c.Insts = append(c.Insts, CaseInst{Addr: at, Inst: in, Undef: undef})
		for _, a := range in.Args {
			rcx = rcx && (a.Reg != isa.RCX || a.Access&isa.Write == 0)
		}
		code, at = code[in.Len:], at+uint64(in.Len)
	}
}

var endPattern = regexp.MustCompile(`^#(\w+)(?:\((0x[0-9a-f]+)\))?(?:@(.*))?$`)

func (o *Outcome) parseEnd(word string) error {
	if word == "ok" {
		return nil
	}
	m := endPattern.FindStringSubmatch(word)
	if m == nil {
		return fmt.Errorf("oracle: end %q", word)
	}
	o.Vector = Unsupported
	for v, name := range vectorNames {
		if name == m[1] {
			o.Vector = v
		}
	}
	if o.Vector == Unsupported {
		return fmt.Errorf("oracle: exception %q", m[1])
	}
	if m[2] != "" {
		v, err := strconv.ParseUint(m[2], 0, 32)
		if err != nil {
			return fmt.Errorf("oracle: error code: %w", err)
		}
		o.Code = uint32(v)
	}
	if m[3] == "" {
		return nil
	}
	var err error
	o.Address, err = parsePlace(m[3])
	return err
}

func parsePlace(text string) (uint64, error) {
	at := strings.IndexAny(text, "+-")
	name := text
	if at >= 0 {
		name = text[:at]
	}
	for i := range regions {
		r := &regions[i]
		if r.name != name {
			continue
		}
		if at < 0 {
			return r.base, nil
		}
		v, err := strconv.ParseUint(text[at+1:], 0, 64)
		if text[at] == '-' {
			v = -v
		}
		return r.base + v, err
	}
	return strconv.ParseUint(text, 0, 64)
}

func parseWord(s *State, memory []byte, name, value string) error {
	bad := func() error { return fmt.Errorf("oracle: word %s=%s", name, value) }
	for i, n := range gprNames {
		if n == name {
			v, err := parsePlace(value)
			s.GPR[i] = v
			return err
		}
	}
	for _, f := range fxFields {
		if f.name == name {
			v, err := parsePlace(value)
			for i := range f.size {
				s.FX[f.off+i] = byte(v >> (8 * i))
			}
			return err
		}
	}
	var err error
	switch {
	case name == "rflags":
		s.RFLAGS, err = parsePlace(value)
		return err
	case name == "fsbase":
		s.FSBase, err = parsePlace(value)
		return err
	case name == "gsbase":
		s.GSBase, err = parsePlace(value)
		return err
	case strings.HasPrefix(name, "st"):
		i, err := strconv.Atoi(name[2:])
		if err != nil || i > 7 {
			return bad()
		}
		se, m, _ := strings.Cut(value, ":")
		e, err1 := strconv.ParseUint(se, 16, 16)
		v, err2 := strconv.ParseUint(m, 16, 64)
		if err1 != nil || err2 != nil {
			return bad()
		}
		binary.LittleEndian.PutUint64(s.st(i), v)
		binary.LittleEndian.PutUint16(s.st(i)[8:], uint16(e))
		return nil
	case strings.HasPrefix(name, "xmm"):
		i, err := strconv.Atoi(name[3:])
		v, err2 := hex.DecodeString(value)
		if err != nil || err2 != nil || i > 15 || len(v) != 16 {
			return bad()
		}
		copy(s.xmm(i), v)
		return nil
	}
	la, err := parsePlace(name)
	v, err2 := hex.DecodeString(value)
	if err != nil || err2 != nil || la < dataBase || la+uint64(len(v)) > dataBase+uint64(len(memory)) {
		return bad()
	}
	copy(memory[la-dataBase:], v)
	return nil
}
