package block

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// slice is how many of n cases a test does: all if EMU_LONG is set.
func slice(n int) int {
	if os.Getenv("EMU_LONG") != "" {
		return n
	}
	return (n + 4) / 5
}

func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed (Debian package qemu-utils)")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func mustOpen(t testing.TB, path string, o Options) Disk {
	t.Helper()
	d, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func closeDisk(t testing.TB, d Disk) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// pattern is what nothing else looks like.
func pattern(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if r.IntN(3) == 0 { // compressible
		for i := range b {
			b[i] = byte(i >> 8)
		}
	}
	return b
}

// exercise does random reads and writes and compares with a model. It returns the model.
func exercise(t testing.TB, d Disk, model []byte, seed uint64, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		off := uint64(r.IntN(len(model)/512)) * 512
		size := min(uint64(1+r.IntN(64))*512, uint64(len(model))-off)
		if r.IntN(10) == 0 {
			size = min(uint64(r.IntN(1<<20))&^511, uint64(len(model))-off)
		}
		if r.IntN(2) == 0 {
			p := pattern(r, int(size))
			if err := d.WriteAt(p, off); err != nil {
				t.Fatal(err)
			}
			copy(model[off:], p)
		} else {
			p := make([]byte, size)
			if err := d.ReadAt(p, off); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p, model[off:off+size]) {
				t.Fatalf("step %d: read at %#x+%#x differs", i, off, size)
			}
		}
		if r.IntN(40) == 0 {
			if err := d.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func compare(t testing.TB, d Disk, model []byte) {
	t.Helper()
	p := make([]byte, d.Size())
	if err := d.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p[:len(model)], model) {
		for i := range model {
			if p[i] != model[i] {
				t.Fatalf("differs at %#x", i)
			}
		}
	}
}

