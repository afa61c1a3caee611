package machine

import (
	"bytes"
	"io"
)

// console is where the first serial port writes to. It watches for a text.
type console struct {
	out   io.Writer
	text  []byte
	tail  []byte // the last len(text)-1 bytes printed
	found func()
}

// waitFor calls found once when text has been printed.
func (c *console) waitFor(text string, found func()) {
	c.text, c.tail, c.found = []byte(text), nil, found
}

// Write implements io.Writer. Errors of the output are not the guest's business.
func (c *console) Write(p []byte) (int, error) {
	if c.out != nil {
		_, _ = c.out.Write(p)
	}
	if len(c.text) > 0 {
		c.tail = append(c.tail, p...)
		if bytes.Contains(c.tail, c.text) {
			c.text = nil
			c.found()
		} else if n := len(c.tail) - len(c.text) + 1; n > 0 {
			c.tail = append(c.tail[:0], c.tail[n:]...)
		}
	}
	return len(p), nil
}
