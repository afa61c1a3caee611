package cpu

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// rigMemory is RAM from 0.
type rigMemory struct {
	ram []byte
}

func (m *rigMemory) Page(pa uint64) (*[4096]byte, bool) {
	if pa >= uint64(len(m.ram)) {
		return nil, false
	}
	return (*[4096]byte)(m.ram[pa:]), true
}

// newRig returns a CPU in 64-bit mode at CPL 0 with RAM mapped one to one.
func newRig(tb testing.TB, size int) (*CPU, []byte) {
	tb.Helper()
	m := &rigMemory{ram: make([]byte, size)}
	c := &CPU{mem: m, mode: isa.Mode64, feat: isa.AllFeatures, table: newTable()}
	c.code.pages = map[uint64]*codePage{}
	c.key = c.currentKey()
	c.ctx = 1 << 54
	for i := range c.seg {
		c.seg[i].Limit = 0xffffffff
	}
	return c, m.ram
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

var _ vcpu.VCPU
