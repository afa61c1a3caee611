package debuginfo

import (
	"debug/dwarf"
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// converter makes BTF types of DWARF's. A kernel says each type again in every file that uses it, so what has a name is
// converted once.
type converter struct {
	d       *dwarf.Data
	named   map[name]btf.Type
	derived map[derivation]btf.Type
	unit    map[dwarf.Offset]btf.Type // of the unit that is being read
	filled  map[btf.Type]bool         // structures whose members are known
	order   []btf.Type                // those, in order
	index   *btf.Int
	proto   *btf.FuncProto
}

type name struct {
	tag  dwarf.Tag
	name string
}

// derivation is a type that is made of another one: a pointer to it, a constant one.
type derivation struct {
	tag dwarf.Tag
	of  btf.Type
}

func newConverter(d *dwarf.Data) *converter {
	return &converter{
		d: d, named: map[name]btf.Type{}, derived: map[derivation]btf.Type{}, filled: map[btf.Type]bool{},
		index: &btf.Int{Name: "__ARRAY_SIZE_TYPE__", Size: 4}, proto: &btf.FuncProto{Return: (*btf.Void)(nil)},
	}
}

// units converts the named structures and unions of all compilation units, and what they are made of.
func (c *converter) units() error {
	r := c.d.Reader()
	for {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil {
			return nil
		}
		switch e.Tag {
		case dwarf.TagCompileUnit, dwarf.TagPartialUnit:
			c.unit = map[dwarf.Offset]btf.Type{}
			continue
		case dwarf.TagStructType, dwarf.TagUnionType:
			if n := text(e, dwarf.AttrName); n != "" && !c.filled[c.named[name{e.Tag, n}]] && !declared(e) {
				if _, err := c.convert(e.Offset); err != nil {
					return err
				}
			}
		}
		r.SkipChildren()
	}
}

// encode returns the BTF of what was converted.
func (c *converter) encode() ([]byte, error) {
	b, err := btf.NewBuilder(c.order, nil)
	if err != nil {
		return nil, err
	}
	return b.Marshal(nil, &btf.MarshalOptions{Order: binary.LittleEndian})
}

func text(e *dwarf.Entry, a dwarf.Attr) string {
	s, _ := e.Val(a).(string)
	return s
}

func number(e *dwarf.Entry, a dwarf.Attr) (int64, bool) {
	switch v := e.Val(a).(type) {
	case int64:
		return v, true
	case uint64:
		return int64(v), true
	}
	return 0, false
}

func size(e *dwarf.Entry) uint32 {
	n, _ := number(e, dwarf.AttrByteSize)
	return uint32(n)
}

func declared(e *dwarf.Entry) bool {
	d, _ := e.Val(dwarf.AttrDeclaration).(bool)
	return d
}

// target converts the type that e refers to.
func (c *converter) target(e *dwarf.Entry) (btf.Type, error) {
	off, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
	if !ok {
		return (*btf.Void)(nil), nil
	}
	return c.convert(off)
}

// convert returns the type at an offset.
func (c *converter) convert(off dwarf.Offset) (btf.Type, error) {
	if t, ok := c.unit[off]; ok {
		return t, nil
	}
	r := c.d.Reader()
	r.Seek(off)
	e, err := r.Next()
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, fmt.Errorf("no type at %#x", off)
	}
	t, err := c.make(e, r)
	if err == nil {
		c.unit[off] = t
	}
	return t, err
}

// make makes the type that e is; r is behind e.
func (c *converter) make(e *dwarf.Entry, r *dwarf.Reader) (btf.Type, error) {
	key := name{e.Tag, text(e, dwarf.AttrName)}
	known := c.named[key]
	switch e.Tag {
	case dwarf.TagStructType, dwarf.TagUnionType:
		return c.structure(key, known, e, r)
	case dwarf.TagBaseType:
		if known == nil {
			known = &btf.Int{Name: key.name, Size: size(e), Encoding: encoding(e)}
			c.named[key] = known
		}
		return known, nil
	case dwarf.TagEnumerationType:
		if known == nil {
			known = &btf.Enum{Name: key.name, Size: size(e)}
			if key.name != "" {
				c.named[key] = known
			}
		}
		return known, nil
	case dwarf.TagTypedef:
		if known != nil {
			return known, nil
		}
		t := &btf.Typedef{Name: key.name}
		c.named[key] = t
		var err error
		t.Type, err = c.target(e)
		return t, err
	case dwarf.TagSubroutineType:
		return c.proto, nil
	case dwarf.TagUnspecifiedType:
		return (*btf.Void)(nil), nil
	case dwarf.TagArrayType:
		return c.array(e, r)
	}
	of, err := c.target(e)
	if err != nil {
		return nil, err
	}
	d := derivation{e.Tag, of}
	if t := c.derived[d]; t != nil {
		return t, nil
	}
	var t btf.Type
	switch e.Tag {
	case dwarf.TagPointerType:
		t = &btf.Pointer{Target: of}
	case dwarf.TagConstType:
		t = &btf.Const{Type: of}
	case dwarf.TagVolatileType:
		t = &btf.Volatile{Type: of}
	case dwarf.TagRestrictType:
		t = &btf.Restrict{Type: of}
	case dwarf.TagAtomicType: // BTF has none
		return of, nil
	default:
		return nil, fmt.Errorf("the type at %#x is of an unknown kind, %v", e.Offset, e.Tag)
	}
	c.derived[d] = t
	return t, nil
}

