package cpu

import (
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// step executes one instruction and reports whether it was completed.
func step(tb testing.TB, c *CPU, code string) bool {
	tb.Helper()
	in, err := isa.Decode(unhex(code), c.mode, isa.AllFeatures)
	if err != nil {
		tb.Fatalf("%s: %v", code, err)
	}
	u := &uop{Inst: in, end: uint32(in.Len)}
	u.exec = c.handlerFor(u, 0)
	c.stop, c.exc = stopNone, exception{}
	c.r[isa.RegRIP] = 0x1000
	ok := u.exec(c, u)
	if !ok && c.stop == stopAlone {
		tb.Fatalf("%s wants to be executed alone", code)
	}
	return ok
}

// faults executes one instruction that must raise vector.
func faults(t *testing.T, c *CPU, code string, vector uint8) {
	t.Helper()
	if step(t, c, code) {
		t.Errorf("%s: no fault, want vector %d", code, vector)
	} else if c.stop != stopFault || c.exc.vector != vector {
		t.Errorf("%s: stop %d, vector %d, want vector %d", code, c.stop, c.exc.vector, vector)
	}
}

func newVectorRig(tb testing.TB) (*CPU, []byte) {
	c, ram := newRig(tb, 1<<16)
	c.cr4 |= cr4OSFXSR | cr4OSXMMEXCPT | cr4OSXSAVE
	c.fpu.init87()
	c.fpu.xcr0 = xcr0Allowed
	return c, ram
}

// source makes operands in which the ends of the ranges of all lanes are frequent.
type source struct{ *rand.Rand }

func newSource() source { return source{rand.New(rand.NewPCG(1, 2))} }

func (s source) quad() (v uint64) {
	switch s.IntN(3) {
	case 0:
		return s.Uint64()
	case 1:
		for range 8 {
			v = v<<8 | []uint64{0, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff}[s.IntN(8)]
		}
	case 2:
		for range 4 {
			v = v<<16 | []uint64{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, s.Uint64() & 0xff, s.Uint64() & 0xffff}[s.IntN(8)]
		}
	}
	return v
}

func (s source) vector() vector { return vector{s.quad(), s.quad()} }

// clampTo limits v to size bits, signed or not.
func clampTo(v int64, size uint, signed bool) int64 {
	if signed {
		return min(max(v, -1<<(size-1)), 1<<(size-1)-1)
	}
	return min(max(v, 0), 1<<size-1)
}

func truth(b bool) int64 {
	if b {
		return -1
	}
	return 0
}

// laneCases define the operations on lanes anew, by one lane as a signed or unsigned number.
var laneCases = []struct {
	op     isa.Op
	bits   uint
	signed bool
	f      func(a, b int64) int64
}{
	{isa.PADDB, 8, true, func(a, b int64) int64 { return a + b }},
	{isa.PADDW, 16, true, func(a, b int64) int64 { return a + b }},
	{isa.PADDD, 32, true, func(a, b int64) int64 { return a + b }},
	{isa.PADDQ, 64, true, func(a, b int64) int64 { return a + b }},
	{isa.PSUBB, 8, true, func(a, b int64) int64 { return a - b }},
	{isa.PSUBW, 16, true, func(a, b int64) int64 { return a - b }},
	{isa.PSUBD, 32, true, func(a, b int64) int64 { return a - b }},
	{isa.PSUBQ, 64, true, func(a, b int64) int64 { return a - b }},
	{isa.PADDSB, 8, true, func(a, b int64) int64 { return clampTo(a+b, 8, true) }},
	{isa.PADDSW, 16, true, func(a, b int64) int64 { return clampTo(a+b, 16, true) }},
	{isa.PADDUSB, 8, false, func(a, b int64) int64 { return clampTo(a+b, 8, false) }},
	{isa.PADDUSW, 16, false, func(a, b int64) int64 { return clampTo(a+b, 16, false) }},
	{isa.PSUBSB, 8, true, func(a, b int64) int64 { return clampTo(a-b, 8, true) }},
	{isa.PSUBSW, 16, true, func(a, b int64) int64 { return clampTo(a-b, 16, true) }},
	{isa.PSUBUSB, 8, false, func(a, b int64) int64 { return clampTo(a-b, 8, false) }},
	{isa.PSUBUSW, 16, false, func(a, b int64) int64 { return clampTo(a-b, 16, false) }},
	{isa.PCMPEQB, 8, true, func(a, b int64) int64 { return truth(a == b) }},
	{isa.PCMPEQW, 16, true, func(a, b int64) int64 { return truth(a == b) }},
	{isa.PCMPEQD, 32, true, func(a, b int64) int64 { return truth(a == b) }},
	{isa.PCMPEQQ, 64, true, func(a, b int64) int64 { return truth(a == b) }},
	{isa.PCMPGTB, 8, true, func(a, b int64) int64 { return truth(a > b) }},
	{isa.PCMPGTW, 16, true, func(a, b int64) int64 { return truth(a > b) }},
	{isa.PCMPGTD, 32, true, func(a, b int64) int64 { return truth(a > b) }},
	{isa.PCMPGTQ, 64, true, func(a, b int64) int64 { return truth(a > b) }},
	{isa.PMINSB, 8, true, func(a, b int64) int64 { return min(a, b) }},
	{isa.PMINSW, 16, true, func(a, b int64) int64 { return min(a, b) }},
	{isa.PMINSD, 32, true, func(a, b int64) int64 { return min(a, b) }},
	{isa.PMINUB, 8, false, func(a, b int64) int64 { return min(a, b) }},
	{isa.PMINUW, 16, false, func(a, b int64) int64 { return min(a, b) }},
	{isa.PMINUD, 32, false, func(a, b int64) int64 { return min(a, b) }},
	{isa.PMAXSB, 8, true, func(a, b int64) int64 { return max(a, b) }},
	{isa.PMAXSW, 16, true, func(a, b int64) int64 { return max(a, b) }},
	{isa.PMAXSD, 32, true, func(a, b int64) int64 { return max(a, b) }},
	{isa.PMAXUB, 8, false, func(a, b int64) int64 { return max(a, b) }},
	{isa.PMAXUW, 16, false, func(a, b int64) int64 { return max(a, b) }},
	{isa.PMAXUD, 32, false, func(a, b int64) int64 { return max(a, b) }},
	{isa.PAVGB, 8, false, func(a, b int64) int64 { return (a + b + 1) >> 1 }},
	{isa.PAVGW, 16, false, func(a, b int64) int64 { return (a + b + 1) >> 1 }},
	{isa.PABSB, 8, true, func(_, b int64) int64 { return max(b, -b) }},
	{isa.PABSW, 16, true, func(_, b int64) int64 { return max(b, -b) }},
	{isa.PABSD, 32, true, func(_, b int64) int64 { return max(b, -b) }},
	{isa.PSIGNB, 8, true, signOf},
	{isa.PSIGNW, 16, true, signOf},
	{isa.PSIGND, 32, true, signOf},
	{isa.PMULLW, 16, true, func(a, b int64) int64 { return a * b }},
	{isa.PMULHW, 16, true, func(a, b int64) int64 { return a * b >> 16 }},
	{isa.PMULHUW, 16, false, func(a, b int64) int64 { return a * b >> 16 }},
	{isa.PMULHRSW, 16, true, func(a, b int64) int64 { return (a*b>>14 + 1) >> 1 }},
	{isa.PMULLD, 32, true, func(a, b int64) int64 { return a * b }},
	{isa.PMULUDQ, 64, true, func(a, b int64) int64 { return int64(uint64(uint32(a)) * uint64(uint32(b))) }},
	{isa.PMULDQ, 64, true, func(a, b int64) int64 { return int64(int32(a)) * int64(int32(b)) }},
}

func signOf(a, b int64) int64 {
	switch {
	case b < 0:
		return -a
	case b == 0:
		return 0
	}
	return a
}

func TestLanes(t *testing.T) {
	src := newSource()
	for _, lc := range laneCases {
		op := packedOps[lc.op]
		for range 2000 {
			d, s := src.vector(), src.vector()
			var want vector
			for q := range want {
				for at := uint(0); at < 64; at += lc.bits {
					a, b := d[q]<<(64-lc.bits-at), s[q]<<(64-lc.bits-at)
					var x, y int64
					if lc.signed {
						x, y = int64(a)>>(64-lc.bits), int64(b)>>(64-lc.bits)
					} else {
						x, y = int64(a>>(64-lc.bits)), int64(b>>(64-lc.bits))
					}
					want[q] |= uint64(lc.f(x, y)) << (64 - lc.bits) >> (64 - lc.bits) << at
				}
			}
			if got := op.xmm(d, s, 0); got != want {
				t.Fatalf("%v(%016x, %016x) = %016x, want %016x", lc.op, d, s, got, want)
			}
			if got := op.mmx(d[0], s[0], 0); got != want[0] {
				t.Fatalf("%v on MMX registers (%016x, %016x) = %016x, want %016x", lc.op, d[0], s[0], got, want[0])
			}
		}
	}
}

func TestShifts(t *testing.T) {
	for _, tc := range []struct {
		op   isa.Op
		bits uint
		f    func(x uint64, n uint64, bits uint) uint64
	}{
		{isa.PSLLW, 16, func(x, n uint64, _ uint) uint64 { return x << n }},
		{isa.PSLLD, 32, func(x, n uint64, _ uint) uint64 { return x << n }},
		{isa.PSLLQ, 64, func(x, n uint64, _ uint) uint64 { return x << n }},
		{isa.PSRLW, 16, func(x, n uint64, _ uint) uint64 { return x >> n }},
		{isa.PSRLD, 32, func(x, n uint64, _ uint) uint64 { return x >> n }},
		{isa.PSRLQ, 64, func(x, n uint64, _ uint) uint64 { return x >> n }},
		{isa.PSRAW, 16, func(x, n uint64, _ uint) uint64 { return uint64(int64(int16(x)) >> n) }},
		{isa.PSRAD, 32, func(x, n uint64, _ uint) uint64 { return uint64(int64(int32(x)) >> n) }},
	} {
		src := newSource()
		for _, n := range []uint64{0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 1 << 32, 1 << 63} {
			for range 50 {
				d := src.quad()
				var want uint64
				mask := ^uint64(0) >> (64 - tc.bits)
				for at := uint(0); at < 64; at += tc.bits {
					want |= tc.f(d>>at&mask, n, tc.bits) & mask << at
				}
				if got := packedOps[tc.op].mmx(d, n, 0); got != want {
					t.Fatalf("%v(%016x, %d) = %016x, want %016x", tc.op, d, n, got, want)
				}
			}
		}
	}
}

// TestPackedVectors has one worked example of each operation that TestLanes cannot define.
func TestPackedVectors(t *testing.T) {
	a := vector{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	b := vector{0x1716151413121110, 0x1f1e1d1c1b1a1918}
	for _, tc := range []struct {
		op   isa.Op
		d, s vector
		imm  uint8
		want vector
	}{
		{isa.PUNPCKLBW, a, b, 0, vector{0x1303120211011000, 0x1707160615051404}},
		{isa.PUNPCKHBW, a, b, 0, vector{0x1b0b1a0a19091808, 0x1f0f1e0e1d0d1c0c}},
		{isa.PUNPCKLWD, a, b, 0, vector{0x1312030211100100, 0x1716070615140504}},
		{isa.PUNPCKHWD, a, b, 0, vector{0x1b1a0b0a19180908, 0x1f1e0f0e1d1c0d0c}},
		{isa.PUNPCKLDQ, a, b, 0, vector{0x1312111003020100, 0x1716151407060504}},
		{isa.PUNPCKHDQ, a, b, 0, vector{0x1b1a19180b0a0908, 0x1f1e1d1c0f0e0d0c}},
		{isa.PUNPCKLQDQ, a, b, 0, vector{a[0], b[0]}},
		{isa.PUNPCKHQDQ, a, b, 0, vector{a[1], b[1]}},
		{isa.PACKSSWB, vector{0x7fff8000007fff80, 0x0080ff7f00010000}, vector{1}, 0, vector{0x7f8001007f807f80, 1}},
		{isa.PACKUSWB, vector{0x7fff8000007fff80, 0x0100ff7f00ff0000}, vector{1}, 0, vector{0xff00ff00ff007f00, 1}},
		{isa.PACKSSDW, vector{0x7fffffff80000000, 0x00008000ffff7fff}, vector{1}, 0, vector{0x7fff80007fff8000, 1}},
		{isa.PACKUSDW, vector{0x7fffffff80000000, 0x00010000ffffffff}, vector{1}, 0, vector{0xffff0000ffff0000, 1}},
		{isa.PHADDW, vector{0x0004000300020001, 0x7fff000180008000}, vector{}, 0, vector{0x8000000000070003}},
		{isa.PHADDSW, vector{0x0004000300020001, 0x7fff000180008000}, vector{}, 0, vector{0x7fff800000070003}},
		{isa.PHADDD, vector{0x0000000200000001, 1}, vector{5}, 0, vector{0x0000000100000003, 5}},
		{isa.PHSUBW, vector{0x0004000300020001, 0}, vector{}, 0, vector{0xffffffff}},
		{isa.PHSUBSW, vector{0x00018000fffe7fff, 0}, vector{}, 0, vector{0x80007fff}},
		{isa.PHSUBD, vector{0x0000000200000001, 0}, vector{}, 0, vector{0xffffffff}},
		{isa.PMADDWD, vector{0x8000800000020001}, vector{0x8000800000040003}, 0, vector{0x800000000000000b}},
		{isa.PMADDUBSW, vector{0xffff020100000000}, vector{0x7f7f040300000000}, 0, vector{0x7fff000b00000000}},
		{isa.PSADBW, vector{0xff00ff00ff00ff00, 3}, vector{0x00ff00ff00ff00ff, 5}, 0, vector{0x7f8, 2}},
		{isa.PSHUFB, a, vector{0x8000010f030e0780, 0x7f00000000000000}, 0, vector{0x0000010f030e0700, 0x0f00000000000000}},
		{isa.PSHUFD, a, b, 0x1b, vector{0x1b1a19181f1e1d1c, 0x1312111017161514}},
		{isa.PSHUFLW, a, b, 0x1b, vector{0x1110131215141716, b[1]}},
		{isa.PSHUFHW, a, b, 0x1b, vector{b[0], 0x19181b1a1d1c1f1e}},
		{isa.SHUFPS, a, b, 0xe4, vector{a[0], b[1]}},
		{isa.SHUFPD, a, b, 1, vector{a[1], b[0]}},
		{isa.PALIGNR, a, b, 5, vector{0x1c1b1a1918171615, 0x04030201001f1e1d}},
		{isa.PALIGNR, a, b, 17, vector{0x0807060504030201, 0x000f0e0d0c0b0a09}},
		{isa.PALIGNR, a, b, 32, vector{}},
		{isa.PSLLDQ, a, b, 3, vector{0x0403020100000000, 0x0c0b0a0908070605}},
		{isa.PSRLDQ, a, b, 9, vector{0x000f0e0d0c0b0a09, 0}},
		{isa.PSRLDQ, a, b, 255, vector{}},
		{isa.MOVSLDUP, a, b, 0, vector{0x1312111013121110, 0x1b1a19181b1a1918}},
		{isa.MOVSHDUP, a, b, 0, vector{0x1716151417161514, 0x1f1e1d1c1f1e1d1c}},
		{isa.BLENDPS, a, b, 6, vector{0x1716151403020100, 0x0f0e0d0c1b1a1918}},
		{isa.BLENDPD, a, b, 2, vector{a[0], b[1]}},
		{isa.PBLENDW, a, b, 0x81, vector{0x0706050403021110, 0x1f1e0d0c0b0a0908}},
		{isa.INSERTPS, a, b, 0xd1, vector{0x1f1e1d1c00000000, a[1]}},
		{isa.PINSRB, a, vector{0xabcd}, 9, vector{a[0], 0x0f0e0d0c0b0acd08}},
		{isa.PINSRW, a, vector{0x1abcd}, 2, vector{0x0706abcd03020100, a[1]}},
		{isa.PEXTRW, a, b, 6, vector{0x1d1c}},
		{isa.PMOVSXBW, a, vector{0x80ff7f0180ff7f01}, 0, vector{0xff80ffff007f0001, 0xff80ffff007f0001}},
		{isa.PMOVZXBD, a, vector{0x80ff7f01}, 0, vector{0x0000007f00000001, 0x00000080000000ff}},
		{isa.PMOVSXDQ, a, vector{0x8000000000000001}, 0, vector{1, 0xffffffff80000000}},
		{isa.PMOVMSKB, a, vector{0x8000000000000080, 0x00000000000080ff}, 0, vector{0x0381}},
		{isa.MOVMSKPS, a, vector{0x8000000000000000, 0x0000000080000000}, 0, vector{6}},
		{isa.PHMINPOSUW, a, vector{0x0005000600070008, 0x0009000400040005}, 0, vector{0x50004}},
		{isa.PCLMULQDQ, vector{3, 1 << 63}, vector{5, 3}, 0, vector{0xf}},
		{isa.PCLMULQDQ, vector{3, 1 << 63}, vector{5, 3}, 0x11, vector{1 << 63, 1}},
	} {
		if got := packedOps[tc.op].xmm(tc.d, tc.s, tc.imm); got != tc.want {
			t.Errorf("%v(%016x, %016x, %#x) = %016x, want %016x", tc.op, tc.d, tc.s, tc.imm, got, tc.want)
		}
	}
}

func TestMPSADBW(t *testing.T) {
	src := newSource()
	for imm := range uint8(8) {
		d, s := src.vector(), src.vector()
		got := multipleSumDifferences(d, s, imm)
		for i := range uint8(8) {
			sum := uint64(0)
			for j := range uint8(4) {
				x, y := vectorByte(d, imm>>2*4+i+j), vectorByte(s, imm&3*4+j)
				sum += max(x, y) - min(x, y)
			}
			if vectorWord(got, i) != sum {
				t.Errorf("MPSADBW %d: word %d is %d, want %d", imm, i, vectorWord(got, i), sum)
			}
		}
	}
}

// bigEndian makes a vector of bytes in the order in which FIPS 197 prints them.
func bigEndian(hi, lo uint64) vector { return vector{bits.ReverseBytes64(hi), bits.ReverseBytes64(lo)} }

// TestAES runs the example of FIPS 197, appendix B, both ways.
func TestAES(t *testing.T) {
	key := bigEndian(0x2b7e151628aed2a6, 0xabf7158809cf4f3c)
	plain := bigEndian(0x3243f6a8885a308d, 0x313198a2e0370734)
	cipher := bigEndian(0x3925841d02dc09fb, 0xdc118597196a0b32)
	keys := []vector{key}
	rcon := uint8(1)
	for range 10 {
		w := uint32(aesKeyAssist(vector{}, key, rcon)[1] >> 32)
		var n [4]uint32
		for i := range n {
			w ^= vectorDword(key, uint8(i))
			n[i] = w
		}
		key = vector{twoDwords(n[0], n[1]), twoDwords(n[2], n[3])}
		keys = append(keys, key)
		rcon = aesMultiply(rcon, 2)
	}
	if want := bigEndian(0xd014f9a8c9ee2589, 0xe13f0cc8b6630ca6); keys[10] != want {
		t.Fatalf("last round key %016x, want %016x", keys[10], want)
	}
	v := xorVectors(plain, keys[0])
	for _, k := range keys[1:10] {
		v = aesEncrypt(v, k, 0)
	}
	if v = aesEncryptLast(v, keys[10], 0); v != cipher {
		t.Errorf("encrypted: %016x, want %016x", v, cipher)
	}
	v = xorVectors(v, keys[10])
	for i := 9; i > 0; i-- {
		v = aesDecrypt(v, aesInverseMix(vector{}, keys[i], 0), 0)
	}
	if v = aesDecryptLast(v, keys[0], 0); v != plain {
		t.Errorf("decrypted: %016x, want %016x", v, plain)
	}
}

func TestStringCompare(t *testing.T) {
	text := func(s string) (v vector) {
		for i := range len(s) {
			v[i>>3] |= uint64(s[i]) << (i & 7 * 8)
		}
		return v
	}
	for _, tc := range []struct {
		a, b  string
		imm   uint8
		index uint64
		flags uint64
	}{
		{"aeiou", "brown fox", 0x00, 2, FlagCF | FlagZF | FlagSF},
		{"aeiou", "0123456789abcdef", 0x00, 10, FlagCF | FlagSF},
		{"azAZ", "012 for", 0x04, 4, FlagCF | FlagZF | FlagSF},
		{"azAZ", "abc 12", 0x14, 3, FlagCF | FlagZF | FlagSF},
		{"azAZ", "abc", 0x34, 16, FlagZF | FlagSF},
		{"equal", "equal", 0x18, 16, FlagZF | FlagSF},
		{"equal", "equip", 0x18, 3, FlagCF | FlagZF | FlagSF},
		{"ab", "xxabxxab", 0x0c, 2, FlagCF | FlagZF | FlagSF},
		{"ab", "xxabxxab", 0x4c, 6, FlagCF | FlagZF | FlagSF},
		{"ab", "0123456789abcdea", 0x4c, 15, FlagCF | FlagSF},
		{"", "abc", 0x0c, 0, FlagCF | FlagOF | FlagZF | FlagSF},
	} {
		c, _ := newVectorRig(t)
		c.fpu.xmm[1], c.fpu.xmm[2] = text(tc.a), text(tc.b)
		imm := "0123456789abcdef"
		step(t, c, "660f3a63ca"+string(imm[tc.imm>>4])+string(imm[tc.imm&15]))
		if c.r[isa.RCX] != tc.index || c.f.word() != tc.flags {
			t.Errorf("PCMPISTRI %#x of %q in %q: %d, flags %#x, want %d, %#x", tc.imm, tc.a, tc.b, c.r[isa.RCX], c.f.word(), tc.index, tc.flags)
		}
		// Explicit lengths, of which the sign does not matter.
		c.r[isa.RAX], c.r[isa.RDX] = uint64(-int64(len(tc.a))), uint64(len(tc.b))
		step(t, c, "660f3a61ca"+string(imm[tc.imm>>4])+string(imm[tc.imm&15]))
		if c.r[isa.RCX] != tc.index || c.f.word() != tc.flags {
			t.Errorf("PCMPESTRI %#x of %q in %q: %d, flags %#x, want %d, %#x", tc.imm, tc.a, tc.b, c.r[isa.RCX], c.f.word(), tc.index, tc.flags)
		}
	}
	c, _ := newVectorRig(t)
	c.fpu.xmm[1], c.fpu.xmm[2] = text("aeiou"), text("brown fox")
	step(t, c, "660f3a62ca00")
	if want := (vector{0x84}); c.fpu.xmm[0] != want {
		t.Errorf("PCMPISTRM: %016x, want %016x", c.fpu.xmm[0], want)
	}
	step(t, c, "660f3a62ca40")
	if want := (vector{0xff00000000ff0000}); c.fpu.xmm[0] != want {
		t.Errorf("PCMPISTRM: %016x, want %016x", c.fpu.xmm[0], want)
	}
}

// TestVectorChecks: which fault an instruction raises before it does anything.
func TestVectorChecks(t *testing.T) {
	const (
		paddb  = "660ffcca"     // xmm1, xmm2
		paddbM = "660ffc0b"     // xmm1, [rbx]
		mmx    = "0ffcca"       // mm1, mm2
		addps  = "0f580b"       // xmm1, [rbx]
		movups = "0f100b"       // xmm1, [rbx]
		store  = "660f7f0b"     // movdqa [rbx], xmm1
		ext    = "660f3a630b00" // pcmpistri xmm1, [rbx], 0
	)
	for _, tc := range []struct {
		name   string
		set    func(c *CPU)
		code   string
		vector int // -1: none
	}{
		{"on", func(c *CPU) {}, paddb, -1},
		{"EM", func(c *CPU) { c.cr0 |= cr0EM }, paddb, VectorUD},
		{"TS", func(c *CPU) { c.cr0 |= cr0TS }, paddb, VectorNM},
		{"EM before TS", func(c *CPU) { c.cr0 |= cr0EM | cr0TS }, paddb, VectorUD},
		{"OSFXSR", func(c *CPU) { c.cr4 &^= cr4OSFXSR }, paddb, VectorUD},
		{"OSFXSR before TS", func(c *CPU) { c.cr4 &^= cr4OSFXSR; c.cr0 |= cr0TS }, paddb, VectorUD},
		{"MMX needs no OSFXSR", func(c *CPU) { c.cr4 &^= cr4OSFXSR }, mmx, -1},
		{"MMX and EM", func(c *CPU) { c.cr0 |= cr0EM }, mmx, VectorUD},
		{"MMX and TS", func(c *CPU) { c.cr0 |= cr0TS }, mmx, VectorNM},
		{"MMX and a pending exception", func(c *CPU) { c.fpu.sw |= x87ES }, mmx, VectorMF},
		{"SSE and a pending exception", func(c *CPU) { c.fpu.sw |= x87ES }, paddb, -1},
		{"aligned", func(c *CPU) { c.r[isa.RBX] = 0x2010 }, paddbM, -1},
		{"misaligned", func(c *CPU) { c.r[isa.RBX] = 0x2008 }, paddbM, VectorGP},
		{"misaligned float", func(c *CPU) { c.r[isa.RBX] = 0x2008 }, addps, VectorGP},
		{"misaligned store", func(c *CPU) { c.r[isa.RBX] = 0x2001 }, store, VectorGP},
		{"misaligned MOVUPS", func(c *CPU) { c.r[isa.RBX] = 0x2001 }, movups, -1},
		{"misaligned PCMPISTRI", func(c *CPU) { c.r[isa.RBX] = 0x2001 }, ext, -1},
		{"NM before the memory operand", func(c *CPU) { c.r[isa.RBX] = 0x2001; c.cr0 |= cr0TS }, paddbM, VectorNM},
		{"page fault", func(c *CPU) { c.r[isa.RBX] = 0x100000 }, paddbM, VectorPF},
		{"page fault of a store", func(c *CPU) { c.r[isa.RBX] = 0x100000 }, store, VectorPF},
		{"misaligned before page fault", func(c *CPU) { c.r[isa.RBX] = 0x100001 }, paddbM, VectorGP},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newVectorRig(t)
			c.cr0 |= cr0NE
			tc.set(c)
			before := c.fpu
			if tc.vector >= 0 {
				faults(t, c, tc.code, uint8(tc.vector))
				if c.fpu != before {
					t.Error("the state changed")
				}
			} else if !step(t, c, tc.code) {
				t.Errorf("vector %d", c.exc.vector)
			}
		})
	}
}

