package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Store is a folder with one folder an image. Several processes may use it at a time.
type Store struct {
	// Dir is where the images are; it need not exist.
	Dir string
	// Cache is where downloaded packages are.
	Cache string
}

// DefaultStore returns the user's store, as the XDG base directory specification places it.
func DefaultStore() (*Store, error) {
	data, cache := os.Getenv("XDG_DATA_HOME"), os.Getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(data) || !filepath.IsAbs(cache) {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("where trusted images are: %w", err)
		}
		if !filepath.IsAbs(data) {
			data = filepath.Join(home, ".local", "share")
		}
		if !filepath.IsAbs(cache) {
			cache = filepath.Join(home, ".cache")
		}
	}
	return &Store{Dir: filepath.Join(data, "emu", "images"), Cache: filepath.Join(cache, "emu", "packages")}, nil
}

// Identity is what tells one kernel from another.
type Identity struct {
	// Banner is the kernel's "Linux version ..." line, without the newline.
	Banner string `json:"banner"`
	// BTFHash is the SHA-256 of the .BTF section in hexadecimal, "" if there is none.
	BTFHash string `json:"btf_sha256,omitempty"`
}

// Info describes an image.
type Info struct {
	ID string `json:"id"`
	Identity
	Release string `json:"release"`
	// Bits is 64 or 32.
	Bits int `json:"bits"`
	// Memory is the size of the trusted VM's RAM in bytes.
	Memory uint64 `json:"memory_bytes"`
	// CommandLine is the kernel's, but for what a Placement adds.
	CommandLine string `json:"command_line"`
	// Kernel says what the image was made from: a package with its version, or a file.
	Kernel string `json:"kernel"`
	// Debug says what types and data symbols come from if the kernel itself does not have them: a package with its version, or
	// a file.
	Debug string `json:"debug,omitempty"`
	// Tools are the packages of the toolbox, or the folder.
	Tools   []string `json:"tools"`
	Modules []string `json:"modules"`
	// Agent is the session.AgentVersion of the agent in it.
	Agent   int       `json:"agent"`
	Created time.Time `json:"created"`
}

// Image is a trusted image. Methods are safe for concurrent use, by several processes too.
type Image struct {
	Info
	// Dir is where the image is.
	Dir string
}

// Names of an image's files.
const (
	fileInfo      = "image.json"
	fileKernel    = "kernel"
	fileInitramfs = "initramfs"
	fileKallsyms  = "kallsyms"
	fileBTF       = "btf"
	fileNotes     = "notes"
	fileModules   = "modules.zip"
	dirStates     = "states"
)

// KernelPath returns the path of the kernel image, as boot.Parse reads it.
func (i *Image) KernelPath() string { return filepath.Join(i.Dir, fileKernel) }

// KallsymsPath returns the path of what /proc/kallsyms said, modules included, and Debug, with a kernel at the addresses for
// which it was linked. Modules lie elsewhere in a randomised one.
func (i *Image) KallsymsPath() string { return filepath.Join(i.Dir, fileKallsyms) }

// BTFPath returns the path of the kernel's type information, in the form of a .BTF section: the kernel's own, or made from
// Debug.
func (i *Image) BTFPath() string { return filepath.Join(i.Dir, fileBTF) }

// NotesPath returns the path of the kernel's ELF notes, with its build ID.
func (i *Image) NotesPath() string { return filepath.Join(i.Dir, fileNotes) }

// ErrNotFound is wrapped by errors about an image that is not there.
var ErrNotFound = errors.New("no such trusted image")

// List returns the images, by ID.
func (s *Store) List() ([]*Image, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*Image
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		i, err := s.Open(e.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

// Open returns the image with an ID.
func (s *Store) Open(id string) (*Image, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	i := &Image{Dir: filepath.Join(s.Dir, id)}
	var err error
	if i.Info, err = readInfo(i.Dir); err != nil {
		return nil, err
	}
	i.ID = id
	return i, nil
}

// readInfo reads what the image in a folder is.
func readInfo(dir string) (i Info, err error) {
	b, err := os.ReadFile(filepath.Join(dir, fileInfo))
	if errors.Is(err, os.ErrNotExist) {
		return i, fmt.Errorf("%w: %s; \"emu image ls\" lists them", ErrNotFound, filepath.Base(dir))
	}
	if err == nil {
		err = json.Unmarshal(b, &i)
	}
	if err != nil {
		return i, fmt.Errorf("trusted image %s: %w; build it again", filepath.Base(dir), err)
	}
	return i, nil
}

// Find returns the newest image of a kernel.
func (s *Store) Find(k Identity) (*Image, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var found *Image
	for _, i := range all {
		if i.Identity == k && (found == nil || i.Created.After(found.Created)) {
			found = i
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w for %q", ErrNotFound, k.Banner)
	}
	return found, nil
}

// Remove deletes the image with an ID. Machines that were restored from it go on.
func (s *Store) Remove(id string) error {
	i, err := s.Open(id)
	if err != nil {
		return err
	}
	gone, err := os.MkdirTemp(s.Dir, ".removed-*")
	if err != nil {
		return err
	}
	return errors.Join(os.Rename(i.Dir, filepath.Join(gone, id)), os.RemoveAll(gone))
}

// checkID makes sure that an ID is a plain file name.
func checkID(id string) error {
	if id == "" || id[0] == '.' || id != filepath.Base(id) || strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r == 0x7f }) {
		return fmt.Errorf("%q cannot be the name of a trusted image", id)
	}
	return nil
}
