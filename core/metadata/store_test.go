package metadata_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// The test binary does what asWorker says if it is set: processes that share a store.
const asWorker = "METADATA_TEST_WORKER"

func TestMain(m *testing.M) {
	path, ok := os.LookupEnv(asWorker)
	if !ok {
		os.Exit(m.Run())
	}
	if err := work(path, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// work merges the sites numbered first and on, and prints the number of each when it is stored.
func work(path, arg string) error {
	var first, count uint64
	if _, err := fmt.Sscanf(arg, "%d+%d", &first, &count); err != nil {
		return err
	}
	s := metadata.Store{Path: path}
	for i := first; i < first+count; i++ {
		set, err := numbered(i)
		if err != nil {
			return err
		}
		if _, err := s.Merge(testKey, set, metadata.Training{Command: []string{"ps"}, Instructions: i}); err != nil {
			return err
		}
		fmt.Println(i)
	}
	return nil
}

// numbered is a set with enough in it to fill several pages of the file.
func numbered(i uint64) (*metadata.Set, error) {
	set := &metadata.Set{}
	for j := range uint64(50) {
		s := site(policy.Redirectable, from(policy.Snapshot, i, j))
		s.Offset = i<<8 | j
		if err := set.Add(scope, s); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func worker(t *testing.T, path, arg string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], arg)
	cmd.Env = append(os.Environ(), asWorker+"="+path)
	return cmd
}

func newStore(t *testing.T) *metadata.Store {
	t.Helper()
	return &metadata.Store{Path: filepath.Join(t.TempDir(), "emu", "metadata.db")}
}

var training = metadata.Training{Snapshot: "web", Command: []string{"ps", "aux"}, Instructions: 5, Scopes: []metadata.ScopeID{scope}}

func TestStoreKeepsWhatIsMerged(t *testing.T) {
	s := newStore(t)
	if keys, err := s.Keys(); len(keys) != 0 || err != nil {
		t.Fatal(keys, err)
	}
	if _, err := s.Load(testKey); !errors.Is(err, metadata.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("looking made a file:", err)
	}
	a, b := setOf(t, site(policy.Redirectable, from(policy.Snapshot, 0x10))), setOf(t, site(policy.NonRedirectable, from(policy.Local, 0x10)))
	if c, err := s.Merge(testKey, a, training); len(c) != 0 || err != nil {
		t.Fatal(c, err)
	}
	if c, err := s.Merge(testKey, b, training); len(c) != 1 || err != nil {
		t.Fatal(c, err)
	}
	want := merged(a, b)
	want.AddTraining(training)
	got, err := s.Load(testKey)
	if err != nil || !bytes.Equal(encode(t, got), encode(t, want)) {
		t.Fatal(got, err)
	}
	other := testKey
	other.Policy = "ff"
	if _, err := s.Merge(other, a, training); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.Keys(); len(keys) != 2 || err != nil {
		t.Fatal(keys, err)
	}
	missing := testKey
	missing.Policy = "00"
	if err := s.Remove(other, missing); !errors.Is(err, metadata.ErrNotFound) {
		t.Fatal(err)
	}
	if err := s.Remove(testKey); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.Keys(); len(keys) != 1 || keys[0] != other || err != nil {
		t.Fatal(keys, err)
	}
	if _, err := s.Merge(metadata.Key{Banner: "Linux"}, a, training); err == nil {
		t.Error("a key without hashes was stored under")
	}
}

// Several processes create the store at once and merge into it.
func TestProcessesShareAStore(t *testing.T) {
	s := newStore(t)
	const processes, each = 4, 5
	var running []*exec.Cmd
	for i := range processes {
		cmd := worker(t, s.Path, fmt.Sprintf("%d+%d", i*each, each))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	want := &metadata.Set{}
	for i := range uint64(processes * each) {
		set, err := numbered(i)
		if err != nil {
			t.Fatal(err)
		}
		want.Merge(set)
	}
	want.AddTraining(metadata.Training{Command: []string{"ps"}, Instructions: processes*each - 1})
	if got, err := s.Load(testKey); err != nil || !bytes.Equal(encode(t, got), encode(t, want)) {
		t.Error("something is lost", err)
	}
}

// A process that is killed at any moment loses at most what it was about to store.
func TestKillLosesAtMostTheRunInFlight(t *testing.T) {
	s := newStore(t)
	rng := rand.New(rand.NewSource(1))
	first, stored := 0, 0
	for round := range 40 {
		if round == 20 { // the second half dies in a store's creation too
			if err := os.Remove(s.Path); err != nil {
				t.Fatal(err)
			}
			first, stored = 0, 0
		}
		cmd := worker(t, s.Path, fmt.Sprintf("%d+100000", first))
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(pipe)
		if round%2 == 1 && lines.Scan() { // every other one lives to store something, on a busy machine too
			stored++
		}
		time.Sleep(time.Duration(rng.Intn(60)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			stored++
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatal("the worker ended by itself: ", err)
		}
		got, err := s.Load(testKey)
		if errors.Is(err, metadata.ErrNotFound) && stored == 0 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n := len(got.Sites(scope))
		if n%50 != 0 || n/50 < stored || n/50 > stored+1 {
			t.Fatalf("round %d: %d sites are there after %d of 50 were stored", round, n, stored)
		}
		first, stored = n/50, n/50
	}
	if first == 0 {
		t.Error("no worker lived to store anything: the test tests nothing")
	}
}

func TestBusyStoreNamesItsHolder(t *testing.T) {
	s := newStore(t)
	s.Timeout = 100 * time.Millisecond
	if _, err := s.Merge(testKey, &metadata.Set{}, training); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(s.Path, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = s.Load(testKey)
	if err == nil || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Error(err)
	}
}

// corrupt returns a store with some Meta-Data whose file has been changed.
func corrupt(t *testing.T, change func(b []byte) []byte) *metadata.Store {
	t.Helper()
	s := newStore(t)
	for n := range uint64(20) {
		set, err := numbered(n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Merge(testKey, set, training); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDamagedStores(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	changes := map[string]func(b []byte) []byte{
		"text":      func([]byte) []byte { return bytes.Repeat([]byte("no database "), 4096) },
		"short":     func(b []byte) []byte { return b[:100] },
		"truncated": func(b []byte) []byte { return b[:3*4096] },
		"halved":    func(b []byte) []byte { return b[:len(b)/8192*4096] },
		"zeroes":    func(b []byte) []byte { clear(b[2*4096:]); return b },
		"noise":     func(b []byte) []byte { rng.Read(b[2*4096:]); return b },
		"a site": func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("[rax]"), []byte("[rbx]"))
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s := corrupt(t, change)
			if _, err := s.Load(testKey); !errors.Is(err, metadata.ErrFormat) || !strings.Contains(err.Error(), s.Path) {
				t.Error("load:", err)
			}
			set, err := numbered(1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Merge(testKey, set, training); !errors.Is(err, metadata.ErrFormat) {
				t.Error("merge:", err)
			}
		})
	}
	t.Run("another program's", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "other.db")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		if _, err := (&metadata.Store{Path: path}).Keys(); !errors.Is(err, metadata.ErrFormat) {
			t.Error(err)
		}
	})
	t.Run("empty", func(t *testing.T) {
		s := corrupt(t, func([]byte) []byte { return nil })
		if _, err := s.Load(testKey); err == nil {
			t.Error("an empty file was read")
		}
	})
}

func TestAnotherSchemaIsRefused(t *testing.T) {
	b := encode(t, setOf(t, site(policy.Redirectable, from(policy.Snapshot, 0x10))))
	newer := bytes.Replace(b, []byte{0x10, metadata.SchemaVersion}, []byte{0x10, metadata.SchemaVersion + 1}, 1)
	var schema *metadata.SchemaError
	if _, err := metadata.Decode(newer); !errors.As(err, &schema) || schema.Version != metadata.SchemaVersion+1 {
		t.Error(err)
	}
	s := corrupt(t, func(b []byte) []byte {
		tag := []byte("emu Meta-Data\x10")
		return bytes.ReplaceAll(b, append(tag, metadata.SchemaVersion), append(tag, metadata.SchemaVersion+1))
	})
	if _, err := s.Load(testKey); !errors.As(err, &schema) {
		t.Error(err)
	}
	if _, err := s.Merge(testKey, &metadata.Set{}, training); !errors.As(err, &schema) {
		t.Error("newer Meta-Data was overwritten:", err)
	}
}

func TestPlacesThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &metadata.Store{Path: filepath.Join(file, "metadata.db")}
	if _, err := s.Merge(testKey, &metadata.Set{}, training); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), "--meta") {
		t.Error(err)
	}
	s = newStore(t)
	if _, err := s.Merge(testKey, &metadata.Set{}, training); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root may write read-only directories: run as another user to test them")
	}
	if err := errors.Join(os.Chmod(s.Path, 0o400), os.Chmod(filepath.Dir(s.Path), 0o500)); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Dir(s.Path), 0o700)
	if _, err := s.Load(testKey); err != nil {
		t.Error("what is read-only cannot be read:", err)
	}
	if _, err := s.Merge(testKey, &metadata.Set{}, training); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "--meta") {
		t.Error(err)
	}
	s.Path = filepath.Join(filepath.Dir(s.Path), "new.db")
	if _, err := s.Merge(testKey, &metadata.Set{}, training); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "--meta") {
		t.Error(err)
	}
}