// TestSIMDException: flags and vector of unmasked exceptions (SDM vol. 1, 11.5.2).
func TestSIMDException(t *testing.T) {
	const addps, divps, sqrt = "0f58ca", "0f5eca", "0f51ca" // xmm1, xmm2
	max32, one32, zero := uint64(0x7f7fffff), uint64(0x3f800000), uint64(0)
	denormal := uint64(1)
	for _, tc := range []struct {
		name  string
		code  string
		d, s  vector
		mxcsr uint32
		want  uint32 // MXCSR
		fault bool
	}{
		{"masked", divps, vector{one32, one32 | one32<<32}, vector{zero, one32 | one32<<32}, 0x1f80, 0x1f80 | 0x05, false},
		{"unmasked division by zero", divps, vector{one32 | one32<<32, one32 | one32<<32}, vector{one32, one32 | one32<<32}, 0x1f80 &^ 0x200, 0x1f80&^0x200 | 4, true},
		{"overflow counts no more when another lane divides by zero", divps, vector{one32 | max32<<32, one32 | one32<<32}, vector{zero | 1<<55, one32 | one32<<32}, 0x1f80 &^ 0x200, 0x1f80&^0x200 | 4, true},
		{"unmasked overflow", addps, vector{max32}, vector{max32}, 0x1f80 &^ 0x400, 0x1f80&^0x400 | 8, true},
		{"unmasked overflow sets inexact too", addps, vector{max32}, vector{max32 - 1}, 0x1f80 &^ 0x400, 0x1f80&^0x400 | 0x28, true},
		{"unmasked denormal", addps, vector{denormal}, vector{one32}, 0x1f80 &^ 0x100, 0x1f80&^0x100 | 2, true},
		{"denormals are zeros", addps, vector{denormal}, vector{one32}, 0x1fc0 &^ 0x100, 0x1fc0 &^ 0x100, false},
		{"square root of -1", sqrt, vector{}, vector{one32 | 1<<31}, 0x1f80 &^ 0x80, 0x1f80&^0x80 | 1, true},
		{"a flag that is set already does not fault", addps, vector{one32}, vector{one32}, 0x3f, 0x3f, false},
	} {
		for _, osxmm := range []bool{true, false} {
			c, _ := newVectorRig(t)
			vector := uint8(VectorXM)
			if !osxmm {
				c.cr4 &^= cr4OSXMMEXCPT
				vector = VectorUD
			}
			c.fpu.xmm[1], c.fpu.xmm[2], c.fpu.mxcsr = tc.d, tc.s, tc.mxcsr
			if tc.fault {
				faults(t, c, tc.code, vector)
				if c.fpu.xmm[1] != tc.d {
					t.Errorf("%s: the destination changed to %016x", tc.name, c.fpu.xmm[1])
				}
			} else if !step(t, c, tc.code) {
				t.Errorf("%s: vector %d", tc.name, c.exc.vector)
			}
			if c.fpu.mxcsr != tc.want {
				t.Errorf("%s: MXCSR %#x, want %#x", tc.name, c.fpu.mxcsr, tc.want)
			}
		}
	}
}

