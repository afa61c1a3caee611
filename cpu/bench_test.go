package cpu

import (
	"encoding/binary"
	"syscall"
	"testing"
	"time"

	"github.com/hybridbridge/emu/cpu/isa"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

// benchCode holds two loops that count R8 down and end at HLT: at 0 one on registers, at 40H one with loads, stores,
// calls and branches in the proportions of compiled code.
const benchCode = `4801d84831c148c1e2034829d6488d7c880881e2ff7f00004989f94183c90183c21149ffc249ffc875d6f4662e0f1f84000000000066662e0f1f840000000000
488b4608480304ce48894610e82b00000085c074110fb656034881fac8000000770483461801488d490183e13f48837e1800480f45d849ffc875c5f4
554889e5534883ec1048897df0486bc003488b5df048c1fb024863d331d04883c4105b5dc3`

func benchLoop(b *testing.B, entry uint64) {
	c, ram := newRig(b, 1<<20)
	copy(ram[0x1000:], unhex(benchCode))
	c.r[isa.RSP], c.r[isa.RSI] = 0x8000, 0x9000
	c.r[isa.RBX] = 12345
	c.r[isa.R8] = 1 << 60
	c.rip = 0x1000 + entry
	b.ResetTimer()
	before := cpuTime(b)
	exit := c.Run(c.icount + uint64(b.N))
	used := cpuTime(b) - before
	b.StopTimer()
	if exit.Reason != vcpu.ExitDeadline {
		b.Fatalf("%+v at %#x", exit, c.rip)
	}
	b.ReportMetric(float64(b.N)/used.Seconds()/1e6, "MIPS")
}

func BenchmarkLoopRegisters(b *testing.B) { benchLoop(b, 0) }
func BenchmarkLoopMixed(b *testing.B)     { benchLoop(b, 0x40) }

// cpuTime is the processor time that the process has used: unlike the clock it does not count what other processes took.
func cpuTime(tb testing.TB) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkLoopPages calls functions in 16 other pages, one after the other.
func BenchmarkLoopPages(b *testing.B) {
	c, ram := newRig(b, 1<<20)
	at := 0x1000
	for i := range 16 {
		f := 0x10000 + i*0x1040
		copy(ram[at:], []byte{0xe8})
		binary.LittleEndian.PutUint32(ram[at+1:], uint32(f-at-5))
		at += 5
		copy(ram[f:], unhex("4801d8 4883c101 c3"))
	}
	ram[at] = 0xe9
	binary.LittleEndian.PutUint32(ram[at+1:], uint32(0x1000-at-5))
	c.r[isa.RSP] = 0x8000
	c.rip = 0x1000
	before := cpuTime(b)
	c.Run(c.icount + uint64(b.N))
	b.ReportMetric(float64(b.N)/(cpuTime(b)-before).Seconds()/1e6, "MIPS")
}
