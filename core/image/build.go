package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/image/debian"
	"github.com/hybridbridge/emu/core/image/initramfs"
	"github.com/hybridbridge/emu/core/session"
)

// DefaultTools are the packages of the toolbox.
var DefaultTools = []string{
	"bash", "coreutils", "grep", "mawk", "procps", "psmisc", "kmod", "iproute2", "net-tools", "lsof", "sysstat", "util-linux",
	"busybox-static", "hostname", "sed", "findutils", "mount", "bsdutils", "util-linux-extra", "ncurses-base",
}

// DefaultModules are the kernel modules that are loaded: those that ss calls, and loop, whose files in /sys mount and losetup
// read.
var DefaultModules = []string{
	"inet_diag", "tcp_diag", "udp_diag", "raw_diag", "unix_diag", "netlink_diag", "af_packet_diag", "loop",
}

// DefaultMemory is the trusted VM's RAM in bytes.
const DefaultMemory = 256 << 20

// busybox is what init and agent need.
const busybox = "busybox-static"

//go:embed init.sh
var initScript []byte

// Options says what an image is made from.
type Options struct {
	// Kernel is the path of a Debian package or of a kernel image (bzImage or vmlinux), or the name of a package of a kernel or
	// of one that depends on a kernel, with ":ARCH" at the end if it is not amd64.
	Kernel string
	// ModuleDir is lib/modules/RELEASE for a kernel that is given as an image; "" means that there are no modules.
	ModuleDir string
	// Debug is a Debian package or a vmlinux with debugging information, from which types and symbols are taken. If it is "" and
	// the kernel has no types of its own, Debian's package is fetched.
	Debug string
	// Tools are names of Debian packages; nil means DefaultTools. Not used with Root.
	Tools []string
	// Root is a folder whose files are the toolbox.
	Root string
	// Modules are the kernel modules to load; nil means DefaultModules.
	Modules []string
	// Name is the image's ID; "" means the kernel's release.
	Name string
	// Memory is the size of RAM in bytes; 0 means DefaultMemory.
	Memory uint64
}

