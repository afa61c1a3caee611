package main

import "github.com/spf13/cobra"

func newDisasmCommand() *cobra.Command { return &cobra.Command{Use: "disasm"} }
