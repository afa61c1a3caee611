package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hybridbridge/emu/core/explain"
	"github.com/hybridbridge/emu/core/metadata"
)

func newExplainCommand() *cobra.Command {
	var key, scope string
	var tool, asJSON bool
	c := &cobra.Command{
		Use:   "explain SYSCALL | TOOL [ARGUMENT...]",
		Short: "Print the code pages of a system call as FAST-BRIDGE sees them",
		Long: `Explain prints what was learned about a system call, or about all that a tool's trainings touched: each kernel
instruction with its category, and what the original, the non-redirectable and the redirectable code page have there.

A name that is both is taken for the system call; --tool takes it for the tool. With arguments, only trainings with
just these count: emu explain -- ps -ef`,
		Args: cobra.MinimumNArgs(1),
	}
	store := storeFlag(c)
	f := c.Flags()
	f.StringVar(&key, "key", "", "start of the key, if there are several (emu meta ls)")
	f.StringVar(&scope, "scope", "", "only this scope of the policy")
	f.BoolVar(&tool, "tool", false, "the name is a tool's")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := store()
		if err != nil {
			return err
		}
		k, err := findKey(s, key)
		if err != nil {
			return err
		}
		set, err := s.Load(k)
		if err != nil {
			return err
		}
		ids := explained(set, args, tool)
		if scope != "" {
			ids = slices.DeleteFunc(ids, func(id metadata.ScopeID) bool { return id.Name != scope })
		}
		if len(ids) == 0 {
			return fmt.Errorf("%w of %q under %s; it has %s", metadata.ErrNotFound, strings.Join(args, " "), k, known(set))
		}
		listings := []*explain.Listing{}
		for _, id := range ids {
			listings = append(listings, explain.New(set, id))
		}
		if asJSON {
			return printJSON(c.OutOrStdout(), listings)
		}
		for i, l := range listings {
			if i > 0 {
				fmt.Fprintln(c.OutOrStdout())
			}
			if err := l.Print(c.OutOrStdout()); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func explained(set *metadata.Set, args []string, tool bool) []metadata.ScopeID {
	if len(args) == 1 && !tool {
		if ids := explain.Find(set, strings.TrimPrefix(args[0], "sys_")); len(ids) > 0 {
			return ids
		}
	}
	return explain.FindTool(set, args)
}

// known lists what can be explained.
func known(set *metadata.Set) string {
	var calls, tools []string
	for _, id := range set.Scopes() {
		calls = append(calls, id.Syscall)
	}
	for _, t := range set.Trainings() {
		tools = append(tools, strings.Join(t.Command, " "))
	}
	slices.Sort(calls)
	slices.Sort(tools)
	text := "system calls: " + strings.Join(slices.Compact(calls), ", ")
	if len(tools) > 0 {
		text += "; tools: " + strings.Join(slices.Compact(tools), ", ")
	}
	return text
}
