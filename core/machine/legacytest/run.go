package legacytest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hybridbridge/emu/core/machine"
)

// An Emulator runs a multiboot image until it ends and returns what it wrote to port 0xe9.
type Emulator interface {
	Name() string
	// Missing returns the name of the program that is needed and absent, or "".
	Missing() string
	Run(ctx context.Context, image []byte) ([]byte, error)
}

const memoryMiB = 64

// Emu is this project's machine.
type Emu struct{}

// Name implements Emulator.
func (Emu) Name() string { return "emu" }

// Missing implements Emulator.
func (Emu) Missing() string { return "" }

// Run implements Emulator.
func (Emu) Run(ctx context.Context, image []byte) ([]byte, error) {
	var out bytes.Buffer
	m, err := machine.New(machine.Config{MemorySize: memoryMiB << 20, Kernel: image, DebugConsole: &out, DebugExit: true})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	o := m.Run(ctx, 40_000_000_000)
	if o.Reason != machine.DebugExit {
		s := m.CPU().State()
		return out.Bytes(), fmt.Errorf("the machine ended with %v: %s (CS:RIP %#x:%#x)", o.Reason, o.Detail, s.Seg[1].Selector, s.RIP)
	}
	return out.Bytes(), nil
}

// QEMU is QEMU's software emulation.
type QEMU struct{}

const qemuProgram = "qemu-system-x86_64"

// Name implements Emulator.
func (QEMU) Name() string { return "QEMU" }

// Missing implements Emulator.
func (QEMU) Missing() string { return missing(qemuProgram) }

func missing(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return program
	}
	return ""
}

// Run implements Emulator.
func (QEMU) Run(ctx context.Context, image []byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "legacytest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	kernel, out := filepath.Join(dir, "image"), filepath.Join(dir, "out")
	if err := os.WriteFile(kernel, image, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, qemuProgram, "-accel", "tcg", "-cpu", "max", "-m", fmt.Sprint(memoryMiB), "-display", "none",
		"-nodefaults", "-no-reboot", "-kernel", kernel, "-debugcon", "file:"+out, "-device", "isa-debug-exit,iobase=0xf4,iosize=4")
	text, err := cmd.CombinedOutput()
	b, readErr := os.ReadFile(out)
	if ctx.Err() != nil {
		return b, ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 0x21 { // 2*16+1: the guest wrote 16
		err = nil
	} else if err == nil {
		err = errors.New("the machine was reset")
	}
	if err != nil {
		return b, fmt.Errorf("%w: %s", err, text)
	}
	return b, readErr
}

// Bochs is the Bochs emulator, without a BIOS: guest/rom.asm starts the image.
type Bochs struct{}

const bochsProgram = "bochs"

// Name implements Emulator.
func (Bochs) Name() string { return "Bochs" }

// Missing implements Emulator.
func (Bochs) Missing() string { return missing(bochsProgram) }

// bochsMark is what the firmware prints first: Bochs writes other things to standard output before it.
const bochsMark = "\x01=image=\x02"

// bochsConfig needs the folder seven times. The rfb display is in every build and works without a display if nobody waits.
const bochsConfig = `display_library: rfb, options="timeout=0"
romimage: file=%[1]s/rom, address=0xffff0000
vgaromimage: file=%[1]s/vgarom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path=%[1]s/image, cylinders=%[3]d, heads=16, spt=63
megs: %[2]d
cpu: model=corei7_sandy_bridge_2600k, ips=50000000, reset_on_triple_fault=0
port_e9_hack: enabled=1
sound: waveoutdrv=dummy, waveindrv=dummy
log: %[1]s/log
panic: action=fatal
error: action=ignore
info: action=ignore
`

// Run implements Emulator.
func (Bochs) Run(ctx context.Context, image []byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "legacytest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	const cylinder = 16 * 63 * 512
	sectors := (len(image) + 511) / 512
	cylinders := (len(image) + cylinder - 1) / cylinder
	disk := make([]byte, cylinders*cylinder)
	copy(disk, image)
	rom := make([]byte, 0x10000)
	binary.LittleEndian.PutUint32(rom[0xffe0:], uint32(sectors))
	copy(rom, firmware)
	copy(rom[0xfff0:], []byte{0xe9, 0x0d, 0x00}) // the reset vector: jump to the first byte
	files := map[string][]byte{
		"rom": rom, "vgarom": make([]byte, 32768), "image": disk, "commands": []byte("continue\n"),
		"bochsrc": fmt.Appendf(nil, bochsConfig, dir, memoryMiB, cylinders),
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, bochsProgram, "-q", "-f", filepath.Join(dir, "bochsrc"), "-rc", filepath.Join(dir, "commands"))
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output() // its exit code is 1 even after the shutdown port
	if ctx.Err() != nil {
		return b, ctx.Err()
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	_, b, found := bytes.Cut(b, []byte(bochsMark))
	if !found {
		return nil, fmt.Errorf("bochs did not start the image: %w: %s", err, stderr.Bytes())
	}
	b, _, _ = bytes.Cut(b, []byte("(0).[")) // what Bochs says when it ends
	if !bytes.Contains(log, []byte("shutdown requested")) {
		return b, fmt.Errorf("bochs: %w: %s", err, log[max(0, len(log)-2000):])
	}
	return b, nil
}
