package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/protocol"
)

// Deadline is how long a plugin may take to start, and for each answer, unless WithDeadline says otherwise.
const Deadline = 10 * time.Second

// questions counts the ways in which emu has decided what handlers are asked about: what was learned otherwise lacks plans.
const questions = 2

// Host is the policies of a directory. It is safe for concurrent use.
type Host struct {
	dir     string
	plugins []*Plugin
	digest  string
}

// Option changes how a host treats its plugins.
type Option func(*Plugin)

// WithDeadline says how long a plugin may take to start, and for each answer.
func WithDeadline(d time.Duration) Option { return func(p *Plugin) { p.deadline = d } }

// Open reads the manifest of a directory. It starts no program. Errors are about the manifest. The log gets what plugins
// log; whoever opens a host closes it.
func Open(dir string, log hclog.Logger, options ...Option) (*Host, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	h := &Host{dir: dir}
	sum := sha256.New()
	fmt.Fprintf(sum, "protocol %d, questions %d\n", protocol.Version, questions)
	for _, e := range m.Plugins {
		fmt.Fprintf(sum, "%s %s %q %s\n", e.Kind, e.Category, e.Name, strings.ToLower(e.SHA256))
		p := &Plugin{Entry: e, Path: filepath.Join(dir, e.Name), deadline: Deadline, log: log.Named(e.Name)}
		for _, o := range options {
			o(p)
		}
		h.plugins = append(h.plugins, p)
	}
	h.digest = hex.EncodeToString(sum.Sum(nil))
	return h, nil
}

// Dir returns the directory.
func (h *Host) Dir() string { return h.dir }

// Digest identifies the set of programs: another program, or another order, has another digest.
func (h *Host) Digest() string { return h.digest }

// Plugins returns all programs, in the manifest's order.
func (h *Host) Plugins() []*Plugin { return h.plugins }

// Policy asks all kernel policies and merges what they say, see merge. Errors name the plugin.
func (h *Host) Policy(ctx context.Context, k policy.Kernel) (policy.Policy, error) {
	var said []statement
	for _, p := range h.plugins {
		if p.Kind != protocol.Kernel {
			continue
		}
		answer, err := p.Describe(ctx, k)
		if err != nil {
			return policy.Policy{}, err
		}
		said = append(said, statement{p, answer})
	}
	return merge(said)
}

// Interests asks all handlers what they want to be asked about, one after the other: on a slow machine all at once could take each of them
// longer to start than it may. Errors name the plugin.
func (h *Host) Interests(ctx context.Context) (policy.Interests, error) {
	x := policy.Interests{}
	for _, p := range h.plugins {
		if p.Kind != protocol.Instructions {
			continue
		}
		c, err := parseCategory(p.Category)
		if err != nil {
			return nil, err
		}
		answer, err := p.Interests(ctx)
		if err != nil {
			return nil, err
		}
		if len(answer) > 0 {
			x[c] = answer
		}
	}
	return x, nil
}

// Plans asks the handlers of the sites' categories, each once for all sites that are its own. Errors name the plugin. A plan
// that traps says which plugin's it is.
func (h *Host) Plans(ctx context.Context, sites []policy.Site) ([]policy.Plan, error) {
	plans := make([]policy.Plan, len(sites))
	for _, p := range h.plugins {
		var own []policy.Site
		var index []int
		for i := range sites {
			if p.Kind == protocol.Instructions && p.Category == sites[i].Category.String() {
				own = append(own, sites[i])
				index = append(index, i)
			}
		}
		if len(own) == 0 {
			continue
		}
		answer, err := p.Plan(ctx, own)
		if err != nil {
			return nil, err
		}
		for j, i := range index {
			plans[i] = answer[j]
			if plans[i].Trap != "" {
				plans[i].Trap = p.Name + ": " + plans[i].Trap
			}
		}
	}
	return plans, nil
}

// Stats returns what each plugin has been asked, in the manifest's order.
func (h *Host) Stats() []Stat {
	stats := make([]Stat, len(h.plugins))
	for i, p := range h.plugins {
		stats[i] = p.Stat()
	}
	return stats
}

// Close ends all programs.
func (h *Host) Close() {
	var all sync.WaitGroup
	for _, p := range h.plugins {
		all.Go(p.Close)
	}
	all.Wait()
}
