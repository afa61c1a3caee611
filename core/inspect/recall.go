package inspect

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hybridbridge/emu/snapshots"
	"github.com/hybridbridge/emu/snapshots/linux"
)

// What was found out about a snapshot's kernel is kept, since that takes longer than a short tool. It is taken again if the file has not
// changed and its kernel lies where it did; who can write the snapshot gains nothing by a wrong answer that a right one does not give him.

// keptKernels is how many stay.
const keptKernels = 100

// identify says which kernel is in the snapshot.
func identify(s snapshots.Snapshot, o *Options) (*linux.Kernel, error) {
	path, keep := remembered(o)
	if b, err := os.ReadFile(path); path != "" && err == nil {
		k := new(linux.Kernel)
		if json.Unmarshal(b, k) == nil && k.Recall(s) {
			return k, nil
		}
	}
	k, err := linux.Identify(s)
	if err == nil && keep {
		remember(path, k)
	}
	return k, err
}

// remembered returns the file for what is known about a snapshot, "" if that is not to be kept; keep says that the snapshot is old enough
// for its times to show the next change.
func remembered(o *Options) (path string, keep bool) {
	const version, tick = 1, 2 * time.Second
	var st unix.Stat_t
	if o.Kernels == "" || unix.Stat(o.Snapshot, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", false
	}
	sum := sha256.Sum256(fmt.Append(nil, version, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim, o.Open))
	changed := time.Unix(st.Ctim.Unix())
	return filepath.Join(o.Kernels, fmt.Sprintf("%x.json", sum[:12])), time.Since(changed) > tick
}

// remember keeps what is known. Where that fails it is found out again each time.
func remember(path string, k *linux.Kernel) {
	b, err := json.Marshal(k)
	dir := filepath.Dir(path)
	if err != nil || os.MkdirAll(dir, 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(dir, ".kernel-*")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if f.Close() == nil && err == nil && os.Rename(f.Name(), path) == nil {
		forget(dir)
	}
}

// forget removes the oldest of what is kept, if it is too much.
func forget(dir string) {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	if len(paths) <= keptKernels {
		return
	}
	at := map[string]time.Time{}
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			at[p] = st.ModTime()
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return at[b].Compare(at[a]) })
	for _, p := range paths[keptKernels:] {
		os.Remove(p)
	}
}

// prepareWritten has the host copy the pages of the trusted VM's state that commands write as they start, under KVM. Without copies that are
// made before it only takes longer.
func (r *run) prepareWritten() {
	if r.Accel == nil {
		return
	}
	pages := r.image.Written(r.state)
	r.written = pages != nil
	if err := r.sess.Machine().Memory().Copy(pages); err != nil {
		r.Log.Debug("no pages are copied before the trusted VM writes them", "error", err)
	}
}

// keepWritten notes which pages the command has written until now, as it starts.
func (r *run) keepWritten() {
	if r.Accel == nil || r.written {
		return
	}
	pages, err := r.sess.Machine().Memory().Copied()
	if err != nil {
		r.Log.Debug("which pages of the trusted VM were written is not known", "error", err)
		return
	}
	r.image.KeepWritten(r.state, pages)
}