func TestDefaultPath(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	if p, err := metadata.DefaultPath(); p != "/data/emu/metadata.db" || err != nil {
		t.Error(p, err)
	}
	t.Setenv("XDG_DATA_HOME", "relative")
	t.Setenv("HOME", "/home/user")
	if p, err := metadata.DefaultPath(); p != "/home/user/.local/share/emu/metadata.db" || err != nil {
		t.Error(p, err)
	}
}

// What is loaded lazily is what is loaded; scopes that are damaged are missing, and an error, when they are asked for.
func TestLoadLazily(t *testing.T) {
	s := newStore(t)
	set, err := numbered(1)
	if err != nil {
		t.Fatal(err)
	}
	other := metadata.ScopeID{Name: "other", Syscall: "getpid"}
	if err := set.Add(other, site(policy.Redirectable, from(policy.Snapshot, 0x10))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Merge(testKey, set, training); err != nil {
		t.Fatal(err)
	}
	whole, err := s.Load(testKey)
	if err != nil {
		t.Fatal(err)
	}
	lazy, err := s.LoadLazily(testKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []metadata.ScopeID{other, scope, {Syscall: "none"}} {
		redirects, known := lazy.Redirects(id)
		wantRedirects, wantKnown := whole.Redirects(id)
		if redirects != wantRedirects || known != wantKnown || known != (len(whole.Sites(id)) > 0) {
			t.Errorf("%s: %v %v, want %v %v", id, redirects, known, wantRedirects, wantKnown)
		}
	}
	if !slices.Equal(lazy.Scopes(), whole.Scopes()) || !reflect.DeepEqual(lazy.Trainings(), whole.Trainings()) {
		t.Errorf("%v, want %v", lazy.Scopes(), whole.Scopes())
	}
	if !bytes.Equal(encode(t, lazy), encode(t, whole)) || lazy.Err() != nil {
		t.Error("not the same", lazy.Err())
	}
	// What somebody has learned meanwhile is there too, and what was removed is missed.
	if lazy, err = s.LoadLazily(testKey); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Merge(testKey, setOf(t, site(policy.Redirectable, from(policy.Snapshot, 0x20))), training); err != nil {
		t.Fatal(err)
	}
	later, err := s.Load(testKey)
	if err != nil {
		t.Fatal(err)
	}
	if got := lazy.Sites(scope); !reflect.DeepEqual(got, later.Sites(scope)) || reflect.DeepEqual(got, whole.Sites(scope)) || lazy.Err() != nil {
		t.Errorf("%v: %v", got, lazy.Err())
	}
	if lazy, err = s.LoadLazily(testKey); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(testKey); err != nil {
		t.Fatal(err)
	}
	if sites := lazy.Sites(other); sites != nil || !errors.Is(lazy.Err(), metadata.ErrFormat) {
		t.Errorf("%v, %v", sites, lazy.Err())
	}
	if _, err := s.Merge(testKey, set, training); err != nil {
		t.Fatal(err)
	}

	b, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path, bytes.ReplaceAll(b, []byte("[rax]"), []byte("[rbx]")), 0o600); err != nil {
		t.Fatal(err)
	}
	if lazy, err = s.LoadLazily(testKey); err != nil || lazy.Err() != nil {
		t.Fatal(err, lazy.Err())
	}
	if sites := lazy.Sites(other); sites != nil || !errors.Is(lazy.Err(), metadata.ErrFormat) {
		t.Errorf("%v, %v", sites, lazy.Err())
	}
}
