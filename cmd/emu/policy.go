package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/host"
	"github.com/hybridbridge/emu/core/policy/protocol"
)

func newPolicyCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "List, check and measure the policies: the programs that decide what a tool sees of a snapshot",
	}
	c.AddCommand(newPolicyLsCommand(logger), newPolicyCheckCommand(logger), newPolicyBenchCommand(logger), newPolicyManifestCommand())
	return c
}

// hostFlags adds --plugins and --json to a command and makes it run f with the policies.
func hostFlags(c *cobra.Command, logger func() (hclog.Logger, error), f func(c *cobra.Command, h *host.Host, asJSON bool) error) {
	var dir string
	var asJSON bool
	addPluginsFlag(c.Flags(), &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Args = cobra.NoArgs
	c.RunE = func(c *cobra.Command, _ []string) error {
		log, err := logger()
		if err != nil {
			return err
		}
		h, err := openPolicies(dir, log)
		if err != nil {
			return err
		}
		defer h.Close()
		return f(c, h, asJSON)
	}
}

// listedPlugin is what emu policy ls says about a plugin.
type listedPlugin struct {
	host.Entry
	// Error says what is wrong with the file; empty if it has the checksum.
	Error string `json:"error,omitempty"`
}

func newPolicyLsCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the policies of a directory",
		Long: `List the policies of a directory: name, kind, category, the beginning of the checksum in the manifest, and whether the program
has it. No program is started: "emu policy check" does that. The exit code is 1 if a program is missing or is another one.`,
	}
	hostFlags(c, logger, func(c *cobra.Command, h *host.Host, asJSON bool) error {
		var all []listedPlugin
		wrong := 0
		for _, p := range h.Plugins() {
			l := listedPlugin{Entry: p.Entry}
			if err := l.Verify(h.Dir()); err != nil {
				l.Error = err.Error()
				wrong++
			}
			all = append(all, l)
		}
		w := c.OutOrStdout()
		if asJSON {
			if err := printJSON(w, struct {
				Directory string         `json:"directory"`
				Protocol  int            `json:"protocol"`
				Digest    string         `json:"digest"`
				Plugins   []listedPlugin `json:"plugins"`
			}{h.Dir(), protocol.Version, h.Digest(), all}); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(w, "%s  protocol %d  digest %.12s\n", h.Dir(), protocol.Version, h.Digest())
			for _, l := range all {
				if l.Error == "" {
					l.Error = "ok"
				}
				fmt.Fprintf(w, "%-20s %-8s %-5s %.12s  %s\n", l.Name, l.Kind, l.Category, l.SHA256, l.Error)
			}
		}
		if wrong > 0 {
			return fmt.Errorf("%d of %d policies in %s are not those of the manifest", wrong, len(all), h.Dir())
		}
		return nil
	})
	return c
}

// checkedPlugin is what emu policy check says about a plugin.
type checkedPlugin struct {
	Name string `json:"name"`
	// Asked is what a handler wants to be asked about, each in the words of policy.Interest.
	Asked []string `json:"asked_about,omitempty"`
	Error string   `json:"error,omitempty"`
}

func newPolicyCheckCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Start all policies, ask them about samples, and judge their answers",
		Long: `Start every policy of a directory, ask it about a sample, and judge the answer. It says about what each handler wants to be asked in a
run, and what the kernel policies say together, by scope. The exit code is 1 if something is wrong.`,
	}
	hostFlags(c, logger, func(c *cobra.Command, h *host.Host, asJSON bool) error {
		findings, merged, err := h.Check(c.Context())
		checked, failed := make([]checkedPlugin, len(findings)), 0
		for i, f := range findings {
			checked[i].Name = f.Plugin.Name
			for _, interest := range f.Interests {
				checked[i].Asked = append(checked[i].Asked, interest.String())
			}
			if f.Err != nil {
				checked[i].Error = f.Err.Error()
				failed++
			}
		}
		w := c.OutOrStdout()
		if asJSON {
			if err := printJSON(w, struct {
				Plugins []checkedPlugin       `json:"plugins"`
				Merged  map[int]policy.Policy `json:"merged"`
			}{checked, merged}); err != nil {
				return err
			}
		} else {
			for i, p := range checked {
				switch {
				case p.Error != "":
				case findings[i].Plugin.Kind == protocol.Kernel:
					p.Error = "ok"
				case len(p.Asked) == 0:
					p.Error = "ok, leaves everything as observed"
				default:
					p.Error = "ok, is asked about " + strings.Join(p.Asked, "; ")
				}
				fmt.Fprintf(w, "%-20s %s\n", p.Name, p.Error)
			}
			for _, bits := range []int{64, 32} {
				p, ok := merged[bits]
				if !ok {
					continue
				}
				fmt.Fprintf(w, "\n%d bits: %d local subtrees, %d elided calls, %d locks, %d scopes:\n", bits, len(p.Local), len(p.Elided), len(p.Locks), len(p.Scopes))
				for _, s := range p.Scopes {
					fmt.Fprintf(w, "  %-18s %3d roots, %2d system calls, files: %v\n", s.Name, len(s.Roots), len(s.Syscalls), s.Files)
				}
			}
		}
		switch {
		case failed > 0:
			return fmt.Errorf("%d of %d policies in %s are broken", failed, len(findings), h.Dir())
		case err != nil:
			return err
		}
		return nil
	})
	return c
}

// measured is what emu policy bench says about a plugin and a size of batches.
type measured struct {
	Name    string  `json:"name"`
	StartMS float64 `json:"start_ms"`
	Batch   int     `json:"batch"`
	Calls   int     `json:"calls"`
	CallUS  float64 `json:"call_us"`
	EachUS  float64 `json:"each_us"`
}

func newPolicyBenchCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	var least time.Duration
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure how long policies take to start and to answer",
	}
	hostFlags(c, logger, func(c *cobra.Command, h *host.Host, asJSON bool) error {
		var all []measured
		for _, p := range h.Plugins() {
			batches := []int{1, 16, 256, 4096}
			if p.Kind == protocol.Kernel {
				batches = batches[:1]
			}
			for _, n := range batches {
				s, err := p.Bench(c.Context(), n, least)
				if err != nil {
					return err
				}
				us := float64(s.Time.Microseconds()) / float64(s.Calls)
				all = append(all, measured{p.Name, float64(p.Stat().Start.Microseconds()) / 1000, n, s.Calls, us, us / float64(n)})
			}
		}
		w := c.OutOrStdout()
		if asJSON {
			return printJSON(w, all)
		}
		fmt.Fprintf(w, "%-20s %9s %6s %8s %12s %10s\n", "", "start ms", "batch", "calls", "us a call", "us a site")
		for _, m := range all {
			fmt.Fprintf(w, "%-20s %9.1f %6d %8d %12.1f %10.2f\n", m.Name, m.StartMS, m.Batch, m.Calls, m.CallUS, m.EachUS)
		}
		return nil
	})
	c.Flags().DurationVar(&least, "time", 500*time.Millisecond, "how long to ask each policy, for each size of batches")
	return c
}

func newPolicyManifestCommand() *cobra.Command {
	var handlers map[string]string
	c := &cobra.Command{
		Use:   "manifest DIR",
		Short: "Write the manifest of a directory of policies: what each program is, and its checksum",
		Long: `Write DIR/` + host.ManifestName + ` from the programs in DIR. Those with the name of one of emu's six handlers are handlers, and those that
--handler names; all others are kernel policies. emu starts what has the manifest's checksum and nothing else.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringToStringVar(&handlers, "handler", nil, "CATEGORY=NAME: the program NAME handles U, R, NR, Semi, Bi or N in place of emu's own")
	c.RunE = func(_ *cobra.Command, args []string) error {
		m, err := host.Scan(args[0], handlers)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		return m.Write(args[0])
	}
	return c
}
