package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	portName   = "kvmlab"      // of the virtio port between host and guest
	moduleList = "etc/modules" // in the initial RAM disk: paths, in the order of loading
)

// guestMain is the virtual machine's init. It does not return: when the host has the last frame, it ends QEMU.
func guestMain() {
	port, err := boot()
	if err != nil {
		fmt.Println("kvmlab:", err) // on the console
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	f := &framer{w: port}
	code, err := work(port, f)
	if err != nil {
		err = f.send(frameFailed, []byte(err.Error()))
	} else {
		err = f.send(frameExit, []byte{byte(code)})
	}
	if err != nil {
		fmt.Println("kvmlab: the port:", err)
	}
	select {}
}

// boot makes the system that commands expect and opens the port to the host.
func boot() (*os.File, error) {
	for _, m := range []struct{ kind, target string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"devpts", "/dev/pts"}, {"tmpfs", "/dev/shm"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	list, err := os.ReadFile("/" + moduleList)
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(string(list)) {
		f, err := os.Open("/" + name)
		if err != nil {
			return nil, err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			return nil, fmt.Errorf("loading %s: %w", name, err)
		}
		f.Close()
	}
	for range 500 { // the driver finds out by and by which ports there are
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == portName {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("there is no virtio port " + portName)
}

// work does the job that the host sends and returns the command's exit code.
func work(port *os.File, f *framer) (int, error) {
	var j job
	if err := json.NewDecoder(port).Decode(&j); err != nil {
		return 0, fmt.Errorf("the job: %w", err)
	}
	if err := exec.Command("/bin/busybox", "ip", "link", "set", "lo", "up").Run(); err != nil {
		return 0, fmt.Errorf("ip link set lo up: %w", err)
	}
	for _, m := range j.Mounts {
		if err := m.do(); err != nil {
			return 0, fmt.Errorf("%s: %w", m.Target, err)
		}
	}
	if err := os.MkdirAll(j.WorkDir, 0o755); err != nil {
		return 0, err
	}
	// Of init itself, because the program is looked for on its path.
	os.Clearenv()
	for _, e := range j.Env {
		name, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	c := exec.Command(j.Argv[0], j.Argv[1:]...)
	c.Dir, c.Stdout, c.Stderr = j.WorkDir, stream{f, frameStdout}, stream{f, frameStderr}
	c.WaitDelay = time.Second // for what it leaves behind with its output open
	err := c.Run()
	if c.ProcessState == nil {
		return 0, err
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, err
	}
	code := c.ProcessState.ExitCode()
	if s, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		code = 128 + int(s.Signal())
		fmt.Fprintf(c.Stderr, "kvmlab: %s: %v\n", j.Argv[0], c.ProcessState)
	}
	return code, archive(stream{f, frameTar}, j.Out)
}

func (m mount) do() error {
	disk, err := findDisk(m.Serial)
	if err != nil {
		return err
	}
	if m.File == "" {
		if err := os.MkdirAll(m.Target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(disk, m.Target, "ext4", unix.MS_NOATIME, ""); err != nil {
			return err
		}
		return os.RemoveAll(filepath.Join(m.Target, "lost+found")) // mke2fs made it
	}
	at := "/run/" + m.Serial
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(disk, at, "ext4", unix.MS_NOATIME, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.Target), 0o755); err != nil {
		return err
	}
	target, err := os.OpenFile(m.Target, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	target.Close()
	return unix.Mount(filepath.Join(at, m.File), m.Target, "", unix.MS_BIND, "")
}

// findDisk returns the device of the virtio disk with a serial number.
func findDisk(serial string) (string, error) {
	files, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.TrimRight(string(b), "\n\x00") == serial {
			return "/dev/" + filepath.Base(filepath.Dir(f)), nil
		}
	}
	return "", fmt.Errorf("there is no disk %s", serial)
}

// archive writes each of the folders and files; names begin with the index and a slash.
func archive(w stream, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	t := tar.NewWriter(w)
	for i, p := range paths {
		base := p
		if info, err := os.Stat(p); err != nil {
			return err
		} else if !info.IsDir() {
			base = filepath.Dir(p)
		}
		err := filepath.WalkDir(p, func(file string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() && !d.IsDir() {
				return err
			}
			name, err := filepath.Rel(base, file)
			if err != nil {
				return err
			}
			return archiveFile(t, file, path.Join(strconv.Itoa(i), name))
		})
		if err != nil {
			return err
		}
	}
	return t.Close()
}

func archiveFile(t *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	if h.Name = name; info.IsDir() {
		h.Name += "/"
	}
	if err := t.WriteHeader(h); err != nil || info.IsDir() {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