// TestApproximations checks RCPSS and RSQRTSS against the manual's bound of 1.5 * 2^-12 and its special cases.
func TestApproximations(t *testing.T) {
	for _, tc := range []struct{ in, rcp, rsqrt uint32 }{
		{0, 0x7f800000, 0x7f800000},
		{1 << 31, 0xff800000, 0xff800000},
		{0x7f800000, 0, 0},
		{0xff800000, 1 << 31, 0xffc00000},
		{1, 0x7f800000, 0x7f800000},
		{0x80000001, 0xff800000, 0xff800000},
		{0x7f800001, 0x7fc00001, 0x7fc00001},
		{0xffc00002, 0xffc00002, 0xffc00002},
		{0x7f000001, 0, 0x1fb50000},
		{0xbf800000, 0xbf800000, 0xffc00000},
		{0x3f800000, 0x3f800000, 0x3f800000},
	} {
		if got := reciprocal(nil, 0, tc.in); got != tc.rcp {
			t.Errorf("RCPSS(%08x) = %08x, want %08x", tc.in, got, tc.rcp)
		}
		if got := reciprocalRoot(nil, 0, tc.in); got != tc.rsqrt {
			t.Errorf("RSQRTSS(%08x) = %08x, want %08x", tc.in, got, tc.rsqrt)
		}
	}
}