// encoding returns how an integer is to be read; DWARF's numbers are in its section 7.8.
func encoding(e *dwarf.Entry) btf.IntEncoding {
	n, _ := number(e, dwarf.AttrEncoding)
	switch n {
	case 2:
		return btf.Bool
	case 5:
		return btf.Signed
	case 6, 8:
		return btf.Char
	}
	return btf.Unsigned
}

func (c *converter) array(e *dwarf.Entry, r *dwarf.Reader) (btf.Type, error) {
	var counts []uint32
	err := children(e, r, func(e *dwarf.Entry) {
		if e.Tag != dwarf.TagSubrangeType {
			return
		}
		n, ok := number(e, dwarf.AttrCount)
		if last, bounded := number(e, dwarf.AttrUpperBound); bounded && !ok {
			n = last + 1
		}
		counts = append(counts, uint32(n)) // 0 for a flexible one
	})
	if err != nil {
		return nil, err
	}
	t, err := c.target(e)
	for i := len(counts) - 1; i >= 0; i-- {
		t = &btf.Array{Index: c.index, Type: t, Nelems: counts[i]}
	}
	return t, err
}

// structure returns the structure or union of a name, with its members if e or an entry before has them.
func (c *converter) structure(key name, known btf.Type, e *dwarf.Entry, r *dwarf.Reader) (btf.Type, error) {
	if known == nil || key.name == "" {
		if e.Tag == dwarf.TagUnionType {
			known = &btf.Union{Name: key.name}
		} else {
			known = &btf.Struct{Name: key.name}
		}
		if key.name != "" {
			c.named[key] = known
		}
	}
	if c.filled[known] || declared(e) {
		return known, nil
	}
	c.filled[known] = true
	if key.name != "" {
		c.order = append(c.order, known)
	}
	var entries []*dwarf.Entry
	err := children(e, r, func(e *dwarf.Entry) {
		if e.Tag == dwarf.TagMember {
			entries = append(entries, e)
		}
	})
	if err != nil {
		return nil, err
	}
	members := make([]btf.Member, 0, len(entries))
	for _, m := range entries {
		t, err := c.target(m)
		if err != nil {
			return nil, err
		}
		offset, width, err := place(m)
		if err != nil {
			return nil, err
		}
		members = append(members, btf.Member{Name: text(m, dwarf.AttrName), Type: t, Offset: offset, BitfieldSize: width})
	}
	switch t := known.(type) {
	case *btf.Struct:
		t.Size, t.Members = size(e), members
	case *btf.Union:
		t.Size, t.Members = size(e), members
	}
	return known, nil
}

// place returns the offset of a member, and its width if it is a bit field.
func place(m *dwarf.Entry) (offset, width btf.Bits, err error) {
	at, _ := number(m, dwarf.AttrDataMemberLoc)
	if code, ok := m.Val(dwarf.AttrDataMemberLoc).([]byte); ok { // before DWARF 4
		const plusUconst = 0x23 // DW_OP_plus_uconst
		n, size := uint64(0), 0
		if len(code) > 0 && code[0] == plusUconst {
			n, size = binary.Uvarint(code[1:])
		}
		if size <= 0 || size != len(code)-1 {
			return 0, 0, fmt.Errorf("the member at %#x is at a place that must be computed", m.Offset)
		}
		at = int64(n)
	}
	bits, isField := number(m, dwarf.AttrBitSize)
	if n, ok := number(m, dwarf.AttrDataBitOffset); ok {
		return btf.Bits(at*8 + n), btf.Bits(bits), nil
	}
	if !isField {
		return btf.Bits(at * 8), 0, nil
	}
	// Before DWARF 5: from the most significant bit of what holds the field.
	from, _ := number(m, dwarf.AttrBitOffset)
	return btf.Bits(at*8 + int64(size(m))*8 - from - bits), btf.Bits(bits), nil
}

// children calls visit for the entries below e; r is behind e.
func children(e *dwarf.Entry, r *dwarf.Reader, visit func(*dwarf.Entry)) error {
	if !e.Children {
		return nil
	}
	for {
		child, err := r.Next()
		if err != nil {
			return err
		}
		if child == nil {
			return fmt.Errorf("the type at %#x does not end", e.Offset)
		}
		if child.Tag == 0 {
			return nil
		}
		visit(child)
		r.SkipChildren()
	}
}
