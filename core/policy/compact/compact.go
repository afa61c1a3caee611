// Package compact is a form for a policy that is read fast. It is not part of package policy because that is in each policy's program: Meta-Data is
// kept by those programs' checksums.
package compact

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// ErrEncoding says that Decode was given something else than Encode returned.
var ErrEncoding = errors.New("this is no encoded policy")

// Encode writes a policy and what its handlers want to be asked about for Decode, which is much faster than decoders that look at types.
func Encode(p *policy.Policy, x policy.Interests) []byte {
	var e encoder
	put(&e, p.Scopes, func(s *policy.Scope) {
		e.text(s.Name)
		e.texts(s.Syscalls)
		e.texts(s.Files)
		e.number(uint64(s.FileArgument))
		e.texts(s.Paths)
		e.number(uint64(s.PathArgument))
		put(&e, s.Roots, func(r *policy.Root) {
			e.text(r.Symbol)
			e.number(r.Offset)
			e.number(r.Size)
			e.flags(r.PerCPU)
		})
		e.flags(s.FreezeClock)
	})
	e.texts(p.Local)
	put(&e, p.Elided, func(l *policy.Elision) {
		e.text(l.Function)
		e.number(uint64(l.Argument))
		e.flags(l.Always, l.Once, l.Clock)
		e.number(l.Return)
	})
	put(&e, p.Locks, func(l *policy.Lock) {
		e.text(l.Function)
		e.number(uint64(l.Argument))
		e.number(l.Offset)
		e.number(l.Size)
	})
	put(&e, p.Substitutes, func(s *policy.Substitute) {
		e.texts(s.Functions)
		e.texts(s.Scopes)
		e.text(string(s.Local))
		e.flags(s.PerCPU)
		e.text(string(s.Snapshot))
	})
	put(&e, p.Clocks, func(f *policy.Field) { e.text(string(*f)) })
	e.number(p.Budget)
	put(&e, slices.Sorted(maps.Keys(x)), func(c *policy.Category) {
		e.number(uint64(*c))
		put(&e, x[*c], func(i *policy.Interest) {
			e.texts(i.Functions)
			e.texts(i.Scopes)
		})
	})
	return e
}

// Decode returns what was given to Encode, with nil for lists that were empty.
func Decode(b []byte) (p policy.Policy, x policy.Interests, err error) {
	d := decoder{rest: string(b)}
	get(&d, &p.Scopes, func(s *policy.Scope) {
		s.Name = d.text()
		s.Syscalls = d.texts()
		s.Files = d.texts()
		s.FileArgument = int(d.number())
		s.Paths = d.texts()
		s.PathArgument = int(d.number())
		get(&d, &s.Roots, func(r *policy.Root) {
			r.Symbol = d.text()
			r.Offset = d.number()
			r.Size = d.number()
			d.flags(&r.PerCPU)
		})
		d.flags(&s.FreezeClock)
	})
	p.Local = d.texts()
	get(&d, &p.Elided, func(l *policy.Elision) {
		l.Function = d.text()
		l.Argument = int(d.number())
		d.flags(&l.Always, &l.Once, &l.Clock)
		l.Return = d.number()
	})
	get(&d, &p.Locks, func(l *policy.Lock) {
		l.Function = d.text()
		l.Argument = int(d.number())
		l.Offset = d.number()
		l.Size = d.number()
	})
	get(&d, &p.Substitutes, func(s *policy.Substitute) {
		s.Functions = d.texts()
		s.Scopes = d.texts()
		s.Local = policy.Field(d.text())
		d.flags(&s.PerCPU)
		s.Snapshot = policy.Field(d.text())
	})
	get(&d, &p.Clocks, func(f *policy.Field) { *f = policy.Field(d.text()) })
	p.Budget = d.number()
	x = policy.Interests{}
	for range d.count() {
		c := policy.Category(d.number())
		var of []policy.Interest
		get(&d, &of, func(i *policy.Interest) {
			i.Functions = d.texts()
			i.Scopes = d.texts()
		})
		x[c] = of
	}
	if d.bad || d.rest != "" {
		return policy.Policy{}, nil, ErrEncoding
	}
	return p, x, nil
}

// encoder is what was written so far: numbers as varints, texts and lists after their length.
type encoder []byte

func (e *encoder) number(n uint64) { *e = binary.AppendUvarint(*e, n) }
func (e *encoder) text(s string)   { e.number(uint64(len(s))); *e = append(*e, s...) }
func (e *encoder) texts(l []string) {
	put(e, l, func(s *string) { e.text(*s) })
}

func (e *encoder) flags(all ...bool) {
	for _, f := range all {
		if f {
			*e = append(*e, 1)
		} else {
			*e = append(*e, 0)
		}
	}
}

func put[T any](e *encoder, l []T, one func(*T)) {
	e.number(uint64(len(l)))
	for i := range l {
		one(&l[i])
	}
}

// decoder reads what encoder wrote. The texts that it returns share the memory of the whole.
type decoder struct {
	rest string
	bad  bool // from here on all is zero
}

func (d *decoder) number() (n uint64) {
	for i := range len(d.rest) {
		b := d.rest[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			d.rest = d.rest[i+1:]
			return n
		}
		if i == binary.MaxVarintLen64-1 {
			break
		}
	}
	d.rest, d.bad = "", true
	return 0
}

// count is a number of things that take at least a byte each.
func (d *decoder) count() int {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.rest, d.bad = "", true
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.count()
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) texts() (l []string) {
	get(d, &l, func(s *string) { *s = d.text() })
	return l
}

func (d *decoder) flags(all ...*bool) {
	for _, f := range all {
		if d.rest == "" {
			d.bad = true
			return
		}
		*f = d.rest[0] != 0
		d.rest = d.rest[1:]
	}
}

func get[T any](d *decoder, l *[]T, one func(*T)) {
	if n := d.count(); n > 0 {
		*l = make([]T, n)
	}
	for i := range *l {
		one(&(*l)[i])
	}
}
