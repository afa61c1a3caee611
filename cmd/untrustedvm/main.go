// Command untrustedvm boots an untrusted VM of testdata/untrusted in QEMU, takes down what its tools print, dumps its memory
// and lets them print again:
//
//	untrustedvm -out DIR -kernel vmlinuz -initrd root.cpio,modules.cpio -append 'nokaslr' -- -cpu Nehalem -smp 2
//
// DIR gets mem.elf, truth/before and truth/after (a file for each tool, and INDEX), registers.txt, memory-map.txt, serial.log and
// manifest.txt. It appears when all of them are there.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

type options struct {
	qemu, kernel, initrd, words, out string
	memory                           int // MiB
	timeout                          time.Duration
	more                             []string // of QEMU's options
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "untrustedvm:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var o options
	f := flag.NewFlagSet("untrustedvm", flag.ContinueOnError)
	f.StringVar(&o.qemu, "qemu", "qemu-system-x86_64", "the emulator")
	f.StringVar(&o.kernel, "kernel", "", "the kernel")
	f.StringVar(&o.initrd, "initrd", "", "archives of the file system, commas between; later ones add to earlier ones")
	f.StringVar(&o.words, "append", "", "more words for the kernel")
	f.StringVar(&o.out, "out", "", "the folder for the snapshot")
	f.IntVar(&o.memory, "memory", 512, "memory in MiB")
	f.DurationVar(&o.timeout, "timeout", 15*time.Minute, "limit for it all")
	if err := f.Parse(args); err != nil {
		return err
	}
	o.more = f.Args()
	if o.kernel == "" || o.initrd == "" || o.out == "" {
		return fmt.Errorf("-kernel, -initrd and -out are needed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()

	work := o.out + ".new"
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o777); err != nil {
		return err
	}
	if err := snapshot(ctx, o, work); err != nil {
		return fmt.Errorf("%w; what there is lies in %s", err, work)
	}
	if err := os.RemoveAll(o.out); err != nil {
		return err
	}
	return os.Rename(work, o.out)
}

// snapshot fills the folder dir.
func snapshot(ctx context.Context, o options, dir string) error {
	sockets, err := os.MkdirTemp("", "untrustedvm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(sockets)
	vm, err := start(ctx, o, dir, sockets)
	if err != nil {
		return err
	}
	defer vm.kill()

	var facts []string
	fmt.Fprintf(os.Stderr, "untrustedvm: %s: booting\n", filepath.Base(o.out))
	if facts, err = vm.truth.phase("before", filepath.Join(dir, "truth", "before")); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "untrustedvm: %s: dumping\n", filepath.Base(o.out))
	if err := vm.dump(dir); err != nil {
		return err
	}
	if _, err := io.WriteString(vm.console, "after\n"); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	if _, err := vm.truth.phase("after", filepath.Join(dir, "truth", "after")); err != nil {
		return err
	}
	return writeManifest(o, dir, vm.command, facts)
}

func writeManifest(o options, dir string, command, facts []string) error {
	sum := sha256.New()
	dump, err := os.Open(filepath.Join(dir, "mem.elf"))
	if err != nil {
		return err
	}
	defer dump.Close()
	size, err := io.Copy(sum, dump)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "kernel %s\nappend %s\nmemory_mib %d\nqemu_command %s\n", filepath.Base(filepath.Dir(o.kernel)), o.words, o.memory,
		strings.Join(command, " "))
	for _, fact := range facts {
		fmt.Fprintln(&b, fact)
	}
	fmt.Fprintf(&b, "dump mem.elf bytes=%d\nsha256 %x  mem.elf\n", size, sum.Sum(nil))
	return os.WriteFile(filepath.Join(dir, "manifest.txt"), []byte(b.String()), 0o666)
}

// machine is a running QEMU.
type machine struct {
	command []string
	cmd     *exec.Cmd
	console net.Conn
	monitor *monitor
	truth   *truthReader
	closers []io.Closer
}