// TestFastVectors runs each fast handler beside the general one.
func TestFastVectors(t *testing.T) {
	src := newSource()
	seen := map[vectorKey]bool{}
	c, ram := newVectorRig(t)
	for row := range isa.Rows {
		e := row.Opcode()
		if !e.ModRM || e.Map == 0 {
			continue
		}
		for _, modrm := range []byte{0x0b, 0xca} { // xmm1, [rbx] and xmm1, xmm2
			var code []byte
			if e.Prefix != 0 {
				code = append(code, e.Prefix)
			}
			if row.Attr&isa.NeedREXW != 0 || src.IntN(2) == 0 {
				code = append(code, 0x48)
			}
			code = append(code, [][]byte{{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}}[e.Map]...)
			if e.Reg >= 0 {
				modrm = modrm&^0x38 | byte(e.Reg)<<3
			}
			code = append(code, e.Opcode, modrm, byte(src.Uint32()))
			in, err := isa.Decode(code, isa.Mode64, isa.AllFeatures)
			if err != nil || in.Row != row {
				continue
			}
			u := &uop{Inst: in, end: uint32(in.Len)}
			fast := c.handlerFor(u, 0)
			if in.Args[0].Kind != isa.KindXMM && in.Args[1].Kind != isa.KindXMM || fastSIMD(u) == nil {
				continue
			}
			seen[vectorKey{op: in.Op}] = true
			for range 200 {
				var a, b fpuState
				var regs [2][32]uint64
				var mem [2][32]byte
				for i := range c.fpu.xmm {
					c.fpu.xmm[i] = src.vector()
				}
				c.fpu.mxcsr = 0x1f80 | uint32(src.IntN(4))<<13
				if src.IntN(4) == 0 {
					c.fpu.mxcsr &^= uint32(src.Uint32()) & 0x1f80
				}
				c.r[isa.RBX] = 0x2000 + uint64(src.IntN(2)*8)
				c.r[isa.RCX] = src.quad()
				for i := range 4 {
					q := src.quad()
					for j := range 8 {
						ram[0x2000+8*i+j] = byte(q >> (8 * j))
					}
				}
				r0, f0, fl0, m0 := c.r, c.fpu, c.f, [32]byte(ram[0x2000:])
				c.stop, c.exc = stopNone, exception{}
				ok1 := fast(c, u)
				a, regs[0], mem[0] = c.fpu, c.r, [32]byte(ram[0x2000:])
				fl1, exc1 := c.f, c.exc
				c.r, c.fpu, c.f = r0, f0, fl0
				copy(ram[0x2000:], m0[:])
				c.stop, c.exc = stopNone, exception{}
				ok2 := c.table[u.Op](c, u)
				b, regs[1], mem[1] = c.fpu, c.r, [32]byte(ram[0x2000:])
				a.envFor, b.envFor, a.envFlags, b.envFlags = 0, 0, 0, 0
				if ok1 != ok2 || a != b || regs[0] != regs[1] || mem[0] != mem[1] || fl1 != c.f || exc1 != c.exc {
					t.Fatalf("%v [%s %s] % x: fast and general handler differ", in.Op, row.Enc, row.Args, code)
				}
			}
		}
	}
	for key := range fastVectors {
		if !seen[vectorKey{op: key.op}] {
			t.Errorf("%v was not run", key.op)
		}
	}
}

