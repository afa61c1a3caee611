package main

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lab is a virtual machine with a KVM of its own, for one command.
type lab struct {
	argv, env    []string
	dirs, outs   [][2]string // from, to
	workDir      string      // in the lab
	guests       string      // folder
	cpu          string      // QEMU's model
	memory, cpus int         // MiB, number
	timeout      time.Duration
	verbose      bool
}

// consoleLines is how many of the console's last lines an error shows.
const consoleLines = 60

func (l *lab) addDir(s string) error {
	host, guest, ok := strings.Cut(s, ":")
	host, err := filepath.Abs(host)
	if err != nil {
		return err
	}
	if !ok {
		guest = host
	}
	if !filepath.IsAbs(guest) {
		return fmt.Errorf("%s: the path in the lab must be absolute", guest)
	}
	if host, err = filepath.EvalSymlinks(host); err != nil {
		return err
	}
	l.dirs = append(l.dirs, [2]string{host, filepath.Clean(guest)})
	return nil
}

func (l *lab) addOut(s string) error {
	guest, host, ok := strings.Cut(s, ":")
	if !ok || !filepath.IsAbs(guest) {
		return fmt.Errorf("%s: want GUEST:HOST, GUEST absolute", s)
	}
	l.outs = append(l.outs, [2]string{filepath.Clean(guest), host})
	return nil
}

// run boots the lab, runs the command, and returns its exit code, or one of kvmlab's own with an error.
func (l *lab) run(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	work, err := os.MkdirTemp("", "kvmlab")
	if err != nil {
		return exitFailed, err
	}
	defer os.RemoveAll(work)
	kernel, initrd, err := l.system(work)
	if err != nil {
		return exitFailed, err
	}
	disks, mounts, err := l.disks(ctx, work)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return exitTimeout, fmt.Errorf("the disks were not made after %v; give more --timeout", l.timeout)
	}
	if err != nil {
		return exitFailed, err
	}
	j := job{Argv: l.argv, Env: l.env, WorkDir: l.workDir, Mounts: mounts}
	for _, o := range l.outs {
		j.Out = append(j.Out, o[0])
	}
	return l.boot(ctx, kernel, initrd, disks, j)
}

func (l *lab) boot(ctx context.Context, kernel, initrd string, disks []string, j job) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return exitFailed, err
	}
	port, far := os.NewFile(uintptr(pair[0]), "port"), os.NewFile(uintptr(pair[1]), "port")
	defer port.Close()
	// What slows KVM's kernel down here and changes nothing that its users see is off.
	words := "console=ttyS0 panic=-1 oops=panic rdinit=/init mitigations=off init_on_alloc=0 no_timer_check lsm= cryptomgr.notests"
	if !l.verbose {
		words += " quiet"
	}
	args := []string{
		"-accel", "tcg", "-cpu", l.cpu, "-m", strconv.Itoa(l.memory), "-smp", strconv.Itoa(l.cpus), "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append", words,
		"-device", "virtio-serial-pci", "-chardev", "socket,id=port,fd=3", "-device", "virtserialport,chardev=port,name=" + portName,
	}
	for i, d := range disks {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,cache=unsafe,file=%s", i, strings.ReplaceAll(d, ",", ",,")),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=d%d,serial=%s", i, filepath.Base(d)))
	}
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	qemu.ExtraFiles = []*os.File{far}
	qemu.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	console := &console{verbose: l.verbose}
	qemu.Stdout, qemu.Stderr = console, console
	err = qemu.Start()
	far.Close()
	if err != nil {
		return exitFailed, fmt.Errorf("%w; make setup installs QEMU", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- qemu.Wait() }()
	code, err := l.talk(port, j)
	_ = qemu.Process.Kill()
	end := <-ended
	switch {
	case err == nil:
		return code, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return exitTimeout, fmt.Errorf("not finished after %v%s", l.timeout, console)
	case ctx.Err() != nil:
		return exitFailed, errors.New("interrupted")
	case errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE):
		return exitFailed, fmt.Errorf("the virtual machine ended before the command did (QEMU: %v)%s", end, console)
	}
	return exitFailed, err
}

// talk sends the job and passes on what comes back, until the exit code.
func (l *lab) talk(port io.ReadWriter, j job) (code int, err error) {
	if err := json.NewEncoder(port).Encode(j); err != nil {
		return 0, err
	}
	r, archive := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := l.unpack(r)
		r.CloseWithError(err) // so that writing ends too
		unpacked <- err
	}()
	defer func() {
		archive.Close()
		if e := <-unpacked; err == nil && e != nil {
			code, err = exitFailed, fmt.Errorf("what came out of the lab: %w", e)
		}
	}()
	b := bufio.NewReaderSize(port, maxFrame)
	for {
		k, p, err := receive(b)
		if err != nil {
			return 0, err
		}
		switch k {
		case frameStdout:
			_, err = os.Stdout.Write(p)
		case frameStderr:
			_, err = os.Stderr.Write(p)
		case frameTar:
			_, err = archive.Write(p)
		case frameExit:
			return int(p[0]), nil
		case frameFailed:
			return 0, fmt.Errorf("in the lab: %s", p)
		default:
			return 0, fmt.Errorf("the guest sent a frame of kind %d", k)
		}
		if err != nil {
			return 0, err
		}
	}
}

// unpack writes the archive's files below the folders of l.outs.
func (l *lab) unpack(r io.Reader) error {
	var roots []*os.Root
	for _, o := range l.outs {
		if err := os.MkdirAll(o[1], 0o755); err != nil {
			return err
		}
		root, err := os.OpenRoot(o[1])
		if err != nil {
			return err
		}
		defer root.Close()
		roots = append(roots, root)
	}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		index, name, _ := strings.Cut(h.Name, "/")
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || i >= len(roots) {
			return fmt.Errorf("a file %q", h.Name)
		}
		switch {
		case name == "":
		case h.Typeflag == tar.TypeDir:
			err = roots[i].MkdirAll(strings.TrimSuffix(name, "/"), 0o755)
		default:
			err = writeFile(roots[i], name, h.FileInfo().Mode().Perm(), t)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, perm os.FileMode, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// console keeps the last lines that kernel and QEMU have printed.
type console struct {
	verbose bool
	line    []byte
	lines   []string
}

func (c *console) Write(p []byte) (int, error) {
	for _, b := range p {
		switch b {
		case '\r':
		case '\n':
			if c.verbose {
				fmt.Fprintf(os.Stderr, "%s\n", c.line)
			}
			if c.lines = append(c.lines, string(c.line)); len(c.lines) > consoleLines {
				c.lines = c.lines[1:]
			}
			c.line = c.line[:0]
		default:
			c.line = append(c.line, b)
		}
	}
	return len(p), nil
}

// String returns the last lines, for the end of an error.
func (c *console) String() string {
	lines := c.lines
	if len(c.line) > 0 {
		lines = append(lines, string(c.line))
	}
	if len(lines) == 0 {
		return "; the console is empty (--verbose shows more)"
	}
	return "; the console's last lines:\n  " + strings.Join(lines, "\n  ")
}
