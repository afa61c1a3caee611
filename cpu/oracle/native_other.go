//go:build !(linux && amd64)

package oracle

import "errors"

// ErrChild says that a case killed the child or hung it.
var ErrChild = errors.New("oracle: the child died")

// Native runs cases on the host's CPU; here it cannot.
type Native struct{}

// StartNative fails: only Linux on x86-64 can run the cases.
func StartNative(*Template) (*Native, error) {
	return nil, errors.New("oracle: the host is not Linux on x86-64")
}

// Close does nothing.
func (n *Native) Close() {}

// SetTemplate does nothing.
func (n *Native) SetTemplate(*Template) {}

// Load does nothing.
func (n *Native) Load(int, *Case) {}

func (n *Native) code() []byte { return nil }

// Run fails.
func (n *Native) Run(first, _ int) (int, error) { return first, ErrChild }

// Outcome does nothing.
func (n *Native) Outcome(int, *Outcome) {}
