package crossview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Verdict is what a run of one tool came to.
type Verdict int

const (
	OK     Verdict = iota
	Differ         // the tool ran; its output is not what the truths allow
	Failed         // there is no output to judge
	Skipped
)

func (v Verdict) String() string { return [...]string{"ok", "wrong", "error", "skipped"}[v] }

// Runner runs tools on a snapshot through emu.
type Runner struct {
	Emu       string            // the program
	Flags     []string          // of emu, beyond --snapshot
	Directory string            // of the snapshot: mem.elf and truth
	Timeout   time.Duration     // of one tool; 0 is none
	Marks     map[string]string // see Options
}

// Result is one tool's verdict.
type Result struct {
	Tool     Tool
	Verdict  Verdict
	Message  string // why it failed or was skipped
	Problems []Problem
	// Printed is what the tool left, without emu's report on the layout.
	Printed
	// Layout is the report of emu's --check-layout, if that is among the Flags.
	Layout string
}

// Printed is what a tool left under emu.
type Printed struct {
	Stdout, Stderr []byte
	Output         []byte // both, by lines as they came
	Status         int    // emu's exit status
	Took           time.Duration
}

// String is the reason of a verdict that is not OK, on one line.
func (r Result) String() string {
	if len(r.Problems) == 0 {
		return r.Message
	}
	s := r.Problems[0].String()
	if n := len(r.Problems) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// layoutReport is how the report of --check-layout begins, which is the last that emu writes.
var layoutReport = regexp.MustCompile(`(?m)^layout  +\d+ operands`)

// Run runs one tool and judges it: a route that emu's referee calls wrong is a problem too. What the tool writes to its error output is part of its output, as it was inside.
func (r Runner) Run(ctx context.Context, tool Tool) Result {
	result := Result{Tool: tool, Verdict: Failed}
	truth, err := ReadTruth(r.Directory, tool.Name)
	if err != nil {
		result.Message = err.Error()
		return result
	}
	if result.Printed, err = r.Execute(ctx, tool); err != nil {
		if result.Message = err.Error(); errors.Is(err, errNoKernel) {
			result.Verdict = Skipped
		}
		return result
	}
	if at := layoutReport.FindIndex(result.Output); at != nil {
		result.Output, result.Layout = result.Output[:at[0]], string(result.Output[at[0]:])
	}
	if result.Status != tool.Status && (result.Status != 0 || !SpecFor(tool.Name).OwnFailure) {
		result.Message = fmt.Sprintf("exit status %d, inside it was %d: %s", result.Status, tool.Status, lastLine(string(result.Output)))
		return result
	}
	result.Problems = Compare(SpecFor(tool.Name), truth, string(result.Output), Options{Names: OwnNames(tool.Command), Marks: r.Marks})
	if result.Layout != "" && !strings.Contains(result.Layout, " 0 of them wrong") {
		result.Problems = append(result.Problems, Problem{Kind: Misrouted, Reason: result.Layout})
	}
	result.Verdict = OK
	if len(result.Problems) > 0 {
		result.Verdict = Differ
	}
	return result
}

// Execute runs one tool. An error is that there is nothing to compare; an exit status is none.
func (r Runner) Execute(ctx context.Context, tool Tool) (Printed, error) {
	command, err := r.command(tool)
	if err != nil {
		return Printed{}, err
	}
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	args := append([]string{"--snapshot", filepath.Join(r.Directory, "mem.elf")}, r.Flags...)
	cmd := exec.CommandContext(ctx, r.Emu, append(append(args, "--"), command...)...)
	cmd.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	together := lineMerger{out: &output}
	stdout, stderr := lineWriter{merger: &together}, lineWriter{merger: &together}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err = cmd.Run()
	output.Write(slices.Concat(stdout.partial, stderr.partial))
	p := Printed{Stdout: stdout.all, Stderr: stderr.all, Output: output.Bytes(), Status: cmd.ProcessState.ExitCode(), Took: time.Since(start)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return p, fmt.Errorf("stopped after %v: %w", p.Took.Round(time.Second), ctx.Err())
	case err != nil && !errors.As(err, &exit):
		return p, err
	}
	return p, nil
}

// lineMerger puts lines that come from several writers together.
type lineMerger struct {
	mu  sync.Mutex
	out *bytes.Buffer
}

// lineWriter passes lines on when they are complete.
type lineWriter struct {
	merger  *lineMerger
	partial []byte
	all     []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.all = append(w.all, p...)
	w.partial = append(w.partial, p...)
	if i := bytes.LastIndexByte(w.partial, '\n') + 1; i > 0 {
		w.merger.mu.Lock()
		defer w.merger.mu.Unlock()
		w.merger.out.Write(w.partial[:i])
		w.partial = append([]byte(nil), w.partial[i:]...)
	}
	return len(p), nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// A list that the untrusted VM's shell made of its own /run/named, one path a process.
var namedPaths = regexp.MustCompile(`\$\(sed .*s\|\$\|/(\w+)\|. /run/named\)`)

// errNoKernel is why a tool is skipped.
var errNoKernel = errors.New("it reads a file of the untrusted VM, not its kernel")

// command is the tool's command as words for emu. Files of the untrusted VM's disk are not in its memory snapshot's
// reach: where a command takes process numbers from one, they come from the truth.
func (r Runner) command(tool Tool) ([]string, error) {
	command := tool.Command
	if m := namedPaths.FindStringSubmatch(command); m != nil {
		named, err := ReadTruth(r.Directory, "named")
		if err != nil {
			return nil, err
		}
		var paths []string
		for row := range strings.SplitSeq(strings.TrimSpace(named.Before), "\n") {
			if _, pid, ok := strings.Cut(row, " "); ok {
				paths = append(paths, "/proc/"+pid+"/"+m[1])
			}
		}
		command = strings.Replace(command, m[0], strings.Join(paths, " "), 1)
	}
	switch {
	case strings.Contains(command, "/run/named"):
		return nil, errNoKernel
	case !NeedsShell(command):
		return strings.Fields(command), nil
	case strings.Contains(command, "mapfile") || strings.Contains(command, "{exe,"):
		return []string{"bash", "-c", command}, nil
	}
	return []string{"sh", "-c", command}, nil
}