// start runs QEMU, which connects to sockets of ours: so nothing of the console is lost.
func start(ctx context.Context, o options, dir, sockets string) (*machine, error) {
	initrd := filepath.Join(sockets, "initrd")
	if err := concatenate(initrd, strings.Split(o.initrd, ",")); err != nil {
		return nil, err
	}
	disk := filepath.Join(sockets, "disk")
	if err := os.WriteFile(disk, nil, 0o666); err != nil {
		return nil, err
	}
	if err := os.Truncate(disk, 16<<20); err != nil {
		return nil, err
	}
	words := strings.TrimSpace("console=ttyS0 panic=-1 " + o.words)
	consolePath, monitorPath := filepath.Join(sockets, "console"), filepath.Join(sockets, "qmp")
	vm := &machine{command: append([]string{
		o.qemu, "-name", "untrusted-vm", "-machine", "pc", "-accel", "tcg", "-m", strconv.Itoa(o.memory),
		"-nodefaults", "-display", "none", "-no-reboot", "-kernel", o.kernel, "-initrd", initrd, "-append", words,
		"-chardev", "socket,id=console,path=" + consolePath, "-serial", "chardev:console",
		"-chardev", "socket,id=monitor,path=" + monitorPath, "-mon", "chardev=monitor,mode=control",
		"-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,mac=52:54:00:00:53:01",
		"-drive", "file=" + disk + ",format=raw,if=virtio",
	}, o.more...)}
	listenConsole, err := net.Listen("unix", consolePath)
	if err != nil {
		return nil, err
	}
	defer listenConsole.Close()
	listenMonitor, err := net.Listen("unix", monitorPath)
	if err != nil {
		return nil, err
	}
	defer listenMonitor.Close()
	said, err := os.Create(filepath.Join(dir, "qemu.log"))
	if err != nil {
		return nil, err
	}
	serial, err := os.Create(filepath.Join(dir, "serial.log"))
	if err != nil {
		return nil, err
	}
	vm.closers = append(vm.closers, said, serial)
	vm.cmd = exec.CommandContext(ctx, vm.command[0], vm.command[1:]...)
	vm.cmd.Stdout, vm.cmd.Stderr = said, said
	if err := vm.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start QEMU (make setup installs it): %w", err)
	}
	if vm.console, err = accept(listenConsole); err != nil {
		vm.kill()
		return nil, fmt.Errorf("QEMU does not connect its console, see %s: %w", said.Name(), err)
	}
	qmp, err := accept(listenMonitor)
	if err != nil {
		vm.kill()
		return nil, fmt.Errorf("QEMU does not connect its monitor, see %s: %w", said.Name(), err)
	}
	vm.closers = append(vm.closers, vm.console, qmp)
	vm.truth = newTruthReader(io.TeeReader(vm.console, serial))
	if vm.monitor, err = newMonitor(qmp); err != nil {
		vm.kill()
		return nil, err
	}
	return vm, nil
}

func accept(l net.Listener) (net.Conn, error) {
	if err := l.(*net.UnixListener).SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	return l.Accept()
}

func concatenate(path string, parts []string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	for _, part := range parts {
		in, err := os.Open(part)
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		_, err = io.Copy(out, in)
		in.Close()
		if err != nil {
			return fmt.Errorf("archive %s: %w", part, err)
		}
	}
	return out.Close()
}

// dump stops the machine, writes its memory and what QEMU knows of it, and lets it go on.
func (vm *machine) dump(dir string) error {
	// QEMU has a working directory of its own.
	path, err := filepath.Abs(filepath.Join(dir, "mem.elf"))
	if err != nil {
		return err
	}
	if _, err := vm.monitor.execute("stop", nil); err != nil {
		return err
	}
	for file, line := range map[string]string{"registers.txt": "info registers -a", "memory-map.txt": "info mtree -f"} {
		text, err := vm.monitor.human(line)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o666); err != nil {
			return err
		}
	}
	if _, err := vm.monitor.execute("dump-guest-memory", map[string]any{"paging": false, "protocol": "file:" + path}); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o644); err != nil { // QEMU makes it 0400
		return err
	}
	_, err = vm.monitor.execute("cont", nil)
	return err
}

func (vm *machine) kill() {
	// It has no state worth keeping; what it said is in the log.
	_ = vm.cmd.Process.Kill()
	_ = vm.cmd.Wait()
	for _, c := range vm.closers {
		c.Close()
	}
}
