package symbols

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// The binary form is a header, a record a symbol, the two orders, and all names.
const (
	header = 8  // how many symbols, how many are places
	record = 13 // address, where the name ends, type
)

// MarshalBinary returns a table of a kernel without modules in the form that UnmarshalBinary takes as it is, where ParseProc reads text.
func (t *Table) MarshalBinary() ([]byte, error) {
	syms := make([]Symbol, 0, t.Len())
	for s := range t.All {
		syms = append(syms, s)
	}
	p := NewTable(syms).lists[0].symbols.(*plain)
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(p.syms)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.byAddr)))
	length := 0
	for _, s := range p.syms {
		if s.Module != "" {
			return nil, errors.New("symbols of modules have no binary form")
		}
		length += len(s.Name)
		b = binary.LittleEndian.AppendUint64(b, s.Address)
		b = binary.LittleEndian.AppendUint32(b, uint32(length))
		b = append(b, s.Type)
	}
	if length > math.MaxInt32 {
		return nil, errors.New("too many symbols")
	}
	for _, order := range [][]int32{p.byAddr, p.byText} {
		for _, i := range order {
			b = binary.LittleEndian.AppendUint32(b, uint32(i))
		}
	}
	for _, s := range p.syms {
		b = append(b, s.Name...)
	}
	return b, nil
}

// UnmarshalBinary is the inverse of MarshalBinary. It keeps b, of which it looks at little: it does not find out whether b has been changed.
func (t *Table) UnmarshalBinary(b []byte) error {
	errForm := errors.New("not a table of symbols")
	if len(b) < header {
		return errForm
	}
	n, places := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	orders := header + n*record
	names := orders + 4*(n+places)
	if places > n || names > uint64(len(b)) {
		return errForm
	}
	p := &packed{records: b[header:orders], byAddr: b[orders : orders+4*places], byText: b[orders+4*places : names], names: b[names:]}
	if length := uint64(len(p.names)); n == 0 && length > 0 || n > 0 && uint64(p.end(int(n)-1)) != length {
		return errForm
	}
	*t = Table{[]list{{symbols: p}}}
	return nil
}

// packed are symbols in their binary form. Numbers that lead out of it, as in one that was damaged, lead to its end.
type packed struct{ records, byAddr, byText, names []byte }

func (p *packed) record(i int) []byte { return p.records[i*record:][:record] }

func (p *packed) end(i int) uint32 { return binary.LittleEndian.Uint32(p.record(i)[8:]) }

func (p *packed) name(i int) []byte {
	start, end := 0, min(int(p.end(i)), len(p.names))
	if i > 0 {
		start = int(p.end(i - 1))
	}
	return p.names[min(start, end):end]
}

func (p *packed) kind(i int) byte { return p.record(i)[12] }

func (p *packed) len() int { return len(p.records) / record }
func (p *packed) at(i int) Symbol {
	return Symbol{Name: string(p.name(i)), Address: p.address(i), Type: p.kind(i)}
}
func (p *packed) address(i int) uint64 { return binary.LittleEndian.Uint64(p.record(i)) }
func (p *packed) absolute(i int) bool  { return p.kind(i) == 'a' || p.kind(i) == 'A' }

func (p *packed) compareName(i int, name string) int { return strings.Compare(string(p.name(i)), name) }

func (p *packed) places() int { return len(p.byAddr) / 4 }

func (p *packed) byAddress(i int) int { return p.number(p.byAddr, i) }
func (p *packed) byName(i int) int    { return p.number(p.byText, i) }

func (p *packed) number(order []byte, i int) int {
	return min(int(binary.LittleEndian.Uint32(order[4*i:])), p.len()-1)
}
