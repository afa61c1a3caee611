package symbols

import (
	"encoding/binary"
	"errors"
	"math"
)

// MarshalBinary returns a table of a kernel without modules in the form that UnmarshalBinary reads much faster than ParseProc reads text.
func (t *Table) MarshalBinary() ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(t.syms)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.byAddr)))
	length := 0
	for i := range t.syms {
		s := t.at(int32(i))
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
	for _, order := range [][]int32{t.byAddr, t.byName} {
		for _, i := range order {
			b = binary.LittleEndian.AppendUint32(b, uint32(i))
		}
	}
	for _, s := range t.syms {
		b = append(b, s.Name...)
	}
	return b, nil
}

// UnmarshalBinary is the inverse of MarshalBinary. It does not find out whether b has been changed.
func (t *Table) UnmarshalBinary(b []byte) error {
	errForm := errors.New("not a table of symbols")
	const header, record = 8, 13
	if len(b) < header {
		return errForm
	}
	n, places := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	orders := header + n*record
	names := orders + 4*(n+places)
	if places > n || names > uint64(len(b)) {
		return errForm
	}
	text := string(b[names:])
	*t = Table{syms: make([]Symbol, n), byAddr: make([]int32, places), byName: make([]int32, n)}
	start := uint32(0)
	for i := range t.syms {
		r := b[header+i*record:]
		end := binary.LittleEndian.Uint32(r[8:])
		if end < start || uint64(end) > uint64(len(text)) {
			return errForm
		}
		t.syms[i] = Symbol{Name: text[start:end], Address: binary.LittleEndian.Uint64(r), Type: r[12]}
		start = end
	}
	b = b[orders:]
	for _, order := range [][]int32{t.byAddr, t.byName} {
		for i := range order {
			v := binary.LittleEndian.Uint32(b[4*i:])
			if uint64(v) >= n {
				return errForm
			}
			order[i] = int32(v)
		}
		b = b[4*len(order):]
	}
	return nil
}