func TestRaw(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	model := make([]byte, 4<<20)
	if err := os.WriteFile(path, model[:len(model)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, path, Options{})
	if _, err := Open(path, Options{}); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	exercise(t, d, model, 1, slice(300))
	if err := d.WriteAt([]byte("QFI\xfbxxxx"), 0); err == nil {
		t.Error("a guest made its disk a qcow2 image")
	}
	if err := d.ReadAt(make([]byte, 512), uint64(len(model))); !errors.Is(err, ErrBounds) {
		t.Error(err)
	}
	closeDisk(t, d)
	before, _ := os.ReadFile(path)
	d = mustOpen(t, path, Options{Snapshot: true})
	after := bytes.Clone(model)
	exercise(t, d, after, 2, slice(300))
	state, err := json.Marshal(d.(*Overlay).SaveState())
	if err != nil {
		t.Fatal(err)
	}
	closeDisk(t, d)
	if now, _ := os.ReadFile(path); !bytes.Equal(now, before) {
		t.Error("the file changed under a snapshot")
	}
	d = mustOpen(t, path, Options{Snapshot: true})
	if err := d.(*Overlay).LoadState(func(v any) error { return json.Unmarshal(state, v) }); err != nil {
		t.Fatal(err)
	}
	compare(t, d, after)
	closeDisk(t, d)
	d = mustOpen(t, path, Options{ReadOnly: true})
	if err := d.WriteAt(model[:512], 0); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	compare(t, d, model)
	closeDisk(t, d)
	m := NewMemory(1000)
	if m.Size() != 1024 {
		t.Error(m.Size())
	}
	exercise(t, m, make([]byte, 1024), 3, 100)
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	image := func(change func(b []byte)) []byte {
		p := filepath.Join(dir, "x")
		_ = os.Remove(p)
		if err := CreateQcow2(p, 1<<20, CreateOptions{Backing: "base", BackingFormat: "raw", ClusterBits: 9}); err != nil {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(p)
		if change != nil {
			change(b)
		}
		return b
	}
	loop := filepath.Join(dir, "loop")
	if err := CreateQcow2(loop, 1<<20, CreateOptions{Backing: "loop", BackingFormat: "qcow2"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		o    Options
		text string
	}{
		{filepath.Join(dir, "none"), Options{}, "no such file"},
		{dir, Options{ReadOnly: true}, "must be a file"},
		{"/dev/null", Options{}, "must be a file"},
		{file("empty", nil), Options{}, "empty"},
		{file("raw", make([]byte, 512)), Options{Format: "qcow2"}, "not a qcow2"},
		{file("raw", make([]byte, 512)), Options{Format: "vmdk"}, "unknown disk format"},
		{file("short", []byte("QFI\xfb")), Options{}, "truncated"},
		{file("a", image(func(b []byte) { b[7] = 4 })), Options{}, "version 4"},
		{file("b", image(func(b []byte) { b[35] = 2 })), Options{}, "encrypted (LUKS)"},
		{file("c", image(func(b []byte) { b[79] = 4 })), Options{}, "external file"},
		{file("d", image(func(b []byte) { b[79] = 16 })), Options{}, "extended L2"},
		{file("e", image(func(b []byte) { b[79] = 32 })), Options{}, "unknown features"},
		{file("f", image(func(b []byte) { b[79] = 1 })), Options{}, "not closed properly"},
		{file("g", image(func(b []byte) { b[79] = 2 })), Options{}, "corrupt"},
		{file("h", image(func(b []byte) { b[23] = 30 })), Options{}, "cluster size"},
		{file("i", image(func(b []byte) { b[24] = 0x10 })), Options{}, "too few"},
		{file("j", image(func(b []byte) { b[39] = 1 })), Options{}, "too few"},
		{file("k", image(nil)), Options{}, "base"},
		{file("l", image(nil)[:1600]), Options{}, "truncated"},
		{file("m", image(func(b []byte) { copy(b[be.Uint64(b[8:]):], "nbd:") })), Options{}, "protocol"},
		{loop, Options{}, "back to itself"},
		{loop, Options{ReadOnly: true}, "back to itself"},
	} {
		if _, err := Open(c.path, c.o); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", filepath.Base(c.path), err, c.text)
		}
	}
}

// TestQcow2Own makes images here, and has qemu-img judge them.
func TestQcow2Own(t *testing.T) {
	for _, v := range []int{2, 3} {
		for _, bits := range []uint{9, 12, 16, 21} {
			t.Run(fmt.Sprintf("v%d-%d", v, bits), func(t *testing.T) {
				if slice(2) == 1 && v == 2 && bits != 9 {
					t.Skip("cluster sizes are tested with version 3; EMU_LONG is not set")
				}
				path := filepath.Join(t.TempDir(), "disk")
				model := make([]byte, 16<<20)
				if err := CreateQcow2(path, uint64(len(model)), CreateOptions{ClusterBits: bits, Version: v}); err != nil {
					t.Fatal(err)
				}
				for round := range uint64(slice(3)) {
					d := mustOpen(t, path, Options{})
					exercise(t, d, model, round, slice(200))
					closeDisk(t, d)
					qemuImg(t, "check", path)
				}
				raw := path + ".raw"
				if err := os.WriteFile(raw, model, 0o600); err != nil {
					t.Fatal(err)
				}
				qemuImg(t, "compare", path, raw)
			})
		}
	}
}

// TestQcow2Foreign changes images that qemu-img made, with all that it puts into them.
func TestQcow2Foreign(t *testing.T) {
	size := slice(5) * 8 << 20 / 5 &^ (1<<16 - 1)
	r := rand.New(rand.NewPCG(7, 7))
	base := make([]byte, size)
	for i := 0; i < size; i += 1 << 16 {
		if r.IntN(2) == 0 {
			copy(base[i:], pattern(r, 1<<16))
		}
	}
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	if err := os.WriteFile(raw, base, 0o600); err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, size)
	for _, c := range []struct {
		name  string
		model []byte
		make  func(p string)
	}{
		{"zlib", base, func(p string) { qemuImg(t, "convert", "-c", "-O", "qcow2", raw, p) }},
		{"zlib-v2", base, func(p string) { qemuImg(t, "convert", "-c", "-O", "qcow2", "-o", "compat=0.10", raw, p) }},
		{"zlib-512", base, func(p string) { qemuImg(t, "convert", "-c", "-O", "qcow2", "-o", "cluster_size=512", raw, p) }},
		{"zstd", base, func(p string) { qemuImg(t, "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", raw, p) }},
		{"zstd-2M", base, func(p string) {
			qemuImg(t, "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd,cluster_size=2M", raw, p)
		}},
		{"plain", base, func(p string) { qemuImg(t, "convert", "-O", "qcow2", raw, p) }},
		{"refcount1", base, func(p string) { qemuImg(t, "convert", "-O", "qcow2", "-o", "refcount_bits=1", raw, p) }},
		{"refcount64", base, func(p string) {
			qemuImg(t, "convert", "-O", "qcow2", "-o", "refcount_bits=64,cluster_size=512", raw, p)
		}},
		{"metadata", zero, func(p string) {
			qemuImg(t, "create", "-f", "qcow2", "-o", "preallocation=metadata", p, fmt.Sprint(size))
		}},
		{"backing-raw", base, func(p string) { qemuImg(t, "create", "-f", "qcow2", "-b", "raw", "-F", "raw", p) }},
		{"backing-chain", base, func(p string) {
			qemuImg(t, "convert", "-c", "-O", "qcow2", raw, p+".base")
			qemuImg(t, "create", "-f", "qcow2", "-b", p+".base", "-F", "qcow2", p+".mid")
			qemuImg(t, "create", "-f", "qcow2", "-b", p+".mid", "-F", "qcow2", p, fmt.Sprint(size*2))
		}},
		{"snapshots", base, func(p string) {
			qemuImg(t, "convert", "-O", "qcow2", raw, p)
			qemuImg(t, "snapshot", "-c", "one", p)
			qemuImg(t, "snapshot", "-c", "two", p)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if slice(2) == 1 && (c.name == "zlib-v2" || c.name == "zstd-2M" || c.name == "plain" || c.name == "backing-raw") {
				t.Skip("another case covers most of it; EMU_LONG is not set")
			}
			p := filepath.Join(dir, c.name)
			c.make(p)
			model := bytes.Clone(c.model)
			d := mustOpen(t, p, Options{ReadOnly: true})
			compare(t, d, model)
			closeDisk(t, d)
			for round := range uint64(slice(2)) {
				d = mustOpen(t, p, Options{})
				model = append(model, make([]byte, int(d.Size())-len(model))...)
				exercise(t, d, model, round+9, slice(150))
				closeDisk(t, d)
				qemuImg(t, "check", p)
			}
			after := filepath.Join(dir, "after")
			if err := os.WriteFile(after, model, 0o600); err != nil {
				t.Fatal(err)
			}
			qemuImg(t, "compare", p, after)
			if c.name == "snapshots" {
				qemuImg(t, "snapshot", "-a", "one", p)
				qemuImg(t, "compare", p, raw)
			}
		})
	}
}

// TestQcow2Crash copies the file at random moments, as a crash would leave it, and looks whether what was flushed is there.
func TestQcow2Crash(t *testing.T) {
	dir := t.TempDir()
	p, crash := filepath.Join(dir, "disk"), filepath.Join(dir, "crash")
	if err := CreateQcow2(p, 4<<20, CreateOptions{ClusterBits: 12}); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, p, Options{})
	r := rand.New(rand.NewPCG(1, 1))
	model := make([]byte, 4<<20)
	for round := range slice(20) {
		// Flushed data in the lower half; later writes only in the upper half.
		exercise(t, d, model[:2<<20], uint64(round), 30)
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
		for range r.IntN(100) {
			if err := d.WriteAt(pattern(r, 512), 2<<20+uint64(r.IntN(4096))*512); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(crash, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := mustOpen(t, crash, Options{})
		got := make([]byte, 2<<20)
		if err := c.ReadAt(got, 0); err != nil || !bytes.Equal(got, model[:2<<20]) {
			t.Fatal("flushed data is gone", err)
		}
		closeDisk(t, c)
		// Exit status 3 is leaks only.
		if _, err := exec.LookPath("qemu-img"); err == nil {
			var exit *exec.ExitError
			if out, err := exec.Command("qemu-img", "check", crash).CombinedOutput(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	closeDisk(t, d)
	qemuImg(t, "check", p)
}

// TestQcow2Grow makes the refcount table move.
func TestQcow2Grow(t *testing.T) {
	p := filepath.Join(t.TempDir(), "disk")
	// A table of one 512-byte cluster has 64 blocks of 256 clusters: 8 MiB.
	if err := CreateQcow2(p, 40<<20, CreateOptions{ClusterBits: 9}); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, p, Options{})
	b := bytes.Repeat([]byte{0xaa}, 1<<20)
	size := max(uint64(slice(40)), 10)
	for i := range size {
		if err := d.WriteAt(b, i<<20); err != nil {
			t.Fatal(err)
		}
	}
	closeDisk(t, d)
	qemuImg(t, "check", p)
	d = mustOpen(t, p, Options{ReadOnly: true})
	compare(t, d, bytes.Repeat(b, int(size)))
	closeDisk(t, d)
}

func FuzzQcow2(f *testing.F) {
	dir := f.TempDir()
	for i, bits := range []uint{9, 12} {
		p := filepath.Join(dir, fmt.Sprint(i))
		if err := CreateQcow2(p, 1<<20, CreateOptions{ClusterBits: bits, Version: 2 + i}); err != nil {
			f.Fatal(err)
		}
		d := mustOpen(f, p, Options{})
		if err := d.WriteAt(bytes.Repeat([]byte("data"), 128), 4096); err != nil {
			f.Fatal(err)
		}
		closeDisk(f, d)
		b, _ := os.ReadFile(p)
		f.Add(b)
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		be.PutUint64(b[len(b)-1024:], 1<<62|0x400)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, o := range []Options{{Format: "qcow2", Snapshot: true}, {Format: "qcow2"}} {
			d, err := Open(p, o)
			if err != nil {
				continue
			}
			buf := make([]byte, 512)
			for i := range uint64(16) {
				off := min(i*i*4096, d.Size()-512)
				_ = d.ReadAt(buf, off)
				_ = d.WriteAt(buf, off)
			}
			_ = d.Close()
		}
	})
}
