package metadata

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// ErrNotFound says that nothing is known under a key.
var ErrNotFound = errors.New("no Meta-Data")

// Store is a file with the Meta-Data of any number of keys. Several processes and goroutines may use it at once: it is
// open only while a method runs. A process that is killed leaves the file as it was before or after its change.
type Store struct {
	// Path is the file. Its directory is made if it does not exist.
	Path string
	// Timeout is how long to wait for another process that has the file open; 0 means DefaultTimeout.
	Timeout time.Duration
}

// DefaultTimeout is long against any change of the file, also by several processes of a slow machine, one after the other.
const DefaultTimeout = time.Minute

// DefaultPath is where Meta-Data is kept if nothing else is said: emu/metadata.db in the user's XDG data directory.
func DefaultPath() (string, error) {
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) { // relative ones are to be ignored, says the XDG Base Directory Specification
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no place for Meta-Data: %w; set XDG_DATA_HOME or name a file with --meta", err)
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "emu", "metadata.db"), nil
}

// bucket holds a bucket for each encoded Key. That has Envelopes: the head, with trainings and a list of scopes, the symbols,
// and for each scope one with all and one with its Outline, so that a run reads and changes only the scopes that it comes to.
var bucket = []byte("metadata")

var headName, symbolsName = []byte("head"), []byte("symbols")

func outlineName(id ScopeID) []byte { return fmt.Appendf(nil, "outline %q %q", id.Syscall, id.Name) }

func scopeName(id ScopeID) []byte { return fmt.Appendf(nil, "scope %q %q", id.Syscall, id.Name) }

// Keys returns the keys, in order. A file that does not exist has none.
func (s *Store) Keys() (keys []Key, err error) {
	err = s.view(func(b *bbolt.Bucket) error {
		return b.ForEach(func(k, _ []byte) error {
			key, err := decodeKey(k)
			keys = append(keys, key)
			return err
		})
	})
	slices.SortFunc(keys, compareKeys)
	return keys, err
}

// Load returns what is known under a key. If that is nothing, the error wraps ErrNotFound.
func (s *Store) Load(key Key) (set *Set, err error) {
	err = s.view(func(b *bbolt.Bucket) error {
		if set, err = s.get(b, key, false); set != nil {
			err = set.complete()
		}
		return err
	})
	return s.found(key, set, err)
}

// LoadLazily is Load for one who needs few scopes: each is read when it is asked for, as it is then in the file, which must not be open for
// writing in this process at that time; Err says then whether it was damaged.
func (s *Store) LoadLazily(key Key) (set *Set, err error) {
	err = s.view(func(b *bbolt.Bucket) error {
		set, err = s.get(b, key, true)
		return err
	})
	return s.found(key, set, err)
}

// found is the answer about a key.
func (s *Store) found(key Key, set *Set, err error) (*Set, error) {
	switch {
	case err != nil:
		return nil, err
	case set == nil:
		return nil, fmt.Errorf("%w for %s in %s; a run of emu --snapshot trains it", ErrNotFound, key, s.Path)
	}
	return set, nil
}

// get returns nil if the key is not there. The Set is valid as long as the transaction, unless it is read lazily.
func (s *Store) get(b *bbolt.Bucket, key Key, lazily bool) (*Set, error) {
	if old := b.Get([]byte(key.encode())); old != nil {
		_, err := Decode(old) // all of it was one Envelope up to schema version 2
		return nil, cmp.Or(err, ErrFormat)
	}
	if b = b.Bucket([]byte(key.encode())); b == nil {
		return nil, nil
	}
	failed := &failure{explain: s.damaged}
	missing := false
	read := func(name []byte, redirects bool) *part {
		v := b.Get(name)
		missing = missing || v == nil
		p := &part{digest: digest(v), key: key, redirects: redirects, failed: failed, read: func() ([]byte, error) { return v, nil }}
		if lazily {
			p.digest = bytes.Clone(p.digest)
			p.read = func() ([]byte, error) { return s.part(key, name) }
		}
		return p
	}
	set := &Set{stored: stored{map[ScopeID]*part{}, read(symbolsName, false), failed}}
	head, err := decodeHead(b.Get(headName), key)
	if err != nil {
		return nil, err
	}
	set.trainings = head.trainings
	for id, redirects := range head.scopes {
		p := read(scopeName(id), redirects)
		if p.outline = b.Get(outlineName(id)); lazily {
			p.outline = bytes.Clone(p.outline)
		}
		set.stored.scopes[id] = p
	}
	if missing {
		return nil, fmt.Errorf("%w: parts of %s are missing", ErrFormat, key)
	}
	return set, nil
}

