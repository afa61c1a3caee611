package oracle

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
)

// native skips a test if the host cannot run cases.
func native(t testing.TB) {
	t.Helper()
	n, err := StartNative(new(Template))
	if err != nil {
		t.Skipf("no native runner: %v", err)
	}
	n.Close()
}

// TestCampaign compares a slice of generated cases, the same in every run.
func TestCampaign(t *testing.T) {
	native(t)
	cases := uint64(200_000)
	if testing.Short() {
		cases = 40_000
	}
	p := Campaign{Seed: 20260101, Cases: cases, Workers: 2, Strict: HostIsModel()}
	p.Failed = func(f *Failure) bool {
		t.Errorf("%s\n\t%v\n\tgo run ./cmd/cputest -replay %d:%d", f.Case.Disassembly(), f.Diffs, p.Seed, f.N)
		return true
	}
	r, err := p.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases, %d raised an exception, %d differed once only; allowed: %v", r.Cases, r.Faulted, r.Unstable, r.Allowed)
	for row := range isa.Rows {
		if Excluded(row) == "" && r.Coverage.Done[row]+r.Coverage.Faulted[row] == 0 {
			t.Errorf("no case has %v %s (%s)", row.Op, row.Args, row.Enc)
		}
	}
}

// TestTaint checks the taint property for a slice of generated cases.
func TestTaint(t *testing.T) {
	native(t)
	cases := uint64(100_000)
	if testing.Short() {
		cases = 20_000
	}
	p := TaintCampaign{Seed: 20260101, Cases: cases}
	p.Failed = func(f *TaintFailure) bool {
		t.Errorf("case %d: %v", f.N, f)
		return true
	}
	r, err := p.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases, %d compared", r.Cases, r.Compared)
	if r.Compared < r.Cases/3 {
		t.Errorf("only %d of %d cases could be compared", r.Compared, r.Cases)
	}
}

