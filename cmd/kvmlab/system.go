package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hybridbridge/emu/core/image/debian"
	"github.com/hybridbridge/emu/core/image/initramfs"
)

// modules of the kernel, each with what it depends on.
var modules = []string{"virtio_pci", "virtio_console", "virtio_blk", "kvm-amd"}

// system returns the kernel, and an initial RAM disk made in the folder work.
func (l *lab) system(work string) (kernel, initrd string, err error) {
	dir := filepath.Join(l.guests, "kernels", "cloud-6.1")
	name, err := os.ReadFile(filepath.Join(dir, "package"))
	if err != nil {
		return "", "", fmt.Errorf("the lab's kernel: %w; run make guest-cloud-6.1, or name the folder with --guests", err)
	}
	kept, err := keepModules(filepath.Join(l.guests, "debs", strings.TrimSpace(string(name))), filepath.Join(l.guests, "kvmlab"))
	if err != nil {
		return "", "", err
	}
	drivers, err := os.ReadFile(kept)
	if err != nil {
		return "", "", err
	}
	var t initramfs.Tree
	if err := addPrograms(&t); err != nil {
		return "", "", err
	}
	b := bytes.NewBuffer(drivers)
	if err := t.Write(b); err != nil {
		return "", "", err
	}
	initrd = filepath.Join(work, "initrd")
	return filepath.Join(dir, "vmlinuz"), initrd, os.WriteFile(initrd, b.Bytes(), 0o644)
}

// addPrograms adds this program as init, and busybox with a link for each of its commands.
func addPrograms(t *initramfs.Tree) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w; make setup installs it", err)
	}
	for file, name := range map[string]string{self: "init", busybox: "bin/busybox"} {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			return fmt.Errorf("%s is not static; build kvmlab with CGO_ENABLED=0, install busybox-static", file)
		}
		t.AddFile(name, 0o755, b)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("busybox --list: %w", err)
	}
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			t.AddLink("bin/"+a, "busybox")
		}
	}
	t.AddDir("root", 0o700)
	t.AddFile("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	t.AddFile("etc/group", 0o644, []byte("root:x:0:\n"))
	t.AddFile("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n"))
	return nil
}

// keepModules returns a cpio archive in the folder cache with the modules of a kernel's package, made if it is not there yet.
func keepModules(deb, cache string) (string, error) {
	kept := filepath.Join(cache, strings.TrimSuffix(filepath.Base(deb), ".deb")+".cpio")
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tree, err := os.MkdirTemp(cache, "new")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tree)
	release := ""
	err = debian.Walk(deb, func(e debian.Entry, r io.Reader) error {
		name, ok := strings.CutPrefix(strings.TrimPrefix(e.Name, "usr/"), "lib/modules/")
		base := path.Base(name)
		if !ok || !e.FileInfo().Mode().IsRegular() || !initramfs.IsModule(base) && base != "modules.builtin" {
			return nil
		}
		release, _, _ = strings.Cut(name, "/")
		f, err := os.Create(filepath.Join(tree, base))
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return "", err
	}
	m, err := initramfs.OpenModules(os.DirFS(tree))
	if err != nil {
		return "", err
	}
	var t initramfs.Tree
	order, err := t.AddModules(m, release, modules)
	if err != nil {
		return "", fmt.Errorf("%s: %w", deb, err)
	}
	t.AddFile(moduleList, 0o644, []byte(strings.Join(order, "\n")))
	var b bytes.Buffer
	if err := t.Write(&b); err != nil {
		return "", err
	}
	whole := filepath.Join(tree, "modules.cpio")
	if err := os.WriteFile(whole, b.Bytes(), 0o644); err != nil {
		return "", err
	}
	return kept, os.Rename(whole, kept)
}

// disks makes an ext4 image for each folder of l.dirs, and one for all files.
func (l *lab) disks(ctx context.Context, work string) (images []string, mounts []mount, err error) {
	files := filepath.Join(work, "files")
	make := func(dir string) (string, error) {
		image := filepath.Join(work, "disk"+strconv.Itoa(len(images)))
		images = append(images, image)
		return filepath.Base(image), makeDisk(ctx, dir, image)
	}
	fileCount := 0
	for _, d := range l.dirs {
		info, err := os.Stat(d[0])
		if err != nil {
			return nil, nil, err
		}
		if info.IsDir() {
			serial, err := make(d[0])
			if err != nil {
				return nil, nil, err
			}
			mounts = append(mounts, mount{Serial: serial, Target: d[1]})
			continue
		}
		if err := os.MkdirAll(files, 0o755); err != nil {
			return nil, nil, err
		}
		name := strconv.Itoa(fileCount)
		fileCount++
		if err := linkOrCopy(d[0], filepath.Join(files, name)); err != nil {
			return nil, nil, err
		}
		mounts = append(mounts, mount{File: name, Target: d[1]})
	}
	if fileCount > 0 {
		serial, err := make(files)
		if err != nil {
			return nil, nil, err
		}
		for i := range mounts {
			if mounts[i].Serial == "" {
				mounts[i].Serial = serial
			}
		}
	}
	return images, mounts, nil
}

// makeDisk makes an ext4 image of a folder, with room for as much again and 64 MiB; the image is sparse.
func makeDisk(ctx context.Context, dir, image string) error {
	size, inodes := int64(64<<20), 1024
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += 2 * (info.Size() + 4096)
			inodes += 2
		}
		return err
	})
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0,lazy_itable_init=1,nodiscard",
		"-N", strconv.Itoa(inodes), "-d", dir, image, strconv.FormatInt(size>>10, 10)+"k")
	c.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/sbin:/usr/sbin")
	if c.Err != nil {
		c.Path, c.Err = "/sbin/mke2fs", nil
	}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("a disk of %s: mke2fs: %w: %s", dir, err, bytes.TrimSpace(out))
	}
	return nil
}

// linkOrCopy makes a second name of a file, or a copy where that is not possible.
func linkOrCopy(from, to string) error {
	if from, err := filepath.EvalSymlinks(from); err == nil && os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
