// Command kvmlab gives programs a /dev/kvm on machines that have none: QEMU's software emulation of AMD SVM runs Debian's cloud
// kernel with its KVM, and the program in that. Output and exit code pass through.
//
//	kvmlab run --dir results:/data -- ls /data
//	go test -tags kvm -exec 'kvmlab exec' ./kvmaccel
//	kvmlab usable && echo 'this machine has a /dev/kvm'
//
// See docs/kvm.md. The same program is the init of the virtual machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Exit codes of kvmlab's own: those of timeout(1) and docker-run(1).
const (
	exitTimeout = 124
	exitFailed  = 125
)

const usage = `usage: kvmlab run [FLAGS] [--] COMMAND...    a command in the lab; it has busybox and what --dir brings
       kvmlab exec [FLAGS] [--] PROGRAM...   a program of this machine in this folder: directly if /dev/kvm works here, or in the lab
       kvmlab usable                         whether /dev/kvm works here: exit code 0, or the reason
flags:
`

func main() {
	if os.Getpid() == 1 {
		guestMain()
	}
	runtime.LockOSThread() // QEMU dies with the thread that started it
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kvmlab:", err)
	}
	os.Exit(code)
}

// run does what the command line says and returns the exit code.
func run(args []string) (int, error) {
	l := lab{env: []string{"HOME=/root", "PATH=/bin:/sbin:/usr/bin:/usr/sbin", "TERM=dumb", "USER=root"}}
	f := flag.NewFlagSet("kvmlab", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), usage)
		f.PrintDefaults()
	}
	f.Func("dir", "`HOST[:GUEST]`: a copy of this folder or file in the lab, writable; repeat it for more", l.addDir)
	f.Func("out", "`GUEST:HOST`: copy this folder or file of the lab into this folder after the command; repeat it for more", l.addOut)
	f.Func("env", "`NAME[=VALUE]`: a variable for the command; repeat it for more", func(s string) error {
		if !strings.Contains(s, "=") {
			s += "=" + os.Getenv(s)
		}
		l.env = append(l.env, s)
		return nil
	})
	f.StringVar(&l.workDir, "workdir", "/", "the command's working folder in the lab")
	f.StringVar(&l.guests, "guests", defaultGuests(), "the `folder` that make guest-cloud-6.1 fills")
	f.StringVar(&l.cpu, "cpu", "max,la57=off,erms=off,fsrm=off", "QEMU's processor `model`; page tables of five levels and string instructions said to be fast make everything slower")
	f.IntVar(&l.memory, "memory", 2048, "`MiB` of memory")
	f.IntVar(&l.cpus, "cpus", 1, "processors")
	f.DurationVar(&l.timeout, "timeout", 15*time.Minute, "limit for it all")
	f.BoolVar(&l.verbose, "verbose", false, "print the kernel's messages on stderr")
	verb := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0, nil
		}
		return exitFailed, errors.New("see kvmlab --help")
	}
	l.argv = f.Args()
	switch verb {
	case "usable":
		if err := kvmUsable(); err != nil {
			return 1, err
		}
		return 0, nil
	case "exec":
		if len(l.argv) == 0 {
			return exitFailed, errors.New("exec: which program? See kvmlab --help")
		}
		program, err := exec.LookPath(l.argv[0])
		if err != nil {
			return exitFailed, err
		}
		if kvmUsable() == nil {
			return exitFailed, syscall.Exec(program, l.argv, os.Environ())
		}
		if program, err = filepath.Abs(program); err != nil {
			return exitFailed, err
		}
		if l.workDir, err = os.Getwd(); err != nil {
			return exitFailed, err
		}
		l.argv[0] = program
		if err := errors.Join(l.addDir(l.workDir), l.addDir(program)); err != nil {
			return exitFailed, err
		}
	case "run":
		if len(l.argv) == 0 {
			return exitFailed, errors.New("run: which command? See kvmlab --help")
		}
	default:
		return exitFailed, fmt.Errorf("no such command: %q; see kvmlab --help", verb)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return l.run(ctx)
}

// defaultGuests is the cache of guests that the Makefile uses.
func defaultGuests() string {
	if dir := os.Getenv("GUESTS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "emu", "guests")
}