// TestNoAllocation: vector and x87 instructions leave the heap alone.
func TestNoAllocation(t *testing.T) {
	c, _ := newVectorRig(t)
	c.r[isa.RBX] = 0x2000
	for _, code := range []string{
		"660ffc0b", "0f580b", "0f5fca", "660f3a63ca0c", "660f3a400bff", "660f38dcca", "660f6f0b", "0f7f0b", "d8c0", "d903",
		"df3b", "d9fe", "dbe3", "dd33", "0fae03", "0fae23", "0fae2b", "660f38100b", "dbf1", "d9eb", "0fc2ca01",
	} {
		in, err := isa.Decode(unhex(code), isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatal(code, err)
		}
		u := &uop{Inst: in, end: uint32(in.Len)}
		u.exec = c.handlerFor(u, 0)
		c.fpu.init87()
		c.r[isa.RAX], c.r[isa.RDX] = 3, 0
		if n := testing.AllocsPerRun(100, func() { u.exec(c, u) }); n != 0 {
			t.Errorf("%v (%s): %v allocations", in.Op, code, n)
		}
	}
}

// Three loops: at 0 one as strlen has it, at 100H one of scalar doubles, at 200H one of the x87.
const vectorBench = `660fefc048c7c000900000b940000000660f6f08660f6f5010660fdaca660f74c8660fd7d185d275004883c020ffc975dfebcd`