// lines calls f with every line of the regression list.
func lines(t *testing.T, f func(t *testing.T, l *ParsedLine)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no regression list: %v", err)
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s := bufio.NewScanner(file)
		s.Buffer(nil, 1<<20)
		for n := 1; s.Scan(); n++ {
			text := strings.TrimSpace(s.Text())
			if text == "" || text[0] == '#' {
				continue
			}
			l, err := ParseLine(text)
			if err != nil {
				t.Errorf("%s:%d: %v", name, n, err)
				continue
			}
			t.Run(strings.TrimSpace(strings.Split(text, "|")[1]), func(t *testing.T) { f(t, l) })
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLines runs the regression list in the emulator and compares with what silicon answered when the lines were
// written.
func TestLines(t *testing.T) {
	m := NewMachine(new(Template), 0)
	lines(t, func(t *testing.T, l *ParsedLine) {
		m.SetTemplate(l.Template)
		for _, warm := range []bool{false, true} {
			l.Case.Warm = warm
			var emu Outcome
			m.Run(l.Case, &emu)
			for _, d := range allow(l.Case, &l.Host, &emu, Compare(l.Case, &l.Host, &emu, 0), nil) {
				t.Errorf("%v (warm: %v)", d, warm)
			}
		}
	})
}

// TestLinesNative runs the regression list on the host: it says what it said when the lines were written.
func TestLinesNative(t *testing.T) {
	native(t)
	n, err := StartNative(new(Template))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	lines(t, func(t *testing.T, l *ParsedLine) {
		n.SetTemplate(l.Template)
		n.Load(0, l.Case)
		if _, err := n.Run(0, 1); err != nil {
			t.Fatal(err)
		}
		var host Outcome
		n.Outcome(0, &host)
		ignore := l.Case.ignored(&l.Host, HostIsModel())
		for _, d := range Compare(l.Case, &l.Host, &host, ignore) {
			t.Errorf("%s: the line says %s, this host %s", d.Field, d.Host, d.Emu)
		}
	})
}

// TestLineRoundTrip writes and reads generated cases.
func TestLineRoundTrip(t *testing.T) {
	g := newGenerator(5, newMenu(nil))
	tmpl := NewTemplate(5)
	m := NewMachine(tmpl, 0)
	for n := range uint64(300) {
		var c Case
		var out Outcome
		g.Make(n, &c)
		m.Run(&c, &out)
		if out.Vector < NoFault {
			continue
		}
		text := Line(&c, tmpl, &out)
		l, err := ParseLine(text)
		if err != nil {
			t.Fatalf("case %d: %v", n, err)
		}
		want, got := c.In, l.Case.In
		want.hidePointers(&got)
		if want != got || string(c.Code) != string(l.Case.Code) || c.Addr != l.Case.Addr || c.Warm != l.Case.Warm {
			t.Fatalf("case %d: the line is read as another case:\n%s", n, text)
		}
		if string(c.memory(tmpl)) != string(l.Template.data[:]) {
			t.Fatalf("case %d: memory differs", n)
		}
		if d := Compare(&c, &out, &l.Host, 0); len(d) != 0 {
			t.Fatalf("case %d: outcome differs: %v", n, d)
		}
	}
}

// TestGeneratorRepeats makes cases twice, in another order.
func TestGeneratorRepeats(t *testing.T) {
	m := newMenu(nil)
	g, h := newGenerator(9, m), newGenerator(9, m)
	var list [200]Case
	for n := range list {
		g.Make(uint64(n), &list[n])
	}
	for n := len(list) - 1; n >= 0; n-- {
		var c Case
		h.Make(uint64(n), &c)
		d := &list[n]
		if string(c.Code) != string(d.Code) || c.In != d.In || len(c.Patches) != len(d.Patches) {
			t.Fatalf("case %d is another one the second time", n)
		}
	}
}

// TestFindsMistakes breaks the emulator's answer and expects the comparison to see it.
func TestFindsMistakes(t *testing.T) {
	c := &Case{Addr: slots[0].addr, Code: []byte{0x48, 0x01, 0xd8}} // ADD RAX,RBX
	c.Code = appendEnd(c.Code, c.Addr+3)
	c.In = lineDefaults()
	c.In.RIP = c.Addr
	c.In.GPR[isa.RAX], c.In.GPR[isa.RBX] = 1, 2
	c.decode()
	m := NewMachine(new(Template), 0)
	var good, bad Outcome
	m.Run(c, &good)
	if good.Vector != NoFault || good.GPR[isa.RAX] != 3 {
		t.Fatalf("ADD ended with %s, RAX %#x", good.end(), good.GPR[isa.RAX])
	}
	for name, change := range map[string]func(o *Outcome){
		"rax":   func(o *Outcome) { o.GPR[isa.RAX]++ },
		"cf":    func(o *Outcome) { o.RFLAGS ^= uint64(isa.FlagCF) },
		"mxcsr": func(o *Outcome) { o.FX[fxMXCSR] ^= 1 },
		"xmm15": func(o *Outcome) { o.xmm(15)[15] ^= 0x80 },
		"st7":   func(o *Outcome) { o.st(7)[9] ^= 1 },
		"end":   func(o *Outcome) { o.Vector = vectorUD },
		"data+0x1fff": func(o *Outcome) {
			o.Data = append([]byte(nil), o.Data...)
			o.Data[dataSize-1] ^= 1
		},
	} {
		bad = good
		change(&bad)
		d := Compare(c, &good, &bad, 0)
		if len(d) != 1 || d[0].Field != name {
			t.Errorf("%s changed, and the differences are %v", name, d)
		}
	}
}

func BenchmarkCases(b *testing.B) {
	native(b)
	w, err := newWorker(1, newMenu(nil))
	if err != nil {
		b.Fatal(err)
	}
	defer w.close()
	w.failed = func(*Failure) {}
	for n := 0; n < b.N; n += batchSize {
		if err := w.batch(uint64(n), uint64(n)+batchSize); err != nil {
			b.Fatal(err)
		}
	}
}
