//go:build boot

package boottest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	ram     = 512 << 20 // emu's default
	checks  = "EMU-CHECKS ok=57 fail=0"
	ptiOn   = "Kernel/User page tables isolation: enabled"
	started = "EMU-INIT-START"
)

// TestKernels boots every kernel so that it sees address randomisation on and off, and page table isolation on and off.
func TestKernels(t *testing.T) {
	for _, kernel := range []string{"cloud-6.1", "generic-6.1", "cloud-6.12", "686", "686-pae"} {
		for _, words := range []string{"pti=on", "nokaslr pti=off"} {
			t.Run(kernel+" "+words, func(t *testing.T) {
				t.Parallel()
				r := runEmu(t, kernelArgs(kernel, words+" emu.modules=1")...)
				note(kernel, words, r)
				r.exits(t, 0)
				r.clean(t)
				r.has(t, checks, "EMU-INIT-DONE")
				r.within(t, ram)
				// A kernel without PAE has no page table isolation.
				isolated := strings.Contains(words, "pti=on") && kernel != "686"
				if bytes.Contains(r.console, []byte(ptiOn)) != isolated {
					t.Errorf("page table isolation is on: %v, want %v", !isolated, isolated)
				}
			})
		}
	}
}

// TestRoot goes on from an ext4 root on a virtio disk.
func TestRoot(t *testing.T) {
	for _, disk := range []string{"root.ext4", "root.qcow2", "root-compressed.qcow2"} {
		t.Run(disk, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(*guests, disk)
			before, err := os.Stat(path)
			if err != nil {
				t.Skipf("no disk, run make guests-root: %v", err)
			}
			r := runEmu(t, append(kernelArgs("cloud-6.1", "emu.root=/dev/vda"), "--drive", path+",snapshot")...)
			note("cloud-6.1", disk, r)
			r.exits(t, 0)
			r.clean(t)
			r.has(t, "EMU-CHECKS ok=9 fail=0", "EMU-ROOT-DONE")
			r.within(t, ram)
			if after, err := os.Stat(path); err != nil || after.ModTime() != before.ModTime() {
				t.Errorf("the disk has been written to, or is gone: %v", err)
			}
		})
	}
}

// TestRepeats runs one boot twice, once with taint on, and once in two parts: console and instruction count are the same.
func TestRepeats(t *testing.T) {
	t.Parallel()
	args := kernelArgs("cloud-6.1", "")
	run := func(name string, args ...string) result {
		r := runEmu(t, args...)
		note("cloud-6.1", name, r)
		r.exits(t, 0)
		return r
	}
	want := run("first", args...)
	want.has(t, checks)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	for _, again := range []struct {
		name string
		args []string
	}{
		{"again", args},
		{"with taint", append(slices.Clone(args), "--taint")},
		{"saved", append(slices.Clone(args), "--save", snapshot, "--save-when", started)},
		{"loaded", []string{"--load", snapshot}},
	} {
		r := run(again.name, again.args...)
		console := want.console
		if again.name == "loaded" {
			_, console, _ = bytes.Cut(console, []byte(started))
		}
		same(t, again.name, console, r.console)
		if r.instructions != want.instructions {
			t.Errorf("%s: %d instructions, want %d", again.name, r.instructions, want.instructions)
		}
	}
}

// TestDisjoint boots with RAM above 64 GiB.
func TestDisjoint(t *testing.T) {
	t.Parallel()
	r := runEmu(t, append(kernelArgs("cloud-6.1", ""), "--ram-above", "64G")...)
	note("cloud-6.1", "ram-above 64G", r)
	r.exits(t, 0)
	r.clean(t)
	r.has(t, checks, "EMU-INIT-DONE")
}

// TestEnds looks at the exit codes of other ends than power-off.
func TestEnds(t *testing.T) {
	for _, end := range []struct {
		name, words string
		code        int
		says        string
	}{
		{"reboot", "emu.end=reboot", 3, "reset"},
		{"halt", "emu.end=halt", 6, "halted"},
		{"panic", "emu.end=panic", 3, "reset"}, // panic=-1 reboots at once
		{"exit", "emu.end=exit", 3, "reset"},   // the end of init is a panic
	} {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			r := runEmu(t, kernelArgs("cloud-6.1", "emu.run=none "+end.words)...)
			note("cloud-6.1", end.words, r)
			r.exits(t, end.code)
			r.has(t, "EMU-INIT-DONE")
			if !strings.Contains(r.stderr, end.says) {
				t.Errorf("emu does not say %q:\n%s", end.says, r.stderr)
			}
		})
	}
}
