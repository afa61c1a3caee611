package linux

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hybridbridge/emu/snapshots"
)

// Form is a form of page tables (Intel SDM vol. 3A, 4.1.1).
type Form uint8

// Page-table forms.
const (
	Unknown Form = iota
	Paging32
	PAE
	Level4
	Level5
)

// String returns "32-bit", "PAE", "4-level" or "5-level".
func (f Form) String() string {
	switch f {
	case Paging32:
		return "32-bit"
	case PAE:
		return "PAE"
	case Level4:
		return "4-level"
	case Level5:
		return "5-level"
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (f Form) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Form) UnmarshalText(text []byte) error {
	for *f = Unknown; *f <= Level5; *f++ {
		if f.String() == string(text) {
			return nil
		}
	}
	return fmt.Errorf("%q is no form of page tables", text)
}

// Wide says whether the form is of a 64-bit kernel.
func (f Form) Wide() bool { return f >= Level4 }

// ErrNotMapped is wrapped by errors about virtual addresses that the page tables do not map.
var ErrNotMapped = errors.New("not mapped")

const (
	ptePresent   = 1 << 0
	pteWrite     = 1 << 1
	pteUser      = 1 << 2
	pteLarge     = 1 << 7
	pteNX        = 1 << 63
	pteFrameMask = 0x000f_ffff_ffff_f000
)

// AddressSpace translates virtual addresses by page tables in a snapshot. It is a small value; its methods are safe
// for concurrent use if those of Memory are.
type AddressSpace struct {
	Memory snapshots.Reader
	Form   Form
	Root   uint64 // physical address of the top table, as in CR3 without its low bits
}

// FromCR3 returns the address space that CR3 names. Under page-table isolation a CR3 of user mode names the user's half of a pair;
// kernel says that the kernel's half is meant.
func FromCR3(mem snapshots.Reader, form Form, cr3 uint64, kernel bool) AddressSpace {
	switch {
	case form == PAE:
		cr3 &= 0xffff_ffe0
	case form == Paging32:
		cr3 &= 0xffff_f000
	default:
		cr3 &= pteFrameMask
	}
	if kernel && form.Wide() {
		cr3 &^= 0x1000
	}
	return AddressSpace{mem, form, cr3}
}

// Page is the outcome of a translation.
type Page struct {
	Physical uint64 // of the address that was translated
	Size     uint64 // of the page: 4 KiB, 2 or 4 MiB, 1 GiB
	// Rights, combined from all levels.
	Write, User, Execute bool
}

// Canonical says whether va is an address of this form's address space.
func (a AddressSpace) Canonical(va uint64) bool {
	switch a.Form {
	case Level4:
		return uint64(int64(va<<16)>>16) == va
	case Level5:
		return uint64(int64(va<<7)>>7) == va
	}
	return va>>32 == 0
}

// Translate walks the page tables. Errors wrap ErrNotMapped, or what reading memory reported.
func (a AddressSpace) Translate(va uint64) (Page, error) {
	if !a.Canonical(va) {
		return Page{}, fmt.Errorf("%#x is not an address in %s paging: %w", va, a.Form, ErrNotMapped)
	}
	var shift uint // of the address bits that index the table
	entry, bits := uint64(8), uint(9)
	switch a.Form {
	case Level5:
		shift = 48
	case Level4:
		shift = 39
	case PAE:
		shift = 30
	case Paging32:
		shift, entry, bits = 22, 4, 10
	default:
		return Page{}, fmt.Errorf("%s page tables: %w", a.Form, ErrNotMapped)
	}
	p := Page{Write: true, User: true, Execute: true}
	for table := a.Root; ; shift -= bits {
		var b [8]byte
		at := table + va>>shift&(1<<bits-1)*entry
		if err := a.Memory.ReadPhysical(b[:entry], at); err != nil {
			return Page{}, fmt.Errorf("%#x: page-table entry at %#x: %w", va, at, err)
		}
		e := binary.LittleEndian.Uint64(b[:])
		if e&ptePresent == 0 {
			return Page{}, fmt.Errorf("%#x: %w", va, ErrNotMapped)
		}
		if a.Form != PAE || shift != 30 { // a PDPT entry of PAE has no rights
			p.Write = p.Write && e&pteWrite != 0
			p.User = p.User && e&pteUser != 0
			p.Execute = p.Execute && e&pteNX == 0
		}
		large := e&pteLarge != 0 && (shift == 21 || shift == 22 || shift == 30 && a.Form.Wide())
		if shift == 12 || large {
			p.Size = 1 << shift
			frame := e & pteFrameMask
			if large && shift == 22 { // PSE-36
				frame = e&0xffc0_0000 | e>>13&0xff<<32
			}
			p.Physical = frame&^(p.Size-1) | va&(p.Size-1)
			return p, nil
		}
		table = e & pteFrameMask
	}
}

// Read copies len(p) bytes of memory from virtual address va.
func (a AddressSpace) Read(p []byte, va uint64) error {
	for len(p) > 0 {
		t, err := a.Translate(va)
		if err != nil {
			return err
		}
		n := min(uint64(len(p)), t.Size-va&(t.Size-1))
		if err := a.Memory.ReadPhysical(p[:n], t.Physical); err != nil {
			return fmt.Errorf("virtual address %#x: %w", va, err)
		}
		p, va = p[n:], va+n
	}
	return nil
}

// Uint64 reads a word of 8 bytes.
func (a AddressSpace) Uint64(va uint64) (uint64, error) {
	var b [8]byte
	err := a.Read(b[:], va)
	return binary.LittleEndian.Uint64(b[:]), err
}

// Uint32 reads a word of 4 bytes.
func (a AddressSpace) Uint32(va uint64) (uint32, error) {
	var b [4]byte
	err := a.Read(b[:], va)
	return binary.LittleEndian.Uint32(b[:]), err
}
