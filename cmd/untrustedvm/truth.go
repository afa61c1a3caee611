package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// truthReader reads the console of testdata/untrusted/init.
type truthReader struct {
	in *bufio.Reader
}

func newTruthReader(r io.Reader) *truthReader { return &truthReader{bufio.NewReader(r)} }

// phase reads up to the phase's end and writes a file a tool, and INDEX, into dir. It returns the facts, as lines "key value".
func (t *truthReader) phase(phase, dir string) (facts []string, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	var index strings.Builder
	for {
		line, err := t.in.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("the console ends before phase %s is over (the last line is %q): %w", phase, line, err)
		}
		line = strings.TrimRight(line, "\r\n")
		if fact, ok := strings.CutPrefix(line, "@@FACT "); ok {
			facts = append(facts, fact)
		}
		if rest, ok := strings.CutPrefix(line, "@@TOOL "+phase+" "); ok {
			if err := t.tool(rest, dir); err != nil {
				return nil, fmt.Errorf("phase %s: %w", phase, err)
			}
			fmt.Fprintln(&index, rest)
		}
		if line == "@@PHASE "+phase {
			break
		}
	}
	if index.Len() == 0 {
		return nil, fmt.Errorf("phase %s has no tool", phase)
	}
	return facts, os.WriteFile(filepath.Join(dir, "INDEX"), []byte(index.String()), 0o666)
}

// tool reads one output; head is "name bytes status command".
func (t *truthReader) tool(head, dir string) error {
	f := strings.SplitN(head, " ", 4)
	if len(f) < 4 {
		return fmt.Errorf("%q is not name, bytes, status and command", head)
	}
	size, err := strconv.Atoi(f[1])
	if err != nil || size < 0 || size > 64<<20 {
		return fmt.Errorf("tool %s: an output of %s bytes", f[0], f[1])
	}
	output := make([]byte, size)
	if _, err := io.ReadFull(t.in, output); err != nil {
		return fmt.Errorf("tool %s: the console ends in its output: %w", f[0], err)
	}
	end, err := t.in.ReadString('\n')
	if err != nil || end != "@@END\n" {
		return fmt.Errorf("tool %s: %q follows %d bytes of output, not @@END: something else has written to the console", f[0], end, size)
	}
	return os.WriteFile(filepath.Join(dir, filepath.Base(f[0])+".txt"), output, 0o666)
}
