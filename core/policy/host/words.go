package host

import (
	"bytes"
	"strings"
	"sync"
)

// maxWords is how much of a program's standard error is kept: the beginning of a panic's message is what counts.
const maxWords = 2000

// lastWords keeps what a program says on standard error that is no log message: why it crashed.
type lastWords struct {
	mu   sync.Mutex
	said bytes.Buffer
}

// Write implements io.Writer for one line, with or without its end.
func (w *lastWords) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	isLog := bytes.HasPrefix(line, []byte("{"))
	if !isLog && w.said.Len()+len(line) <= maxWords {
		w.said.Write(line)
	}
	return len(line), nil
}

// String returns what was said, to be appended to an error.
func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := strings.TrimSpace(w.said.String())
	if said == "" {
		return ""
	}
	return "; it said:\n" + strings.TrimRight(said, "\n")
}
