package session

import (
	"fmt"
	"strings"
)

// maxLine bounds a command in its encoded form: what the guest's terminal layer holds while the agent is slow to read.
const maxLine = 60 << 10

// line encodes a command for the agent.
func (c *Command) line() (string, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return "", fmt.Errorf("%w: it has no program", ErrCommand)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "run %d", len(c.Env))
	for _, v := range c.Env {
		name, _, ok := strings.Cut(v, "=")
		if !ok || !isName(name) {
			return "", fmt.Errorf("%w: %q in the environment is not NAME=VALUE", ErrCommand, v)
		}
		quote(&b, v)
	}
	for _, v := range c.Argv {
		quote(&b, v)
	}
	if strings.Contains(b.String(), `\000`) {
		return "", fmt.Errorf("%w: an argument has a byte 0", ErrCommand)
	}
	if len(c.Input) > 0 {
		feed(&b, len(c.Input))
	}
	b.WriteByte('\n')
	if b.Len() > maxLine {
		return "", fmt.Errorf("%w: arguments and environment take %d bytes in the agent's encoding, and at most %d have room",
			ErrCommand, b.Len(), maxLine)
	}
	return b.String(), nil
}

// isName reports whether a shell can have a variable of that name.
func isName(s string) bool {
	for i, c := range []byte(s) {
		if !(c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

// quote writes a space and v as a word of the shell, of printable characters only.
func quote(b *strings.Builder, v string) {
	b.WriteString(" $'")
	for _, c := range []byte(v) {
		if c >= 0x20 && c < 0x7f && c != '\'' && c != '\\' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(b, `\%03o`, c)
		}
	}
	b.WriteByte('\'')
}
