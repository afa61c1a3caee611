package isa

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// show prints an instruction tersely: Op, operand and address size, then each operand.
func show(in *Inst) string {
	s := fmt.Sprintf("%v %d/%d", in.Op, in.OpSize, in.AddrSize)
	segs := []string{"es", "cs", "ss", "ds", "fs", "gs"}
	for _, o := range in.Args[:in.Row.NumArgs()] {
		s += " "
		switch o.Kind {
		case KindReg:
			s += fmt.Sprintf("r%d.%d", o.Reg, o.Size)
		case KindHigh:
			s += fmt.Sprintf("h%d", o.Reg)
		case KindMem:
			s += fmt.Sprintf("%s:[", segs[in.Seg])
			switch in.Base {
			case RegNone:
			case RegRIP:
				s += "rip"
			default:
				s += fmt.Sprintf("r%d", in.Base)
			}
			if in.Index != RegNone {
				s += fmt.Sprintf("+r%d*%d", in.Index, 1<<in.Scale)
			}
			s += fmt.Sprintf("%+d].%d", in.Disp, o.Size)
		case KindImm, KindRel:
			s += fmt.Sprintf("%#x", in.Imm)
		case KindImm2:
			s += fmt.Sprintf("%#x", in.Imm2)
		case KindFar:
			s += fmt.Sprintf("%#x:%#x.%d", in.Imm2, in.Imm, o.Size)
		case KindSeg:
			s += segs[o.Reg]
		case KindXMM:
			s += fmt.Sprintf("x%d.%d", o.Reg, o.Size)
		case KindMMX:
			s += fmt.Sprintf("m%d.%d", o.Reg, o.Size)
		default:
			s += fmt.Sprintf("k%d:%d.%d", o.Kind, o.Reg, o.Size)
		}
	}
	return s
}

