package legacytest

import (
	"fmt"
	"strings"

	"github.com/hybridbridge/emu/cpu/isa"
)

// differences describes where b differs from a, undefined flags left out; "" if nowhere.
func differences(ab *About, a, b *Result) string {
	var s []string
	add := func(name string, x, y uint32) {
		if x != y {
			s = append(s, fmt.Sprintf("%s %#x/%#x", name, x, y))
		}
	}
	add("vector", a.Vector, b.Vector)
	add("error", a.Error, b.Error)
	for i, n := range [8]string{"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"} {
		add(n, a.GPR[i], b.GPR[i])
	}
	mask := uint32(isa.FlagsAll) &^ uint32(ab.Undef)
	if a.Vector != vectorINT3 || b.Vector != vectorINT3 {
		mask &^= uint32(isa.FlagRF)
	}
	add("eflags", a.EFLAGS&mask, b.EFLAGS&mask)
	add("eip", a.EIP, b.EIP)
	add("cr2", a.CR2, b.CR2)
	for i, n := range [6]string{"es", "cs", "ss", "ds", "fs", "gs"} {
		add(n, uint32(a.Seg[i]), uint32(b.Seg[i]))
	}
	if a.Hash != b.Hash {
		s = append(s, "memory"+memoryDifference(a, b))
	}
	if a.Tables != b.Tables {
		s = append(s, "tables"+memoryDifference(a, b))
	}
	return strings.Join(s, ", ")
}

const (
	vectorDE   = 0
	vectorINT3 = 3
	vectorSS   = 12
	vectorGP   = 13
	vectorPF   = 14
	vectorLost = 0xffffffff // the emulator did not survive the case
)

func memoryDifference(a, b *Result) string {
	if !a.dumped || !b.dumped {
		return ""
	}
	var s strings.Builder
	for i := range a.Windows {
		if a.Windows[i] == b.Windows[i] {
			continue
		}
		where := fmt.Sprintf("GDT+%#x", i-numWindows*windowSize)
		if w := i / windowSize; w < numWindows {
			where = fmt.Sprintf("%#x", dataBase+uint32(w/3)*0x10000+windows[w%3]+uint32(i%windowSize))
		}
		fmt.Fprintf(&s, " [%s] %02x/%02x", where, a.Windows[i], b.Windows[i])
	}
	return s.String()
}

// String shows a case as a person wants to read it.
func (c *Case) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%x paging %d cs:eip %x:%x ss:esp %x:%x ds %x es %x fs %x gs %x eflags %x eax %x ecx %x edx %x ebx %x ebp %x esi %x edi %x",
		c.Code, c.Paging, c.CS, c.EIP, c.SS, c.GPR[4], c.DS, c.ES, c.FS, c.GS, c.EFLAGS, c.GPR[0], c.GPR[1], c.GPR[2], c.GPR[3], c.GPR[5], c.GPR[6], c.GPR[7])
	for _, p := range c.Patches {
		fmt.Fprintf(&s, " [%x]=%x", p.Addr, p.Value)
	}
	return s.String()
}
