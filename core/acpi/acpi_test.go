package acpi

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func build(t *testing.T, c Config) Tables {
	t.Helper()
	tb, err := Build(c)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// at returns the table at a physical address and checks its checksum.
func (t Tables) at(tb testing.TB, addr uint64) []byte {
	tb.Helper()
	if addr < t.Base || addr-t.Base+8 > uint64(len(t.Data)) {
		tb.Fatalf("no table at %#x", addr)
	}
	p := t.Data[addr-t.Base:]
	p = p[:binary.LittleEndian.Uint32(p[4:])]
	if string(p[:4]) != "FACS" && checksum(p) != 0 {
		tb.Errorf("%s: bad checksum", p[:4])
	}
	return p
}

// all follows the pointers as a guest does, once through the RSDT and once through the XSDT.
func (t Tables) all(tb testing.TB) map[string][]byte {
	tb.Helper()
	le := binary.LittleEndian
	root := t.Data[:rsdpSize]
	if string(root[:8]) != "RSD PTR " || checksum(root[:20]) != 0 || checksum(root) != 0 {
		tb.Fatal("bad RSDP")
	}
	rsdt := t.at(tb, uint64(le.Uint32(root[16:])))
	xsdt := t.at(tb, le.Uint64(root[24:]))
	out := map[string][]byte{"RSDT": rsdt, "XSDT": xsdt}
	for i := headerSize; i < len(rsdt); i += 4 {
		p := t.at(tb, uint64(le.Uint32(rsdt[i:])))
		out[string(p[:4])] = p
		if q := t.at(tb, le.Uint64(xsdt[headerSize+2*(i-headerSize):])); &p[0] != &q[0] {
			tb.Errorf("RSDT and XSDT differ in entry %d", (i-headerSize)/4)
		}
	}
	f := out["FACP"]
	out["FACS"] = t.at(tb, uint64(le.Uint32(f[36:])))
	out["DSDT"] = t.at(tb, uint64(le.Uint32(f[40:])))
	return out
}

func TestStructure(t *testing.T) {
	for _, base := range []uint64{0, 0x9fc00, 0x7ffe0000} {
		tb := build(t, Config{Base: base})
		all := tb.all(t)
		for _, s := range []string{"RSDT", "XSDT", "FACP", "APIC", "FACS", "DSDT"} {
			if all[s] == nil {
				t.Errorf("base %#x: no %s", base, s)
			}
		}
		if len(tb.Data) > 0x10000 {
			t.Errorf("%d bytes of tables", len(tb.Data))
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range []Config{{Base: 0xe0010}, {Base: 1 << 32}, {MMIOBase: 0xf0000000, MMIOSize: 0x20000000}} {
		if _, err := Build(c); err == nil {
			t.Errorf("%+v accepted", c)
		}
	}
}

// ACPI 6.4, 20.2.4: the lead byte holds the number of bytes that follow and 6 or 4 bits of length.
func TestPackageLength(t *testing.T) {
	for n, want := range map[int][]byte{
		0:       {0x01},
		62:      {0x3f},
		63:      {0x41, 0x04},
		4093:    {0x4f, 0xff},
		4094:    {0x81, 0x00, 0x01},
		1 << 20: {0xc4, 0x00, 0x00, 0x01},
	} {
		if got := packaged(nil, make([]byte, n)); !bytes.HasPrefix(got, want) || len(got) != n+len(want) {
			t.Errorf("length %d: % x, want % x", n, got[:len(want)], want)
		}
	}
}

func TestNames(t *testing.T) {
	for s, want := range map[string]string{
		"_S5": "_S5_", `\_SB.PCI0`: "\\\x2e_SB_PCI0", `^A.B.C`: "^\x2f\x03A___B___C___",
	} {
		if got := string(path(s)); got != want {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
	}
	if got := eisaID("PNP0A03"); !bytes.Equal(got, []byte{0x0c, 0x41, 0xd0, 0x0a, 0x03}) {
		t.Errorf("PNP0A03: % x", got)
	}
}

// tool returns where an ACPICA tool is, or skips.
func tool(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s (Debian: acpica-tools)", name)
	}
	return p
}

// TestDisassembles has iasl read every table, then compile what it read of the DSDT, without a complaint.
func TestDisassembles(t *testing.T) {
	iasl := tool(t, "iasl")
	dir := t.TempDir()
	for name, p := range build(t, Config{}).all(t) {
		file := filepath.Join(dir, name+".aml")
		if err := os.WriteFile(file, p, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(iasl, "-d", file).CombinedOutput()
		if err != nil || complains(string(out)) {
			t.Errorf("%s: iasl -d: %v\n%s", name, err, out)
			continue
		}
		source, err := os.ReadFile(filepath.Join(dir, name+".dsl"))
		if err != nil {
			t.Fatal(err)
		}
		if complains(string(source)) || strings.Contains(string(source), "Unknown") {
			t.Errorf("%s:\n%s", name, source)
		}
		if name != "DSDT" {
			continue
		}
		out, err = exec.Command(iasl, "-ve", "-p", filepath.Join(dir, "again"), filepath.Join(dir, "DSDT.dsl")).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "0 Errors, 0 Warnings") {
			t.Errorf("iasl of the disassembled DSDT: %v\n%s", err, out)
		}
	}
}

func complains(s string) bool {
	s = strings.ToLower(s)
	return strings.Contains(s, "error") || strings.Contains(s, "warning") || strings.Contains(s, "invalid")
}

// TestEvaluates runs the DSDT in ACPICA's own interpreter, which is Linux's.
func TestEvaluates(t *testing.T) {
	acpiexec := tool(t, "acpiexec")
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"DSDT", "FACP", "APIC"} {
		file := filepath.Join(dir, name+".aml")
		if err := os.WriteFile(file, build(t, Config{}).all(t)[name], 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	commands := []struct{ command, want string }{
		{`evaluate \_S5`, "[Integer] = 0000000000000005"},
		{`evaluate \_SB.PCI0._HID`, "030AD041"},
		{`evaluate \_SB.PCI0._PRT`, "[Integer] = 000000000000000B"}, // the PIC's, as nobody called _PIC
		{`evaluate \_PIC 1`, "No object was returned"},
		{`evaluate \_SB.PCI0._PRT`, "[Integer] = 0000000000000013"},
		{`resources \_SB.PCI0`, "16-Bit WORD Address Space"},
		{`resources \_SB.PCI0.COM1`, "03F8"},
	}
	var script []string
	for _, c := range commands {
		script = append(script, c.command)
	}
	out, err := exec.Command(acpiexec, append([]string{"-b", strings.Join(script, ";")}, files...)...).CombinedOutput()
	rest := string(out)
	if err != nil || strings.Contains(rest, "ACPI Error") || strings.Contains(rest, "ACPI BIOS") || strings.Contains(rest, "ACPI Warning") {
		t.Fatalf("acpiexec: %v\n%s", err, rest)
	}
	for _, c := range commands {
		_, after, ok := strings.Cut(rest, c.want)
		if !ok {
			t.Fatalf("%s: %q is not in\n%s", c.command, c.want, rest)
		}
		rest = after
	}
}
