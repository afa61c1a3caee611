package crossview

import (
	"bytes"
	"fmt"
	"regexp"
)

// another is what differs between any two looks at one machine: each read of this file makes a new number.
var another = regexp.MustCompile(`(?m)^(kernel\.random\.uuid = ).*$`)

// Difference says where what a tool printed is another than what it printed in another run on the same snapshot, which must give the
// same bytes; "" if nowhere.
func (p Printed) Difference(q Printed) string {
	if p.Status != q.Status {
		return fmt.Sprintf("exit status %d instead of %d: %s", p.Status, q.Status, lastLine(string(p.Stderr)))
	}
	for _, stream := range []struct {
		name string
		p, q []byte
	}{{"stdout", p.Stdout, q.Stdout}, {"stderr", p.Stderr, q.Stderr}} {
		a := bytes.SplitAfter(another.ReplaceAll(stream.p, []byte("$1*")), []byte("\n"))
		b := bytes.SplitAfter(another.ReplaceAll(stream.q, []byte("$1*")), []byte("\n"))
		for i := range max(len(a), len(b)) {
			switch {
			case i >= len(a):
				return fmt.Sprintf("%s line %d: missing is %q", stream.name, i+1, b[i])
			case i >= len(b):
				return fmt.Sprintf("%s line %d: %q is too much", stream.name, i+1, a[i])
			case !bytes.Equal(a[i], b[i]):
				return fmt.Sprintf("%s line %d: %q instead of %q", stream.name, i+1, a[i], b[i])
			}
		}
	}
	return ""
}
