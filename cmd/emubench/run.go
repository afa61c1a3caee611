package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/taint"
)

const memoryMiB = 512

// measured is one run.
type measured struct {
	Order        []string           // the workloads, boot first
	CPU          map[string]float64 // seconds of processor time, by workload
	Wall         map[string]float64 // seconds on the wall clock, by workload
	Total        float64            // seconds of processor time of the whole run
	Instructions uint64             `json:",omitempty"`
	RSS          uint64             // bytes
	Console      string             // SHA-256 of it
	TaintedMiB   uint64             `json:",omitempty"` // at the end
}

// stopwatch reads a console and times what lies between its marks.
type stopwatch struct {
	cpu     func() time.Duration
	begin   time.Time
	line    []byte
	console bytes.Buffer
	m       measured
	cpu0    time.Duration
	wall0   time.Time
	wrong   []string
}

func newStopwatch(cpu func() time.Duration) *stopwatch {
	return &stopwatch{
		cpu: cpu, begin: time.Now(), cpu0: cpu(), wall0: time.Now(),
		m: measured{CPU: map[string]float64{}, Wall: map[string]float64{}},
	}
}

// Write implements io.Writer.
func (s *stopwatch) Write(p []byte) (int, error) {
	s.console.Write(p)
	for _, b := range p {
		if b != '\n' {
			s.line = append(s.line, b)
			continue
		}
		s.saw(strings.TrimSpace(string(s.line)))
		s.line = s.line[:0]
	}
	return len(p), nil
}

func (s *stopwatch) saw(line string) {
	if line == initStart {
		s.stop(bootName)
		return
	}
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "BENCH" {
		return
	}
	switch f[2] {
	case "start":
		s.cpu0, s.wall0 = s.cpu(), time.Now()
	case "end":
		s.stop(f[1])
	default:
		s.wrong = append(s.wrong, line)
	}
}

func (s *stopwatch) stop(name string) {
	s.m.Order = append(s.m.Order, name)
	s.m.CPU[name] = (s.cpu() - s.cpu0).Seconds()
	s.m.Wall[name] = time.Since(s.wall0).Seconds()
}

// result checks the run and returns what was measured.
func (s *stopwatch) result() (measured, error) {
	text := s.console.String()
	switch {
	case len(s.wrong) > 0:
		return s.m, fmt.Errorf("wrong results: %s", strings.Join(s.wrong, "; "))
	case !strings.Contains(text, "EMU-INIT-DONE") || len(s.m.Order) < 2:
		return s.m, fmt.Errorf("the guest did not finish; its console ends:\n%s", text[max(0, len(text)-1500):])
	case strings.Contains(text, "CHECK bench FAIL"):
		return s.m, errors.New("the guest's bench program failed")
	}
	sum := sha256.Sum256(s.console.Bytes())
	s.m.Console = hex.EncodeToString(sum[:])
	return s.m, nil
}

const initStart = "EMU-INIT-START"

// ownTime is the processor time of this process.
func ownTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// runChild runs emu in this process, in one mode, and prints what was measured.
func runChild(o *options) error {
	dir := filepath.Join(o.guests, "kernels", o.kernel)
	watch := newStopwatch(ownTime)
	cfg := machine.Config{MemorySize: memoryMiB << 20, CommandLine: o.commandLine(), Console: watch}
	var err error
	if cfg.Kernel, err = os.ReadFile(filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	if cfg.Initrd, err = os.ReadFile(filepath.Join(dir, "initrd.cpio")); err != nil {
		return err
	}
	if o.child != modeOff {
		cfg.Taint = &cpu.TaintOptions{}
	}
	m, err := machine.New(cfg)
	if err != nil {
		return err
	}
	defer m.Close()
	ctx := context.Background()
	m.WaitFor(initStart)
	out := m.Run(ctx, 0)
	if out.Reason == machine.Text {
		if o.child == modeTainted {
			taintAll(m)
		}
		if o.profile != "" {
			f, err := os.Create(o.profile)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := pprof.StartCPUProfile(f); err != nil {
				return err
			}
			defer pprof.StopCPUProfile()
		}
		out = m.Run(ctx, 0)
	}
	if out.Reason != machine.PowerOff {
		return fmt.Errorf("%v: %s\n%s", out.Reason, out.Detail, m.Describe(machine.Symbols(cfg.Kernel)))
	}
	result, err := watch.result()
	if err != nil {
		return err
	}
	result.Total = ownTime().Seconds()
	result.Instructions = m.CPU().Instructions()
	if s := m.CPU().Shadow(); s != nil {
		result.TaintedMiB = s.Bytes() >> 20
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// taintAll taints all RAM and all registers.
func taintAll(m *machine.Machine) {
	s := m.CPU().Shadow()
	for _, r := range m.Memory().Ranges() {
		if r.Kind == memory.RAM {
			s.Mark(r.Base, r.Size)
		}
	}
	r := m.CPU().RegisterTaint()
	for i := range 16 {
		r.GPR[i], r.XMM[i] = taint.All(8), taint.All(16)
	}
	for i := range r.ST {
		r.ST[i] = taint.All(10)
	}
	r.Flags, r.FPUStatus = 1, 1
}

// runSelf runs emubench -child, so that each run has a process, and its memory, of its own.
func runSelf(o *options, mode string) (m measured, err error) {
	self, err := os.Executable()
	if err != nil {
		return m, err
	}
	args := []string{"-child", mode, "-guests", o.guests, "-kernel", o.kernel}
	if o.quick {
		args = append(args, "-quick")
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(out, &m); err != nil {
		return m, err
	}
	m.RSS = maxRSS(cmd)
	return m, nil
}

func maxRSS(cmd *exec.Cmd) uint64 {
	return uint64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) << 10
}

// runQEMU runs the same guest in QEMU's software emulation.
func runQEMU(o *options, _ string) (measured, error) {
	dir := filepath.Join(o.guests, "kernels", o.kernel)
	cmd := exec.Command("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "1",
		"-m", strconv.Itoa(memoryMiB), "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd.cpio"), "-append", o.commandLine())
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	console, err := cmd.StdoutPipe()
	if err != nil {
		return measured{}, err
	}
	if err := cmd.Start(); err != nil {
		return measured{}, err
	}
	watch := newStopwatch(func() time.Duration { return processTime(cmd.Process.Pid) })
	_, copyErr := io.Copy(watch, console)
	if err := errors.Join(copyErr, cmd.Wait()); err != nil {
		return measured{}, fmt.Errorf("%w: %s", err, complaints.String())
	}
	m, err := watch.result()
	m.Total = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	m.RSS = maxRSS(cmd)
	return m, err
}

// processTime is the processor time of all threads of a process, as the scheduler counts it.
func processTime(pid int) time.Duration {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that has ended
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err == nil {
			sum += time.Duration(ns)
		}
	}
	return sum
}
