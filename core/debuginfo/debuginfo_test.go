package debuginfo

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// compile makes a program of testdata's C files, and returns what its section .expected holds.
func compile(t *testing.T, flags ...string) (file string, expected []uint32) {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc on this host")
	}
	file = filepath.Join(t.TempDir(), "program")
	args := append(flags, "-nostdlib", "-ffreestanding", "-static", "-fno-pie", "-no-pie", "-Wl,--build-id=0x0123456789abcdef", "-o", file,
		"testdata/first.c", "testdata/second.c")
	if out, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := f.Section(".expected").Data()
	if err != nil {
		t.Fatal(err)
	}
	expected = make([]uint32, len(b)/4)
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, expected); err != nil {
		t.Fatal(err)
	}
	return file, expected
}

func read(t *testing.T, file string) *Info {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	i, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// members are those of a structure or union.
func members(t btf.Type) []btf.Member {
	switch s := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		return s.Members
	case *btf.Union:
		return s.Members
	}
	return nil
}

func member(t *testing.T, of btf.Type, name string) btf.Member {
	t.Helper()
	for _, m := range members(of) {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("%v has no member %q", of, name)
	return btf.Member{}
}

// TestTypes compares with what the compiler itself says about its structures.
func TestTypes(t *testing.T) {
	for name, flags := range map[string][]string{
		"64 bits": {"-g"}, "32 bits": {"-g", "-m32"}, "DWARF 4": {"-gdwarf-4"}, "DWARF 2": {"-gdwarf-2", "-gstrict-dwarf"}, "compressed": {"-g", "-gz"},
	} {
		t.Run(name, func(t *testing.T) {
			file, expected := compile(t, flags...)
			i := read(t, file)
			spec, err := btf.LoadSpecFromReader(bytes.NewReader(i.BTF))
			if err != nil {
				t.Fatal(err)
			}
			var near, table, far *btf.Struct
			var either *btf.Union
			if err := errors.Join(spec.TypeByName("near", &near), spec.TypeByName("table", &table), spec.TypeByName("far", &far),
				spec.TypeByName("either", &either)); err != nil {
				t.Fatal(err)
			}
			bytesTo := func(of btf.Type, name string) uint32 { return uint32(member(t, of, name).Offset.Bytes()) }
			inner := member(t, near, "inner")
			got := []uint32{
				bytesTo(near, "far"), bytesTo(near, "after"), uint32(inner.Offset.Bytes()) + bytesTo(inner.Type, "second"),
				bytesTo(near, ""), bytesTo(near, "matrix"), near.Size, bytesTo(table, "ops"), bytesTo(table, "wide"), either.Size,
			}
			for i := range expected {
				if i >= len(got) || got[i] != expected[i] {
					t.Fatalf("%d, the compiler says %d", got, expected)
				}
			}
			// A structure that the first file only declares is the one that the second defines, and leads back.
			to, ok := member(t, near, "far").Type.(*btf.Pointer)
			if !ok || to.Target != btf.Type(far) {
				t.Errorf("far is %v", member(t, near, "far").Type)
			}
			if back, ok := member(t, far, "near").Type.(*btf.Pointer); !ok || back.Target != btf.Type(near) {
				t.Errorf("near is %v", member(t, far, "near").Type)
			}
			low, high := member(t, near, "low"), member(t, near, "high")
			if low.BitfieldSize != 3 || high.BitfieldSize != 7 || high.Offset-low.Offset != 3 {
				t.Errorf("bit fields %v and %v", low, high)
			}
			if n, err := btf.Sizeof(member(t, near, "matrix").Type); n != 40 || err != nil {
				t.Errorf("matrix has %d bytes, %v", n, err)
			}
			if _, ok := member(t, table, "ops").Type.(*btf.Pointer).Target.(*btf.FuncProto); !ok {
				t.Errorf("ops is %v", member(t, table, "ops").Type)
			}
			if e, ok := member(t, table, "color").Type.(*btf.Enum); !ok || e.Name != "color" || e.Size != 4 {
				t.Errorf("color is %v", member(t, table, "color").Type)
			}
			if s, ok := i.Symbols.Find("here"); !ok || s.Address == 0 || s.Type != 'B' {
				t.Errorf("symbol here: %+v", s)
			}
			if i.BuildID != "0123456789abcdef" {
				t.Errorf("build ID %q", i.BuildID)
			}
		})
	}
}

func TestNoDebugInfo(t *testing.T) {
	stripped, _ := compile(t)
	bare := filepath.Join(t.TempDir(), "bare")
	if out, err := exec.Command("strip", "-o", bare, stripped).CombinedOutput(); err != nil {
		t.Skipf("strip: %v %s", err, out)
	}
	for _, file := range []string{bare, "doc.go"} {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Read(f); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", file, err)
		}
		f.Close()
	}
	// Symbols without types are no error of the file's form, but of no use.
	f, err := os.Open(stripped)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if i, err := Read(f); err == nil {
		t.Errorf("%d bytes of BTF of a program without debugging information", len(i.BTF))
	}
}