// Build makes an image: it boots the kernel and saves the machine for the zero Placement. An image of the same name is replaced.
func (s *Store) Build(ctx context.Context, o Options, progress Progress) (*Image, error) {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Tools == nil {
		o.Tools = DefaultTools
	}
	if o.Modules == nil {
		o.Modules = DefaultModules
	}
	if o.Name != "" {
		if err := checkID(o.Name); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.Dir, ".build-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := &builder{store: s, options: o, progress: progress, work: filepath.Join(dir, "work"), image: &Image{Dir: filepath.Join(dir, "image")}}
	for _, d := range []string{b.work, b.image.Dir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := b.build(ctx); err != nil {
		return nil, fmt.Errorf("trusted image of %s: %w", o.Kernel, err)
	}
	i := b.image
	to := filepath.Join(s.Dir, i.ID)
	if err := os.Rename(to, filepath.Join(dir, "replaced")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.Rename(i.Dir, to); err != nil {
		return nil, err
	}
	i.Dir = to
	return i, nil
}

// builder makes one image.
type builder struct {
	store    *Store
	options  Options
	progress Progress
	work     string
	image    *Image

	kernel    []byte
	moduleDir string // "" if there are no modules
}

func (b *builder) build(ctx context.Context) error {
	i, o := b.image, b.options
	i.Info = Info{
		Memory: o.Memory, Created: time.Now().UTC(), Tools: o.Tools, Modules: []string{}, Agent: session.AgentVersion,
		CommandLine: "console=ttyS0 quiet vdso=0 vdso32=0 randomize_kstack_offset=off panic=-1",
	}
	if err := b.findKernel(ctx); err != nil {
		return err
	}
	parsed, err := boot.Parse(b.kernel)
	if err != nil {
		return err
	}
	i.Bits = parsed.Bits
	b.progress.say("putting the toolbox together")
	tree, err := b.toolbox(ctx)
	if err != nil {
		return err
	}
	if err := b.addModules(tree); err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := tree.Write(&archive); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(i.Dir, fileInitramfs), archive.Bytes(), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(i.KernelPath(), b.kernel, 0o644); err != nil {
		return err
	}
	return b.boot(ctx)
}

// architecture is Debian's name of the kernel's.
func (b *builder) architecture() string {
	if b.image.Bits == 32 {
		return "i386"
	}
	return "amd64"
}

// withApt calls f with the packages of an architecture, while no other process uses them.
func (b *builder) withApt(ctx context.Context, arch string, f func(*debian.Apt) error) error {
	dir := filepath.Join(b.store.Cache, arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(dir, "emu.lock"), b.progress)
	if err != nil {
		return err
	}
	defer unlock()
	return f(&debian.Apt{Dir: dir, Architecture: arch})
}

// findKernel reads the kernel, and unpacks its modules if it is in a package.
func (b *builder) findKernel(ctx context.Context) error {
	file := b.options.Kernel
	_, err := os.Stat(file)
	switch {
	case err == nil && !strings.HasSuffix(file, ".deb"):
		b.image.Kernel, b.moduleDir = filepath.Base(file), b.options.ModuleDir
		b.kernel, err = os.ReadFile(file)
		return err
	case err != nil && (strings.ContainsAny(file, "/") || strings.HasSuffix(file, ".deb")):
		return err
	case err != nil:
		name, arch, ok := strings.Cut(file, ":")
		if !ok {
			arch = "amd64"
		}
		b.progress.say("fetching %s", name)
		err = b.withApt(ctx, arch, func(a *debian.Apt) (err error) {
			file, err = a.FetchKernel(ctx, name)
			return err
		})
		if err != nil {
			return err
		}
	}
	b.progress.say("unpacking %s", filepath.Base(file))
	return b.unpackKernel(file)
}

// unpackKernel takes kernel and modules out of a package.
func (b *builder) unpackKernel(file string) error {
	control, err := debian.ReadControl(file)
	if err != nil {
		return err
	}
	b.image.Kernel = fmt.Sprintf("%s %s %s", control.Package, control.Version, control.Architecture)
	err = debian.Walk(file, func(e debian.Entry, r io.Reader) error {
		name := strings.TrimPrefix(e.Name, "usr/")
		if !e.FileInfo().Mode().IsRegular() {
			return nil
		}
		if dir, base := path.Split(name); dir == "boot/" && strings.HasPrefix(base, "vmlinuz") {
			b.kernel, err = io.ReadAll(r)
			return err
		}
		release, ok := strings.CutPrefix(name, "lib/modules/")
		if !ok {
			return nil
		}
		release, _, _ = strings.Cut(release, "/")
		b.moduleDir = filepath.Join(b.work, "lib/modules", release)
		to := filepath.Join(b.work, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	})
	if err == nil && b.kernel == nil {
		err = fmt.Errorf("%s: there is no kernel in this package; if it only depends on one, give that one's name", file)
	}
	return err
}

// toolbox makes the tree of the tools and what init needs.
func (b *builder) toolbox(ctx context.Context) (*initramfs.Tree, error) {
	t := new(initramfs.Tree)
	arch, want := b.architecture(), b.options.Tools
	if b.options.Root != "" {
		if err := t.AddTree(b.options.Root); err != nil {
			return nil, err
		}
		b.image.Tools = []string{b.options.Root}
		if want = nil; !t.Has("bin/busybox") {
			want = []string{busybox}
		}
	} else if !slices.Contains(want, busybox) {
		want = append(slices.Clone(want), busybox)
	}
	if len(want) > 0 {
		var named, others []string
		err := b.withApt(ctx, arch, func(a *debian.Apt) (err error) {
			named, others, err = a.Fetch(ctx, want)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, f := range named {
			if err := t.AddPackage(f, false); err != nil {
				return nil, err
			}
		}
		if b.options.Root == "" {
			for _, f := range others {
				if err := t.AddPackage(f, true); err != nil {
					return nil, err
				}
			}
			if err := t.Prune(); err != nil {
				return nil, err
			}
		}
	}
	addSystem(t)
	return t, nil
}

// addModules adds the modules to be loaded, and keeps all for State.
func (b *builder) addModules(t *initramfs.Tree) error {
	if b.moduleDir == "" {
		listModules(t, nil)
		return nil
	}
	dir := os.DirFS(b.moduleDir)
	m, err := initramfs.OpenModules(dir)
	if err != nil {
		return err
	}
	order, err := t.AddModules(m, filepath.Base(b.moduleDir), b.options.Modules)
	if err != nil {
		return err
	}
	for _, m := range order {
		b.image.Modules = append(b.image.Modules, strings.TrimSuffix(path.Base(m), ".ko"))
	}
	listModules(t, order)
	return keepModules(dir, filepath.Join(b.image.Dir, fileModules))
}

// addSystem adds what every trusted VM has.
func addSystem(t *initramfs.Tree) {
	for _, d := range []string{"proc", "sys", "dev", "run", "mnt", "var/run", "var/log", "bin", "sbin"} {
		if !t.Has(d) {
			t.AddDir(d, 0o755)
		}
	}
	t.AddDir("tmp", 0o1777)
	t.AddDir("root", 0o700)
	for name, text := range map[string]string{
		"etc/passwd":        passwd,
		"etc/group":         group,
		"etc/hosts":         "127.0.0.1 localhost\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
		"etc/fstab":         "",
	} {
		if !t.Has(name) {
			t.AddFile(name, 0o644, []byte(text))
		}
	}
	if !t.Has("bin/sh") {
		if t.Has("bin/bash") {
			t.AddLink("bin/sh", "bash")
		} else {
			t.AddLink("bin/sh", "busybox")
		}
	}
	if !t.Has("etc/mtab") {
		t.AddLink("etc/mtab", "/proc/self/mounts")
	}
	// What update-alternatives makes when packages are installed.
	if t.Has("usr/bin/mawk") && !t.Has("usr/bin/awk") {
		t.AddLink("usr/bin/awk", "mawk")
	}
	t.AddFile("init", 0o755, initScript)
	t.AddFile("etc/trusted-agent", 0o644, session.Agent)
}

// boot boots the kernel, saves the machine and has the kernel say what it is.
func (b *builder) boot(ctx context.Context) error {
	i := b.image
	s, err := i.boot(ctx, Placement{}, b.progress)
	if err != nil {
		return err
	}
	defer s.Close()
	states := filepath.Join(i.Dir, dirStates)
	if err := os.Mkdir(states, 0o755); err != nil {
		return err
	}
	key, err := Placement{}.key()
	if err != nil {
		return err
	}
	if err := i.save(s, Placement{}, filepath.Join(states, key+".snapshot")); err != nil {
		return err
	}
	b.progress.say("asking the kernel for its symbols and types")
	banner, err := ask(ctx, s, "/proc/version")
	if err != nil {
		return err
	}
	i.Banner = strings.TrimSuffix(string(banner), "\n")
	release, err := ask(ctx, s, "/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	i.Release = strings.TrimSpace(string(release))
	btf, err := ask(ctx, s, "/sys/kernel/btf/vmlinux")
	switch {
	case errors.Is(err, errNoFile):
		// Such a kernel is known by its banner alone.
	case err != nil:
		return err
	default:
		i.BTFHash = fmt.Sprintf("%x", sha256.Sum256(btf))
		if err := os.WriteFile(i.BTFPath(), btf, 0o644); err != nil {
			return err
		}
	}
	for file, to := range map[string]string{"/proc/kallsyms": i.KallsymsPath(), "/sys/kernel/notes": i.NotesPath()} {
		text, err := ask(ctx, s, file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
	}
	if i.BTFHash == "" || b.options.Debug != "" {
		if err := b.addDebugInfo(ctx); err != nil {
			return err
		}
	}
	if i.ID = b.options.Name; i.ID == "" {
		i.ID = i.Release
	}
	j, err := json.MarshalIndent(i.Info, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(i.Dir, fileInfo), append(j, '\n'), 0o644)
}

// errNoFile says that the trusted kernel does not have a file.
var errNoFile = errors.New("the trusted kernel does not have that file")

// ask reads a file in the trusted VM.
func ask(ctx context.Context, s *session.Session, file string) ([]byte, error) {
	var out, complaint bytes.Buffer
	code, err := s.Run(ctx, session.Command{Argv: []string{"/bin/busybox", "cat", file}, Stdout: &out, Stderr: &complaint})
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, fmt.Errorf("%s: %w: %s", file, errNoFile, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}
