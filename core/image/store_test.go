package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/memory"
)

// put makes an image that cannot boot.
func put(t *testing.T, s *Store, id string, k Identity, created time.Time) *Image {
	t.Helper()
	dir := filepath.Join(s.Dir, id)
	j, err := json.Marshal(Info{ID: id, Identity: k, Created: created, Memory: DefaultMemory})
	if err == nil {
		err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, fileInfo), j, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestStore(t *testing.T) {
	s := &Store{Dir: filepath.Join(t.TempDir(), "images")}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Fatalf("a store that is not there: %v, %v", all, err)
	}
	one, two := Identity{"Linux one", "1"}, Identity{"Linux two", "2"}
	now := time.Now()
	put(t, s, "a", one, now.Add(-time.Hour))
	put(t, s, "b", two, now)
	put(t, s, "c", one, now)
	put(t, s, "d", one, now.Add(-2*time.Hour))
	if err := os.MkdirAll(filepath.Join(s.Dir, ".build-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(); err != nil || len(all) != 4 || all[1].ID != "b" || all[1].Identity != two {
		t.Errorf("%v, %v", all, err)
	}
	if i, err := s.Find(one); err != nil || i.ID != "c" {
		t.Errorf("the newest image of the kernel: %+v, %v", i, err)
	}
	if _, err := s.Find(Identity{"Linux one", "2"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a kernel of that banner with other types: %v", err)
	}
	if err := s.Remove("c"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open("c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a removed image: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, ".removed*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, id := range []string{"", ".", "..", "../a", "a/b", ".build-1", "a\nb", "a b"} {
		if _, err := s.Open(id); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("the name %q: %v", id, err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "b", fileInfo), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(); err == nil {
		t.Error("a damaged image is no error")
	}
}

func TestPlacementKeys(t *testing.T) {
	seen := map[string]Placement{}
	for _, p := range []Placement{
		{},
		{LA57: true},
		{PTI: true},
		{MemoryAbove: 128 << 30},
		{Shifts: &boot.Shifts{Text: 2 << 20}},
		{Shifts: &boot.Shifts{PhysBase: 2 << 20}},
		{Shifts: &boot.Shifts{Regions: boot.Regions{Vmalloc: 1 << 30}}},
		{Modules: []string{"veth"}},
		{Modules: []string{"veth", "tun"}},
	} {
		k, err := p.key()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[k]; ok {
			t.Errorf("%+v and %+v have one key", p, other)
		}
		seen[k] = p
	}
	zero, err := Placement{Shifts: &boot.Shifts{}, MemoryAbove: DefaultMemoryAbove}.key()
	if err != nil || !reflect.DeepEqual(seen[zero], Placement{}) {
		t.Error("shifts of zero and the least memory are not the zero placement")
	}
}

func TestAbove(t *testing.T) {
	for _, c := range []struct{ end, want uint64 }{
		{0, 64 << 30},
		{64 << 30, 64 << 30},
		{64<<30 + 1, 128 << 30},
		{512 << 30, 512 << 30},
	} {
		if got, err := Above(c.end, 256<<20); err != nil || got != c.want {
			t.Errorf("%#x: %#x %v, want %#x", c.end, got, err, c.want)
		}
	}
	for _, end := range []uint64{512<<30 + 1, 1 << 40, ^uint64(0)} {
		if got, err := Above(end, 256<<20); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%#x: %#x %v", end, got, err)
		}
	}
}

// TestStateIsFound takes a state that is there, and waits for one that another is making.
func TestStateIsFound(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	i := put(t, s, "a", Identity{"Linux", ""}, time.Now())
	key, err := Placement{}.key()
	if err != nil {
		t.Fatal(err)
	}
	states := filepath.Join(i.Dir, dirStates)
	if err := os.Mkdir(states, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(context.Background(), filepath.Join(states, key+".lock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	_, err = i.State(ctx, Placement{}, func(string) { cancel(errors.New("enough")) })
	if err == nil || err.Error() != "enough" {
		t.Errorf("waiting ends with %v", err)
	}
	want := filepath.Join(states, key+".snapshot")
	got, err := i.State(context.Background(), Placement{}, func(string) {
		if err := os.WriteFile(want, nil, 0o644); err != nil {
			t.Error(err)
		}
		unlock()
	})
	if err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	// Now there is no lock to wait for, but no kernel to boot either.
	if _, err := i.State(context.Background(), Placement{PTI: true}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an image without a kernel: %v", err)
	}
	put(t, s, "a", Identity{"Linux", ""}, time.Now())
	if err := i.unchanged(); err == nil {
		t.Error("an image that was replaced is the same")
	}
}

func TestBuildComplains(t *testing.T) {
	dir := t.TempDir()
	s := &Store{Dir: filepath.Join(dir, "images"), Cache: dir}
	file := filepath.Join(dir, "vmlinuz")
	if err := os.WriteFile(file, []byte("no kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"no such file":    {Kernel: filepath.Join(dir, "none")},
		"no such package": {Kernel: "./none.deb"},
		"no kernel":       {Kernel: file},
		"a bad name":      {Kernel: file, Name: "../x"},
	} {
		if _, err := s.Build(context.Background(), o, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if left, _ := os.ReadDir(s.Dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFindModules asks for modules as a snapshot may name them.
func TestFindModules(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	i := put(t, s, "a", Identity{"Linux", ""}, time.Now())
	names := []string{"veth", "../../etc/passwd"}
	if have, missing, err := i.FindModules(names); err != nil || have != nil || !slices.Equal(missing, names) {
		t.Errorf("without modules: %q, %q, %v", have, missing, err)
	}
	err := keepModules(fstest.MapFS{
		"kernel/net/veth.ko":      {},
		"kernel/net/nf-nat.ko.xz": {},
		"kernel/net/tcp_diag.ko":  {},
		"modules.builtin":         {Data: []byte("kernel/fs/ext4.ko\n")},
		"modules.dep":             {},
	}, filepath.Join(i.Dir, fileModules))
	if err != nil {
		t.Fatal(err)
	}
	i.Modules = []string{"tcp_diag"}
	have, missing, err := i.FindModules([]string{"nf_nat", "tcp_diag", "veth", "veth", "rootkit", "", "ve\nth", "../net/veth", strings.Repeat("x", 100)})
	if err != nil || !slices.Equal(have, []string{"nf_nat", "veth"}) || len(missing) != 5 {
		t.Errorf("%q, %q, %v", have, missing, err)
	}
}

func TestOldStatesGo(t *testing.T) {
	dir := t.TempDir()
	name := func(n int, suffix string) string { return filepath.Join(dir, string(rune('a'+n))+suffix) }
	for n := range keptStates + 3 {
		for _, suffix := range []string{".snapshot", ".json", ".lock"} {
			if err := os.WriteFile(name(n, suffix), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		then := time.Now().Add(time.Duration(n-100) * time.Hour)
		if err := os.Chtimes(name(n, ".snapshot"), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if !used(name(1, ".snapshot")) || used(name(keptStates+3, ".snapshot")) {
		t.Fatal("a state that is there is not found, or one that is not is")
	}
	if err := dropOld(dir); err != nil {
		t.Fatal(err)
	}
	for n := range keptStates + 3 {
		_, err := os.Stat(name(n, ".snapshot"))
		_, err2 := os.Stat(name(n, ".json"))
		if gone := n == 0 || n == 2 || n == 3; gone != (err != nil) || gone != (err2 != nil) {
			t.Errorf("state %d: %v, %v", n, err, err2)
		}
	}
}

// What is kept is what is cached, unless it is damaged, of another version or of an image that was made since.
func TestCache(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	now := time.Now()
	cached := func(i *Image, version int) []byte {
		b := i.Cached("x", version)
		m, done := i.Map("x", version)
		defer done()
		if !bytes.Equal(b, m) {
			t.Errorf("%q is read, and %q mapped", b, m)
		}
		return b
	}
	i := put(t, s, "a", Identity{Banner: "Linux"}, now)
	if b := cached(i, 1); b != nil {
		t.Errorf("%q", b)
	}
	i.Keep("x", 1, []byte("hello"))
	if b := i.Cached("x", 1); string(b) != "hello" {
		t.Errorf("%q", b)
	}
	if b := cached(i, 2); b != nil {
		t.Errorf("another version: %q", b)
	}
	if b := cached(put(t, s, "a", Identity{Banner: "Linux"}, now.Add(time.Second)), 1); b != nil {
		t.Errorf("another image: %q", b)
	}
	file, err := os.ReadFile(i.cachePath("x", 1))
	if err != nil {
		t.Fatal(err)
	}
	for n := range file {
		damaged := slices.Clone(file)
		damaged[n] ^= 4
		for _, b := range [][]byte{damaged, file[:n]} {
			if err := os.WriteFile(i.cachePath("x", 1), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if b := cached(i, 1); b != nil {
				t.Errorf("damaged at %d: %q", n, b)
			}
		}
	}
}

// TestWritten: what is kept of a state's pages is what is known of it, and goes with it.
func TestWritten(t *testing.T) {
	i := put(t, &Store{Dir: t.TempDir()}, "a", Identity{Banner: "Linux"}, time.Now())
	dir := filepath.Join(i.Dir, dirStates)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "x.snapshot")
	pages := []memory.Range{{Base: 0, Size: 0x2000}, {Base: 0x5000, Size: 0x1000}, {Base: 64 << 30, Size: 0x3000}}
	if got := i.Written(state); got != nil {
		t.Errorf("%v", got)
	}
	i.KeepWritten(state, []memory.Range{{Base: 0, Size: (mostWritten + 1) * memory.PageSize}})
	if got := i.Written(state); got != nil {
		t.Errorf("too much is kept: %v", got)
	}
	i.KeepWritten(state, pages)
	if got := i.Written(state); !slices.Equal(got, pages) {
		t.Errorf("%v, not %v", got, pages)
	}
	if got := i.Written(filepath.Join(dir, "y.snapshot")); got != nil {
		t.Errorf("another state has %v", got)
	}
	for n := range keptStates + 1 {
		path := filepath.Join(dir, string(rune('a'+n))+".snapshot")
		if n == 0 {
			path = state
		}
		then := time.Now().Add(time.Duration(n-100) * time.Hour)
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	if err := dropOld(dir); err != nil {
		t.Fatal(err)
	}
	if got := i.Written(state); got != nil {
		t.Errorf("of a state that is gone %v is left", got)
	}
}
