package oracle

import "github.com/hybridbridge/emu/cpu/isa"

// undefinedAfter returns the flags that are undefined after in, if those in before are undefined before it. rcx is the
// value of RCX; known says that it is what the instruction will see. The rules are those of isa.UndefRule, which
// are the manual's; where a count is not known, every flag that some count leaves undefined is taken as undefined.
func undefinedAfter(in *isa.Inst, before isa.Flags, rcx uint64, known bool) isa.Flags {
	r := in.Row
	written := before &^ r.Writes
	if in.Prefix&(isa.PrefixRep|isa.PrefixRepne) != 0 && r.Attr&isa.Repe != 0 {
		written = before // a count of zero writes nothing
	}
	switch r.UndefWhen {
	case isa.UndefShift, isa.UndefRotate, isa.UndefDoubleShift:
		count, ok := shiftCount(in, rcx, known)
		if !ok {
			return before | r.Undef
		}
		if count == 0 {
			return before
		}
		undef := r.Undef
		if count == 1 {
			undef &^= isa.FlagOF
		}
		width := uint64(in.Args[0].Size) * 8
		switch r.UndefWhen {
		case isa.UndefShift:
			if count < width {
				undef &^= isa.FlagCF
			}
		case isa.UndefDoubleShift:
			if count <= width {
				undef &= isa.FlagOF | isa.FlagAF
			}
		}
		return written | undef
	}
	return written | r.Undef
}

// shiftCount returns the masked count of a shift or rotate.
func shiftCount(in *isa.Inst, rcx uint64, known bool) (uint64, bool) {
	mask := uint64(31)
	if in.Args[0].Size == 8 {
		mask = 63
	}
	count := in.Args[1]
	if in.Args[2].Kind != isa.KindNone {
		count = in.Args[2]
	}
	switch count.Kind {
	case isa.KindImm:
		return in.Imm & mask, true
	case isa.KindOne:
		return 1, true
	}
	return rcx & mask, known
}
