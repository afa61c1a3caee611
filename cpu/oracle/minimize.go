package oracle

import (
	"bytes"
	"slices"
)

// Minimizer makes failing cases small, in a child and a machine of its own.
type Minimizer struct {
	native  *Native
	machine *Machine
	tmpl    *Template
	strict  bool
}

// NewMinimizer starts a minimizer. For strict see Campaign.
func NewMinimizer(strict bool) (*Minimizer, error) {
	m := &Minimizer{tmpl: new(Template), strict: strict}
	var err error
	if m.native, err = StartNative(m.tmpl); err != nil {
		return nil, err
	}
	m.machine = NewMachine(m.tmpl, 0)
	return m, nil
}

// Close ends the child.
func (m *Minimizer) Close() { m.native.Close() }

// Try runs a case on both sides and returns the differences that are not allowed. Outcomes stay valid until the next
// Try.
func (m *Minimizer) Try(c *Case, t *Template) (diffs []Diff, host, emu Outcome, err error) {
	m.native.SetTemplate(t)
	m.machine.SetTemplate(t)
	m.native.Load(0, c)
	if _, err = m.native.Run(0, 1); err != nil {
		m.native.Close()
		if m.native, err = StartNative(t); err != nil {
			return nil, host, emu, err
		}
		return nil, host, emu, ErrChild
	}
	m.native.Outcome(0, &host)
	m.machine.Run(c, &emu)
	return allow(c, &host, &emu, Compare(c, &host, &emu, c.ignored(&host, m.strict)), nil), host, emu, nil
}

// Minimize returns the line of a smaller case that fails in one of the fields that the given one fails in. It is
// empty if the case does not fail when it is run again.
func (m *Minimizer) Minimize(f *Failure, t *Template) (string, []Diff) {
	c := f.Case.clone()
	mem := *t
	copy(mem.data[:], f.Case.memory(t))
	c.Patches = nil
	var last []Diff
	var line string
	fields := map[string]bool{}
	for _, d := range f.Diffs {
		fields[d.Field] = true
	}
	fails := func() bool {
		diffs, host, _, err := m.Try(c, &mem)
		if err != nil || !slices.ContainsFunc(diffs, func(d Diff) bool { return fields[d.Field] }) {
			return false
		}
		last, line = diffs, Line(c, &mem, &host)
		return true
	}
	if !fails() {
		return "", nil
	}
	// attempt makes a change and takes it back if the case does not fail any more.
	attempt := func(change func()) bool {
		old := c.clone()
		change()
		if fails() {
			return true
		}
		*c = *old
		return false
	}
	def := lineDefaults()
	attempt(func() { c.Warm = false })
	attempt(func() { c.move(slots[0].addr) })
	for i := len(c.Insts) - 1; i >= 0 && len(c.Insts) > 1; i-- {
		i := min(i, len(c.Insts)-1)
		attempt(func() { c.drop(i) })
	}
	for _, chunk := range []int{512, 64, 8, 1} {
		for _, page := range [][]byte{mem.data[:], mem.ro[:]} {
			for at := 0; at < len(page); at += chunk {
				p := page[at : at+chunk]
				if bytes.Count(p, []byte{0}) == chunk {
					continue
				}
				old := bytes.Clone(p)
				clear(p)
				if !fails() {
					copy(p, old)
				}
			}
		}
	}
	for i := range c.In.GPR {
		if c.In.GPR[i] != def.GPR[i] {
			attempt(func() { c.In.GPR[i] = def.GPR[i] })
		}
	}
	for bit := range 22 {
		if c.In.RFLAGS>>bit&1 != 0 && bit != 1 && bit != 9 {
			attempt(func() { c.In.RFLAGS &^= 1 << bit })
		}
	}
	for _, f := range fxFields {
		attempt(func() { copy(c.In.FX[f.off:f.off+f.size], def.FX[f.off:]) })
	}
	for i := range 8 {
		attempt(func() { clear(c.In.st(i)) })
	}
	for i := range 16 {
		attempt(func() { clear(c.In.xmm(i)) })
	}
	for i := fxST; i < fxUsed; i++ {
		if c.In.FX[i] != 0 {
			attempt(func() { c.In.FX[i] = 0 })
		}
	}
	for i := range c.In.GPR {
		for shift := range 8 {
			if c.In.GPR[i]>>(8*shift)&0xff != 0 && c.In.GPR[i] != def.GPR[i] {
				attempt(func() { c.In.GPR[i] &^= 0xff << (8 * shift) })
			}
		}
	}
	fails() // so that line and last are those of c
	return line, last
}

// move gives the code another address.
func (c *Case) move(addr uint64) {
	body := c.body()
	if len(body) != len(c.Code) {
		c.Code = appendEnd(slices.Clone(body), addr+uint64(len(body)))
	}
	c.Addr, c.In.RIP = addr, addr
	c.decode()
}

// drop takes instruction i out of the code.
func (c *Case) drop(i int) {
	in := &c.Insts[i]
	off := int(in.Addr - c.Addr)
	body := c.body()
	ends := len(body) != len(c.Code)
	c.Code = slices.Delete(slices.Clone(body), off, min(off+int(in.Len), len(body)))
	if ends {
		c.Code = appendEnd(c.Code, c.Addr+uint64(len(c.Code)))
	}
	c.decode()
}

// clone returns a copy that shares nothing that changes.
func (c *Case) clone() *Case {
	n := &Case{Addr: c.Addr, Code: slices.Clone(c.Code), In: c.In, Warm: c.Warm, Insts: slices.Clone(c.Insts)}
	for _, p := range c.Patches {
		n.Patches = append(n.Patches, Patch{p.Addr, bytes.Clone(p.Data)})
	}
	return n
}