// part reads one part of what is known under a key.
func (s *Store) part(key Key, name []byte) (v []byte, err error) {
	err = s.view(func(b *bbolt.Bucket) error {
		if b = b.Bucket([]byte(key.encode())); b != nil {
			v = bytes.Clone(b.Get(name))
		}
		return nil
	})
	if err == nil && v == nil {
		err = fmt.Errorf("%w: what it had for %s was removed meanwhile", ErrFormat, key)
	}
	return v, err
}

// put writes what was decoded of a set, which is all that can have changed.
func put(b *bbolt.Bucket, key Key, set *Set) error {
	b, err := b.CreateBucketIfNotExists([]byte(key.encode()))
	if err != nil {
		return err
	}
	write := func(name []byte, part *Set) (v []byte, err error) {
		if v, err = Encode(map[Key]*Set{key: part}); err == nil {
			err = b.Put(name, v)
		}
		return v, err
	}
	for id, sites := range set.scopes {
		v, err := write(scopeName(id), &Set{scopes: map[ScopeID][]Site{id: sites}})
		if err != nil {
			return err
		}
		if v, err = encodeOutline(key, id, sites, v); err != nil {
			return err
		}
		if err := b.Put(outlineName(id), v); err != nil {
			return err
		}
	}
	if set.stored.symbols == nil {
		if _, err := write(symbolsName, &Set{symbols: set.symbols}); err != nil {
			return err
		}
	}
	v, err := encodeHead(key, set)
	if err != nil {
		return err
	}
	return b.Put(headName, v)
}

// Merge adds what a run learned to what is known under a key, in one step, and returns the conflicts that this made.
func (s *Store) Merge(key Key, set *Set, training Training) ([]Conflict, error) {
	learned := &Set{}
	learned.Merge(set)
	learned.AddTraining(training)
	all, err := s.MergeAll(map[Key]*Set{key: learned})
	return all[key], err
}

// MergeAll adds sets to what is known under their keys, all in one step, and returns the conflicts that this made.
func (s *Store) MergeAll(sets map[Key]*Set) (conflicts map[Key][]Conflict, err error) {
	for k := range sets {
		if err := errors.Join(k.Check(), sets[k].complete()); err != nil {
			return nil, err
		}
	}
	err = s.update(func(b *bbolt.Bucket) error {
		conflicts = map[Key][]Conflict{}
		for key, set := range sets {
			known, err := s.get(b, key, false)
			if err != nil {
				return err
			}
			if known == nil {
				known = &Set{}
			}
			if c := known.Merge(set); len(c) > 0 {
				conflicts[key] = c
			}
			if err := known.stored.failed.first(); err != nil {
				return err
			}
			if err := put(b, key, known); err != nil {
				return err
			}
		}
		return nil
	})
	return conflicts, err
}

