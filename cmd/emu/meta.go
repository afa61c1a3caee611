package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hybridbridge/emu/core/explain"
	"github.com/hybridbridge/emu/core/metadata"
)

func newMetaCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "meta",
		Short: "Look at, move and merge Meta-Data: what was learned about kernels",
	}
	c.AddCommand(newMetaLsCommand(), newMetaShowCommand(), newMetaExportCommand(), newMetaImportCommand(),
		newMetaMergeCommand(), newMetaRmCommand())
	return c
}

// storeFlag adds --meta to a command and returns what opens the store that it names.
func storeFlag(c *cobra.Command) func() (*metadata.Store, error) {
	var path string
	c.Flags().StringVar(&path, "meta", "", "Meta-Data file (default: emu/metadata.db in the XDG data directory)")
	return func() (*metadata.Store, error) {
		if path == "" {
			var err error
			if path, err = metadata.DefaultPath(); err != nil {
				return nil, err
			}
		}
		return &metadata.Store{Path: path}, nil
	}
}

// findKey returns the key whose ID begins with id; with an empty id, the only one.
func findKey(s *metadata.Store, id string) (metadata.Key, error) {
	keys, err := s.Keys()
	if err != nil {
		return metadata.Key{}, err
	}
	found := slices.DeleteFunc(slices.Clone(keys), func(k metadata.Key) bool { return !strings.HasPrefix(k.ID(), id) })
	var list strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&list, "\n  %s", k)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(keys) == 0:
		return metadata.Key{}, fmt.Errorf("%s: %w; a run of emu --snapshot, or emu meta import, fills it", s.Path, metadata.ErrNotFound)
	case len(found) == 0:
		return metadata.Key{}, fmt.Errorf("%s: %w under a key %q; it has%s", s.Path, metadata.ErrNotFound, id, list.String())
	}
	return metadata.Key{}, usageError("%s has several keys; say which:%s", s.Path, list.String())
}

func findKeys(s *metadata.Store, ids []string) ([]metadata.Key, error) {
	var keys []metadata.Key
	for _, id := range ids {
		k, err := findKey(s, id)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func loadKeys(s *metadata.Store, keys []metadata.Key) (map[metadata.Key]*metadata.Set, error) {
	sets := map[metadata.Key]*metadata.Set{}
	for _, k := range keys {
		set, err := s.Load(k)
		if err != nil {
			return nil, err
		}
		sets[k] = set
	}
	return sets, nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// keySummary is a line of emu meta ls.
type keySummary struct {
	ID            string         `json:"id"`
	Release       string         `json:"release"`
	Banner        string         `json:"banner"`
	BTFHash       string         `json:"btf_sha256"`
	Policy        string         `json:"policy"`
	SchemaVersion int            `json:"schema_version"`
	Scopes        int            `json:"scopes"`
	Sites         map[string]int `json:"sites"`
	Trainings     int            `json:"trainings"`
	Conflicts     int            `json:"conflicts"`
}

func summarize(k metadata.Key, s *metadata.Set) keySummary {
	out := keySummary{
		k.ID(), k.Release(), k.Banner, k.BTFHash, k.Policy, metadata.SchemaVersion, len(s.Scopes()),
		map[string]int{},
		len(s.Trainings()), len(s.Conflicts()),
	}
	for _, id := range s.Scopes() {
		for _, site := range s.Sites(id) {
			out.Sites[site.Category.String()]++
		}
	}
	return out
}

func newMetaLsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the kernels and policies of which there is Meta-Data",
		Args:  cobra.NoArgs,
	}
	store := storeFlag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := store()
		if err != nil {
			return err
		}
		keys, err := s.Keys()
		if err != nil {
			return err
		}
		list := []keySummary{}
		for _, k := range keys {
			set, err := s.Load(k)
			if err != nil {
				return err
			}
			list = append(list, summarize(k, set))
		}
		w := c.OutOrStdout()
		if asJSON {
			return printJSON(w, list)
		}
		if len(list) == 0 {
			fmt.Fprintf(w, "no Meta-Data in %s\n", s.Path)
			return nil
		}
		for _, k := range list {
			fmt.Fprintf(w, "%s  kernel %s  policy %.12s  %d scopes  sites: %s  trainings: %d", k.ID, k.Release, k.Policy, k.Scopes,
				explain.Count(k.Sites), k.Trainings)
			if k.Conflicts > 0 {
				fmt.Fprintf(w, "  conflicts: %d", k.Conflicts)
			}
			fmt.Fprintln(w)
		}
		return nil
	}
	return c
}

type showOptions struct {
	scope, syscall, function, category string
	json                               bool
}

// keep returns what the options leave of a set.
func (o *showOptions) keep(s *metadata.Set) *metadata.Set {
	return s.Filter(func(id metadata.ScopeID, site *metadata.Site) bool {
		y, _ := s.Symbol(site.Location)
		return (o.scope == "" || o.scope == id.Name) && (o.syscall == "" || o.syscall == id.Syscall) &&
			(o.function == "" || o.function == y.Function) && (o.category == "" || strings.EqualFold(o.category, site.Category.String()))
	})
}

