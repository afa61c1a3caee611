package host

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/protocol"
)

// ManifestName is the file that says which programs of a directory are policies.
const ManifestName = "plugins.json"

// Manifest is what the file says. The order of kernel policies counts: a system call belongs to the first scope that matches.
type Manifest struct {
	Plugins []Entry `json:"plugins"`
}

// Entry is one program.
type Entry struct {
	// Name is that of the file, in the directory of the manifest.
	Name string        `json:"name"`
	Kind protocol.Kind `json:"kind"`
	// Category is what a handler is for, by the paper's abbreviation; empty for kernel policies.
	Category string `json:"category,omitempty"`
	// SHA256 is that of the file, in hexadecimal.
	SHA256 string `json:"sha256"`
}

// names are those of programs that are handlers unless one says otherwise.
func names(c policy.Category) string {
	return [...]string{"unknown", "redirectable", "nonredirectable", "semiredirectable", "biredirectable", "neutral"}[c]
}

// categories are all six, in the order of their numbers.
func categories() []policy.Category {
	return []policy.Category{
		policy.Unknown, policy.Redirectable, policy.NonRedirectable, policy.SemiRedirectable, policy.BiRedirectable, policy.Neutral,
	}
}

func parseCategory(s string) (policy.Category, error) {
	for _, c := range categories() {
		if c.String() == s {
			return c, nil
		}
	}
	return 0, fmt.Errorf("category %q: the categories are U, R, NR, Semi, Bi and N", s)
}

// Scan makes the manifest of a directory from the programs in it: all executable files. One that is named by handlers, or has
// the name of one of emu's own, is a handler; all others are kernel policies. Handlers maps categories, such as "R", to names of
// programs that take the place of emu's own. The kernel policies have the order of their names.
func Scan(dir string, handlers map[string]string) (Manifest, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return Manifest{}, err
	}
	category, replaced := map[string]string{}, map[string]bool{}
	for _, c := range categories() {
		category[names(c)] = c.String()
	}
	for c, name := range handlers {
		known, err := parseCategory(c)
		if err != nil {
			return Manifest{}, err
		}
		replaced[names(known)] = true
		category[name] = c
	}
	for _, name := range handlers {
		delete(replaced, name)
	}
	var m Manifest
	for _, f := range files {
		info, err := os.Stat(filepath.Join(dir, f.Name()))
		if err != nil {
			return Manifest{}, err
		}
		if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || replaced[f.Name()] {
			continue
		}
		e := Entry{Name: f.Name(), Kind: protocol.Kernel}
		if c, ok := category[e.Name]; ok {
			e.Kind, e.Category = protocol.Instructions, c
		}
		if e.SHA256, err = checksum(filepath.Join(dir, e.Name)); err != nil {
			return Manifest{}, err
		}
		m.Plugins = append(m.Plugins, e)
	}
	slices.SortFunc(m.Plugins, func(a, b Entry) int { return cmp.Or(-cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return m, m.validate()
}

// Write writes the manifest of a directory, whole or not at all.
func (m *Manifest) Write(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".plugins-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, ManifestName))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func readManifest(dir string) (Manifest, error) {
	path := filepath.Join(dir, ManifestName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("there are no policies in %s: %w; \"make build\" makes emu's own, \"emu policy manifest DIR\" "+
			"lists those of a directory, and --plugins or $EMU_PLUGINS names it", dir, err)
	} else if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err = d.Decode(&m); err == nil {
		err = m.validate()
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func (m *Manifest) validate() error {
	named, handles, kernels := map[string]bool{}, map[string]string{}, 0
	for _, e := range m.Plugins {
		if e.Name == "" || e.Name != filepath.Base(e.Name) || strings.HasPrefix(e.Name, ".") {
			return fmt.Errorf("plugin %q: the name must be that of a file beside the manifest", e.Name)
		}
		if named[e.Name] {
			return fmt.Errorf("plugin %s is there twice", e.Name)
		}
		named[e.Name] = true
		if sum, err := hex.DecodeString(e.SHA256); err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("plugin %s: %q is no SHA-256", e.Name, e.SHA256)
		}
		switch e.Kind {
		case protocol.Kernel:
			kernels++
			if e.Category != "" {
				return fmt.Errorf("plugin %s: a kernel policy has no category, but this has %q", e.Name, e.Category)
			}
		case protocol.Instructions:
			if _, err := parseCategory(e.Category); err != nil {
				return fmt.Errorf("plugin %s: %w", e.Name, err)
			}
			if other, ok := handles[e.Category]; ok {
				return fmt.Errorf("plugins %s and %s are both handlers of category %s; leave one", other, e.Name, e.Category)
			}
			handles[e.Category] = e.Name
		default:
			return fmt.Errorf("plugin %s: kind %q is neither kernel nor handler", e.Name, e.Kind)
		}
	}
	for _, c := range categories() {
		if handles[c.String()] == "" {
			return fmt.Errorf("there is no handler of category %s; emu's own is the program %s", c, names(c))
		}
	}
	if kernels == 0 {
		return errors.New("there is no kernel policy; emu's own is the program linux")
	}
	return nil
}

// Verify compares the program in a directory with its checksum, without starting it. The error wraps ErrChecksum if it is
// another program, and is that of reading it otherwise.
func (e *Entry) Verify(dir string) error {
	sum, err := checksum(filepath.Join(dir, e.Name))
	if err != nil {
		return fmt.Errorf("plugin %s: %w", e.Name, err)
	}
	if !strings.EqualFold(sum, e.SHA256) {
		return fmt.Errorf("plugin %s %w: it has %.12s, not %.12s", e.Name, ErrChecksum, sum, e.SHA256)
	}
	return nil
}

func checksum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