// Remove forgets what is known under keys, all in one step. If one is not there, the error wraps ErrNotFound and nothing
// changes.
func (s *Store) Remove(keys ...Key) error {
	if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) && len(keys) > 0 {
		return fmt.Errorf("%w for %s: there is no file %s", ErrNotFound, keys[0], s.Path)
	}
	return s.update(func(b *bbolt.Bucket) error {
		for _, k := range keys {
			name := []byte(k.encode())
			var err error
			switch {
			case b.Bucket(name) != nil:
				err = b.DeleteBucket(name)
			case b.Get(name) != nil:
				err = b.Delete(name)
			default:
				err = fmt.Errorf("%w for %s", ErrNotFound, k)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) damaged(err error) error {
	return fmt.Errorf("%s: %w; restore it from an export, or remove it and train again", s.Path, err)
}

// view runs f on the file, which may be open for reading elsewhere too; it does not run f if there is no file.
func (s *Store) view(f func(*bbolt.Bucket) error) error {
	err := s.with(true, func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error { return inBucket(tx, f) })
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *Store) update(f func(*bbolt.Bucket) error) error {
	if err := s.create(); err != nil {
		return fmt.Errorf("Meta-Data cannot be kept in %s: %w; name another file with --meta", s.Path, err)
	}
	return s.with(false, func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error { return inBucket(tx, f) })
	})
}

func inBucket(tx *bbolt.Tx, f func(*bbolt.Bucket) error) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return fmt.Errorf("%w: it is the database of another program", ErrFormat)
	}
	return f(b)
}

// with opens the file, runs f and closes it. Damage that bbolt meets as a panic or as a fault in its mapping is an error.
func (s *Store) with(readOnly bool, f func(*bbolt.DB) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = s.damaged(fmt.Errorf("%w (%v)", ErrFormat, r))
		}
	}()
	timeout := s.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	db, err := bbolt.Open(s.Path, 0o600, &bbolt.Options{ReadOnly: readOnly, Timeout: timeout})
	if err != nil {
		return s.explain(err, timeout)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := s.complete(db); err != nil {
		return err
	}
	if err := f(db); err != nil {
		return fmt.Errorf("%s: %w", s.Path, err)
	}
	return nil
}

// complete says whether the file has all the pages that it says it has: touching others is fatal.
func (s *Store) complete(db *bbolt.DB) error {
	info, err := os.Stat(s.Path)
	if err != nil {
		return err
	}
	return db.View(func(tx *bbolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("%s: %w: %d bytes are left of %d; restore it from an export, or remove it and train again",
				s.Path, ErrFormat, info.Size(), tx.Size())
		}
		return nil
	})
}

func (s *Store) explain(err error, timeout time.Duration) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%s: %s has had it open for %s; wait for it to end, or use another file with --meta",
			s.Path, s.holder(), timeout)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%s: %w (%w); restore it from an export, or remove it and train again", s.Path, ErrFormat, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("Meta-Data cannot be kept there: %w; name another file with --meta", err)
	}
	return err
}

// holder names the processes that have locked the file.
func (s *Store) holder() string {
	const unknown = "another process"
	info, err := os.Stat(s.Path)
	if err != nil {
		return unknown
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	locks, err := os.ReadFile("/proc/locks")
	if !ok || err != nil {
		return unknown
	}
	return holders(string(locks), stat.Ino, func(pid string) string {
		name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(name))
	}, unknown)
}

// holders finds an inode's locks in the text of /proc/locks (proc_locks(5)).
func holders(locks string, inode uint64, name func(pid string) string, unknown string) string {
	var found []string
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		// A line whose second field is an arrow is a process that waits.
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], fmt.Sprintf(":%d", inode)) {
			continue
		}
		who := "process " + f[4]
		if n := name(f[4]); n != "" {
			who += " (" + n + ")"
		}
		if !slices.Contains(found, who) {
			found = append(found, who)
		}
	}
	if len(found) == 0 {
		return unknown
	}
	return strings.Join(found, ", ")
}

// create makes an empty store if there is no file. It gets its name when it is complete, so that no process ever sees
// half of it.
func (s *Store) create() error {
	if _, err := os.Stat(s.Path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(s.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".metadata-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := temp.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(temp.Name(), 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), s.Path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// IsStore says whether a file that begins so is a store: bbolt's magic number is in its first page, after the page's
// header.
func IsStore(b []byte) bool {
	return len(b) >= 20 && binary.LittleEndian.Uint32(b[16:]) == 0xED0CDAED
}