func newMetaShowCommand() *cobra.Command {
	var o showOptions
	c := &cobra.Command{
		Use:   "show [KEY]",
		Short: "Print Meta-Data by system call, function and instruction",
		Long:  "Print the instructions that were learned, with their category and why. KEY is the start of a key that ls prints.",
		Args:  cobra.MaximumNArgs(1),
	}
	store := storeFlag(c)
	f := c.Flags()
	f.StringVar(&o.scope, "scope", "", "only this scope of the policy")
	f.StringVar(&o.syscall, "syscall", "", "only this system call")
	f.StringVar(&o.function, "function", "", "only this kernel function")
	f.StringVar(&o.category, "category", "", "only this category: R, NR, Semi, Bi, N or U")
	f.BoolVar(&o.json, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.category != "" && !explain.IsCategory(o.category) {
			return usageError("--category %s: the categories are R, NR, Semi, Bi, N and U", o.category)
		}
		s, err := store()
		if err != nil {
			return err
		}
		key, err := findKey(s, strings.Join(args, ""))
		if err != nil {
			return err
		}
		set, err := s.Load(key)
		if err != nil {
			return err
		}
		kept := o.keep(set)
		if o.json {
			b, err := metadata.EncodeJSON(map[metadata.Key]*metadata.Set{key: kept})
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(b)
			return err
		}
		return explain.Show(c.OutOrStdout(), key, kept)
	}
	return c
}

func newMetaExportCommand() *cobra.Command {
	var out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "export [KEY...]",
		Short: "Write Meta-Data to a file that emu meta import reads",
		Long:  "Write the Meta-Data of the keys, or of all, as protobuf or as JSON. The same knowledge gives the same bytes.",
	}
	store := storeFlag(c)
	c.Flags().StringVarP(&out, "output", "o", "", "file to write (default: standard output)")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := store()
		if err != nil {
			return err
		}
		keys, err := findKeys(s, args)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			if keys, err = s.Keys(); err != nil {
				return err
			}
		}
		if len(keys) == 0 {
			return fmt.Errorf("%s: %w to export", s.Path, metadata.ErrNotFound)
		}
		sets, err := loadKeys(s, keys)
		if err != nil {
			return err
		}
		return writeSets(c.OutOrStdout(), out, sets, asJSON)
	}
	return c
}

func newMetaImportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "import FILE...",
		Short: "Merge exported Meta-Data into what is known",
		Args:  cobra.MinimumNArgs(1),
	}
	store := storeFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := store()
		if err != nil {
			return err
		}
		sets, conflicts, err := mergeFiles(args)
		if err != nil {
			return err
		}
		more, err := s.MergeAll(sets)
		if err != nil {
			return err
		}
		for k, c := range more {
			conflicts[k] = append(conflicts[k], c...)
		}
		reportConflicts(c.ErrOrStderr(), conflicts)
		return nil
	}
	return c
}

func newMetaMergeCommand() *cobra.Command {
	var out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "merge A B... -o C",
		Short: "Merge Meta-Data files into one",
		Long:  "Merge exported files or stores into a new exported file. The order does not matter.",
		Args:  cobra.MinimumNArgs(2),
	}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if out == "" {
			return usageError("emu meta merge needs -o FILE")
		}
		sets, conflicts, err := mergeFiles(args)
		if err != nil {
			return err
		}
		reportConflicts(c.ErrOrStderr(), conflicts)
		return writeSets(c.OutOrStdout(), out, sets, asJSON)
	}
	return c
}

func newMetaRmCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rm KEY...",
		Short: "Forget Meta-Data",
		Args:  cobra.MinimumNArgs(1),
	}
	store := storeFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		s, err := store()
		if err != nil {
			return err
		}
		for _, id := range args {
			if id == "" {
				return usageError("emu meta rm: a key is empty")
			}
		}
		keys, err := findKeys(s, args)
		if err != nil {
			return err
		}
		return s.Remove(keys...)
	}
	return c
}

func reportConflicts(w io.Writer, all map[metadata.Key][]metadata.Conflict) {
	for k, conflicts := range all {
		for i := range conflicts {
			fmt.Fprintf(w, "emu: conflict in %s: %s\n", k.ID(), &conflicts[i])
		}
	}
}

// mergeFiles reads exported files and stores.
func mergeFiles(paths []string) (map[metadata.Key]*metadata.Set, map[metadata.Key][]metadata.Conflict, error) {
	all, conflicts := map[metadata.Key]*metadata.Set{}, map[metadata.Key][]metadata.Conflict{}
	for _, path := range paths {
		sets, err := readSets(path)
		if err != nil {
			return nil, nil, err
		}
		for k, set := range sets {
			if all[k] == nil {
				all[k] = &metadata.Set{}
			}
			conflicts[k] = append(conflicts[k], all[k].Merge(set)...)
		}
	}
	return all, conflicts, nil
}

func readSets(path string) (map[metadata.Key]*metadata.Set, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var sets map[metadata.Key]*metadata.Set
	switch {
	case metadata.IsStore(b):
		s := &metadata.Store{Path: path}
		keys, err := s.Keys()
		if err != nil {
			return nil, err
		}
		return loadKeys(s, keys)
	case bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")):
		sets, err = metadata.DecodeJSON(b)
	default:
		sets, err = metadata.Decode(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return sets, nil
}

// writeSets writes to a file, whole or not at all, or else to w.
func writeSets(w io.Writer, path string, sets map[metadata.Key]*metadata.Set, asJSON bool) error {
	encode := metadata.Encode
	if asJSON {
		encode = metadata.EncodeJSON
	}
	b, err := encode(sets)
	if err != nil {
		return err
	}
	if path == "" {
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && !asJSON {
			return usageError("protobuf is not for terminals: name a file with -o, or use --json")
		}
		_, err := w.Write(b)
		return err
	}
	if old, err := os.ReadFile(path); err == nil && metadata.IsStore(old) {
		return usageError("%s is a Meta-Data store, which an export would replace; name another file, or use emu meta import", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".emu-export-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
