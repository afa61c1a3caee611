package session

import (
	"fmt"
	"strings"
)

// inputChunk is how much of a command's standard input is sent at once: the guest's terminal layer holds some 64 KiB.
const inputChunk = 16 << 10

// feed writes what makes the command's standard input a pipe that has n bytes. It is evaluated by the shell that becomes the command, which asks for
// the first of them itself, so that it is known before the command's process is there that the agent does so. The others come over the control
// port too, as many at once as the feeder says that it waits for ("input 1", "input 2", ...); the feeder is nobody's child and ends with the pipe's
// reader.
func feed(b *strings.Builder, n int) {
	const fifo = "/tmp/.stdin"
	const ask = "[ $i = 0 ] || echo input $i >&3"
	whole, rest := n/inputChunk, n%inputChunk
	fmt.Fprintf(b, "; echo input 0 >&3; /bin/busybox mkfifo %[1]s; ( ( i=0; while [ $i -lt %[2]d ]; do %[4]s; /bin/busybox head -c %[3]d <&3 || exit; i=$((i+1)); done; ",
		fifo, whole, inputChunk, ask)
	if rest > 0 {
		fmt.Fprintf(b, "%s; /bin/busybox head -c %d <&3; ", ask, rest)
	}
	fmt.Fprintf(b, ") >%[1]s 2>/dev/null 4>&- 5>&- 8>&- 9>&- & ); exec <%[1]s; /bin/busybox rm %[1]s", fifo)
}

// chunk returns what the feeder waits for.
func (c *Command) chunk(n int) ([]byte, error) {
	if n < 0 || n > len(c.Input)/inputChunk || n*inputChunk == len(c.Input) {
		return nil, fmt.Errorf("the trusted VM's agent asks for piece %d of %d bytes of input", n, len(c.Input))
	}
	return c.Input[n*inputChunk:][:min(inputChunk, len(c.Input)-n*inputChunk)], nil
}
