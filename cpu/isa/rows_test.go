package isa

import (
	"testing"

	"github.com/hybridbridge/emu/taint"
)

// encode builds the shortest encodings of a row that a mode allows: with a register and with memory at [rAX].
func (r *Row) encode(mode Mode) [][]byte {
	e := r.Opcode()
	var head []byte
	if e.Prefix != 0 {
		head = append(head, e.Prefix)
	}
	if r.Attr&NeedREXW != 0 {
		head = append(head, 0x48)
	} else if mode == Mode64 && r.Op == XCHG && e.Map == 0 && e.Opcode == 0x90 {
		head = append(head, 0x41) // 90 alone is NOP
	}
	switch e.Map {
	case 1:
		head = append(head, 0x0f)
	case 2:
		head = append(head, 0x0f, 0x38)
	case 3:
		head = append(head, 0x0f, 0x3a)
	}
	var out [][]byte
	for n := range e.Count {
		if r.Op == XCHG && e.Map == 0 && e.Opcode == 0x90 && n == 0 && mode != Mode64 {
			continue
		}
		code := append(append([]byte{}, head...), e.Opcode+n)
		if !e.ModRM {
			out = append(out, code)
			continue
		}
		for reg := range byte(8) {
			if e.Reg >= 0 && reg != byte(e.Reg) {
				continue
			}
			for rm := range byte(8) {
				if e.RM >= 0 && rm != byte(e.RM) {
					continue
				}
				if r.Attr&MemOnly == 0 {
					out = append(out, append(append([]byte{}, code...), 0xc0|reg<<3|rm))
				}
				if r.Attr&RegOnly == 0 && rm < 4 {
					out = append(out, append(append([]byte{}, code...), reg<<3|rm))
				}
			}
		}
	}
	for i := range out {
		out[i] = append(out[i], 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return out
}

// TestEveryRowDecodes builds each row's encodings and decodes them in every mode that has the row.
func TestEveryRowDecodes(t *testing.T) {
	total := 0
	for r := range Rows {
		for _, mode := range []Mode{Mode16, Mode32, Mode64} {
			if mode == Mode64 && r.Attr&No64 != 0 || mode != Mode64 && r.Attr&Only64 != 0 {
				continue
			}
			reached := 0
			for _, code := range r.encode(mode) {
				in, err := Decode(code, mode, AllFeatures)
				if err == nil && in.Row == r {
					reached++
				}
			}
			if reached == 0 {
				t.Errorf("%s %v %s is not reached in mode %d", r.Enc, r.Op, r.Args, mode)
			}
			total += reached
		}
	}
	t.Logf("%d rows, %d Ops, %d encodings", len(table), NumOps-1, total)
}

func TestEveryOpHasARow(t *testing.T) {
	var seen [NumOps]bool
	for r := range Rows {
		seen[r.Op] = true
	}
	for op := Op(1); op < NumOps; op++ {
		if !seen[op] {
			t.Errorf("%v has no row: run go generate", op)
		}
	}
}

// TestFacts checks what must hold between the facts of a row.
func TestFacts(t *testing.T) {
	for r := range Rows {
		name := r.Enc + " " + r.Op.String() + " " + r.Args
		writesFlags, reads, writes := r.Writes != 0, false, false
		hasMem := r.Attr&MemOnly != 0
		for i := range r.NumArgs() {
			place, kind, access := r.Arg(i)
			reads = reads || access&Read != 0
			writes = writes || access&Write != 0
			if place == PlaceRM && kind != KindST && r.Attr&(RegOnly|AnyMod) == 0 {
				hasMem = true
			}
			if access&Write != 0 && (kind == KindImm || kind == KindImm2 || kind == KindRel || kind == KindFar) {
				t.Errorf("%s writes an immediate", name)
			}
			if access&Maybe != 0 && access&Write == 0 {
				t.Errorf("%s: Maybe without Write", name)
			}
		}
		for i := range r.Implicit {
			reads = reads || r.Implicit[i].Access&Read != 0
			writes = writes || r.Implicit[i].Access&Write != 0
		}
		if r.Attr&Lockable != 0 && !hasMem {
			t.Errorf("%s is lockable and has no memory operand", name)
		}
		if r.Attr&MemOnly != 0 && r.Attr&RegOnly != 0 || r.Attr&No64 != 0 && r.Attr&Only64 != 0 || r.Attr&Default64 != 0 && r.Attr&Force64 != 0 {
			t.Errorf("%s: contradiction in attributes", name)
		}
		if r.UndefWhen == UndefAlways && r.Writes&r.Undef != 0 {
			t.Errorf("%s: flags %#x both written and undefined", name, r.Writes&r.Undef)
		}
		if (r.Taint == taint.VerbLane) != (r.Lane != 0) {
			t.Errorf("%s: lane %d", name, r.Lane)
		}
		switch r.Taint {
		case taint.VerbCopy, taint.VerbSignExtend, taint.VerbCarry, taint.VerbBitwise, taint.VerbShiftLeft, taint.VerbShiftRight,
			taint.VerbRotate, taint.VerbMix, taint.VerbLane, taint.VerbPermute, taint.VerbSelect, taint.VerbExchange:
			// Flags may be the only destination or source (BT, RCL), but something must flow.
			if !reads || !writes {
				t.Errorf("%s: its verb moves data, but it reads %v and writes %v", name, reads, writes)
			}
		case taint.VerbCompare:
			fsw := len(r.Implicit) > 0 && r.Implicit[len(r.Implicit)-1].Kind == KindFSW
			if !writesFlags && !fsw {
				t.Errorf("%s compares and writes no flags", name)
			}
		}
	}
}

// TestFlags checks the flags of some rows against SDM vol. 1, appendix A.
func TestFlags(t *testing.T) {
	const status = FlagsStatus
	for _, c := range []struct {
		code                 string
		reads, writes, undef Flags
		when                 UndefRule
	}{
		{"01 c0", 0, status, 0, UndefAlways},
		{"11 c0", FlagCF, status, 0, UndefAlways},
		{"21 c0", 0, status &^ FlagAF, FlagAF, UndefAlways},
		{"39 c0", 0, status, 0, UndefAlways},
		{"85 c0", 0, status &^ FlagAF, FlagAF, UndefAlways},
		{"ff c0", 0, status &^ FlagCF, 0, UndefAlways},
		{"f7 d0", 0, 0, 0, UndefAlways},
		{"f7 d8", 0, status, 0, UndefAlways},
		{"f7 e0", 0, FlagOF | FlagCF, status &^ (FlagOF | FlagCF), UndefAlways},
		{"0f af c0", 0, FlagOF | FlagCF, status &^ (FlagOF | FlagCF), UndefAlways},
		{"f7 f0", 0, 0, status, UndefAlways},
		{"d1 e0", 0, status &^ FlagAF, FlagAF, UndefAlways},
		{"c1 e0 02", 0, status &^ FlagAF, FlagOF | FlagAF | FlagCF, UndefShift},
		{"c1 f8 02", 0, status &^ FlagAF, FlagOF | FlagAF, UndefShift},
		{"c1 c0 02", 0, FlagOF | FlagCF, FlagOF, UndefRotate},
		{"d3 d0", FlagCF, FlagOF | FlagCF, FlagOF, UndefRotate},
		{"0f a5 c0", 0, status &^ FlagAF, status, UndefDoubleShift},
		{"0f a3 c0", 0, FlagCF, FlagOF | FlagSF | FlagAF | FlagPF, UndefAlways},
		{"0f bc c0", 0, FlagZF, status &^ FlagZF, UndefBitScan},
		{"f3 0f b8 c0", 0, status, 0, UndefAlways},
		{"0f 2f c0", 0, status, 0, UndefAlways},
		{"66 0f 38 17 c0", 0, status, 0, UndefAlways},
		{"9e", 0, status &^ FlagOF, 0, UndefAlways},
		{"9f", status &^ FlagOF, 0, 0, UndefAlways},
		{"f9", 0, FlagCF, 0, UndefAlways},
		{"f5", FlagCF, FlagCF, 0, UndefAlways},
		{"a6", FlagDF, status, 0, UndefAlways},
		{"a4", FlagDF, 0, 0, UndefAlways},
		{"0f b1 c0", 0, status, 0, UndefAlways},
		{"0f c7 08", 0, FlagZF, 0, UndefAlways},
		{"74 00", FlagZF, 0, 0, UndefAlways},
		{"7f 00", FlagZF | FlagSF | FlagOF, 0, 0, UndefAlways},
		{"0f 42 c0", FlagCF, 0, 0, UndefAlways},
		{"0f 96 c0", FlagCF | FlagZF, 0, 0, UndefAlways},
		{"e1 00", FlagZF, 0, 0, UndefAlways},
		{"48 8d 00", 0, 0, 0, UndefAlways},
	} {
		in, err := Decode(unhex(t, c.code), Mode64, AllFeatures)
		if err != nil {
			t.Errorf("%s: %v", c.code, err)
			continue
		}
		r := in.Row
		if in.FlagsRead() != c.reads || r.Writes != c.writes || r.Undef != c.undef || r.UndefWhen != c.when {
			t.Errorf("%s %v: reads %#x writes %#x undef %#x %d", c.code, r.Op, in.FlagsRead(), r.Writes, r.Undef, r.UndefWhen)
		}
	}
}

// TestTaintVerbs checks the verbs of rows that are easily got wrong.
func TestTaintVerbs(t *testing.T) {
	for _, c := range []struct {
		code string
		want taint.Verb
		lane uint8
	}{
		{"48 89 c0", taint.VerbCopy, 0},
		{"0f b6 c0", taint.VerbCopy, 0},
		{"0f be c0", taint.VerbSignExtend, 0},
		{"48 98", taint.VerbSignExtend, 0},
		{"48 01 c0", taint.VerbCarry, 0},
		{"48 31 c0", taint.VerbBitwise, 0},
		{"48 8d 00", taint.VerbAddress, 0},
		{"48 87 c0", taint.VerbExchange, 0},
		{"0f b1 00", taint.VerbSelect, 0},
		{"0f 44 c0", taint.VerbSelect, 0},
		{"0f 94 c0", taint.VerbSetCC, 0},
		{"0f c8", taint.VerbPermute, 0},
		{"66 0f ef c0", taint.VerbBitwise, 0},
		{"66 0f 74 c0", taint.VerbLane, 1},
		{"66 0f fe c0", taint.VerbLane, 4},
		{"66 0f 58 c0", taint.VerbLane, 8},
		{"66 0f 73 f8 04", taint.VerbPermute, 0}, // PSLLDQ
		{"66 0f 73 f0 04", taint.VerbLane, 8},    // PSLLQ
		{"66 0f d7 c0", taint.VerbMix, 0},
		{"ff d0", taint.VerbNone, 0},
		{"50", taint.VerbCopy, 0},
		{"0f 32", taint.VerbNone, 0},
	} {
		in, err := Decode(unhex(t, c.code), Mode64, AllFeatures)
		if err != nil || in.Row.Taint != c.want || in.Row.Lane != c.lane {
			t.Errorf("%s %v: verb %d lane %d (%v)", c.code, in.Op, in.Row.Taint, in.Row.Lane, err)
		}
	}
}

// TestDecodeAllocs holds the promise that decoding does not allocate.
func TestDecodeAllocs(t *testing.T) {
	good, bad := unhex(t, "488b848d10000000"), unhex(t, "06")
	if n := testing.AllocsPerRun(100, func() {
		_, _ = Decode(good, Mode64, AllFeatures)
		_, _ = Decode(bad, Mode64, AllFeatures)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
