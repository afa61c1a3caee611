package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/memory"
	"github.com/hybridbridge/emu/core/session"
	"github.com/hybridbridge/emu/cpu"
)

// Placement says where the trusted kernel and the RAM of its machine lie. The zero value is a kernel at the virtual addresses for
// which it was linked, with 4-level page tables and without page-table isolation.
type Placement struct {
	// Shifts places the kernel; nil leaves it where it was linked. The PhysBase of a 64-bit kernel is not looked at: its image is
	// where RAM begins.
	Shifts *boot.Shifts `json:"shifts,omitempty"`
	// LA57 gives a 64-bit kernel 5-level page tables.
	LA57 bool `json:"la57,omitempty"`
	// PTI switches page-table isolation on.
	PTI bool `json:"pti,omitempty"`
	// Memory, if larger than the image's, is the size of RAM in bytes: a 32-bit kernel lies within it, and its addresses depend
	// on it.
	Memory uint64 `json:"memory,omitempty"`
	// MemoryAbove is the physical address from which a 64-bit machine has RAM, beside the first MiB: a power of two from
	// DefaultMemoryAbove, which 0 stands for. See Above.
	MemoryAbove uint64 `json:"memory_above,omitempty"`
	// Modules are loaded beyond the image's own, in this order but after those that they need: FindModules.
	Modules []string `json:"modules,omitempty"`
}

// DefaultMemoryAbove is where the RAM of a 64-bit trusted VM begins, unless the snapshot uses higher addresses.
const DefaultMemoryAbove = 64 << 30

// ErrTooLarge is wrapped by errors about a snapshot whose physical addresses leave none for the trusted VM.
var ErrTooLarge = errors.New("the snapshot's memory reaches too high")

// Above returns the MemoryAbove for a snapshot whose physical addresses end at end, beside which a trusted VM with size bytes of
// RAM has room.
func Above(end, size uint64) (uint64, error) {
	above := uint64(DefaultMemoryAbove)
	for above < end && above < machine.BeyondBase {
		above <<= 1
	}
	if above+size > machine.BeyondBase {
		return 0, fmt.Errorf("%w: to %#x; the trusted VM's %d MiB must lie above the next power of two, and below %#x",
			ErrTooLarge, end, size>>20, uint64(machine.BeyondBase))
	}
	return above, nil
}

// modelChanges leave the processor of 64-bit trusted VMs what every KVM has: docs/decisions/trusted-images.md. Global pages end later,
// see endGlobalPages.
const modelChanges = "-pcid,-invpcid,-rdseed,-tsc_deadline_timer"

// key names a placement in file names.
func (p Placement) key() (string, error) {
	if p.Shifts != nil && *p.Shifts == (boot.Shifts{}) {
		p.Shifts = nil
	}
	if p.MemoryAbove == DefaultMemoryAbove {
		p.MemoryAbove = 0
	}
	j, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(j))[:16], nil
}

// bootBudget bounds a boot, in instructions. A large kernel takes a tenth.
const bootBudget = 40_000_000_000

// Progress is told what is being done, in a few words. It may be nil.
type Progress func(what string)

func (p Progress) say(format string, args ...any) {
	if p != nil {
		p(fmt.Sprintf(format, args...))
	}
}

