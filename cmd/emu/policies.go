package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/hybridbridge/emu/core/policy/host"
)

// pluginsVariable names the directory of the policies, unless --plugins does.
const pluginsVariable = "EMU_PLUGINS"

func addPluginsFlag(f *pflag.FlagSet, dir *string) {
	f.StringVar(dir, "plugins", "", "directory of the policies (default: $"+pluginsVariable+", then plugins beside the program emu)")
}

// pluginsDir returns the directory of the policies.
func pluginsDir(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if dir := os.Getenv(pluginsVariable); dir != "" {
		return dir, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("where is emu, to find the policies beside it? %w; name their directory with --plugins", err)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	return filepath.Join(filepath.Dir(self), "plugins"), nil
}

// openPolicies opens the policies of a directory; an empty name means the default.
func openPolicies(dir string, log hclog.Logger) (*host.Host, error) {
	dir, err := pluginsDir(dir)
	if err != nil {
		return nil, err
	}
	return host.Open(dir, log)
}
