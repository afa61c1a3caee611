package fastbridge

import (
	"encoding/hex"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hybridbridge/emu/cpu/isa"
)

// TestDisplace: what a displaced instruction is made of does what the instruction did, but at the address in the scratch register.
func TestDisplace(t *testing.T) {
	for _, text := range []string{
		"488b4310",               // mov rax, [rbx+0x10]
		"8b04b5100000ff",         // mov eax, [rsi*4-0xfffff0]
		"4d8bbc24f80b0000",       // mov r15, [r12+0xbf8]
		"4c8b5c2b08",             // mov r11, [rbx+rbp+8]
		"664183 7d 00 05",        // cmp word [r13], 5
		"f0480fb10f",             // lock cmpxchg [rdi], rcx
		"c7802001000078563412",   // mov dword [rax+0x120], 0x12345678
		"480fa3 05 11223344",     // bt [rip+0x44332211], rax
		"48c1 24 d5 00100080 03", // shl qword [rdx*8-0x7ffff000], 3
		"0fb650 01", "480fbe08", "4863 4e 04", "0f44 4f 08", "0f9407", "4889 1c 25 00200081",
		"65 488b 05 11223344", "65 ff0c25 78560200", "6548 0303",
		"f3 480fb8 07", // popcnt rax, [rdi]
		"d3 27",        // shl dword [rdi], cl
		"44887f 01",    // mov [rdi+1], r15b
	} {
		code := unhex(t, text)
		in, err := isa.Decode(code, isa.Mode64, isa.AllFeatures)
		if err != nil || int(in.Len) != len(code) {
			t.Fatalf("%s: %d bytes of %d, %v", text, in.Len, len(code), err)
		}
		e, ok := split(&in, code)
		reg, free := scratch(&in)
		if !ok || !free {
			t.Errorf("%s: cannot be displaced", text)
			continue
		}
		there := e.displace(reg)
		got, err := isa.Decode(there, isa.Mode64, isa.AllFeatures)
		want := in
		want.Base, want.Index, want.Scale, want.Disp, want.Seg = reg, isa.RegNone, 0, 0, isa.DS
		want.Len = uint8(len(there))
		want.Prefix = got.Prefix // REX and segment overrides differ
		if err != nil || got != want {
			t.Errorf("%s became % x: %+v, want %+v (%v)", text, there, got, want, err)
		}
		if in.Base != isa.RegRIP {
			lea, err := isa.Decode(e.lea(reg), isa.Mode64, isa.AllFeatures)
			if err != nil || lea.Op != isa.LEA || lea.Args[0].Reg != reg || lea.Base != in.Base || lea.Index != in.Index || lea.Scale != in.Scale || lea.Disp != in.Disp {
				t.Errorf("the address of %s is %+v (%v)", text, lea, err)
			}
			continue
		}
		absolute, err := isa.Decode(e.absolute(0x2000), isa.Mode64, isa.AllFeatures)
		if err != nil || absolute.Op != in.Op || absolute.Base != isa.RegNone || absolute.Disp != 0x2000 || absolute.Seg != in.Seg || absolute.Args != in.Args {
			t.Errorf("%s with an absolute address is %+v (%v)", text, absolute, err)
		}
	}
}

// TestNotDisplaceable: instructions that mean another thing elsewhere are left alone.
func TestNotDisplaceable(t *testing.T) {
	for _, text := range []string{
		"ff30",       // push [rax]
		"ff10",       // call [rax]
		"f348a7",     // repe cmpsq
		"488b442408", // mov rax, [rsp+8]
		"482b20",     // sub rsp, [rax]
		"8a26",       // mov ah, [rsi]
		"488d4310",   // lea rax, [rbx+0x10]
		"678b00",     // mov eax, [eax]
	} {
		code := unhex(t, text)
		in, err := isa.Decode(code, isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatal(err)
		}
		d := displaced{in: &in, code: code}
		if got, err := d.assemble(0, entries{}); err == nil {
			t.Errorf("%s became % x", text, got)
		}
	}
}

// TestAssemble: the code around a displaced instruction decodes to its end, in every form.
func TestAssemble(t *testing.T) {
	const at, monitor = 0xffffffffffa01000, 0xffffffffffc00000
	for text, d := range map[string]displaced{
		"480fa30511223344":   {at: 0xffffffff81000000},
		"4883430105":         {contexts: 0xffffffffffa02000},
		"65488b0511223344":   {perCPU: true, base: 0xffff888000001000, contexts: 0xffffffffffa02000, at: 0xffffffff81000000},
		"6548ff4310":         {perCPU: true, base: 0xffff888000001000, contexts: 0xffffffffffa02000},
		"65488b042580ad0100": {perCPU: true, fixed: 0xffffffffffa03000},
		"48b8887766554433ff": {},
		"f348a5":             {},
		"f3aa":               {},
	} {
		code := unhex(t, text)
		if text[:4] == "48b8" {
			code = append(code, 0xff)
			d.immediate = []byte{1, 2, 3, 4, 5, 6, 7, 8}
		}
		in, err := isa.Decode(code, isa.Mode64, isa.AllFeatures)
		if err != nil {
			t.Fatal(err)
		}
		d.in, d.code = &in, code
		got, err := d.assemble(at, entries{locate: monitor, locateCPU: monitor + 8, ask: monitor + 16})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		ends := 0
		for i := 0; i < len(got); {
			in, err := isa.Decode(got[i:], isa.Mode64, isa.AllFeatures)
			if err != nil {
				t.Fatalf("%s: at %d of % x: %v", text, i, got, err)
			}
			i += int(in.Len)
			if in.Op == isa.IRET {
				ends++
			}
		}
		if want := map[bool]int{false: 1, true: 2}[d.perCPU && d.fixed == 0]; ends != want {
			t.Errorf("%s: %d ends, want %d: % x", text, ends, want, got)
		}
	}
}

// TestElideIfSnapshot: the test of an argument decodes to its end, which is where it goes on if the function is to run.
func TestElideIfSnapshot(t *testing.T) {
	for argument := range 2 {
		a := &assembler{at: 0xffffffffffa01000}
		a.elideIfSnapshot(argument, 7, entries{data: 0xffffffffffc00000})
		found := map[isa.Op]int{}
		var begins, targets []uint64
		for i := 0; i < len(a.code); {
			in, err := isa.Decode(a.code[i:], isa.Mode64, isa.AllFeatures)
			if err != nil {
				t.Fatalf("at %d of % x: %v", i, a.code, err)
			}
			begins = append(begins, uint64(i))
			i += int(in.Len)
			found[in.Op]++
			if in.Op == isa.JCC {
				targets = append(targets, uint64(i)+in.Imm)
			}
		}
		for _, to := range targets {
			if !slices.Contains(begins, to) && to != uint64(len(a.code)) {
				t.Errorf("a branch to %d of % x", to, a.code)
			}
		}
		if found[isa.RET] != 1 || found[isa.JCC] != 3 || found[isa.CMP] != 3 || found[isa.SUB] != 2 {
			t.Errorf("%v: % x", found, a.code)
		}
	}
}

func unhex(t rapid.TB, s string) []byte {
	t.Helper()
	var digits []byte
	for _, c := range []byte(s) {
		if c != ' ' {
			digits = append(digits, c)
		}
	}
	b, err := hex.DecodeString(string(digits))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
