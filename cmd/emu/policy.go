package main

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/hybridbridge/emu/core/policy/host"
)

func newPolicyCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "List, check and measure the policies: the programs that decide what a tool sees of a snapshot",
	}
	c.AddCommand(newPolicyLsCommand(logger), newPolicyManifestCommand())
	return c
}

func newPolicyLsCommand(logger func() (hclog.Logger, error)) *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the policies of a directory",
		Args:  cobra.NoArgs,
	}
	addPluginsFlag(c.Flags(), &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
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
		w := c.OutOrStdout()
		if asJSON {
			m := host.Manifest{}
			for _, p := range h.Plugins() {
				m.Plugins = append(m.Plugins, p.Entry)
			}
			return printJSON(w, struct {
				Directory string `json:"directory"`
				Digest    string `json:"digest"`
				host.Manifest
			}{h.Dir(), h.Digest(), m})
		}
		fmt.Fprintf(w, "%s  digest %.12s\n", h.Dir(), h.Digest())
		for _, p := range h.Plugins() {
			fmt.Fprintf(w, "%-20s %-8s %-5s %.12s\n", p.Name, p.Kind, p.Category, p.SHA256)
		}
		return nil
	}
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