// State returns the path of a saved machine for a placement, to be opened by package session. If there is none yet, the kernel
// is booted, in some seconds. Of several processes that want the same one boots. The last 8 that were used are kept.
func (i *Image) State(ctx context.Context, p Placement, progress Progress) (string, error) {
	key, err := p.key()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(i.Dir, dirStates)
	path := filepath.Join(dir, key+".snapshot")
	if used(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(dir, key+".lock"), progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if used(path) {
		return path, nil
	}
	s, err := i.boot(ctx, p, progress)
	if err != nil {
		return "", fmt.Errorf("trusted image %s: %w", i.ID, err)
	}
	err = i.unchanged()
	if err == nil {
		err = i.save(s, p, path)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return "", err
	}
	return path, dropOld(dir)
}

// used reports whether there is a state, and makes it the one that was used last.
func used(path string) bool {
	now := time.Now()
	return os.Chtimes(path, now, now) == nil
}

// keptStates is how many saved machines of an image stay. Each snapshot of a randomised kernel needs one of its own, of about
// half the size of the trusted VM's RAM.
const keptStates = 8

// dropOld removes the states that were not used for longest.
func dropOld(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.snapshot"))
	if err != nil || len(paths) <= keptStates {
		return err
	}
	at := map[string]time.Time{}
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			at[p] = st.ModTime()
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return at[b].Compare(at[a]) })
	for _, p := range paths[keptStates:] {
		for _, file := range []string{p, strings.TrimSuffix(p, ".snapshot") + ".json", filepath.Join(filepath.Dir(dir), fmt.Sprintf("%s.%d.cache", writtenName(p), writtenVersion))} {
			// Another process may do the same.
			if e := os.Remove(file); e != nil && !errors.Is(e, os.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}

// unchanged makes sure that the image was not replaced since it was opened: a state of another kernel would be taken for one of
// the new image.
func (i *Image) unchanged() error {
	now, err := readInfo(i.Dir)
	if err == nil && !now.Created.Equal(i.Created) {
		err = fmt.Errorf("trusted image %s was replaced while it was used; try again", i.ID)
	}
	return err
}

// save writes the machine, and beside it what it is.
func (i *Image) save(s *session.Session, p Placement, path string) error {
	j, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(strings.TrimSuffix(path, ".snapshot")+".json", append(j, '\n'), 0o644); err != nil {
		return err
	}
	return s.Machine().SavePlain(path)
}

// boot boots the image's kernel until its agent waits.
func (i *Image) boot(ctx context.Context, p Placement, progress Progress) (*session.Session, error) {
	kernel, err := os.ReadFile(i.KernelPath())
	if err != nil {
		return nil, err
	}
	initramfs, err := os.ReadFile(filepath.Join(i.Dir, fileInitramfs))
	if err != nil {
		return nil, err
	}
	if len(p.Modules) > 0 {
		more, err := i.moreModules(p.Modules)
		if err != nil {
			return nil, err
		}
		// Archives begin at multiples of 4 bytes (Documentation/driver-api/early-userspace/buffer-format.rst).
		initramfs = append(initramfs, make([]byte, -len(initramfs)&3)...)
		initramfs = append(initramfs, more...)
	}
	c := machine.Config{
		MemorySize: max(i.Memory, p.Memory), Kernel: kernel, Initrd: initramfs, CommandLine: i.CommandLine, Shifts: &boot.Shifts{},
	}
	if p.Shifts != nil {
		c.Shifts = p.Shifts
	}
	if i.Bits == 64 {
		if err := disjoint(&c, p.MemoryAbove); err != nil {
			return nil, err
		}
		features := modelChanges
		if p.LA57 {
			features += ",+la57"
		}
		if c.CPU.Features, c.CPU.Model, err = cpu.ParseModel(features); err != nil {
			return nil, err
		}
	}
	if p.PTI {
		c.CommandLine += " pti=on"
	} else {
		c.CommandLine += " pti=off"
	}
	progress.say("booting %s", i.Kernel)
	s, err := session.Boot(ctx, c, session.Config{Budget: bootBudget, Console: io.Discard})
	if err != nil || i.Bits == 32 {
		return s, err
	}
	if err := endGlobalPages(s.Machine()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// disjoint puts RAM, and the kernel with it, above a physical address.
func disjoint(c *machine.Config, above uint64) error {
	above, err := Above(above, c.MemorySize)
	if err != nil {
		return err
	}
	kernel, err := boot.Parse(c.Kernel)
	if err != nil {
		return err
	}
	shifts := kernel.At(*c.Shifts, above)
	c.Shifts = &shifts
	c.Layout, err = memory.Disjoint(c.MemorySize, above, memory.Options{})
	return err
}

// lock waits until this process alone has the lock that a file stands for.
func lock(ctx context.Context, path string, progress Progress) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	told := false
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			progress.say("waiting for another emu")
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