// TestDecode is one line an encoding rule: mode, bytes, what they mean. The length is that of the bytes.
func TestDecode(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		code string
		want string
	}{
		{Mode64, "48 89 e5", "MOV 8/8 r5.8 r4.8"},
		{Mode64, "89 04 24", "MOV 4/8 ss:[r4+0].4 r0.4"},
		{Mode64, "41 89 04 24", "MOV 4/8 ds:[r12+0].4 r0.4"},
		{Mode64, "89 45 00", "MOV 4/8 ss:[r5+0].4 r0.4"},
		{Mode64, "41 89 45 ff", "MOV 4/8 ds:[r13-1].4 r0.4"},
		{Mode64, "8b 05 fc ff ff ff", "MOV 4/8 r0.4 ds:[rip-4].4"},
		{Mode64, "41 8b 05 01 00 00 00", "MOV 4/8 r0.4 ds:[rip+1].4"},
		{Mode64, "67 8b 05 01 00 00 00", "MOV 4/4 r0.4 ds:[rip+1].4"},
		{Mode32, "8b 05 01 00 00 80", "MOV 4/4 r0.4 ds:[-2147483647].4"},
		{Mode64, "8b 04 25 01 00 00 80", "MOV 4/8 r0.4 ds:[-2147483647].4"},
		{Mode64, "8b 04 65 01 00 00 00", "MOV 4/8 r0.4 ds:[+1].4"},
		{Mode64, "42 8b 04 65 01 00 00 00", "MOV 4/8 r0.4 ds:[+r12*2+1].4"},
		{Mode64, "8b 84 8d 10 00 00 00", "MOV 4/8 r0.4 ss:[r5+r1*4+16].4"},
		{Mode16, "8b 02", "MOV 2/2 r0.2 ss:[r5+r6*1+0].2"},
		{Mode16, "8b 06 34 12", "MOV 2/2 r0.2 ds:[+4660].2"},
		{Mode16, "8b 46 ff", "MOV 2/2 r0.2 ss:[r5-1].2"},
		{Mode16, "2e 8b 46 ff", "MOV 2/2 r0.2 cs:[r5-1].2"},
		{Mode16, "66 67 8b 44 24 04", "MOV 4/4 r0.4 ss:[r4+4].4"},
		{Mode32, "67 8b 47 80", "MOV 4/2 r0.4 ds:[r3-128].4"},
		// High bytes and REX.
		{Mode64, "88 e0", "MOV 1/8 r0.1 h0"},
		{Mode64, "40 88 e0", "MOV 1/8 r0.1 r4.1"},
		{Mode64, "0f b6 c4", "MOVZX 4/8 r0.4 h0"},
		{Mode64, "b4 7f", "MOV 1/8 h0 0x7f"},
		{Mode64, "41 b4 7f", "MOV 1/8 r12.1 0x7f"},
		// REX counts only at the end of the prefixes.
		{Mode64, "48 66 01 c0", "ADD 2/8 r0.2 r0.2"},
		{Mode64, "66 48 01 c0", "ADD 8/8 r0.8 r0.8"},
		{Mode64, "48 41 89 c0", "MOV 4/8 r8.4 r0.4"},
		{Mode32, "48", "DEC 4/4 r0.4"},
		// Segment overrides.
		{Mode64, "65 48 8b 04 25 00 00 00 00", "MOV 8/8 r0.8 gs:[+0].8"},
		{Mode64, "2e 8b 45 00", "MOV 4/8 r0.4 ss:[r5+0].4"},
		{Mode64, "64 3e 8b 00", "MOV 4/8 r0.4 fs:[r0+0].4"},
		{Mode32, "64 3e 8b 00", "MOV 4/4 r0.4 ds:[r0+0].4"},
		// Immediates.
		{Mode64, "48 83 c0 ff", "ADD 8/8 r0.8 0xffffffffffffffff"},
		{Mode64, "48 81 c0 00 00 00 80", "ADD 8/8 r0.8 0xffffffff80000000"},
		{Mode64, "66 81 c0 00 80", "ADD 2/8 r0.2 0xffffffffffff8000"},
		{Mode64, "80 c0 ff", "ADD 1/8 r0.1 0xff"},
		{Mode64, "48 b8 88 77 66 55 44 33 22 11", "MOV 8/8 r0.8 0x1122334455667788"},
		{Mode64, "b8 00 00 00 80", "MOV 4/8 r0.4 0x80000000"},
		{Mode64, "c8 10 00 02", "ENTER 8/8 0x10 0x2"},
		{Mode64, "48 69 c1 ff ff ff ff", "IMUL3 8/8 r0.8 r1.8 0xffffffffffffffff"},
		// moffs.
		{Mode64, "a1 88 77 66 55 44 33 22 11", "MOV 4/8 r0.4 ds:[+1234605616436508552].4"},
		{Mode64, "67 a0 44 33 22 81", "MOV 1/4 r0.1 ds:[+2166502212].1"},
		{Mode16, "a3 34 12", "MOV 2/2 ds:[+4660].2 r0.2"},
		{Mode64, "64 a0 00 00 00 00 00 00 00 00", "MOV 1/8 r0.1 fs:[+0].1"},
		// Stack and near branches default to 64 bits; prefix 66 does not narrow a branch (Intel).
		{Mode64, "50", "PUSH 8/8 r0.8"},
		{Mode64, "66 50", "PUSH 2/8 r0.2"},
		{Mode64, "41 57", "PUSH 8/8 r15.8"},
		{Mode64, "68 00 00 00 80", "PUSH 8/8 0xffffffff80000000"},
		{Mode64, "6a ff", "PUSH 8/8 0xffffffffffffffff"},
		{Mode64, "66 e8 00 00 00 80", "CALL 8/8 0xffffffff80000000"},
		{Mode32, "66 e8 00 80", "CALL 2/4 0xffffffffffff8000"},
		{Mode64, "66 c3", "RET 8/8"},
		{Mode64, "ff d0", "CALL_IND 8/8 r0.8"},
		{Mode64, "e3 fe", "JCXZ 8/8 0xfffffffffffffffe"},
		{Mode64, "67 e3 fe", "JCXZ 8/4 0xfffffffffffffffe"},
		{Mode64, "ff 28", "JMP_FAR 4/8 ds:[r0+0].6"},
		{Mode64, "48 ff 28", "JMP_FAR 8/8 ds:[r0+0].10"},
		{Mode16, "ea 34 12 00 f0", "JMP_FAR 2/2 0xf000:0x1234.4"},
		{Mode16, "66 ea 78 56 34 12 08 00", "JMP_FAR 4/2 0x8:0x12345678.6"},
		// System.
		{Mode64, "0f 20 d8", "MOV_FROM_CR 8/8 r0.8 k9:3.8"},
		{Mode64, "44 0f 20 c0", "MOV_FROM_CR 8/8 r0.8 k9:8.8"},
		{Mode64, "0f 22 04", "MOV_TO_CR 8/8 k9:0.8 r4.8"},
		{Mode32, "0f 22 c0", "MOV_TO_CR 4/4 k9:0.4 r0.4"},
		{Mode16, "0f 22 c0", "MOV_TO_CR 2/2 k9:0.4 r0.4"},
		{Mode64, "0f 01 10", "LGDT 8/8 ds:[r0+0].10"},
		{Mode32, "66 0f 01 10", "LGDT 2/4 ds:[r0+0].6"},
		{Mode64, "0f 01 f8", "SWAPGS 4/8"},
		{Mode64, "48 0f 07", "SYSRET 8/8"},
		{Mode64, "8c d8", "MOV_FROM_SEG 4/8 r0.4 ds"},
		{Mode64, "48 8c 18", "MOV_FROM_SEG 8/8 ds:[r0+0].2 ds"},
		{Mode64, "f3 48 0f ae d0", "WRFSBASE 8/8 r0.8"},
		{Mode64, "ed", "IN 4/8 r0.4 r2.2"},
		{Mode64, "48 ef", "OUT 4/8 r2.2 r0.4"},
		{Mode64, "ee", "OUT 1/8 r2.2 r0.1"},
		{Mode64, "e6 80", "OUT 1/8 0x80 r0.1"},
		{Mode64, "6e", "OUTS 1/8 r2.2 k14:0.1"},
		{Mode64, "48 6f", "OUTS 4/8 r2.2 k14:0.4"},
		// NOP, PAUSE, XCHG.
		{Mode64, "90", "NOP 4/8"},
		{Mode64, "41 90", "XCHG 4/8 r8.4 r0.4"},
		{Mode64, "48 90", "NOP 8/8"},
		{Mode64, "f3 90", "PAUSE 4/8"},
		{Mode64, "f3 41 90", "XCHG 4/8 r8.4 r0.4"},
		{Mode64, "f3 0f 1e fa", "NOP 4/8 r2.4"},
		{Mode64, "d7", "XLAT 1/8 r0.1 ds:[r3+0].1"},
		{Mode64, "65 d7", "XLAT 1/8 r0.1 gs:[r3+0].1"},
		// Mandatory prefixes: the last of F2 and F3, before 66.
		{Mode64, "0f 58 c1", "ADDPS 4/8 x0.16 x1.16"},
		{Mode64, "66 0f 58 c1", "ADDPD 4/8 x0.16 x1.16"},
		{Mode64, "66 f3 0f 58 c1", "ADDSS 2/8 x0.4 x1.4"},
		{Mode64, "f3 66 0f 58 c1", "ADDSS 2/8 x0.4 x1.4"},
		{Mode64, "f3 f2 0f 58 c1", "ADDSD 4/8 x0.8 x1.8"},
		{Mode64, "f2 f3 0f 58 c1", "ADDSS 4/8 x0.4 x1.4"},
		{Mode64, "f3 48 0f 2a c1", "CVTSI2SS 8/8 x0.4 r1.8"},
		{Mode16, "f3 0f 2a c1", "CVTSI2SS 2/2 x0.4 r1.4"},
		{Mode64, "66 f2 0f 38 f1 c1", "CRC32 2/8 r0.4 r1.2"},
		{Mode64, "f2 48 0f 38 f1 c1", "CRC32 8/8 r0.8 r1.8"},
		{Mode64, "66 f3 0f b8 c1", "POPCNT 2/8 r0.2 r1.2"},
		{Mode64, "66 0f 38 f0 00", "MOVBE 2/8 r0.2 ds:[r0+0].2"},
		{Mode64, "66 48 0f 6e c1", "MOVD 8/8 x0.16 r1.8"},
		{Mode64, "66 4d 0f 7e c1", "MOVD 8/8 r9.8 x8.8"},
		{Mode64, "45 0f fc c9", "PADDB 4/8 m1.8 m1.8"},
		{Mode64, "66 45 0f fc c9", "PADDB 4/8 x9.16 x9.16"},
		{Mode64, "f3 0f 10 00", "MOVSS 4/8 x0.16 ds:[r0+0].4"},
		{Mode64, "f3 0f 10 c1", "MOVSS 4/8 x0.4 x1.4"},
		{Mode64, "0f 12 c1", "MOVHLPS 4/8 x0.8 x1.16"},
		{Mode64, "66 0f f7 c1", "MASKMOVDQU 4/8 ds:[r7+0].16 x0.16 x1.16"},
		{Mode64, "66 0f 3a 14 00 01", "PEXTRB 4/8 ds:[r0+0].1 x0.16 0x1"},
		{Mode64, "66 0f 3a 14 c8 01", "PEXTRB 4/8 r0.4 x1.16 0x1"},
		{Mode64, "66 48 0f 3a 16 c0 01", "PEXTRD 8/8 r0.8 x0.16 0x1"},
		// Row choice by REX.W, mode and group.
		{Mode64, "0f c7 0f", "CMPXCHG8B 4/8 ds:[r7+0].8"},
		{Mode64, "48 0f c7 0f", "CMPXCHG16B 8/8 ds:[r7+0].16"},
		{Mode64, "f0 48 0f c7 0f", "CMPXCHG16B 8/8 ds:[r7+0].16"},
		{Mode64, "63 c1", "MOVSXD 4/8 r0.4 r1.4"},
		{Mode32, "63 c1", "ARPL 4/4 r1.2 r0.2"},
		{Mode32, "82 c0 ff", "ADD 1/4 r0.1 0xff"},
		{Mode32, "c4 00", "LES 4/4 r0.4 ds:[r0+0].6"},
		{Mode64, "d9 e8", "FLD1 4/8"},
		{Mode64, "d8 c1", "FADD 4/8 k13:0.10 k13:1.10"},
		{Mode64, "dc e1", "FSUBR 4/8 k13:1.10 k13:0.10"},
		{Mode64, "db 28", "FLD 4/8 ds:[r0+0].10"},
		{Mode64, "48 0f ae 00", "FXSAVE 8/8 ds:[r0+0].255"},
		{Mode64, "48 a5", "MOVS 8/8 k15:0.8 k14:0.8"},
	} {
		code := unhex(t, c.code)
		in, err := Decode(code, c.mode, AllFeatures)
		if err != nil {
			t.Errorf("%d: %s: %v", c.mode, c.code, err)
			continue
		}
		if got := show(&in); got != c.want {
			t.Errorf("%d: %s: got %s, want %s", c.mode, c.code, got, c.want)
		}
		if int(in.Len) != len(code) {
			t.Errorf("%d: %s: length %d", c.mode, c.code, in.Len)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		code string
		want error
	}{
		{Mode64, "", ErrTruncated},
		{Mode64, "48", ErrTruncated},
		{Mode64, "0f 38", ErrTruncated},
		{Mode64, "8b 04", ErrTruncated},
		{Mode64, "8b 05 00 00 00", ErrTruncated},
		{Mode64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", nil},
		{Mode64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", ErrTooLong},
		{Mode64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66", ErrTruncated},
		{Mode64, "2e 2e 2e 2e 2e 2e 2e 2e 2e 2e 2e 48 c7 c0 00 00 00 00", ErrTooLong},
		{Mode64, "06", ErrInvalid},
		{Mode64, "27", ErrInvalid},
		{Mode64, "62 00", ErrInvalid},
		{Mode64, "82 c0 00", ErrInvalid},
		{Mode64, "9a", ErrInvalid},
		{Mode64, "c4 00", ErrInvalid},
		{Mode64, "c5 00", ErrInvalid},
		{Mode32, "c4 c0", ErrInvalid},
		{Mode32, "0f 05", ErrInvalid},
		{Mode32, "0f 01 f8", ErrInvalid},
		{Mode64, "0f 20 c8", ErrInvalid},    // CR1
		{Mode64, "44 0f 21 c0", ErrInvalid}, // DR8
		{Mode64, "8e c8", ErrInvalid},       // MOV CS
		{Mode64, "8e f0", ErrInvalid},
		{Mode64, "8d c0", ErrInvalid}, // LEA of a register
		{Mode64, "8f c8", ErrInvalid}, // XOP
		{Mode64, "f0 01 c0", ErrInvalid},
		{Mode64, "f0 01 00", nil},
		{Mode64, "f0 39 00", ErrInvalid},
		{Mode64, "f0 03 00", ErrInvalid},
		{Mode64, "f0 87 00", nil},
		{Mode64, "f0 a3 00", ErrTruncated},
		{Mode64, "f0 0f a3 00", ErrInvalid},
		{Mode64, "f0 0f ab 00", nil},
		{Mode64, "f3 0f fe c0", ErrInvalid},
		{Mode64, "66 0f 52 c0", ErrInvalid},
		{Mode64, "ff f8", ErrInvalid},
	} {
		if _, err := Decode(unhex(t, c.code), c.mode, AllFeatures); err != c.want {
			t.Errorf("%d: %s: %v, want %v", c.mode, c.code, err, c.want)
		}
	}
}

func TestFeatures(t *testing.T) {
	for _, c := range []struct {
		code string
		feat FeatureSet
		want string
	}{
		{"f3 0f bc c1", Features(FeatBMI1), "TZCNT"},
		{"f3 0f bc c1", 0, "BSF"},
		{"f3 0f bd c1", Features(FeatLZCNT), "LZCNT"},
		{"f3 0f bd c1", Features(FeatBMI1), "BSR"},
		{"f3 0f b8 c1", 0, "Op?"},
		{"0f 18 00", Features(FeatSSE, FeatCMOV), "PREFETCHNTA"},
		{"0f 18 00", Features(FeatCMOV), "NOP"},
		{"9f", 0, "Op?"},
		{"0f 01 c1", AllFeatures &^ Features(FeatVMX), "Op?"},
		{"66 0f 38 00 c1", AllFeatures &^ Features(FeatSSSE3), "Op?"},
		{"dd c0", AllFeatures &^ Features(FeatFPU), "Op?"},
	} {
		in, err := Decode(unhex(t, c.code), Mode64, c.feat)
		if got := in.Op.String(); got != c.want || (err == nil) != (c.want != "Op?") {
			t.Errorf("%s with %#x: %s (%v), want %s", c.code, c.feat, got, err, c.want)
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, c := range []struct {
		code string
		want Prefix
	}{
		{"f3 a4", PrefixRep},
		{"f2 f3 a6", PrefixRep},
		{"f3 f2 a6", PrefixRepne},
		{"f3 0f 58 c0", 0},
		{"66 0f 58 c0", 0},
		{"66 f3 0f 58 c0", PrefixOpSize},
		{"66 f2 0f 38 f1 c0", PrefixOpSize},
		{"66 01 c0", PrefixOpSize},
		{"f0 01 00", PrefixLock},
		{"67 48 01 00", PrefixAddrSize | PrefixREX | PrefixREXW},
		{"65 01 00", PrefixSeg},
		{"2e 01 00", 0},
	} {
		in, err := Decode(unhex(t, c.code), Mode64, AllFeatures)
		if err != nil || in.Prefix != c.want {
			t.Errorf("%s: %08b (%v), want %08b", c.code, in.Prefix, err, c.want)
		}
	}
}

func TestImplicit(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		code string
		want []Operand
	}{
		{Mode64, "48 f7 e1", []Operand{{KindReg, RAX, 8, Read | Write}, {KindReg, RDX, 8, Write}}},
		{Mode64, "f6 e1", []Operand{{KindReg, RAX, 1, Read}, {KindReg, RAX, 2, Write}}},
		{Mode64, "67 f3 aa", []Operand{{KindReg, RDI, 4, Read | Write}, {KindReg, RCX, 4, Read | Write | Maybe}}},
		{Mode32, "66 50", []Operand{{KindReg, RSP, 4, Read | Write}, {KindStack, 0, 2, Write}}},
		{Mode64, "48 98", []Operand{{KindReg, RAX, 8, Write}, {KindReg, RAX, 4, Read}}},
		{Mode64, "66 98", []Operand{{KindReg, RAX, 2, Write}, {KindReg, RAX, 1, Read}}},
	} {
		in, err := Decode(unhex(t, c.code), c.mode, AllFeatures)
		if err != nil {
			t.Fatal(err)
		}
		var got []Operand
		for i := range in.Row.Implicit {
			got = append(got, in.Implicit(i))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.code, got, c.want)
		}
	}
}

// FuzzDecode checks what must hold for any bytes.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x48, 0x8b, 0x84, 0x8d, 1, 2, 3, 4}, uint8(2))
	f.Add([]byte{0x66, 0xf3, 0x0f, 0x38, 0xf6, 0xc0}, uint8(1))
	f.Add([]byte{0x66, 0xea, 1, 2, 3, 4, 5, 6}, uint8(0))
	f.Fuzz(func(t *testing.T, code []byte, m uint8) {
		mode := []Mode{Mode16, Mode32, Mode64}[m%3]
		in, err := Decode(code, mode, AllFeatures)
		again, err2 := Decode(bytes.Clone(code), mode, AllFeatures)
		if err != err2 || in != again {
			t.Fatalf("decoding %x twice: %v, %v", code, err, err2)
		}
		switch err {
		case nil:
		case ErrTruncated:
			if len(code) >= maxLen {
				t.Fatalf("%x is truncated at %d bytes", code, len(code))
			}
			return
		case ErrTooLong, ErrInvalid:
			return
		default:
			t.Fatalf("error %v", err)
		}
		if in.Len == 0 || in.Len > maxLen || int(in.Len) > len(code) || in.Row == nil || in.Row.Op != in.Op {
			t.Fatalf("%x: %+v", code, in)
		}
		for n := range int(in.Len) {
			if _, err := Decode(code[:n], mode, AllFeatures); err != ErrTruncated {
				t.Fatalf("%x: first %d bytes: %v", code[:in.Len], n, err)
			}
		}
		longer, err := Decode(append(bytes.Clone(code[:in.Len]), 0xcc, 0xcc), mode, AllFeatures)
		if err != nil || longer != in {
			t.Fatalf("%x: what follows changes it: %v", code[:in.Len], err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	// A stretch of ordinary compiled code.
	code := unhex(b, "55 4889e5 4883ec20 897dec 488975e0 8b45ec 4898 488d148500000000 488b45e0 4801d0 8b00 8945fc 837dfc00 7407 b800000000 eb0a f30f1045f8 f30f5945f4 0fb6c0 c9 c3 e8fbffffff")
	b.SetBytes(1)
	n := 0
	for i := 0; i < b.N; i++ {
		in, err := Decode(code[n:], Mode64, AllFeatures)
		if err != nil {
			b.Fatal(err)
		}
		n += int(in.Len)
		if n == len(code) {
			n = 0
		}
	}
}
