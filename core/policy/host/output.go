package host

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// Limits on what is kept of a program's standard error: the beginning of a panic's message is what counts.
const (
	maxLine  = 64 << 10
	maxWords = 2000
)

// output is a program's standard error. What it logs, as hclog does in JSON, is logged by its level; all else is kept, since it
// says why a program crashed.
type output struct {
	log hclog.Logger

	mu    sync.Mutex
	line  bytes.Buffer
	words bytes.Buffer
}

// Write implements io.Writer. It never fails.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for part := range bytes.Lines(b) {
		text, ended := bytes.CutSuffix(part, []byte("\n"))
		o.line.Write(text[:min(len(text), maxLine-o.line.Len())])
		if ended {
			o.take(o.line.Bytes())
			o.line.Reset()
		}
	}
	return len(b), nil
}

func (o *output) take(line []byte) {
	var entry map[string]any
	if json.Unmarshal(line, &entry) == nil {
		message, ok := entry["@message"].(string)
		level, _ := entry["@level"].(string)
		if ok {
			var args []any
			for _, k := range slices.Sorted(maps.Keys(entry)) {
				if !strings.HasPrefix(k, "@") {
					args = append(args, k, entry[k])
				}
			}
			// An unknown level is NoLevel, which hclog would always print.
			o.log.Log(max(hclog.LevelFromString(level), hclog.Debug), message, args...)
			return
		}
	}
	o.log.Debug(string(line))
	if o.words.Len()+len(line) < maxWords {
		o.words.Write(line)
		o.words.WriteByte('\n')
	}
}

// String returns what was kept, to be appended to an error.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	said := strings.TrimSpace(o.words.String())
	if said == "" {
		return ""
	}
	return "; it said:\n" + said
}
