package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Apt runs apt with a state of its own below Dir, which one process at a time may use: apt does not wait for its locks.
type Apt struct {
	// Dir is made if it does not exist. It belongs to one architecture.
	Dir string
	// Architecture is Debian's name for it: "amd64" or "i386".
	Architecture string
}

// ErrApt is wrapped by errors of apt.
var ErrApt = errors.New("apt")

// listsFresh is how old the package lists may be.
const listsFresh = 24 * time.Hour

// Fetch downloads the named packages, and all that they depend on, and returns their files: those of the named packages, in
// their order, and the others. What is there already is not downloaded again.
func (a *Apt) Fetch(ctx context.Context, names []string) (named, others []string, err error) {
	all, err := a.resolve(ctx, names)
	if err != nil {
		return nil, nil, err
	}
	if _, err := a.run(ctx, append(install(names), "--download-only")...); err != nil {
		return nil, nil, err
	}
	for _, n := range names {
		i := slices.IndexFunc(all, func(p resolved) bool { return p.name == n })
		if i < 0 {
			return nil, nil, fmt.Errorf("%w: it names no file for package %s", ErrApt, n)
		}
		named = append(named, all[i].file)
	}
	for _, p := range all {
		if !slices.Contains(named, p.file) {
			others = append(others, p.file)
		}
	}
	return named, others, nil
}

// FetchKernel downloads one package and returns its file: the kernel that name is, or that it depends on.
func (a *Apt) FetchKernel(ctx context.Context, name string) (string, error) {
	all, err := a.resolve(ctx, []string{name})
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(p resolved) bool { return p.name != name && strings.HasPrefix(p.name, "linux-image-") })
	if i < 0 {
		i = slices.IndexFunc(all, func(p resolved) bool { return p.name == name })
	}
	if i < 0 {
		return "", fmt.Errorf("%w: it names no file for package %s", ErrApt, name)
	}
	file := all[i].file
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	fresh, err := os.MkdirTemp(a.Dir, "kernel-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	if _, err := a.runIn(ctx, fresh, "download", all[i].name); err != nil {
		return "", err
	}
	return file, os.Rename(filepath.Join(fresh, filepath.Base(file)), file)
}

// Download downloads one package into a folder that has no other of its name, and returns its file. The package is not kept
// in the state.
func (a *Apt) Download(ctx context.Context, name, dir string) (string, error) {
	if err := a.update(ctx); err != nil {
		return "", err
	}
	if _, err := a.runIn(ctx, dir, "download", name); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%w: it says that package %s was downloaded, but %d files of that name are there: %w", ErrApt, name, len(found), err)
	}
	return found[0], nil
}

func install(names []string) []string {
	return append([]string{"install", "--no-install-recommends", "-y"}, names...)
}

// resolved is a package that apt wants, and where its file is once it is downloaded.
type resolved struct{ name, file string }

// resolve has apt say which packages the named ones need, themselves included.
func (a *Apt) resolve(ctx context.Context, names []string) ([]resolved, error) {
	if err := a.update(ctx); err != nil {
		return nil, err
	}
	// What has been downloaded is not in the list of what is to be downloaded, so apt looks where there is nothing.
	out, err := a.run(ctx, append(install(names), "--print-uris", "-o", "Dir::Cache::archives=none")...)
	if err != nil {
		return nil, err
	}
	return parseURIs(out, filepath.Join(a.Dir, "cache", "archives")), nil
}

// parseURIs reads what apt-get --print-uris prints: URI, file name, size and checksum a line.
func parseURIs(out, dir string) []resolved {
	var all []resolved
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasSuffix(f[1], ".deb") {
			continue
		}
		name, _, _ := strings.Cut(f[1], "_")
		all = append(all, resolved{name, filepath.Join(dir, f[1])})
	}
	return all
}

// update reads the package lists if they are old.
func (a *Apt) update(ctx context.Context) error {
	stamp := filepath.Join(a.Dir, "updated")
	if st, err := os.Stat(stamp); err == nil && time.Since(st.ModTime()) < listsFresh {
		return nil
	}
	sources, err := hostSources(ctx)
	if err != nil {
		return err
	}
	if err := a.setup(sources); err != nil {
		return err
	}
	if _, err := a.run(ctx, "update"); err != nil {
		// Mirrors are often out of step for updates of an architecture that few use. The release itself never changes.
		release := slices.DeleteFunc(slices.Clone(sources), func(s source) bool { return strings.Contains(s.suite, "-") })
		if len(release) == 0 || len(release) == len(sources) {
			return err
		}
		if err := a.setup(release); err != nil {
			return err
		}
		if _, err := a.run(ctx, "update"); err != nil {
			return err
		}
	}
	return os.WriteFile(stamp, nil, 0o644)
}

// source is an archive of packages and a suite in it.
type source struct{ uri, suite, signedBy string }

// hostSources returns where the host's apt gets packages from.
func hostSources(ctx context.Context) ([]source, error) {
	out, err := command(ctx, "", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)", "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	var all []source
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "main" {
			continue
		}
		s := source{uri: f[0], suite: f[1]}
		if len(f) > 3 && filepath.IsAbs(f[3]) {
			s.signedBy = f[3]
		}
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: the host's apt has no sources; run apt-get update first, or give files instead of package names", ErrApt)
	}
	return all, nil
}

// setup makes the state's folders and names the sources.
func (a *Apt) setup(sources []source) error {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.Dir, d), 0o755); err != nil {
			return err
		}
	}
	var list strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&list, "deb [arch=%s", a.Architecture)
		if s.signedBy != "" {
			fmt.Fprintf(&list, " signed-by=%s", s.signedBy)
		}
		fmt.Fprintf(&list, "] %s %s main\n", s.uri, s.suite)
	}
	if err := os.WriteFile(filepath.Join(a.Dir, "status"), nil, 0o644); err != nil {
		return err
	}
	return os.WriteFile(a.sources(), []byte(list.String()), 0o644)
}

func (a *Apt) sources() string { return filepath.Join(a.Dir, "sources.list") }

// run runs apt-get on the private state.
func (a *Apt) run(ctx context.Context, args ...string) (string, error) {
	return a.runIn(ctx, a.Dir, args...)
}

// runIn is run in a folder.
func (a *Apt) runIn(ctx context.Context, dir string, args ...string) (string, error) {
	options := []string{
		"-qq",
		"-o", "Dir::State=" + filepath.Join(a.Dir, "state"),
		"-o", "Dir::State::status=" + filepath.Join(a.Dir, "status"),
		"-o", "Dir::Cache=" + filepath.Join(a.Dir, "cache"),
		"-o", "Dir::Etc::SourceList=" + a.sources(),
		"-o", "Dir::Etc::SourceParts=/dev/null", "-o", "Dir::Etc::Preferences=/dev/null", "-o", "Dir::Etc::PreferencesParts=/dev/null",
		"-o", "APT::Architecture=" + a.Architecture, "-o", "APT::Architectures=" + a.Architecture,
		"-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3",
		"-o", "APT::Update::Post-Invoke-Success=", "-o", "DPkg::Post-Invoke=",
	}
	return command(ctx, dir, append(options, args...)...)
}

// command runs apt-get in a folder.
func command(ctx context.Context, dir string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(ctx, "apt-get", args...)
	c.Env, c.Dir = append(os.Environ(), "LC_ALL=C"), dir
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%w: %w\n%s", ErrApt, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