const vectorBenchScalar = `f20f100d3c000000f20f10153c000000f20f101d34000000f20f59daf20f58d9660f28e3f20f5ce1f20f58ccf20f590d18000000660f2eca
77d6f20f100d02000000ebccec51b81e85ebf53f6b9a779ca223e73f`

const vectorBenchX87 = `dbe3dd053cffffffdc0d3effffffd8c0dd1edb06d9e8dec1df3eebe6`

func benchVectors(b *testing.B, entry uint64) {
	c, ram := newVectorRig(b)
	copy(ram[0x1000:], unhex(vectorBench))
	copy(ram[0x1100:], unhex(vectorBenchScalar))
	copy(ram[0x1200:], unhex(vectorBenchX87))
	for i := range 0x1000 {
		ram[0x9000+i] = 1
	}
	c.r[isa.RSI] = 0x8000
	c.rip = 0x1000 + entry
	before := cpuTime(b)
	exit := c.Run(c.icount + uint64(b.N))
	used := cpuTime(b) - before
	if exit.Reason != vcpu.ExitDeadline {
		b.Fatalf("%+v at %#x", exit, c.rip)
	}
	b.ReportMetric(float64(b.N)/used.Seconds()/1e6, "MIPS")
}

func BenchmarkVectorStrlen(b *testing.B) { benchVectors(b, 0) }
func BenchmarkVectorScalar(b *testing.B) { benchVectors(b, 0x100) }
func BenchmarkX87(b *testing.B)          { benchVectors(b, 0x200) }
