package crossview

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Tool is one command of which the untrusted VM said the truth.
type Tool struct {
	Name    string
	Command string // for sh -c
	Status  int    // its exit status inside
}

// ReadIndex reads truth/before/INDEX of a snapshot's folder: lines "name bytes status command".
func ReadIndex(dir string) ([]Tool, error) {
	path := filepath.Join(dir, "truth", "before", "INDEX")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("no truth in %s, make the snapshot with make untrusted: %w", dir, err)
	}
	var tools []Tool
	for i, row := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		f := strings.SplitN(row, " ", 4)
		if len(f) < 4 {
			return nil, fmt.Errorf("%s:%d: %q is not name, bytes, status and command", path, i+1, row)
		}
		status, err := strconv.Atoi(f[2])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: exit status: %w", path, i+1, err)
		}
		tools = append(tools, Tool{Name: f[0], Command: f[3], Status: status})
	}
	return tools, nil
}

// Truth is what a tool printed inside the untrusted VM.
type Truth struct {
	Before, After string
}

// ReadTruth reads both truths of a tool.
func ReadTruth(dir, tool string) (Truth, error) {
	before, err := os.ReadFile(filepath.Join(dir, "truth", "before", tool+".txt"))
	if err != nil {
		return Truth{}, err
	}
	after, err := os.ReadFile(filepath.Join(dir, "truth", "after", tool+".txt"))
	if err != nil {
		return Truth{}, err
	}
	return Truth{string(before), string(after)}, nil
}

// ReadManifest reads manifest.txt of a snapshot's folder: a key and a value a line.
func ReadManifest(dir string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "manifest.txt"))
	if err != nil {
		return nil, err
	}
	facts := map[string]string{}
	for row := range strings.SplitSeq(string(text), "\n") {
		if key, value, ok := strings.Cut(row, " "); ok {
			facts[key] = value
		}
	}
	return facts, nil
}
