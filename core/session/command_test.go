package session

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestQuoting has a shell of the agent's kind read back what line wrote.
func TestQuoting(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("no busybox on this host")
	}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.Custom(func(t *rapid.T) string {
			return strings.ReplaceAll(string(rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "bytes")), "\x00", "")
		})
		c := Command{Argv: append([]string{"x"}, rapid.SliceOfN(word, 0, 5).Draw(t, "argv")...)}
		line, err := c.line()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
			t.Fatalf("not one line: %q", line)
		}
		script := `run() { shift; for w; do printf '%s\n;' "$w"; done; }; read -r line; eval "$line"`
		sh := exec.Command(busybox, "sh", "-c", script)
		sh.Stdin = strings.NewReader(line)
		out, err := sh.Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Join(c.Argv, "\n;") + "\n;"; string(out) != want {
			t.Fatalf("%+q becomes %+q", want, out)
		}
	})
}

func TestImpossibleCommands(t *testing.T) {
	for name, c := range map[string]Command{
		"no program":   {},
		"empty":        {Argv: []string{""}},
		"zero":         {Argv: []string{"a\x00b"}},
		"too long":     {Argv: []string{"a", strings.Repeat("\n", maxLine/4)}},
		"no value":     {Argv: []string{"a"}, Env: []string{"A"}},
		"a bad name":   {Argv: []string{"a"}, Env: []string{"A B=c"}},
		"a digit":      {Argv: []string{"a"}, Env: []string{"1=c"}},
		"without name": {Argv: []string{"a"}, Env: []string{"=c"}},
	} {
		if _, err := c.line(); !errors.Is(err, ErrCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&Command{Argv: []string{`a\000`}, Env: []string{"_A1="}}).line(); err != nil {
		t.Error(err)
	}
}

// TestChunks: the pieces of an input are the input, and there are no others.
func TestChunks(t *testing.T) {
	for _, size := range []int{1, inputChunk - 1, inputChunk, inputChunk + 1, 3 * inputChunk} {
		c := Command{Input: bytes.Repeat([]byte{0, 1, 2}, size)[:size]}
		var all []byte
		n := 0
		for ; len(all) < size; n++ {
			p, err := c.chunk(n)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p...)
		}
		if !bytes.Equal(all, c.Input) {
			t.Errorf("%d bytes become %d others", size, len(all))
		}
		for _, n := range []int{-1, n} {
			if _, err := c.chunk(n); err == nil {
				t.Errorf("%d bytes have a piece %d", size, n)
			}
		}
	}
	if _, err := (&Command{}).chunk(0); err == nil {
		t.Error("no input has a piece")
	}
}
